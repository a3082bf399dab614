//! What is going on, and how long it still takes: a bar on a terminal, lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plan::show;

/// How often a line is written where there is no terminal.
const LINES_EVERY: Duration = Duration::from_secs(20);
/// The plan's guesses are corrected only by what is more than a moment.
const LEARNED_FROM_SECONDS: f64 = 5.0;

pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    is_quiet: bool,
    planned_left: f64,
    /// What was carried out, as planned and as it was.
    planned_done: f64,
    began: Instant,
    last_line: Option<Instant>,
}

impl Progress {
    pub fn new(planned_seconds: f64, is_quiet: bool) -> Progress {
        let is_terminal = std::io::stderr().is_terminal() && !is_quiet;
        let target =
            if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(planned_seconds.ceil() as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}") {
            bar.set_style(style);
        }
        Progress {
            bar,
            is_terminal,
            is_quiet,
            planned_left: planned_seconds,
            planned_done: 0.0,
            began: Instant::now(),
            last_line: None,
        }
    }

    pub fn begin(&mut self, workload: &str, round: usize, rounds: usize, system: &str) {
        self.tell(&format!("{workload}, round {} of {rounds}, {system}", round + 1));
    }

    pub fn begin_calls(&mut self, workload: &str, system: &str) {
        self.tell(&format!("{workload}, system calls, {system}"));
    }

    fn tell(&mut self, what: &str) {
        let left = show(self.seconds_left());
        self.bar.set_message(format!("{left} left  {what}"));
        let is_due = self.last_line.is_none_or(|last| last.elapsed() >= LINES_EVERY);
        if !self.is_terminal && !self.is_quiet && is_due {
            self.last_line = Some(Instant::now());
            eprintln!("{left} left: {what}");
        }
    }

    /// A step of the plan is over; `was_run` if it was not known from before.
    pub fn done(&mut self, planned: f64, was_run: bool) {
        self.planned_left -= planned;
        if was_run {
            self.planned_done += planned;
        } else if self.planned_done == 0.0 {
            self.began = Instant::now();
        }
        self.bar.inc(planned.round() as u64);
    }

    /// The plan's guess, corrected by how it did so far.
    pub fn seconds_left(&self) -> f64 {
        let factor = if self.planned_done < LEARNED_FROM_SECONDS {
            1.0
        } else {
            self.began.elapsed().as_secs_f64() / self.planned_done
        };
        (self.planned_left * factor).max(0.0)
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        if self.is_terminal {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
    }

    /// A line that only those who watch are interested in.
    pub fn say_quietly(&self, line: &str) {
        if self.is_terminal {
            self.bar.println(line);
        }
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
