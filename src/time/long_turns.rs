//! Turns of a loop that took long. Events are stamped with the beginning of their turn, as nobody asks
//! the clock for each; behind a callback that took long that is not when they happened. Whoever judges
//! by a stamp corrects it: what happened in a long turn may have happened at its end.

/// Turns that are remembered: the longest of all that were told, as a stamp of them is the most wrong.
const REMEMBERED: usize = 32;

/// The longest turns of late, by beginning and end in milliseconds of the loop's clock, which wraps.
#[derive(Debug)]
pub(crate) struct LongTurns {
    turns: Vec<(u32, u32)>,
}

impl LongTurns {
    pub(crate) fn new() -> Self {
        LongTurns { turns: Vec::with_capacity(REMEMBERED) }
    }

    /// Remembers one, and forgets the shortest if there are too many.
    pub(crate) fn push(&mut self, begin: u32, end: u32) {
        if self.turns.len() == REMEMBERED {
            let length = |(begin, end): &(u32, u32)| end.wrapping_sub(*begin);
            let shortest = (0..self.turns.len()).min_by_key(|&at| length(&self.turns[at]));
            if let Some(at) = shortest {
                self.turns.swap_remove(at);
            }
        }
        self.turns.push((begin, end));
    }

    /// When that which has this stamp may have happened at the latest.
    pub(crate) fn latest(&self, stamp: u32) -> u32 {
        let of_it = self.turns.iter().find(|(begin, _)| *begin == stamp);
        of_it.map_or(stamp, |(_, end)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_a_long_turn_is_its_end_and_any_other_is_itself() {
        let mut turns = LongTurns::new();
        assert_eq!(turns.latest(7), 7);
        turns.push(10, 15);
        turns.push(20, 90);
        assert_eq!([9, 10, 15, 20, 90].map(|stamp| turns.latest(stamp)), [9, 15, 15, 90, 90]);
    }

    #[test]
    fn the_longest_are_remembered() {
        let mut turns = LongTurns::new();
        turns.push(u32::MAX - 9, 490);
        for begin in (1_000..).step_by(10).take(10 * REMEMBERED) {
            turns.push(begin, begin + 2);
            assert_eq!(turns.latest(begin), begin + 2, "the last one is");
        }
        assert_eq!(turns.latest(u32::MAX - 9), 490);
        assert_eq!(turns.turns.len(), REMEMBERED);
    }
}
