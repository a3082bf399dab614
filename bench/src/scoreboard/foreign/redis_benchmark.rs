//! `redis-benchmark`: as many commands as it is told to make, of one kind, and a line of CSV.

use std::process::Command;

use super::{Place, Told, output_of};
use crate::scoreboard::measure::Dose;
use crate::scoreboard::record::Latency;
use crate::scoreboard::server::RunningServer;
use crate::scoreboard::workload::Workload;

/// How many commands a second it is asked for before anything is known of the server: for the first
/// part of a warm-up, and where nothing may be warmed up.
const GUESS: f64 = 20_000.0;
/// What is measured first, to know how much to ask for.
const FIRST_SECONDS: f64 = 0.2;

/// Warms a server up; the commands that it will answer in the measured time.
pub fn warm_up(place: &Place<'_>, server: &RunningServer, dose: &Dose<'_>) -> Result<u64, String> {
    let workload = dose.workload;
    let guess = GUESS * workload.pipeline.clamp(1, 8) as f64;
    // GET finds what SET has left: one key, in all of these runs.
    let set = Workload { command: Some("set".to_owned()), pipeline: 1, ..workload.clone() };
    run(place, server, &set, workload.connections as u64)?;
    if dose.warmup_seconds <= 0.0 {
        return Ok(commands(guess, dose.seconds));
    }
    let mut rate = guess;
    for seconds in [FIRST_SECONDS, dose.warmup_seconds.max(FIRST_SECONDS)] {
        let told = run(place, server, workload, commands(rate, seconds))?;
        rate = told.operations as f64 / told.seconds;
    }
    Ok(commands(rate, dose.seconds))
}

fn commands(rate: f64, seconds: f64) -> u64 {
    (rate * seconds).max(1_000.0) as u64
}

pub fn run(
    place: &Place<'_>,
    server: &RunningServer,
    workload: &Workload,
    operations: u64,
) -> Result<Told, String> {
    let command_name = workload.command.as_deref().unwrap_or("get");
    let mut command = Command::new("redis-benchmark");
    command.arg("-h").arg(server.address.ip().to_string());
    command.arg("-p").arg(server.address.port().to_string());
    command.arg("-c").arg(workload.connections.to_string());
    command.arg("-P").arg(workload.pipeline.to_string());
    command.arg("-d").arg(workload.size.to_string());
    command.arg("-n").arg(operations.to_string());
    command.args(["-t", command_name, "--csv"]);
    // A server may be a tenth as fast as the last time it was asked.
    let seconds = operations as f64 / GUESS * 10.0;
    let text = output_of(place, &mut command, seconds)?;
    parse(&text, command_name, operations)
}

/// A head, and a line for the command. Commands are counted by what it was told: it ends behind
/// the last of them, and not before.
fn parse(text: &str, command: &str, operations: u64) -> Result<Told, String> {
    let not_understood = || format!("redis-benchmark said {:?}", text.trim_end());
    let fields = |line: &str| -> Vec<String> {
        line.split(',').map(|field| field.trim().trim_matches('"').to_owned()).collect()
    };
    let mut lines = text.lines().map(fields);
    let head = lines.find(|line| line[0] == "test").ok_or_else(not_understood)?;
    let name = command.to_uppercase();
    let line = lines.find(|line| line[0] == name).ok_or_else(not_understood)?;
    let number = |title: &str| -> Result<f64, String> {
        let place = head.iter().position(|field| field == title).ok_or_else(not_understood)?;
        line.get(place).and_then(|field| field.parse().ok()).ok_or_else(not_understood)
    };
    let microseconds = |title: &str| number(title).map(|milliseconds| milliseconds * 1_000.0);
    let rate = number("rps")?;
    if rate <= 0.0 {
        return Err(not_understood());
    }
    Ok(Told {
        operations,
        seconds: operations as f64 / rate,
        latency: Latency {
            mean: microseconds("avg_latency_ms")?,
            p50: microseconds("p50_latency_ms")?,
            p90: None,
            p99: microseconds("p99_latency_ms")?,
            p99_9: None,
            max: microseconds("max_latency_ms")?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\
        \"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
        \"GET\",\"322580.66\",\"2.020\",\"0.200\",\"0.791\",\"3.727\",\"35.903\",\"52.543\"\n";

    #[test]
    fn the_line_of_the_command_is_read() {
        let told = parse(TEXT, "get", 100_000).unwrap();
        assert_eq!(told.operations, 100_000);
        assert!((told.seconds - 0.31).abs() < 1e-3, "{}", told.seconds);
        assert_eq!((told.latency.mean, told.latency.p50), (2_020.0, 791.0));
        assert_eq!((told.latency.p99, told.latency.max), (35_903.0, 52_543.0));
        assert_eq!((told.latency.p90, told.latency.p99_9), (None, None));
    }

    #[test]
    fn what_stands_before_it_is_passed_over() {
        let text = format!("WARNING: Could not fetch server CONFIG\n{TEXT}");
        assert!(parse(&text, "get", 10).is_ok());
    }

    #[test]
    fn another_command_or_other_columns_are_an_error() {
        assert!(parse(TEXT, "set", 10).unwrap_err().contains("redis-benchmark said"));
        assert!(parse("", "get", 10).is_err());
        assert!(parse("\"GET\",\"1.0\"\n", "get", 10).is_err());
        assert!(parse(&TEXT.replace("322580.66", "0.00"), "get", 10).is_err());
        assert!(parse(&TEXT.replace("avg_latency_ms", "average"), "get", 10).is_err());
        assert!(parse(&TEXT.replace(",\"52.543\"", ""), "get", 10).is_err());
    }

    #[test]
    fn a_slow_server_is_asked_for_little_and_yet_for_something() {
        assert_eq!(commands(50_000.0, 2.0), 100_000);
        assert_eq!(commands(1.0, 0.1), 1_000);
    }
}
