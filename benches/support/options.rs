//! The command line, parsed by hand: cargo adds `--bench` to it.

use std::process::exit;
use std::time::Duration;

use super::load::Workload;

const USAGE: &str = "echo_cost [--rounds N] [--seconds S] [--workload echo|churn|bulk|all] \
                     [--control-only]";

/// What to run.
pub struct Options {
    pub rounds: usize,
    /// How long each round is measured.
    pub duration: Duration,
    pub workloads: Vec<Workload>,
    /// Only the bare loop against itself: what can this machine resolve?
    pub control_only: bool,
}

impl Options {
    pub fn from_args() -> Options {
        let mut options = Options {
            rounds: 10,
            duration: Duration::from_secs(2),
            workloads: Workload::ALL.to_vec(),
            control_only: false,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| refuse(&arg));
            match arg.as_str() {
                "--bench" => {}
                "--control-only" => options.control_only = true,
                "--rounds" => options.rounds = positive(&value()),
                "--seconds" => options.duration = Duration::from_secs(positive(&value()) as u64),
                "--workload" => {
                    let name = value();
                    options.workloads.retain(|workload| name == "all" || workload.name() == name);
                }
                _ => refuse(&arg),
            }
        }
        if options.workloads.is_empty() {
            refuse("--workload");
        }
        options
    }
}

/// The rounds of the flood bench and how long each is.
pub fn flood_options() -> (usize, Duration) {
    let (mut rounds, mut seconds) = (10, 1);
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let place = match arg.as_str() {
            "--rounds" => &mut rounds,
            "--seconds" => &mut seconds,
            _ => refuse_with(&arg, "flood [--rounds N] [--seconds S]"),
        };
        *place = positive(&args.next().unwrap_or_default());
    }
    (rounds, Duration::from_secs(seconds as u64))
}

fn positive(text: &str) -> usize {
    text.parse().ok().filter(|number| *number > 0).unwrap_or_else(|| refuse(text))
}

fn refuse(what: &str) -> ! {
    refuse_with(what, USAGE)
}

fn refuse_with(what: &str, usage: &str) -> ! {
    eprintln!("cannot use {what}\nusage: {usage}");
    exit(2)
}
