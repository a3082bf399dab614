//! When an open connection has been silent for too long. Pure arithmetic: the time is an argument,
//! in milliseconds of the loop's clock, which wraps after 49 days.
//!
//! No event arms a timer. Receiving and sending note the time; one watch per connection looks
//! when the first of the timeouts could be due, and waits for the rest. What is listed here is the
//! whole meaning of each timeout.

use std::time::Duration;

use crate::conn::core::Core;
use crate::conn::rare::Rare;
use crate::conn::state::{ConnCore, Phase};
use crate::driver::Token;
use crate::error::CloseReason;
use crate::options::Options;
use crate::time::long_turns::LongTurns;

/// While a socket takes no more, only a look tells whether the peer has taken something. So often
/// does one come within the time that is allowed: an end is late by one of these parts at most.
const LOOKS: u32 = 4;

/// Timeouts of one connection in milliseconds; zero is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) idle: u32,
    pub(crate) read_idle: u32,
    pub(crate) write_idle: u32,
}

/// Timeouts that are the same for all connections, in milliseconds; zero is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Patience {
    pub(crate) first_byte: u32,
    pub(crate) write_stall: u32,
}

/// What the watch of an open connection finds.
#[derive(Debug)]
pub(crate) enum Silence {
    TooLong(CloseReason),
    /// Nothing can be due for so many milliseconds.
    For(u32),
    /// No timeout applies.
    Allowed,
}

/// Until somebody looks again whether a peer takes output.
fn next_look(limit: u32) -> u32 {
    limit.div_ceil(LOOKS)
}

/// A timeout below a millisecond is one; above 24 days the wrapping clock would lie.
pub(crate) fn millis(timeout: Option<Duration>) -> u32 {
    timeout.map_or(0, |t| t.as_millis().clamp(1, i32::MAX as u128) as u32)
}

impl Timeouts {
    /// Those of a new connection.
    pub(crate) fn of(options: &Options) -> Self {
        Timeouts {
            idle: millis(options.idle_timeout),
            read_idle: millis(options.read_idle_timeout),
            write_idle: millis(options.write_idle_timeout),
        }
    }
}

impl Timeouts {
    /// What is set here, and the others' where nothing is.
    pub(crate) fn or(self, others: Self) -> Self {
        let first = |own: u32, other: u32| if own > 0 { own } else { other };
        Timeouts {
            idle: first(self.idle, others.idle),
            read_idle: first(self.read_idle, others.read_idle),
            write_idle: first(self.write_idle, others.write_idle),
        }
    }
}

impl Patience {
    pub(crate) fn of(options: &Options) -> Self {
        Patience {
            first_byte: millis(options.first_byte_timeout),
            write_stall: millis(options.write_stall_timeout),
        }
    }
}

impl ConnCore {
    /// Milliseconds since something was last received or taken.
    pub(crate) fn idle_ms(&self, now: u32) -> u32 {
        now.wrapping_sub(self.last_received).min(now.wrapping_sub(self.last_sent))
    }

    /// Compares the silence of this connection with what it is allowed.
    pub(crate) fn silence(&self, now: u32, patience: Patience) -> Silence {
        let received = now.wrapping_sub(self.last_received);
        let sent = now.wrapping_sub(self.last_sent);
        let Timeouts { idle, read_idle, write_idle } = self.timeouts;
        let Patience { first_byte, write_stall } = patience;
        // A peer that is not being read from cannot be heard; one that waits for a connection
        // which we have made owes no first byte.
        let owes_first_byte = self.receiving && !self.heard && !self.rare.has(Rare::OUTGOING);
        // One that is held back by the memory budget has to go some time, or what it holds is never
        // free: whoever sends half a message and then waits would hold the whole server.
        let is_heard = self.receiving || self.held_back;
        let rules = [
            (first_byte, received, owes_first_byte, CloseReason::FirstByteTimeout),
            (read_idle, received, is_heard, CloseReason::ReadIdleTimeout),
            (write_idle, sent, true, CloseReason::WriteIdleTimeout),
            (write_stall, sent, self.send_blocked, CloseReason::WriteStalled),
            (idle, self.idle_ms(now), true, CloseReason::IdleTimeout),
        ];
        let mut rest = None;
        for (limit, silent, applies, reason) in rules {
            if limit == 0 || !applies {
                continue;
            }
            if silent >= limit {
                return Silence::TooLong(reason);
            }
            let is_of_input =
                matches!(reason, CloseReason::FirstByteTimeout | CloseReason::ReadIdleTimeout);
            let looks = self.send_blocked && !is_of_input;
            let next = if looks { next_look(limit) } else { u32::MAX };
            rest = Some(rest.unwrap_or(u32::MAX).min(limit - silent).min(next));
        }
        rest.map_or(Silence::Allowed, Silence::For)
    }

