//! The raw file: a header that says what is measured where, and a line for each thing that was
//! found, written as soon as it is known. A run that was interrupted goes on from it, and a report
//! can be made from it again.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::machine::{Commit, Machine, Noise};
use super::plan::Plan;
use super::prepare::Status;

pub const FILE_NAME: &str = "raw.jsonl";
const FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    format: u32,
    pub date: String,
    pub command: String,
    pub commit: Commit,
    pub machine: Machine,
    pub server_cores: Vec<usize>,
    pub client_cores: Vec<usize>,
    pub systems: Vec<Status>,
    /// What stands behind proxies, on the client's cores.
    #[serde(default)]
    pub backend: Option<String>,
    pub plan: Plan,
}

/// What a new run would write as its header, as far as it is not chance.
pub struct Setting {
    pub command: String,
    pub commit: Commit,
    pub machine: Machine,
    pub server_cores: Vec<usize>,
    pub client_cores: Vec<usize>,
    pub systems: Vec<Status>,
    pub backend: Option<String>,
    pub plan: Plan,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Header(Box<Header>),
    Round(Box<Round>),
    Calls(Calls),
    Failure(Failure),
}

/// One system in one round of one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    pub workload: String,
    pub system: String,
    pub round: usize,
    /// From 1; more than one where others disturbed it.
    pub attempt: usize,
    pub noise: Noise,
    /// Resident memory when the server had answered once and had no other connection yet.
    pub rss_kib_at_start: Option<u64>,
    pub load: Load,
}

/// The system calls of an operation; `None` with the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    pub workload: String,
    pub system: String,
    pub per_operation: Option<f64>,
    pub reason: Option<String>,
}

/// A round that gave no figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub workload: String,
    pub system: String,
    pub round: usize,
    pub reason: String,
}

/// What the command `load` says, without its curves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    pub connections: u64,
    pub rate: Option<f64>,
    pub driver: Option<String>,
    pub seconds: f64,
    pub operations: u64,
    pub bytes: u64,
    /// `None` where nothing is asked of the connections.
    pub throughput: Option<f64>,
    pub latency_us: Option<Latency>,
    pub client_cpu_ns: Option<u64>,
    pub server: Option<ServerFigures>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    /// `None` here and below where a foreign client does not tell it.
    pub p90: Option<f64>,
    pub p99: f64,
    pub p99_9: Option<f64>,
    pub max: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerFigures {
    pub cpu_ns: u64,
    pub cpu_ns_per_operation: Option<f64>,
    pub rss_kib_before: Option<u64>,
    pub rss_kib_after: Option<u64>,
    pub context_switches: Option<u64>,
}

/// Everything that is known of a run.
#[derive(Debug, Clone)]
pub struct Records {
    pub header: Header,
    pub rounds: Vec<Round>,
    pub calls: Vec<Calls>,
    pub failures: Vec<Failure>,
}

/// After this many a system is out of a workload.
pub const FAILURES_MAX: usize = 2;

impl Records {
    /// Reads a file. A last line that was cut off in the middle is no part of it.
    pub fn read(path: &Path) -> Result<Records, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Records::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Records, String> {
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut lines = whole.lines().enumerate();
        let parse = |(index, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", index + 1))
        };
        let header = match lines.next().map(parse).transpose()? {
            Some(Line::Header(header)) if header.format == FORMAT => *header,
            Some(Line::Header(_)) => return Err("was written by another version".to_owned()),
            _ => return Err("has no header".to_owned()),
        };
        let mut records =
            Records { header, rounds: Vec::new(), calls: Vec::new(), failures: Vec::new() };
        for line in lines {
            match parse(line)? {
                Line::Round(round) => records.rounds.push(*round),
                Line::Calls(calls) => records.calls.push(calls),
                Line::Failure(failure) => records.failures.push(failure),
                Line::Header(_) => return Err(format!("line {}: a second header", line.0 + 1)),
            }
        }
        Ok(records)
    }

    /// The rounds of a system in a workload, in order; of several attempts the least disturbed.
    pub fn rounds_of(&self, workload: &str, system: &str) -> Vec<&Round> {
        let mut best: HashMap<usize, &Round> = HashMap::new();
        let is_meant = |round: &&Round| round.workload == workload && round.system == system;
        for round in self.rounds.iter().filter(is_meant) {
            let place = best.entry(round.round).or_insert(round);
            if round.noise.weight() < place.noise.weight() {
                *place = round;
            }
        }
        let mut rounds: Vec<_> = best.into_values().collect();
        rounds.sort_by_key(|round| round.round);
        rounds
    }

    pub fn has_round(&self, workload: &str, system: &str, round: usize) -> bool {
        let is_it =
            |it: &Round| it.round == round && it.workload == workload && it.system == system;
        self.rounds.iter().any(is_it)
    }

    pub fn calls_of(&self, workload: &str, system: &str) -> Option<&Calls> {
        self.calls.iter().find(|calls| calls.workload == workload && calls.system == system)
    }

