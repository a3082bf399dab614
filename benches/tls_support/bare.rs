//! The floor: the calls of rustls in a level-triggered epoll loop, with nothing around them. What
//! a socket does not take stays in the session, and its peer is not read until it is taken.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use crate::support::ServerUnderTest;
use crate::support::bare_echo::start_thread;
use crate::support::epoll::{Epoll, READABLE, WRITABLE, accept};

const RECEIVE_BUFFER: usize = 64 * 1024;
const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// Starts the bare server on a port of its own.
pub fn start(config: Arc<ServerConfig>) -> ServerUnderTest {
    start_thread(move |listener, stopped| serve(&listener, &stopped, &config))
}

struct Peer {
    stream: TcpStream,
    session: ServerConnection,
    waits_for_room: bool,
}

fn serve(listener: &TcpListener, stopped: &UnixStream, config: &Arc<ServerConfig>) {
    let mut epoll = Epoll::new().expect("an epoll");
    epoll.add(listener.as_raw_fd(), READABLE, LISTENER).expect("a listener");
    epoll.add(stopped.as_raw_fd(), READABLE, STOP).expect("a stream");
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut buffer = vec![0; RECEIVE_BUFFER];
    loop {
        for index in 0..epoll.wait(-1).expect("waiting on an open epoll") {
            match epoll.event(index).1 {
                STOP => return,
                LISTENER => {
                    while let Ok(stream) = accept(listener) {
                        let slot = stream.as_raw_fd() as usize;
                        epoll.add(slot as i32, READABLE, slot as u64).expect("an open socket");
                        let mut session =
                            ServerConnection::new(Arc::clone(config)).expect("a session");
                        session.set_buffer_limit(None);
                        peers.resize_with(peers.len().max(slot + 1), || None);
                        peers[slot] = Some(Peer { stream, session, waits_for_room: false });
                    }
                }
                slot => {
                    let place = &mut peers[slot as usize];
                    if place.as_mut().is_some_and(|peer| !peer.turn(&epoll, &mut buffer)) {
                        *place = None;
                    }
                }
            }
        }
    }
}

impl Peer {
    /// One receive, and a send; false if the connection is over.
    fn turn(&mut self, epoll: &Epoll, buffer: &mut [u8]) -> bool {
        if !self.waits_for_room {
            let mut received = match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => &buffer[..count],
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            };
            while !received.is_empty() {
                if self.session.read_tls(&mut received).is_err() {
                    return false;
                }
                if self.session.process_new_packets().is_err() {
                    return false;
                }
                self.echo();
            }
        }
        self.send(epoll)
    }

    fn echo(&mut self) {
        loop {
            let chunk = match self.session.reader().into_first_chunk() {
                Ok(chunk) if !chunk.is_empty() => chunk.to_vec(),
                _ => return,
            };
            self.session.reader().consume(chunk.len());
            self.session.writer().write_all(&chunk).expect("memory without a limit");
        }
    }

    fn send(&mut self, epoll: &Epoll) -> bool {
        let mut full = false;
        while self.session.wants_write() && !full {
            match self.session.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => full = true,
                Err(_) => return false,
            }
        }
        if full != self.waits_for_room {
            self.waits_for_room = full;
            let interest = if full { WRITABLE } else { READABLE };
            let fd = self.stream.as_raw_fd();
            return epoll.modify(fd, interest, fd as u64).is_ok();
        }
        true
    }
}
