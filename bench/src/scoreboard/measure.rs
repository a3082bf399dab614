//! One round: a server that runs, a load on the other core, and what both and the machine say.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::foreign;
use super::machine::{Noise, Watch};
use super::process::{self, Ended};
use super::record::Load;
use super::server::{RunningServer, last_words};
use super::workload::{self, Mode, Workload};

/// Beyond warm-up and measurement: connecting 15,000 times, and ending as often.
const LOAD_EXTRA: Duration = Duration::from_secs(30);
/// What was begun in time may end a little too late, so that it is not in vain.
const OVERRUN: Duration = Duration::from_secs(8);

/// Where and by what load is made.
pub struct Client {
    /// This program, or what a test puts in its place.
    pub program: PathBuf,
    pub cores: Vec<usize>,
    pub logs: PathBuf,
    /// When the whole run has to be over.
    pub deadline: Option<Instant>,
}

/// How one load is to run.
pub struct Dose<'a> {
    pub workload: &'a Workload,
    pub seconds: f64,
    pub warmup_seconds: f64,
    /// Operations a second, for an open loop.
    pub rate: Option<f64>,
}

pub struct Measured {
    pub load: Load,
    pub noise: Noise,
    pub rss_kib_at_start: Option<u64>,
}

impl Client {
    /// Measures a server.
    pub fn measure(
        &self,
        server: &mut RunningServer,
        dose: &Dose<'_>,
        cores: &[usize],
    ) -> Result<Measured, String> {
        if dose.workload.is_idle() {
            touch(dose.workload.mode, server.address)?;
        }
        let rss_kib_at_start = resident_kib(server.pid());
        let watch = Watch::begin(&server.pids());
        let load = self.load(server, dose, cores);
        let noise = watch.end();
        let load = load.map_err(|error| match server.check_alive() {
            Ok(()) => error,
            Err(ended) => format!("{ended}; {error}"),
        })?;
        Ok(Measured { load, noise, rss_kib_at_start })
    }

    /// Runs a client to its end: the command `load`, or a foreign one.
    pub fn load(
        &self,
        server: &RunningServer,
        dose: &Dose<'_>,
        cores: &[usize],
    ) -> Result<Load, String> {
        if dose.workload.client != workload::Client::Load {
            let deadline = self.deadline.map(|deadline| deadline + OVERRUN);
            let place = foreign::Place { cores, logs: &self.logs, deadline };
            return foreign::load(&place, server, dose);
        }
        let report = self.logs.join("load.json");
        let errors = self.logs.join("load.err");
        let mut command = Command::new(&self.program);
        command.arg("load").arg(format!("{}://{}", dose.workload.scheme(), server.address));
        command.args(dose.workload.load_options());
        command.arg("--duration").arg(milliseconds(dose.seconds));
        command.arg("--warmup").arg(milliseconds(dose.warmup_seconds));
        if let Some(rate) = dose.rate {
            command.arg("--rate").arg(format!("{rate:.0}"));
        }
        command.arg("--server-pid").arg(server.pid().to_string());
        command.args(["--json", "-", "--quiet"]);
        let limit = Duration::from_secs_f64(dose.seconds + dose.warmup_seconds) + LOAD_EXTRA;
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = left.map_or(limit, |left| limit.min(left + OVERRUN));
        let ended = process::run(&mut command, cores, (&report, Some(&errors)), limit)
            .map_err(|error| format!("the load cannot be started: {error}"))?;
        match ended {
            Ended::Success => read_report(&report),
            Ended::Failure(status) => {
                Err(format!("the load ended with {status}{}", last_words(&errors)))
            }
            Ended::OutOfTime => Err(format!("the load did not end within {limit:.0?}")),
        }
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.0}ms", seconds * 1_000.0)
}

fn read_report(path: &Path) -> Result<Load, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("the load's report cannot be read: {error}"))?;
    let load: Load = serde_json::from_str(&text)
        .map_err(|error| format!("the load's report is not understood: {error}"))?;
    if load.operations == 0 { Err("not one operation".to_owned()) } else { Ok(load) }
}

/// One exchange, so that what a server makes once is there before its memory is read.
fn touch(mode: Mode, address: SocketAddr) -> Result<(), String> {
    if mode != Mode::Echo {
        return Ok(());
    }
    let exchange = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&[7; 64])?;
        stream.read_exact(&mut [0; 64])
    };
    exchange().map_err(|error| format!("does not answer: {error}"))
}

fn resident_kib(pid: libc::pid_t) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
