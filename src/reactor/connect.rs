//! Outgoing connections: resolve on the worker pool, try the addresses, open or tell of the failure.
//!
//! Several addresses of one host are tried as RFC 8305 ("Happy Eyeballs") says: the families in
//! turn; one that is refused makes way for the next at once, and beside one that does not answer
//! the next is tried after a moment. The first that connects wins.
//!
//! ```text
//!   connect() --> resolve --> attempt at the first address, under the connection's own token
//!                               |  refused: the next one takes its place
//!                               |  no answer for 250 ms: the next one beside it, in a slot of its
//!                               v                        own (phase Attempt)
//!                             the first that connects: its stream gets the connection's token,
//!                             the others are closed
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::addr::Address;
use crate::conn::command::Command;
use crate::conn::core::{Timer, deadline};
use crate::conn::dial::Dial;
use crate::conn::state::{ConnCore, Phase};
use crate::driver::{CloseMode, Driver, Token};
use crate::error::CloseReason;
use crate::handler::Handler;
use crate::reactor::Reactor;
use crate::workers::SpawnError;

/// How long an attempt may go without an answer before the next one begins beside it: the
/// "Connection Attempt Delay" of RFC 8305, section 8.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Attempts of one connection at a time: a name may have hundreds of addresses, all of them dead.
const MAX_ATTEMPTS: usize = 8;

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Starts the connections that callbacks asked for in this turn.
    pub(super) fn start_connects(&mut self) {
        if self.core.connects.is_empty() {
            return;
        }
        for token in std::mem::take(&mut self.core.connects) {
            let default = self.core.options.connect_timeout;
            let Some(dial) = self.dial(token) else { continue };
            let timeout = dial.connect.timeout.unwrap_or(default);
            if self.core.stopping {
                self.open_failed(token, CloseReason::ServerStopped);
                continue;
            }
            self.core.set_watch_from(token, self.driver.now(), Some(timeout));
            self.find_addresses(token);
        }
    }

    fn find_addresses(&mut self, token: Token) {
        let Some(dial) = self.dial(token) else { return };
        let addresses = std::mem::take(&mut dial.connect.addresses);
        let endpoint = &dial.connect.endpoint;
        if let Some(path) = endpoint.unix_path() {
            dial.candidates = vec![Address::Unix(Some(path.into()))];
            self.try_next(token);
        } else if !addresses.is_empty() {
            self.resolved(token, Ok(addresses));
        } else if endpoint.is_host_name() {
            let endpoint = endpoint.clone();
            let shared = Arc::clone(&self.core.shared);
            let spawned = self.core.workers.try_spawn(move || {
                let result = endpoint.resolve();
                // A loop that has ended has nobody to be told.
                drop(shared.send_reserved(Command::Resolved { token, result }));
            });
            if let Err(error) = spawned {
                let kind = match error {
                    SpawnError::Stopped(_) => io::ErrorKind::Other,
                    SpawnError::Full(_) | SpawnError::NoThread(..) => io::ErrorKind::ResourceBusy,
                };
                self.connect_failed(token, io::Error::new(kind, error.to_string()));
            }
        } else {
            let result = endpoint.resolve();
            self.resolved(token, result);
        }
    }

    pub(super) fn resolved(&mut self, token: Token, result: io::Result<Vec<SocketAddr>>) {
        let Some(dial) = self.dial(token) else { return };
        match result {
            Ok(addresses) => {
                dial.set_addresses(addresses);
                self.try_next(token);
            }
            Err(error) => self.connect_failed(token, error),
        }
    }

    fn dial(&mut self, token: Token) -> Option<&mut Dial> {
        let conn = self.core.table.get_mut(token).filter(|c| c.phase == Phase::Connecting)?;
        conn.extra.as_mut()?.dial.as_deref_mut()
    }

    /// Begins an attempt at the next address. Gives up, with the last error, when there is none
    /// left and none under way.
    fn try_next(&mut self, token: Token) {
        while let Some(dial) = self.dial(token) {
            let Some(address) = dial.candidates.pop() else { break };
            match self.attempt(token, address) {
                Ok(()) => break,
                Err(error) => {
                    if let Some(dial) = self.dial(token) {
                        dial.error = Some(error);
                    }
                }
            }
        }
        let Some(dial) = self.dial(token) else { return };
        if dial.attempts() == 0 {
            let error = dial.error.take();
            let error = error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
            return self.connect_failed(token, error);
        }
        // Two attempts cannot have one port.
        let has_port = dial.connect.route.local.is_some_and(|local| local.port() != 0);
        let most = if has_port { 1 } else { MAX_ATTEMPTS };
        let has_more = !dial.candidates.is_empty() && dial.attempts() < most;
        let old = dial.next.take();
        let new = has_more.then(|| {
            let deadline = deadline(self.driver.now(), ATTEMPT_DELAY);
            self.core.wheel.insert(deadline, Timer::Attempt(token))
        });
        old.map(|key| self.core.wheel.cancel(key));
        if let Some(dial) = self.dial(token) {
            dial.next = new;
        }
    }

    /// The attempts under way have not answered for a while: the next one begins beside them.
    pub(super) fn attempt_is_slow(&mut self, token: Token) {
        if let Some(dial) = self.dial(token) {
            dial.next = None;
            self.try_next(token);
        }
    }

    /// Begins one attempt, under the connection's own token if that is free.
    fn attempt(&mut self, token: Token, address: Address) -> io::Result<()> {
        let Some(dial) = self.dial(token) else { return Ok(()) };
        let (route, own_is_free) = (dial.connect.route.clone(), dial.own.is_none());
        let datagrams = dial.connect.endpoint.is_datagram();
        let options = &self.core.options;
        let stream = match &address {
            Address::Ip(address) if datagrams => {
                self.driver.connect_datagram(*address, &route, &options.connected_datagrams())?
            }
            address => self.driver.start_connect(address, &route, &options.listen.socket)?,
        };
        let is_tcp = matches!(address, Address::Ip(_)) && !datagrams;
        self.prepare(&stream, is_tcp, false)?;
        if let Some(conn) = self.core.table.get_mut(token) {
            conn.peer = address.clone().into();
        }
        if own_is_free {
            self.driver.connect(token, stream)?;
            if let Some(dial) = self.dial(token) {
                dial.own = Some(address);
            }
            return Ok(());
        }
        let mut attempt = ConnCore::new(address, Phase::Attempt);
        attempt.receiving = false;
        attempt.extra_mut().attempt_for = Some(token);
        let Some(place) = self.core.table.insert(attempt) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        if let Err(error) = self.driver.connect(place, stream) {
            self.core.table.remove(place);
            return Err(error);
        }
        if let Some(dial) = self.dial(token) {
            dial.others.push(place);
        }
        Ok(())
    }

    /// An attempt has ended.
    pub(super) fn connected(&mut self, place: Token, result: io::Result<()>) {
        let Some(conn) = self.core.table.get(place) else { return };
        let attempt_for = conn.extra.as_ref().and_then(|extra| extra.attempt_for);
        let token = attempt_for.unwrap_or(place);
        match result.and_then(|()| self.take_over(place, token)) {
            Ok(()) => {
                self.end_dial(token);
                self.core.set_watch(token, None);
                if let Some(conn) = self.core.table.get_mut(token) {
                    conn.receiving = true;
                }
                self.begin_opening(token);
            }
            Err(error) => self.attempt_failed(place, token, error),
        }
    }

    /// Has the connection be what an attempt has become.
    fn take_over(&mut self, place: Token, token: Token) -> io::Result<()> {
        let mut peer = self.dial(token).and_then(|dial| dial.own.take());
        if place != token {
            self.driver.close(token, CloseMode::Orderly);
            self.driver.rename(place, token)?;
            peer = self.core.table.get(place).map(|conn| conn.peer.address());
        }
        if let (Some(peer), Some(conn)) = (peer, self.core.table.get_mut(token)) {
            conn.peer = peer.into();
        }
        Ok(())
    }

    /// An address does not answer, or refuses: there may be others.
    fn attempt_failed(&mut self, place: Token, token: Token, error: io::Error) {
        self.driver.close(place, CloseMode::Orderly);
        if place != token {
            self.core.table.remove(place);
        }
        if let Some(dial) = self.dial(token) {
            dial.own.take_if(|_| place == token);
            dial.others.retain(|other| *other != place);
            dial.error = Some(error);
            self.try_next(token);
        }
    }

    pub(super) fn connect_failed(&mut self, token: Token, error: io::Error) {
        self.open_failed(token, CloseReason::ConnectFailed(error));
    }

    /// The connection is connected, or given up: ends the attempts beside the one under its own
    /// token.
    pub(super) fn end_dial(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let Some(dial) = conn.extra.as_mut().and_then(|extra| extra.dial.take()) else { return };
        for place in dial.others {
            self.driver.close(place, CloseMode::Orderly);
            self.core.table.remove(place);
        }
        if let Some(key) = dial.next {
            self.core.wheel.cancel(key);
        }
    }
}
