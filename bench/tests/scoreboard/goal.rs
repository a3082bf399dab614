//! The comparison with Redis, HAProxy and nginx, with stand-ins for them and for their clients: what
//! is tested is how they are started and understood.

use std::fs;

use serde_json::{Value, json};

use crate::bench::*;

/// What `redis-benchmark` prints, whatever it is asked.
const REDIS_BENCHMARK: &str = r#"#!/bin/sh
case "$1" in -v) echo "redis-benchmark 0.0"; exit 1;; esac
echo "$@" >> "$(dirname "$0")/../redis-benchmark-calls"
while [ $# -gt 0 ]; do case "$1" in -t) test=$2;; esac; shift; done
echo '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"'
echo "\"$test\",\"50000.00\",\"0.5\",\"0.1\",\"0.4\",\"0.8\",\"1.5\",\"2.5\"" | tr a-z A-Z
"#;

/// What `wrk` prints; once asked to fail, it has errors.
const WRK: &str = r#"#!/bin/sh
case "$1" in -v) echo "wrk 0.0"; exit 1;; esac
echo "$@" >> "$(dirname "$0")/../wrk-calls"
cat <<'END'
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.00ms  312.50us  9.00ms   96.10%
  Latency Distribution
     50%    0.90ms
     75%    1.00ms
     90%    1.50ms
     99%    2.00ms
  100000 requests in 1.00s, 14.25MB read
END
[ ! -e "$(dirname "$0")/../trouble" ] || echo "  Socket errors: connect 0, read 7, write 0, timeout 0"
"#;

/// A bench whose search path begins with stand-ins.
fn bench_with(peers: &[Value], clients: &[(&str, &str)]) -> Bench {
    let bench = Bench::new(peers);
    fs::create_dir_all(bench.directory.join("bin")).unwrap();
    for (name, text) in clients {
        bench.script(&format!("bin/{name}"), text);
    }
    bench
}

fn run(bench: &Bench, path: &str, arguments: &[&str]) -> std::process::Output {
    let mut command = bench.command(&["--rounds", "1", "--seconds", "0.1"]);
    command.args(arguments).env("PATH", format!("{}{path}", bench.directory.join("bin").display()));
    command.output().unwrap()
}

const SYSTEM_PATH: &str = ":/usr/bin:/bin";

/// Starts what its configuration says: as a child, as nginx does, or in its own place.
fn configured(name: &str, modes: &[&str], is_child: bool) -> Value {
    let script = match is_child {
        true => "sh \"$1\" & child=$!; trap 'kill $child' TERM; wait",
        false => "exec sh \"$1\"",
    };
    let system = peer(name, &["sh", "-c", script, "sh", "{config}"], modes);
    let measured = if is_child { "child" } else { "itself" };
    let version = ["sh", "-c", "echo told on standard error >&2"];
    let launch = json!({
        "config": "peer/template", "ready": "connect", "measured": measured, "version": version,
        "files": {"greeting": "from a file"},
    });
    with(system, "launch", launch)
}

/// The template of [`configured`].
fn write_template(bench: &Bench, mode: &str) {
    let text = format!(
        "cp '{{directory}}/greeting' '{}/greeting'\necho '{{host}} {{port}} {{backend}}' >> '{}/seen'\n\
         exec '{SYSTEM}' {mode} {{address}} --driver poll\n",
        bench.directory.display(),
        bench.directory.display()
    );
    fs::write(bench.directory.join("peer/template"), text).unwrap();
}

#[test]
fn a_server_of_the_distribution_is_configured_checked_and_measured() {
    let bench = bench_with(&[floor(), configured("nginx", &["http"], true)], &[("wrk", WRK)]);
    write_template(&bench, "http");
    let arguments = ["--work", "http-64-wrk", "--work", "http-pipelined-16x64-wrk"];
    let printed =
        succeeded(&run(&bench, SYSTEM_PATH, &[&arguments[..], &["--system", "nginx"]].concat()));
    let report = bench.read("out/scoreboard.md");
    assert!(report.contains("| nginx | Rust | told on standard error | for a test |"), "{report}");
    assert!(report.contains("| wrk | C | wrk 0.0 |"), "{report}\n{printed}");
    assert_eq!(bench.read("greeting"), "from a file");
    let seen = bench.read("seen");
    let is_place = |line: &str| {
        let mut words = line.split_whitespace();
        let port: Option<u16> = words.nth(1).and_then(|word| word.parse().ok());
        line.starts_with("127.0.0.1 ") && port.is_some_and(|port| port >= 10_000)
    };
    assert!(seen.lines().count() > 0 && seen.lines().all(is_place), "{seen}");
    let whole: Value = serde_json::from_str(&bench.read("out/scoreboard.json")).unwrap();
    let row = &whole["tables"][0]["rows"][0];
    assert_eq!(row["throughput"], 100_000.0, "{row:#}");
    for (field, expected) in [("p50_us", 900.0), ("p99_us", 2_000.0)] {
        let value = row[field].as_f64().unwrap();
        assert!((value - expected).abs() < 0.01, "{field}: {value}");
    }
    assert!(row["p99_9_us"].is_null(), "{row:#}");
    let calls = bench.read("wrk-calls");
    assert!(
        calls.contains("--threads 1 --latency --connections 64 --duration 1s http://"),
        "{calls}"
    );
    assert!(calls.contains("pipeline.lua http://") && calls.contains("/ -- 16"), "{calls}");
}

