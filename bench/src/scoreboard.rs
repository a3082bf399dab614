//! The command `scoreboard`.

/// What the command line says.
#[derive(Debug, clap::Args)]
pub struct Options {}

/// Runs the command.
pub fn run(_options: Options) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
