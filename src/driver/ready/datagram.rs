//! Datagram sockets of the readiness driver, connected or not: mio's. See `driver/datagrams.rs`.

use std::io;
use std::net::UdpSocket;

use mio::Interest;
use socket2::SockRef;

use crate::buf::outbound::Outbound;
use crate::driver::datagrams::{DatagramPlace, DatagramSocket};
use crate::driver::ready::stream::requeue;
use crate::driver::ready::{Place, Ready};
use crate::driver::{Event, Outgoing, Token};

impl DatagramSocket for mio::net::UdpSocket {
    fn attempt<R>(&self, call: impl FnOnce(&SockRef<'_>) -> io::Result<R>) -> io::Result<R> {
        self.try_io(|| call(&SockRef::from(self)))
    }
}

impl From<DatagramPlace> for Place {
    fn from(DatagramPlace(number): DatagramPlace) -> Place {
        Place::Datagram(number)
    }
}

impl Ready {
    pub(super) fn add_datagram(&mut self, number: u32, socket: UdpSocket) -> io::Result<()> {
        let mut socket = mio::net::UdpSocket::from_std(socket);
        let name = Place::Datagram(number).pack(0);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, name, interest)?;
        self.datagrams.add(number, socket, self.receive.len())
    }

    /// Whoever has the socket too gets what arrives; we are not to be woken for it, nor for the room
    /// that comes with each datagram that he sends.
    pub(super) fn leave_datagram(&mut self, number: u32) {
        self.datagrams.leave(number);
        self.watch_room_only(number);
    }

    /// Of a socket that was left, room is to be told where it is waited for, and nothing else.
    fn watch_room_only(&mut self, number: u32) {
        let is_blocked = self.datagrams.is_blocked(number);
        let Some(socket) = self.datagrams.socket_mut(number) else { return };
        let registry = self.poll.registry();
        let name = Place::Datagram(number).pack(0);
        let done = match is_blocked {
            true => registry.reregister(socket, name, Interest::WRITABLE),
            false => registry.deregister(socket),
        };
        if let Err(error) = done {
            log::warn!("a socket that was handed over may still wake its loop: {error}");
        }
    }

    pub(super) fn send_to_peers(
        &mut self,
        number: u32,
        bytes: &[u8],
        datagrams: &mut [Outgoing],
    ) -> io::Result<usize> {
        let sent = self.datagrams.send(number, bytes, datagrams);
        let is_blocked = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        if sent.as_ref().is_err_and(is_blocked) && self.datagrams.is_left(number) {
            let socket = self.datagrams.socket_mut(number).ok_or(io::ErrorKind::NotConnected)?;
            let name = Place::Datagram(number).pack(0);
            // Until it is told: until then nobody sends again.
            self.poll.registry().register(socket, name, Interest::WRITABLE)?;
        }
        sent
    }

    /// Begins to tell the datagrams of a connected socket. Any error is its end: what the system says
    /// of earlier ones that we have sent, as that the peer's port is closed, is about the only peer.
    pub(super) fn pieces_event(&mut self, token: Token) -> Option<Event> {
        let Self { streams, datagrams, receive, queue, .. } = self;
        let entry = streams.get_mut(token.index)?;
        let socket = entry.socket.as_ref()?.udp()?;
        let event = match datagrams.receive_pieces(token, socket, receive.len()) {
            Ok(event) => event,
            Err(error) => entry.received_none(token, Err(error)),
        };
        requeue(entry, token.index, queue);
        self.lends_datagram = matches!(event, Some(Event::Received { .. }));
        event
    }

    /// Receiving from a connected socket was turned on or off.
    pub(super) fn set_pieces_receiving(&mut self, token: Token, on: bool) {
        if !on {
            return self.datagrams.hold_pieces(token);
        }
        // Something may be held.
        let Self { streams, queue, .. } = self;
        if let Some(entry) = streams.get_mut(token.index) {
            entry.readable = true;
            requeue(entry, token.index, queue);
        }
    }

    pub(super) fn send_to_peer(
        &mut self,
        token: Token,
        output: &Outbound,
        lengths: &[usize],
    ) -> io::Result<usize> {
        let Self { streams, datagrams, receive, .. } = self;
        let entry = streams.get_mut(token.index).filter(|e| e.generation == token.generation);
        let Some(entry) = entry else { return Err(io::ErrorKind::NotConnected.into()) };
        let Some(socket) = entry.socket.as_ref().and_then(|socket| socket.udp()) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let sent = datagrams.send_pieces(token, socket, receive.len(), output, lengths);
        if let Err(error) = sent {
            // Notes that it is blocked, if that is what it says.
            entry.send_failed(error)?;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        sent
    }

    /// What the datagram socket at the queue's head has, or the next datagram of the row.
    #[inline]
    pub(super) fn datagram_event(&mut self, index: Option<u32>) -> Option<Event> {
        let event = match index {
            Some(index) => self.datagrams.event(index, &mut self.queue),
            None => self.datagrams.next_in_row(&mut self.queue),
        };
        self.lends_datagram =
            matches!(event, Some(Event::Datagram { .. } | Event::Received { .. }));
        if let Some(Event::DatagramWritable { socket }) = event
            && self.datagrams.is_left(socket)
        {
            self.watch_room_only(socket);
        }
        event
    }
}
