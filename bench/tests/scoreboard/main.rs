//! The command `scoreboard` as its users call it, with a load that answers at once: what is tested
//! is what happens around the figures.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

mod bench;
mod goal;

use bench::*;

/// Far more than anything here takes; only a failure waits for so long.
const PATIENCE: Duration = Duration::from_secs(60);

const SHORT: [&str; 6] = ["--work", "echo-64x50", "--rounds", "2", "--seconds", "0.1"];
const OWN: [&str; 4] = ["--system", "tightloop-poll", "--system", "floor"];

#[test]
fn every_mode_is_measured_and_reported() {
    let bench = Bench::new(&[floor()]);
    let work = ["echo-64x50", "udp-64", "http-64", "broadcast-128x10000", "idle-10000"];
    let mut arguments = vec!["--rounds", "1", "--seconds", "0.1"];
    arguments.extend(work.iter().flat_map(|work| ["--work", work]));
    arguments.extend(OWN);
    succeeded(&bench.run(&arguments));
    let report = bench.read("out/scoreboard.md");
    for name in work {
        assert!(report.contains(&format!("`{name}`")), "{name}\n{report}");
        assert!(bench.out().join(format!("{name}.svg")).exists(), "{name}");
    }
    assert!(report.contains("| floor again | 3,000 |"), "{report}");
    assert!(report.contains("| tightloop-poll | 3,000 |"), "{report}");
    let whole: Value = serde_json::from_str(&bench.read("out/scoreboard.json")).unwrap();
    assert_eq!(rounds_of(&bench.read("out/raw.jsonl")).len(), 3 * work.len());
    assert!(whole["header"]["machine"]["kernel"].is_string());
    assert!(whole["header"]["commit"]["id"].is_string());
    let calls = bench.read("calls");
    for expected in [
        "--work broadcast --connections 10000 --size 128",
        "--work idle --connections 10000",
        "load udp://127.0.0.1:",
        "--duration 100ms --warmup 100ms --server-pid",
    ] {
        assert!(calls.contains(expected), "{expected}\n{calls}");
    }
}

#[test]
fn rounds_are_run_forwards_and_backwards() {
    let bench = Bench::new(&[floor()]);
    succeeded(&bench.run(&[&SHORT[..], &OWN].concat()));
    let raw = bench.read("out/raw.jsonl");
    let mut order: Vec<String> = Vec::new();
    for line in raw.lines().skip(1) {
        let line: Value = serde_json::from_str(line).unwrap();
        let system = line["system"].as_str().unwrap().to_owned();
        // A disturbed round is repeated at once, so the order shows all the same.
        if order.last() != Some(&system) {
            order.push(system);
        }
    }
    assert_eq!(order, ["tightloop-poll", "floor", "floor again", "floor", "tightloop-poll"]);
}

#[test]
fn who_cannot_be_had_does_not_stop_the_rest() {
    let lacking = with(floor(), "name", json!("lacking"));
    let lacking = with(lacking, "needs", json!(["sh", "no-such-command-anywhere"]));
    let broken = peer("broken", &["target/broken/server"], &["echo"]);
    let broken = with(broken, "build", json!(["sh", "-c", "echo the reason >&2; exit 3"]));
    let built = peer("built", &["target/built/server"], &["echo"]);
    let link = format!("mkdir -p target/built && ln -s '{SYSTEM}' target/built/server");
    let built = with(built, "build", json!(["sh", "-c", link]));
    let bench = Bench::new(&[floor(), lacking, broken, built]);
    succeeded(&bench.run(&SHORT));
    let report = bench.read("out/scoreboard.md");
    let expected = "- lacking: needs no-such-command-anywhere; install: apt install it";
    assert!(report.contains(expected), "{report}");
    assert!(report.contains("- broken: its build failed"), "{report}");
    assert!(report.contains(": the reason;"), "{report}");
    assert!(report.contains("| built | 3,000 |"), "{report}");
    assert!(!report.contains("| broken | 3,000 |"), "{report}");
}

