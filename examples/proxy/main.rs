//! A TCP load balancer: what writing a proxy on tightloop looks like.
//!
//! Each connection that comes in is paired with one to an upstream, on the same loop: bytes go
//! from one to the other without a lock, a hop between threads or a queue of their own.
//!
//! ```text
//!                 pause, resume                          balance.rs  which upstream
//!              .-----------------.                       health.rs   which are left out for now
//!   client --> |  pair (pair.rs) | --> upstream          proxy.rs    the handler: all callbacks
//!          <-- |                 | <--                   options.rs  the command line
//!              `-----------------'
//! ```
//!
//! Who reads slowly is waited for: above the high watermark of one side's output, the other side is
//! not read from, until on_drain. A half-close is passed on, and so is a reset.
//!
//! ```text
//! cargo run --release --example proxy -- --listen tcp://:8000 \
//!     --upstream tcp://127.0.0.1:8080 --upstream unix:///run/app.sock --verbose
//! ```

#[allow(dead_code, reason = "it stops in its own way, not by common::serve")]
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/duration.rs"]
mod duration;

mod balance;
mod health;
mod options;
mod pair;
mod proxy;
mod tls;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tightloop::ServerHandle;

use crate::options::Flags;
use crate::proxy::{Proxy, Shared};

/// How often is looked whether the last connection has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// What is left when the drain timeout is over gets this long to take its last bytes.
const LAST_BYTES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let flags = Flags::parse();
    let shared = Arc::new(Shared::new(&flags));
    let ended = run(&flags, &shared);
    if ended.is_ok() {
        let _ = std::io::stdout().write_all(shared.upstreams.summary().as_bytes());
    }
    common::exit_code(ended)
}

fn run(flags: &Flags, shared: &Arc<Shared>) -> Result<(), Box<dyn Error>> {
    flags.check()?;
    let server = common::server(&flags.common, &["tcp://:8000"])
        .half_close(true)
        // What is relayed pauses its source: a client that does not read may still have to be read.
        .auto_pause(false)
        .high_watermark(flags.buffer)
        .low_watermark(flags.buffer / 4);
    let server = match flags.accepted_proxies() {
        Some(policy) => server.proxy_protocol(policy),
        None => server,
    };
    let server = tls::terminate(server, flags)?;
    let patience = flags.drain_timeout;
    let shared = Arc::clone(shared);
    common::run(
        server,
        move |_loop| Proxy::new(Arc::clone(&shared)),
        move |server| drain(server.clone(), patience),
    )
}

/// Takes no new connections, and stops when the last one has ended, or patience has.
fn drain(server: ServerHandle, patience: Duration) {
    server.stop_accepting();
    std::thread::spawn(move || {
        let deadline = Instant::now() + patience;
        while server.connections() > 0 && Instant::now() < deadline {
            std::thread::sleep(DRAIN_LOOK);
        }
        server.stop_within(LAST_BYTES);
    });
}
