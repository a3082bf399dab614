//! [`Datagram`]: one UDP packet, and the ways to answer it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::conn::command::Command;
use crate::conn::core::Core;
use crate::control::{LoopShared, ServerHandle};
use crate::error::HandleError;

/// A UDP packet that arrived, lent for the time of `on_datagram`.
///
/// ```
/// use tightloop::{Action, Datagram};
///
/// fn on_datagram(datagram: &mut Datagram<'_>) -> Action {
///     datagram.reply(datagram.payload());
///     Action::Continue
/// }
/// ```
pub struct Datagram<'a> {
    core: &'a mut Core,
    socket: u32,
    payload: &'a [u8],
    peer: SocketAddr,
    local: SocketAddr,
}

impl<'a> Datagram<'a> {
    pub(crate) fn new(
        core: &'a mut Core,
        socket: u32,
        payload: &'a [u8],
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Self {
        Datagram { core, socket, payload, peer, local }
    }

    /// The packet's bytes, all of them: a packet that did not fit the receive buffer is never
    /// handed on. May be empty.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Who sent it.
    #[doc(alias = "RemoteAddr")]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The address it was sent to, a multicast group perhaps: also on a socket that is bound to all addresses, where the
    /// system tells it (Linux, Android, macOS); elsewhere the address the socket is bound to.
    #[doc(alias = "LocalAddr")]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends `payload` back to the sender, from the address it had sent to, or, where that is a group,
    /// from one that the system chooses. Leaves when the
    /// callbacks of the datagrams that arrived together have returned. At most 65,507 bytes (IPv4); a datagram that the system refuses, or for
    /// which there is no room, is dropped and counted, as on the way.
    #[doc(alias = "SendTo")]
    pub fn reply(&mut self, payload: &[u8]) {
        self.core.send_datagram(self.socket, self.peer, Some(self.local.ip()), payload);
    }

    /// Sends `payload` to any address from this socket; otherwise as [`reply`](Datagram::reply).
    #[doc(alias = "SendTo")]
    pub fn send_to(&mut self, to: SocketAddr, payload: &[u8]) {
        let from = (to == self.peer).then_some(self.local.ip());
        self.core.send_datagram(self.socket, to, from, payload);
    }

    /// The socket, to send from it later or from another thread.
    pub fn handle(&self) -> DatagramHandle {
        DatagramHandle { socket: self.socket, owner: Arc::clone(&self.core.shared) }
    }

    /// The index of the loop that received the packet.
    pub fn loop_index(&self) -> usize {
        usize::from(self.core.index)
    }

    /// The server, to be handed to other threads.
    pub fn server(&self) -> &ServerHandle {
        &self.core.server
    }
}

impl fmt::Debug for Datagram<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram")
            .field("peer", &self.peer)
            .field("local", &self.local)
            .field("length", &self.payload.len())
            .finish()
    }
}

/// A UDP socket of a server, as other threads see it.
///
/// ```
/// use std::thread;
/// use tightloop::{Action, Datagram};
///
/// /// Answers later, from another thread.
/// fn on_datagram(datagram: &mut Datagram<'_>) -> Action {
///     let (socket, peer) = (datagram.handle(), datagram.peer_addr());
///     let length = datagram.payload().len();
///     thread::spawn(move || socket.send_to(peer, format!("{length} bytes")));
///     Action::Continue
/// }
/// ```
#[derive(Clone)]
pub struct DatagramHandle {
    socket: u32,
    owner: Arc<LoopShared>,
}

impl DatagramHandle {
    /// Sends `payload` to `to`. Any thread; never blocks.
    ///
    /// # Errors
    /// [`HandleError::Closed`] if the server has stopped, [`HandleError::Full`] if the loop's
    /// mailbox is full. What the system refuses later is counted, as for
    /// [`Datagram::reply`].
    #[doc(alias = "SendTo")]
    pub fn send_to(&self, to: SocketAddr, payload: impl Into<Bytes>) -> Result<(), HandleError> {
        let command = Command::Datagram { socket: self.socket, to, payload: payload.into() };
        self.owner.send(command).map_err(|(error, _)| error)
    }
}

impl fmt::Debug for DatagramHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramHandle").field("socket", &self.socket).finish_non_exhaustive()
    }
}
