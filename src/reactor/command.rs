//! What other threads asked for, carried out on the loop.

use std::sync::Arc;

use bytes::Bytes;

use crate::conn::command::{Command, Completion, WriteDone};
use crate::conn::handle::Shared;
use crate::conn::state::Phase;
use crate::driver::{Driver, Token};
use crate::error::CloseReason;
use crate::handler::{Action, Handler};
use crate::reactor::Reactor;
use crate::reactor::accept::Arrival;

impl<D: Driver, H: Handler> Reactor<D, H> {
    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::Write { token, shared, bytes, done } => {
                self.write(token, &shared, bytes, done);
            }
            Command::Wake(token) => {
                if self.is_open(token) {
                    let action =
                        self.with_state("on_wake", token, |h, conn, state| h.on_wake(conn, state));
                    self.act(token, action.unwrap_or(Action::Continue));
                }
            }
            Command::Close(token) => {
                if let Some(conn) = self.core.table.get_mut(token) {
                    conn.close(CloseReason::Local);
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
            Command::Adopt { stream, peer, listener, handed, ticket } => {
                self.core.shared.taken.add(u64::from(handed));
                let stream = stream.into();
                self.adopt(Arrival { stream, peer, listener }, ticket);
            }
            Command::Resolved { token, result } => self.resolved(token, result),
            Command::Admit => self.admit_waiting(),
            Command::Broadcast(bytes) => self.core.broadcast(&bytes),
            Command::Datagram { socket, to, payload } => {
                self.send_datagram(socket, to, None, &payload);
            }
            Command::StopAccepting => self.stop_accepting(),
            Command::Stop(deadline) => {
                // Jobs that were accepted before find the connections that were open then.
                self.run_jobs();
                self.begin_stop(deadline);
            }
        }
    }

    fn is_open(&self, token: Token) -> bool {
        let conn = self.core.table.get(token);
        conn.is_some_and(|conn| conn.phase == Phase::Open && !conn.is_ending())
    }

    /// Applies a write of another thread. It leaves at the end of the turn, together with what
    /// else is written to the connection until then.
    fn write(&mut self, token: Token, shared: &Arc<Shared>, bytes: Bytes, done: Option<WriteDone>) {
        shared.applied(bytes.len());
        let taken = self.core.table.get(token).is_some_and(|conn| conn.takes_output());
        if !taken {
            // Dropping it tells whoever waits.
            return drop(done);
        }
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
