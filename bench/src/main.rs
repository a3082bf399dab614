//! `tightloop-bench`: puts load on network servers (`load`), and compares tightloop with its peers
//! (`scoreboard`).

use clap::{Parser, Subcommand};

mod chart;
mod load;
mod output;
mod scoreboard;
mod units;

#[derive(Debug, Parser)]
#[command(name = "tightloop-bench", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put load on a server and tell what it did
    Load(Box<load::Options>),
    /// Compare tightloop with its peers on this machine
    Scoreboard(scoreboard::Options),
}

fn main() -> std::process::ExitCode {
    match Arguments::parse().command {
        Command::Load(options) => load::run(*options),
        Command::Scoreboard(options) => scoreboard::run(options),
    }
}