    /// Until the watch looks again at one that was silent for too long by what has been read, but has
    /// more: by then that has been read, or it is looked for once more.
    pub(crate) fn patience_with(
        &self,
        reason: &CloseReason,
        patience: Patience,
    ) -> Option<Duration> {
        let limit = match reason {
            CloseReason::IdleTimeout => self.timeouts.idle,
            CloseReason::ReadIdleTimeout => self.timeouts.read_idle,
            CloseReason::FirstByteTimeout => patience.first_byte,
            _ => return None,
        };
        Some(Duration::from_millis(next_look(limit).into()))
    }

    /// What happened in a long turn may have happened at its end.
    pub(crate) fn correct(&mut self, long_turns: &LongTurns) {
        self.last_received = long_turns.latest(self.last_received);
        self.last_sent = long_turns.latest(self.last_sent);
    }

    /// The same for one that closes when its last output is delivered.
    pub(crate) fn closing_silence(&self, now: u32, limit: Duration) -> Silence {
        let limit = millis(Some(limit));
        let silent = now.wrapping_sub(self.last_sent);
        if silent >= limit {
            return Silence::TooLong(CloseReason::CloseTimeout);
        }
        Silence::For((limit - silent).min(next_look(limit)))
    }
}

impl Core {
    /// Lets silence count from now.
    pub(crate) fn begin_silence(&mut self, token: Token) {
        let now = self.now_ms;
        let Some(conn) = self.table.get_mut(token) else { return };
        conn.last_received = now;
        conn.last_sent = now;
        self.watch_silence(token);
    }

    /// Reading begins again: the peer could not be heard before.
    pub(crate) fn begin_hearing(&mut self, token: Token) {
        let now = self.now_ms;
        let Some(conn) = self.table.get_mut(token) else { return };
        conn.last_received = now;
        if conn.timeouts.read_idle > 0 || (!conn.heard && self.patience.first_byte > 0) {
            self.watch_silence(token);
        }
    }

    /// The socket is full: from now on the peer has to take something.
    pub(crate) fn begin_waiting_for_output(&mut self, token: Token) {
        let (now, patience) = (self.now_ms, self.patience);
        let Some(conn) = self.table.get_mut(token) else { return };
        conn.last_sent = now;
        let Timeouts { idle, write_idle, .. } = conn.timeouts;
        let limits =
            [patience.write_stall, idle, write_idle].into_iter().filter(|limit| *limit > 0);
        let Some(look) = limits.min().map(next_look) else { return };
        // Signed: a watch that is due already looks at all timeouts in this very turn.
        let due_in = conn.watch_due.wrapping_sub(now) as i32;
        let in_time = conn.watch.is_some() && due_in <= look as i32;
        if conn.phase == Phase::Open && !in_time {
            self.set_watch(token, Some(Duration::from_millis(look.into())));
        }
    }

    /// Changes the timeouts of a connection; its silence counts from now.
    pub(crate) fn set_timeouts(&mut self, token: Token, change: impl FnOnce(&mut Timeouts)) {
        let Some(conn) = self.table.get_mut(token) else { return };
        change(&mut conn.timeouts);
        if conn.phase == Phase::Open {
            self.begin_silence(token);
        }
    }

