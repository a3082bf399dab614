//! [`Core`]: everything of a loop that callbacks may reach, without the handler, the states and
//! the driver. What needs the kernel is written down here as an intention; the reactor carries
//! it out after the callback.

use std::any::TypeId;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::buf::pool::Pool;
use crate::conn::lent::Lent;
use crate::conn::outbox::Outbox;
use crate::conn::rare::Rare;
use crate::conn::state::{ConnCore, Phase};
use crate::conn::table::Table;
use crate::conn::timeouts::Patience;
use crate::control::{LoopShared, ServerHandle};
use crate::driver::Token;
use crate::error::CloseReason;
use crate::options::Options;
use crate::time::long_turns::LongTurns;
use crate::time::wheel::Wheel;
use crate::workers::WorkerPool;

/// What the loop's timing wheel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// on_timer of a connection.
    Conn(Token),
    /// The watch of a connection: idle, connect, close or linger timeout by its phase.
    Watch(Token),
    /// The next address of an outgoing connection is to be tried.
    Attempt(Token),
    /// The time of a handshake in mid-stream is over.
    Handshake(Token),
    Tick,
    /// A scheduled job, by its place.
    Job(u32),
    /// A listener's rest, after a failed accept or for the accept rate, is over.
    AcceptRest(u32),
    /// Connections wait for a place.
    Admit,
    /// Connections are held back by the memory budget.
    Budget,
    /// The stop's deadline has come.
    StopDeadline,
}

/// As in `ConnCore`, what every message touches comes first and together.
#[repr(C)]
pub(crate) struct Core {
    pub(crate) table: Table,
    /// `now` in milliseconds since the loop started, wrapping after 49 days: for differences.
    pub(crate) now_ms: u32,
    /// The connection whose callback runs: the reactor attends to it afterwards anyway.
    pub(crate) current: Option<u32>,
    /// The running callback is pre_write: what it appends leaves with the rest, also from a
    /// connection that is closing.
    pub(crate) pre_writing: bool,
    /// Output that lies in the receive buffer; see `lent.rs`.
    pub(crate) lent: Option<Lent>,
    pub(crate) stop_requested: bool,
    pub(crate) shared: Arc<LoopShared>,
    pub(crate) options: Arc<Options>,
    /// The datagram sockets whose outbox has something that is not waiting for a full socket.
    pub(crate) gathered: Vec<u32>,
    /// Connections to attend right after the running callback.
    pub(crate) urgent: Vec<Token>,
    /// Connections to attend at the end of the turn.
    pub(crate) dirty: Vec<Token>,
    pub(crate) pool: Pool,
    pub(crate) index: u16,
    pub(crate) wheel: Wheel<Timer>,
    /// The moment at which this turn's events were fetched.
    pub(crate) now: Instant,
    /// Turns that took more than a millisecond.
    pub(crate) long_turns: LongTurns,
    pub(crate) started: Instant,
    /// Outgoing connections to start at the end of the turn.
    pub(crate) connects: Vec<Token>,
    /// One for each datagram socket of the loop.
    pub(crate) outboxes: Vec<Outbox>,
    /// No new connections: the loop is stopping.
    pub(crate) stopping: bool,
    pub(crate) server: ServerHandle,
    pub(crate) patience: Patience,
    /// Bytes that this loop's connections may hold now; `usize::MAX` without a budget.
    pub(crate) allowance: usize,
    pub(crate) workers: WorkerPool,
    /// The type of the handler's connection state.
    pub(crate) state_type: TypeId,
}

impl Core {
    /// Ends a turn at this moment.
    pub(crate) fn end_turn(&mut self, end: Instant) {
        if end.saturating_duration_since(self.now) > Duration::from_millis(1) {
            self.long_turns.push(self.now_ms, self.millis_of(end));
        }
    }

