//! How systems are started: those that are called as the bench asks for it, and those that know
//! nothing of it, as the servers of a distribution. With a proxy, the server behind it is started.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::server::{Program, RunningServer};
use super::systems::System;
use super::workload::Mode;

/// What `peers.json` says of a program that knows nothing of the bench. Its words, and its
/// configuration, have placeholders:
///
/// | placeholder | is |
/// |---|---|
/// | `{address}`, `{host}`, `{port}` | where it has to listen |
/// | `{backend}` | the address of the server behind a proxy |
/// | `{directory}` | an empty directory of its own |
/// | `{config}` | the path of its configuration, filled in |
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Launch {
    /// A file in `bench/peers`, to be filled in.
    pub config: Option<String>,
    /// More files for its directory, by their names.
    pub files: std::collections::BTreeMap<String, String>,
    pub ready: Ready,
    /// What is called for its version; without any, the program with `--version`.
    pub version: Vec<String>,
    pub measured: Measured,
}

/// How it is known that a server listens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// It says so: the line `ready` on standard output.
    #[default]
    Line,
    /// It can be connected to.
    Connect,
}

/// Whose CPU time counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measured {
    /// The process that was started.
    #[default]
    Itself,
    /// The only child of that process: it does the work.
    Child,
}

const PLACEHOLDERS: [&str; 6] =
    ["{address}", "{host}", "{port}", "{backend}", "{directory}", "{config}"];

impl Launch {
    /// Whether it makes sense.
    pub fn check(&self) -> Result<(), String> {
        let is_plain = |name: &String| !name.is_empty() && !name.contains('/') && name != "..";
        match self.files.keys().find(|name| !is_plain(name)) {
            Some(name) => Err(format!("launch.files: {name:?} is no name of a file")),
            None => Ok(()),
        }
    }
}

/// Starts servers.
pub struct Launcher<'a> {
    /// Where logs and configurations go.
    pub logs: &'a Path,
    /// What stands behind proxies, and on which cores: those of the client.
    pub backend: &'a System,
    pub backend_cores: &'a [usize],
}

impl Launcher<'_> {
    /// Starts a system, and waits until it listens; before a proxy, the echo that is behind it.
    pub fn start(
        &self,
        system: &System,
        mode: Mode,
        threads: usize,
        cores: &[usize],
    ) -> Result<RunningServer, String> {
        let behind = match mode {
            Mode::Proxy => Some(
                self.start_one(self.backend, Mode::Echo, (1, self.backend_cores), None)
                    .map_err(|error| format!("the server behind the proxy: {error}"))?,
            ),
            _ => None,
        };
        let address = behind.as_ref().map(|server| server.address);
        let mut server = self.start_one(system, mode, (threads, cores), address)?;
        server.behind = behind.map(Box::new);
        Ok(server)
    }

    fn start_one(
        &self,
        system: &System,
        mode: Mode,
        (threads, cores): (usize, &[usize]),
        backend: Option<SocketAddr>,
    ) -> Result<RunningServer, String> {
        let log = server_log(self.logs, system, mode);
        let program = Program {
            system,
            mode,
            threads,
            backend,
            log: &log,
            directory: log.with_extension("d"),
        };
        RunningServer::start(&program, cores)
    }
}

/// Where the standard error of a system goes.
fn server_log(logs: &Path, system: &System, mode: Mode) -> PathBuf {
    logs.join(format!("{}-{mode}.log", system.name.replace(' ', "-")))
}

/// The words of a command line, mode and address included.
pub fn words(program: &Program<'_>, address: SocketAddr) -> Result<Vec<String>, String> {
    let Program { system, mode, threads, .. } = program;
    let has_placeholder = |word: &String| PLACEHOLDERS.iter().any(|place| word.contains(place));
    if !system.program.iter().any(has_placeholder) {
        let mut words = system.program.clone();
        words.extend([mode.to_string(), address.to_string()]);
        if *threads > 1 {
            words.extend(["--threads".to_owned(), threads.to_string()]);
        }
        return Ok(words);
    }
    let config = write_files(program, address)?;
    let fill_in = |word: &String| fill_in(word, program, address, config.as_deref());
    Ok(system.program.iter().map(fill_in).collect())
}

/// Makes the server's directory anew, with its configuration, whose path is returned.
fn write_files(program: &Program<'_>, address: SocketAddr) -> Result<Option<PathBuf>, String> {
    let Program { system, directory, .. } = program;
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(|error| failed(directory, error))?;
    }
    fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    for (name, text) in &system.launch.files {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    let Some(name) = &system.launch.config else { return Ok(None) };
    let template = system.home.join(name);
    let text = fs::read_to_string(&template).map_err(|error| failed(&template, error))?;
    let path = directory.join("config");
    fs::write(&path, fill_in(&text, program, address, None))
        .map_err(|error| failed(&path, error))?;
    Ok(Some(path))
}

fn fill_in(
    text: &str,
    program: &Program<'_>,
    address: SocketAddr,
    config: Option<&Path>,
) -> String {
    let backend = program.backend.map(|address| address.to_string()).unwrap_or_default();
    let config = config.map(|path| path.display().to_string()).unwrap_or_default();
    text.replace("{address}", &address.to_string())
        .replace("{host}", &address.ip().to_string())
        .replace("{port}", &address.port().to_string())
        .replace("{backend}", &backend)
        .replace("{directory}", &program.directory.display().to_string())
        .replace("{config}", &config)
}

/// The only child of a process.
pub fn only_child(pid: libc::pid_t) -> Option<libc::pid_t> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let mut children = text.split_whitespace();
    let child = children.next()?.parse().ok()?;
    children.next().is_none().then_some(child)
}
