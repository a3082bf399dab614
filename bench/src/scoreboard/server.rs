//! A system under test, running.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::process::{Guarded, interrupted};

/// A virtual machine's start included, on a busy machine.
const READY_MAX: Duration = Duration::from_secs(20);
/// Another program may take a port between our look and the server's bind.
const PORT_ATTEMPTS: usize = 3;
/// Below the range from which the kernel takes the ports of clients, so that none of the thousands
/// of a round, or what the kernel remembers of them, is in a server's way.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// The command line of a system, without mode and address.
#[derive(Debug, Clone)]
pub struct Program<'a> {
    pub argv: &'a [String],
    pub directory: &'a Path,
    /// Where its standard error goes.
    pub log: &'a Path,
}

pub struct RunningServer {
    process: Guarded,
    pub address: SocketAddr,
}

impl RunningServer {
    /// Starts a system on these cores and waits until it listens.
    pub fn start(
        program: &Program<'_>,
        mode: &str,
        threads: usize,
        cores: &[usize],
    ) -> Result<RunningServer, String> {
        let mut last = String::new();
        for _ in 0..PORT_ATTEMPTS {
            let address = free_address().map_err(|error| format!("no free port: {error}"))?;
            match start_at(program, mode, address, threads, cores) {
                Ok(process) => return Ok(RunningServer { process, address }),
                Err(NotReady::Ended(error)) if !interrupted() => last = error,
                Err(NotReady::Ended(error) | NotReady::Otherwise(error)) => return Err(error),
            }
        }
        Err(last)
    }

    pub fn pid(&self) -> libc::pid_t {
        self.process.pid()
    }

    /// Whether it still runs; if not, how it ended.
    pub fn check_alive(&mut self) -> Result<(), String> {
        match self.process.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("the server ended by itself: {status}")),
            Err(error) => Err(format!("the server cannot be waited for: {error}")),
        }
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
    mode: &str,
    address: SocketAddr,
    threads: usize,
    cores: &[usize],
) -> Result<Guarded, NotReady> {
    let name = &program.argv[0];
    let log = File::create(program.log)
        .map_err(|error| format!("{} cannot be written: {error}", program.log.display()))?;
    let mut command = command_in(program.argv, program.directory);
    command.arg(mode).arg(address.to_string());
    if threads > 1 {
        command.arg("--threads").arg(threads.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut process = Guarded::start(&mut command, cores)
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
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
        Ok(line) if line.trim() == "ready" => Ok(process),
        Ok(line) => Err(format!("said {line:?} instead of ready").into()),
        Err(RecvTimeoutError::Timeout) => Err(format!("not ready within {READY_MAX:?}").into()),
        Err(RecvTimeoutError::Disconnected) => {
            let status = process.child.wait().map_err(|error| error.to_string())?;
            let words = last_words(program.log);
            Err(NotReady::Ended(format!("ended before it was ready ({status}){words}")))
        }
    }
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
    let start = (std::process::id() % u32::from(span)) as u16;
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
