//! A cache that speaks the protocol of Redis, RESP2 and RESP3: strings, hashes, lists, sets, expiry,
//! channels. For clients of Redis that need no transactions or scripts.
//!
//! Commands are read where they lie in the receive buffer (`resp.rs`), looked up (`commands/`),
//! carried out on the loop's table (`store.rs`, `table.rs`), and all replies of a callback leave in one
//! system call (`reply.rs`). With one loop that is all there is to it; with several, each has a part
//! of the keys, and commands and replies travel between them (`shard/`, `lane.rs`).
//!
//! GETs and SETs that come together are a run, whose keys are looked up together (`quick.rs`,
//! `run.rs`).
//!
//! It keeps everything in memory and nothing on disk. With `--maxmemory` it refuses to grow; it
//! evicts nothing but what has an end. It knows no transactions, scripts, patterns of channels,
//! replication or users. The list of commands is `commands/table.rs`.
//!
//! ```text
//! cargo run --release --example kv
//! redis-cli set greeting hello ex 60
//! cargo run --release --example kv -- --loops 0 --driver io-uring --maxmemory 1gb --requirepass secret
//! ```

mod args;
mod bytes_flag;
mod client;
mod commands;
#[allow(dead_code, reason = "its loops are told of each other before it serves")]
#[path = "../common/mod.rs"]
mod common;
mod glob;
mod lane;
mod pubsub;
mod quick;
mod reply;
mod resp;
mod run;
mod server;
mod shard;
mod shared;
mod store;
mod table;
mod text;
mod value;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Instant;

use clap::Parser;
use foldhash::fast::RandomState;

use server::{HIGH_WATERMARK, Kv};
use shared::Shared;

/// Output of one connection: as Redis, no limit that a reply of any length could meet. Long strings
/// are shared with the table, and a client that does not take its replies gets no more of them.
const MAX_PENDING_OUTPUT: usize = 1 << 38;

/// Closures that may wait for a loop. How many there can be is bounded by the commands that
/// each connection may have on their way (`lane.rs`), so that none is ever refused.
const MAILBOX_CAPACITY: usize = 1 << 24;

/// A cache that speaks the protocol of Redis
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: common::Args,

    /// Clients have to tell this password
    #[arg(long, value_name = "PASSWORD")]
    requirepass: Option<String>,

    /// How many databases SELECT can choose from
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=16_384))]
    databases: u16,

    /// Refuse to store more than this, as 100mb; 0 is no limit
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = bytes_flag::parse)]
    maxmemory: usize,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let shared = Arc::new(Shared {
        databases: flags.databases.into(),
        maxmemory: AtomicUsize::new(flags.maxmemory),
        password: RwLock::new(flags.requirepass.map(String::into_bytes)),
        last_client: AtomicU64::new(0),
        connections_before: AtomicU64::new(0),
        commands: AtomicU64::new(0),
        started: Instant::now(),
        seed: RandomState::default(),
        handles: OnceLock::new(),
    });
    let server = common::server(&flags.common, &["tcp://127.0.0.1:6379"])
        // A client that closes its side may still wait for replies from other loops.
        .half_close(true)
        .high_watermark(HIGH_WATERMARK)
        .low_watermark(HIGH_WATERMARK / 4)
        .max_pending_output(MAX_PENDING_OUTPUT)
        .max_unconsumed_input(resp::MAX_COMMAND_BYTES)
        .mailbox_capacity(MAILBOX_CAPACITY);
    let factory_shared = Arc::clone(&shared);
    let factory = move |info| Kv::new(Arc::clone(&factory_shared), info);
    common::exit_code(common::run_with(server, factory, move |running| {
        // Nobody else sets them.
        let _ = shared.handles.set(running.loops().to_vec());
    }))
}
