//! A service that replaces itself by its new program while it serves: no client is refused, none is
//! lost. It says in each answer which process has given it.
//!
//! ```text
//! cargo run --release --example hot_restart        # in another terminal:
//! while curl -s localhost:8080; do sleep 0.1; done
//! kill -HUP PID                                    # as often as you like
//! ```
//!
//! On SIGHUP or SIGUSR2 it starts its program anew, which inherits the listening sockets, and waits
//! until that one says that it serves. Where it does not come up, nothing has happened. Then the old
//! process accepts no more, asks its clients to come again (`Connection: close`), and ends when the
//! last has gone, or when its patience has.
//!
//! Under systemd it takes the sockets that a socket unit has bound, tells when it is ready, when it
//! reloads and which process is the main one, and feeds the watchdog from an event loop's ticker: a
//! loop that hangs is restarted.
//!
//! ```text
//! # hot_restart.service                            # hot_restart.socket (may be left out)
//! [Service]                                        [Socket]
//! Type=notify                                      ListenStream=8080
//! ExecStart=/usr/local/bin/hot_restart
//! ExecReload=/bin/kill -HUP $MAINPID               [Install]
//! WatchdogSec=10                                   WantedBy=sockets.target
//! ```

#[cfg(unix)]
mod common;
#[cfg(unix)]
#[path = "common/duration.rs"]
mod duration;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use clap::Parser;
    common::exit_code(service::run(&service::Flags::parse()))
}

#[cfg(not(unix))]
fn main() {
    eprintln!("error: a process inherits sockets on Unix systems only");
    std::process::exit(1);
}

#[cfg(unix)]
mod service {
    use std::error::Error;
    use std::path::Path;
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
    use signal_hook::iterator::Signals;
    use tightloop::systemd::{Notifier, watchdog_interval};
    use tightloop::{Action, Conn, Context, Handler, Inherited, Input, ServerHandle};

    use crate::{common, duration};

    /// How often it is looked whether all clients have gone: no caller waits for it.
    const DRAIN_LOOK: Duration = Duration::from_millis(10);

    /// The longest head of a request, and the most headers.
    const MAX_HEAD: usize = 8 << 10;
    const MAX_HEADERS: usize = 64;

    /// A service that replaces itself while it serves
    #[derive(clap::Parser)]
    pub struct Flags {
        #[command(flatten)]
        common: common::Args,

        /// How long the new process may take until it serves
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
        ready_timeout: Duration,

        /// How long the old process waits for its clients to go
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
        drain_timeout: Duration,
    }

    pub fn run(flags: &Flags) -> Result<(), Box<dyn Error>> {
        // Of now: once the file has been replaced, the system has another name for what runs here.
        let program = std::env::current_exe()?;
        let mut inherited = Inherited::take()?;
        let is_successor = inherited.is_successor();
        let notifier = Notifier::from_env()?.map(Arc::new);
        let draining = Arc::new(AtomicBool::new(false));

        let server = common::server(&flags.common, &["tcp://:8080"]).inherit(&mut inherited);
        let (flag, manager) = (Arc::clone(&draining), notifier.clone());
        let server = server.start(move |info| Http {
            draining: Arc::clone(&flag),
            // One loop speaks for the process.
            watched: manager.clone().filter(|_| info.index == 0).zip(watchdog_interval()),
        })?;
        let mut signals = Signals::new([SIGHUP, SIGUSR2, SIGINT, SIGTERM])?;
        common::announce(server.local_addrs());
        // From here on the predecessor leaves. It tells systemd of us, as it is the main process.
        if let Err(error) = inherited.ready() {
            // It was killed meanwhile, so this process is the only one that serves.
            eprintln!("the predecessor has gone: {error}");
        }
        if !is_successor {
            tell(&notifier, Notifier::ready);
        }

        let handle = server.handle();
        let ended = signals.handle();
        let joined = std::thread::spawn(move || {
            let result = server.join();
            ended.close();
            result
        });
        while let Some(signal) = signals.forever().next() {
            if matches!(signal, SIGINT | SIGTERM) {
                tell(&notifier, Notifier::stopping);
                handle.stop();
                break;
            }
            tell(&notifier, Notifier::reloading);
            match replace(&handle, &program, flags.ready_timeout) {
                Ok(pid) => {
                    tell(&notifier, |notifier| notifier.main_pid(pid));
                    draining.store(true, Ordering::Release);
                    drain(&handle, &mut signals, flags.drain_timeout);
                    break;
                }
                Err(error) => {
                    eprintln!("error: {} is not replaced: {error}", program.display());
                    tell(&notifier, Notifier::ready);
                }
            }
        }
        joined.join().map_err(|_| "the thread that waits for the server panicked")??;
        Ok(())
    }

