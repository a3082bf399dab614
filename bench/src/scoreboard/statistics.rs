//! Medians, and paired ratios with a bootstrap interval.

use serde::{Deserialize, Serialize};

const RESAMPLES: usize = 10_000;

/// The median of the paired ratios, and the interval that holds it in 95 % of the resamples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    /// Rounds that both have.
    pub rounds: usize,
}

impl Ratio {
    pub fn is_below_one(&self) -> bool {
        self.high < 1.0
    }

    pub fn is_above_one(&self) -> bool {
        self.low > 1.0
    }

    pub fn holds_one(&self) -> bool {
        self.low <= 1.0 && 1.0 <= self.high
    }
}

/// Pairs (value, baseline) of the same round. `None` if there is none.
pub fn ratio_of(pairs: &[(f64, f64)]) -> Option<Ratio> {
    let usable = pairs.iter().filter(|(value, base)| value.is_finite() && *base > 0.0);
    let ratios: Vec<f64> = usable.map(|(value, base)| value / base).collect();
    let center = median(&ratios)?;
    let mut random = XorShift(0x9E37_79B9_7F4A_7C15);
    let mut drawn = vec![0.0; ratios.len()];
    let mut medians: Vec<f64> = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        drawn.fill_with(|| ratios[random.below(ratios.len())]);
        drawn.sort_by(f64::total_cmp);
        medians.push(middle(&drawn));
    }
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians[(share * (RESAMPLES - 1) as f64) as usize];
    Some(Ratio { median: center, low: at(0.025), high: at(0.975), rounds: ratios.len() })
}

/// The middle value, or the mean of the two in the middle. `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (!sorted.is_empty()).then(|| middle(&sorted))
}

/// Of values that are sorted, at least one.
fn middle(sorted: &[f64]) -> f64 {
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_those_of_the_book() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn a_ratio_that_is_the_same_in_each_round_has_no_width() {
        let pairs: Vec<_> = (1..=7).map(|n| (f64::from(n) * 3.0, f64::from(n) * 4.0)).collect();
        let ratio = ratio_of(&pairs).unwrap();
        assert_eq!((ratio.median, ratio.low, ratio.high), (0.75, 0.75, 0.75));
        assert!(ratio.is_below_one() && !ratio.is_above_one() && !ratio.holds_one());
        assert_eq!(ratio.rounds, 7);
    }

    #[test]
    fn the_interval_is_made_of_what_can_be_drawn() {
        // The median of three draws from these is one of them; the least and the greatest are
        // drawn as the median with probability 7/27 each, so both belong to the interval.
        let ratio = ratio_of(&[(0.9, 1.0), (1.0, 1.0), (1.3, 1.0)]).unwrap();
        assert_eq!((ratio.low, ratio.median, ratio.high), (0.9, 1.0, 1.3));
        assert!(ratio.holds_one());
    }

    #[test]
    fn one_outlier_of_many_rounds_does_not_move_the_interval() {
        let mut pairs = vec![(1.01, 1.0); 9];
        pairs.push((5.0, 1.0));
        let ratio = ratio_of(&pairs).unwrap();
        assert_eq!((ratio.low, ratio.high), (1.01, 1.01));
        assert!(ratio.is_above_one());
    }

    #[test]
    fn rounds_without_a_baseline_do_not_count() {
        assert_eq!(ratio_of(&[]), None);
        assert_eq!(ratio_of(&[(1.0, 0.0), (f64::NAN, 1.0)]), None);
        assert_eq!(ratio_of(&[(1.0, 0.0), (2.0, 1.0)]).map(|ratio| ratio.median), Some(2.0));
    }

    #[test]
    fn the_same_rounds_give_the_same_interval() {
        let pairs: Vec<_> = (0..10).map(|n| (1.0 + f64::from(n * n % 7) / 50.0, 1.0)).collect();
        assert_eq!(ratio_of(&pairs), ratio_of(&pairs));
    }
}
