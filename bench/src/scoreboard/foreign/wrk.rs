//! `wrk`: one thread, and as many requests as fit into the time.

use std::fs;
use std::process::Command;

use super::{Place, Told, output_of};
use crate::scoreboard::record::Latency;
use crate::scoreboard::server::RunningServer;
use crate::scoreboard::workload::Workload;

const PIPELINE: &str = include_str!("pipeline.lua");

pub fn run(
    place: &Place<'_>,
    server: &RunningServer,
    workload: &Workload,
    seconds: f64,
) -> Result<Told, String> {
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--latency", "--connections"]);
    command.arg(workload.connections.to_string());
    // It knows whole seconds only.
    let seconds = seconds.ceil().max(1.0);
    command.arg("--duration").arg(format!("{seconds:.0}s"));
    let url = format!("http://{}/", server.address);
    if workload.pipeline > 1 {
        let script = place.logs.join("pipeline.lua");
        fs::write(&script, PIPELINE)
            .map_err(|error| format!("{} cannot be written: {error}", script.display()))?;
        command.arg("--script").arg(script);
        command.args([&url, "--", &workload.pipeline.to_string()]);
    } else {
        command.arg(url);
    }
    parse(&output_of(place, &mut command, seconds)?)
}

/// What it prints is for people; what it is asked for here has been the same since 2012.
fn parse(text: &str) -> Result<Told, String> {
    let not_understood = |what: &str| format!("wrk did not say {what}: {:?}", text.trim_end());
    let lines = || text.lines().map(str::trim);
    for trouble in ["Socket errors:", "Non-2xx or 3xx responses:"] {
        if let Some(line) = lines().find(|line| line.starts_with(trouble)) {
            return Err(format!("wrk: {line}"));
        }
    }
    let total = lines().find_map(|line| {
        let (operations, rest) = line.split_once(" requests in ")?;
        let seconds = seconds(rest.split(',').next()?)?;
        Some((operations.parse().ok()?, seconds))
    });
    let (operations, seconds_taken) = total.ok_or_else(|| not_understood("how many requests"))?;
    let of_line = |name: &str, place: usize| {
        let line = lines().find(|line| line.starts_with(name))?;
        seconds(line.split_whitespace().nth(place)?).map(|seconds| seconds * 1e6)
    };
    // `Latency   avg   stdev   max   +/- stdev`
    let latency = || {
        Some(Latency {
            mean: of_line("Latency  ", 1)?,
            p50: of_line("50%", 1)?,
            p90: of_line("90%", 1),
            p99: of_line("99%", 1)?,
            p99_9: None,
            max: of_line("Latency  ", 3)?,
        })
    };
    let latency = latency().ok_or_else(|| not_understood("the latencies"))?;
    Ok(Told { operations, seconds: seconds_taken, latency })
}

/// `123.45us`, `1.20ms`, `2.00s`, `1.50m`, `1.00h`.
fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Running 2s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.41ms  312.50us  19.20ms   96.10%
    Req/Sec    45.81k     3.10k   52.51k    85.00%
  Latency Distribution
     50%    1.36ms
     75%    1.43ms
     90%    1.57ms
     99%    2.10ms
  91123 requests in 2.01s, 14.25MB read
Requests/sec:  45334.83
Transfer/sec:      7.09MB
";

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-6 * expected, "{value} is not {expected}");
    }

    #[test]
    fn requests_and_latencies_are_read() {
        let told = parse(TEXT).unwrap();
        assert_eq!(told.operations, 91_123);
        near(told.seconds, 2.01);
        near(told.latency.mean, 1_410.0);
        near(told.latency.p50, 1_360.0);
        near(told.latency.p90.unwrap(), 1_570.0);
        near(told.latency.p99, 2_100.0);
        near(told.latency.max, 19_200.0);
        assert_eq!(told.latency.p99_9, None);
    }

    #[test]
    fn errors_of_sockets_and_answers_are_failures() {
        for trouble in [
            "  Socket errors: connect 0, read 3, write 0, timeout 0",
            "  Non-2xx or 3xx responses: 91123",
        ] {
            let error = parse(&format!("{TEXT}{trouble}\n")).unwrap_err();
            assert_eq!(error, format!("wrk: {}", trouble.trim()));
        }
    }

    #[test]
    fn what_lacks_a_figure_is_not_understood() {
        assert!(parse("").unwrap_err().contains("how many requests"));
        assert!(parse(&TEXT.replace("requests in", "requests")).is_err());
        assert!(parse(&TEXT.replace("50%", "5%")).unwrap_err().contains("latencies"));
        assert!(parse(&TEXT.replace("1.41ms", "quick")).is_err());
    }

    #[test]
    fn times_have_units() {
        near(seconds("1.50m").unwrap(), 90.0);
        near(seconds(" 250.00us").unwrap(), 250e-6);
        for text in ["", "12", "us", "1.0d", "-1.0s", "infs"] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }
}
