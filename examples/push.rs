//! The server speaks first: every tick each connection gets a line.
//!
//! No lock, no map of connections, no task for each: `on_tick` runs on the loop that owns the
//! connections, walks over them with `for_each`, and finds what it keeps for each beside it. With
//! several loops each has a handler of its own, which ticks for itself.
//!
//! ```text
//! cargo run --release --example push -- --tick 250ms
//! nc localhost 9001
//! ```

mod common;
#[path = "common/duration.rs"]
mod duration;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tightloop::{Action, Conn, Context, Handler, Input};

/// A peer that does not read its lines misses some, instead of filling our memory.
const MAX_PENDING_BYTES: usize = 64 * 1024;

/// Sends every connection a line at each tick
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: common::Args,

    /// The time between two lines, such as 250ms, 1s or 2.5s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    tick: Duration,
}

struct Push {
    every: Duration,
    ticks: u64,
}

impl Handler for Push {
    type State = u64; // the lines that the connection was sent

    fn on_open(&mut self, _: &mut Conn<'_>) -> u64 {
        0
    }

    fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut u64, input: &mut Input<'_>) -> Action {
        input.take_all(); // what a client says is of no interest here
        Action::Continue
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        self.ticks += 1;
        let (tick, connections) = (self.ticks, cx.connections());
        cx.for_each(|conn, lines| {
            if conn.pending() < MAX_PENDING_BYTES {
                *lines += 1;
                conn.write_bytes(format!(
                    "tick {tick}: line {lines}, connections here {connections}\n"
                ));
            }
        });
        Some(self.every)
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let every = flags.tick;
    let server = common::server(&flags.common, &["tcp://:9001"]);
    common::serve(server, move |_loop| Push { every, ticks: 0 })
}
