//! Clients that this project did not write: `redis-benchmark` and `wrk`.
//!
//! They tell operations and latencies. What the server needed for them is read from outside: its
//! CPU time before the client starts and after it has ended, when the server sleeps and the
//! kernel's figure is exact. So connecting is part of it, some 50 times in a hundred thousand
//! operations; a warm-up is a run of its own before. Replies are not compared by these clients,
//! but they do refuse errors, and each system has passed the check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::launch::{Launch, Ready};
use super::machine;
use super::measure::Dose;
use super::process::{self, Ended};
use super::record::{Latency, Load, ServerFigures};
use super::server::{RunningServer, last_words};
use super::systems::{Role, System};
use super::workload::{Client, Mode};
use crate::load::{Sample, sample};

mod redis_benchmark;
mod wrk;

/// Connecting and ending.
const EXTRA: Duration = Duration::from_secs(30);

/// What such a client says of its run.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    operations: u64,
    seconds: f64,
    latency: Latency,
}

/// What runs a client.
pub struct Place<'a> {
    pub cores: &'a [usize],
    pub logs: &'a Path,
    /// When it has to have ended.
    pub deadline: Option<Instant>,
}

/// The client of a workload, if it is a foreign one, as something to be looked for.
pub fn system_of(client: Client) -> Option<System> {
    let (name, install) = match client {
        Client::Load => return None,
        Client::RedisBenchmark => ("redis-benchmark", "apt-get install -y redis-tools"),
        Client::Wrk => ("wrk", "apt-get install -y wrk"),
    };
    Some(System {
        name: name.to_owned(),
        role: Role::Client,
        language: "C".to_owned(),
        program: vec![name.to_owned()],
        home: PathBuf::from("."),
        build: Vec::new(),
        modes: Vec::<Mode>::new(),
        needs: vec![name.to_owned()],
        install: install.to_owned(),
        warmup_seconds: 0.0,
        threads: false,
        note: "a client: puts load on servers".to_owned(),
        launch: Launch {
            ready: Ready::Connect,
            version: vec![name.to_owned(), "-v".to_owned()],
            ..Launch::default()
        },
    })
}

/// Warms a server up and measures it.
pub fn load(place: &Place<'_>, server: &RunningServer, dose: &Dose<'_>) -> Result<Load, String> {
    match dose.workload.client {
        Client::RedisBenchmark => {
            let operations = redis_benchmark::warm_up(place, server, dose)?;
            measured(server, || redis_benchmark::run(place, server, dose.workload, operations))
        }
        Client::Wrk => {
            if dose.warmup_seconds > 0.0 {
                wrk::run(place, server, dose.workload, dose.warmup_seconds)?;
            }
            measured(server, || wrk::run(place, server, dose.workload, dose.seconds))
        }
        Client::Load => Err("this client is no foreign one".to_owned()),
    }
    .map(|load| Load { connections: dose.workload.connections as u64, ..load })
}

/// Runs a client, and looks at the server before and after.
fn measured(
    server: &RunningServer,
    run: impl FnOnce() -> Result<Told, String>,
) -> Result<Load, String> {
    let look = || -> Result<Sample, String> {
        let pid = server.pid();
        sample(&pid.to_string()).map_err(|error| format!("the server cannot be looked at: {error}"))
    };
    let before = look()?;
    let client_before = machine::children_ns();
    let told = run()?;
    let client_cpu_ns = machine::children_ns().saturating_sub(client_before);
    let after = look()?;
    let cpu_ns = after.cpu_ns.saturating_sub(before.cpu_ns);
    if told.operations == 0 {
        return Err("not one operation".to_owned());
    }
    let switches = after.context_switches.saturating_sub(before.context_switches);
    Ok(Load {
        connections: 0,
        rate: None,
        driver: None,
        seconds: told.seconds,
        operations: told.operations,
        bytes: 0,
        throughput: Some(told.operations as f64 / told.seconds),
        latency_us: Some(told.latency),
        client_cpu_ns: Some(client_cpu_ns),
        server: Some(ServerFigures {
            cpu_ns,
            cpu_ns_per_operation: Some(cpu_ns as f64 / told.operations as f64),
            rss_kib_before: Some(before.rss_kib),
            rss_kib_after: Some(after.rss_kib),
            context_switches: Some(switches),
        }),
    })
}

/// Runs a client to its end; what it printed.
fn output_of(place: &Place<'_>, command: &mut Command, seconds: f64) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = place.logs.join(format!("{name}.out"));
    let errors = place.logs.join(format!("{name}.err"));
    let limit = Duration::from_secs_f64(seconds) + EXTRA;
    let left = place.deadline.map(|end| end.saturating_duration_since(Instant::now()));
    let limit = left.map_or(limit, |left| limit.min(left));
    let ended = process::run(command, place.cores, (&output, Some(&errors)), limit)
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    match ended {
        Ended::Success => fs::read_to_string(&output)
            .map_err(|error| format!("what {name} said cannot be read: {error}")),
        Ended::Failure(status) => Err(format!("{name} ended with {status}{}", last_words(&errors))),
        Ended::OutOfTime => Err(format!("{name} did not end within {limit:.0?}")),
    }
}