#[test]
fn who_answers_wrong_is_not_measured() {
    // An HTTP server is asked for echoes, an echo server for pages, a silent one for anything.
    let other = |mode: &str| format!("shift; exec '{SYSTEM}' {mode} \"$@\"");
    let wrong =
        |name: &str, script: &str, mode: &str| peer(name, &["sh", "-c", script, "sh"], &[mode]);
    let systems = [
        floor(),
        wrong("not-an-echo", &other("http"), "echo"),
        wrong("not-http", &other("echo"), "http"),
        wrong("dead", "echo too bad >&2; exit 1", "echo"),
        wrong("chatty", "echo hello; [ $1 = --version ] || exec sleep 60", "echo"),
    ];
    let bench = Bench::new(&systems);
    let arguments = ["--work", "http-64", "--system", "not-http", "--system", "not-an-echo"];
    let more = ["--system", "floor", "--system", "dead", "--system", "chatty"];
    succeeded(&bench.run(&[&SHORT[..], &arguments, &more].concat()));
    let report = bench.read("out/scoreboard.md");
    for expected in [
        "- not-an-echo, echo: echo of 1 B:",
        "- not-http, http: answered \"GET / HTTP/1.1\"",
        "- dead, echo: ended before it was ready (exit status: 1): too bad",
        "- chatty, echo: said \"hello\" instead of ready",
    ] {
        assert!(report.contains(expected), "{expected}\n{report}");
    }
    let raw = bench.read("out/raw.jsonl");
    let measured = raw.lines().skip(1).filter(|line| line.contains("\"system\":\"floor"));
    assert_eq!(measured.count(), raw.lines().count() - 1, "{raw}");
}

#[test]
fn a_load_that_fails_is_told_and_the_rest_goes_on() {
    let bench = Bench::new(&[floor()]);
    let fails_twice = "if [ $(wc -l < \"$(dirname \"$0\")/calls\") -le 2 ]; then\n\
        echo wrong bytes at 7 >&2; exit 1; fi\ncat <<";
    let script = LOAD.replace("cat <<", fails_twice);
    bench.script("load.sh", &script);
    succeeded(&bench.run(&[&SHORT[..], &OWN].concat()));
    let report = bench.read("out/scoreboard.md");
    let expected = "tightloop-poll failed: the load ended with exit status: 1: wrong bytes at 7";
    assert!(report.contains(expected), "{report}");
    assert!(report.contains("| floor | 3,000 |"), "{report}");
}

#[test]
fn an_interrupted_run_goes_on_where_it_was() {
    let bench = Bench::new(&[floor()]);
    let arguments = [&SHORT[..], &OWN].concat();
    succeeded(&bench.run(&arguments));
    let whole = bench.read("out/raw.jsonl");
    let loads = bench.loads();
    // As if the power had failed in the middle of the third round's line.
    let kept: Vec<&str> = whole.lines().take(3).collect();
    let third = whole.lines().nth(3).unwrap();
    let cut = format!("{}\n{}", kept.join("\n"), &third[..third.len() / 2]);
    fs::write(bench.out().join("raw.jsonl"), &cut).unwrap();
    succeeded(&bench.run(&arguments));
    let again = bench.read("out/raw.jsonl");
    assert!(again.starts_with(&(kept.join("\n") + "\n")), "{again}");
    assert_eq!(rounds_of(&again), rounds_of(&whole));
    // What was there is not measured again, and a finished run measures nothing.
    assert!(bench.loads() > loads);
    let loads = bench.loads();
    succeeded(&bench.run(&arguments));
    assert_eq!(bench.loads(), loads);
}

#[test]
fn another_plan_needs_a_restart() {
    let bench = Bench::new(&[floor()]);
    let arguments = [&SHORT[..], &OWN].concat();
    succeeded(&bench.run(&arguments));
    let raw = bench.read("out/raw.jsonl");
    let mut other = arguments.clone();
    other[3] = "1";
    let error = failed(&bench.run(&other));
    assert!(error.contains("another plan") && error.contains("--restart"), "{error}");
    assert_eq!(bench.read("out/raw.jsonl"), raw);
    other.push("--restart");
    succeeded(&bench.run(&other));
    assert_ne!(bench.read("out/raw.jsonl"), raw);
}

#[test]
fn a_signal_ends_the_children_too() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
        let bench = Bench::new(&[floor()]);
        let script = "#!/bin/sh\necho \"$$ $@\" > \"$(dirname \"$0\")/calls\"\nexec sleep 600\n";
        bench.script("load.sh", script);
        let mut command = bench.command(&[&SHORT[..], &OWN].concat());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let called = wait_for(|| Some(bench.read("calls")).filter(|calls| calls.ends_with('\n')));
        let words: Vec<&str> = called.split_whitespace().collect();
        let place = words.iter().position(|word| *word == "--server-pid").unwrap();
        let children = [words[0], words[place + 1]].map(|pid| pid.parse().unwrap());
        // SAFETY: takes numbers only; the child has not been waited for.
        unsafe { libc::kill(child.id() as libc::pid_t, signal) };
        let status = wait_for(|| child.try_wait().unwrap());
        let expected = if signal == libc::SIGKILL { None } else { Some(130) };
        assert_eq!(status.code(), expected);
        for pid in children {
            wait_for(|| (!is_alive(pid)).then_some(()));
        }
    }
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child of a process that was killed is not ours to wait for: as a zombie it is dead enough.
fn is_alive(pid: libc::pid_t) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    state.is_some_and(|state| state != "Z" && state != "X")
}

