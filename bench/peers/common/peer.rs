//! What the Rust peers share: the command line, the sockets, the answers of HTTP. Each includes it
//! as a module, so it uses only what all of them depend on.
#![allow(dead_code)] // no peer uses all of it

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::process::exit;

use socket2::{Domain, Protocol, Socket, Type};

const USAGE: i32 = 2;
const MAX_THREADS: usize = 256;
/// The kernel takes the smaller of this and somaxconn.
const BACKLOG: i32 = 65_535;
pub const UDP_RECEIVE_BYTES: usize = 1 << 20;
/// One receive: what the other systems of the bench read at once.
pub const READ_BYTES: usize = 64 * 1024;
/// Where a buffer that a connection owns begins; it doubles up to READ_BYTES while it is filled.
pub const FIRST_BYTES: usize = 4 * 1024;

/// What a peer is: its --version line, its modes, and whether it may have several threads.
pub struct Program {
    pub name: &'static str,
    pub version: &'static str,
    pub modes: &'static [&'static str],
    pub takes_threads: bool,
}

#[derive(Clone)]
pub struct Arguments {
    pub mode: String,
    pub address: SocketAddr,
    pub threads: usize,
}

/// Reads the command line; what is wrong with it ends the program with 2.
pub fn arguments(program: &Program) -> Arguments {
    let mut words = Vec::new();
    let mut threads = 1;
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        match word.as_str() {
            "--version" => {
                println!("{}", program.version);
                exit(0);
            }
            "--threads" if program.takes_threads => {
                let count = given.next().and_then(|text| text.parse().ok());
                threads = count
                    .filter(|count| (1..=MAX_THREADS).contains(count))
                    .unwrap_or_else(|| usage(program, "--threads needs a number from 1 to 256"));
            }
            _ if word.starts_with('-') => usage(program, &format!("unknown option: {word}")),
            _ => words.push(word),
        }
    }
    let [mode, place] = &words[..] else {
        usage(program, "MODE and HOST:PORT are needed");
    };
    if !program.modes.contains(&mode.as_str()) {
        usage(program, &format!("unknown mode: {mode}"));
    }
    if mode == "broadcast" && threads > 1 {
        usage(program, "broadcast has one thread: its receivers are one list");
    }
    let found = place.to_socket_addrs().map(|mut all| all.next());
    let address = match found {
        Ok(Some(address)) => address,
        Ok(None) => usage(program, &format!("no address: {place}")),
        Err(error) => usage(program, &format!("{place}: {error}")),
    };
    Arguments { mode: mode.clone(), address, threads }
}

fn usage(program: &Program, what: &str) -> ! {
    let threads = if program.takes_threads { " [--threads N]" } else { "" };
    let (name, modes) = (program.name, program.modes.join(" "));
    eprintln!("{name}: {what}; usage: {name} MODE HOST:PORT{threads}, MODE one of: {modes}");
    exit(USAGE);
}

/// Ends the program with the reason.
pub fn fatal(what: &str, error: impl std::fmt::Display) -> ! {
    eprintln!("{what}: {error}");
    exit(1);
}

/// The listener has TCP_NODELAY, and on Linux what it accepts has it too: no call for each.
pub fn listener(arguments: &Arguments, nonblocking: bool) -> TcpListener {
    let open = || -> io::Result<Socket> {
        let domain = Domain::for_address(arguments.address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(arguments.threads > 1)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(nonblocking)?;
        socket.bind(&arguments.address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    open().unwrap_or_else(|error| fatal("cannot listen", error)).into()
}

pub fn datagram_socket(arguments: &Arguments, nonblocking: bool) -> UdpSocket {
    let open = || -> io::Result<Socket> {
        let domain = Domain::for_address(arguments.address);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_port(arguments.threads > 1)?;
        socket.set_recv_buffer_size(UDP_RECEIVE_BYTES)?;
        socket.set_nonblocking(nonblocking)?;
        socket.bind(&arguments.address.into())?;
        Ok(socket)
    };
    open().unwrap_or_else(|error| fatal("cannot bind", error)).into()
}

/// Runs `serve` on as many threads as were asked for; each opens its own socket of the same port.
pub fn on_threads<S: Send + 'static>(
    arguments: &Arguments,
    open: impl Fn(&Arguments) -> S,
    serve: impl Fn(S) + Clone + Send + 'static,
) {
    raise_descriptor_limit();
    let mut sockets: Vec<S> = (0..arguments.threads).map(|_| open(arguments)).collect();
    let first = sockets.pop();
    for socket in sockets {
        let serve = serve.clone();
        std::thread::spawn(move || serve(socket));
    }
    ready();
    first.into_iter().for_each(serve);
}

pub fn raise_descriptor_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        fatal("descriptor limit", error);
    }
}

pub fn ready() {
    println!("ready");
    if let Err(error) = io::stdout().flush() {
        fatal("standard output", error);
    }
}
