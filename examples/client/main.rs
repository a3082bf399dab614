//! An interactive line client: what you type goes to the server, what comes back is printed.
//!
//! Standard input is read on the main thread, which blocks, and goes through the connection's handle
//! to the loop, which does not. At the end of the input the sending side is closed; the program
//! ends when the server ends the connection. Over UDP each line is a datagram, and the program ends
//! a second after the last one has come.

mod tls;

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use clap::Parser;
use tightloop::{Action, Client, CloseReason, Conn, Connect, Driver, Endpoint, Handler, Input};
use tightloop::{ConnHandle, HandleError};

/// Pending output above which typing waits for the server.
const ENOUGH_PENDING: usize = 256 << 10;

/// Datagrams have no end: this long without one counts as that.
const SILENCE: Duration = Duration::from_secs(1);

/// Sends lines of standard input to a server and prints what it answers
#[derive(Parser)]
struct Flags {
    /// The server, such as tcp://localhost:9000, tls://example.org:443, unix:///tmp/a.sock or
    /// udp://localhost:9000
    #[arg(long, value_name = "URL")]
    connect: Endpoint,

    /// Speak TLS, whatever the URL says
    #[arg(long)]
    tls: bool,

    /// The authorities whose certificates are trusted, a PEM file
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// How long connecting may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,

    /// How the loop speaks to the kernel: auto, poll or io-uring
    #[arg(long, value_name = "DRIVER", default_value_t = Driver::Auto)]
    driver: Driver,
}

/// What becomes of the one connection.
enum Told {
    Opened,
    Ended(CloseReason),
}

struct Terminal {
    told: Sender<Told>,
}

impl Handler for Terminal {
    type State = ();

    fn on_open(&mut self, _conn: &mut Conn<'_>) {
        // Nobody listens any more when the program is about to end.
        let _ = self.told.send(Told::Opened);
    }

    fn on_traffic(&mut self, _conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        // A slow terminal may hold the loop: it has no other connection.
        let mut stdout = io::stdout().lock();
        match stdout.write_all(input.take_all()).and_then(|()| stdout.flush()) {
            Ok(()) => Action::Continue,
            Err(_) => Action::Close,
        }
    }

    /// The end of the input, where there is no sending side that could be closed.
    fn on_wake(&mut self, conn: &mut Conn<'_>, _: &mut ()) -> Action {
        conn.set_idle_timeout(SILENCE);
        Action::Continue
    }

    fn on_close(&mut self, _conn: &mut Conn<'_>, _: (), reason: CloseReason) {
        let _ = self.told.send(Told::Ended(reason));
    }

    fn on_open_failed(&mut self, _conn: &mut Conn<'_>, reason: CloseReason) {
        let _ = self.told.send(Told::Ended(reason));
    }
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let (told, events) = channel();
    let client =
        Client::new().driver(flags.driver).start(move |_loop| Terminal { told: told.clone() })?;
    let connect = Connect::to(&flags.connect).timeout(Duration::from_secs(flags.timeout));
    let conn = client.connect(tls::secure(connect, flags)?)?;

    // It cannot be interrupted; it ends with the program.
    let typing = conn.clone();
    let datagrams = flags.connect.is_datagram();
    let (opened, is_open) = channel::<()>();
    std::thread::spawn(move || {
        // A connection that has ended is told of below.
        let _ = send_lines(&typing);
        if !datagrams {
            let _ = typing.shutdown_write();
        } else if is_open.recv().is_ok() {
            let _ = typing.wake();
        }
    });

    let reason = loop {
        match events.recv()? {
            Told::Opened => drop(opened.send(())),
            Told::Ended(reason) => break reason,
        }
    };
    client.stop();
    client.join()?;
    match reason {
        CloseReason::PeerClosed | CloseReason::Local => Ok(()),
        CloseReason::IdleTimeout if datagrams => Ok(()),
        reason => Err(format!("{}: {reason}", flags.connect).into()),
    }
}

/// Sends standard input line by line, until it ends or the connection does.
fn send_lines(conn: &ConnHandle) -> Result<(), HandleError> {
    let mut stdin = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        match stdin.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) if conn.pending() < ENOUGH_PENDING => conn.write(line)?,
            Ok(_) => {
                let (sent, is_sent) = channel();
                conn.write_then(line, move |result| _ = sent.send(result))?;
                is_sent.recv().unwrap_or(Err(HandleError::Closed))?;
            }
            Err(error) => {
                eprintln!("error: standard input: {error}");
                return Ok(());
            }
        }
    }
}