    /// Why a system is out of a workload, if it is.
    pub fn exclusion(&self, workload: &str, system: &str) -> Option<&str> {
        let is_meant = |it: &&Failure| it.workload == workload && it.system == system;
        let mut failures = self.failures.iter().filter(is_meant);
        failures.nth(FAILURES_MAX - 1).map(|failure| failure.reason.as_str())
    }

    pub fn status_of(&self, system: &str) -> Option<&Status> {
        self.header.systems.iter().find(|status| status.name == system)
    }
}

/// The records of a run that goes on, and the file that grows with them.
pub struct Journal {
    pub records: Records,
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Begins a file, or goes on with the one that is there if it is of the same run.
    pub fn open(directory: &Path, setting: Setting, restart: bool) -> Result<Journal, String> {
        let path = directory.join(FILE_NAME);
        if restart || !path.exists() {
            return Journal::begin(path, setting);
        }
        let records = Records::read(&path).map_err(|error| format!("{error}; {WAY_OUT}"))?;
        if let Some(difference) = difference(&records.header, &setting) {
            return Err(format!(
                "{} holds a run with {difference}; {WAY_OUT}, or give another --out",
                path.display()
            ));
        }
        let failed = |error: io::Error| format!("{} cannot be written: {error}", path.display());
        let mut file = File::options().append(true).open(&path).map_err(failed)?;
        claim(&file, &path)?;
        end_last_line(&mut file, &path).map_err(failed)?;
        Ok(Journal { records, file, path })
    }

    fn begin(path: PathBuf, setting: Setting) -> Result<Journal, String> {
        let header = Header {
            format: FORMAT,
            date: super::machine::now(),
            command: setting.command,
            commit: setting.commit,
            machine: setting.machine,
            server_cores: setting.server_cores,
            client_cores: setting.client_cores,
            systems: setting.systems,
            backend: setting.backend,
            plan: setting.plan,
        };
        let failed = |error: io::Error| format!("{} cannot be written: {error}", path.display());
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        claim(&file, &path)?;
        file.set_len(0).map_err(failed)?;
        let line = Line::Header(Box::new(header.clone()));
        let records =
            Records { header, rounds: Vec::new(), calls: Vec::new(), failures: Vec::new() };
        let mut journal = Journal { records, file, path };
        journal.append(&line)?;
        Ok(journal)
    }

    pub fn add_round(&mut self, round: Round) -> Result<(), String> {
        self.append(&Line::Round(Box::new(round.clone())))?;
        self.records.rounds.push(round);
        Ok(())
    }

    pub fn add_calls(&mut self, calls: Calls) -> Result<(), String> {
        self.append(&Line::Calls(calls.clone()))?;
        self.records.calls.push(calls);
        Ok(())
    }

    pub fn add_failure(&mut self, failure: Failure) -> Result<(), String> {
        self.append(&Line::Failure(failure.clone()))?;
        self.records.failures.push(failure);
        Ok(())
    }

    fn append(&mut self, line: &Line) -> Result<(), String> {
        let mut text = serde_json::to_string(line).map_err(|error| error.to_string())?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(|error| format!("{} cannot be written: {error}", self.path.display()))
    }
}

const WAY_OUT: &str = "begin anew with --restart";

/// Two runs at a time would write into one file, and measure each other.
fn claim(file: &File, path: &Path) -> Result<(), String> {
    // SAFETY: the descriptor is that of an open file; the lock goes when it is closed.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => {
            Err(format!("another scoreboard is writing {}", path.display()))
        }
        error => Err(format!("{} cannot be locked: {error}", path.display())),
    }
}

/// Cuts off a last line that an end in the middle of a write has left behind.
fn end_last_line(file: &mut File, path: &Path) -> io::Result<()> {
    let bytes = fs::read(path)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    file.set_len(whole as u64)
}

/// The first thing in which a run differs from the one of a file.
fn difference(header: &Header, setting: &Setting) -> Option<String> {
    if header.commit != setting.commit {
        let name = |commit: &Commit| match &commit.dirty {
            Some(sum) => format!("{:.10} with changes ({sum:.6})", commit.id),
            None => format!("{:.10}", commit.id),
        };
        let (old, new) = (name(&header.commit), name(&setting.commit));
        return Some(format!("another commit ({old}, and this is {new})"));
    }
    if header.machine != setting.machine {
        return Some("another machine, or other settings of it".to_owned());
    }
    if (&header.server_cores, &header.client_cores)
        != (&setting.server_cores, &setting.client_cores)
    {
        return Some("other cores".to_owned());
    }
    if header.backend != setting.backend {
        return Some("another server behind the proxies".to_owned());
    }
    if header.plan != setting.plan {
        return Some("another plan".to_owned());
    }
    let versions = |systems: &[Status]| -> Vec<(String, Option<String>, bool)> {
        let version = |status: &Status| {
            (status.name.clone(), status.version.clone(), status.missing.is_some())
        };
        systems.iter().map(version).collect()
    };
    (versions(&header.systems) != versions(&setting.systems))
        .then(|| "other systems, or other versions of them".to_owned())
}
