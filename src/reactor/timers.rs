//! What happens when a timer of the loop is due.

use std::io;
use std::time::{Duration, Instant};

use crate::conn::core::{Core, Timer};
use crate::conn::rare::Rare;
use crate::conn::state::{ConnCore, Phase};
use crate::conn::timeouts::Silence;
use crate::driver::{CloseMode, Driver, Token};
use crate::error::CloseReason;
use crate::handler::{Action, Handler};
use crate::reactor::Reactor;

impl<D: Driver, H: Handler> Reactor<D, H> {
    pub(super) fn expire_timers(&mut self) {
        self.timers_left = false;
        if self.core.wheel.is_empty() {
            return;
        }
        let most = self.core.options.turn.timers;
        for count in 1..=most {
            let Some(timer) = self.core.wheel.expire(self.core.now) else { return };
            self.expired(timer);
            self.timers_left = count == most;
        }
    }

    fn expired(&mut self, timer: Timer) {
        match timer {
            Timer::Conn(token) => {
                let Some(conn) = self.core.table.get_mut(token) else { return };
                conn.timer = None;
                let is_early = matches!(conn.phase, Phase::Connecting | Phase::Opening);
                conn.rare.set(Rare::TIMER_WAS_DUE, is_early);
                if conn.phase != Phase::Open || conn.is_ending() {
                    return;
                }
                let action =
                    self.with_state("on_timer", token, |h, conn, state| h.on_timer(conn, state));
                self.act(token, action.unwrap_or(Action::Continue));
            }
            Timer::Watch(token) => self.watch_due(token),
            Timer::Attempt(token) => self.attempt_is_slow(token),
            Timer::Handshake(token) => self.end(token, CloseReason::HandshakeTimeout),
            Timer::Tick => {
                if !self.core.stopping {
                    self.tick();
                }
            }
            Timer::Job(place) => {
                if let Some(job) = self.local_jobs.remove(place) {
                    self.with_context("a scheduled job", job);
                }
            }
            Timer::AcceptRest(listener) => self.rest_is_over(listener),
            Timer::Admit => self.look_for_places(),
            Timer::Budget => self.look_after_held_back(),
            Timer::StopDeadline => self.end_all(),
        }
    }

    /// A connection's watch is due; what it watches for depends on the phase.
    fn watch_due(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.watch = None;
        let phase = conn.phase;
        match phase {
            Phase::Connecting => self.connect_failed(token, io::ErrorKind::TimedOut.into()),
            Phase::Opening => self.open_failed(token, CloseReason::HandshakeTimeout),
            // One timer stands for all activity: it looks when it is due, and waits for the rest.
            // Traffic costs it nothing.
            Phase::Open => {
                // What was written to it in this turn leaves before it is judged: an end would cut
                // that off, and be a reset that takes what was sent before along.
                if conn.dirty {
                    self.settle(token);
                }
                self.note_progress(token);
                let is_open = |conn: &ConnCore| conn.phase == Phase::Open;
                if self.core.table.get(token).is_some_and(is_open)
                    && let Some(reason) = self.core.watch_silence(token)
                {
                    self.end_silent(token, reason);
                }
            }
            Phase::Closing => {
                self.note_progress(token);
                self.watch_closing(token, self.core.now);
            }
            Phase::Lingering => self.release(token, CloseMode::Orderly),
            Phase::Free | Phase::Attempt => {}
        }
    }

    /// Ends a connection that was silent for too long; but whoever has spoken is not silent because
    /// the loop has not got to him yet, which may come to several turns behind a long one.
    fn end_silent(&mut self, token: Token, reason: CloseReason) {
        let conn = self.core.table.get(token).filter(|conn| conn.receiving);
        let patience = conn.and_then(|conn| conn.patience_with(&reason, self.core.patience));
        match patience {
            Some(delay) if self.driver.may_have_more(token) => {
                self.core.set_watch(token, Some(delay));
            }
            _ => self.end(token, reason),
        }
    }

    /// Ends a closing connection whose peer takes nothing for too long, or has the watch look again.
    pub(super) fn watch_closing(&mut self, token: Token, now: Instant) {
        let (now_ms, patience) = (self.core.millis_of(now), self.core.options.close_timeout);
        let Core { table, long_turns, .. } = &mut self.core;
        let Some(conn) = table.get_mut(token) else { return };
        conn.correct(long_turns);
        match conn.closing_silence(now_ms, patience) {
            Silence::TooLong(reason) => self.end(token, reason),
            Silence::For(millis) => {
                let delay = Some(Duration::from_millis(millis.into()));
                self.core.set_watch_from(token, now, delay);
            }
            Silence::Allowed => {}
        }
    }

    /// Notes whether the peer has taken output since the last look, though the socket takes no more:
    /// a large output to a slow peer is not silence.
    fn note_progress(&mut self, token: Token) {
        let waits = |conn: &ConnCore| conn.send_blocked || conn.phase == Phase::Closing;
        if !self.core.table.get(token).is_some_and(waits) {
            return;
        }
        let (now, taken) = (self.core.now_ms, self.taken_by_peer(token));
        let Some(conn) = self.core.table.get_mut(token) else { return };
        if taken > conn.mark {
            conn.mark = taken;
            conn.last_sent = now;
        }
    }
}
