//! Requests and replies on streams: a handler for every protocol and every kind of load.
//!
//! ```text
//!   opening --> preparing --> waiting --> going --> ending
//! ```
//! Each connection has a slot, which outlives it: one that was closed is made again.

use std::time::Duration;

use tightloop::{Action, CloseReason, Conn, ConnId, Context, Handler, Input};

use super::dialer::Dialer;
use super::faults::{Kind, closing};
use super::flow::Flow;
use super::meter::Meter;
use super::options::Work;
use super::protocol::{Place, Protocol, Replies};
use super::shared::Seat;

/// How often it is looked whether a reply is overdue, or a connection is to be made again.
const HOUSEKEEPING: Duration = Duration::from_millis(50);

mod sending;
mod stages;

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
    /// When the reply that is awaited became the next one: by its request, or by the reply before.
    awaited_since_ns: u64,
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
            awaited_since_ns: 0,
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

    /// Reads the replies that there are.
    #[inline]
    fn read(&mut self, index: u32, input: &mut Input<'_>) -> Result<Replies, String> {
        let connection = self.seat.number(index);
        let slot = &mut self.slots[index as usize];
        let mut all = Replies::NONE;
        while !input.is_empty() && !all.is_last {
            let sequence = slot.answered + all.whole as u64;
            let most = (slot.written - sequence) as usize;
            if most == 0 {
                return Err(format!("{} bytes that nobody asked for", input.len()));
            }
            let place = Place { connection, sequence };
            match self.protocol.read(&mut slot.progress, place, most, input) {
                Ok(Replies { whole: 0, .. }) => break,
                Ok(read) => {
                    all = Replies { whole: all.whole + read.whole, is_last: read.is_last };
                }
                Err(wrong) => return Err(wrong.what),
            }
        }
        Ok(all)
    }

    /// Counts the first `whole` requests of a connection, at least one, as done.
    #[inline]
    fn count(&mut self, index: u32, whole: usize, now_ns: u64) {
        let slot = &mut self.slots[index as usize];
        let first = slot.answered;
        slot.answered += whole as u64;
        slot.awaited_since_ns = now_ns;
        self.under_way -= whole;
        if self.stage == Stage::Preparing {
            return;
        }
        // Requests that were begun together are counted together.
        let (mut begun_ns, mut count) = (self.begun_ns[self.place(index, first)], 1);
        for sequence in first + 1..first + whole as u64 {
            let next_ns = self.begun_ns[self.place(index, sequence)];
            if next_ns != begun_ns {
                self.meter.done(begun_ns, now_ns, count);
                (begun_ns, count) = (next_ns, 0);
            }
            count += 1;
        }
        self.meter.done(begun_ns, now_ns, count);
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
        let Replies { whole, is_last } = match read {
            Ok(Replies { whole: 0, .. }) => return Action::Continue,
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
