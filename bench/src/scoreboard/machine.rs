//! What is known of the machine, for the report; and what others do on it, to judge a round.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Where figures come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_kib: u64,
    pub kernel: String,
    pub governor: Option<String>,
    pub hypervisor: bool,
    pub congestion_control: Option<String>,
    pub somaxconn: Option<String>,
    pub mitigations: Option<String>,
    pub debug_build: bool,
    pub rustc: String,
}

impl Machine {
    pub fn read() -> Machine {
        let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let meminfo = read("/proc/meminfo").unwrap_or_default();
        let memory = meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse().ok());
        Machine {
            cpu: field("model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: cores().len(),
            memory_kib: memory.unwrap_or(0),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            hypervisor: field("flags").is_some_and(|flags| flags.contains(" hypervisor")),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            somaxconn: read("/proc/sys/net/core/somaxconn"),
            mitigations: read("/sys/devices/system/cpu/vulnerabilities/spectre_v2"),
            debug_build: cfg!(debug_assertions),
            rustc: env!("TIGHTLOOP_BENCH_RUSTC").to_owned(),
        }
    }
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
}

/// The cores on which this process may run.
pub fn cores() -> Vec<usize> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer and the size are those of `set`; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } != 0 {
        return Vec::new();
    }
    // SAFETY: CPU_ISSET checks the number against the size of `set`.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// The load average of the last minute.
pub fn load_average() -> Option<f64> {
    read("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

/// What of the repository is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    pub id: String,
    /// Whether what is measured differs from the commit, and a checksum of the differences.
    pub dirty: Option<String>,
}

const MEASURED: [&str; 6] =
    ["src", "examples", "bench/src", "bench/peers", "Cargo.toml", "Cargo.lock"];

impl Commit {
    pub fn read() -> Commit {
        let git = |arguments: &[&str]| {
            let output = Command::new("git").args(arguments).stderr(Stdio::null()).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
            output.status.success().then_some(text)
        };
        let top = git(&["rev-parse", "--show-toplevel"]).unwrap_or_default();
        let in_top = |arguments: &[&str]| {
            let mut words = vec!["-C", &top];
            words.extend_from_slice(arguments);
            words.push("--");
            words.extend_from_slice(&MEASURED);
            git(&words)
        };
        let untracked = in_top(&["status", "--porcelain"]).unwrap_or_default();
        let changes = in_top(&["diff", "HEAD"]).unwrap_or_default();
        let dirty = (!untracked.is_empty()).then(|| checksum(&format!("{untracked}{changes}")));
        Commit { id: git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "none".to_owned()), dirty }
    }
}

/// FNV-1a: tells texts apart, which is all that is asked of it.
pub fn checksum(text: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

/// The date and time in UTC.
pub fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date_of(seconds)
}

/// Days are turned into a date by counting from 1 March of the year 0, so that leap days come last.
fn date_of(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (hour, minute) = (seconds % 86_400 / 3_600, seconds % 3_600 / 60);
    format!("{:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC", era * 400 + year + next)
}

/// What others took of the machine while a round ran, as shares of all its cores' time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Taken by the hypervisor for others.
    pub steal: f64,
    /// Taken by processes that have nothing to do with the round.
    pub foreign: f64,
}

pub const STEAL_MAX: f64 = 0.01;
pub const FOREIGN_MAX: f64 = 0.02;

impl Noise {
    pub fn is_too_much(&self) -> bool {
        self.steal > STEAL_MAX || self.foreign > FOREIGN_MAX
    }

    /// By how much, for comparing two rounds.
    pub fn weight(&self) -> f64 {
        self.steal / STEAL_MAX + self.foreign / FOREIGN_MAX
    }
}

/// The beginning of a time in which the machine is watched.
pub struct Watch {
    started: Instant,
    ticks: Ticks,
    tasks: HashMap<String, u64>,
    ours: Vec<String>,
    /// Of what is ours, without and with the children that were waited for.
    living_ns: u64,
    own_ns: u64,
}

struct Ticks {
    busy: u64,
    steal: u64,
    total: u64,
}

impl Watch {
    /// `servers` are ours, and so are our own children that are waited for.
    pub fn begin(servers: &[libc::pid_t]) -> Watch {
        let ours = ours(servers);
        let living_ns = living_ns(&ours);
        let own_ns = living_ns + usage_ns(libc::RUSAGE_CHILDREN);
        let tasks = tasks();
        Watch { ticks: ticks(), started: Instant::now(), tasks, ours, living_ns, own_ns }
    }

