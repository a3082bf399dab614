//! The client: one thread, one epoll, one message in flight a connection, each byte of each reply
//! checked.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::epoll::{Epoll, READABLE, WRITABLE};

/// A server that says nothing for so long is broken.
const SILENCE_MAX_MS: i32 = 5_000;
/// Destinations 127.0.0.1 to 127.0.0.200: each has ephemeral ports of its own, so that those in
/// TIME_WAIT do not run out.
const DESTINATIONS: u64 = 200;
const SMALL_MESSAGE: usize = 64;
const LARGE_MESSAGE: usize = 64 * 1024;
const RECEIVE_BUFFER: usize = 256 * 1024;
/// Each message is a piece of one text from a different place, so that a reply to another message
/// is noticed.
const PATTERN_SHIFT: usize = 251;

#[derive(Clone, Copy, PartialEq)]
pub enum Workload {
    Echo,
    Churn,
    Bulk,
}

impl Workload {
    pub const ALL: [Workload; 3] = [Workload::Echo, Workload::Churn, Workload::Bulk];

    pub fn name(self) -> &'static str {
        match self {
            Workload::Echo => "echo",
            Workload::Churn => "churn",
            Workload::Bulk => "bulk",
        }
    }

    fn connections(self) -> usize {
        match self {
            Workload::Echo => 50,
            Workload::Churn | Workload::Bulk => 8,
        }
    }

    fn message_length(self) -> usize {
        match self {
            Workload::Echo | Workload::Churn => SMALL_MESSAGE,
            Workload::Bulk => LARGE_MESSAGE,
        }
    }

    /// Connects the client; nothing is sent yet.
    pub fn connect(self, server: SocketAddr) -> Load {
        let length = self.message_length();
        let mut load = Load {
            workload: self,
            epoll: Epoll::new().expect("an epoll"),
            port: server.port(),
            connected: 0,
            pattern: pattern(length + PATTERN_SHIFT),
            buffer: vec![0; RECEIVE_BUFFER],
            connections: Vec::new(),
        };
        for slot in 0..self.connections() {
            let connection = load.open(slot);
            load.connections.push(connection);
        }
        load
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, length) = (self.name(), self.message_length());
        let what = match self {
            Workload::Churn => "connect, one message, close; at once",
            Workload::Echo | Workload::Bulk => "messages back and forth; connections",
        };
        write!(f, "{name}: {length} B {what}: {}", self.connections())
    }
}

/// What was done in a run.
pub struct Totals {
    /// Replies, or in `churn` connections from connect to close.
    pub operations: u64,
    pub elapsed: Duration,
}

/// A client that is connected to the server.
pub struct Load {
    workload: Workload,
    epoll: Epoll,
    port: u16,
    /// Connections opened so far.
    connected: u64,
    pattern: Vec<u8>,
    buffer: Vec<u8>,
    connections: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    /// Messages sent before this one.
    message: usize,
    /// Bytes of this message sent and received back; equal to its length when it is done.
    sent: usize,
    received: usize,
    /// Whether the epoll reports room to send: only while a message was cut short.
    waits_for_room: bool,
}

impl Load {
    /// Keeps every connection busy for `duration`. What is in flight at the end is received first,
    /// so that the server is idle between runs.
    pub fn run_for(&mut self, duration: Duration) -> Totals {
        let start = Instant::now();
        let mut operations = 0;
        let mut in_flight = self.connections.len();
        for slot in 0..in_flight {
            self.send(slot);
        }
        while in_flight > 0 {
            let count = self.epoll.wait(SILENCE_MAX_MS).expect("waiting on an open epoll");
            assert!(count > 0, "the server does not answer");
            let is_over = start.elapsed() >= duration;
            for index in 0..count {
                let (readiness, token) = self.epoll.event(index);
                let slot = token as usize;
                if readiness & WRITABLE != 0 {
                    self.send_rest(slot);
                }
                if !self.receive(slot) {
                    continue;
                }
                operations += 1;
                if self.workload == Workload::Churn {
                    self.connections[slot] = self.open(slot); // drops the old one: closes first
                }
                if is_over {
                    in_flight -= 1;
                } else {
                    self.send(slot);
                }
            }
        }
        Totals { operations, elapsed: start.elapsed() }
    }

    fn open(&mut self, slot: usize) -> Connection {
        let last = 1 + (self.connected % DESTINATIONS) as u8;
        self.connected += 1;
        let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), self.port));
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY on a TCP socket");
        stream.set_nonblocking(true).expect("a socket can be non-blocking");
        self.epoll.add(stream.as_raw_fd(), READABLE, slot as u64).expect("an open socket");
        let message = self.connected as usize;
        Connection { stream, message, sent: 0, received: 0, waits_for_room: false }
    }

    /// Starts the next message of an idle connection.
    fn send(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        connection.message += 1;
        (connection.sent, connection.received) = (0, 0);
        self.send_rest(slot);
    }

    fn send_rest(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        let message = message_of(connection, &self.pattern, self.workload);
        while connection.sent < message.len() {
            match connection.stream.write(&message[connection.sent..]) {
                Ok(count) => connection.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("cannot send: {error}"),
            }
        }
        let waits_for_room = connection.sent < message.len();
        if waits_for_room != connection.waits_for_room {
            connection.waits_for_room = waits_for_room;
            let interest = if waits_for_room { READABLE | WRITABLE } else { READABLE };
            let fd = connection.stream.as_raw_fd();
            self.epoll.modify(fd, interest, slot as u64).expect("an open socket");
        }
    }

    /// Receives once; true if that completed the reply.
    fn receive(&mut self, slot: usize) -> bool {
        let connection = &mut self.connections[slot];
        let count = match connection.stream.read(&mut self.buffer) {
            Ok(0) => panic!("the server closed the connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => panic!("cannot receive: {error}"),
        };
        let message = message_of(connection, &self.pattern, self.workload);
        let expected = &message[connection.received..connection.sent];
        assert!(count <= expected.len(), "the server sends more than it got");
        assert!(self.buffer[..count] == expected[..count], "the server sends something else");
        connection.received += count;
        connection.received == message.len()
    }
}

fn message_of<'a>(connection: &Connection, pattern: &'a [u8], workload: Workload) -> &'a [u8] {
    let start = connection.message % PATTERN_SHIFT;
    &pattern[start..start + workload.message_length()]
}

/// Bytes without a short period.
fn pattern(length: usize) -> Vec<u8> {
    let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(1), next)
        .map(|state: u32| (state >> 24) as u8)
        .take(length)
        .collect()
}
