//! Which of tightloop's drivers serves.

use clap::ValueEnum;
use tightloop::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DriverChoice {
    /// Readiness: epoll on Linux
    Poll,
    /// Completions: io_uring
    IoUring,
    /// What the library takes by itself
    Auto,
}

/// The server with that driver, or why it cannot be had.
pub fn apply(server: Server, choice: DriverChoice) -> Result<Server, String> {
    match choice {
        DriverChoice::Poll | DriverChoice::Auto => Ok(server),
        DriverChoice::IoUring => Err("this build has no io_uring driver".to_owned()),
    }
}
