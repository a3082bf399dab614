//! One connection publishes, all receive: an operation is one delivery, and the next message is
//! published when all connections have the one before it. The publisher receives too.
//!
//! A server may have taken a connection over only after the client thinks it open. So the first
//! messages are probes, all alike, until every connection has received one whole.
//!
//! ```text
//!   opening --> probing --> waiting --> going --> ending
//! ```

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tightloop::{Action, CloseReason, Conn, ConnHandle, ConnId, Context, Handler, Input};

use super::dialer::Dialer;
use super::faults::{Kind, closing};
use super::meter::{Meter, Totals};
use super::payload::Pattern;
use super::shared::{Load, Reach, Seat};

/// A probe is sent again if not all connections have received one for so long.
const PROBE_AGAIN_NS: u64 = 1_000_000_000;
/// All probes have come when for so long none did.
const SILENCE_NS: u64 = 100_000_000;
const HOUSEKEEPING: Duration = Duration::from_millis(20);
/// The loop that has the publisher, as its first connection.
const PUBLISHING_LOOP: usize = 0;
/// Messages are one stream of the pattern, probes the beginning of another.
const MESSAGES: u64 = 0;
const PROBES: u64 = 1;

/// What the loops of a broadcast share.
#[derive(Debug, Default)]
pub struct Publication {
    /// Messages published; probes are none.
    published: AtomicU64,
    /// When the last one was.
    published_ns: AtomicU64,
    /// Connections that have received it whole; while probing, a probe.
    delivered: AtomicUsize,
    /// When a part of a probe came last.
    last_probe_ns: AtomicU64,
    publisher: Mutex<Option<ConnHandle>>,
}

/// The load of one loop.
pub struct Broadcast {
    seat: Seat,
    stage: Stage,
    dialer: Dialer,
    receivers: Vec<Receiver>,
    /// The publisher, on its own loop.
    publisher: Option<ConnId>,
    pattern: Pattern,
    size: usize,
    meter: Meter,
    /// When the first and the last probe were sent; 0 before.
    first_probe_ns: u64,
    probe_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Probing,
    Waiting,
    Going,
    Ending,
}

#[derive(Default, Clone, Copy)]
struct Receiver {
    /// It is closed by our will.
    is_counted: bool,
    /// Bytes of the messages; while probing, of the probes.
    received: u64,
}

impl Broadcast {
    pub fn new(seat: Seat) -> Self {
        Broadcast {
            stage: Stage::Opening,
            dialer: Dialer::new(seat.clone()),
            receivers: vec![Receiver::default(); seat.connections()],
            publisher: None,
            pattern: Pattern::new(seat.plan.size),
            size: seat.plan.size,
            meter: Meter::new(seat.counters.clone()),
            first_probe_ns: 0,
            probe_ns: 0,
            seat,
        }
    }

    fn publication(&self) -> &Publication {
        &self.seat.shared.publication
    }

    /// Publishes the next message; on the publisher's loop.
    fn publish(&mut self, reach: &mut impl Reach) {
        let Some(id) = self.publisher.filter(|_| self.stage == Stage::Going) else { return };
        let publication = &self.seat.shared.publication;
        let number = publication.published.load(Ordering::Relaxed);
        publication.delivered.store(0, Ordering::Relaxed);
        publication.published_ns.store(self.seat.clock.now_ns(), Ordering::Relaxed);
        // What is read of it on other loops comes behind the message, through the kernel.
        publication.published.store(number + 1, Ordering::Release);
        let (pattern, size) = (&self.pattern, self.size);
        let offset = number.wrapping_mul(size as u64);
        reach.reach(id, |conn| pattern.write(conn, MESSAGES, offset, size));
    }

    /// One more connection has the message; the last one of all brings the next message.
    fn deliver(&mut self, conn: &mut Conn<'_>) {
        let publication = self.publication();
        let now_ns = self.seat.clock.now_ns();
        let published_ns = publication.published_ns.load(Ordering::Relaxed);
        let delivered = publication.delivered.fetch_add(1, Ordering::AcqRel) + 1;
        self.meter.done(published_ns, now_ns, 1);
        self.meter.publish();
        if delivered < self.seat.plan.connections {
            return;
        }
        if self.publisher.is_some() {
            return self.publish(conn);
        }
        let publisher = self.publication().publisher.lock();
        let publisher = publisher.unwrap_or_else(std::sync::PoisonError::into_inner);
        // One that is gone has ended the load already.
        let _ = publisher.as_ref().map(ConnHandle::wake);
    }

