//! Datagram sockets of the readiness driver: mio's. See `driver/datagrams.rs`.

use std::io;
use std::net::UdpSocket;

use mio::Interest;
use socket2::SockRef;

use crate::driver::datagrams::{DatagramPlace, DatagramSocket};
use crate::driver::ready::{Place, Ready};

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
}
