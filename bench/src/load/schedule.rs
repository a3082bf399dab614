//! When requests are due in an open loop: times that do not depend on the server.

/// The times of one loop's requests. With several loops each has every so-manieth request.
#[derive(Debug)]
pub struct Schedule {
    start_ns: u64,
    interval_ns: f64,
    /// The share of an interval by which this loop's requests are behind those of loop 0.
    shift: f64,
    /// Requests taken.
    taken: u64,
    /// Requests that would be due at or behind this moment are not sent.
    end_ns: u64,
}

impl Schedule {
    /// `rate` requests a second of all loops together, from `start_ns` on.
    pub fn new(rate: f64, start_ns: u64, loop_index: usize, loops: usize) -> Self {
        let interval_ns = 1e9 * loops as f64 / rate;
        let shift = loop_index as f64 / loops as f64;
        Schedule { start_ns, interval_ns, shift, taken: 0, end_ns: u64::MAX }
    }

    /// When the next request is due; `u64::MAX` when there is none any more.
    #[inline]
    pub fn next_ns(&self) -> u64 {
        // From the count and not from the one before: errors do not add up.
        let since = (self.taken as f64 + self.shift) * self.interval_ns;
        let due = self.start_ns + since as u64;
        if due < self.end_ns { due } else { u64::MAX }
    }

    /// Takes the next request if it is due, and answers when it was.
    #[inline]
    pub fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_ns();
        if due > now_ns {
            return None;
        }
        self.taken += 1;
        Some(due)
    }

    /// Gives the request back that was taken last, since it could not be sent.
    pub fn give_back(&mut self) {
        self.taken -= 1;
    }

    /// Ends it: what is due before `end_ns` is still taken.
    pub fn end_at(&mut self, end_ns: u64) {
        self.end_ns = end_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_even_distances_without_drift() {
        let mut schedule = Schedule::new(3.0, 1_000, 0, 1);
        let day_ns = 86_400_000_000_000;
        let mut count = 0u64;
        schedule.end_at(1_000 + day_ns);
        let mut last = 0;
        while let Some(due) = schedule.take(u64::MAX - 1) {
            assert!(due >= last);
            last = due;
            count += 1;
        }
        assert_eq!(count, 3 * 86_400);
        assert_eq!(schedule.next_ns(), u64::MAX);
    }

    #[test]
    fn the_loops_take_turns() {
        let mut loops: Vec<Schedule> = (0..4).map(|i| Schedule::new(1e6, 0, i, 4)).collect();
        let first: Vec<u64> = loops.iter_mut().filter_map(|s| s.take(10_000)).collect();
        assert_eq!(first, [0, 1_000, 2_000, 3_000]);
        assert_eq!(loops[0].take(3_999), None);
        assert_eq!(loops[0].take(4_000), Some(4_000));
    }

    #[test]
    fn a_request_given_back_is_due_again() {
        let mut schedule = Schedule::new(1000.0, 0, 0, 1);
        assert_eq!(schedule.take(5), Some(0));
        schedule.give_back();
        assert_eq!(schedule.take(5), Some(0));
        assert_eq!(schedule.take(5), None);
    }
}
