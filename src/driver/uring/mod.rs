//! The io_uring driver, for Linux 6.1 or newer.
//!
//! ```text
//!   reactor                    driver                              kernel
//!      |   wait                   |   one io_uring_enter              |
//!      |------------------------->|   staged sends, changed           |
//!      |                          |   operations ------------------>  | sends, at once
//!      |                          |   <-- completions --------------  | receives what has come
//!      |   next_event             |                                   | into shared buffers
//!      |------------------------->|   one completion, or one place    |
//!      |   <-- bytes where -------|   of the queue: a call            |
//!      |       they lie           |                                   |
//!      |   send                   |                                   |
//!      |------------------------->|   short: copied, staged           |
//!      |                          |   long: a call ---------------->  |
//! ```
//!
//! Receiving. A busy stream has one multishot receive in the kernel, which puts what comes into
//! buffers that all streams share (`buffers.rs`): no system call a message. One that streams, rests
//! or is idle has a multishot poll instead, which costs the kernel a third of the memory, and is
//! received by calls into the loop's one large buffer; see `stream.rs`.
//!
//! Sending. What is short is copied into a stage and leaves with the `enter` that waits, all of it
//! in one call. These sends do not wait for room (MSG_DONTWAIT, MSG_WAITALL) and tell only of
//! failure: when the call has returned, each has ended, and the kernel holds none of our memory.
//! So nothing is pinned, and no buffer of a connection has to outlive it. What a full socket
//! refuses is kept, sent when there is room, and `commit` tells of it; see `send.rs`.
//!
//! Accepting. Some accepts of each listener wait in the kernel, each with a place for the peer's
//! address; see `accepts.rs`.
//!
//! Datagrams. A multishot poll tells of them, and calls of our own fetch many at a time.
//!
//! Closing. Operations that a stream has in the kernel hold its socket open. They are cancelled,
//! and the descriptor is closed behind the last one's end (`close.rs`). Tags of operations carry an
//! epoch, so that a late completion finds nobody.
//!
//! What the kernel may do to memory is stated with those who own it: `ring.rs`, `buffers.rs`,
//! `send.rs`, `accepts.rs`, `idle.rs`.

// The second place, beside sys, that speaks to the kernel itself.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::addr::Address;
use crate::buf::outbound::Outbound;
use crate::buf::pages::Pages;
use crate::driver::datagrams::Datagrams;
use crate::driver::{Buffer, CloseMode, Driver, Event, Outgoing, Sent, Sockets, Token, Waker};
use crate::options::driver::DriverFallback;
use crate::sys::route::Route;
use crate::sys::socket::{Listener, Stream, connect_udp, local_address, start_connect};
use crate::sys::sockopt::SocketOptions;

mod accepts;
mod bell;
mod buffers;
mod close;
mod complete;
mod datagram;
mod fin;
mod flags;
mod gather;
mod idle;
mod listener;
mod memory;
mod queue;
mod ring;
mod send;
mod settle;
mod stall;
mod stream;
mod tag;
mod tests;
mod turn;

use bell::Bell;
use buffers::{BUFFER_BYTES, Buffers};
use close::Closing;
use flags::Flag;
use idle::Hand;
use listener::ListenerEntry;
use queue::Place;
use ring::Ring;
use send::Stage;
use stall::Stalls;
use stream::StreamEntry;
use turn::Again;

/// Completions have their turn before the queue, but for one of its events behind so many of
/// theirs: a loop to which more comes than a turn takes would never get to it.
const COMPLETIONS_PER_PLACE: usize = 32;

/// The io_uring driver.
pub(crate) struct Uring {
    /// Dropped before all that the kernel may refer to.
    ring: Ring,
    buffers: Buffers,
    stage: Stage,
    bell: Bell,
    woken: bool,
    /// The provided buffer that the reactor reads; `None` where it is the large one.
    lent: Option<u16>,
    queue: VecDeque<Place>,
    /// Places that waited when this turn began, and were not looked at yet.
    round: usize,
    /// Further places that this turn may look at behind those.
    spare: usize,
    /// Events of completions since one of the queue.
    in_a_row: usize,
    streams: Pages<StreamEntry>,
    /// Streams whose operations may have to change.
    unsettled: Vec<u32>,
    stalls: Stalls,
    closing: Closing,
    again: Again,
    hand: Hand,
    listeners: Vec<Option<ListenerEntry>>,
    datagrams: Datagrams<UdpSocket>,
    /// The buffer that was lent last is a datagram's.
    lends_datagram: bool,
    /// The loop's one large receive buffer.
    receive: Box<[u8]>,
}

