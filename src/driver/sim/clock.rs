//! The virtual clock: it jumps to what comes next, and a loop for which no time passes is found out.

use super::Sim;

/// Most that the clock moves during one turn: it is to the millisecond that timers are checked.
const DRIFT_PER_TURN: u64 = 2_000;

/// Turns at one moment of the virtual clock, at most: a loop that needs more does not sleep.
const TURNS_AT_ONCE: usize = 50_000;

/// Of these, turns in a row in which nothing happens. Some may come of events that the network has
/// and keeps back.
const IDLE_TURNS: usize = 100;

/// No run takes so long, in microseconds of the virtual clock: an hour.
const LONGEST: u64 = 3_600_000_000;

impl Sim {
    /// Moves the clock to what comes next, but not beyond `limit`; false if it is there already.
    pub(super) fn skip_time(&mut self, limit: Option<u64>) -> bool {
        let mut network = self.network.borrow_mut();
        let next = network.next_time();
        let Some(target) = next.into_iter().chain(limit).min() else {
            network.fail("the loop sleeps for ever".to_owned());
            return false;
        };
        let is_limit = limit.is_some_and(|limit| limit <= target);
        network.now = network.now.max(target);
        if target > LONGEST {
            network.fail("the loop sleeps on and on: nobody rang".to_owned());
            return false;
        }
        if is_limit {
            let drift = network.weather.drift;
            network.now += network.random.below(drift + 1);
        }
        !is_limit
    }

    /// A loop that turns and turns while no time passes is not asleep when it should be.
    pub(super) fn count_turns(&mut self) {
        let mut network = self.network.borrow_mut();
        let no_time = network.now == self.waited_at;
        let slept = std::mem::take(&mut self.slept);
        let idle = !slept && network.journal.entries == self.entries;
        self.turns_at_once = if no_time { self.turns_at_once + 1 } else { 0 };
        self.idle_turns = if idle { self.idle_turns + 1 } else { 0 };
        (self.waited_at, self.entries) = (network.now, network.journal.entries);
        if self.turns_at_once > TURNS_AT_ONCE || self.idle_turns > IDLE_TURNS {
            network.fail("the loop spins: it turns without end while no time passes".to_owned());
        }
        if self.lent {
            network.fail("a received buffer was not recycled".to_owned());
        }
    }

    /// Now and then time passes during a turn.
    pub(super) fn drift(&mut self) {
        let mut network = self.network.borrow_mut();
        let most = network.weather.drift.min(DRIFT_PER_TURN - self.drifted);
        let drift = network.random.below(most + 1);
        self.drifted += drift;
        network.now += drift;
    }
}
