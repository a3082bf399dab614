//! The systems that are compared: tightloop by each of its drivers, and what `peers.json` lists.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::goal;
use super::launch::Launch;
use super::workload::Mode;

/// As `peers.json` describes one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    language: String,
    /// Where its sources are: for those who read the list.
    #[serde(rename = "directory")]
    _directory: String,
    build: Vec<String>,
    program: Vec<String>,
    modes: Vec<Mode>,
    needs: Vec<String>,
    install: String,
    warmup_seconds: f64,
    threads: bool,
    note: String,
    /// How a program is started that knows nothing of the bench.
    #[serde(default)]
    launch: Launch,
}

/// What a system is in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Tightloop,
    /// What the system calls alone cost.
    Floor,
    Peer,
    /// No server: what puts load on them, and was not made by this project.
    Client,
}

/// A system under test.
#[derive(Debug, Clone)]
pub struct System {
    pub name: String,
    pub role: Role,
    pub language: String,
    /// Mode and address are appended, unless there are placeholders: see [`Launch`].
    pub program: Vec<String>,
    /// Where programs start, and where their relative paths are from.
    pub home: PathBuf,
    /// Runs in `home` too.
    pub build: Vec<String>,
    pub modes: Vec<Mode>,
    pub needs: Vec<String>,
    pub install: String,
    pub warmup_seconds: f64,
    pub threads: bool,
    pub note: String,
    pub launch: Launch,
}

/// The control: the same program under another name.
const AGAIN: &str = " again";

impl System {
    /// The second instance of a system, for the A/A control.
    pub fn again(&self) -> System {
        System { name: format!("{}{AGAIN}", self.name), ..self.clone() }
    }

    pub fn serves(&self, mode: Mode, threads: usize) -> bool {
        self.modes.contains(&mode) && (threads == 1 || self.threads)
    }

    /// Whether everything that the build makes is there. Paths with a directory are files; a bare
    /// name is looked for on the path, as is what runs a program (`java -jar target/...`).
    pub fn is_built(&self) -> bool {
        let mut words = self.program.iter();
        let program_exists = words.next().is_some_and(|name| match name.contains('/') {
            true => self.home.join(name).is_file(),
            false => find_command(name).is_some(),
        });
        let exists = |word: &&String| !word.starts_with("target/") || self.home.join(word).exists();
        program_exists && words.all(|word| exists(&word))
    }

    /// The commands that are not on this machine.
    pub fn lacks(&self) -> Vec<&str> {
        let is_missing = |name: &&str| find_command(name).is_none();
        self.needs.iter().map(String::as_str).filter(is_missing).collect()
    }
}

/// Whether a name is that of a control.
pub fn is_control(name: &str) -> bool {
    name.ends_with(AGAIN)
}

/// The name of the system of which this one is the second instance.
pub fn original_of(name: &str) -> &str {
    name.strip_suffix(AGAIN).unwrap_or(name)
}

pub fn find_command(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Everything that could be measured: tightloop first, then the peers as they are listed.
pub fn all_systems(peers: &Path, own_program: &Path) -> Result<Vec<System>, String> {
    let mut systems = tightloop_systems(own_program);
    let list = peers.join("peers.json");
    let text = match fs::read_to_string(&list) {
        Ok(text) => text,
        Err(error) => return Err(format!("{} cannot be read: {error}", list.display())),
    };
    let entries: Vec<Entry> = serde_json::from_str(&text)
        .map_err(|error| format!("{} is no list of peers: {error}", list.display()))?;
    for entry in entries {
        if entry.program.is_empty() || entry.modes.is_empty() {
            return Err(format!("{}: {} has no program or no modes", list.display(), entry.name));
        }
        entry
            .launch
            .check()
            .map_err(|error| format!("{}: {}: {error}", list.display(), entry.name))?;
        if systems.iter().any(|system| system.name == entry.name) || is_control(&entry.name) {
            return Err(format!("{}: {} is there twice", list.display(), entry.name));
        }
        systems.push(peer(entry, peers));
    }
    Ok(systems)
}

fn peer(entry: Entry, peers: &Path) -> System {
    let role = if entry.name.starts_with("floor") { Role::Floor } else { Role::Peer };
    System {
        name: entry.name,
        role,
        language: entry.language,
        program: entry.program,
        home: peers.to_owned(),
        build: entry.build,
        modes: entry.modes,
        needs: entry.needs,
        install: entry.install,
        warmup_seconds: entry.warmup_seconds,
        threads: entry.threads,
        note: entry.note,
        launch: entry.launch,
    }
}

/// tightloop by each of its drivers.
pub fn tightloop_systems(program: &Path) -> Vec<System> {
    let system = |driver: &str| System {
        name: format!("tightloop-{driver}"),
        role: Role::Tightloop,
        language: "Rust".to_owned(),
        program: [&program.to_string_lossy(), "--driver", driver].map(str::to_owned).to_vec(),
        home: program.parent().unwrap_or(Path::new(".")).to_owned(),
        build: Vec::new(),
        modes: vec![Mode::Echo, Mode::Udp, Mode::Http, Mode::Broadcast],
        needs: Vec::new(),
        install: "cargo build --release -p tightloop-bench".to_owned(),
        warmup_seconds: 2.0,
        threads: true,
        note: format!("this project, driver {driver}"),
        launch: Launch::default(),
    };
    let mut systems = vec![system("poll"), system("io-uring")];
    systems.extend(goal::example_systems(program));
    systems
}

/// The floor of a mode: the first that is listed. The others, with tricks of their own, are
/// compared as systems.
pub fn floor_of(systems: &[System], mode: Mode) -> Option<&System> {
    let is_floor = |system: &&System| system.role == Role::Floor && system.modes.contains(&mode);
    systems.iter().find(is_floor)
}

/// The system that everything is divided by, and of which the control is a second instance: the
/// floor; where a mode has none, tightloop.
pub fn baseline_of(systems: &[System], mode: Mode) -> Option<&System> {
    let serves = |system: &&System| system.modes.contains(&mode);
    let own = || systems.iter().find(|system| system.role == Role::Tightloop && serves(system));
    floor_of(systems, mode).or_else(own).or_else(|| systems.iter().find(serves))
}
