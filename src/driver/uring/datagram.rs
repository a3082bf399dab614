//! Datagram sockets. A poll tells of datagrams, which are received and sent many a call; see
//! `driver/datagrams.rs`. One call that brings 64 of them is cheaper than as many completions.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use socket2::SockRef;

use crate::buf::outbound::Outbound;
use crate::driver::datagrams::{DatagramPlace, DatagramSocket};
use crate::driver::uring::Uring;
use crate::driver::uring::flags::Flag;
use crate::driver::uring::queue::Place;
use crate::driver::uring::settle::{cancel, poll};
use crate::driver::uring::stream::WRITABLE;
use crate::driver::uring::tag::{Kind, Tag};
use crate::driver::{Event, Outgoing, Token};
use crate::sys::socket::Stream;

impl DatagramSocket for UdpSocket {
    fn attempt<R>(&self, call: impl FnOnce(&SockRef<'_>) -> io::Result<R>) -> io::Result<R> {
        call(&SockRef::from(self))
    }
}

impl From<DatagramPlace> for Place {
    fn from(DatagramPlace(number): DatagramPlace) -> Place {
        Place::Datagram(number)
    }
}

impl Uring {
    pub(super) fn add_datagram(&mut self, number: u32, socket: UdpSocket) -> io::Result<()> {
        self.datagrams.add(number, socket, self.receive.len())?;
        self.watch_datagrams(number);
        Ok(())
    }

    /// Begins the poll, at first or where it has ended; with a later turn where it has to wait.
    pub(super) fn watch_datagrams(&mut self, number: u32) {
        let Some(socket) = self.datagrams.socket(number) else { return };
        if self.datagrams.is_left(number) {
            return;
        }
        let tag = Tag::new(Kind::Datagram, number, 0);
        let begun = poll(&mut self.ring, socket.as_raw_fd(), libc::POLLIN as u32, tag, true);
        if let Err(error) = begun {
            log::debug!("a socket receives datagrams later: {error}");
            self.again.add_datagrams(number);
        }
    }

    /// Whoever has the socket too gets what arrives; we are not to be woken for it.
    pub(super) fn leave_datagram(&mut self, number: u32) {
        self.datagrams.leave(number);
        // A poll that stays wakes us for nothing, and nothing else: what it tells is not heard.
        if let Err(error) = cancel(&mut self.ring, Tag::new(Kind::Datagram, number, 0)) {
            log::debug!("a socket that was handed over may still wake its loop: {error}");
        }
    }

    /// What the datagram socket at the queue's head has, or the next datagram of the row.
    #[inline]
    pub(super) fn datagram_event(&mut self, number: Option<u32>) -> Option<Event> {
        let event = match number {
            Some(number) => self.datagrams.event(number, &mut self.queue),
            None => self.datagrams.next_in_row(&mut self.queue),
        };
        self.lends_datagram =
            matches!(event, Some(Event::Datagram { .. } | Event::Received { .. }));
        event
    }

    pub(super) fn send_to_peers(
        &mut self,
        number: u32,
        bytes: &[u8],
        datagrams: &mut [Outgoing],
    ) -> io::Result<usize> {
        let sent = self.datagrams.send(number, bytes, datagrams);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.watch_datagram_room(number);
        }
        sent
    }

    /// Begins to tell the datagrams of a connected socket. Any error is its end: what the system says
    /// of earlier ones that we have sent, as that the peer's port is closed, is about the only peer.
    pub(super) fn pieces_event(&mut self, index: u32) -> Option<Event> {
        let Self { streams, datagrams, receive, .. } = self;
        let entry = streams.get_mut(index)?;
        let token = Token { index, generation: entry.generation };
        let Some(Stream::Udp(socket)) = &entry.socket else { return None };
        let event = match datagrams.receive_pieces(token, socket, receive.len()) {
            Ok(event) => event,
            Err(error) => entry.received_no_piece(token, error),
        };
        self.lends_datagram = matches!(event, Some(Event::Received { .. }));
        self.changed(index);
        event
    }

    /// Receiving from a connected socket was turned on or off.
    pub(super) fn set_pieces_receiving(&mut self, token: Token, on: bool) {
        if !on {
            self.datagrams.hold_pieces(token);
        } else if let Some(entry) = self.stream_mut(token) {
            entry.may_have_pieces();
        }
    }

    pub(super) fn send_to_peer(
        &mut self,
        token: Token,
        output: &Outbound,
        lengths: &[usize],
    ) -> io::Result<usize> {
        let Self { streams, datagrams, receive, .. } = self;
        let entry = streams.get(token.index).filter(|e| e.generation == token.generation);
        let Some(Stream::Udp(socket)) = entry.and_then(|entry| entry.socket.as_ref()) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let sent = datagrams.send_pieces(token, socket, receive.len(), output, lengths);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            && let Some(entry) = self.stream_mut(token)
        {
            entry.flags.set(Flag::Blocked, true);
            entry.flags.set(Flag::Writable, false);
            self.changed(token.index);
        }
        sent
    }

    /// Has `DatagramWritable` follow: when there is room, or, where the kernel takes no poll now, in
    /// a later turn, in which the send is tried again. Its failure must not be taken for the send's.
    pub(super) fn watch_datagram_room(&mut self, number: u32) {
        let Some(socket) = self.datagrams.socket(number) else { return };
        let tag = Tag::new(Kind::DatagramWritable, number, 0);
        if let Err(error) = poll(&mut self.ring, socket.as_raw_fd(), WRITABLE, tag, false) {
            log::debug!("a datagram socket is tried again without having room: {error}");
            self.datagrams.note(number, (false, true), &mut self.queue);
        }
    }
}
