//! Chapter 9 of the guide (docs/guide): what a server needs around it to be run: an end in order,
//! numbers to be watched by, and the true addresses of clients behind a proxy.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tightloop::proxy_protocol::ProxyProtocol;
use tightloop::{Action, Conn, Handler, Input, Server, ServerHandle};

/// How long open connections may go on after the signal.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the signals are looked for: an end may take a moment, and an idle process shall sleep.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The listeners, in the order in which `main` names them.
const METRICS: usize = 1;

/// The longest request for the numbers that is waited for.
const MAX_REQUEST: usize = 8 * 1024;

struct Service;

impl Handler for Service {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        if conn.listener() == Some(METRICS) {
            return;
        }
        let mut greeting = format!("you are {}\n", conn.peer_addr());
        if conn.proxy_header().is_some() {
            let proxy = conn.socket_peer_addr();
            greeting += &format!("your proxy is {proxy}\n");
        }
        conn.write(greeting.as_bytes());
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        if conn.listener() == Some(METRICS) {
            return show_numbers(conn, input);
        }
        conn.write(input.take_all());
        Action::Continue
    }
}

/// Answers one HTTP request, whatever it asks for, and closes.
fn show_numbers(conn: &mut Conn<'_>, input: &mut Input<'_>) -> Action {
    let is_whole = input.as_slice().windows(4).any(|end| end == b"\r\n\r\n");
    if !is_whole && input.len() <= MAX_REQUEST {
        return Action::Continue;
    }
    input.take_all();
    let body = conn.server().stats().to_prometheus("service");
    let length = body.len();
    conn.write_bytes(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ));
    Action::Close
}

/// Waits until `asked` is set, then lets the server end: nobody new comes in, those who are there may
/// finish, and when patience is at its end, or the flag is set again, the rest is closed.
fn stop_when(asked: &AtomicBool, server: &ServerHandle) {
    while !asked.swap(false, Ordering::Relaxed) {
        thread::sleep(LOOK_EVERY);
    }
    println!("draining {} connections", server.connections());
    server.stop_accepting();
    let until = Instant::now() + PATIENCE;
    while !server.is_drained() && Instant::now() < until && !asked.load(Ordering::Relaxed) {
        thread::sleep(LOOK_EVERY);
    }
    println!("stopping {} connections", server.connections());
    server.stop();
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut urls = std::env::args().skip(1);
    let mut url = |default: &str| urls.next().unwrap_or(default.to_owned());
    let direct = url("tcp://127.0.0.1:9000");
    let metrics = url("tcp://127.0.0.1:9100");
    let proxied = url("tcp://127.0.0.1:9001");

    // Before the server, so that no signal can come too early.
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&asked))?;
    }

    let proxies = ProxyProtocol::required().trusting(["127.0.0.0/8".parse()?, "::1".parse()?]);
    let server = Server::new()
        .loop_per_core()
        .listen(direct)
        .listen(metrics)
        .listen_proxied(proxied, proxies)
        .start(|_loop| Service)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }

    let handle = server.handle();
    thread::spawn(move || stop_when(&asked, &handle));
    server.join()?;
    println!("ended in order");
    Ok(())
}
