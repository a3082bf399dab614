//! Requests and replies on streams: a handler for every protocol and every kind of load.
//!
//! ```text
//!   opening --> preparing --> waiting --> going --> ending
//! ```
//! Each connection has a slot, which outlives it: one that was closed is made again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tightloop::{Action, CloseReason, Conn, ConnId, Context, Handler, Input};

use super::dialer::Dialer;
use super::faults::{Kind, closing};
use super::flow::Flow;
use super::meter::{Meter, Totals};
use super::options::Work;
use super::protocol::{Place, Protocol, Reply};
use super::schedule::Schedule;
use super::shared::{Load, Reach, Seat};

/// How often it is looked whether a reply is overdue, or a connection is to be made again.
const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// Idle connections that are asked for their echo at a time.
const ASKED_AT_A_TIME: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Preparing,
    Waiting,
    Going,
    Ending,
}

/// The load of one loop.
pub struct Requests<P: Protocol> {
    seat: Seat,
    work: Work,
    stage: Stage,
    protocol: P,
    dialer: Dialer,
    slots: Vec<Slot<P::Progress>>,
    /// When the requests under way were to begin: a ring of `pipeline` for each slot.
    begun_ns: Vec<u64>,
    pipeline: usize,
    flow: Flow,
    meter: Meter,
    /// Requests under way on all connections.
    under_way: usize,
    /// The preparations, or idle connections asked, that were begun: up to `to_do`.
    begun: u64,
    to_do: u64,
}

struct Slot<Progress> {
    /// The connection, while it is open.
    id: Option<ConnId>,
    /// Requests written since the load began, and those of them that are over.
    /// Invariant: `answered <= written <= answered + pipeline`.
    written: u64,
    answered: u64,
    progress: Progress,
    /// It ends by our will, or as the server has said.
    ends_in_order: bool,
    /// When the connection was begun.
    dialled_ns: u64,
}

impl<P: Protocol> Requests<P> {
    pub fn new(seat: Seat, protocol: P) -> Self {
        let count = seat.connections();
        let plan = &seat.plan;
        let slot = |_| Slot {
            id: None,
            written: 0,
            answered: 0,
            progress: P::Progress::default(),
            ends_in_order: false,
            dialled_ns: 0,
        };
        Requests {
            work: plan.work,
            stage: Stage::Opening,
            protocol,
            dialer: Dialer::new(seat.clone()),
            slots: (0..count).map(slot).collect(),
            begun_ns: vec![0; count * plan.pipeline],
            pipeline: plan.pipeline,
            flow: Flow::Closed,
            meter: Meter::new(seat.counters.clone()),
            under_way: 0,
            begun: 0,
            to_do: 0,
            seat,
        }
    }

    // ---- sending ------------------------------------------------------------------------

    /// Writes `count` requests to a connection, for which there is room. False if it is closing.
    #[inline]
    fn ask(&mut self, reach: &mut impl Reach, index: u32, count: usize, begun_ns: u64) -> bool {
        let slot = &mut self.slots[index as usize];
        let Some(id) = slot.id else { return false };
        let (protocol, first) = (&mut self.protocol, slot.written);
        let connection = self.seat.number(index);
        let is_written = reach.reach(id, |conn| {
            for sequence in first..first + count as u64 {
                protocol.write(conn, Place { connection, sequence });
            }
        });
        if !is_written {
            return false;
        }
        for sequence in first..first + count as u64 {
            let place = self.place(index, sequence);
            self.begun_ns[place] = begun_ns;
        }
        self.slots[index as usize].written += count as u64;
        self.under_way += count;
        true
    }

    /// Where the beginning of a request is kept.
    #[inline]
    fn place(&self, index: u32, sequence: u64) -> usize {
        match self.pipeline {
            1 => index as usize,
            pipeline => index as usize * pipeline + (sequence % pipeline as u64) as usize,
        }
    }

    #[inline]
    fn room(&self, index: u32) -> usize {
        let slot = &self.slots[index as usize];
        if slot.id.is_none() { 0 } else { self.pipeline - (slot.written - slot.answered) as usize }
    }

    /// Has a connection that has room do its part.
    fn employ(&mut self, reach: &mut impl Reach, index: u32, now_ns: u64) {
        match self.stage {
            Stage::Opening | Stage::Waiting => {}
            Stage::Preparing => self.prepare(reach, index),
            Stage::Going | Stage::Ending if self.work == Work::Idle => self.ask_idle(reach),
            Stage::Going | Stage::Ending => self.send(reach, index, now_ns),
        }
    }