    /// Checks what a connection has received of the probes.
    fn read_probe(&mut self, index: u32, got: &[u8]) -> Result<(), String> {
        let publication = &self.seat.shared.publication;
        publication.last_probe_ns.fetch_max(self.seat.clock.now_ns(), Ordering::Relaxed);
        let receiver = &mut self.receivers[index as usize];
        let mut rest = got;
        while !rest.is_empty() {
            let offset = (receiver.received % self.size as u64) as usize;
            let (piece, behind) = rest.split_at(rest.len().min(self.size - offset));
            self.pattern.check(PROBES, offset as u64, piece).map_err(|wrong| wrong.what)?;
            let had_one = receiver.received >= self.size as u64;
            receiver.received += piece.len() as u64;
            if !had_one && receiver.received >= self.size as u64 {
                publication.delivered.fetch_add(1, Ordering::AcqRel);
            }
            rest = behind;
        }
        Ok(())
    }

    /// Checks what a connection has received of a message: true if that was the last of it.
    fn read(&mut self, index: u32, got: &[u8]) -> Result<bool, String> {
        let published = self.publication().published.load(Ordering::Acquire);
        let receiver = &mut self.receivers[index as usize];
        let end = published.wrapping_mul(self.size as u64);
        let left = end.wrapping_sub(receiver.received);
        if got.len() as u64 > left {
            let more = got.len() as u64 - left;
            return Err(format!("{more} bytes that were not published (a message once more?)"));
        }
        self.pattern.check(MESSAGES, receiver.received, got).map_err(|wrong| wrong.what)?;
        receiver.received = receiver.received.wrapping_add(got.len() as u64);
        Ok(receiver.received == end)
    }

    /// Sends probes, until all have one and nothing more comes.
    fn probe(&mut self, cx: &mut Context<'_, Self>) {
        let now_ns = self.seat.clock.now_ns();
        let all = self.seat.plan.connections;
        let publication = self.publication();
        let probed = publication.delivered.load(Ordering::Acquire);
        let last_ns = publication.last_probe_ns.load(Ordering::Relaxed);
        if probed == all && now_ns.saturating_sub(last_ns) > SILENCE_NS {
            return self.end_probing();
        }
        let Some(id) = self.publisher.filter(|_| probed < all) else { return };
        if self.first_probe_ns == 0 {
            self.first_probe_ns = now_ns;
        } else if now_ns - self.first_probe_ns > self.seat.plan.timeout.as_nanos() as u64 {
            let what = || {
                format!(
                    "{probed} of {all} connections have received the first message after {:?}",
                    self.seat.plan.timeout
                )
            };
            self.seat.shared.faults.add(Kind::Timeout, what);
            return self.seat.shared.give_up(|| "this is no broadcast".to_owned());
        }
        if self.probe_ns == 0 || now_ns - self.probe_ns > PROBE_AGAIN_NS {
            self.probe_ns = now_ns;
            let (pattern, size) = (&self.pattern, self.size);
            cx.reach(id, |conn| pattern.write(conn, PROBES, 0, size));
        }
    }

    fn end_probing(&mut self) {
        for receiver in &mut self.receivers {
            if receiver.received % self.size as u64 != 0 {
                let what = "a connection has received only a part of the first message";
                return self.seat.shared.give_up(|| what.to_owned());
            }
            receiver.received = 0;
        }
        self.stage = Stage::Waiting;
        self.seat.shared.ready.fetch_add(1, Ordering::Release);
    }

    /// A message that does not reach all for too long ends the load.
    fn watch(&mut self) {
        let publication = self.publication();
        let delivered = publication.delivered.load(Ordering::Acquire);
        let since_ns = publication.published_ns.load(Ordering::Relaxed);
        let (all, timeout) = (self.seat.plan.connections, self.seat.plan.timeout);
        let waited_ns = self.seat.clock.now_ns().saturating_sub(since_ns);
        let is_mine = self.publisher.is_some() && since_ns != 0;
        if is_mine && delivered < all && waited_ns > timeout.as_nanos() as u64 {
            let what =
                || format!("{delivered} of {all} connections have a message after {timeout:?}");
            self.seat.shared.faults.add(Kind::Timeout, what);
            self.seat.shared.end_early();
        }
    }
}

