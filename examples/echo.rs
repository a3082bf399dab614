//! Echo over TCP, UDP and a Unix socket at once: what comes in goes out.
//!
//! One handler serves all three. A stream is `on_traffic`: whatever has arrived is written back,
//! and leaves when the callback returns. A datagram is `on_datagram`, and is answered whole.
//!
//! ```text
//! cargo run --release --example echo
//! nc localhost 9000        nc -u localhost 9000        nc -U /tmp/tightloop-echo.sock
//! ```

mod common;

use std::process::ExitCode;

use clap::Parser;
use tightloop::{Action, Conn, Datagram, Handler, Input};

const DEFAULT_URLS: &[&str] = &[
    "tcp://:9000",
    "udp://:9000",
    #[cfg(unix)]
    "unix:///tmp/tightloop-echo.sock",
];

/// Echo over TCP, UDP and Unix sockets
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: common::Args,
}

struct Echo;

impl Handler for Echo {
    type State = (); // nothing is kept for a connection

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        conn.write(input.take_all());
        Action::Continue
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        datagram.reply(datagram.payload());
        Action::Continue
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    common::serve(common::server(&flags.common, DEFAULT_URLS), |_loop| Echo)
}
