//! The client: one thread, one epoll, one message in flight a connection, each byte of each reply
//! checked.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::support::epoll::{Epoll, READABLE, WRITABLE};

/// A server that says nothing for so long is broken.
const SILENCE_MAX_MS: i32 = 5_000;

/// A client that is connected to the server.
pub struct Load {
    epoll: Epoll,
    message: Vec<u8>,
    buffer: Vec<u8>,
    connections: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    session: ClientConnection,
    received: usize,
    waits_for_room: bool,
}

impl Load {
    pub fn new(port: u16, config: &Arc<ClientConfig>, connections: usize, bytes: usize) -> Load {
        let epoll = Epoll::new().expect("an epoll");
        let connections = (0..connections).map(|slot| {
            let name = ServerName::try_from("localhost").expect("a name");
            let mut session = ClientConnection::new(Arc::clone(config), name).expect("a session");
            session.set_buffer_limit(None);
            let mut stream =
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server accepts");
            stream.set_nodelay(true).expect("TCP_NODELAY on a TCP socket");
            while session.is_handshaking() {
                session.complete_io(&mut stream).expect("a handshake");
            }
            stream.set_nonblocking(true).expect("a socket can be non-blocking");
            epoll.add(stream.as_raw_fd(), READABLE, slot as u64).expect("an open socket");
            Connection { stream, session, received: 0, waits_for_room: false }
        });
        let connections = connections.collect();
        let message = (0..bytes).map(|i| ((i * 31) ^ (i >> 8)) as u8).collect();
        Load { epoll, message, buffer: vec![0; 256 << 10], connections }
    }

    /// Keeps every connection busy until `end`, and answers how many messages came back.
    pub fn run_until(&mut self, end: Instant) -> u64 {
        let Load { epoll, message, buffer, connections } = self;
        let (mut messages, mut in_flight) = (0, connections.len());
        for (slot, connection) in connections.iter_mut().enumerate() {
            connection.begin(message);
            connection.send(epoll, slot);
        }
        while in_flight > 0 {
            let count = epoll.wait(SILENCE_MAX_MS).expect("waiting on an open epoll");
            assert!(count > 0, "the server does not answer");
            for index in 0..count {
                let slot = epoll.event(index).1 as usize;
                let connection = &mut connections[slot];
                if connection.receive(message, buffer) {
                    messages += 1;
                    if Instant::now() < end {
                        connection.begin(message);
                    } else {
                        in_flight -= 1;
                    }
                }
                connection.send(epoll, slot);
            }
        }
        messages
    }
}

impl Connection {
    fn begin(&mut self, message: &[u8]) {
        self.received = 0;
        self.session.writer().write_all(message).expect("memory without a limit");
    }

    fn send(&mut self, epoll: &Epoll, slot: usize) {
        let mut full = false;
        while self.session.wants_write() && !full {
            match self.session.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => full = true,
                Err(error) => panic!("cannot send: {error}"),
            }
        }
        if full != self.waits_for_room {
            self.waits_for_room = full;
            let interest = if full { READABLE | WRITABLE } else { READABLE };
            epoll.modify(self.stream.as_raw_fd(), interest, slot as u64).expect("an open socket");
        }
    }

    /// Receives once; true if that completed the reply.
    fn receive(&mut self, message: &[u8], buffer: &mut [u8]) -> bool {
        let mut wire = match self.stream.read(buffer) {
            Ok(0) => panic!("the server closed the connection"),
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => panic!("cannot receive: {error}"),
        };
        let mut plain = [0; 16 << 10];
        while !wire.is_empty() {
            self.session.read_tls(&mut wire).expect("room");
            self.session.process_new_packets().expect("good records");
            while let Ok(count @ 1..) = self.session.reader().read(&mut plain) {
                let expected = &message[self.received..][..count];
                assert!(plain[..count] == *expected, "the server sends something else");
                self.received += count;
            }
        }
        self.received == message.len()
    }
}
