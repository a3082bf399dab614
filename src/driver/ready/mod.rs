//! The readiness driver, over mio: epoll, kqueue and Windows by the same code.
//!
//! A socket is registered once, edge-triggered, for reading and writing together; nothing is
//! re-armed. What the poller reports becomes a flag on the socket's entry and a place in one
//! queue; `next_event` takes sockets from the queue's head and does the system call. A socket
//! that still has something goes back to the queue's end: that is the whole of fairness.
//!
//! A receive that comes back short has emptied the socket: a new edge follows when more arrives.
//! That is trusted only as long as no end of stream was reported with the edge, for the end
//! brings no further edge, and no urgent data, at whose mark a receive stops; not for Unix
//! sockets, where it stops behind passed descriptors; and not on Windows, where mio re-arms on
//! `WouldBlock` only.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use socket2::SockRef;

use crate::addr::Address;
use crate::buf::outbound::Outbound;
use crate::buf::pages::Pages;
use crate::driver::datagrams::Datagrams;
use crate::driver::{BYTES_PER_PLACE, LEAST_PLACES_PER_TURN};
use crate::driver::{
    Buffer, CloseMode, Driver, Event, Moved, Outgoing, Sent, Sockets, Token, Waker,
};
use crate::sys::hang_up::has_input;
use crate::sys::route::Route;
use crate::sys::socket::{Listener, Stream, connect_udp, start_connect};
use crate::sys::sockopt::SocketOptions;

mod datagram;
mod listener;
mod moving;
mod place;
mod queue;
mod registration;
mod socket;
mod stream;

use listener::ListenerEntry;
use moving::Pipes;
use place::Place;
use stream::{StreamEntry, requeue};

/// Events fetched by one system call; more wait in the kernel for the next turn.
const EVENTS_PER_WAIT: usize = 1024;

/// The readiness driver.
///
/// What every message touches comes first and together.
#[repr(C)]
pub(crate) struct Ready {
    queue: VecDeque<Place>,
    /// Places that waited when this turn began, and were not looked at yet.
    round: usize,
    /// Further places that this turn may look at behind those.
    spare: usize,
    streams: Pages<StreamEntry>,
    /// The streams' one receive buffer.
    receive: Box<[u8]>,
    woken: bool,
    poll: Poll,
    waker: Arc<mio::Waker>,
    fetched: Events,
    listeners: Vec<Option<ListenerEntry>>,
    datagrams: Datagrams<mio::net::UdpSocket>,
    /// The buffer that was lent last is a datagram's.
    lends_datagram: bool,
    pipes: Pipes,
}

impl Ready {
    /// A driver whose receive buffer holds `receive_buffer` bytes.
    pub(crate) fn new(receive_buffer: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), Place::Waker.pack(0))?;
        Ok(Ready {
            poll,
            waker: Arc::new(waker),
            fetched: Events::with_capacity(EVENTS_PER_WAIT),
            woken: false,
            queue: VecDeque::new(),
            round: 0,
            spare: 0,
            streams: Pages::new(),
            listeners: Vec::new(),
            datagrams: Datagrams::default(),
            lends_datagram: false,
            pipes: Pipes::default(),
            receive: vec![0; receive_buffer].into_boxed_slice(),
        })
    }

    fn stream(&self, token: Token) -> Option<&StreamEntry> {
        self.streams
            .get(token.index)
            .filter(|e| e.socket.is_some() && e.generation == token.generation)
    }

    #[inline]
    fn stream_mut(&mut self, token: Token) -> Option<&mut StreamEntry> {
        self.streams
            .get_mut(token.index)
            .filter(|e| e.socket.is_some() && e.generation == token.generation)
    }
}

