//! The handlers without frames: echo, push, a proxy, and a collector behind limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tightloop::{
    Action, CloseReason, Conn, ConnId, Context, Datagram, Direction, Endpoint, Handler, Input,
};

/// What handlers see of their connections, to be compared with what the server counts.
#[derive(Default)]
pub struct Tally {
    pub opened: AtomicU64,
    pub closed: AtomicU64,
    /// States that were dropped without an `on_close`.
    pub lost: AtomicU64,
    /// Writes of other threads that were accepted, and their calls back.
    pub writes: AtomicU64,
    pub done: AtomicU64,
}

/// Part of every state: it must come back in `on_close`.
pub struct Seen {
    tally: Arc<Tally>,
    is_closed: bool,
}

impl Seen {
    pub fn new(tally: &Arc<Tally>) -> Seen {
        tally.opened.fetch_add(1, Relaxed);
        Seen { tally: Arc::clone(tally), is_closed: false }
    }

    pub fn close(mut self) {
        self.tally.closed.fetch_add(1, Relaxed);
        self.is_closed = true;
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if !self.is_closed {
            self.tally.lost.fetch_add(1, Relaxed);
        }
    }
}

/// Sends back what comes, also after the peer has closed its side.
pub struct Echo(pub Arc<Tally>);

impl Handler for Echo {
    type State = Seen;

    fn on_open(&mut self, _: &mut Conn<'_>) -> Seen {
        Seen::new(&self.0)
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut Seen, input: &mut Input<'_>) -> Action {
        conn.write(input.take_all());
        Action::Continue
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        datagram.reply(datagram.payload());
        Action::Continue
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, _: &mut Seen) -> Action {
        conn.shutdown_write();
        Action::Continue
    }

    fn on_close(&mut self, _: &mut Conn<'_>, state: Seen, _: CloseReason) {
        state.close();
    }
}

/// Sends numbered lines to everybody on every tick. A line from the peer is the size of its own.
pub struct Push(pub Arc<Tally>);

pub struct Subscriber {
    seen: Seen,
    number: u64,
    size: usize,
}

impl Handler for Push {
    type State = Subscriber;

    fn on_open(&mut self, _: &mut Conn<'_>) -> Subscriber {
        Subscriber { seen: Seen::new(&self.0), number: 0, size: 100 }
    }

    fn on_traffic(
        &mut self,
        _: &mut Conn<'_>,
        state: &mut Subscriber,
        input: &mut Input<'_>,
    ) -> Action {
        let Some(end) = input.as_slice().iter().position(|&byte| byte == b'\n') else {
            return Action::Continue;
        };
        let line = input.take(end + 1).unwrap_or_default();
        match String::from_utf8_lossy(line).trim().parse() {
            Ok(size) => state.size = size,
            Err(_) => return Action::Close,
        }
        Action::Continue
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        cx.for_each(|conn, state| {
            conn.write(format!("t{:0>size$}\n", state.number, size = state.size).as_bytes());
            state.number += 1;
        });
        Some(Duration::from_millis(20))
    }

    fn on_close(&mut self, _: &mut Conn<'_>, state: Subscriber, _: CloseReason) {
        state.seen.close();
    }
}

/// Forwards between each connection and the one it made, or was made for.
pub struct Proxy {
    pub tally: Arc<Tally>,
    pub to: Endpoint,
}

pub struct Side {
    seen: Seen,
    /// The other side; none where it could not be asked for.
    other: Option<ConnId>,
}

impl Handler for Proxy {
    type State = Side;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> Side {
        let other = match conn.direction() {
            Direction::Incoming => conn.connect(&self.to).ok(),
            Direction::Outgoing => conn.initiator(),
        };
        if other.and_then(|other| conn.peer(other)).is_none() {
            conn.close();
        }
        Side { seen: Seen::new(&self.tally), other }
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        side: &mut Side,
        input: &mut Input<'_>,
    ) -> Action {
        let Some(mut other) = side.other.and_then(|other| conn.peer(other)) else {
            return Action::Close;
        };
        if other.write(input.take_all()) > 64 << 10 {
            conn.pause_reading();
        }
        Action::Continue
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, side: &mut Side) -> Action {
        if let Some(mut other) = side.other.and_then(|other| conn.peer(other)) {
            other.resume_reading();
        }
        Action::Continue
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, side: &mut Side) -> Action {
        let Some(mut other) = side.other.and_then(|other| conn.peer(other)) else {
            return Action::Close;
        };
        other.shutdown_write();
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, side: Side, _: CloseReason) {
        side.seen.close();
        if let Some(mut other) = side.other.and_then(|other| conn.peer(other)) {
            other.close();
        }
    }

    fn on_open_failed(&mut self, conn: &mut Conn<'_>, _: CloseReason) {
        if let Some(mut client) = conn.initiator().and_then(|client| conn.peer(client)) {
            client.close();
        }
    }
}

/// Takes whole messages only (a length of four bytes in front) and answers with their sum; a
/// length of zero is never consumed.
pub struct Collector(pub Arc<Tally>);

impl Handler for Collector {
    type State = Seen;

    fn on_open(&mut self, _: &mut Conn<'_>) -> Seen {
        Seen::new(&self.0)
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut Seen, input: &mut Input<'_>) -> Action {
        let Some(head) = input.peek(4) else { return Action::Continue };
        let length = head.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        if length > 0 && input.len() >= 4 + length {
            let body = &input.take(4 + length).unwrap_or_default()[4..];
            conn.write(&sum(body).to_be_bytes());
        }
        Action::Continue
    }

    fn on_close(&mut self, _: &mut Conn<'_>, state: Seen, _: CloseReason) {
        state.close();
    }
}

/// The collector's answer.
pub fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}
