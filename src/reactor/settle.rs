//! From marks on a connection to the driver: [`Reactor::settle`] sends what is pending, starts
//! or stops receiving, and moves the connection towards its end. It is called after every
//! callback for the callback's own connection, and at the end of the turn for the others.

use std::io;

use crate::conn::command::Completion;
use crate::conn::core::Core;
use crate::conn::rare::Rare;
use crate::conn::state::{ConnCore, Phase};
use crate::driver::{Buffer, Driver, Token};
use crate::error::CloseReason;
use crate::handler::{Action, Handler};
use crate::reactor::Reactor;
use crate::sys::send_queue::queued_bytes;

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Brings a connection's socket in line with what was asked of the connection.
    #[inline(never)]
    pub(super) fn settle(&mut self, token: Token) {
        let high = self.core.options.high_watermark;
        let Some(conn) = self.core.table.get_mut(token) else { return };
        // Noted before the socket takes some: the writer was told of it, and waits for on_drain.
        conn.above_high |= conn.outbound.len() > high;
        let open = matches!(conn.phase, Phase::Open | Phase::Closing);
        let sends = (open && !conn.outbound.is_empty()) | conn.wire_pending;
        let is_at_rest = if sends && !conn.want_end && !conn.send_blocked {
            match conn.secured | conn.want_tls | conn.datagrams {
                false => self.flush(token, false),
                true => self.flush_otherwise(token),
            }
        } else {
            conn.is_at_rest()
        };
        if !is_at_rest {
            self.settle_all(token);
        }
    }

    /// The part of `settle` that few connections need.
    #[cold]
    fn settle_all(&mut self, token: Token) {
        if self.core.table.get(token).is_some_and(|conn| conn.want_tls && !conn.want_end) {
            self.begin_start_tls(token);
        }
        self.check_watermarks(token);
        self.check_budget(token);
        self.settle_reading(token);
        let Some(conn) = self.core.table.get(token) else { return };
        if conn.is_ending()
            || conn.want_shutdown_write
            || conn.phase == Phase::Closing
            || (conn.eof && conn.write_shut)
        {
            self.settle_ending(token);
        }
    }

    /// Gives pending output to the socket, where that is not bytes as they are.
    #[inline(never)]
    fn flush_otherwise(&mut self, token: Token) -> bool {
        match self.core.table.get(token).is_some_and(|conn| conn.datagrams) {
            true => self.flush_pieces(token),
            false => self.flush_secured(token),
        }
        self.core.table.get(token).is_none_or(ConnCore::is_at_rest)
    }

    /// Gives pending output to the socket, and answers whether nothing else is to be done for the
    /// connection. At most one stretch a call: what a fast peer could still take waits for the end
    /// of the turn, so that the others get theirs. `told`: pre_write knows of it already.
    #[inline(always)] // Once a message.
    fn flush(&mut self, token: Token, mut told: bool) -> bool {
        let mut budget = self.core.options.turn.write_bytes;
        loop {
            if !std::mem::take(&mut told) {
                self.before_write(token);
            }
            let Core { table, pool, shared, now_ms, options, .. } = &mut self.core;
            let Some(conn) = table.get_mut(token) else { return true };
            // As in `settle`: pre_write may have written.
            if conn.outbound.len() > options.high_watermark {
                conn.above_high = true;
                if conn.outbound.len() > options.max_pending_output {
                    conn.end(CloseReason::OutputLimit);
                }
            }
            if conn.want_end {
                return false;
            }
            // What pre_write has written behind its wish for TLS must not leave like this.
            if conn.want_tls {
                self.begin_start_tls(token);
                return false;
            }
            let sent = match self.driver.send(token, &conn.outbound, budget) {
                Ok(sent) => sent,
                Err(error) => {
                    self.output_lost(token, CloseReason::from_io(error));
                    return false;
                }
            };
            if sent.blocked {
                self.socket_is_full(token);
                return false;
            }
            shared.metrics.bytes_out.add(sent.bytes as u64);
            conn.note_sent(sent.bytes, *now_ms);
            conn.outbound.advance(sent.bytes, pool);
            budget = budget.saturating_sub(sent.bytes);
            let done = conn.outbound.is_empty();
            if done && conn.extra.is_none() {
                return conn.is_at_rest();
            }
            self.tell_completions(token);
            // One of those that were told may have panicked.
            if done || self.core.table.get(token).is_none_or(|conn| conn.want_end) {
                return self.core.table.get(token).is_none_or(ConnCore::is_at_rest);
            }
            if budget == 0 {
                self.core.touch(token);
                return false;
            }
        }
    }

    /// As `flush`, where pre_write knows of the output already or only a part has left.
    #[inline(never)]
    pub(super) fn flush_rest(&mut self, token: Token, told: bool) {
        self.flush(token, told);
    }

    /// A send came back blocked: `Writable` will tell when to go on.
    pub(super) fn socket_is_full(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.send_blocked = true;
        self.core.shared.metrics.partial_writes.add(1);
        self.begin_waiting_for_output(token);
    }

    /// The socket is full: from now on the peer has to take something.
    pub(super) fn begin_waiting_for_output(&mut self, token: Token) {
        let taken = self.taken_by_peer(token);
        if let Some(conn) = self.core.table.get_mut(token)
            && conn.phase == Phase::Open
        {
            conn.mark = taken;
            self.core.begin_waiting_for_output(token);
        }
    }

    /// Bytes that have left for good, as far as the system tells: those that still lie in the
    /// socket's buffer do not count.
    pub(super) fn taken_by_peer(&self, token: Token) -> u64 {
        let socket = self.driver.socket(token);
        let queued = socket.and_then(|socket| queued_bytes(&socket)).unwrap_or(0);
        let sent = self.wire_sent(token);
        let sent = sent.or_else(|| Some(self.core.table.get(token)?.sent)).unwrap_or(0);
        sent.saturating_sub(queued + self.driver.unsent(token) as u64)
    }

    #[inline]
    pub(super) fn before_write(&mut self, token: Token) {
        let Some(conn) = self.core.table.get(token) else { return };
        let pending = conn.outbound.len();
        self.core.pre_writing = true;
        self.with_state_of_living("pre_write", token, None, |handler, conn, state| {
            handler.pre_write(conn, state, pending);
        });
        self.core.pre_writing = false;
    }

    /// The same where the output still lies in the receive buffer.
    pub(super) fn before_write_lent(&mut self, token: Token, buffer: &Buffer) {
        let pending = self.core.lent_to(token);
        self.core.pre_writing = true;
        self.with_state_of_living("pre_write", token, Some(buffer), |handler, conn, state| {
            handler.pre_write(conn, state, pending);
        });
        self.core.pre_writing = false;
    }

    /// The socket took something: tells those who wait for it.
    pub(super) fn tell_completions(&mut self, token: Token) {
        while let Some(completion) = self.core.table.get_mut(token).and_then(next_completion) {
            self.tell_written(token, completion.done, Ok(()));
        }
    }

    /// The peer takes no more. What it has sent before it went is still offered: a client that
    /// sends and leaves without reading the answers has sent all the same. The end of the input,
    /// which is near, ends the connection.
    pub(super) fn output_lost(&mut self, token: Token, reason: CloseReason) {
        let Core { table, pool, .. } = &mut self.core;
        let Some(conn) = table.get_mut(token) else { return };
        conn.rare.set(Rare::OUTPUT_LOST, true);
        if conn.phase != Phase::Open || conn.is_ending() || conn.paused || conn.eof {
            return conn.end(reason);
        }
        // Nothing is left that a Writable would be for.
        conn.send_blocked = false;
        conn.note_first_reason(reason);
        conn.outbound.clear(pool);
        self.drop_wire(token);
        self.wake_resting(token);
        self.tell_output_lost(token);
    }

    /// A send that was answered has failed since.
    pub(super) fn send_failed(&mut self, token: Token, error: io::Error) {
        let Some(conn) = self.core.table.get(token) else { return };
        if matches!(conn.phase, Phase::Open | Phase::Opening | Phase::Closing) {
            self.output_lost(token, CloseReason::from_io(error));
            self.settle(token);
        }
    }

    /// Whether the socket has all output, as a FIN behind it needs. Where it has not, this is
    /// asked again when it has, or the connection ends otherwise.
    pub(super) fn is_committed(&mut self, token: Token) -> bool {
        let Some(conn) = self.core.table.get(token) else { return false };
        if conn.send_blocked {
            return false;
        }
        match self.driver.commit(token) {
            Ok(true) => true,
            Ok(false) => {
                if let Some(conn) = self.core.table.get_mut(token) {
                    conn.send_blocked = true;
                }
                self.begin_waiting_for_output(token);
                false
            }
            Err(error) => {
                self.output_lost(token, CloseReason::from_io(error));
                false
            }
        }
    }

    /// Pauses reading above the high watermark, and at the low one resumes it and notes that
    /// on_drain is due.
    fn check_watermarks(&mut self, token: Token) {
        let options = &self.core.options;
        let (high, low) = (options.high_watermark, options.low_watermark());
        let max_pending_output = options.max_pending_output;
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let pending = conn.outbound.len();
        if pending > max_pending_output {
            conn.end(CloseReason::OutputLimit);
        }
        if let Some(shared) = conn.extra.as_ref().and_then(|extra| extra.shared.as_ref()) {
            shared.set_pending(pending);
        }
        if conn.above_high && pending <= low {
            conn.above_high = false;
            conn.auto_paused = false;
            // What was lost is no room for more: who is told to write again would do so for ever.
            conn.want_drain = !conn.rare.has(Rare::OUTPUT_LOST);
        } else if conn.pauses_itself(high) && !conn.auto_paused {
            conn.auto_paused = true;
            self.core.shared.metrics.pauses.add(1);
        }
        if pending <= low && !conn.send_blocked {
            self.wake_resting(token);
        }
    }

    /// Tells the driver when receiving is to begin or to end.
    pub(super) fn settle_reading(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let wanted = conn.wants_receiving();
        if wanted != conn.receiving && conn.phase != Phase::Connecting {
            conn.receiving = wanted;
            let hears = wanted && conn.phase == Phase::Open;
            self.driver.set_receiving(token, wanted);
            if hears {
                self.core.begin_hearing(token);
            }
        }
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let due = conn.want_drain || ((conn.want_offer || conn.want_eof) && conn.takes_input());
        if due && conn.phase == Phase::Open && !conn.dirty {
            conn.dirty = true;
            self.core.dirty.push(token);
        }
    }

    /// Attends the connections whose output a callback wants sent at once. One round: those that
    /// pre_write adds wait for the next.
    pub(super) fn attend_urgent(&mut self) {
        if self.core.urgent.is_empty() {
            return;
        }
        self.attends = true;
        for token in std::mem::take(&mut self.core.urgent) {
            self.settle(token);
        }
        self.attends = false;
    }

    /// Attends the connections that somebody else's callback, a command or this turn's own work
    /// has marked. What is marked meanwhile waits for the next turn, which then does not sleep.
    pub(super) fn attend_dirty(&mut self) {
        if self.core.dirty.is_empty() {
            return;
        }
        let mut attending = std::mem::take(&mut self.attending);
        std::mem::swap(&mut attending, &mut self.core.dirty);
        let now = attending.len().min(self.core.options.turn.attended);
        self.attends = true;
        for token in attending.drain(..now) {
            self.attend(token);
        }
        self.attends = false;
        // Those over the bound keep their place before the newly marked.
        if !attending.is_empty() {
            attending.append(&mut self.core.dirty);
            std::mem::swap(&mut attending, &mut self.core.dirty);
        }
        self.attending = attending;
    }

    fn attend(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.dirty = false;
        let is_due = conn.want_drain | conn.want_offer | conn.want_eof;
        if is_due && conn.phase == Phase::Open && !conn.is_ending() {
            self.tell_what_is_due(token);
        }
        self.settle(token);
    }

    /// The callbacks that wait for their turn.
    #[inline(never)]
    fn tell_what_is_due(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        if std::mem::take(&mut conn.want_drain) {
            let action =
                self.with_state("on_drain", token, |h, conn, state| h.on_drain(conn, state));
            self.act(token, action.unwrap_or(Action::Continue));
        }
        if self.core.table.get(token).is_some_and(|conn| conn.want_offer) {
            self.offer(token);
        }
        self.tell_end(token);
    }
}

/// The next one whose byte was sent.
fn next_completion(conn: &mut ConnCore) -> Option<Completion> {
    let sent = conn.sent;
    let completions = &mut conn.extra.as_mut()?.completions;
    if completions.front()?.at > sent {
        return None;
    }
    completions.pop_front()
}
