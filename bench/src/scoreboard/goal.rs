//! The comparison with the programs that people put into production: Redis, HAProxy, nginx, h2o.
//!
//! Against them stand this project's examples, which clients of these programs take for one of them.
//! Clients that this project did not write vouch for the figures: `redis-benchmark` and `wrk`. Each
//! of their works is there once more with this program's own client, which compares every byte.

use std::path::Path;

use super::launch::{Launch, Ready};
use super::systems::{Role, System};
use super::workload::{Client, Mode, Workload};

/// As many connections as `redis-benchmark` makes unless it is told otherwise.
const RESP_CONNECTIONS: usize = 50;
const HTTP_CONNECTIONS: usize = 64;
const PIPELINED: usize = 16;

/// The works that belong to this comparison alone. HTTP with the own client is also among the
/// main works.
pub fn workloads() -> Vec<Workload> {
    let mut workloads = Vec::new();
    for client in [Client::RedisBenchmark, Client::Load] {
        for pipeline in [1, PIPELINED] {
            workloads.extend(["get", "set"].map(|command| resp(command, pipeline, client)));
        }
    }
    let proxy =
        |name, title, connections, size| Workload::new(name, title, Mode::Proxy, connections, size);
    workloads.extend([
        proxy("proxy-256x100", "Proxy 256 B, 100 connections", 100, 256),
        proxy("proxy-64Kx8", "Proxy 64 KiB, 8 connections", 8, 65_536),
        proxy("proxy-pipelined-16x64", "Proxy pipelined 16 x 64 B, 50 connections", 50, 64)
            .pipelined(PIPELINED),
    ]);
    let http = |name, title, pipeline| Workload {
        client: Client::Wrk,
        ..Workload::new(name, title, Mode::Http, HTTP_CONNECTIONS, 0).pipelined(pipeline)
    };
    workloads.extend([
        http("http-64-wrk", "HTTP/1.1 keep-alive, 64 connections, by wrk", 1),
        http(
            "http-pipelined-16x64-wrk",
            "HTTP/1.1 pipelined 16, 64 connections, by wrk",
            PIPELINED,
        ),
    ]);
    workloads
}

fn resp(command: &str, pipeline: usize, client: Client) -> Workload {
    let depth = if pipeline == 1 { String::new() } else { format!("-{pipeline}") };
    let (suffix, by) = match client {
        Client::Load => ("-verified", "the own client"),
        _ => ("", "redis-benchmark"),
    };
    let name = format!("resp-{command}{depth}{suffix}");
    let verb = command.to_uppercase();
    let title = format!("RESP {verb}, -P {pipeline}, {RESP_CONNECTIONS} connections, by {by}");
    // redis-benchmark's values have 3 bytes.
    let new = Workload::new(&name, &title, Mode::Resp, RESP_CONNECTIONS, 3).pipelined(pipeline);
    Workload { command: Some(command.to_owned()), client, ..new }
}

/// What a row of tightloop is in this comparison: the program that stands against the others.
pub fn own_program(mode: Mode) -> &'static str {
    match mode {
        Mode::Resp => "tightloop-kv-",
        Mode::Proxy => "tightloop-proxy-",
        _ => "tightloop-http-",
    }
}

/// The examples, by each driver. They are beside this program, where cargo puts them.
pub fn example_systems(own_program: &Path) -> Vec<System> {
    let home = own_program.parent().unwrap_or(Path::new(".")).to_owned();
    let example = |name: &str, mode: Mode, more: &[&str], driver: &str| {
        let program = format!("examples/{name}");
        let words = [&program, "--driver", driver, "--listen", "tcp://{address}"];
        System {
            name: format!("tightloop-{name}-{driver}"),
            role: Role::Tightloop,
            language: "Rust".to_owned(),
            program: words.iter().chain(more).map(|word| (*word).to_owned()).collect(),
            home: home.clone(),
            build: Vec::new(),
            modes: vec![mode],
            needs: Vec::new(),
            install: format!("cargo build --release --example {name}"),
            warmup_seconds: 2.0,
            threads: false,
            note: format!("this project's example {name}, driver {driver}"),
            launch: Launch {
                ready: Ready::Connect,
                // They are built from the same sources.
                version: vec![own_program.to_string_lossy().into_owned(), "--version".to_owned()],
                ..Launch::default()
            },
        }
    };
    let of = |driver| {
        [
            example("kv", Mode::Resp, &[], driver),
            example("proxy", Mode::Proxy, &["--upstream", "tcp://{backend}"], driver),
            example("http", Mode::Http, &[], driver),
        ]
    };
    ["poll", "io-uring"].into_iter().flat_map(of).collect()
}
