//! By which way an outgoing connection leaves: its own address, device and groups.

use std::io;
use std::net::SocketAddr;

use socket2::{SockRef, Socket};

use super::interface::Interface;
use super::multicast::Multicast;

/// What is said of the way; by default nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    /// The address to connect from.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) device: Option<Interface>,
    /// For datagrams.
    pub(crate) multicast: Option<Box<Multicast>>,
}

impl Route {
    /// Prepares a socket that is to be connected to `to`.
    pub(super) fn take(&self, socket: &Socket, to: SocketAddr) -> io::Result<()> {
        if let Some(device) = &self.device {
            super::device::bind(socket, device, to)?;
        }
        if let Some(local) = self.local {
            if local.port() == 0 {
                super::bind_port::choose_at_connect(socket)?;
            }
            socket.bind(&local.into())?;
        }
        match &self.multicast {
            Some(multicast) => multicast.apply(&SockRef::from(socket), to.is_ipv6()),
            None => Ok(()),
        }
    }
}
