//! From one stage of the load to the next, and what is looked after in all of them.

use std::sync::atomic::Ordering;

use tightloop::Context;

use super::super::faults::Kind;
use super::super::flow::Flow;
use super::super::meter::Totals;
use super::super::options::Work;
use super::super::protocol::Protocol;
use super::super::schedule::Schedule;
use super::super::shared::{Load, Reach};
use super::{Requests, Stage};

/// Idle connections that are asked for their echo at a time.
const ASKED_AT_A_TIME: usize = 64;

impl<P: Protocol> Requests<P> {
    /// All connections are open.
    pub(super) fn all_open(&mut self, reach: &mut impl Reach) {
        let (all, loops) = (self.protocol.preparations(), self.seat.plan.loops as u64);
        let index = self.seat.loop_index as u64;
        self.to_do = all / loops + u64::from(index < all % loops);
        self.stage = Stage::Preparing;
        for slot in 0..self.slots.len() as u32 {
            self.prepare(reach, slot);
        }
        self.end_preparing();
    }

    pub(super) fn end_preparing(&mut self) {
        if self.stage == Stage::Preparing && self.begun == self.to_do && self.under_way == 0 {
            self.stage = Stage::Waiting;
            self.protocol.prepared();
            self.seat.shared.ready.fetch_add(1, Ordering::Release);
        }
    }

    pub(super) fn keep_house(&mut self, cx: &mut Context<'_, Self>) {
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
            if now_ns.saturating_sub(slot.awaited_since_ns) <= timeout_ns {
                continue;
            }
            if self.stage == Stage::Preparing {
                let what = "the server does not answer what comes before the load";
                self.seat.shared.give_up(|| what.to_owned());
            }
            if let Some((mut conn, _)) = cx.conn(id) {
                if self.work == Work::Idle {
                    // The others would take their time too, one after the other.
                    self.to_do = self.begun;
                }
                let what = format!("no reply for {:?}", self.seat.plan.timeout);
                self.fail(&mut conn, index, Kind::Timeout, &what);
            }
        }
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

    fn drop_due(&mut self) {
        let now_ns = self.seat.clock.now_ns();
        if let Flow::Open { schedule, .. } = &mut self.flow {
            while let Some(due_ns) = schedule.take(now_ns) {
                self.meter.latency(due_ns, now_ns);
            }
        }
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
        self.drop_due();
        if self.work == Work::Idle { self.meter.take_all() } else { self.meter.take() }
    }
}
