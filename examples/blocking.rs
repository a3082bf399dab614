//! Work that blocks, while the loops stay free: a line `300` sleeps for 300 ms, then answers.
//!
//! The sleep stands for a database, a file, a slow computation. [`Conn::spawn`] runs it on the
//! worker pool, and afterwards `done` on the connection's own loop, with the connection in hand, if
//! it still lives. Requests overlap, also those of one connection, so that answers come in the
//! order in which the work ends: each repeats its request. A full pool says so at once.
//!
//! ```text
//! cargo run --release --example blocking
//! nc localhost 9002
//! ```

mod common;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use tightloop::{Action, Conn, Handler, Input};

/// Bounds what is kept, and looked through again, for a line that does not end.
const MAX_LINE_BYTES: usize = 1024;
const MAX_SLEEP_MS: u64 = 60_000;

/// Answers each line, a number of milliseconds, after having slept that long on a worker thread
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: common::Args,

    /// Worker threads at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    workers: usize,

    /// Requests that may wait for a worker; more are answered with busy
    #[arg(long, value_name = "N", default_value_t = 4096)]
    queue: usize,
}

struct Blocking;

/// What one connection waits for.
#[derive(Default)]
struct Jobs {
    running: usize,
    /// The client sends no more, but still waits for answers.
    eof: bool,
}

impl Handler for Blocking {
    type State = Jobs;

    fn on_open(&mut self, _: &mut Conn<'_>) -> Jobs {
        Jobs::default()
    }

    fn on_eof(&mut self, _: &mut Conn<'_>, jobs: &mut Jobs) -> Action {
        jobs.eof = true;
        if jobs.running > 0 { Action::Continue } else { Action::Close }
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        jobs: &mut Jobs,
        input: &mut Input<'_>,
    ) -> Action {
        loop {
            let unread = input.as_slice();
            let line_end = memchr::memchr(b'\n', unread);
            if line_end.unwrap_or(unread.len()) > MAX_LINE_BYTES {
                conn.write(b"error: the line is too long\n");
                return Action::Close;
            }
            let Some(line_end) = line_end else {
                return Action::Continue; // what is left is offered again, with what follows
            };
            input.consume(line_end + 1);
            answer(conn, jobs, &unread[..line_end]);
        }
    }
}

fn answer(conn: &mut Conn<'_>, jobs: &mut Jobs, line: &[u8]) {
    let number = str::from_utf8(line).ok().and_then(|line| line.trim_end().parse().ok());
    let Some(ms) = number.filter(|&ms| ms <= MAX_SLEEP_MS) else {
        conn.write_bytes(format!("error: not a number of milliseconds up to {MAX_SLEEP_MS}\n"));
        return;
    };
    let spawned = conn.spawn(
        // On a worker thread. What is returned here ...
        move || thread::sleep(Duration::from_millis(ms)),
        // ... arrives there, on the loop; or the panic that ended it.
        move |conn: &mut Conn<'_>, jobs: &mut Jobs, result| {
            conn.write_bytes(match result {
                Ok(()) => format!("slept {ms}\n"),
                Err(panic) => format!("error: {panic}\n"),
            });
            jobs.running -= 1;
            if jobs.eof && jobs.running == 0 {
                conn.close();
            }
        },
    );
    match spawned {
        Ok(()) => jobs.running += 1,
        Err(_) => drop(conn.write(b"busy\n")),
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let server = common::server(&flags.common, &["tcp://:9002"]);
    let server = server.worker_threads(flags.workers).worker_queue(flags.queue).half_close(true);
    common::serve(server, |_loop| Blocking)
}
