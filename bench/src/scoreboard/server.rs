//! A system under test, running.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::launch::{self, Measured, Ready};
use super::process::{Guarded, interrupted};
use super::systems::System;
use super::workload::Mode;

/// A virtual machine's start included, on a busy machine.
const READY_MAX: Duration = Duration::from_secs(20);
/// How often it is tried whether a server listens.
const LOOK: Duration = Duration::from_millis(10);
/// Another program may take a port between our look and the server's bind.
const PORT_ATTEMPTS: usize = 3;
/// Below the range from which the kernel takes the ports of clients, so that none of the thousands
/// of a round, or what the kernel remembers of them, is in a server's way.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Program<'a> {
    pub system: &'a System,
    pub mode: Mode,
    pub threads: usize,
    /// The server behind a proxy.
    pub backend: Option<SocketAddr>,
    /// Where its standard error goes.
    pub log: &'a Path,
    /// A directory of its own, if it asks for one.
    pub directory: PathBuf,
}

pub struct RunningServer {
    process: Guarded,
    pub address: SocketAddr,
    /// The process whose CPU time counts.
    worker: libc::pid_t,
    /// What a proxy passes everything on to.
    pub behind: Option<Box<RunningServer>>,
}

impl RunningServer {
    /// Starts a system on these cores and waits until it listens.
    pub fn start(program: &Program<'_>, cores: &[usize]) -> Result<RunningServer, String> {
        let mut last = String::new();
        for _ in 0..PORT_ATTEMPTS {
            let address = free_address().map_err(|error| format!("no free port: {error}"))?;
            match start_at(program, address, cores) {
                Ok(process) => {
                    let worker = worker(program, &process)?;
                    return Ok(RunningServer { process, address, worker, behind: None });
                }
                Err(NotReady::Ended(error)) if !interrupted() => last = error,
                Err(NotReady::Ended(error) | NotReady::Otherwise(error)) => return Err(error),
            }
        }
        Err(last)
    }

    pub fn pid(&self) -> libc::pid_t {
        self.worker
    }

    /// All processes that are part of the round: those of the server, and what stands behind it.
    pub fn pids(&self) -> Vec<libc::pid_t> {
        let behind = self.behind.iter().flat_map(|behind| behind.pids());
        let mut pids: Vec<_> = behind.chain([self.process.pid(), self.worker]).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Whether it still runs; if not, how it ended.
    pub fn check_alive(&mut self) -> Result<(), String> {
        match self.process.child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Err(format!("the server ended by itself: {status}")),
            Err(error) => return Err(format!("the server cannot be waited for: {error}")),
        }
        match &mut self.behind {
            Some(behind) => behind.check_alive().map_err(|error| format!("behind it, {error}")),
            None => Ok(()),
        }
    }
}

fn worker(program: &Program<'_>, process: &Guarded) -> Result<libc::pid_t, String> {
    if program.system.launch.measured == Measured::Itself {
        return Ok(process.pid());
    }
    let deadline = Instant::now() + READY_MAX;
    loop {
        // The listener is there before the child that serves it.
        if let Some(child) = launch::only_child(process.pid()) {
            return Ok(child);
        }
        if Instant::now() > deadline || interrupted() {
            return Err("has not one child, whose CPU time would count".to_owned());
        }
        thread::sleep(LOOK);
    }
}

enum NotReady {
    /// It may have been the port: worth another one.
    Ended(String),
    Otherwise(String),
}

impl From<String> for NotReady {
    fn from(error: String) -> NotReady {
        NotReady::Otherwise(error)
    }
}

fn start_at(
    program: &Program<'_>,
    address: SocketAddr,
    cores: &[usize],
) -> Result<Guarded, NotReady> {
    let system = program.system;
    let name = &system.program[0];
    let log = File::create(program.log)
        .map_err(|error| format!("{} cannot be written: {error}", program.log.display()))?;
    let words = launch::words(program, address)?;
    let mut command = command_in(&words, &system.home);
    command.stdin(Stdio::null());
    match system.launch.ready {
        Ready::Line => command.stdout(Stdio::piped()).stderr(log),
        Ready::Connect => {
            let both = log.try_clone().map_err(|error| error.to_string())?;
            command.stdout(both).stderr(log)
        }
    };
    let mut process = Guarded::start(&mut command, cores)
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    match system.launch.ready {
        Ready::Line => wait_for_line(&mut process, program)?,
        Ready::Connect => wait_for_listener(&mut process, program, address)?,
    }
    Ok(process)
}

fn wait_for_line(process: &mut Guarded, program: &Program<'_>) -> Result<(), NotReady> {
    let name = &program.system.program[0];
    let Some(stdout) = process.child.stdout.take() else {
        return Err(format!("{name} has no standard output").into());
    };
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            // Read to the end: a server must not block on what nobody reads.
            let Ok(line) = line else { return };
            let _ = sender.send(line);
        }
    });
    match receiver.recv_timeout(READY_MAX) {
        Ok(line) if line.trim() == "ready" => Ok(()),
        Ok(line) => Err(format!("said {line:?} instead of ready").into()),
        Err(RecvTimeoutError::Timeout) => Err(format!("not ready within {READY_MAX:?}").into()),
        Err(RecvTimeoutError::Disconnected) => {
            let status = process.child.wait().map_err(|error| error.to_string())?;
            Err(ended_early(status, program))
        }
    }
}

fn wait_for_listener(
    process: &mut Guarded,
    program: &Program<'_>,
    address: SocketAddr,
) -> Result<(), NotReady> {
    let deadline = Instant::now() + READY_MAX;
    loop {
        let ended = process.child.try_wait().map_err(|error| error.to_string())?;
        if let Some(status) = ended {
            return Err(ended_early(status, program));
        }
        if TcpStream::connect_timeout(&address, READY_MAX).is_ok() {
            return Ok(());
        }
        if Instant::now() > deadline || interrupted() {
            let words = last_words(program.log);
            return Err(format!("does not listen within {READY_MAX:?}{words}").into());
        }
        thread::sleep(LOOK);
    }
}

fn ended_early(status: ExitStatus, program: &Program<'_>) -> NotReady {
    let words = last_words(program.log);
    NotReady::Ended(format!("ended before it was ready ({status}){words}"))
}

/// A command whose program is relative to `directory`, unless it is looked for on the path.
pub fn command_in(argv: &[String], directory: &Path) -> Command {
    let program = Path::new(&argv[0]);
    let is_path = program.components().count() > 1;
    let mut command =
        if is_path { Command::new(directory.join(program)) } else { Command::new(program) };
    command.args(&argv[1..]).current_dir(directory);
    command
}

/// The last line of a log, to be put behind a message.
pub fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    match text.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!(": {}", line.chars().take(300).collect::<String>()),
        None => String::new(),
    }
}

fn free_address() -> io::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    // Processes with neighbouring numbers, which often start together, look far from one another.
    let start = ((std::process::id().wrapping_mul(0x9E37_79B1) >> 8) % u32::from(span)) as u16;
    for _ in 0..span {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + ((u32::from(start) + u32::from(step)) % u32::from(span)) as u16;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