    /// Begins a turn at this moment.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.now_ms = self.millis_of(now);
    }

    /// A moment of this loop's clock.
    pub(crate) fn millis_of(&self, moment: Instant) -> u32 {
        moment.duration_since(self.started).as_millis() as u32
    }

    /// A connection has to be attended to: after the callback if it is the callback's own, at
    /// the end of the turn otherwise.
    #[inline]
    pub(crate) fn touch(&mut self, token: Token) {
        if self.current == Some(token.index) {
            return;
        }
        if let Some(conn) = self.table.get_mut(token)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(token);
        }
    }

    /// Appends to a connection's output by `append`, and answers the pending bytes.
    #[inline]
    pub(crate) fn write_with(
        &mut self,
        token: Token,
        append: impl FnOnce(&mut ConnCore, &mut Pool),
    ) -> usize {
        let Some(conn) = self.table.get_mut(token) else {
            return 0;
        };
        let pre_writing = self.pre_writing && self.current == Some(token.index);
        if !conn.takes_output() && !pre_writing {
            return conn.outbound.len();
        }
        let datagrams = conn.datagrams;
        if datagrams {
            conn.end_piece();
        }
        append(conn, &mut self.pool);
        if datagrams {
            conn.end_piece();
        }
        let pending = conn.outbound.len();
        if pending > self.options.max_pending_output {
            conn.end(CloseReason::OutputLimit);
        }
        // As `touch` does, without looking for it again.
        if self.current != Some(token.index) && !conn.dirty {
            conn.dirty = true;
            self.dirty.push(token);
        }
        pending
    }

    /// Whether a connection that has just been given input may be given more of it now.
    #[inline]
    pub(crate) fn may_go_on(&mut self, token: Token) -> bool {
        let high = self.options.high_watermark;
        let lent = self.lent_to(token);
        let Some(conn) = self.table.get_mut(token) else {
            return false;
        };
        if conn.datagrams | conn.rare.has(Rare::RELAYS) {
            // The rest of a datagram must not be taken for the next one; what is relayed is not the
            // handler's.
            return false;
        }
        if conn.auto_pause && conn.outbound.len() + lent > high {
            // The rest is offered again when the output has drained.
            conn.want_offer = true;
            return false;
        }
        conn.takes_input()
    }

    /// Has a datagram sent, at the latest at the end of the turn.
    #[inline]
    pub(crate) fn send_datagram(
        &mut self,
        socket: u32,
        to: SocketAddr,
        from: Option<IpAddr>,
        payload: &[u8],
    ) {
        let Some(outbox) = self.outboxes.get_mut(socket as usize) else { return };
        if outbox.is_empty() {
            self.gathered.push(socket);
        }
        if !outbox.push(to, from, payload) {
            self.shared.metrics.datagrams_dropped.add(1);
        }
    }

    pub(crate) fn broadcast(&mut self, bytes: &Bytes) {
        for index in 0..self.table.bound() {
            let Some(token) = self.table.token_at(index) else { continue };
            let bytes = bytes.clone();
            self.write_with(token, |conn, pool| {
                if conn.phase == Phase::Open {
                    conn.outbound.append_bytes(bytes, pool);
                }
            });
        }
    }

    /// Sets the user's timer, counted from `now`: the turn's beginning would be too early.
    pub(crate) fn set_timer(&mut self, token: Token, now: Instant, delay: Option<Duration>) {
        let Some(conn) = self.table.get_mut(token) else { return };
        if let Some(key) = conn.timer.take() {
            self.wheel.cancel(key);
        }
        let Some(delay) = delay else { return };
        let deadline = deadline(now, delay);
        conn.timer = Some(self.wheel.insert(deadline, Timer::Conn(token)));
    }

    /// Sets the connection's watch anew: its meaning depends on the phase.
    pub(crate) fn set_watch(&mut self, token: Token, delay: Option<Duration>) {
        self.set_watch_from(token, self.now, delay);
    }

    /// As `set_watch`, counted from a moment that may be far behind the turn's beginning: after a
    /// callback that took its time, or a peer would have less of it.
    pub(crate) fn set_watch_from(&mut self, token: Token, now: Instant, delay: Option<Duration>) {
        let Some(conn) = self.table.get_mut(token) else { return };
        if let Some(key) = conn.watch.take() {
            self.wheel.cancel(key);
        }
        let Some(delay) = delay else { return };
        let deadline = deadline(now, delay);
        conn.watch_due = self.now_ms.wrapping_add(delay.as_millis() as u32);
        conn.watch = Some(self.wheel.insert(deadline, Timer::Watch(token)));
    }
}

/// A moment in the future; one too far to be told is as good as a century.
pub(crate) fn deadline(now: Instant, delay: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    now.checked_add(delay).unwrap_or(now + CENTURY)
}
