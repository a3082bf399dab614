//! Makes systems ready: builds what is not built, asks for its version, and checks what it answers.
//! What cannot be had is told with the way to get it, and is no reason to stop.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::check;
use super::launch::Launcher;
use super::process::{self, Ended};
use super::server::{command_in, last_words};
use super::systems::{Role, System};
use super::workload::Mode;

/// A cold build of a Java or Rust peer with its dependencies, on two slow cores.
const BUILD_MAX: Duration = Duration::from_secs(20 * 60);
const VERSION_MAX: Duration = Duration::from_secs(20);

/// What is known about a system before it is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub name: String,
    pub role: Role,
    pub language: String,
    pub note: String,
    pub warmup_seconds: f64,
    /// What `--version` answers.
    pub version: Option<String>,
    /// Why it is not measured at all, and what to do about it.
    pub missing: Option<String>,
    /// The modes in which it answered rightly, and those in which it did not, with what was wrong.
    pub passed: Vec<Mode>,
    pub failed: Vec<(Mode, String)>,
}

/// When to build.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BuildPolicy {
    /// Also what is built already.
    pub always: bool,
    /// All builds together have to end by then.
    pub deadline: Option<Instant>,
}

/// Why a system is not measured that could be, in a run that has no time for it.
const NO_TIME: &str = "no time left to check it; run scoreboard without --quick";

/// What all preparations share.
pub struct Preparation<'a> {
    pub policy: BuildPolicy,
    /// Who has not been checked by then is not measured.
    pub deadline: Option<Instant>,
    pub logs: &'a Path,
    pub launcher: &'a Launcher<'a>,
    pub server_cores: &'a [usize],
    /// The modes that the plan needs.
    pub modes: &'a [Mode],
}

impl Preparation<'_> {
    /// The error is the end of everything: an interruption.
    pub fn prepare(&self, system: &System, tell: &dyn Fn(&str)) -> Result<Status, String> {
        let mut status = Status {
            name: system.name.clone(),
            role: system.role,
            language: system.language.clone(),
            note: system.note.clone(),
            warmup_seconds: system.warmup_seconds,
            version: None,
            missing: None,
            passed: Vec::new(),
            failed: Vec::new(),
        };
        status.missing = self.build(system, tell).err();
        if status.missing.is_none() {
            status.version = self.ask_version(system);
            self.check(system, &mut status);
        }
        if process::interrupted() {
            return Err("interrupted".to_owned());
        }
        Ok(status)
    }

    fn build(&self, system: &System, tell: &dyn Fn(&str)) -> Result<(), String> {
        let lacks = system.lacks();
        if !lacks.is_empty() {
            return Err(format!("needs {}; install: {}", lacks.join(", "), system.install));
        }
        let is_needed = !system.is_built() || (self.policy.always && !system.build.is_empty());
        if !is_needed {
            return Ok(());
        }
        if system.build.is_empty() {
            return Err(format!("{} is not there; {}", system.program[0], system.install));
        }
        let now = Instant::now();
        let limit = self.policy.deadline.map(|deadline| deadline.saturating_duration_since(now));
        let limit = limit.unwrap_or(BUILD_MAX).min(BUILD_MAX);
        if limit.is_zero() {
            return Err("not built, and no time left for it; run scoreboard --build".to_owned());
        }
        let log = self.logs.join(format!("build-{}.log", system.name));
        tell(&format!(
            "builds {} ({}), log in {}",
            system.name,
            system.build.join(" "),
            log.display()
        ));
        let mut command = command_in(&system.build, &system.home);
        match process::run(&mut command, &[], (&log, None), limit) {
            Ok(Ended::Success) if system.is_built() => Ok(()),
            Ok(Ended::Success) => Err(format!(
                "its build left no {} behind{}; log in {}",
                system.program.join(" "),
                last_words(&log),
                log.display()
            )),
            Ok(Ended::Failure(status)) => Err(format!(
                "its build failed ({status}){}; log in {}; install: {}",
                last_words(&log),
                log.display(),
                system.install
            )),
            Ok(Ended::OutOfTime) => {
                Err(format!("its build took more than {limit:.0?}; run scoreboard --build"))
            }
            Err(error) => Err(format!("its build cannot be started: {error}")),
        }
    }

    fn ask_version(&self, system: &System) -> Option<String> {
        let output = self.logs.join(format!("version-{}.log", system.name));
        if !system.launch.version.is_empty() {
            return first_line(&system.launch.version, &system.home, (&output, None), |_| true);
        }
        let errors = self.logs.join(format!("version-{}.err", system.name));
        let mut words = system.program.clone();
        words.push("--version".to_owned());
        let is_success = |ended: &Ended| matches!(ended, Ended::Success);
        first_line(&words, &system.home, (&output, Some(&errors)), is_success)
    }

    fn check(&self, system: &System, status: &mut Status) {
        for mode in self.modes.iter().filter(|mode| system.modes.contains(mode)) {
            if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                status.missing = status.passed.is_empty().then(|| NO_TIME.to_owned());
                return;
            }
            let server = self.launcher.start(system, *mode, 1, self.server_cores);
            let checked = server.and_then(|mut server| {
                check::check(*mode, server.address)?;
                server.check_alive()
            });
            match checked {
                Ok(()) => status.passed.push(*mode),
                Err(error) => status.failed.push((*mode, error)),
            }
            if process::interrupted() {
                return;
            }
        }
    }
}

/// The first line of what a command says, if it ended as it should.
fn first_line(
    words: &[String],
    home: &Path,
    output: (&Path, Option<&Path>),
    is_good: impl FnOnce(&Ended) -> bool,
) -> Option<String> {
    let mut command = command_in(words, home);
    let ended = process::run(&mut command, &[], output, VERSION_MAX).ok()?;
    let text = fs::read_to_string(output.0).unwrap_or_default();
    let line = text.lines().next().map(str::trim).filter(|line| !line.is_empty());
    line.filter(|_| is_good(&ended)).map(str::to_owned)
}
