//! What the loops and the main thread share, and what a loop's handler is made from.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tightloop::{Conn, ConnId, Connect, Context, Handler};

use super::broadcast::Publication;
use super::clock::Clock;
use super::faults::Faults;
use super::meter::Totals;
use super::plan::Plan;

/// How far one loop is, for others to see. Written by the loop only.
#[derive(Debug, Default)]
pub struct LoopCounters {
    operations: AtomicU64,
    /// When the next request is due that could be sent at once; 0 where there is none.
    next_due_ns: AtomicU64,
}

impl LoopCounters {
    #[inline]
    pub fn set_operations(&self, operations: u64) {
        self.operations.store(operations, Ordering::Relaxed);
    }

    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn set_next_due_ns(&self, due_ns: u64) {
        self.next_due_ns.store(due_ns, Ordering::Relaxed);
    }

    pub fn next_due_ns(&self) -> u64 {
        self.next_due_ns.load(Ordering::Relaxed)
    }
}

/// What all loops share.
#[derive(Debug, Default)]
pub struct Shared {
    pub faults: Faults,
    /// Connections that were opened for the first time.
    pub opened: AtomicUsize,
    /// Loops that are ready to go.
    pub ready: AtomicUsize,
    /// For a broadcast.
    pub publication: Publication,
    ends_early: AtomicBool,
    ended_by: Mutex<Option<String>>,
    ended: AtomicBool,
}

impl Shared {
    /// Ends the load before its time, for this reason; the first one counts.
    pub fn give_up(&self, reason: impl FnOnce() -> String) {
        let mut ended_by = self.ended_by.lock().unwrap_or_else(PoisonError::into_inner);
        ended_by.get_or_insert_with(reason);
        self.ended.store(true, Ordering::Release);
    }

    /// Ends the load before its time, with the results until then.
    pub fn end_early(&self) {
        self.ends_early.store(true, Ordering::Release);
    }

    pub fn ends_early(&self) -> bool {
        self.ends_early.load(Ordering::Acquire)
    }

    /// Why the load has ended before its time, if it has.
    pub fn given_up(&self) -> Option<String> {
        if !self.ended.load(Ordering::Acquire) {
            return None;
        }
        self.ended_by.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the handler of one loop is made from.
#[derive(Clone)]
pub struct Seat {
    pub plan: Arc<Plan>,
    pub shared: Arc<Shared>,
    pub counters: Arc<LoopCounters>,
    pub clock: Clock,
    pub loop_index: usize,
    pub loops: usize,
}

impl Seat {
    /// The connections of this loop.
    pub fn connections(&self) -> usize {
        self.plan.share(self.plan.connections, self.loop_index)
    }

    /// The number of a connection of this loop among all.
    pub fn number(&self, slot: u32) -> u64 {
        u64::from(slot) * self.loops as u64 + self.loop_index as u64
    }
}

/// A handler that puts load on a server. The main thread calls these as jobs on the loop.
pub trait Load: Handler {
    /// Begins with the requests.
    fn go(&mut self, cx: &mut Context<'_, Self>);

    /// The window begins.
    fn begin_window(&mut self);

    /// The window ends: no further request is begun, those under way are waited for.
    fn end_window(&mut self, cx: &mut Context<'_, Self>);

    /// Sends what is due in an open loop.
    fn send_due(&mut self, cx: &mut Context<'_, Self>);

    /// Sends nothing any more of what was due in the window: it counts with the time it has waited.
    fn drop_due(&mut self);

    /// Whether nothing is under way any more.
    fn is_quiet(&self) -> bool;

    /// Gives up what is under way and answers the results.
    fn finish(&mut self) -> Totals;
}

/// From a callback to other connections of its loop: by the connection whose callback it is, or by
/// the loop's context.
pub trait Reach {
    /// Calls `act` with this connection; false if it cannot be written to any more. What it writes
    /// leaves when the running callback returns.
    fn reach(&mut self, id: ConnId, act: impl FnOnce(&mut Conn<'_>)) -> bool;

    /// Starts a connection.
    fn dial(&mut self, connect: Connect) -> tightloop::Result<ConnId>;
}

impl Reach for Conn<'_> {
    fn reach(&mut self, id: ConnId, act: impl FnOnce(&mut Conn<'_>)) -> bool {
        if id == self.id() {
            act(self);
            return true;
        }
        let Some(mut conn) = self.peer(id) else { return false };
        act(&mut conn);
        conn.flush();
        true
    }

    fn dial(&mut self, connect: Connect) -> tightloop::Result<ConnId> {
        self.connect(connect)
    }
}

impl<H: Handler> Reach for Context<'_, H> {
    fn reach(&mut self, id: ConnId, act: impl FnOnce(&mut Conn<'_>)) -> bool {
        let Some((mut conn, _)) = self.conn(id) else { return false };
        act(&mut conn);
        true
    }

    fn dial(&mut self, connect: Connect) -> tightloop::Result<ConnId> {
        self.connect(connect)
    }
}
