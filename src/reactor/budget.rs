//! The memory budget: what the connections of all loops may hold together, in input that was not
//! consumed and output that was not sent.
//!
//! Each loop counts what its own connections hold, without atomics, and publishes the sum once a
//! turn; what the others have published is what it may not use itself. Above that, whoever holds
//! much is not read from until the loop is well below. Only connections that hold something come
//! by here: messages that are consumed and answered at once do not.
//!
//! A peer that has closed its side is read to the end, whatever it holds: it can send no more than
//! the kernel has of it already, and its end is what gives the memory back. A loop all of whose
//! memory is held by halves of messages whose senders are gone would otherwise stay so.

use std::time::Duration;

use crate::conn::core::{Timer, deadline};
use crate::conn::state::{ConnCore, Phase};
use crate::driver::{Driver, Token};
use crate::handler::Handler;
use crate::reactor::Reactor;
use crate::sys::hang_up::peer_has_closed;

/// How often a loop that holds connections back looks at what the others hold: they do not ring.
const LOOK: Duration = Duration::from_millis(100);

/// Whoever holds less is not worth holding back, as long as there are not so many of them that
/// they use up the budget together.
const SMALL_BYTES: usize = 4096;

/// In the unit of the pool's count, buffers and not what is in them: so half of all is always held
/// by those that hold more than half of the average.
fn holds(conn: &ConnCore) -> usize {
    conn.inbound.held() + conn.outbound.held()
}

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Holds a connection back where the budget is used up and it holds more than others, and
    /// lets it go when it holds nothing any more.
    pub(super) fn check_budget(&mut self, token: Token) {
        let is_over = self.core.pool.held() > self.core.allowance;
        let Some(conn) = self.core.table.get_mut(token) else { return };
        if conn.held_back {
            conn.held_back = !conn.inbound.is_empty() || !conn.outbound.is_empty();
            return;
        }
        if !is_over || conn.phase != Phase::Open {
            return;
        }
        let holds_much = holds(conn) > self.tolerated();
        if holds_much && !self.has_left(token) {
            let Some(conn) = self.core.table.get_mut(token) else { return };
            conn.held_back = true;
            let was_heard = conn.receiving;
            self.held_back.push(token);
            self.core.shared.metrics.budget_pauses.add(1);
            if !was_heard {
                // Its silence, which did not count, counts from now: see `silence`.
                self.core.begin_hearing(token);
            }
            self.look_later();
        }
    }

    /// What a connection may hold although the budget is used up.
    fn tolerated(&self) -> usize {
        let (connections, held) = (self.core.table.len().max(1), self.core.pool.held());
        let budget = self.core.options.memory_budget.unwrap_or(usize::MAX);
        let small = SMALL_BYTES.min(budget / self.core.server.shared.loops.len() / connections);
        small.max(held / connections / 2)
    }

    fn has_left(&self, token: Token) -> bool {
        self.driver.socket(token).is_some_and(|socket| peer_has_closed(&socket))
    }

    fn look_later(&mut self) {
        if !self.minds_budget {
            self.minds_budget = true;
            self.core.wheel.insert(deadline(self.core.now, LOOK), Timer::Budget);
        }
    }

    /// Lets those go whose peers have left. Forgets those that have been let go or are gone, so
    /// that the list stays short.
    pub(super) fn look_after_held_back(&mut self) {
        self.minds_budget = false;
        for index in 0..self.held_back.len() {
            let token = self.held_back[index];
            if self.has_left(token)
                && let Some(conn) = self.core.table.get_mut(token)
            {
                conn.held_back = false;
                self.settle_reading(token);
            }
        }
        self.held_back.sort_unstable_by_key(|token| (token.index, token.generation));
        self.held_back.dedup();
        let table = &self.core.table;
        self.held_back.retain(|&token| table.get(token).is_some_and(|conn| conn.held_back));
        if !self.held_back.is_empty() {
            self.look_later();
        }
    }

    /// Publishes what this loop holds, and lets connections go where it is well below what it may.
    pub(super) fn mind_the_budget(&mut self) {
        let held = self.core.pool.held();
        self.core.shared.metrics.buffered_bytes.set(held);
        let Some(budget) = self.core.options.memory_budget else { return };
        let loops = &self.core.server.shared.loops;
        let all: u64 = loops.iter().map(|other| other.metrics.buffered_bytes.get()).sum();
        let others = (all as usize).saturating_sub(held);
        self.core.allowance = budget.saturating_sub(others);
        let is_well_below = held <= self.core.allowance / 4 * 3;
        if self.held_back.is_empty() || !is_well_below {
            return;
        }
        for token in std::mem::take(&mut self.held_back) {
            if let Some(conn) = self.core.table.get_mut(token) {
                conn.held_back = false;
                self.settle_reading(token);
            }
        }
    }
}
