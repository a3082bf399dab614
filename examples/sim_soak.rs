//! Runs seeds of the simulated network until one breaks a rule, or as many as wanted.
//!
//! ```text
//! cargo run --release --features sim --example sim_soak -- --seeds 10000 [--start 1]
//! cargo run --release --features sim --example sim_soak -- --seed 4711 --trace
//! ```

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tightloop::sim::{self, Failure, Report};

/// How often progress is printed.
const PROGRESS: Duration = Duration::from_secs(5);

/// In the order of the report.
const REASONS: [&str; 17] = [
    "local",
    "aborted",
    "peer closed",
    "peer reset",
    "failed",
    "idle timeout",
    "read idle timeout",
    "write idle timeout",
    "first byte timeout",
    "write stalled",
    "output limit",
    "input limit",
    "close timeout",
    "handler panicked",
    "server stopped",
    "codec",
    "handshake",
];

#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Run this seed only, twice, and compare.
    #[arg(long)]
    seed: Option<u64>,
    /// Print everything that happens. With --seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

/// What the runs came to.
#[derive(Default)]
struct Totals {
    seeds: u64,
    failures: u64,
    opened: u64,
    turns: u64,
    bytes: u64,
    moved: u64,
    reasons: [u64; 17],
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.opened += report.opened as u64;
        self.turns += report.turns as u64;
        self.bytes += report.bytes as u64;
        self.moved += report.moved as u64;
        for (total, more) in self.reasons.iter_mut().zip(report.reasons) {
            *total += more as u64;
        }
    }

    fn print(&self, started: Instant) {
        println!(
            "{} seeds in {:.1} s: {} failures, {} connections, {} turns, {} MB, of which {} were moved",
            self.seeds + self.failures,
            started.elapsed().as_secs_f64(),
            self.failures,
            self.opened,
            self.turns,
            self.bytes / 1_000_000,
            self.moved / 1_000_000,
        );
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Handlers panic on purpose; any other panic is a failure like others, and told as one.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = arguments.seed {
        return replay(seed, arguments.trace);
    }
    let (started, mut printed) = (Instant::now(), Instant::now());
    let mut totals = Totals::default();
    for seed in arguments.start..arguments.start.saturating_add(arguments.seeds) {
        match sim::run(seed, None) {
            Ok(report) => totals.add(&report),
            Err(failure) => {
                totals.failures += 1;
                tell(&failure);
                if !arguments.keep_going {
                    break;
                }
            }
        }
        if printed.elapsed() > PROGRESS {
            printed = Instant::now();
            totals.print(started);
        }
    }
    totals.print(started);
    println!("closed by reason:");
    for (name, count) in REASONS.iter().zip(totals.reasons) {
        println!("  {count:>10} {name}");
    }
    if totals.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(failure: &Failure) {
    println!("seed {} breaks a rule: {}", failure.seed, failure.rule);
    println!(
        "replay: cargo run --release --features sim --example sim_soak -- --seed {} --trace",
        failure.seed
    );
}

/// Runs one seed twice: the second run must be the first.
fn replay(seed: u64, trace: bool) -> ExitCode {
    let print: Box<dyn FnMut(&str)> = Box::new(|line| {
        // Whoever reads may have seen enough.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            std::process::exit(1);
        }
    });
    let first = sim::run(seed, trace.then_some(print));
    let second = sim::run(seed, None);
    match &first {
        Ok(report) => println!("{report:#?}"),
        Err(failure) => tell(failure),
    }
    if first != second {
        println!("the second run was another one: {second:?}");
    }
    if first.is_ok() && first == second { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