impl Handler for Broadcast {
    type State = u32;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> u32 {
        // Every connection of this client comes from the dialer.
        let Some((index, _)) = self.dialer.opened(conn, conn.id()) else {
            conn.abort();
            return u32::MAX;
        };
        if self.seat.loop_index == PUBLISHING_LOOP && index == 0 {
            self.publisher = Some(conn.id());
            let mut publisher = match self.seat.shared.publication.publisher.lock() {
                Ok(publisher) => publisher,
                Err(poisoned) => poisoned.into_inner(),
            };
            *publisher = Some(conn.handle());
        }
        index
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        index: &mut u32,
        input: &mut Input<'_>,
    ) -> Action {
        let got = input.take_all();
        self.meter.received(got.len());
        let read = match self.stage {
            Stage::Opening | Stage::Probing => self.read_probe(*index, got).map(|()| false),
            _ => self.read(*index, got),
        };
        match read {
            Ok(true) => self.deliver(conn),
            Ok(false) => {}
            Err(what) => {
                let number = self.seat.number(*index);
                let describe = || format!("connection {number}: {what}");
                self.seat.shared.faults.add(Kind::WrongBytes, describe);
                self.receivers[*index as usize].is_counted = true;
                conn.abort();
            }
        }
        Action::Continue
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, _: &mut u32) -> Action {
        self.publish(conn);
        Action::Continue
    }

    fn on_close(&mut self, _conn: &mut Conn<'_>, index: u32, reason: CloseReason) {
        if matches!(reason, CloseReason::ServerStopped) {
            return;
        }
        let number = self.seat.number(index);
        if self.receivers.get(index as usize).is_some_and(|receiver| !receiver.is_counted) {
            let what = || format!("connection {number}: {}", closing(&reason));
            self.seat.shared.faults.add(Kind::Closed, what);
        }
        // No message can be complete any more.
        match self.stage {
            Stage::Going | Stage::Ending => self.seat.shared.end_early(),
            _ => self.seat.shared.give_up(|| "a connection ended before the load began".into()),
        }
    }

    fn on_open_failed(&mut self, conn: &mut Conn<'_>, reason: CloseReason) {
        self.dialer.failed(conn.id(), &reason);
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        match self.stage {
            Stage::Opening => {
                self.dialer.start(cx);
                let opened = self.seat.shared.opened.load(Ordering::Acquire);
                if opened == self.seat.plan.connections {
                    self.stage = Stage::Probing;
                }
            }
            Stage::Probing => self.probe(cx),
            Stage::Waiting | Stage::Ending => {}
            Stage::Going => self.watch(),
        }
        Some(HOUSEKEEPING)
    }
}

impl Load for Broadcast {
    fn go(&mut self, cx: &mut Context<'_, Self>) {
        self.stage = Stage::Going;
        self.publish(cx);
    }

    fn begin_window(&mut self) {
        self.meter.begin_window(self.seat.clock.now_ns());
    }

    fn end_window(&mut self, _: &mut Context<'_, Self>) {
        self.meter.end_window(self.seat.clock.now_ns());
        self.stage = Stage::Ending;
    }

    fn send_due(&mut self, _: &mut Context<'_, Self>) {}

    fn drop_due(&mut self) {}

    fn is_quiet(&self) -> bool {
        self.publication().delivered.load(Ordering::Acquire) == self.seat.plan.connections
    }

    fn finish(&mut self) -> Totals {
        let publication = &self.seat.shared.publication;
        let end = publication.published.load(Ordering::Acquire).wrapping_mul(self.size as u64);
        let published_ns = publication.published_ns.load(Ordering::Relaxed);
        let now_ns = self.seat.clock.now_ns();
        // Deliveries that are missing took at least so long.
        for _ in self.receivers.iter().filter(|receiver| receiver.received != end) {
            self.meter.latency(published_ns, now_ns);
        }
        self.meter.take()
    }
}