    /// Starts the program anew with the same arguments, and answers its process once it serves.
    fn replace(handle: &ServerHandle, program: &Path, patience: Duration) -> std::io::Result<u32> {
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1));
        let mut successor = handle.start_successor(command)?;
        successor.wait_until_ready(patience)?;
        Ok(successor.id())
    }

    /// Leaves the listeners to the successor, and stops when the last client has gone, when patience
    /// has, or at a signal.
    fn drain(handle: &ServerHandle, signals: &mut Signals, patience: Duration) {
        handle.release_listeners();
        let deadline = Instant::now() + patience;
        while !handle.is_drained() && Instant::now() < deadline {
            if signals.pending().any(|signal| matches!(signal, SIGINT | SIGTERM)) {
                break;
            }
            std::thread::sleep(DRAIN_LOOK);
        }
        handle.stop();
    }

    /// Tells systemd, if there is one. That it does not hear is no reason not to serve.
    fn tell(notifier: &Option<Arc<Notifier>>, what: impl FnOnce(&Notifier) -> std::io::Result<()>) {
        if let Some(Err(error)) = notifier.as_deref().map(what) {
            eprintln!("systemd does not hear: {error}");
        }
    }

    /// Answers every request with the number of this process.
    struct Http {
        draining: Arc<AtomicBool>,
        watched: Option<(Arc<Notifier>, Duration)>,
    }

    impl Handler for Http {
        type State = ();

        fn on_open(&mut self, _: &mut Conn<'_>) {}

        fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
            while !input.is_empty() {
                let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
                let mut request = httparse::Request::new(&mut headers);
                let length = match request.parse(input.as_slice()) {
                    Ok(httparse::Status::Complete(length)) => length,
                    Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => break,
                    _ => return refuse(conn),
                };
                let is_get = request.method == Some("GET");
                let closes = wants_close(request.headers);
                input.consume(length);
                // Nobody is left without an answer: the last request that is here is the last.
                let closes = closes || (self.draining.load(Ordering::Acquire) && input.is_empty());
                if !is_get {
                    return refuse(conn);
                }
                answer(conn, closes);
                if closes {
                    return Action::Close;
                }
            }
            Action::Continue
        }

        fn on_tick(&mut self, _: &mut Context<'_, Self>) -> Option<Duration> {
            let (notifier, interval) = self.watched.as_ref()?;
            if self.draining.load(Ordering::Acquire) {
                // The successor is the one that is watched.
                return None;
            }
            if let Err(error) = notifier.watchdog() {
                eprintln!("systemd does not hear: {error}");
            }
            Some(*interval / 2)
        }
    }

    fn wants_close(headers: &[httparse::Header<'_>]) -> bool {
        let mut connection = headers.iter().filter(|h| h.name.eq_ignore_ascii_case("connection"));
        connection.any(|header| header.value.eq_ignore_ascii_case(b"close"))
    }

    fn answer(conn: &mut Conn<'_>, closes: bool) {
        let body = format!("{}\n", std::process::id());
        let close = if closes { "Connection: close\r\n" } else { "" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}\r\n", body.len());
        conn.write(head.as_bytes());
        conn.write(body.as_bytes());
    }

    fn refuse(conn: &mut Conn<'_>) -> Action {
        conn.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        Action::Close
    }
}