    #[inline]
    fn send(&mut self, reach: &mut impl Reach, index: u32, now_ns: u64) {
        let room = self.room(index);
        let is_going = self.stage == Stage::Going;
        match &mut self.flow {
            Flow::Closed => {
                if is_going && room > 0 {
                    self.ask(reach, index, room, now_ns);
                }
            }
            Flow::Active { idle, .. } => {
                if room == self.pipeline {
                    idle.push(index);
                    self.send_to_another(reach, now_ns);
                }
            }
            Flow::Open { free, is_queued, .. } => {
                if room > 0 && !std::mem::replace(&mut is_queued[index as usize], true) {
                    free.push_back(index);
                }
                self.send_what_is_due(reach, now_ns);
            }
        }
    }

    /// A connection was made again in the middle of the load.
    fn welcome(&mut self, reach: &mut impl Reach, index: u32) {
        let now_ns = self.seat.clock.now_ns();
        if self.work == Work::Churn {
            // An operation begins with connecting.
            let dialled_ns = self.slots[index as usize].dialled_ns;
            self.ask(reach, index, 1, dialled_ns);
        } else if let Flow::Active { idle, vacant, .. } = &mut self.flow {
            idle.push(index);
            if *vacant > 0 {
                *vacant -= 1;
                self.send_to_another(reach, now_ns);
            }
        } else {
            self.employ(reach, index, now_ns);
        }
    }

    /// Sends the next batch to a connection that is chosen at random.
    fn send_to_another(&mut self, reach: &mut impl Reach, now_ns: u64) {
        while self.stage == Stage::Going {
            let Flow::Active { idle, random, vacant } = &mut self.flow else { return };
            if idle.is_empty() {
                *vacant += 1;
                return;
            }
            let chosen = idle.swap_remove(random.below(idle.len()));
            if self.ask(reach, chosen, self.pipeline, now_ns) {
                return;
            }
        }
    }

    /// Sends all requests that are due, as long as there are connections with room.
    fn send_what_is_due(&mut self, reach: &mut impl Reach, now_ns: u64) {
        loop {
            let Flow::Open { schedule, free, is_queued } = &mut self.flow else { return };
            let Some(&index) = free.front() else { break };
            let Some(due_ns) = schedule.take(now_ns) else { break };
            free.pop_front();
            is_queued[index as usize] = false;
            if !self.ask(reach, index, 1, due_ns) {
                // It comes back when its connection is open again.
                let Flow::Open { schedule, .. } = &mut self.flow else { return };
                schedule.give_back();
                continue;
            }
            let has_room = self.room(index) > 0;
            let Flow::Open { free, is_queued, .. } = &mut self.flow else { return };
            if has_room {
                free.push_back(index);
                is_queued[index as usize] = true;
            }
        }
        let Flow::Open { schedule, free, .. } = &self.flow else { return };
        let next_ns = if free.is_empty() { u64::MAX } else { schedule.next_ns() };
        self.seat.counters.set_next_due_ns(next_ns);
    }

    /// Makes the next preparation on this connection.
    fn prepare(&mut self, reach: &mut impl Reach, index: u32) {
        let Some(id) = self.slots[index as usize].id else { return };
        if self.begun == self.to_do || self.room(index) < self.pipeline {
            return;
        }
        let (protocol, loops) = (&mut self.protocol, self.seat.plan.loops as u64);
        let key = self.begun * loops + self.seat.loop_index as u64;
        if reach.reach(id, |conn| protocol.prepare(conn, key)) {
            let now_ns = self.seat.clock.now_ns();
            let slot = &mut self.slots[index as usize];
            let sequence = slot.written;
            slot.written += 1;
            let place = self.place(index, sequence);
            self.begun_ns[place] = now_ns;
            self.under_way += 1;
            self.begun += 1;
        }
    }

    /// Asks the next idle connection for its echo.
    fn ask_idle(&mut self, reach: &mut impl Reach) {
        while self.stage == Stage::Ending && self.begun < self.to_do {
            let next = self.begun as u32;
            self.begun += 1;
            // One that is closed has been counted as an error already.
            if self.ask(reach, next, 1, self.seat.clock.now_ns()) {
                return;
            }
        }
    }

    // ---- receiving ----------------------------------------------------------------------

