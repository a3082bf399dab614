//! tightloop as a system under test: what the scoreboard starts, beside its peers.
//!
//! Called as `tightloop-system MODE HOST:PORT`; prints `ready` once it listens, and serves until a
//! signal ends it. Each mode is written as a user would write it: the bench measures the framework
//! as it is offered, with no access that others do not have.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tightloop::{Driver, Handler, LoopInfo, Server};

mod broadcast;
mod descriptors;
mod echo;
mod http;

/// A server to be measured, on tightloop
#[derive(Debug, Parser)]
#[command(name = "tightloop-system", version = version())]
struct Arguments {
    /// What to serve
    mode: Mode,

    /// Where to listen
    #[arg(value_name = "HOST:PORT")]
    address: String,

    /// Event loops, each a thread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,

    /// How the loops speak to the kernel
    #[arg(long, value_name = "poll|io-uring|auto", default_value = "auto")]
    driver: Driver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// TCP: every byte is sent back
    Echo,
    /// Every datagram is sent back to its sender
    Udp,
    /// HTTP/1.1 with keep-alive and pipelining: `Hello, World!` for any GET
    Http,
    /// What any connection sends is sent to every connection
    Broadcast,
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), ", ", env!("TIGHTLOOP_BENCH_RUSTC"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    descriptors::allow_as_many_as_possible();
    let scheme = if arguments.mode == Mode::Udp { "udp" } else { "tcp" };
    let server = Server::new()
        .listen(format!("{scheme}://{}", arguments.address))
        .loops(usize::from(arguments.threads))
        .driver(arguments.driver);
    match arguments.mode {
        Mode::Echo | Mode::Udp => serve(server, |_loop| echo::Echo),
        Mode::Http => serve(server, |_loop| http::Http),
        Mode::Broadcast => serve(server, |_loop| broadcast::Broadcast),
    }
}

/// Serves until the process is ended.
fn serve<H, F>(server: Server, factory: F) -> ExitCode
where
    H: Handler,
    F: Fn(LoopInfo) -> H + Send + Sync + 'static,
{
    let running = match server.start(factory) {
        Ok(running) => running,
        Err(error) => return fail(error),
    };
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = writeln!(stdout, "ready").and_then(|()| stdout.flush()) {
        return fail(error);
    }
    match running.join() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

fn fail(what: impl fmt::Display) -> ExitCode {
    eprintln!("tightloop-system: {what}");
    ExitCode::FAILURE
}
