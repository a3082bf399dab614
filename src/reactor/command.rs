//! What other threads asked for, carried out on the loop.

use bytes::Bytes;

use crate::conn::command::{Command, Completion, WriteDone};
use crate::conn::handle::Shared;
use crate::conn::state::{NO_LISTENER, Phase};
use crate::driver::{Driver, Token};
use crate::error::{CloseReason, HandleError};
use crate::handler::{Action, Handler};
use crate::reactor::Reactor;
use crate::reactor::accept::{Arrival, Brought};
use crate::sys::socket::Stream;

impl<D: Driver, H: Handler> Reactor<D, H> {
    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::Write { shared, bytes, done } => self.write(&shared, bytes, done),
            Command::Wake(shared) => {
                if let Some(token) = shared.token().filter(|&token| self.is_open(token)) {
                    let action =
                        self.with_state("on_wake", token, |h, conn, state| h.on_wake(conn, state));
                    self.act(token, action.unwrap_or(Action::Continue));
                }
            }
            Command::Close(shared) => {
                let Some(token) = shared.token() else { return };
                if let Some(conn) = self.core.table.get_mut(token) {
                    conn.close(CloseReason::Local);
                    self.settle(token);
                }
            }
            Command::ShutdownWrite(shared) => {
                let Some(token) = shared.token() else { return };
                if let Some(conn) = self.core.table.get_mut(token) {
                    conn.want_shutdown_write = !conn.datagrams;
                    self.settle(token);
                }
            }
            Command::JobDone(token, done) => {
                if self.is_open(token) {
                    self.with_state("the answer of a spawned job", token, |_, conn, state| {
                        done(conn, state);
                    });
                    self.settle(token);
                }
            }
            Command::Connect { dial, promise } => self.core.connect_promised(dial, promise),
            Command::Adopt { stream, peer, direction, promise, attachment } => {
                let datagrams = matches!(stream, Stream::Udp(_));
                let (stream, listener, socket) = (stream.into(), NO_LISTENER, 0);
                let arrival = Arrival { stream, peer, listener, socket };
                let brought = Brought { direction, datagrams, promise, attachment };
                self.adopt_promised(arrival, brought);
            }
            Command::Accepted { stream, peer, listener, ticket } => {
                let stream = stream.into();
                let arrival = Arrival { stream, peer, listener, socket: 0 };
                let token = self.adopt(arrival, ticket);
                // It is held now. Before on_open, whose bytes tell the peer that it was taken.
                let taken = &self.core.shared.taken;
                taken.publish(taken.get() + 1);
                if let Some(token) = token {
                    self.begin_opening(token);
                }
            }
            Command::Resolved { token, result } => self.resolved(token, result),
            Command::Admit => self.admit_waiting(),
            Command::Broadcast { bytes, from } => self.broadcast(bytes, from),
            Command::Datagram { socket, to, payload } => {
                self.core.send_datagram(socket, to, None, &payload);
                self.send_if_full(socket);
            }
            Command::StopAccepting => self.stop_accepting(),
            Command::Stop(deadline) => {
                // Jobs that were accepted before find the connections that were open then.
                self.run_jobs();
                self.begin_stop(deadline);
            }
        }
    }

    /// Whether the next command is a broadcast.
    pub(super) fn broadcasts_next(&self) -> bool {
        matches!(self.commands.front(), Some(Command::Broadcast { .. }))
    }

    /// Whether a broadcast has begun and is not done.
    pub(super) fn is_broadcasting(&self) -> bool {
        matches!(self.commands.front(), Some(Command::Broadcast { from: 1.., .. }))
    }

    /// Writes to every open connection, of which one turn attends to so many only: the rest comes
    /// first in the next one, so that what was asked for later stays behind it. Each is sent to at
    /// once. The same small buffer serves them all then; thousands, filled first and sent from
    /// later, would not stay in the cache. Where a further broadcast follows, both leave together.
    fn broadcast(&mut self, bytes: Bytes, from: u32) {
        let gathers = self.broadcasts_next();
        for index in from..self.core.table.bound() {
            let Some(token) = self.core.table.token_at(index) else { continue };
            if self.broadcasts_left == 0 {
                self.commands.push_front(Command::Broadcast { bytes, from: index });
                return;
            }
            self.broadcasts_left -= 1;
            let Some(conn) = self.core.table.get_mut(token) else { continue };
            if conn.phase != Phase::Open {
                continue;
            }
            // What waits for the end of the turn anyway takes it along. The others are kept from
            // the list of those that do.
            let at_once = !conn.dirty && !gathers;
            conn.dirty |= at_once;
            let bytes = bytes.clone();
            self.core.write_with(token, |conn, pool| conn.outbound.append_bytes(bytes, pool));
            if at_once {
                if let Some(conn) = self.core.table.get_mut(token) {
                    conn.dirty = false;
                }
                self.settle(token);
            }
        }
    }

    fn is_open(&self, token: Token) -> bool {
        let conn = self.core.table.get(token);
        conn.is_some_and(|conn| conn.phase == Phase::Open && !conn.is_ending())
    }

    /// Applies a write of another thread. It leaves at the end of the turn, together with what
    /// else is written to the connection until then.
    fn write(&mut self, shared: &Shared, bytes: Bytes, done: Option<WriteDone>) {
        shared.applied(bytes.len());
        let token = shared.token();
        let taken = token.and_then(|token| self.core.table.get(token));
        let (Some(token), true) = (token, taken.is_some_and(|conn| conn.takes_output())) else {
            let Some(done) = done else { return };
            self.tell_written(token, done, Err(HandleError::Closed));
            // A panic of it ends the connection.
            return token.into_iter().for_each(|token| self.settle(token));
        };
        self.core.write_with(token, |conn, pool| conn.outbound.append_bytes(bytes, pool));
        let (Some(done), Some(conn)) = (done, self.core.table.get_mut(token)) else { return };
        if conn.outbound.is_empty() {
            self.tell_written(token, done, Ok(()));
            // A panic of it ends the connection.
            return self.settle(token);
        }
        let at = conn.sent + conn.outbound.len() as u64;
        conn.extra_mut().completions.push_back(Completion { at, done });
    }
}