#[test]
fn one_core_is_not_enough() {
    let bench = Bench::new(&[floor()]);
    let mut command = bench.command(&SHORT);
    // SAFETY: the closure makes one system call on memory of its own.
    unsafe {
        command.pre_exec(|| {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(0, &mut set);
            match libc::sched_setaffinity(0, size_of_val(&set), &set) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let error = failed(&command.output().unwrap());
    assert!(error.contains("this process may use 1"), "{error}");
}

#[test]
fn what_does_not_exist_is_told() {
    let bench = Bench::new(&[floor()]);
    let error = failed(&bench.run(&["--work", "echo-65"]));
    assert!(error.contains("there is no work echo-65"), "{error}");
    let error = failed(&bench.run(&["--system", "nobody"]));
    assert!(error.contains("there is no system nobody"), "{error}");
    let error = failed(&bench.run(&["--report-only"]));
    assert!(error.contains("raw.jsonl cannot be read"), "{error}");
    fs::write(bench.directory.join("peers.json"), "[{\"name\": 1}]").unwrap();
    let error = failed(&bench.run(&SHORT));
    assert!(error.contains("peers.json is no list of peers"), "{error}");
}

#[test]
fn a_list_that_is_not_read_to_its_end_is_no_error() {
    let bench = Bench::new(&[floor()]);
    assert!(succeeded(&bench.run(&["--list"])).contains("  floor  "));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = bench.command(&["--list"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn the_load_of_this_program_is_understood() {
    let bench = Bench::new(&[floor()]);
    fs::remove_file(bench.directory.join("load.sh")).unwrap();
    std::os::unix::fs::symlink(PROGRAM, bench.directory.join("load.sh")).unwrap();
    let mut arguments = vec!["--rounds", "1", "--seconds", "0.2", "--system", "tightloop-poll"];
    let work = ["echo-64x50", "udp-64", "http-64", "idle-10000"];
    arguments.extend(work.iter().flat_map(|work| ["--work", work]));
    let printed = succeeded(&bench.run(&arguments));
    let whole: Value = serde_json::from_str(&bench.read("out/scoreboard.json")).unwrap();
    for failure in whole["failures"].as_array().unwrap() {
        // A load that nothing answers in time is the machine's; one that is not understood is ours.
        assert!(!failure["reason"].to_string().contains("understood"), "{printed}");
    }
    for table in whole["tables"].as_array().unwrap() {
        let row = &table["rows"][0];
        let is_idle = table["workload"]["name"] == "idle-10000";
        let fields: &[&str] = match is_idle {
            true => &["figure", "rss_mib"],
            false => &["figure", "cpu_ns", "throughput", "p99_us", "rss_mib", "client_busy"],
        };
        for field in fields {
            assert!(row[field].as_f64().unwrap_or(0.0) > 0.0, "{field}\n{table:#}");
        }
    }
    assert_eq!(whole["tables"].as_array().unwrap().len(), work.len());
}

/// `BLESS=1 cargo test -p tightloop-bench --test scoreboard known` writes what is expected anew.
#[test]
fn the_report_of_known_rounds_is_known() {
    let bench = Bench::new(&[floor()]);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scoreboard_data");
    fs::create_dir_all(bench.out()).unwrap();
    fs::copy(data.join("raw.jsonl"), bench.out().join("raw.jsonl")).unwrap();
    let printed = text(&bench.run(&["--report-only"]).stdout);
    let printed = printed.replace(&bench.out().display().to_string(), "OUT");
    for (name, made) in [
        ("scoreboard.md", bench.read("out/scoreboard.md")),
        ("growth-connections.svg", bench.read("out/growth-connections.svg")),
        ("printed.txt", printed),
    ] {
        if std::env::var_os("BLESS").is_some() {
            fs::write(data.join(name), &made).unwrap();
        }
        let expected = fs::read_to_string(data.join(name)).unwrap();
        assert!(made == expected, "{name} is another:\n{made}");
    }
}

#[test]
fn the_system_keeps_the_contract() {
    let unknown = Command::new(SYSTEM).args(["telnet", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(!unknown.stderr.is_empty() && unknown.stdout.is_empty());
    let version = Command::new(SYSTEM).arg("--version").output().unwrap();
    assert_eq!(text(&version.stdout).lines().count(), 1);
    assert!(text(&version.stdout).contains("rustc"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = Command::new(SYSTEM).args(["echo", &address]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains(&address), "{}", text(&refused.stderr));
}
