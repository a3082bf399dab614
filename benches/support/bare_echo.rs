//! The floor: what a level-triggered epoll echo costs with nothing around it.
//!
//! It takes no short cut that a server could not take: errors close the connection, a short send
//! keeps the rest and stops reading until the peer has taken it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;

use super::epoll::{Epoll, READABLE, WRITABLE, accept, set_listener_no_delay};
use super::proc::{current_tid, pin_to_cpu};
use super::{SERVER_CPU, ServerUnderTest};

const RECEIVE_BUFFER: usize = 64 * 1024;
const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// Starts the bare server on a port of its own.
pub fn start_bare() -> ServerUnderTest {
    start_thread(|listener, stopped| Bare::new(listener, stopped).serve())
}

/// Starts a server on a thread of its own, pinned, with a listener that does not block, and a
/// stream that becomes readable when it is to end.
pub fn start_thread(
    serve: impl FnOnce(TcpListener, UnixStream) + Send + 'static,
) -> ServerUnderTest {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let addr = listener.local_addr().expect("a bound socket has an address");
    set_listener_no_delay(&listener).expect("TCP_NODELAY on a TCP socket");
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    let (stop, stopped) = UnixStream::pair().expect("two descriptors");
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        pin_to_cpu(SERVER_CPU);
        sender.send(current_tid()).expect("the starter waits");
        serve(listener, stopped);
    });
    let tid = receiver.recv().expect("the thread sends its id first");
    let stop = Box::new(move || {
        drop(stop); // the other end becomes readable
        thread.join().expect("the bare server does not panic");
    });
    ServerUnderTest { addr, tid, stop }
}

struct Bare {
    epoll: Epoll,
    listener: TcpListener,
    _stopped: UnixStream,
    /// By descriptor, which is the token.
    peers: Vec<Option<Peer>>,
    buffer: Vec<u8>,
}

struct Peer {
    stream: TcpStream,
    /// Received and not yet sent; while there is some, the peer is not read.
    pending: Vec<u8>,
}

impl Bare {
    fn new(listener: TcpListener, stopped: UnixStream) -> Bare {
        let epoll = Epoll::new().expect("an epoll");
        epoll.add(listener.as_raw_fd(), READABLE, LISTENER).expect("a listener");
        epoll.add(stopped.as_raw_fd(), READABLE, STOP).expect("a stream");
        let buffer = vec![0; RECEIVE_BUFFER];
        Bare { epoll, listener, _stopped: stopped, peers: Vec::new(), buffer }
    }

    fn serve(mut self) {
        loop {
            let count = self.epoll.wait(-1).expect("waiting on an open epoll");
            for index in 0..count {
                match self.epoll.event(index) {
                    (_, STOP) => return,
                    (_, LISTENER) => self.accept_all(),
                    (readiness, token) => self.turn(token as usize, readiness),
                }
            }
        }
    }

    fn accept_all(&mut self) {
        while let Ok(stream) = accept(&self.listener) {
            let fd = stream.as_raw_fd();
            let slot = fd as usize;
            if self.peers.len() <= slot {
                self.peers.resize_with(slot + 1, || None);
            }
            if self.epoll.add(fd, READABLE, slot as u64).is_ok() {
                self.peers[slot] = Some(Peer { stream, pending: Vec::new() });
            }
        }
    }

    /// Closes the connection where it ends: a closed descriptor leaves the epoll by itself.
    fn turn(&mut self, slot: usize, readiness: u32) {
        let Some(peer) = &mut self.peers[slot] else {
            return;
        };
        let lives = if peer.pending.is_empty() {
            peer.echo(&self.epoll, &mut self.buffer)
        } else {
            readiness & (READABLE | WRITABLE) != 0 && peer.send_pending(&self.epoll)
        };
        if !lives {
            self.peers[slot] = None;
        }
    }
}

impl Peer {
    /// One receive, one send; false if the connection is over.
    fn echo(&mut self, epoll: &Epoll, buffer: &mut [u8]) -> bool {
        let received = match self.stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => &buffer[..count],
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let sent = match self.stream.write(received) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return false,
        };
        if sent == received.len() {
            return true;
        }
        self.pending.extend_from_slice(&received[sent..]);
        self.set_interest(epoll, WRITABLE)
    }

    fn send_pending(&mut self, epoll: &Epoll) -> bool {
        match self.stream.write(&self.pending) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        !self.pending.is_empty() || self.set_interest(epoll, READABLE)
    }

    fn set_interest(&self, epoll: &Epoll, interest: u32) -> bool {
        let fd = self.stream.as_raw_fd();
        epoll.modify(fd, interest, fd as u64).is_ok()
    }
}