    /// Two views, as each misses something: the tasks that live know their time to the nanosecond,
    /// but those that came and went in between are not seen; the machine's ticks count everything,
    /// but are a sample of 250 a second and core. So the sample is believed only as far as it is
    /// beyond chance.
    pub fn end(self) -> Noise {
        let elapsed = self.started.elapsed().max(Duration::from_millis(1));
        let living_ns = living_ns(&self.ours);
        let own_ns = living_ns + usage_ns(libc::RUSAGE_CHILDREN);
        let now = ticks();
        let total = now.total.saturating_sub(self.ticks.total).max(1) as f64;
        let busy = now.busy.saturating_sub(self.ticks.busy) as f64;
        let machine_ns = elapsed.as_nanos() as f64 * cores_of_machine() as f64;
        let chance = 3.0 * total.sqrt() / 2.0;
        let by_ticks =
            (busy - chance) / total - own_ns.saturating_sub(self.own_ns) as f64 / machine_ns;
        let grown = tasks()
            .into_iter()
            .map(|(task, ns)| ns.saturating_sub(self.tasks.get(&task).copied().unwrap_or(0)));
        let living = living_ns.saturating_sub(self.living_ns);
        let by_tasks = grown.sum::<u64>().saturating_sub(living) as f64 / machine_ns;
        Noise {
            steal: now.steal.saturating_sub(self.ticks.steal) as f64 / total,
            foreign: by_ticks.max(by_tasks).max(0.0),
        }
    }
}

fn living_ns(ours: &[String]) -> u64 {
    ours.iter().map(|process| tasks_ns(process)).sum()
}

fn cores_of_machine() -> usize {
    // SAFETY: takes a number only.
    let cores = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(cores).unwrap_or(1).max(1)
}

fn ticks() -> Ticks {
    let text = read("/proc/stat").unwrap_or_default();
    // cpu user nice system idle iowait irq softirq steal guest guest_nice; guests are in user.
    let line = text.lines().next().unwrap_or("").split_whitespace().skip(1).take(8);
    let fields: Vec<u64> = line.filter_map(|field| field.parse().ok()).collect();
    let at = |index: usize| fields.get(index).copied().unwrap_or(0);
    let total = fields.iter().sum();
    Ticks { busy: total - at(3) - at(4) - at(7), steal: at(7), total }
}

/// The CPU time of every task that there is, by its path.
fn tasks() -> HashMap<String, u64> {
    let mut tasks = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    for process in processes.filter(|entry| entry.file_name().to_str().is_some_and(is_process)) {
        for task in fs::read_dir(process.path().join("task")).into_iter().flatten().flatten() {
            let path = task.path();
            if let Some(ns) = schedstat(&path.join("schedstat")) {
                tasks.insert(path.to_string_lossy().into_owned(), ns);
            }
        }
    }
    tasks
}

fn schedstat(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.split(' ').next()?.parse().ok()
}

/// The processes whose time is part of the round: the servers, this one, and the kernel's threads that
/// deliver packets, which are nobody's but the round's.
fn ours(servers: &[libc::pid_t]) -> Vec<String> {
    let mut ours: Vec<String> = servers.iter().map(|pid| format!("/proc/{pid}")).collect();
    ours.push("/proc/self".to_owned());
    let is_softirq = |path: &Path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("ksoftirqd"))
    };
    // They are among the first that the kernel starts.
    let early = (1..200).map(|pid| format!("/proc/{pid}"));
    ours.extend(early.filter(|path| is_softirq(Path::new(path))));
    ours
}

fn tasks_ns(process: &str) -> u64 {
    let tasks = fs::read_dir(Path::new(process).join("task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| schedstat(&task.path().join("schedstat"))).sum()
}

/// The CPU time of children that were waited for.
pub fn children_ns() -> u64 {
    usage_ns(libc::RUSAGE_CHILDREN)
}

fn usage_ns(who: libc::c_int) -> u64 {
    // SAFETY: an all-zero rusage is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for the answer.
    if unsafe { libc::getrusage(who, &mut usage) } != 0 {
        return 0;
    }
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date_of(0), "1970-01-01 00:00 UTC");
        assert_eq!(date_of(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date_of(1_709_251_199), "2024-02-29 23:59 UTC");
        assert_eq!(date_of(4_107_542_399), "2100-02-28 23:59 UTC");
        assert_eq!(date_of(4_107_542_400), "2100-03-01 00:00 UTC");
    }

    #[test]
    fn a_round_is_judged_by_what_others_take() {
        let quiet = Noise { steal: 0.01, foreign: 0.02 };
        assert!(!quiet.is_too_much());
        assert!(Noise { steal: 0.011, ..quiet }.is_too_much());
        assert!(Noise { foreign: 0.021, ..quiet }.is_too_much());
    }
}
