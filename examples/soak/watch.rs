//! The process with the clients: it starts the servers and the clients, has everything rest from
//! time to time to see that nothing is left behind, and gives the verdict.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::Flags;
use crate::client::{self, Clients, Town};
use crate::peer::{DEADLINE, Random, To};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SERVERS: [&str; 5] = ["echo", "orders", "push", "proxy", "collector"];

/// Every way in which connections must have ended in a long run, or it has tested less than it
/// should.
const REASONS: [&str; 11] = [
    "by_handler",
    "aborted",
    "by_peer",
    "by_reset",
    "idle",
    "first_byte",
    "write_stall",
    "output_limit",
    "input_limit",
    "close_timeout",
    "codec",
];

/// A process that rests may use so much of a core, in per cent: it ticks 50 times a second.
const QUIET_CPU: f64 = 5.0;

/// Memory of a process that rests may be so much above what it was in the beginning.
const MEMORY_SLACK: usize = 8 << 20;

/// The process with the servers.
struct Servers {
    child: Child,
    control: BufReader<TcpStream>,
    descriptors: usize,
}

impl Servers {
    fn start(flags: &Flags) -> Outcome<(Servers, Town)> {
        let Flags { descriptors, driver, .. } = flags;
        let limited = format!("ulimit -n {descriptors}; exec \"$0\" --serve --driver {driver}");
        let mut child = Command::new("sh")
            .args(["-c", &limited])
            .arg(std::env::current_exe()?)
            // What is freed leaves the process (glibc), or the memory says nothing of what is held.
            .envs([("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "65536")])
            .env("MALLOC_TRIM_THRESHOLD_", "131072")
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let (town, control) = read_addresses(output)?;
        let stream = TcpStream::connect(control)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut servers = Servers { child, control: BufReader::new(stream), descriptors: 0 };
        servers.numbers()?;
        servers.descriptors = servers.open_descriptors()?;
        Ok((servers, town))
    }

    /// All numbers by their names.
    fn numbers(&mut self) -> Outcome<HashMap<String, u64>> {
        self.control.get_mut().write_all(b"stats\n")?;
        let mut numbers = HashMap::new();
        loop {
            let mut line = String::new();
            if self.control.read_line(&mut line)? == 0 {
                return Err("the servers have gone".into());
            }
            match line.trim_end().rsplit_once(' ') {
                None => return Ok(numbers),
                Some(_) if line.starts_with('#') => {}
                Some((name, number)) => drop(numbers.insert(name.to_owned(), number.parse()?)),
            }
        }
    }

    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.child.id())
    }

    fn open_descriptors(&self) -> Outcome<usize> {
        Ok(std::fs::read_dir(self.proc("fd"))?.count())
    }

    /// Bytes of memory in use.
    fn memory(&self) -> Outcome<usize> {
        let statm = std::fs::read_to_string(self.proc("statm"))?;
        Ok(statm.split(' ').nth(1).ok_or("no resident pages")?.parse::<usize>()? * 4096)
    }

    /// Time on any core so far: ticks of a hundredth of a second.
    fn cpu(&self) -> Outcome<Duration> {
        let stat = std::fs::read_to_string(self.proc("stat"))?;
        let fields = stat.rsplit_once(')').ok_or("no fields")?.1;
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Stops them in order.
    fn stop(&mut self) -> Outcome<bool> {
        self.control.get_mut().write_all(b"stop\n")?;
        Ok(self.child.wait()?.success())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Gone already where it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines of a name, a kind and an address; the last one is the control's.
fn read_addresses(output: ChildStdout) -> Outcome<(Town, String)> {
    let mut town = Town::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        let [name, kind, address] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("not an address: {line}").into());
        };
        let to = match kind {
            "udp" => {
                town.datagrams.push(address.parse()?);
                continue;
            }
            "unix" => To::Unix(address.trim_start_matches("unix:").to_owned()),
            _ if name == "control" => return Ok((town, address.to_owned())),
            _ => To::Ip(address.parse()?),
        };
        town.streams.entry(name.to_owned()).or_default().push(to);
    }
    Err("the servers did not start".into())
}

/// One soak.
struct Watch {
    servers: Servers,
    clients: Arc<Clients>,
    start: Instant,
    /// Memory at each rest.
    memory: Vec<usize>,
}

impl Watch {
    /// Lets all scenarios end, and sees that nothing is left of them.
    fn rest(&mut self) -> Outcome<()> {
        let clients = Arc::clone(&self.clients);
        let _alone = clients.gate.write().unwrap_or_else(PoisonError::into_inner);
        let end = Instant::now() + DEADLINE;
        let numbers = loop {
            let numbers = self.servers.numbers()?;
            let open: u64 = SERVERS.iter().map(|name| numbers[&format!("{name}_open")]).sum();
            let descriptors = self.servers.open_descriptors()?;
            if open == 0 && descriptors <= self.servers.descriptors {
                break numbers;
            }
            if Instant::now() > end {
                let before = self.servers.descriptors;
                clients.findings.fail(format!(
                    "at rest {open} connections are open, and {descriptors} descriptors, not {before}"
                ));
                break numbers;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        self.check(&numbers);
        let (before, since) = (self.servers.cpu()?, Instant::now());
        std::thread::sleep(Duration::from_secs(2));
        let busy = (self.servers.cpu()? - before).as_secs_f64() / since.elapsed().as_secs_f64();
        if busy * 100.0 > QUIET_CPU {
            clients.findings.fail(format!("at rest {:.0} % of a core are used", busy * 100.0));
        }
        self.memory.push(self.servers.memory()?);
        self.say(&numbers, busy)
    }

    /// What must be true whenever all is quiet.
    fn check(&self, numbers: &HashMap<String, u64>) {
        let findings = &self.clients.findings;
        let equal = |what: String, is: u64, should: u64| {
            if is != should {
                findings.fail(format!("at rest {what} is {is}, not {should}"));
            }
        };
        for name in SERVERS {
            let number = |what: &str| numbers.get(&format!("{name}_{what}")).copied().unwrap_or(0);
            let opened = number("opened_total");
            equal(format!("{name}'s closed"), number("closed_total"), opened);
            let reasons = format!("{name}_closed_reasons_total");
            let by_reason =
                numbers.iter().filter(|(key, _)| key.starts_with(&reasons)).map(|(_, n)| n).sum();
            equal(format!("{name}'s closed by reason"), by_reason, opened);
            equal(format!("{name}'s on_open"), number("tally_opened"), opened);
            equal(format!("{name}'s on_close"), number("tally_closed"), opened);
            equal(format!("{name}'s lost states"), number("tally_lost"), 0);
            equal(format!("{name}'s lent buffers"), number("pool_lent_buffers"), 0);
            equal(format!("{name}'s buffered bytes"), number("buffered_bytes"), 0);
            equal(format!("{name}'s calls back"), number("tally_done"), number("tally_writes"));
            let panics = if name == "orders" { findings.panics.load(Relaxed) } else { 0 };
            equal(format!("{name}'s panics"), number("panics_total"), panics);
        }
        let broken = numbers.get("orders_closed_reasons_total{reason=\"codec\"}").copied();
        equal(
            "the broken frames".to_owned(),
            broken.unwrap_or(0),
            findings.broken_frames.load(Relaxed),
        );
    }

    fn say(&self, numbers: &HashMap<String, u64>, busy: f64) -> Outcome<()> {
        let findings = &self.clients.findings;
        let total = |what: &str| -> u64 {
            SERVERS.iter().filter_map(|name| numbers.get(&format!("{name}_{what}"))).sum()
        };
        let elapsed = self.start.elapsed();
        println!(
            "{:>5} s  {} scenarios, {} failures  {} connections  {} MiB checked  {} MiB in, {} \
             MiB out  {} accept failures  {} lost datagrams  {} turned away  memory {} KiB  \
             descriptors {}  CPU {:.0} %, at rest {:.1} %",
            elapsed.as_secs(),
            findings.scenarios.load(Relaxed),
            findings.failures.lock().unwrap_or_else(PoisonError::into_inner).len(),
            total("opened_total"),
            findings.verified.load(Relaxed) >> 20,
            total("bytes_in_total") >> 20,
            total("bytes_out_total") >> 20,
            total("accept_failures_total"),
            findings.datagrams_lost.load(Relaxed),
            findings.turned_away.load(Relaxed),
            self.memory.last().copied().unwrap_or(0) >> 10,
            self.servers.open_descriptors()?,
            self.servers.cpu()?.as_secs_f64() / elapsed.as_secs_f64() * 100.0,
            busy * 100.0,
        );
        Ok(())
    }

    /// What only the whole run can tell.
    fn check_the_whole(&mut self, is_long: bool) -> Outcome<()> {
        let (findings, numbers) = (&self.clients.findings, self.servers.numbers()?);
        let early = self.memory.len().div_ceil(4);
        let first = self.memory[..early].iter().max().copied().unwrap_or(0);
        let last = self.memory.last().copied().unwrap_or(0);
        println!("memory at the first {early} rests at most {first} bytes, at last {last}");
        if is_long && last > first + MEMORY_SLACK {
            findings.fail(format!("memory grew from {first} to {last} bytes"));
        }
        for reason in REASONS {
            let label = format!("_closed_reasons_total{{reason=\"{reason}\"}}");
            let of_each = SERVERS.map(|name| numbers.get(&format!("{name}{label}")).copied());
            let count: u64 = of_each.iter().flatten().sum();
            println!("closed {reason}: {count}");
            if is_long && count == 0 {
                findings.fail(format!("no connection was closed {reason}"));
            }
        }
        let by_name = findings.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        for scenario in crate::scenarios::SCENARIOS {
            println!("{}: {}", scenario.name, by_name.get(scenario.name).copied().unwrap_or(0));
        }
        Ok(())
    }
}

fn soak(flags: &Flags) -> Outcome<usize> {
    let (servers, town) = Servers::start(flags)?;
    let clients = Arc::new(Clients { town, only: flags.only.clone(), ..Clients::default() });
    let mut random = Random(flags.seed);
    let threads: Vec<_> = (0..flags.clients)
        .map(|_| {
            let (clients, seed, pause) = (Arc::clone(&clients), random.next(), flags.pause);
            std::thread::spawn(move || client::run(&clients, seed, pause))
        })
        .collect();
    let mut watch =
        Watch { servers, clients: Arc::clone(&clients), start: Instant::now(), memory: Vec::new() };
    let end = watch.start + Duration::from_secs(flags.seconds);
    while Instant::now() < end {
        let rest_of_it = end.saturating_duration_since(Instant::now());
        std::thread::sleep(rest_of_it.min(Duration::from_secs(flags.rest_every.max(1))));
        watch.rest()?;
    }
    clients.is_over.store(true, Relaxed);
    for thread in threads {
        thread.join().map_err(|_| "a client panicked")?;
    }
    watch.rest()?;
    watch.check_the_whole(flags.seconds >= 600)?;
    if !watch.servers.stop()? {
        clients.findings.fail("the servers did not end in order".to_owned());
    }
    let failures = clients.findings.failures.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(failures.len())
}

pub fn main(flags: &Flags) -> ExitCode {
    match soak(flags) {
        Ok(0) => {
            println!("PASSED");
            ExitCode::SUCCESS
        }
        Ok(failures) => {
            println!("FAILED: {failures} failures");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}
