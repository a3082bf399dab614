//! The bar while the load runs: on a terminal only, and not where quiet is asked for.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plan::{Plan, name_of};
use super::report::Point;
use crate::units::{show_count, show_us};

/// The progress bar, or nothing.
pub struct Progress {
    bar: ProgressBar,
    connections: usize,
    duration_ms: u64,
    warmup_ms: u64,
}

impl Progress {
    pub fn new(plan: &Plan) -> Self {
        let is_shown = !plan.quiet && std::io::stderr().is_terminal();
        let bar = if is_shown {
            ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(10))
        } else {
            ProgressBar::hidden()
        };
        // A constant; without it the bar has the library's own style.
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(format!("{} {}", name_of(plan.work), plan.target.url));
        Progress {
            bar,
            connections: plan.connections,
            duration_ms: plan.duration.as_millis() as u64,
            warmup_ms: plan.warmup.as_millis() as u64,
        }
    }

    pub fn opening(&self, opened: usize) {
        self.bar.set_length(self.connections as u64);
        self.bar.set_position(opened as u64);
        self.bar.set_message(format!("connected {opened} of {}", self.connections));
    }

    pub fn warming_up(&self, elapsed: Duration) {
        self.bar.set_length(self.warmup_ms);
        self.bar.set_position(elapsed.as_millis() as u64);
        self.bar.set_message("warm-up");
    }

    /// `point` is the newest of the series, `before` the one before it.
    pub fn measuring(&self, elapsed: Duration, point: &Point, before: Option<&Point>) {
        self.bar.set_length(self.duration_ms);
        self.bar.set_position(elapsed.as_millis() as u64);
        let length = point.seconds - before.map_or(0.0, |before| before.seconds);
        let rate = if length > 0.0 { point.operations as f64 / length } else { 0.0 };
        let each = if rate > 0.0 { show_us(1e6 / rate) } else { "-".to_owned() };
        self.bar.set_message(format!("{} a second, one in {each}", show_count(rate as u64)));
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