    /// Reads the replies that there are: answers how many are whole, and whether the connection
    /// ends.
    #[inline]
    fn read(&mut self, index: u32, input: &mut Input<'_>) -> Result<(usize, bool), String> {
        let connection = self.seat.number(index);
        let slot = &mut self.slots[index as usize];
        let (mut whole, mut is_last) = (0, false);
        while !input.is_empty() && !is_last {
            let sequence = slot.answered + whole as u64;
            if sequence == slot.written {
                return Err(format!("{} bytes that nobody asked for", input.len()));
            }
            let place = Place { connection, sequence };
            match self.protocol.read(&mut slot.progress, place, input) {
                Ok(Reply::Whole) => whole += 1,
                Ok(Reply::Last) => (whole, is_last) = (whole + 1, true),
                Ok(Reply::Partial) => break,
                Err(wrong) => return Err(wrong.what),
            }
        }
        Ok((whole, is_last))
    }

    /// Counts the first `whole` requests of a connection as done.
    #[inline]
    fn count(&mut self, index: u32, whole: usize, now_ns: u64) {
        let first = self.slots[index as usize].answered;
        self.slots[index as usize].answered += whole as u64;
        self.under_way -= whole;
        if self.stage == Stage::Preparing {
            return;
        }
        for sequence in first..first + whole as u64 {
            self.meter.done(self.begun_ns[self.place(index, sequence)], now_ns);
        }
        self.meter.publish();
    }

    /// A connection has failed under load: it is closed, and made again in a while.
    #[cold]
    fn fail(&mut self, conn: &mut Conn<'_>, index: u32, kind: Kind, what: &str) {
        let number = self.seat.number(index);
        self.seat.shared.faults.add(kind, || format!("connection {number}: {what}"));
        self.slots[index as usize].ends_in_order = true; // counted already
        self.dialer.rest(index);
        conn.abort();
    }

    /// The requests under way on a connection are lost with it.
    fn forget(&mut self, index: u32) -> usize {
        let slot = &mut self.slots[index as usize];
        let lost = (slot.written - slot.answered) as usize;
        slot.answered = slot.written;
        slot.progress = P::Progress::default();
        slot.id = None;
        self.under_way -= lost;
        lost
    }

    // ---- stages -------------------------------------------------------------------------

    /// All connections are open.
    fn all_open(&mut self, reach: &mut impl Reach) {
        let (all, loops) = (self.protocol.preparations(), self.seat.plan.loops as u64);
        let index = self.seat.loop_index as u64;
        self.to_do = all / loops + u64::from(index < all % loops);
        self.stage = Stage::Preparing;
        for slot in 0..self.slots.len() as u32 {
            self.prepare(reach, slot);
        }
        self.end_preparing();
    }

    fn end_preparing(&mut self) {
        if self.stage == Stage::Preparing && self.begun == self.to_do && self.under_way == 0 {
            self.stage = Stage::Waiting;
            self.protocol.prepared();
            self.seat.shared.ready.fetch_add(1, Ordering::Release);
        }
    }

    fn keep_house(&mut self, cx: &mut Context<'_, Self>) {
        let now_ns = self.seat.clock.now_ns();
        if self.stage != Stage::Ending {
            self.dialer.dial_rested(cx, now_ns);
        }
        let timeout_ns = self.seat.plan.timeout.as_nanos() as u64;
        for index in 0..self.slots.len() as u32 {
            let slot = &self.slots[index as usize];
            let Some(id) = slot.id else { continue };
            if slot.written == slot.answered {
                continue;
            }
            let oldest_ns = self.begun_ns[self.place(index, slot.answered)];
            if now_ns.saturating_sub(oldest_ns) <= timeout_ns {
                continue;
            }
            if self.stage == Stage::Preparing {
                let what = "the server does not answer what comes before the load";
                self.seat.shared.give_up(|| what.to_owned());
            }
            if let Some((mut conn, _)) = cx.conn(id) {
                let what = format!("no reply for {:?}", self.seat.plan.timeout);
                self.fail(&mut conn, index, Kind::Timeout, &what);
            }
        }
    }
}

