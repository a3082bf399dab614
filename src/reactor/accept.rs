//! New connections: from this loop's listeners, from the acceptor, or brought by the user.

use std::io;
use std::time::Duration;

use crate::addr::Address;
use crate::conn::command::Command;
use crate::conn::core::{Timer, deadline};
use crate::conn::state::{ConnCore, Phase};
use crate::conn::timeouts::Timeouts;
use crate::driver::{Driver, Token};
use crate::handler::Handler;
use crate::options::ACCEPT_REST;
use crate::reactor::{Placement, Reactor};
use crate::sys::socket::{ACCEPTED_INHERITS_OPTIONS, Stream};

impl<D: Driver, H: Handler> Reactor<D, H> {
    pub(super) fn accepted(&mut self, listener: u32, stream: Stream, peer: Address) {
        // The engine has checked that there are fewer.
        let listener = listener as u16;
        self.core.shared.metrics.accepted.add(1);
        self.accept_failure_logged = false;
        if matches!(self.placement, Placement::Here) {
            return self.adopt(stream, peer, listener);
        }
        let Some(index) = self.pick_loop(&peer) else { return };
        let chosen = &self.core.server.shared.loops[index];
        chosen.handed.add(1);
        // A loop that has ended serves nobody: the stream is closed by dropping it.
        drop(chosen.send_reserved(Command::Adopt { stream, peer, listener, handed: true }));
    }

    /// Asks the balancer; `None` when that panicked, which ends the connection.
    fn pick_loop(&mut self, peer: &Address) -> Option<usize> {
        let loops = self.core.server.shared.loops.len();
        let loads: Vec<usize> = self.core.server.shared.loops.iter().map(|l| l.load()).collect();
        let mut placement = std::mem::replace(&mut self.placement, Placement::Here);
        let picked = self.with_nothing("the balancer", None, || match &mut placement {
            Placement::Here => 0,
            Placement::Balanced(balancer) => balancer.pick(peer, &loads),
        });
        self.placement = placement;
        Some(picked? % loops)
    }

    /// The system has no descriptors or no memory left. That passes; a server lives on.
    pub(super) fn accept_failed(&mut self, listener: u32, error: &io::Error) {
        self.core.shared.metrics.accept_failures.add(1);
        if !self.accept_failure_logged {
            self.accept_failure_logged = true;
            log::warn!("cannot accept connections, trying again every {ACCEPT_REST:?}: {error}");
        }
        let deadline = deadline(self.core.now, ACCEPT_REST);
        self.core.wheel.insert(deadline, Timer::AcceptRest(listener));
    }

    /// Makes a connected stream a connection of this loop.
    pub(super) fn adopt(&mut self, stream: Stream, peer: Address, listener: u16) {
        if self.core.stopping {
            return;
        }
        if let Err(error) = self.prepare(&stream, !(ACCEPTED_INHERITS_OPTIONS && stream.is_tcp())) {
            log::warn!("a connection from {peer} was refused: {error}");
            return;
        }
        let mut conn = ConnCore::new(peer, Phase::Open);
        conn.auto_pause = self.core.options.auto_pause;
        conn.listener = listener;
        let Some(token) = self.core.table.insert(conn) else {
            log::warn!("a connection was refused: this loop's table is full");
            return;
        };
        if let Err(error) = self.driver.open(token, stream) {
            self.core.table.remove(token);
            log::warn!("a connection was refused: {error}");
            return;
        }
        self.opened(token);
    }

    /// Sets the options of a new connection's socket.
    pub(super) fn prepare(&mut self, stream: &Stream, all: bool) -> io::Result<()> {
        let options = &self.core.options;
        if all {
            options.listen.socket.apply(stream.as_socket(), stream.is_tcp())?;
        }
        let Some(hook) = options.connection_hook.clone() else { return Ok(()) };
        let called =
            self.with_nothing("the connections' socket hook", None, || hook(&stream.as_socket()));
        called.unwrap_or_else(|| Err(io::Error::other("the socket hook panicked")))
    }

    /// Arms what was set while the connection was being made, or what the server's options say.
    fn start_timers(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let timer_was_due = std::mem::take(&mut conn.timer_was_due);
        let options = Timeouts::of(&self.core.options);
        self.core.set_timeouts(token, |own| *own = own.or(options));
        if timer_was_due {
            self.core.set_timer(token, self.core.now, Some(Duration::ZERO));
        }
    }

    /// Calls on_open for a connection that the driver has opened.
    pub(super) fn opened(&mut self, token: Token) {
        self.core.shared.metrics.opened.add(1);
        self.states.ensure(token.index);
        self.start_timers(token);
        let state = self.with_conn("on_open", token, |handler, conn| handler.on_open(conn));
        if let Some(place) = self.states.get_mut(token.index) {
            *place = state;
        }
        self.settle(token);
    }
}