    /// Sets the watch of an open connection to when the first of its timeouts could be due.
    pub(crate) fn watch_silence(&mut self, token: Token) -> Option<CloseReason> {
        let (now, patience) = (self.now_ms, self.patience);
        let conn = self.table.get_mut(token)?;
        conn.correct(&self.long_turns);
        let delay = match conn.silence(now, patience) {
            Silence::TooLong(reason) => return Some(reason),
            Silence::For(millis) => Some(Duration::from_millis(millis.into())),
            Silence::Allowed => None,
        };
        self.set_watch(token, delay);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Address;

    const PATIENCE: Patience = Patience { first_byte: 0, write_stall: 0 };

    fn conn() -> ConnCore {
        ConnCore::new(Address::Unix(None), Phase::Open)
    }

    fn ends(conn: &ConnCore, now: u32, patience: Patience) -> String {
        match conn.silence(now, patience) {
            Silence::TooLong(reason) => format!("{reason:?}"),
            Silence::For(millis) => format!("in {millis}"),
            Silence::Allowed => "never".to_owned(),
        }
    }

    #[test]
    fn without_timeouts_silence_is_allowed() {
        assert_eq!(ends(&conn(), u32::MAX, PATIENCE), "never");
    }

    #[test]
    fn each_timeout_looks_at_its_own_direction_and_the_first_one_decides() {
        let mut conn = conn();
        conn.timeouts = Timeouts { idle: 100, read_idle: 200, write_idle: 300 };
        (conn.last_received, conn.last_sent) = (1_000, 1_050);
        assert_eq!(ends(&conn, 1_060, PATIENCE), "in 90");
        assert_eq!(ends(&conn, 1_150, PATIENCE), "IdleTimeout");
        conn.timeouts.idle = 0;
        assert_eq!(ends(&conn, 1_150, PATIENCE), "in 50");
        assert_eq!(ends(&conn, 1_200, PATIENCE), "ReadIdleTimeout");
        conn.timeouts.read_idle = 0;
        assert_eq!(ends(&conn, 1_349, PATIENCE), "in 1");
        assert_eq!(ends(&conn, 1_350, PATIENCE), "WriteIdleTimeout");
    }

    #[test]
    fn the_clock_may_wrap() {
        let mut conn = conn();
        conn.timeouts.idle = 100;
        (conn.last_received, conn.last_sent) = (u32::MAX - 9, u32::MAX - 9);
        assert_eq!(ends(&conn, 50, PATIENCE), "in 40");
        assert_eq!(ends(&conn, 90, PATIENCE), "IdleTimeout");
    }

    #[test]
    fn who_is_not_read_from_owes_nothing() {
        let patience = Patience { first_byte: 10, ..PATIENCE };
        let mut conn = conn();
        conn.timeouts.read_idle = 10;
        assert_eq!(ends(&conn, 10, patience), "FirstByteTimeout");
        conn.heard = true;
        assert_eq!(ends(&conn, 10, patience), "ReadIdleTimeout");
        conn.receiving = false;
        assert_eq!(ends(&conn, 10, patience), "never");
        (conn.receiving, conn.heard) = (true, false);
        conn.rare.set(Rare::OUTGOING, true);
        conn.timeouts.read_idle = 0;
        assert_eq!(ends(&conn, 10, patience), "never");
    }

    #[test]
    fn output_stalls_only_while_the_socket_takes_none() {
        let patience = Patience { write_stall: 10, ..PATIENCE };
        let mut conn = conn();
        assert_eq!(ends(&conn, 1_000, patience), "never");
        conn.send_blocked = true;
        assert_eq!(ends(&conn, 1_000, patience), "WriteStalled");
        conn.last_sent = 995;
        assert_eq!(ends(&conn, 1_004, patience), "in 1");
        assert_eq!(ends(&conn, 1_000, patience), "in 3", "there is a look in between");
    }
}