impl<P: Protocol> Handler for Requests<P> {
    type State = u32;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> u32 {
        // Every connection of this client comes from the dialer.
        let Some((index, dialled_ns)) = self.dialer.opened(conn, conn.id()) else {
            conn.abort();
            return u32::MAX;
        };
        let slot = &mut self.slots[index as usize];
        slot.id = Some(conn.id());
        slot.ends_in_order = false;
        slot.dialled_ns = dialled_ns;
        match self.stage {
            Stage::Opening if self.dialer.is_complete() => self.all_open(conn),
            Stage::Going => self.welcome(conn, index),
            _ => {}
        }
        index
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        index: &mut u32,
        input: &mut Input<'_>,
    ) -> Action {
        let index = *index;
        let read = self.read(index, input);
        self.meter.received(input.consumed());
        let (whole, is_last) = match read {
            Ok((0, _)) => return Action::Continue,
            Ok(read) => read,
            Err(what) => {
                input.take_all();
                self.fail(conn, index, Kind::WrongBytes, &what);
                return Action::Continue;
            }
        };
        let now_ns = self.seat.clock.now_ns();
        if self.work == Work::Churn {
            // Counted when it is closed.
            self.slots[index as usize].ends_in_order = true;
            return Action::Close;
        }
        self.count(index, whole, now_ns);
        if is_last {
            self.slots[index as usize].ends_in_order = self.room(index) == self.pipeline;
            return Action::Close;
        }
        self.employ(conn, index, now_ns);
        self.end_preparing();
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, index: u32, reason: CloseReason) {
        if index as usize >= self.slots.len() || matches!(reason, CloseReason::ServerStopped) {
            return;
        }
        let slot = &mut self.slots[index as usize];
        let in_order = slot.ends_in_order && matches!(reason, CloseReason::Local);
        let is_counted = slot.ends_in_order;
        if self.work == Work::Churn && in_order {
            let now_ns = self.seat.clock.now_ns();
            self.count(index, 1, now_ns);
        }
        let lost = self.forget(index);
        if in_order {
            if self.stage != Stage::Ending {
                self.dialer.dial(conn, index);
            }
        } else if !is_counted {
            let number = self.seat.number(index);
            let what = || format!("connection {number}: {}", closing(&reason));
            self.seat.shared.faults.add(Kind::Closed, what);
            self.dialer.rest(index);
        }
        let now_ns = self.seat.clock.now_ns();
        match self.flow {
            Flow::Active { .. } if lost > 0 => self.send_to_another(conn, now_ns),
            _ if self.work == Work::Idle && lost > 0 => self.ask_idle(conn),
            _ => {}
        }
        if self.stage == Stage::Preparing {
            self.seat.shared.give_up(|| "the server closed a connection before the load".into());
        }
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

impl<P: Protocol> Load for Requests<P> {
    fn go(&mut self, cx: &mut Context<'_, Self>) {
        self.stage = Stage::Going;
        let plan = &self.seat.plan;
        let (index, now_ns) = (self.seat.loop_index, self.seat.clock.now_ns());
        if let Some(rate) = plan.rate {
            let schedule = Schedule::new(rate, now_ns, index, plan.loops);
            self.flow = Flow::open(schedule, self.slots.len());
        } else if let Some(active) = plan.active {
            let active = plan.share(active, index);
            self.flow = Flow::active(index);
            if let Flow::Active { idle, .. } = &mut self.flow {
                idle.extend(0..self.slots.len() as u32);
            }
            for _ in 0..active {
                self.send_to_another(cx, now_ns);
            }
            return;
        }
        for index in 0..self.slots.len() as u32 {
            self.employ(cx, index, now_ns);
        }
    }

    fn begin_window(&mut self) {
        self.meter.begin_window(self.seat.clock.now_ns());
    }

    fn end_window(&mut self, cx: &mut Context<'_, Self>) {
        let now_ns = self.seat.clock.now_ns();
        self.meter.end_window(now_ns);
        self.stage = Stage::Ending;
        if let Flow::Open { schedule, .. } = &mut self.flow {
            schedule.end_at(now_ns);
        }
        if self.work == Work::Idle {
            self.meter.count_after_window();
            (self.begun, self.to_do) = (0, self.slots.len() as u64);
            for _ in 0..ASKED_AT_A_TIME.min(self.slots.len()) {
                self.ask_idle(cx);
            }
        }
    }

    fn send_due(&mut self, cx: &mut Context<'_, Self>) {
        self.send_what_is_due(cx, self.seat.clock.now_ns());
    }

    fn is_quiet(&self) -> bool {
        let has_due =
            matches!(&self.flow, Flow::Open { schedule, .. } if schedule.next_ns() != u64::MAX);
        self.under_way == 0 && !has_due
    }

    fn finish(&mut self) -> Totals {
        let now_ns = self.seat.clock.now_ns();
        // What is still under way took at least so long; without it, the worst would be left out.
        for index in 0..self.slots.len() as u32 {
            let slot = &self.slots[index as usize];
            for sequence in slot.answered..slot.written {
                self.meter.latency(self.begun_ns[self.place(index, sequence)], now_ns);
            }
        }
        if let Flow::Open { schedule, .. } = &mut self.flow {
            while let Some(due_ns) = schedule.take(now_ns) {
                self.meter.latency(due_ns, now_ns);
            }
        }
        if self.work == Work::Idle { self.meter.take_all() } else { self.meter.take() }
    }
}
