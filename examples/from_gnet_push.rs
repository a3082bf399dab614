//! A push server of gnet's kind, ported line by line: docs/from-gnet.md has the original beside it.
//! Blocking work makes a line for each tick, asynchronous writes bring it to every client. Where no
//! other thread is needed all of this is shorter: see the example `push`.
//!
//! ```text
//! cargo run --release --example from_gnet_push -- --tick 250ms --loops 0
//! nc localhost 9003
//! ```

mod common;
#[path = "common/duration.rs"]
mod duration;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Parser;
use tightloop::{
    Action, Balance, Bytes, CloseReason, Conn, ConnHandle, ConnId, Context, Handler, Input,
    Keepalive, WorkerOptions, WorkerPool,
};

const MAX_PENDING: usize = 64 * 1024; // a client that does not read misses lines

/// What is kept for a connection, by its loop and by those who push.
#[derive(Clone)]
struct Client {
    handle: ConnHandle,
    lines: Arc<AtomicU64>,
}

/// What all loops share.
#[derive(Default)]
struct Clients(Mutex<HashMap<ConnId, Client>>);

impl Clients {
    fn lock(&self) -> MutexGuard<'_, HashMap<ConnId, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One a loop.
struct PushServer {
    every: Duration,
    pool: WorkerPool,
    clients: Arc<Clients>,
    ticks: u64,
}

impl Handler for PushServer {
    type State = Client;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> Client {
        let client = Client { handle: conn.handle(), lines: Arc::default() };
        self.clients.lock().insert(conn.id(), client.clone());
        conn.write_bytes(format!("welcome {}\n", conn.peer_addr()));
        client
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, client: Client, reason: CloseReason) {
        self.clients.lock().remove(&conn.id());
        let lines = client.lines.load(Ordering::Relaxed);
        println!("{} left after {lines} lines: {reason}", conn.peer_addr());
    }

    /// A client can say "quit" and "stop"; everything else is answered by "what?".
    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut Client, input: &mut Input<'_>) -> Action {
        let unread = input.as_slice();
        let Some(end) = unread.iter().position(|&byte| byte == b'\n') else {
            return if unread.len() > 1024 { Action::Close } else { Action::Continue };
        };
        input.consume(end + 1);
        match &unread[..end] {
            b"quit" => {
                conn.write(b"bye\n");
                Action::Close
            }
            b"stop" => Action::Shutdown,
            _ => {
                conn.write(b"what?\n");
                Action::Continue // the next line is offered at once
            }
        }
    }

    /// On every loop; one is enough here, as the clients of all are in one map.
    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        if cx.loop_index() != 0 {
            return None;
        }
        self.ticks += 1;
        let (tick, server, clients) = (self.ticks, cx.server().clone(), Arc::clone(&self.clients));
        let spawned = self.pool.try_spawn(move || {
            let report = Bytes::from(slow_report(tick, server.connections()));
            for client in clients.lock().values() {
                if client.handle.pending() > MAX_PENDING {
                    continue;
                }
                let lines = Arc::clone(&client.lines);
                // Who has left meanwhile misses the line.
                let _ = client.handle.write_then(report.clone(), move |sent| {
                    lines.fetch_add(sent.is_ok().into(), Ordering::Relaxed);
                });
            }
        });
        if let Err(error) = spawned {
            println!("tick {tick} is left out: {error}");
        }
        Some(self.every)
    }
}

/// Stands for something that blocks: a database, a file, a computation.
fn slow_report(tick: u64, clients: usize) -> String {
    thread::sleep(Duration::from_millis(5));
    format!("tick {tick}: {clients} here\n")
}

/// Sends every client a line at each tick
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: common::Args, // --listen, --loops, --driver

    /// The time between two lines, such as 250ms, 1s or 2.5s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    tick: Duration,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let every = flags.tick;
    let pool = WorkerPool::new(WorkerOptions::default());
    let clients = Arc::new(Clients::default());
    let server = common::server(&flags.common, &["tcp://:9003"])
        .keepalive(Keepalive::new(Duration::from_secs(60)))
        .balance(Balance::LeastConnections);
    common::serve(server, move |_loop| PushServer {
        every,
        pool: pool.clone(),
        clients: Arc::clone(&clients),
        ticks: 0,
    })
}
