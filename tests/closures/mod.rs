//! A handler made of closures, for tests that need one callback each, and what such tests share:
//! the end of a server with a deadline, and a test in a process of its own.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unused_unit, reason = "the macro wants an answer of each callback")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tightloop::{
    Action, CloseReason, Conn, Context, Datagram, Handler, Input, Result, RunningServer,
    ServerHandle,
};

use crate::common::{DEADLINE, Driver};

/// The URL of most tests.
pub const TCP: &str = "tcp://127.0.0.1:0";

macro_rules! script {
    ($($name:ident: ($($argument:ty),*) $(-> $answer:ty)?;)*) => {
        /// Each callback is a closure; without one it does what `Handler` does by default, and
        /// `traffic` and `datagram` echo.
        #[derive(Default)]
        pub struct Script {
            $($name: Option<Box<dyn FnMut($($argument),*) $(-> $answer)?>>,)*
        }

        impl Script {
            pub fn new() -> Self {
                Script::default()
            }

            $(pub fn $name(mut self, call: impl FnMut($($argument),*) $(-> $answer)? + 'static) -> Self {
                self.$name = Some(Box::new(call));
                self
            })*
        }
    };
}

script! {
    boot: (&ServerHandle) -> Action;
    open: (&mut Conn<'_>) -> ();
    traffic: (&mut Conn<'_>, &mut Input<'_>) -> Action;
    datagram: (&mut Datagram<'_>) -> Action;
    before_write: (&mut Conn<'_>) -> ();
    drain: (&mut Conn<'_>) -> Action;
    eof: (&mut Conn<'_>) -> Action;
    wake: (&mut Conn<'_>) -> Action;
    timer: (&mut Conn<'_>) -> Action;
    tick: (&mut Context<'_, Script>) -> Option<Duration>;
    close: (&mut Conn<'_>, CloseReason) -> ();
    failed: (&mut Conn<'_>, CloseReason) -> ();
    secured: (&mut Conn<'_>) -> Action;
    shutdown: (&mut Context<'_, Script>) -> ();
}

impl Handler for Script {
    type State = ();

    fn on_boot(&mut self, server: &ServerHandle) -> Action {
        self.boot.as_mut().map_or(Action::Continue, |call| call(server))
    }

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        if let Some(call) = &mut self.open {
            call(conn);
        }
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        if let Some(call) = &mut self.traffic {
            return call(conn, input);
        }
        conn.write(input.take_all());
        Action::Continue
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        if let Some(call) = &mut self.datagram {
            return call(datagram);
        }
        datagram.reply(datagram.payload());
        Action::Continue
    }

    fn pre_write(&mut self, conn: &mut Conn<'_>, _: &mut (), _: usize) {
        if let Some(call) = &mut self.before_write {
            call(conn);
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, _: &mut ()) -> Action {
        self.drain.as_mut().map_or(Action::Continue, |call| call(conn))
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, _: &mut ()) -> Action {
        self.eof.as_mut().map_or(Action::Close, |call| call(conn))
    }

    fn on_secured(&mut self, conn: &mut Conn<'_>, _: &mut ()) -> Action {
        self.secured.as_mut().map_or(Action::Continue, |call| call(conn))
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, _: &mut ()) -> Action {
        self.wake.as_mut().map_or(Action::Continue, |call| call(conn))
    }

    fn on_timer(&mut self, conn: &mut Conn<'_>, _: &mut ()) -> Action {
        self.timer.as_mut().map_or(Action::Continue, |call| call(conn))
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        self.tick.as_mut().and_then(|call| call(cx))
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, (): (), reason: CloseReason) {
        if let Some(call) = &mut self.close {
            call(conn, reason);
        }
    }

    fn on_open_failed(&mut self, conn: &mut Conn<'_>, reason: CloseReason) {
        if let Some(call) = &mut self.failed {
            call(conn, reason);
        }
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_, Self>) {
        if let Some(call) = &mut self.shutdown {
            call(cx);
        }
    }
}

/// Waits for the end of a server, with a deadline; answers what `join` said and how long it took.
pub fn joined<H: Handler>(server: RunningServer<H>) -> (Result<()>, Duration) {
    let (sender, receiver) = channel();
    let start = Instant::now();
    std::thread::spawn(move || sender.send(server.join()));
    let outcome = receiver.recv_timeout(DEADLINE).expect("the server ends");
    (outcome, start.elapsed())
}

/// Waits for a server that ends by itself, in order; answers how long that took.
pub fn ended<H: Handler>(server: RunningServer<H>) -> Duration {
    let (outcome, took) = joined(server);
    outcome.expect("the server ends in order");
    took
}

/// The path by which the test program knows a test.
pub fn test_path(driver: Driver, test: &str) -> String {
    format!("{driver:?}::{test}").to_lowercase()
}

/// True in a process where nothing but the calling test runs; in the test's own process it starts
/// that other one, waits for it and fails if it does.
pub fn alone(driver: Driver, test: &str) -> bool {
    let path = test_path(driver, test);
    if std::env::var_os("TIGHTLOOP_ALONE").is_some_and(|alone| *alone == *path) {
        return true;
    }
    let program = std::env::current_exe().expect("the test's own program");
    let output = Command::new(program)
        .args(["--exact", &path, "--nocapture", "--test-threads=1"])
        .env("TIGHTLOOP_ALONE", &path)
        .output()
        .expect("the test starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
    false
}

/// The names of this process's threads that belong to servers, sorted.
pub fn server_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let names = tasks.filter_map(|task| {
        // A thread may end in between.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    let names = names.map(|name| name.trim_end().to_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("tl-")).collect();
    names.sort();
    names
}

/// Waits until no thread of a server is left: one that was joined is listed for a moment longer.
pub fn wait_for_the_end_of_threads() {
    crate::common::eventually("no thread is left", || server_threads().is_empty());
}

/// Lets time pass without giving it up: for a handler that is meant to be slow.
pub fn be_busy(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// A directory of a test's own, removed at its end.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tl-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory of one's own");
        Directory(path)
    }

    /// The path and the URL of a Unix socket in the directory.
    pub fn socket(&self, name: &str) -> (PathBuf, String) {
        let path = self.0.join(name);
        let url = format!("unix://{}", path.display());
        (path, url)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the directory is still there");
    }
}
