//! Systems without calls for many datagrams at once: the same door, one datagram at a time.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use socket2::Socket;

use super::{Arrived, Outgoing, Received};

/// What the system does for one socket.
#[derive(Debug)]
pub(crate) struct Abilities {
    bound: SocketAddr,
}

impl Abilities {
    pub(crate) fn find_out(socket: &Socket, bound: SocketAddr, _: &Inbox) -> io::Result<Abilities> {
        if bound.ip().is_unspecified() {
            super::enable_local_address(socket, bound.is_ipv6())?;
        }
        Ok(Abilities { bound })
    }

    /// The same for a connected socket.
    pub(crate) fn of_connected(socket: &Socket, _: &Inbox) -> io::Result<Abilities> {
        let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Abilities { bound })
    }
}

/// These systems join no datagrams.
pub(crate) fn join(_: &Socket) {}

/// The memory for one datagram, and the datagram in it.
pub(crate) struct Inbox {
    memory: Vec<u8>,
    received: Option<Received>,
}

impl Inbox {
    /// An empty one for datagrams of `longest` bytes.
    pub(crate) fn new(longest: usize) -> Inbox {
        Inbox { memory: vec![0; longest], received: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.received.is_none()
    }

    /// Forgets what has not been taken.
    pub(crate) fn clear(&mut self) {
        self.received = None;
    }

    /// Receives one datagram without waiting; there may always be more.
    ///
    /// # Errors
    /// As `receive`.
    pub(crate) fn receive(&mut self, socket: &Socket, abilities: &Abilities) -> io::Result<bool> {
        self.received = Some(super::receive(socket, &mut self.memory, abilities.bound, true)?);
        Ok(true)
    }

    /// The same.
    ///
    /// # Errors
    /// As `receive`.
    pub(crate) fn receive_one(
        &mut self,
        socket: &Socket,
        abilities: &Abilities,
    ) -> io::Result<bool> {
        self.receive(socket, abilities)
    }

    pub(crate) fn next(&mut self, _: &Abilities) -> Option<Arrived> {
        self.received.take().map(|received| Arrived { start: 0, received })
    }

    pub(crate) fn bytes(&self, start: usize, length: usize) -> &[u8] {
        &self.memory[start..start + length]
    }
}

/// Sends datagrams.
pub(crate) struct Sender;

impl Sender {
    pub(crate) fn new() -> Sender {
        Sender
    }

    /// Sends the first one without waiting.
    ///
    /// # Errors
    /// As `send`.
    pub(crate) fn send(
        &mut self,
        socket: &Socket,
        abilities: &mut Abilities,
        bytes: &[u8],
        datagrams: &mut [Outgoing],
    ) -> io::Result<usize> {
        let Some(first) = datagrams.first() else { return Ok(0) };
        let payload = &bytes[first.payload.clone()];
        super::send(socket, payload, first.to, first.from, abilities.bound).map(|_| 1)
    }

    /// The same for a connected socket: the first of the datagrams that lie in `slices` and have
    /// these lengths.
    ///
    /// # Errors
    /// As `send`.
    pub(crate) fn send_connected(
        &mut self,
        socket: &Socket,
        _: &mut Abilities,
        slices: &[IoSlice<'_>],
        lengths: &[usize],
    ) -> io::Result<usize> {
        let Some(&(mut missing)) = lengths.first() else { return Ok(0) };
        let mut parts = Vec::new();
        for slice in slices {
            let part = &slice[..slice.len().min(missing)];
            missing -= part.len();
            if !part.is_empty() {
                parts.push(IoSlice::new(part));
            }
        }
        if missing > 0 {
            // More chunks than there are slices.
            return Ok(0);
        }
        socket.send_vectored(&parts).map(|_| 1)
    }
}
