//! Servers of every kind under load and faults for as long as wanted, with every byte checked.
//!
//! The servers run in a process of their own with few descriptors; the clients echo, half-close,
//! reset in mid-write, stop reading, flood, connect and leave, use up the descriptors, and have
//! handlers panic and other threads write and close. Every so often all of it rests: then nothing
//! may be left behind. The exit code is 0 if nothing ever was.
//!
//! ```text
//! cargo run --release --example soak -- --seconds 3600
//! ```

#[cfg(unix)]
mod client;
#[cfg(unix)]
mod handlers;
#[cfg(unix)]
mod ordering;
#[cfg(unix)]
mod orders;
#[cfg(unix)]
mod peer;
#[cfg(unix)]
mod scenarios;
#[cfg(unix)]
mod serve;
#[cfg(unix)]
mod watch;

use std::process::ExitCode;

use clap::Parser;

/// Servers under load and faults, every byte checked
#[derive(Parser)]
pub struct Flags {
    /// How long, without the last rest
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,

    /// Seconds of load between two rests
    #[arg(long, value_name = "N", default_value_t = 60)]
    rest_every: u64,

    /// Clients at a time, each a thread
    #[arg(long, value_name = "N", default_value_t = 12)]
    clients: u64,

    /// Most milliseconds that a client waits between two scenarios
    #[arg(long, value_name = "N", default_value_t = 150)]
    pause: u64,

    /// What the clients do follows from this, as far as threads allow
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Descriptors of the process with the servers
    #[arg(long, value_name = "N", default_value_t = 256)]
    descriptors: u64,

    /// Run this scenario only
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// How the servers' loops speak to the kernel: auto, poll or io-uring
    #[arg(long, value_name = "DRIVER", default_value_t = tightloop::Driver::Auto)]
    driver: tightloop::Driver,

    /// Be the process with the servers (started by the one with the clients)
    #[arg(long, hide = true)]
    serve: bool,
}

#[cfg(unix)]
fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.serve { serve::main(flags.driver) } else { watch::main(&flags) }
}

#[cfg(not(unix))]
fn main() -> ExitCode {
    eprintln!("error: the soak needs Unix sockets, and a shell to limit descriptors");
    ExitCode::FAILURE
}
