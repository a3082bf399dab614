//! An HTTP/1.1 server: keep-alive, pipelining, bodies with a length or in chunks, and a limit on
//! everything that a client can make it wait for or hold. (One thing has no limit in time: the end
//! of an answer, less than the high watermark. It is waited for as long as a byte of it is taken
//! now and then.)
//!
//! `codec/` reads requests where they lie in the receive buffer and knows nothing of connections;
//! `server.rs` is the handler; `held.rs` counts what bodies hold, `sending.rs` has long answers;
//! `routes.rs` says what there is to be asked for; `answers.rs` has the answers ready as bytes, made
//! anew when the second of their Date is over.
//!
//! ```text
//! cargo run --release --example http
//! curl -i localhost:8080/json
//! curl --data hello localhost:8080/echo
//! curl localhost:8080/bytes/1000000 | wc -c
//! ```

mod answers;
mod codec;
// Not within the codec: others that have it would need what its tests need.
#[cfg(test)]
#[path = "codec/tests.rs"]
mod codec_tests;
#[path = "../common/mod.rs"]
mod common;
mod held;
mod routes;
mod sending;
mod server;
#[path = "../common/tls.rs"]
mod tls;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use server::{HIGH_WATERMARK, Http, LOW_WATERMARK, Limits};

/// How long, and for how many bytes, a client that is being refused may go on sending its body:
/// many read the answer only when they have sent everything.
const LINGER: (Duration, usize) = (Duration::from_secs(5), 64 << 20);

/// Output of one connection, unless a longer body may have to be sent back.
const MAX_PENDING_OUTPUT: usize = 64 << 20;

/// HTTP/1.1: GET / /plaintext /json /bytes/N, POST /echo
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: common::Args,

    #[command(flatten)]
    tls: tls::Args,

    /// How long a client may take to send its first byte, and then each request's head
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    request_timeout_ms: u64,

    /// How long it may take to send a body
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    body_timeout_ms: u64,

    /// How long it may take to take each MiB of an answer
    #[arg(long, value_name = "MS", default_value_t = 60_000)]
    answer_timeout_ms: u64,

    /// How long a connection may be silent between two requests
    #[arg(long, value_name = "MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout_ms: u64,

    /// Close a connection behind so many requests
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_requests: u32,

    /// The longest body, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    max_body: u64,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let limits = Limits {
        head_timeout: Duration::from_millis(flags.request_timeout_ms),
        body_timeout: Duration::from_millis(flags.body_timeout_ms),
        answer_timeout: Duration::from_millis(flags.answer_timeout_ms),
        requests: flags.max_requests,
        body_bytes: flags.max_body,
    };
    let longest_echo = usize::try_from(flags.max_body).unwrap_or(usize::MAX);
    let max_pending = longest_echo.saturating_add(2 * HIGH_WATERMARK).max(MAX_PENDING_OUTPUT);
    let server = common::server(&flags.common, &["tcp://:8080"])
        .idle_timeout(Duration::from_millis(flags.idle_timeout_ms))
        .first_byte_timeout(limits.head_timeout)
        .high_watermark(HIGH_WATERMARK)
        .low_watermark(LOW_WATERMARK)
        .max_pending_output(max_pending)
        .linger_after_close(LINGER.0, LINGER.1);
    match tls::apply(server, &flags.tls, &flags.common) {
        Ok(server) => common::serve(server, move |_loop| Http::new(limits)),
        Err(error) => common::exit_code(Err(error)),
    }
}
