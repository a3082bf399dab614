//! System calls of an operation, counted by perf in rounds of their own: counting costs CPU time.
//!
//! Two rounds of different length on one server: what connecting and ending cost is in both, and
//! goes out in the difference.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::measure::{Client, Dose};
use super::process::Guarded;
use super::server::RunningServer;
use super::workload;

const SHORT_SECONDS: f64 = 0.1;
const LONG_SECONDS: f64 = 0.5;
/// wrk knows whole seconds only.
const WRK_SECONDS: [f64; 2] = [1.0, 2.0];
/// perf has to find and attach to the server's threads before the load starts.
const ATTACH: Duration = Duration::from_millis(200);
const END_MAX: Duration = Duration::from_secs(5);

/// The calls of an operation, or why they cannot be told.
pub fn count(
    client: &Client,
    server: &RunningServer,
    dose: &Dose<'_>,
    cores: &[usize],
) -> Result<f64, String> {
    let [short, long] = match dose.workload.client {
        workload::Client::Wrk => WRK_SECONDS,
        _ => [SHORT_SECONDS, LONG_SECONDS],
    };
    let short = one_round(client, server, dose, cores, short)?;
    let long = one_round(client, server, dose, cores, long)?;
    let operations = long.1.saturating_sub(short.1);
    if operations == 0 {
        return Err("too few operations".to_owned());
    }
    Ok(long.0.saturating_sub(short.0) as f64 / operations as f64)
}

/// Calls and operations.
fn one_round(
    client: &Client,
    server: &RunningServer,
    dose: &Dose<'_>,
    cores: &[usize],
    seconds: f64,
) -> Result<(u64, u64), String> {
    let output = client.logs.join("perf.txt");
    let mut perf = start(server.pid(), &output)?;
    thread::sleep(ATTACH);
    let has_ended = perf.child.try_wait().map_err(|error| error.to_string())?.is_some();
    if has_ended {
        return Err(format!("perf cannot count here{}", super::server::last_words(&output)));
    }
    // Nothing is warmed up: whatever is done while perf counts has to be among the operations.
    let dose = Dose { seconds, warmup_seconds: 0.0, rate: dose.rate, workload: dose.workload };
    let load = client.load(server, &dose, cores)?;
    perf.signal(libc::SIGINT);
    let ended = perf.wait_until(Instant::now() + END_MAX).map_err(|error| error.to_string())?;
    if ended.is_none() {
        return Err("perf does not end".to_owned());
    }
    let text = std::fs::read_to_string(&output).map_err(|error| error.to_string())?;
    parse(&text).map(|calls| (calls, load.operations))
}

fn start(pid: libc::pid_t, output: &Path) -> Result<Guarded, String> {
    let file = File::create(output).map_err(|error| error.to_string())?;
    let mut command = Command::new("perf");
    command.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    Guarded::start(&mut command, &[]).map_err(|error| format!("perf cannot be started: {error}"))
}

/// `29,,raw_syscalls:sys_enter,1271141,100.00,,`
fn parse(text: &str) -> Result<u64, String> {
    let line = text.lines().find(|line| line.contains("sys_enter")).ok_or("perf said nothing")?;
    let count = line.split(',').next().unwrap_or("");
    count.parse().map_err(|_| format!("perf said {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_the_first_field() {
        let text = "# started on Thu\n\n29,,raw_syscalls:sys_enter,1271141,100.00,,\n";
        assert_eq!(parse(text), Ok(29));
        assert!(parse("<not counted>,,raw_syscalls:sys_enter,0,100.00,,\n").is_err());
        assert!(parse("").is_err());
    }
}
