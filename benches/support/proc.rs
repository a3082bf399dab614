//! What the kernel knows about threads: where they run, the CPU time they used, their system calls.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// perf has to find and attach to the thread before the load starts.
const PERF_ATTACH: Duration = Duration::from_millis(500);
const PERF_END: Duration = Duration::from_secs(5);

/// Pins the calling thread; false if there is no such CPU to have.
pub fn pin_to_cpu(cpu: usize) -> bool {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid set; CPU_SET checks `cpu` against its size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the pointer and the size are those of `set`; thread 0 is the calling one.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) == 0 }
}

/// Has a thread run before whatever else wants its CPU; false where that is not allowed. Threads
/// that it starts inherit it, and `stand_back` undoes it.
pub fn go_first(tid: libc::pid_t) -> bool {
    set_nice(tid, -19)
}

/// The calling thread runs like any other again.
pub fn stand_back() -> bool {
    set_nice(current_tid(), 0)
}

fn set_nice(tid: libc::pid_t, nice: libc::c_int) -> bool {
    // SAFETY: takes numbers only; on Linux the id of a thread means that thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, tid as libc::id_t, nice) == 0 }
}

/// The id of the calling thread, as in /proc/self/task.
pub fn current_tid() -> libc::pid_t {
    // SAFETY: gettid takes nothing and always succeeds.
    unsafe { libc::gettid() }
}

/// CPU time of one thread of this process. The kernel brings it up to date when the thread is
/// switched out and at each tick (4 ms): exact enough for rounds of seconds.
pub fn thread_cpu_ns(tid: libc::pid_t) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/task/{tid}/schedstat"));
    let text = text.expect("the thread lives and the kernel keeps schedstat");
    let first = text.split(' ').next().and_then(|field| field.parse().ok());
    first.expect("the first field of schedstat is a number")
}

/// CPU time of the calling thread.
pub fn own_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of all threads of this process, those that ended included.
pub fn process_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "CPU clocks exist since Linux 2.6.12");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The machine's time since it booted, in ticks.
pub struct MachineTicks {
    total: u64,
    steal: u64,
}

impl MachineTicks {
    /// The share of the time since `earlier` that the hypervisor gave to others.
    pub fn steal_since(&self, earlier: &MachineTicks) -> f64 {
        let total = self.total.saturating_sub(earlier.total).max(1);
        self.steal.saturating_sub(earlier.steal) as f64 / total as f64
    }
}

pub fn machine_ticks() -> MachineTicks {
    let text = fs::read_to_string("/proc/stat").expect("/proc is mounted");
    // cpu user nice system idle iowait irq softirq steal guest guest_nice; guests are in user.
    let line = text.lines().next().unwrap_or("").split_whitespace().skip(1).take(8);
    let fields: Vec<u64> = line.filter_map(|field| field.parse().ok()).collect();
    MachineTicks { total: fields.iter().sum(), steal: fields.get(7).copied().unwrap_or(0) }
}

/// A perf that counts the system calls of one thread.
pub struct SystemCalls {
    perf: Child,
}

impl SystemCalls {
    /// Call it while the thread is idle; None where there is no perf, or no right to use it.
    pub fn start(tid: libc::pid_t) -> Option<SystemCalls> {
        let mut perf = Command::new("perf")
            .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-t", &tid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        std::thread::sleep(PERF_ATTACH);
        match perf.try_wait() {
            Ok(None) => Some(SystemCalls { perf }),
            _ => None,
        }
    }

    /// The number of calls since the start.
    pub fn finish(mut self) -> Option<u64> {
        let pid = libc::pid_t::try_from(self.perf.id()).ok()?;
        // SAFETY: a signal to a child that has not been waited for, so the id is still its own.
        unsafe { libc::kill(pid, libc::SIGINT) };
        let deadline = Instant::now() + PERF_END;
        while matches!(self.perf.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                self.perf.kill().ok()?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut text = String::new();
        self.perf.stderr.take()?.read_to_string(&mut text).ok()?;
        let line = text.lines().find(|line| line.contains("sys_enter"))?;
        line.split(',').next()?.parse().ok()
    }
}
