//! UDP echo: each datagram under way has a lane of its own, so that one that is lost holds up no
//! other.
//!
//! A datagram begins with its number, as many bytes of it as it has room for, up to eight; the rest is
//! the pattern. The number modulo `pipeline` is the lane.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tightloop::{Action, CloseReason, Conn, ConnId, Context, Handler, Input};

use super::dialer::Dialer;
use super::faults::{Kind, closing};
use super::meter::{Meter, Totals};
use super::payload::{Pattern, difference};
use super::schedule::Schedule;
use super::shared::{Load, Reach, Seat};

/// Bytes of a datagram's number.
const NUMBER: usize = 8;
const HOUSEKEEPING: Duration = Duration::from_millis(50);

/// The load of one loop.
pub struct Datagrams {
    seat: Seat,
    stage: Stage,
    dialer: Dialer,
    sockets: Vec<Socket>,
    /// `pipeline` for each socket.
    lanes: Vec<Lane>,
    pipeline: usize,
    size: usize,
    pattern: Pattern,
    /// The datagram that is being written.
    datagram: Vec<u8>,
    /// In an open loop: the schedule, and the lanes with nothing under way.
    open_loop: Option<(Schedule, VecDeque<u32>)>,
    meter: Meter,
    under_way: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Waiting,
    Going,
    Ending,
}

struct Socket {
    /// While it is open.
    id: Option<ConnId>,
    /// Datagrams that were given up and whose reply may still come.
    late: u64,
    /// It is closed by our will.
    is_counted: bool,
}

#[derive(Clone, Copy)]
struct Lane {
    /// The number of the datagram that is under way, or of the next one.
    number: u64,
    /// When it was to be sent, and when it was.
    begun_ns: u64,
    sent_ns: u64,
    is_busy: bool,
}

impl Datagrams {
    pub fn new(seat: Seat) -> Self {
        let (count, plan) = (seat.connections(), &seat.plan);
        let pipeline = plan.pipeline;
        let lane = |index| Lane {
            number: (index % pipeline) as u64,
            begun_ns: 0,
            sent_ns: 0,
            is_busy: false,
        };
        Datagrams {
            stage: Stage::Opening,
            dialer: Dialer::new(seat.clone()),
            sockets: (0..count).map(|_| Socket { id: None, late: 0, is_counted: false }).collect(),
            lanes: (0..count * pipeline).map(lane).collect(),
            pipeline,
            size: plan.size,
            pattern: Pattern::new(plan.size),
            datagram: Vec::with_capacity(plan.size),
            open_loop: None,
            meter: Meter::new(seat.counters.clone()),
            under_way: 0,
            seat,
        }
    }

    /// Sends the next datagram of a lane that has none under way.
    fn send(&mut self, reach: &mut impl Reach, lane: u32, begun_ns: u64, now_ns: u64) -> bool {
        let socket = lane / self.pipeline as u32;
        let Some(id) = self.sockets[socket as usize].id else { return false };
        let number = self.lanes[lane as usize].number;
        fill(&mut self.datagram, &self.pattern, self.seat.number(socket), number, self.size);
        let datagram = &self.datagram;
        if !reach.reach(id, |conn| _ = conn.write(datagram)) {
            return false;
        }
        self.lanes[lane as usize] = Lane { number, begun_ns, sent_ns: now_ns, is_busy: true };
        self.under_way += 1;
        true
    }

    /// Has a free lane do its part.
    fn employ(&mut self, reach: &mut impl Reach, lane: u32, now_ns: u64) {
        if let Some((_, free)) = &mut self.open_loop {
            free.push_back(lane);
            self.send_what_is_due(reach, now_ns);
        } else if self.stage == Stage::Going {
            self.send(reach, lane, now_ns, now_ns);
        }
    }

    fn send_what_is_due(&mut self, reach: &mut impl Reach, now_ns: u64) {
        while let Some((schedule, free)) = &mut self.open_loop {
            let Some(&lane) = free.front() else { break };
            let Some(due_ns) = schedule.take(now_ns) else { break };
            free.pop_front();
            // Otherwise the lane comes back with its socket.
            if !self.send(reach, lane, due_ns, now_ns)
                && let Some((schedule, _)) = &mut self.open_loop
            {
                schedule.give_back();
            }
        }
        if let Some((schedule, free)) = &self.open_loop {
            let next_ns = if free.is_empty() { u64::MAX } else { schedule.next_ns() };
            self.seat.counters.set_next_due_ns(next_ns);
        }
    }

