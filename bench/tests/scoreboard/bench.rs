//! A place to run the scoreboard in: a list of peers, a load that answers at once.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tightloop-bench");
pub const SYSTEM: &str = env!("CARGO_BIN_EXE_tightloop-system");

/// Says that it was called, then what a load says.
pub const LOAD: &str = r#"#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
cat <<'END'
{"work":"echo","url":"tcp://127.0.0.1:1","connections":50,"active":null,"size":64,"pipeline":1,
"rate":null,"driver":"poll","seconds":0.1,"operations":10000,"bytes":640000,
"errors":{"connect":0,"closed":0,"wrong_bytes":0,"timeout":0,"lost":0},"throughput":100000.0,
"latency_us":{"min":10.0,"mean":20.0,"p50":19.0,"p90":30.0,"p99":40.0,"p99_9":50.0,"max":60.0},
"client_cpu_ns":50000000,
"server":{"cpu_ns":30000000,"cpu_ns_per_operation":3000.0,"rss_kib_before":2000,
"rss_kib_after":4500,"context_switches":12},"series":[],"percentiles":[]}
END
"#;

/// A directory with a list of peers and a load, removed in the end.
pub struct Bench {
    pub directory: PathBuf,
}

impl Bench {
    pub fn new(peers: &[Value]) -> Bench {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("scoreboard-{}-{number}", std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(directory.join("peer")).unwrap();
        fs::write(directory.join("peers.json"), Value::from(peers.to_vec()).to_string()).unwrap();
        let bench = Bench { directory };
        bench.script("load.sh", LOAD);
        bench
    }

    pub fn script(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("scoreboard").arg("--out").arg(self.out());
        command.arg("--peers").arg(&self.directory);
        command.arg("--load-program").arg(self.directory.join("load.sh"));
        command.args(["--no-calls", "--quiet", "--repeats", "0"]).args(arguments);
        command.current_dir(&self.directory).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn out(&self) -> PathBuf {
        self.directory.join("out")
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    /// How often there was a load.
    pub fn loads(&self) -> usize {
        self.read("calls").lines().count()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

pub fn peer(name: &str, program: &[&str], modes: &[&str]) -> Value {
    json!({
        "name": name, "language": "Rust", "directory": "peer", "build": [], "program": program,
        "modes": modes, "needs": [], "install": "apt install it", "warmup_seconds": 0.1,
        "threads": false, "note": "for a test"
    })
}

pub fn with(mut peer: Value, key: &str, value: Value) -> Value {
    peer[key] = value;
    peer
}

pub fn floor() -> Value {
    peer("floor", &[SYSTEM, "--driver", "poll"], &["echo", "udp", "http", "broadcast"])
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn succeeded(output: &Output) -> String {
    let all = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{all}", output.status);
    all
}

pub fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr)
}

/// Work, system and round of each line.
pub fn rounds_of(raw: &str) -> BTreeSet<(String, String, u64)> {
    let of_line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let name = |key: &str| line[key].as_str().unwrap().to_owned();
        (name("workload"), name("system"), line["round"].as_u64().unwrap())
    };
    raw.lines().skip(1).map(of_line).collect()
}
