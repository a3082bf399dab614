//! Whether a wait is for several completions: a wake-up costs as much as some messages do, but a
//! loop that waits for more than will come holds up those that are there.
//!
//! It is worth it only where many come together anyway. With few connections their clients wait for
//! us as we wait for them, and both sleep in turns. So a wait is for half of what the last one has
//! brought, only where that was plenty, and a wait that was in vain is not repeated for some time.

use std::time::Duration;

/// How long the first of several completions waits for the others: about what a loop needs for ten
/// messages.
pub(super) const GATHER: Duration = Duration::from_micros(30);

/// Where the last wait brought fewer, the next is for one.
const PLENTY: usize = 16;

/// The most that are waited for: the kernel hands out about twice as many at a time in any case.
const MOST_GATHERED: usize = 8;

/// After the first wait in vain so many are for one; after each further one twice as many.
const FIRST_REST: u32 = 16;
const LONGEST_REST: u32 = 4096;

/// What the waits before this one have brought.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Completions of the last wait.
    last: usize,
    /// Waits that are still to be for one completion.
    rests: u32,
    /// The length of the next rest.
    penalty: u32,
}

impl Gathering {
    /// For how many completions to wait, no longer than [`GATHER`]; `None` for one.
    pub(super) fn least(&mut self, timeout: Option<Duration>) -> Option<usize> {
        let is_long = timeout.is_none_or(|timeout| timeout > GATHER);
        if self.last < PLENTY || !is_long {
            return None;
        }
        if self.rests > 0 {
            self.rests -= 1;
            return None;
        }
        Some((self.last / 2).min(MOST_GATHERED))
    }

    /// A wait for `least` has brought `came`.
    pub(super) fn gathered(&mut self, least: usize, came: usize) {
        if came >= least {
            self.penalty = 0;
        } else {
            self.penalty = (self.penalty * 2).clamp(FIRST_REST, LONGEST_REST);
            self.rests = self.penalty;
        }
    }

    /// A whole wait has brought so many.
    pub(super) fn note(&mut self, came: usize) {
        self.last = came;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_completions_are_not_waited_for() {
        let mut gathering = Gathering::default();
        assert_eq!(gathering.least(None), None);
        gathering.note(PLENTY - 1);
        assert_eq!(gathering.least(None), None);
        gathering.note(PLENTY);
        assert_eq!(gathering.least(None), Some(8));
        assert_eq!(gathering.least(Some(GATHER)), None, "a timer is due before");
        gathering.note(1_000);
        assert_eq!(gathering.least(Some(GATHER * 2)), Some(MOST_GATHERED));
    }

    #[test]
    fn a_wait_in_vain_is_not_repeated_for_some_time() {
        let mut gathering = Gathering::default();
        gathering.note(100);
        for expected in [FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST] {
            let least = gathering.least(None).unwrap();
            gathering.gathered(least, least - 1);
            for _ in 0..expected {
                assert_eq!(gathering.least(None), None);
            }
        }
        let least = gathering.least(None).unwrap();
        gathering.gathered(least, least);
        assert!(gathering.least(None).is_some());
    }
}
