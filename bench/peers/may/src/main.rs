//! The peer may: a coroutine for each connection, one worker unless --threads says otherwise, as its
//! echo example does it; HTTP by may_minihttp, which is may's entry at TechEmpower.

#[path = "../../common/peer.rs"]
mod peer;

use std::io::{self, Read, Write};
use std::time::Duration;

use may::net::{TcpListener, TcpStream, UdpSocket};
use may::{coroutine, go};
use may_minihttp::{HttpServer, HttpService, Request, Response};
use socket2::SockRef;

use crate::peer::{Arguments, FIRST_BYTES, Program, READ_BYTES, fatal};

const PROGRAM: Program = Program {
    name: "may",
    version: env!("PEER_VERSION"),
    modes: &["echo", "udp", "http"],
    takes_threads: true,
};
/// Coroutines kept for use again, as a version of its TechEmpower entry had it.
const POOL: usize = 10_000;
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

fn main() {
    let arguments = peer::arguments(&PROGRAM);
    peer::raise_descriptor_limit();
    may::config().set_workers(arguments.threads).set_pool_capacity(POOL);
    match arguments.mode.as_str() {
        "udp" => serve_datagrams(&arguments),
        "http" => serve_http(&arguments),
        _ => serve_streams(&arguments),
    }
}

fn serve_streams(arguments: &Arguments) {
    let bound = TcpListener::bind(arguments.address);
    let listener = bound.unwrap_or_else(|error| fatal("cannot listen", error));
    peer::ready();
    let accepting = go!(move || {
        loop {
            match listener.accept() {
                // What a client does wrong ends its coroutine and nothing else.
                Ok((stream, _)) => drop(go!(move || echo(stream))),
                Err(_) => coroutine::sleep(ACCEPT_PAUSE),
            }
        }
    });
    wait(accepting);
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; FIRST_BYTES];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
        if length == buffer.len() && length < READ_BYTES {
            buffer = vec![0; length * 2];
        }
    }
}

fn serve_datagrams(arguments: &Arguments) {
    let bound = UdpSocket::bind(arguments.address);
    let socket = bound.unwrap_or_else(|error| fatal("cannot bind", error));
    let buffer = SockRef::from(socket.inner()).set_recv_buffer_size(peer::UDP_RECEIVE_BYTES);
    buffer.unwrap_or_else(|error| fatal("receive buffer", error));
    peer::ready();
    let echoing = go!(move || {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            // A datagram that cannot be received or sent is lost, as datagrams may be.
            if let Ok((length, sender)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], sender);
            }
        }
    });
    wait(echoing);
}

#[derive(Clone)]
struct Hello;

impl HttpService for Hello {
    fn call(&mut self, _: Request, response: &mut Response) -> io::Result<()> {
        response.header("Content-Type: text/plain");
        response.body("Hello, World!");
        Ok(())
    }
}

fn serve_http(arguments: &Arguments) {
    let started = HttpServer(Hello).start(arguments.address);
    let server = started.unwrap_or_else(|error| fatal("cannot listen", error));
    peer::ready();
    wait(server);
}

fn wait<T: 'static>(work: coroutine::JoinHandle<T>) {
    if work.join().is_err() {
        fatal("may", "the serving coroutine ended");
    }
}
