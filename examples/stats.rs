//! What a server counts, for Prometheus: an echo server that shows its numbers over HTTP on a
//! second listener. Which listener a connection came from decides what is spoken on it.
//!
//! It also shows the limits that a public server should set: each is one line in `main`.
//!
//! ```text
//! cargo run --release --example stats
//! curl localhost:9100/metrics
//! ```

mod common;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tightloop::{Action, Conn, Handler, Input, WhenFull};

/// The longest request that is waited for.
const MAX_REQUEST_BYTES: usize = 8 * 1024;

/// Echo on the first address, GET /metrics on the others (default: ports 9000 and 9100)
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: common::Args,
}

struct Stats;

impl Stats {
    /// Answers one HTTP request and closes, which is all that a scraper needs.
    fn show(conn: &mut Conn<'_>, input: &mut Input<'_>) -> Action {
        let request = input.as_slice();
        let is_whole = request.windows(4).any(|end| end == b"\r\n\r\n");
        if !is_whole && request.len() <= MAX_REQUEST_BYTES {
            return Action::Continue; // the rest is on its way, or first_byte and idle end it
        }
        let (status, body) = if request.starts_with(b"GET /metrics ") {
            ("200 OK", conn.server().stats().to_prometheus("tightloop"))
        } else {
            ("404 Not Found", "only GET /metrics\n".to_owned())
        };
        input.take_all();
        let length = body.len();
        conn.write(
            format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        Action::Close
    }
}

impl Handler for Stats {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        if conn.listener() != Some(0) {
            return Stats::show(conn, input);
        }
        conn.write(input.take_all());
        Action::Continue
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let server = common::server(&flags.common, &["tcp://:9000", "tcp://:9100"])
        .max_connections(100_000, WhenFull::Wait)
        .max_connections_per_ip(10_000)
        .first_byte_timeout(Duration::from_secs(10))
        .idle_timeout(Duration::from_secs(60))
        .stall_threshold(Duration::from_millis(100));
    common::serve(server, |_loop| Stats)
}