    /// The datagram of a lane is no longer under way.
    fn release(&mut self, lane: u32) {
        let place = &mut self.lanes[lane as usize];
        place.is_busy = false;
        place.number += self.pipeline as u64;
        self.under_way -= 1;
    }

    /// Checks a reply: answers its lane, or `None` for one that comes too late.
    fn check(&mut self, index: u32, got: &[u8]) -> Result<Option<u32>, String> {
        if got.len() != self.size {
            return Err(format!("a datagram of {} bytes instead of {}", got.len(), self.size));
        }
        let connection = self.seat.number(index);
        let first = index as usize * self.pipeline;
        let count = got.len().min(NUMBER);
        let mut number = [0; NUMBER];
        number[..count].copy_from_slice(&got[..count]);
        let told = u64::from_le_bytes(number);
        let number = self.whole_number(first, told, count);
        let Some(lane) = number.map(|number| first + (number % self.pipeline as u64) as usize)
        else {
            let late = &mut self.sockets[index as usize].late;
            if *late == 0 {
                return Err(format!("datagram {told} that is not under way (once more?)"));
            }
            *late -= 1;
            return Ok(None);
        };
        let number = self.lanes[lane].number;
        let expected = self.pattern.slice(connection, offset_of(number, self.size), self.size);
        if got[count..] != expected[count..] {
            return Err(difference(count as u64, &expected[count..], &got[count..]).what);
        }
        Ok(Some(lane as u32))
    }

    /// The number of the datagram under way that begins with these bytes.
    fn whole_number(&self, first: usize, told: u64, count: usize) -> Option<u64> {
        let mask = if count == NUMBER { u64::MAX } else { (1 << (8 * count)) - 1 };
        let is_it = |lane: &&Lane| lane.is_busy && lane.number & mask == told;
        if count == NUMBER {
            let lane = &self.lanes[first + (told % self.pipeline as u64) as usize];
            return Some(lane).filter(is_it).map(|lane| lane.number);
        }
        self.lanes[first..first + self.pipeline].iter().find(is_it).map(|lane| lane.number)
    }

    /// Gives up datagrams that are overdue: they are lost, and their lanes go on.
    fn keep_house(&mut self, cx: &mut Context<'_, Self>) {
        let now_ns = self.seat.clock.now_ns();
        if self.stage != Stage::Ending {
            self.dialer.dial_rested(cx, now_ns);
        }
        let timeout_ns = self.seat.plan.timeout.as_nanos() as u64;
        for lane in 0..self.lanes.len() as u32 {
            let Lane { number, begun_ns, sent_ns, is_busy } = self.lanes[lane as usize];
            if !is_busy || now_ns.saturating_sub(sent_ns) <= timeout_ns {
                continue;
            }
            let socket = lane / self.pipeline as u32;
            let (connection, timeout) = (self.seat.number(socket), self.seat.plan.timeout);
            self.seat.shared.faults.add(Kind::Lost, || {
                format!("socket {connection}: datagram {number} is lost: no reply for {timeout:?}")
            });
            self.meter.latency(begun_ns, now_ns);
            self.sockets[socket as usize].late += 1;
            self.release(lane);
            self.employ(cx, lane, now_ns);
        }
    }

    /// A socket is gone, and what was under way on it. Its lanes come back with it.
    fn forget(&mut self, index: u32) {
        self.sockets[index as usize].id = None;
        let first = index * self.pipeline as u32;
        for lane in first..first + self.pipeline as u32 {
            if self.lanes[lane as usize].is_busy {
                self.release(lane);
            }
            if let Some((_, free)) = &mut self.open_loop {
                free.retain(|free| *free != lane);
            }
        }
    }

    fn lanes_of(&self, index: u32) -> std::ops::Range<u32> {
        let pipeline = self.pipeline as u32;
        index * pipeline..(index + 1) * pipeline
    }
}

/// Each datagram has a piece of the pattern of its own.
fn offset_of(number: u64, size: usize) -> u64 {
    number.wrapping_mul(size as u64)
}

fn fill(datagram: &mut Vec<u8>, pattern: &Pattern, connection: u64, number: u64, size: usize) {
    datagram.clear();
    datagram.extend_from_slice(pattern.slice(connection, offset_of(number, size), size));
    let count = size.min(NUMBER);
    datagram[..count].copy_from_slice(&number.to_le_bytes()[..count]);
}