impl Uring {
    /// A driver whose large receive buffer holds `receive_buffer` bytes, and its shared ones
    /// `buffers` together. It belongs to the thread that calls. More completions than have an entry
    /// are kept by the kernel, more slowly.
    pub(crate) fn new(
        receive_buffer: usize,
        buffers: usize,
        (submissions, completions): (u32, u32),
    ) -> Result<Self, DriverFallback> {
        let ring = Ring::new(submissions, completions)?;
        let buffers = Buffers::new(&ring.submitter(), buffers, BUFFER_BYTES.min(receive_buffer))?;
        let stage = Stage::new().map_err(|error| DriverFallback::new("mmap", &error))?;
        let bell = Bell::new().map_err(|error| DriverFallback::new("eventfd", &error))?;
        let mut driver = Uring {
            ring,
            buffers,
            stage,
            bell,
            woken: false,
            lent: None,
            queue: VecDeque::new(),
            round: 0,
            spare: 0,
            in_a_row: 0,
            streams: Pages::new(),
            unsettled: Vec::new(),
            stalls: Stalls::default(),
            closing: Closing::default(),
            again: Again::default(),
            hand: Hand::default(),
            listeners: Vec::new(),
            datagrams: Datagrams::default(),
            lends_datagram: false,
            receive: vec![0; receive_buffer].into_boxed_slice(),
        };
        driver.watch_bell().map_err(|error| DriverFallback::new("io_uring_enter", &error))?;
        Ok(driver)
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

impl Sockets for Uring {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn socket(&self, token: Token) -> Option<SockRef<'_>> {
        Some(self.stream(token)?.socket.as_ref()?.as_socket())
    }

    fn local_address(&self, token: Token) -> io::Result<Address> {
        match self.stream(token).and_then(|entry| entry.socket.as_ref()) {
            Some(socket) => local_address(&socket.as_socket()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn unsent(&self, token: Token) -> usize {
        let extra = self.stream(token).and_then(|entry| entry.extra.as_ref());
        extra.map_or(0, |extra| extra.unsent.len())
    }
}

impl Driver for Uring {
    type Stream = Stream;
    type Listener = Listener;
    type DatagramSocket = UdpSocket;

    fn unopened_socket(stream: &Stream) -> Option<SockRef<'_>> {
        Some(stream.as_socket())
    }

    fn waker(&self) -> Waker {
        self.bell.waker()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.take_turn(timeout)
    }

    #[inline]
    fn next_event(&mut self) -> Option<Event> {
        if self.datagrams.has_row()
            && let Some(event) = self.datagram_event(None)
        {
            // A row takes the places of further ones: others have their turn behind it.
            self.spare = self.spare.saturating_sub(1);
            return Some(event);
        }
        if self.in_a_row == COMPLETIONS_PER_PLACE {
            self.in_a_row = 0;
            if let Some(event) = self.queued_event() {
                return Some(event);
            }
        }
        while let Some(completion) = self.ring.next() {
            let event = self.completed(completion);
            if event.is_some() {
                self.in_a_row += 1;
                return event;
            }
        }
        if std::mem::take(&mut self.woken) {
            return Some(Event::Woken);
        }
        self.queued_event()
    }

    #[inline]
    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        if self.lends_datagram {
            return self.datagrams.bytes(buffer);
        }
        match self.lent {
            Some(number) => self.buffers.filled(number, buffer.length),
            None => &self.receive[..buffer.length],
        }
    }

    #[inline]
    fn recycle(&mut self, _: Buffer) {
        self.lends_datagram = false;
        if let Some(number) = self.lent.take() {
            self.buffers.give(number);
        }
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
            entry.end_rest(number, &mut self.queue);
        }
    }

    fn close_listener(&mut self, number: u32, lives_on: bool) {
        self.remove_listener(number, lives_on);
    }

    fn is_closing(&self, number: u32) -> bool {
        matches!(self.listeners.get(number as usize), Some(Some(entry)) if entry.is_ending())
    }

    fn open(&mut self, token: Token, stream: Stream) -> io::Result<()> {
        self.adopt(token, stream, false);
        Ok(())
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
        self.adopt(token, stream, true);
        Ok(())
    }

    fn rename(&mut self, from: Token, to: Token) -> io::Result<()> {
        self.rename_stream(from, to)
    }

    fn may_have_more(&self, token: Token) -> bool {
        self.has_untold(token)
    }

    fn set_receiving(&mut self, token: Token, on: bool) {
        let Some(entry) = self.stream_mut(token) else { return };
        entry.flags.set(Flag::Receiving, on);
        if matches!(entry.socket, Some(Stream::Udp(_))) {
            self.set_pieces_receiving(token, on);
        }
        self.changed(token.index);
    }

    #[inline]
    fn send(&mut self, token: Token, output: &Outbound, limit: usize) -> io::Result<Sent> {
        self.send_stream(token, output, limit)
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

    #[inline]
    fn send_received(
        &mut self,
        token: Token,
        buffer: &Buffer,
        stretch: Range<usize>,
    ) -> io::Result<Sent> {
        self.send_lent(token, buffer.length, stretch)
    }

    fn commit(&mut self, token: Token) -> io::Result<bool> {
        self.commit_stream(token)
    }

    fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        self.shut_stream(token)
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
