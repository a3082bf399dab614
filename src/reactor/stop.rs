//! The end of a loop: listeners close, connections deliver what is pending, everybody is told.

use std::time::Duration;

use crate::conn::command::Command;
use crate::conn::core::{Timer, deadline};
use crate::conn::state::Phase;
use crate::driver::{CloseMode, Driver};
use crate::error::{CloseReason, HandleError};
use crate::handler::Handler;
use crate::reactor::{Reactor, Stage};

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Closes the listeners. Those who wait for a place were never let in; where the backlog that
    /// they have left lives on elsewhere, they go on waiting, and what arrives in datagram sockets
    /// is left to others.
    pub(super) fn stop_accepting(&mut self) {
        let lives_on = self.core.server.shared.listening.is_released();
        if !lives_on {
            self.waiting.clear();
        }
        self.drains = true;
        if lives_on {
            (0..self.core.outboxes.len()).for_each(|n| self.driver.leave_datagrams(n as u32));
        }
        for listener in self.listeners.drain(..) {
            self.driver.close_listener(listener, lives_on);
            self.closing_listeners.push(listener);
        }
    }

    /// Notes for others how many connections there are, which must not be too few, and from how many
    /// listeners some may come.
    pub(super) fn note_held(&mut self) {
        self.core.shared.held.publish((self.core.table.len() + self.waiting.len()) as u64);
    }

    /// The end of a turn. Behind the connections that a listener has brought.
    pub(super) fn note_accepting(&mut self) {
        self.note_held();
        let driver = &self.driver;
        self.closing_listeners.retain(|listener| driver.is_closing(*listener));
        // As long as it was not told to stop, datagrams may come too.
        let open = usize::from(!self.drains);
        let accepting = open + self.listeners.len() + self.closing_listeners.len();
        self.core.shared.accepting.publish(accepting as u64);
    }

    /// Closes listeners and connections in order; whoever is left at the deadline is cut off.
    pub(super) fn begin_stop(&mut self, patience: Duration) {
        // A second stop may only shorten the time: the earlier deadline comes first.
        // The turn may have begun long before, with a callback that computes.
        let deadline = deadline(self.driver.now(), patience);
        self.core.wheel.insert(deadline, Timer::StopDeadline);
        if self.core.stopping {
            return;
        }
        self.core.stopping = true;
        self.stage = Stage::Draining;
        self.stop_accepting();
        // There will be no places.
        self.waiting.clear();
        for index in 0..self.core.table.bound() {
            let Some(token) = self.core.table.token_at(index) else { continue };
            let Some(conn) = self.core.table.get_mut(token) else { continue };
            match conn.phase {
                Phase::Open | Phase::Opening | Phase::Connecting => {
                    conn.close(CloseReason::ServerStopped);
                    self.settle(token);
                }
                // Those that linger already get no more patience than those that will.
                Phase::Lingering => self.core.set_watch(token, Some(self.linger_patience())),
                // An attempt ends with the connection that it is for.
                Phase::Closing | Phase::Free | Phase::Attempt => {}
            }
        }
    }

    /// Ends every connection now.
    pub(super) fn end_all(&mut self) {
        for index in 0..self.core.table.bound() {
            let Some(token) = self.core.table.token_at(index) else { continue };
            self.end(token, CloseReason::ServerStopped);
        }
        // Those that had delivered everything linger; there is no time for that any more.
        for index in 0..self.core.table.bound() {
            let Some(token) = self.core.table.token_at(index) else { continue };
            if self.core.table.get(token).is_some_and(|conn| conn.phase == Phase::Lingering) {
                self.release(token, CloseMode::Orderly);
            }
        }
    }

    /// Ends the loop once the last connection is gone.
    pub(super) fn finish_stopping(&mut self) {
        if matches!(self.stage, Stage::Draining) && self.core.table.len() == 0 {
            self.end_loop();
        }
    }

    /// The system does not let the loop wait any more: ends it without delivering.
    pub(super) fn abandon(&mut self) {
        self.core.stopping = true;
        self.end_all();
        self.start_connects();
        self.end_loop();
    }

    /// Answers everybody who still waits for something, and tells the handler.
    fn end_loop(&mut self) {
        self.stage = Stage::Stopped;
        let queued = std::mem::take(&mut self.commands).into_iter();
        for command in queued.chain(self.core.shared.commands.close()) {
            if matches!(command, Command::Connect { .. }) {
                // Whoever has asked for it is told as for any other.
                self.carry_out(command);
            } else if let Some((token, done)) = command.refused() {
                self.tell_written(token, done, Err(HandleError::Closed));
            }
        }
        self.start_connects();
        for job in self.jobs.close() {
            self.with_context("a job of another thread", job);
        }
        self.with_context("on_shutdown", |handler, cx| handler.on_shutdown(cx));
        for socket in 0..self.core.outboxes.len() {
            self.flush_datagrams(socket as u32);
        }
    }
}