impl Handler for Datagrams {
    type State = u32;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> u32 {
        // Every socket of this client comes from the dialer.
        let Some((index, _)) = self.dialer.opened(conn, conn.id()) else {
            conn.abort();
            return u32::MAX;
        };
        self.sockets[index as usize] = Socket { id: Some(conn.id()), late: 0, is_counted: false };
        if self.stage == Stage::Opening && self.dialer.is_complete() {
            self.stage = Stage::Waiting;
            self.seat.shared.ready.fetch_add(1, Ordering::Release);
        } else if self.stage == Stage::Going {
            let now_ns = self.seat.clock.now_ns();
            for lane in self.lanes_of(index) {
                self.employ(conn, lane, now_ns);
            }
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
        match self.check(*index, got) {
            Ok(None) => {}
            Ok(Some(lane)) => {
                let now_ns = self.seat.clock.now_ns();
                let begun_ns = self.lanes[lane as usize].begun_ns;
                self.release(lane);
                self.meter.done(begun_ns, now_ns, 1);
                self.meter.publish();
                self.employ(conn, lane, now_ns);
            }
            // The datagram that it should have been is missed when its time is over.
            Err(what) => {
                let number = self.seat.number(*index);
                let describe = || format!("socket {number}: {what}");
                self.seat.shared.faults.add(Kind::WrongBytes, describe);
            }
        }
        Action::Continue
    }

    fn on_close(&mut self, _conn: &mut Conn<'_>, index: u32, reason: CloseReason) {
        if index as usize >= self.sockets.len() || matches!(reason, CloseReason::ServerStopped) {
            return;
        }
        if !self.sockets[index as usize].is_counted {
            let number = self.seat.number(index);
            let what = || format!("socket {number}: {}", closing(&reason));
            self.seat.shared.faults.add(Kind::Closed, what);
        }
        self.forget(index);
        self.dialer.rest(index);
    }

    fn on_open_failed(&mut self, conn: &mut Conn<'_>, reason: CloseReason) {
        self.dialer.failed(conn.id(), &reason);
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        if self.stage == Stage::Opening {
            self.dialer.start(cx);
        }
        self.keep_house(cx);
        Some(HOUSEKEEPING.min(self.seat.plan.timeout / 2).max(Duration::from_millis(1)))
    }
}

impl Load for Datagrams {
    fn go(&mut self, cx: &mut Context<'_, Self>) {
        self.stage = Stage::Going;
        let now_ns = self.seat.clock.now_ns();
        if let Some(rate) = self.seat.plan.rate {
            let schedule = Schedule::new(rate, now_ns, self.seat.loop_index, self.seat.plan.loops);
            self.open_loop = Some((schedule, VecDeque::with_capacity(self.lanes.len())));
        }
        // One of each socket first, then the second of each: an open loop takes them in this order.
        for nth in 0..self.pipeline {
            for socket in 0..self.sockets.len() {
                let lane = (socket * self.pipeline + nth) as u32;
                if self.sockets[socket].id.is_some() {
                    self.employ(cx, lane, now_ns);
                }
            }
        }
    }

    fn begin_window(&mut self) {
        self.meter.begin_window(self.seat.clock.now_ns());
    }

    fn end_window(&mut self, _: &mut Context<'_, Self>) {
        let now_ns = self.seat.clock.now_ns();
        self.meter.end_window(now_ns);
        self.stage = Stage::Ending;
        if let Some((schedule, _)) = &mut self.open_loop {
            schedule.end_at(now_ns);
        }
    }

    fn send_due(&mut self, cx: &mut Context<'_, Self>) {
        self.send_what_is_due(cx, self.seat.clock.now_ns());
    }

    fn is_quiet(&self) -> bool {
        let has_due = self.open_loop.as_ref().is_some_and(|(s, _)| s.next_ns() != u64::MAX);
        self.under_way == 0 && !has_due
    }

    fn drop_due(&mut self) {
        let now_ns = self.seat.clock.now_ns();
        if let Some((schedule, _)) = &mut self.open_loop {
            while let Some(due_ns) = schedule.take(now_ns) {
                self.meter.latency(due_ns, now_ns);
            }
        }
    }

    fn finish(&mut self) -> Totals {
        let now_ns = self.seat.clock.now_ns();
        for lane in self.lanes.iter().filter(|lane| lane.is_busy) {
            self.meter.latency(lane.begun_ns, now_ns);
        }
        self.drop_due();
        self.meter.take()
    }
}
