//! Systems without calls for many datagrams at once: the same door, one datagram at a time.

use std::io;
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
}

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

    /// Receives one datagram without waiting; there may always be more.
    ///
    /// # Errors
    /// As `receive`.
    pub(crate) fn receive(&mut self, socket: &Socket, abilities: &Abilities) -> io::Result<bool> {
        self.received = Some(super::receive(socket, &mut self.memory, abilities.bound, true)?);
        Ok(true)
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
}
