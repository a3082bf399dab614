//! Datagram sockets of the readiness driver. One datagram is received per event; a socket that
//! gave one goes to the queue's end, for a short datagram says nothing about the next one.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};

use mio::Interest;
use mio::event::Event as Readiness;
use socket2::SockRef;

use crate::driver::ready::{Place, Ready};
use crate::driver::{Buffer, Event};
use crate::sys::udp::{self, Outgoing};

/// Errors of earlier datagrams that are passed over before the others get their turn.
const ERRORS_PER_EVENT: usize = 64;

pub(super) struct DatagramEntry {
    socket: mio::net::UdpSocket,
    /// What it is bound to, as the system says it.
    bound: SocketAddr,
    queued: bool,
    readable: bool,
    /// A send came back blocked.
    blocked: bool,
    writable: bool,
}

impl DatagramEntry {
    pub(super) fn note(&mut self, event: &Readiness, place: Place, queue: &mut VecDeque<Place>) {
        self.readable |= event.is_readable() || event.is_error();
        self.writable |= event.is_writable();
        if !self.queued {
            self.queued = true;
            queue.push_back(place);
        }
    }
}

impl Ready {
    pub(super) fn add_datagram(&mut self, number: u32, socket: UdpSocket) -> io::Result<()> {
        let bound = socket.local_addr()?;
        if bound.ip().is_unspecified() {
            udp::enable_local_address(&SockRef::from(&socket), bound.is_ipv6())?;
        }
        let mut socket = mio::net::UdpSocket::from_std(socket);
        self.poll.registry().register(
            &mut socket,
            Place::Datagram(number).pack(0),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let index = number as usize;
        if self.datagrams.len() <= index {
            self.datagrams.resize_with(index + 1, || None);
        }
        self.datagrams[index] = Some(DatagramEntry {
            socket,
            bound,
            queued: false,
            readable: false,
            blocked: false,
            writable: false,
        });
        Ok(())
    }

    pub(super) fn datagram_event(&mut self, number: u32) -> Option<Event> {
        let entry = self.datagrams.get_mut(number as usize)?.as_mut()?;
        let place = Place::Datagram(number);
        entry.queued = false;
        if entry.blocked && entry.writable {
            entry.blocked = false;
            if entry.readable {
                entry.queued = true;
                self.queue.push_back(place);
            }
            return Some(Event::DatagramWritable { socket: number });
        }
        for _ in 0..ERRORS_PER_EVENT {
            if !entry.readable {
                return None;
            }
            let socket = &entry.socket;
            let received = socket.try_io(|| {
                udp::receive(&SockRef::from(socket), &mut self.receive, entry.bound, true)
            });
            match received {
                Ok(received) => {
                    entry.queued = true;
                    self.queue.push_back(place);
                    if received.truncated {
                        return Some(Event::DatagramTruncated { socket: number });
                    }
                    return Some(Event::Datagram {
                        socket: number,
                        buffer: Buffer { length: received.length },
                        peer: received.peer,
                        local: received.local,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => entry.readable = false,
                // What is told here is an earlier datagram's fate (a closed port, an unreachable
                // host), told once: the socket is as good as before.
                Err(error) => log::debug!("an earlier datagram could not be delivered: {error}"),
            }
        }
        // An error that does not go away must not hold the loop: the next datagram's edge tries
        // again.
        entry.readable = false;
        None
    }

    pub(super) fn send_to_peers(
        &mut self,
        number: u32,
        bytes: &[u8],
        datagrams: &mut [Outgoing],
    ) -> io::Result<usize> {
        let entry = self.datagrams.get_mut(number as usize).and_then(Option::as_mut);
        let (Some(entry), Some(first)) = (entry, datagrams.first()) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let payload = &bytes[first.payload.clone()];
        let socket = &entry.socket;
        let sent = socket.try_io(|| {
            udp::send(&SockRef::from(socket), payload, first.to, first.from, entry.bound)
        });
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            entry.blocked = true;
            entry.writable = false;
        }
        sent.map(|_| 1)
    }
}
