//! Medians, spreads, and paired ratios with a bootstrap interval.

use std::fmt;

const RESAMPLES: usize = 10_000;

/// The cost of one system over its rounds, in nanoseconds per operation.
pub struct Samples {
    median: f64,
    min: f64,
    max: f64,
}

impl Samples {
    pub fn of(values: &[f64]) -> Samples {
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(0.0, f64::max);
        Samples { median: median(values.iter().copied()), min, max }
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Samples { median, min, max } = self;
        let spread = 100.0 * (max - min) / median;
        write!(f, "{median:>9.0} ns/op ({min:.0}..{max:.0}, spread {spread:.1} %)")
    }
}

/// The median of the paired ratios, and the interval that holds it in 95 % of the resamples.
pub struct Ratio {
    pub median: f64,
    low: f64,
    high: f64,
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ratio { median, low, high } = self;
        write!(f, "{median:.3}, 95 % interval [{low:.3}, {high:.3}]")
    }
}

/// Pairs the values round by round.
pub fn ratio_of(values: &[f64], baseline: &[f64]) -> Ratio {
    let ratios: Vec<f64> = values.iter().zip(baseline).map(|(value, base)| value / base).collect();
    let mut random = XorShift(0x9E37_79B9_7F4A_7C15);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| median(ratios.iter().map(|_| ratios[random.below(ratios.len())])))
        .collect();
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians[(share * (RESAMPLES - 1) as f64) as usize];
    Ratio { median: median(ratios.iter().copied()), low: at(0.025), high: at(0.975) }
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    assert!(!sorted.is_empty(), "no round was measured");
    sorted.sort_by(f64::total_cmp);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

/// The value that this share of them does not pass.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

/// Good enough to draw with replacement, and the same in each run.
struct XorShift(u64);

impl XorShift {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