#[test]
fn what_wrk_has_trouble_with_is_not_measured() {
    let bench = bench_with(&[configured("nginx", &["http"], false)], &[("wrk", WRK)]);
    write_template(&bench, "http");
    fs::write(bench.directory.join("trouble"), "").unwrap();
    let arguments = ["--work", "http-64-wrk", "--system", "nginx"];
    succeeded(&run(&bench, SYSTEM_PATH, &arguments));
    let report = bench.read("out/scoreboard.md");
    let expected = "nginx failed: wrk: Socket errors: connect 0, read 7, write 0, timeout 0";
    assert!(report.contains(expected), "{report}");
}

/// Whether Redis would be understood needs one; here is only what does not.
#[test]
fn who_does_not_speak_as_redis_does_is_not_measured() {
    let bench = bench_with(
        &[configured("redis", &["resp"], false)],
        &[("redis-benchmark", REDIS_BENCHMARK)],
    );
    write_template(&bench, "echo");
    let arguments = ["--work", "resp-get", "--system", "redis"];
    let error = failed(&run(&bench, SYSTEM_PATH, &arguments));
    assert!(error.contains("redis: failed the check of resp: PING: wrong bytes"), "{error}");
    assert!(error.contains("no system could be measured"), "{error}");
}

#[test]
fn a_proxy_has_an_echo_behind_it_on_the_cores_of_the_client() {
    // It passes nothing on, but echoes by itself: nobody sees a difference.
    let bench = bench_with(&[floor(), configured("haproxy", &["proxy"], false)], &[]);
    write_template(&bench, "echo");
    let work = ["proxy-256x100", "proxy-64Kx8", "proxy-pipelined-16x64"];
    let arguments: Vec<&str> = work.iter().flat_map(|work| ["--work", work]).collect();
    succeeded(&run(&bench, SYSTEM_PATH, &[&arguments[..], &["--system", "haproxy"]].concat()));
    let report = bench.read("out/scoreboard.md");
    assert!(report.contains("| behind proxies | floor, on the client's core |"), "{report}");
    assert!(report.contains("| haproxy | 3,000 |"), "{report}");
    let seen = bench.read("seen");
    assert!(seen.lines().all(|line| line.split(" 127.0.0.1:").count() == 2), "{seen}");
    let calls = bench.read("calls");
    assert!(calls.contains("--connections 100 --size 256 --pipeline 1"), "{calls}");
    assert!(calls.contains("--connections 50 --size 64 --pipeline 16"), "{calls}");
}

#[test]
fn without_the_client_there_is_no_work_for_it_and_the_report_says_how_to_get_it() {
    // A search path without wrk, wherever this test runs.
    let bench = bench_with(&[floor()], &[("true", "#!/bin/sh\n")]);
    let arguments = ["--work", "http-64", "--work", "http-64-wrk", "--system", "floor"];
    succeeded(&run(&bench, "", &arguments));
    let report = bench.read("out/scoreboard.md");
    assert!(report.contains("`http-64`") && !report.contains("`http-64-wrk`"), "{report}");
    assert!(report.contains("- wrk: needs wrk; install: apt-get install -y wrk"), "{report}");
}

#[test]
fn targets_against_others_are_told_for_the_examples_alone() {
    let bench = bench_with(&[configured("haproxy", &["proxy"], false)], &[]);
    write_template(&bench, "echo");
    succeeded(&run(&bench, SYSTEM_PATH, &["--work", "proxy-256x100", "--system", "haproxy"]));
    let raw = bench.read("out/raw.jsonl");
    // What the example would have said, had it been built: a tenth of the cost.
    let own = raw.replace("\"system\":\"haproxy\"", "\"system\":\"tightloop-proxy-poll\"");
    let own = own.replace("\"cpu_ns\":30000000", "\"cpu_ns\":3000000");
    let rounds: Vec<&str> = own.lines().skip(1).collect();
    let mut header: Value = serde_json::from_str(raw.lines().next().unwrap()).unwrap();
    let mut systems = header["systems"].as_array().unwrap().iter();
    let other = systems.find(|status| status["name"] == "haproxy").unwrap().clone();
    let example = with(other.clone(), "name", json!("tightloop-proxy-poll"));
    header["systems"] = json!([with(example, "role", json!("tightloop")), other]);
    header["plan"]["entries"][0]["systems"] = json!([
        {"name": "tightloop-proxy-poll", "warmup_seconds": 0.1},
        {"name": "haproxy", "warmup_seconds": 0.1}
    ]);
    let all: Vec<&str> = raw.lines().skip(1).chain(rounds).collect();
    fs::write(bench.out().join("raw.jsonl"), format!("{header}\n{}\n", all.join("\n"))).unwrap();
    let printed = succeeded(&bench.run(&["--report-only"]));
    assert!(printed.contains("Proxy 256 B, 100 connections: rival 0.100 of 0.8 met"), "{printed}");
    let report = bench.read("out/scoreboard.md");
    assert!(report.contains("## Targets against Redis, HAProxy and nginx"), "{report}");
    assert!(report.contains("0.100 (0.100 to 0.100) of haproxy; target 0.80: **met**"), "{report}");
    assert!(!report.contains("against gnet v2"), "{report}");
}
