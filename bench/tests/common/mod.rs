//! What the tests of `load` share: the program as a child process, and servers for it.

#![allow(dead_code)] // each test program uses a part

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tightloop::{Action, Conn, Datagram, Handler, Input, RunningServer, Server};

pub mod servers;

/// No load of these tests takes so long, also on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a run of the program has left.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The result; there has to be one.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.stdout, self.stderr))
    }

    /// The result of a run in which all was well.
    pub fn success(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        let json = self.json();
        assert!(json["operations"].as_u64() > Some(0), "{json}");
        for kind in ["connect", "closed", "wrong_bytes", "timeout", "lost"] {
            assert_eq!(json["errors"][kind], 0, "{kind}: {}", self.stderr);
        }
        json
    }
}

/// Starts `load` with `arguments`, separated by spaces, and a short duration.
pub fn start(arguments: &str) -> Child {
    start_with(arguments, &[])
}

fn start_with(arguments: &str, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tightloop-bench"));
    command.arg("load").args(arguments.split_whitespace()).args(more);
    for (name, value) in [("--duration", "300ms"), ("--warmup", "50ms"), ("--json", "-")] {
        if !arguments.contains(name) {
            command.args([name, value]);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program is built")
}

/// Runs `load` to its end.
pub fn load(arguments: &str) -> Outcome {
    finish(start(arguments))
}

/// As `load`, with more arguments, in which there may be spaces.
pub fn load_with(arguments: &str, more: &[&str]) -> Outcome {
    finish(start_with(arguments, more))
}

/// Waits for the end.
pub fn finish(mut child: Child) -> Outcome {
    let began = Instant::now();
    while child.try_wait().expect("a child of ours").is_none() {
        if began.elapsed() > DEADLINE {
            child.kill().expect("a child of ours");
            let output = child.wait_with_output().expect("a child of ours");
            panic!("load does not end: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().expect("a child of ours");
    Outcome {
        code: status.code(),
        stdout: String::from_utf8(stdout).expect("text"),
        stderr: String::from_utf8(stderr).expect("text"),
    }
}

/// Runs a test that a machine can spoil by standing still meanwhile, as a virtual one does while
/// others have its processors. It fails if all attempts do; each gets its number.
pub fn at_best(test: impl Fn(u32)) {
    for attempt in 0..4 {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(attempt)));
        if result.is_ok() {
            return;
        }
        println!("attempt {attempt} has failed");
    }
    test(4);
}

/// A server that runs as long as this lives.
pub struct Running<H: Handler> {
    server: RunningServer<H>,
}

impl<H: Handler> Running<H> {
    pub fn port(&self) -> u16 {
        self.server.local_addrs()[0].port().expect("a network address")
    }

    pub fn received_bytes(&self) -> u64 {
        self.server.handle().stats().bytes_in
    }
}

/// Starts a server with one loop on any port of 127.0.0.1, or on `url`.
pub fn serve<H: Handler>(url: &str, make: impl Fn() -> H + Send + Sync + 'static) -> Running<H> {
    let server = Server::new().listen(url).start(move |_loop| make()).expect("a server");
    Running { server }
}

/// Sends back what comes.
pub struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        conn.write(input.take_all());
        Action::Continue
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        datagram.reply(datagram.payload());
        Action::Continue
    }
}
