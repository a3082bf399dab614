//! The end of a connection; the phases are drawn in `conn/state.rs`.

use std::time::Duration;

use crate::conn::command::WriteDone;
use crate::conn::rare::Rare;
use crate::conn::state::Phase;
use crate::driver::{CloseMode, Driver, Token};
use crate::error::{CloseReason, HandleError};
use crate::handler::Handler;
use crate::reactor::Reactor;
use crate::reactor::opening::end_of_opening;

/// Patience with lingering peers while the server stops: what they need is one round trip.
const LINGER_WHILE_STOPPING: Duration = Duration::from_millis(250);

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Moves a connection towards its end as far as it can go now.
    pub(super) fn settle_ending(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        if matches!(conn.phase, Phase::Connecting | Phase::Opening) && conn.is_ending() {
            let reason = conn.take_reason();
            return self.open_failed(token, reason);
        }
        if conn.want_end && matches!(conn.phase, Phase::Open | Phase::Closing) {
            return self.finish(token);
        }
        if conn.phase == Phase::Open && conn.want_close {
            self.begin_closing(token);
        }
        let Some(conn) = self.core.table.get_mut(token) else { return };
        if !conn.outbound.is_empty() {
            return;
        }
        match conn.phase {
            Phase::Closing => {
                let sealed = self.seal(token) && self.is_committed(token);
                if sealed || self.core.table.get(token).is_some_and(|conn| conn.want_end) {
                    self.finish(token);
                }
            }
            Phase::Open => self.settle_half_close(token),
            Phase::Free
            | Phase::Connecting
            | Phase::Attempt
            | Phase::Opening
            | Phase::Lingering => {}
        }
    }

    /// No more input for the handler; the watch now looks after the output's progress.
    fn begin_closing(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.phase = Phase::Closing;
        conn.inbound.clear(&mut self.core.pool);
        let delivered = conn.outbound.is_empty() && self.seal(token) && self.is_committed(token);
        if !delivered {
            // A system call, that most connections do not need.
            let taken = self.taken_by_peer(token);
            // A callback may have taken its time.
            let now = self.driver.now();
            let now_ms = self.core.millis_of(now);
            if let Some(conn) = self.core.table.get_mut(token) {
                (conn.mark, conn.last_sent) = (taken, now_ms);
            }
            self.watch_closing(token, now);
            self.settle_reading(token);
        }
    }

    /// Sends FIN when it was asked for, and closes when both sides have.
    fn settle_half_close(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        if conn.want_shutdown_write && !conn.write_shut {
            // A handshake would never be done behind our FIN.
            if conn.handshaking || !self.seal(token) {
                return;
            }
            if !self.is_committed(token) {
                // Nobody else looks after one that this has ended.
                if self.core.table.get(token).is_some_and(|conn| conn.want_end) {
                    self.finish(token);
                }
                return;
            }
            let Some(conn) = self.core.table.get_mut(token) else { return };
            conn.write_shut = true;
            // Where both sides of a session have said their close_notify, the socket's own end adds
            // nothing: a peer that left at once has ended it in order.
            let said_all = conn.secured && conn.eof;
            if let Err(error) = self.driver.shutdown_write(token)
                && !said_all
            {
                conn.end(CloseReason::from_io(error));
                return self.finish(token);
            }
        }
        let Some(conn) = self.core.table.get_mut(token) else { return };
        if conn.write_shut && conn.eof && !conn.want_eof {
            conn.close(CloseReason::PeerClosed);
            self.begin_closing(token);
            self.finish(token);
        }
    }

    /// Calls on_close and lets go of the socket, at once or by way of lingering.
    fn finish(&mut self, token: Token) {
        // What the driver still keeps is as good as not sent.
        let has_left = self.driver.commit(token).unwrap_or(false);
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let reason = conn.take_reason();
        // Behind a broken session no output can be delivered; but the alert that tells so is.
        let broken_session = matches!(reason, CloseReason::Tls(_)) && conn.secured;
        // Where a part was lost, the peer must not take what it has for the whole.
        let has_left = has_left && !conn.rare.has(Rare::OUTPUT_LOST);
        let delivered =
            (conn.outbound.is_empty() && has_left && !matches!(reason, CloseReason::Aborted))
                || broken_session;
        let broken = matches!(reason, CloseReason::PeerReset(_) | CloseReason::Failed(_));
        // A reset can only destroy what was sent, and only before the peer's FIN can it come.
        let sent = conn.sent > 0 || conn.secured;
        let lingers = delivered && !broken && !conn.eof && sent && !conn.datagrams;
        if delivered && !broken {
            // For those that end by a timeout or a limit: the peer is told as far as it listens.
            self.last_words(token);
        }
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.phase = Phase::Lingering;
        conn.mark = 0;
        self.let_go_of_memory(token);
        self.tell_closed(token, reason);
        if lingers && self.driver.shutdown_write(token).is_ok() {
            self.core.set_watch_from(token, self.driver.now(), Some(self.linger_patience()));
            self.settle_reading(token);
        } else {
            let mode = if delivered { CloseMode::Orderly } else { CloseMode::Abort };
            self.release(token, mode);
        }
    }

    /// How long a closed connection waits for the peer's FIN.
    pub(super) fn linger_patience(&self) -> Duration {
        let patience = self.core.options.linger_timeout;
        if self.core.stopping { patience.min(LINGER_WHILE_STOPPING) } else { patience }
    }

    fn tell_closed(&mut self, token: Token, reason: CloseReason) {
        let reason = match reason {
            CloseReason::PeerClosed => self
                .with_state("the codec", token, |handler, _, state| handler.unfinished_frame(state))
                .flatten()
                .map_or(CloseReason::PeerClosed, CloseReason::Codec),
            reason => reason,
        };
        self.core.shared.metrics.count_close(&reason);
        // Where on_open panicked there is no state, and nothing for on_close to end.
        if let Some(state) = self.states.get_mut(token.index).and_then(Option::take) {
            self.with_conn("on_close", token, |handler, conn| {
                handler.on_close(conn, state, reason);
            });
        }
    }

    /// Gives buffers and timers back, and tells those who wait for output that it is lost.
    pub(super) fn let_go_of_memory(&mut self, token: Token) {
        self.end_tls(token);
        let core = &mut self.core;
        core.ends_rest(token);
        let Some(conn) = core.table.get_mut(token) else { return };
        conn.inbound.clear(&mut core.pool);
        conn.outbound.clear(&mut core.pool);
        for key in [conn.timer.take(), conn.watch.take()].into_iter().flatten() {
            core.wheel.cancel(key);
        }
        let Some(extra) = &mut conn.extra else { return };
        end_of_opening(extra, &core.shared);
        if let Some(shared) = &extra.shared {
            shared.mark_closed();
        }
        self.wake_resting(token);
        self.tell_output_lost(token);
    }

    /// Tells those who wait for output to be sent that it will not be.
    pub(super) fn tell_output_lost(&mut self, token: Token) {
        let extra = self.core.table.get_mut(token).and_then(|conn| conn.extra.as_mut());
        let Some(completions) = extra.map(|extra| std::mem::take(&mut extra.completions)) else {
            return;
        };
        for completion in completions {
            self.tell_written(token, completion.done, Err(HandleError::Closed));
        }
    }

    pub(super) fn tell_written(
        &mut self,
        token: impl Into<Option<Token>>,
        done: WriteDone,
        result: Result<(), HandleError>,
    ) {
        self.with_nothing("the callback of write_then", token.into(), || done.call(result));
    }

    /// A close would block the loop for the time of SO_LINGER, also on a socket that never blocks.
    /// Without the option the kernel sends what it has in the background. (Zero, which asks for a
    /// reset, stays.)
    fn stop_lingering_in_the_kernel(&mut self, token: Token) {
        let Some(conn) = self.core.table.get(token) else { return };
        if !conn.rare.has(Rare::LINGER_SET) && self.core.options.listen.socket.linger.is_none() {
            return;
        }
        let Some(socket) = self.driver.socket(token) else { return };
        if socket.linger().is_ok_and(|linger| linger.is_some_and(|time| !time.is_zero()))
            && let Err(error) = socket.set_linger(None)
        {
            log::debug!("SO_LINGER stays set: {error}");
        }
    }

    /// Closes the socket and frees the slot.
    pub(super) fn release(&mut self, token: Token, mode: CloseMode) {
        if mode == CloseMode::Orderly {
            self.stop_lingering_in_the_kernel(token);
        }
        self.driver.close(token, mode);
        self.let_go_of_memory(token);
        self.core.table.remove(token);
        if let Some(ticket) = self.tickets.get_mut(token.index).and_then(Option::take) {
            self.give_back(ticket);
        }
    }
}
