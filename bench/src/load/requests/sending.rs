//! Which connection is sent the next request, and when.

use super::super::flow::Flow;
use super::super::options::Work;
use super::super::protocol::{Place, Protocol};
use super::super::shared::Reach;
use super::{Requests, Stage};

impl<P: Protocol> Requests<P> {
    /// Writes `count` requests to a connection, for which there is room. False if it is closing.
    /// They were to begin at `begun_ns`, which in an open loop may be long ago.
    #[inline]
    pub(super) fn ask(
        &mut self,
        reach: &mut impl Reach,
        index: u32,
        count: usize,
        begun_ns: u64,
        now_ns: u64,
    ) -> bool {
        let slot = &mut self.slots[index as usize];
        let Some(id) = slot.id else { return false };
        let (protocol, first) = (&mut self.protocol, slot.written);
        let connection = self.seat.number(index);
        let is_written = reach.reach(id, |conn| {
            protocol.write(conn, Place { connection, sequence: first }, count);
        });
        if !is_written {
            return false;
        }
        for sequence in first..first + count as u64 {
            let place = self.place(index, sequence);
            self.begun_ns[place] = begun_ns;
        }
        let slot = &mut self.slots[index as usize];
        if slot.written == slot.answered {
            slot.awaited_since_ns = now_ns;
        }
        slot.written += count as u64;
        self.under_way += count;
        true
    }

    /// Where the beginning of a request is kept.
    #[inline]
    pub(super) fn place(&self, index: u32, sequence: u64) -> usize {
        match self.pipeline {
            1 => index as usize,
            pipeline => index as usize * pipeline + (sequence % pipeline as u64) as usize,
        }
    }

    #[inline]
    pub(super) fn room(&self, index: u32) -> usize {
        let slot = &self.slots[index as usize];
        if slot.id.is_none() { 0 } else { self.pipeline - (slot.written - slot.answered) as usize }
    }

    /// Has a connection that has room do its part.
    pub(super) fn employ(&mut self, reach: &mut impl Reach, index: u32, now_ns: u64) {
        match self.stage {
            Stage::Opening | Stage::Waiting => {}
            Stage::Preparing => self.prepare(reach, index),
            Stage::Going | Stage::Ending if self.work == Work::Idle => self.ask_idle(reach),
            Stage::Going | Stage::Ending => self.send(reach, index, now_ns),
        }
    }

    #[inline]
    pub(super) fn send(&mut self, reach: &mut impl Reach, index: u32, now_ns: u64) {
        let room = self.room(index);
        let is_going = self.stage == Stage::Going;
        match &mut self.flow {
            Flow::Closed => {
                if is_going && room > 0 {
                    self.ask(reach, index, room, now_ns, now_ns);
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
    pub(super) fn welcome(&mut self, reach: &mut impl Reach, index: u32) {
        let now_ns = self.seat.clock.now_ns();
        if self.work == Work::Churn {
            // An operation begins with connecting.
            let dialled_ns = self.slots[index as usize].dialled_ns;
            self.ask(reach, index, 1, dialled_ns, now_ns);
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
    pub(super) fn send_to_another(&mut self, reach: &mut impl Reach, now_ns: u64) {
        while self.stage == Stage::Going {
            let Flow::Active { idle, random, vacant } = &mut self.flow else { return };
            if idle.is_empty() {
                *vacant += 1;
                return;
            }
            let chosen = idle.swap_remove(random.below(idle.len()));
            if self.ask(reach, chosen, self.pipeline, now_ns, now_ns) {
                return;
            }
        }
    }

    /// Sends all requests that are due, as long as there are connections with room.
    pub(super) fn send_what_is_due(&mut self, reach: &mut impl Reach, now_ns: u64) {
        loop {
            let Flow::Open { schedule, free, is_queued } = &mut self.flow else { return };
            let Some(&index) = free.front() else { break };
            let Some(due_ns) = schedule.take(now_ns) else { break };
            free.pop_front();
            is_queued[index as usize] = false;
            if !self.ask(reach, index, 1, due_ns, now_ns) {
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
    pub(super) fn prepare(&mut self, reach: &mut impl Reach, index: u32) {
        let Some(id) = self.slots[index as usize].id else { return };
        if self.begun == self.to_do || self.room(index) < self.pipeline {
            return;
        }
        let (protocol, loops) = (&mut self.protocol, self.seat.plan.loops as u64);
        let key = self.begun * loops + self.seat.loop_index as u64;
        if reach.reach(id, |conn| protocol.prepare(conn, key)) {
            let now_ns = self.seat.clock.now_ns();
            let slot = &mut self.slots[index as usize];
            slot.written += 1;
            slot.awaited_since_ns = now_ns;
            self.under_way += 1;
            self.begun += 1;
        }
    }

    /// Asks the next idle connection for its echo.
    pub(super) fn ask_idle(&mut self, reach: &mut impl Reach) {
        while self.stage == Stage::Ending && self.begun < self.to_do {
            let next = self.begun as u32;
            self.begun += 1;
            // One that is closed has been counted as an error already.
            let now_ns = self.seat.clock.now_ns();
            if self.ask(reach, next, 1, now_ns, now_ns) {
                return;
            }
        }
    }
}
