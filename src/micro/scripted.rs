//! A driver without a network, as thin as the contract allows, so that nearly all instructions of
//! a turn are the loop's own. Every stream is sent the same message again and again; every send is
//! taken whole.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::addr::Address;
use crate::buf::outbound::Outbound;
use crate::driver::{Buffer, CloseMode, Driver, Event, Sent, Sockets, Token, Waker};
use crate::sys::route::Route;
use crate::sys::socket::Stream;
use crate::sys::sockopt::SocketOptions;
use crate::sys::udp::Outgoing;

/// What the peers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peers {
    /// Each sends a message a turn.
    Ask,
    /// The first one sends a message a turn.
    OneAsks,
    /// Each connects, sends a message, and leaves when it is answered; another one follows.
    ComeAndGo,
}

/// A stream that leads nowhere.
pub(super) struct Nowhere;

impl From<Stream> for Nowhere {
    fn from(_: Stream) -> Self {
        Nowhere
    }
}

pub(super) struct Scripted {
    peers: Peers,
    message: Vec<u8>,
    start: Instant,
    /// Peers that are to connect.
    coming: usize,
    /// Streams that are open, and those that are to send in this turn.
    open: Vec<Token>,
    sending: usize,
    leaving: Vec<Token>,
    pub(super) bytes_sent: usize,
}

impl Scripted {
    pub(super) fn new(peers: Peers, count: usize, message: Vec<u8>) -> Self {
        Scripted {
            peers,
            message,
            start: Instant::now(),
            coming: count,
            open: Vec::new(),
            sending: 0,
            leaving: Vec::new(),
            bytes_sent: 0,
        }
    }

    fn take(&mut self, token: Token, bytes: usize) -> Sent {
        self.bytes_sent += bytes;
        if self.peers == Peers::ComeAndGo {
            self.leaving.push(token);
        }
        Sent { bytes, blocked: false }
    }

    fn accept(&mut self) -> Event<Nowhere> {
        self.coming -= 1;
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1024);
        Event::Accepted { listener: 0, stream: Nowhere, peer: Address::from(peer) }
    }
}

impl Sockets for Scripted {
    fn socket(&self, _: Token) -> Option<SockRef<'_>> {
        None
    }

    fn now(&self) -> Instant {
        self.start
    }

    fn local_address(&self, _: Token) -> io::Result<Address> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Driver for Scripted {
    type Stream = Nowhere;
    type Listener = ();
    type DatagramSocket = ();

    fn unopened_socket(_: &Nowhere) -> Option<SockRef<'_>> {
        None
    }

    fn waker(&self) -> Waker {
        Arc::new(|| {})
    }

    fn wait(&mut self, _: Option<Duration>) -> io::Result<()> {
        self.sending = match self.peers {
            Peers::Ask | Peers::ComeAndGo => self.open.len(),
            Peers::OneAsks => self.open.len().min(1),
        };
        Ok(())
    }

    fn next_event(&mut self) -> Option<Event<Nowhere>> {
        if self.sending > 0 {
            self.sending -= 1;
            let token = match self.peers {
                Peers::Ask | Peers::OneAsks => self.open[self.sending],
                Peers::ComeAndGo => self.open.pop()?,
            };
            let buffer = Buffer { length: self.message.len() };
            return Some(Event::Received { token, buffer });
        }
        if let Some(token) = self.leaving.pop() {
            return Some(Event::Ended { token });
        }
        (self.coming > 0).then(|| self.accept())
    }

    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        &self.message[..buffer.length]
    }

    fn recycle(&mut self, _: Buffer) {}

    fn listen(&mut self, _: u32, (): ()) -> io::Result<()> {
        Ok(())
    }

    fn rest_listener(&mut self, _: u32) {}

    fn resume_accepting(&mut self, _: u32) {}

    fn close_listener(&mut self, _: u32, _: bool) {}

    fn open(&mut self, token: Token, _: Nowhere) -> io::Result<()> {
        self.open.push(token);
        Ok(())
    }

    fn start_connect(&mut self, _: &Address, _: &Route, _: &SocketOptions) -> io::Result<Nowhere> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&mut self, _: Token, _: Nowhere) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&mut self, _: Token, _: Token) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn may_have_more(&self, _: Token) -> bool {
        false
    }

    fn set_receiving(&mut self, _: Token, _: bool) {}

    fn send(&mut self, token: Token, output: &Outbound, _: usize) -> io::Result<Sent> {
        Ok(self.take(token, output.len()))
    }

    fn send_received(
        &mut self,
        token: Token,
        _: &Buffer,
        stretch: Range<usize>,
    ) -> io::Result<Sent> {
        Ok(self.take(token, stretch.len()))
    }

    fn shutdown_write(&mut self, _: Token) -> io::Result<()> {
        Ok(())
    }

    fn close(&mut self, _: Token, _: CloseMode) {
        self.coming += 1;
    }

    fn open_datagram(&mut self, _: u32, (): ()) -> io::Result<()> {
        Ok(())
    }

    fn send_datagrams(
        &mut self,
        _: u32,
        _: &[u8],
        datagrams: &mut [Outgoing],
    ) -> io::Result<usize> {
        Ok(datagrams.len())
    }
}
