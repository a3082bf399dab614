//! The command line of `scoreboard`.

use std::path::PathBuf;

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(after_help = "Report, raw figures and charts are written to DIR: scoreboard.md, \
    scoreboard.json, raw.jsonl, *.svg. An interrupted run goes on with the same command.")]
pub struct Options {
    /// Only this work (repeatable): a name of --list, or main, growth, growth-connections,
    /// growth-size, growth-loops, goal (Redis, HAProxy and nginx) [default: main and growth]
    #[arg(long, value_name = "NAME")]
    pub(super) work: Vec<String>,

    /// Only this system (repeatable): a name of --list, or tightloop for all its drivers
    #[arg(long, value_name = "NAME")]
    pub(super) system: Vec<String>,

    /// End within five minutes, with fewer workloads, rounds and seconds
    #[arg(long, conflicts_with = "minutes")]
    pub(super) quick: bool,

    /// Plan so much that it fits into this time
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(super) minutes: Option<f64>,

    /// Rounds of each system in each work [default: 10, or what fits]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: Option<u32>,

    /// How long each round is measured [default: 5, or what fits]
    #[arg(long, value_name = "S", value_parser = positive)]
    pub(super) seconds: Option<f64>,

    /// How often at most a round that others disturb is measured again
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(super) repeats: u32,

    /// Let systems that warm up for more than 5 s live through all rounds of a work (with --quick
    /// always)
    #[arg(long)]
    pub(super) keep_processes: bool,

    /// Do not count system calls
    #[arg(long)]
    pub(super) no_calls: bool,

    /// Build all systems, also those that are built already
    #[arg(long)]
    pub(super) build: bool,

    /// Forget the run of which there are figures in DIR
    #[arg(long)]
    pub(super) restart: bool,

    /// Measure nothing: make the report anew from the figures in DIR
    #[arg(long)]
    pub(super) report_only: bool,

    /// Show what could be measured, and measure nothing
    #[arg(long)]
    pub(super) list: bool,

    /// Show no progress
    #[arg(long)]
    pub(super) quiet: bool,

    /// Where to write [default: docs/performance; with --quick target/scoreboard]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,

    /// Where peers.json is [default: bench/peers, here or above]
    #[arg(long, value_name = "DIR")]
    pub(super) peers: Option<PathBuf>,

    /// The server's core [default: the first that may be used]
    #[arg(long, value_name = "N")]
    pub(super) server_core: Option<usize>,

    /// The client's core [default: the next one]
    #[arg(long, value_name = "N")]
    pub(super) client_core: Option<usize>,

    /// What to run in place of this program for `load`: for tests
    #[arg(long, value_name = "PROGRAM", hide = true)]
    pub(super) load_program: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    let number = number.filter(|number| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "must be a number above 0".to_owned())
}