impl Sockets for Ready {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn socket(&self, token: Token) -> Option<SockRef<'_>> {
        Some(self.stream(token)?.socket.as_ref()?.as_socket())
    }

    fn local_address(&self, token: Token) -> io::Result<Address> {
        match self.stream(token).and_then(|entry| entry.socket.as_ref()) {
            Some(socket) => socket.local_address(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn unsent(&self, token: Token) -> usize {
        self.stream(token).map_or(0, |_| self.pipes.owed(token.index))
    }
}

impl Driver for Ready {
    type Stream = Stream;
    type Listener = Listener;
    type DatagramSocket = UdpSocket;

    fn unopened_socket(stream: &Stream) -> Option<SockRef<'_>> {
        Some(stream.as_socket())
    }

    fn waker(&self) -> Waker {
        let waker = Arc::clone(&self.waker);
        Arc::new(move || {
            if let Err(error) = waker.wake() {
                log::error!("an event loop could not be woken: {error}");
            }
        })
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // A turn may have ended within a row of datagrams.
        let idle = self.queue.is_empty() && !self.datagrams.has_row();
        let timeout = if idle { timeout } else { Some(Duration::ZERO) };
        match self.poll.poll(&mut self.fetched, timeout) {
            Ok(()) => self.note(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.round = self.queue.len();
        self.spare = LEAST_PLACES_PER_TURN.saturating_sub(self.round);
        Ok(())
    }

    #[inline(always)] // Once a message.
    fn next_event(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.woken) {
            return Some(Event::Woken);
        }
        if self.datagrams.has_row()
            && let Some(event) = self.datagram_event(None)
        {
            self.spare = self.spare.saturating_sub(1);
            return Some(event);
        }
        while self.round + self.spare > 0
            && let Some(place) = self.queue.pop_front()
        {
            match self.round {
                0 => self.spare -= 1,
                _ => self.round -= 1,
            }
            let Place::Stream(index) = place else {
                match self.other_event(place) {
                    None => continue,
                    event => return event,
                }
            };
            let event = self.stream_event(index);
            if event.is_some() {
                return event;
            }
        }
        None
    }

    #[inline]
    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        if self.lends_datagram {
            return self.datagrams.bytes(buffer);
        }
        &self.receive[..buffer.length]
    }

    #[inline]
    fn recycle(&mut self, _buffer: Buffer) {
        self.lends_datagram = false;
    }

    fn listen(&mut self, number: u32, listener: Listener) -> io::Result<()> {
        self.add_listener(number, listener)
    }

    fn rest_listener(&mut self, number: u32) {
        if let Some(Some(entry)) = self.listeners.get_mut(number as usize) {
            entry.begin_rest();
        }
    }

    fn resume_accepting(&mut self, number: u32) {
        if let Some(Some(entry)) = self.listeners.get_mut(number as usize) {
            entry.end_rest(Place::Listener(number), &mut self.queue);
        }
    }

    fn close_listener(&mut self, number: u32, _lives_on: bool) {
        self.remove_listener(number);
    }

    fn open(&mut self, token: Token, stream: Stream) -> io::Result<()> {
        self.adopt(token, stream, false)
    }

    fn start_connect(
        &mut self,
        address: &Address,
        route: &Route,
        options: &SocketOptions,
    ) -> io::Result<Stream> {
        start_connect(address, route, options)
    }

    fn connect_datagram(
        &mut self,
        address: SocketAddr,
        route: &Route,
        options: &SocketOptions,
    ) -> io::Result<Stream> {
        connect_udp(address, route, options)
    }

    fn connect(&mut self, token: Token, stream: Stream) -> io::Result<()> {
        self.adopt(token, stream, true)
    }

    fn rename(&mut self, from: Token, to: Token) -> io::Result<()> {
        self.rename_stream(from, to)
    }

    fn may_have_more(&self, token: Token) -> bool {
        let entry = self.stream(token);
        entry.is_some_and(StreamEntry::has_more)
            || self.socket(token).is_some_and(|s| has_input(&s))
    }

    fn set_receiving(&mut self, token: Token, on: bool) {
        let Self { streams, queue, .. } = self;
        let entry = streams.get_mut(token.index);
        let Some(entry) = entry.filter(|e| e.generation == token.generation) else { return };
        entry.receiving = on;
        let is_piece = entry.socket.as_ref().is_some_and(|socket| socket.udp().is_some());
        requeue(entry, token.index, queue);
        if is_piece {
            self.set_pieces_receiving(token, on);
        }
    }

    #[inline(always)] // Once a message.
    fn send(&mut self, token: Token, output: &Outbound, limit: usize) -> io::Result<Sent> {
        let Some(entry) = self.stream_mut(token) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let sent = entry.send(output, limit)?;
        self.spare = self.spare.saturating_sub(sent.bytes / BYTES_PER_PLACE);
        Ok(sent)
    }

    fn is_in_a_row(&self) -> bool {
        self.datagrams.has_row()
    }

    fn send_pieces(
        &mut self,
        token: Token,
        output: &Outbound,
        lengths: &[usize],
    ) -> io::Result<usize> {
        self.send_to_peer(token, output, lengths)
    }

    fn send_received(
        &mut self,
        token: Token,
        buffer: &Buffer,
        stretch: Range<usize>,
    ) -> io::Result<Sent> {
        let Self { streams, receive, spare, datagrams, lends_datagram, .. } = self;
        let entry = streams.get_mut(token.index);
        let Some(entry) = entry.filter(|e| e.socket.is_some() && e.generation == token.generation)
        else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let bytes = match *lends_datagram {
            true => datagrams.bytes(buffer),
            false => &receive[..buffer.length],
        };
        let sent = entry.send_slice(&bytes[stretch])?;
        *spare = spare.saturating_sub(sent.bytes / BYTES_PER_PLACE);
        Ok(sent)
    }

    fn set_moving(&mut self, token: Token, on: bool) {
        self.set_stream_moving(token, on);
    }

    fn move_bytes(&mut self, from: Token, to: Token, limit: usize) -> Moved {
        let moved = self.move_between(from, to, limit);
        let Self { streams, queue, .. } = self;
        for token in [from, to] {
            if let Some(entry) = streams.get_mut(token.index) {
                requeue(entry, token.index, queue);
            }
        }
        moved
    }

    fn commit(&mut self, token: Token) -> io::Result<bool> {
        Ok(self.stream(token).is_none_or(|entry| !entry.owes))
    }

    fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        match self.stream(token).and_then(|entry| entry.socket.as_ref()) {
            Some(socket) => socket.shutdown_write(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn close(&mut self, token: Token, mode: CloseMode) {
        self.close_stream(token, mode);
    }

    fn open_datagram(&mut self, number: u32, socket: UdpSocket) -> io::Result<()> {
        self.add_datagram(number, socket)
    }

    fn leave_datagrams(&mut self, number: u32) {
        self.leave_datagram(number);
    }

    fn send_datagrams(
        &mut self,
        number: u32,
        bytes: &[u8],
        datagrams: &mut [Outgoing],
    ) -> io::Result<usize> {
        self.send_to_peers(number, bytes, datagrams)
    }
}
