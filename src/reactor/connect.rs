//! Outgoing connections: resolve on the worker pool, try the addresses one after the other,
//! open or tell of the failure.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::addr::{Address, Endpoint};
use crate::conn::command::Command;
use crate::driver::{CloseMode, Driver, Token};
use crate::error::CloseReason;
use crate::handler::Handler;
use crate::reactor::Reactor;
use crate::sys::socket::start_connect;

/// How long one address is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Starts the connections that callbacks asked for in this turn.
    pub(super) fn start_connects(&mut self) {
        for (token, endpoint) in std::mem::take(&mut self.core.connects) {
            if self.core.stopping {
                self.open_failed(token, CloseReason::ServerStopped);
            } else if let Some(path) = endpoint.unix_path() {
                self.try_address(token, Address::Unix(Some(path.into())));
            } else if endpoint.is_host_name() {
                self.resolve(token, endpoint);
            } else {
                self.resolved(token, endpoint.resolve());
            }
        }
    }

    fn resolve(&mut self, token: Token, endpoint: Endpoint) {
        let shared = Arc::clone(&self.core.shared);
        let spawned = self.core.workers.try_spawn(move || {
            let result = endpoint.resolve();
            // A loop that has ended has nobody to be told.
            drop(shared.send_reserved(Command::Resolved { token, result }));
        });
        if let Err(error) = spawned {
            self.connect_failed(token, io::Error::other(error.to_string()));
        }
    }

    pub(super) fn resolved(&mut self, token: Token, result: io::Result<Vec<SocketAddr>>) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        match result {
            Ok(mut addresses) => {
                addresses.reverse();
                conn.extra_mut().candidates = addresses;
                self.try_next(token, io::ErrorKind::AddrNotAvailable.into());
            }
            Err(error) => self.connect_failed(token, error),
        }
    }

    /// Tries the next address, or gives up with the last one's error.
    fn try_next(&mut self, token: Token, error: io::Error) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let next = conn.extra.as_mut().and_then(|extra| extra.candidates.pop());
        match next {
            Some(address) => self.try_address(token, Address::Ip(address)),
            None => self.connect_failed(token, error),
        }
    }

    fn try_address(&mut self, token: Token, address: Address) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.peer = address;
        let options = &self.core.options;
        let started = start_connect(&conn.peer, &options.listen.socket).and_then(|stream| {
            self.prepare(&stream, false)?;
            self.driver.connect(token, stream)
        });
        match started {
            Ok(()) => {
                self.core.set_watch_from(token, self.driver.now(), Some(CONNECT_TIMEOUT));
            }
            Err(error) => self.try_next(token, error),
        }
    }

    pub(super) fn connected(&mut self, token: Token, result: io::Result<()>) {
        self.core.set_watch(token, None);
        match (result, self.core.table.get_mut(token)) {
            (Ok(()), Some(conn)) => {
                conn.receiving = true;
                self.begin_opening(token);
            }
            (Ok(()), None) => {}
            (Err(error), _) => self.attempt_failed(token, error),
        }
    }

    /// This address does not answer, or not in time.
    pub(super) fn attempt_failed(&mut self, token: Token, error: io::Error) {
        self.driver.close(token, CloseMode::Orderly);
        self.try_next(token, error);
    }

    pub(super) fn connect_failed(&mut self, token: Token, error: io::Error) {
        self.open_failed(token, CloseReason::ConnectFailed(error));
    }
}
