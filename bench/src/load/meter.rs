//! What one loop has measured.

use std::sync::Arc;

use hdrhistogram::Histogram;

use super::shared::LoopCounters;

/// Latencies are kept to three digits, from here ...
const LEAST_NS: u64 = 1;
/// ... to here: longer ones count as this.
const MOST_NS: u64 = 1_000_000_000_000;
const DIGITS: u8 = 3;

/// Counts and latencies of one loop.
pub struct Meter {
    latency: Histogram<u64>,
    /// Operations and bytes since the load began.
    operations: u64,
    bytes: u64,
    /// Those of the window, when it has ended.
    window: Option<Window>,
    /// The counts at the beginning of the window, while it lasts.
    at_beginning: Option<(u64, u64)>,
    /// The latencies of operations that were to begin in here are kept.
    begin_ns: u64,
    end_ns: u64,
    counters: Arc<LoopCounters>,
}

/// What was counted in the window.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    pub operations: u64,
    pub bytes: u64,
    pub length_ns: u64,
}

/// The results of one loop.
pub struct Totals {
    pub latency: Histogram<u64>,
    pub window: Window,
}

/// A histogram for latencies in nanoseconds.
pub fn histogram() -> Histogram<u64> {
    // The bounds are constants that the histogram takes: the least is at least 1, the most at least
    // twice the least, the digits at most 5.
    Histogram::new_with_bounds(LEAST_NS, MOST_NS, DIGITS).expect("bounds that are fit")
}

impl Meter {
    /// A meter that keeps nothing yet. `counters` is where others see how far it is.
    pub fn new(counters: Arc<LoopCounters>) -> Self {
        Meter {
            latency: histogram(),
            operations: 0,
            bytes: 0,
            window: None,
            at_beginning: None,
            begin_ns: u64::MAX,
            end_ns: u64::MAX,
            counters,
        }
    }

    /// `count` operations are done that were to begin at `begun_ns`.
    #[inline]
    pub fn done(&mut self, begun_ns: u64, now_ns: u64, count: u64) {
        self.operations += count;
        self.latencies(begun_ns, now_ns, count);
    }

    /// Keeps a latency, if the operation was to begin in the window.
    pub fn latency(&mut self, begun_ns: u64, now_ns: u64) {
        self.latencies(begun_ns, now_ns, 1);
    }

    #[inline]
    fn latencies(&mut self, begun_ns: u64, now_ns: u64, count: u64) {
        if begun_ns >= self.begin_ns && begun_ns < self.end_ns {
            self.latency.saturating_record_n(now_ns.saturating_sub(begun_ns), count);
        }
    }

    /// Bytes of replies have come.
    #[inline]
    pub fn received(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Lets others see the count.
    #[inline]
    pub fn publish(&self) {
        self.counters.set_operations(self.operations);
    }

    pub fn begin_window(&mut self, now_ns: u64) {
        self.begin_ns = now_ns;
        self.at_beginning = Some((self.operations, self.bytes));
    }

    /// Ends the window; operations that began in it may still be done, and their latency counts.
    pub fn end_window(&mut self, now_ns: u64) {
        let Some((operations, bytes)) = self.at_beginning.take() else { return };
        self.end_ns = now_ns;
        self.window = Some(Window {
            operations: self.operations - operations,
            bytes: self.bytes - bytes,
            length_ns: now_ns - self.begin_ns,
        });
    }

    /// Counts as belonging to the window what comes from now on, though it has ended.
    pub fn count_after_window(&mut self) {
        self.begin_ns = 0;
        self.end_ns = u64::MAX;
    }

    /// The results, with all operations instead of those in the window.
    pub fn take_all(&mut self) -> Totals {
        let length_ns = self.window.map_or(0, |window| window.length_ns);
        let window = Window { operations: self.operations, bytes: self.bytes, length_ns };
        Totals { latency: std::mem::replace(&mut self.latency, histogram()), window }
    }

    /// The results.
    pub fn take(&mut self) -> Totals {
        let latency = std::mem::replace(&mut self.latency, histogram());
        Totals { latency, window: self.window.unwrap_or_default() }
    }
}
