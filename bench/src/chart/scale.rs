//! From values to places on an axis, and the ticks that name some of them.

/// Ticks that an axis has room for.
const TICKS: f64 = 6.0;

/// An axis: values from `low` to `high` on places from `start` to `end`.
pub(super) struct Scale {
    log: bool,
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Scale {
    /// An axis that has room for all `values`, and begins at zero unless it is logarithmic. Values
    /// that have no place on it (not finite; not positive on a logarithmic axis) are left out.
    pub(super) fn new(values: impl Iterator<Item = f64>, log: bool, places: (f64, f64)) -> Self {
        let fits = |value: &f64| value.is_finite() && (!log || *value > 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(fits) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        if log {
            if high / low < 1.01 {
                (low, high) = (low / 2.0, high * 2.0);
            }
        } else {
            low = low.min(0.0);
            if high <= low {
                high = low + 1.0;
            }
            let step = step_of(high - low);
            (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        }
        Scale { log, low, high, start: places.0, end: places.1 }
    }

    /// As `new`, but from the least value to the greatest, without zero and without rounding.
    pub(super) fn tight(values: impl Iterator<Item = f64>, log: bool, places: (f64, f64)) -> Self {
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let mut scale = Scale::new(values.iter().copied(), log, places);
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !log && low < high {
            (scale.low, scale.high) = (low, high);
        }
        scale
    }

    /// The place of a value; `None` where the axis has none for it.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        if !value.is_finite() || (self.log && value <= 0.0) {
            return None;
        }
        let share = if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        Some(self.start + share.clamp(0.0, 1.0) * (self.end - self.start))
    }

    /// Round values within the axis, with their names.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let values = if self.log { self.log_ticks() } else { self.linear_ticks() };
        values.into_iter().map(|value| (value, number(value))).collect()
    }

    fn linear_ticks(&self) -> Vec<f64> {
        let step = step_of(self.high - self.low);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|index| index as f64 * step).collect()
    }

    /// Powers of ten; on an axis of few decades also their multiples.
    fn log_ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let multiples: &[f64] = match decades {
            d if d < 1.5 => &[1.0, 2.0, 3.0, 5.0, 7.0],
            d if d < 3.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let all = (first..=last).flat_map(|e| multiples.iter().map(move |m| m * 10f64.powi(e)));
        let slack = 1e-9;
        all.filter(|v| (self.low * (1.0 - slack)..=self.high * (1.0 + slack)).contains(v)).collect()
    }
}

/// The distance between ticks: 1, 2 or 5 times a power of ten.
fn step_of(span: f64) -> f64 {
    let raw = span / TICKS;
    let power = 10f64.powf(raw.log10().floor());
    let multiple = match raw / power {
        m if m <= 1.0 => 1.0,
        m if m <= 2.0 => 2.0,
        m if m <= 5.0 => 5.0,
        _ => 10.0,
    };
    multiple * power
}

/// A number for a label: three digits that matter, thousands as k, M, G.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let (scaled, unit) = match magnitude {
        m if m >= 1e9 => (value / 1e9, "G"),
        m if m >= 1e6 => (value / 1e6, "M"),
        m if m >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = match scaled.abs() {
        0.0 => 0,
        m if m >= 100.0 => 0,
        m if m >= 10.0 => 1,
        m if m >= 1.0 => 2,
        m => (2 - m.log10().floor() as i32).clamp(2, 9) as usize,
    };
    let text = format!("{scaled:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.97, "0.97"),
            (0.0005, "0.0005"),
            (1.0, "1"),
            (3340.0, "3340"),
            (13_800.0, "13.8k"),
            (150_000.0, "150k"),
            (2_500_000.0, "2.5M"),
            (-40_000.0, "-40k"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_ends_at_a_tick() {
        let scale = Scale::new([3.0, 97.0].into_iter(), false, (0.0, 100.0));
        let ticks: Vec<f64> = scale.ticks().iter().map(|tick| tick.0).collect();
        assert_eq!(ticks, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(scale.place(50.0), Some(50.0));
    }

    #[test]
    fn a_logarithmic_axis_has_no_place_for_zero() {
        let scale = Scale::new([0.0, 1.0, 10_000.0].into_iter(), true, (0.0, 4.0));
        assert_eq!(scale.place(0.0), None);
        assert_eq!(scale.place(100.0), Some(2.0));
        let ticks: Vec<f64> = scale.ticks().iter().map(|tick| tick.0).collect();
        assert_eq!(ticks, [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
    }

    #[test]
    fn an_axis_without_values_or_with_one_still_stands() {
        for values in [vec![], vec![0.0], vec![f64::NAN], vec![5.0], vec![5.0, 5.0]] {
            for log in [false, true] {
                let scale = Scale::new(values.iter().copied(), log, (0.0, 1.0));
                assert!(!scale.ticks().is_empty(), "{values:?} log={log}");
                assert!(scale.ticks().len() < 20, "{values:?} log={log}");
            }
        }
    }
}
