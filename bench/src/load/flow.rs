//! Who sends next: what the three kinds of load have in place of "the reply brings the next
//! request".

use std::collections::VecDeque;

use super::schedule::Schedule;

/// The kind of load, and the connections that wait for their turn.
#[derive(Debug)]
pub enum Flow {
    /// Every connection always has its requests under way.
    Closed,
    /// So many connections have requests under way; each next batch goes to one of the others.
    Active {
        idle: Vec<u32>,
        random: Random,
        /// Batches that found no connection to go to.
        vacant: usize,
    },
    /// Requests are sent when they are due; connections with room are taken in turn.
    Open {
        schedule: Schedule,
        free: VecDeque<u32>,
        /// Whether a slot is in `free`, or of no use there.
        is_queued: Vec<bool>,
    },
}

impl Flow {
    pub fn active(loop_index: usize) -> Self {
        let random = Random::new(loop_index as u64 + 1);
        Flow::Active { idle: Vec::new(), random, vacant: 0 }
    }

    pub fn open(schedule: Schedule, slots: usize) -> Self {
        Flow::Open { schedule, free: VecDeque::with_capacity(slots), is_queued: vec![false; slots] }
    }
}

/// Numbers for choosing connections: xorshift64*, the same in every run.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, which is not zero.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(bits) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_spread_evenly() {
        let mut random = Random::new(1);
        let mut counts = [0; 10];
        for _ in 0..100_000 {
            counts[random.below(10)] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
