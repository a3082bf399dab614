//! Child processes that cannot outlive the scoreboard.
//!
//! Each child leads a process group of its own, and is recorded in a table that the signal handler
//! reads. It is killed with its whole group when its guard is dropped (a return, an error, a
//! panic), by the handler of SIGINT, SIGTERM and SIGHUP, and by the kernel (PR_SET_PDEATHSIG) when
//! the scoreboard itself is killed.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Children at a time: a server for each system that is kept, a load, a perf.
const CHILDREN_MAX: usize = 256;
/// How often a child that is waited for is looked at: a look costs microseconds.
const LOOK: Duration = Duration::from_millis(10);

static GROUPS: [AtomicI32; CHILDREN_MAX] = [const { AtomicI32::new(0) }; CHILDREN_MAX];
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether a signal has asked for the end. All children are dead or dying then.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

extern "C" fn on_signal(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::SeqCst);
    for group in &GROUPS {
        let group = group.load(Ordering::SeqCst);
        if group > 0 {
            // SAFETY: kill is async-signal-safe and takes numbers only; a group is in the table
            // only as long as its leader has not been waited for.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
    }
}

/// Has Ctrl-C and its kin end the children first; the program then ends in order by itself.
pub fn end_children_on_signals() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: an all-zero sigaction is valid: no flags, no mask, the default handler.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
        // SAFETY: `action` is valid and its handler does only what a handler may.
        if unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A running child, killed with its group when this is dropped.
pub struct Guarded {
    pub child: Child,
    place: usize,
}

impl Guarded {
    /// Starts a child on these cores; without any, on whichever the scoreboard may use.
    pub fn start(command: &mut Command, cores: &[usize]) -> io::Result<Guarded> {
        if interrupted() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
        }
        let place = reserve()?;
        let set = cpu_set(cores);
        // SAFETY: getpid takes nothing and always succeeds.
        let parent = unsafe { libc::getpid() };
        let prepare = move || prepare_child(set.as_ref(), parent);
        // SAFETY: `prepare_child` makes system calls only, which is what may be done between fork
        // and exec: no allocation, no lock.
        unsafe { command.process_group(0).pre_exec(prepare) };
        match command.spawn() {
            Ok(child) => {
                let guarded = Guarded { child, place };
                GROUPS[place].store(guarded.pid(), Ordering::SeqCst);
                if interrupted() {
                    // The handler may have come before the entry: dropping kills.
                    return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
                }
                Ok(guarded)
            }
            Err(error) => {
                GROUPS[place].store(0, Ordering::SeqCst);
                Err(error)
            }
        }
    }

    pub fn pid(&self) -> libc::pid_t {
        self.child.id() as libc::pid_t // the kernel's ids are below 2^22
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: takes numbers only; the child has not been waited for by anybody but `child`,
        // which remembers, so its id is its own or that of nobody yet.
        unsafe { libc::kill(self.pid(), signal) };
    }

    /// Waits for the end by itself. `None` if the time is over, and then it still runs.
    pub fn wait_until(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline || interrupted() {
                return Ok(None);
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The group first, while the leader's id cannot be anybody else's.
        // SAFETY: takes numbers only.
        unsafe { libc::kill(-self.pid(), libc::SIGKILL) };
        let _ = self.child.kill(); // it may have ended already
        let _ = self.child.wait();
        GROUPS[self.place].store(0, Ordering::SeqCst);
    }
}

fn reserve() -> io::Result<usize> {
    let is_free = |group: &AtomicI32| {
        group.compare_exchange(0, -1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    };
    GROUPS.iter().position(is_free).ok_or_else(|| io::Error::other("too many children at a time"))
}

fn cpu_set(cores: &[usize]) -> Option<libc::cpu_set_t> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for core in cores {
        // SAFETY: `set` is a valid set; CPU_SET checks `core` against its size.
        unsafe { libc::CPU_SET(*core, &mut set) };
    }
    (!cores.is_empty()).then_some(set)
}

fn prepare_child(set: Option<&libc::cpu_set_t>, parent: libc::pid_t) -> io::Result<()> {
    if let Some(set) = set {
        // SAFETY: the pointer and the size are those of `set`; 0 is the calling thread.
        if unsafe { libc::sched_setaffinity(0, size_of_val(set), set) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes nothing. The parent may have died before the line above.
    if unsafe { libc::getppid() } != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    raise_descriptor_limit();
    Ok(())
}

/// As many connections as this process may give its children. Not being allowed more is no error:
/// a system that needs more says so.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is valid, and read only.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}

/// How a program that ran to its end, or was ended, went.
pub enum Ended {
    Success,
    Failure(String),
    OutOfTime,
}

/// Runs a program to its end, with its output in files: standard output and standard error, or
/// both in one.
pub fn run(
    command: &mut Command,
    cores: &[usize],
    output: (&Path, Option<&Path>),
    limit: Duration,
) -> io::Result<Ended> {
    let (stdout, stderr) = match output {
        (stdout, Some(stderr)) => (File::create(stdout)?, File::create(stderr)?),
        (both, None) => {
            let file = File::create(both)?;
            (file.try_clone()?, file)
        }
    };
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut guarded = Guarded::start(command, cores)?;
    let status = guarded.wait_until(Instant::now() + limit)?;
    Ok(match status {
        _ if interrupted() => {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
        }
        Some(status) if status.success() => Ended::Success,
        Some(status) => Ended::Failure(status.to_string()),
        None => Ended::OutOfTime,
    })
}
