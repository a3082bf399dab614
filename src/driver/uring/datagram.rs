//! Datagram sockets. A poll tells of datagrams, which are received by calls: into the loop's large
//! buffer, which holds the longest.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use socket2::SockRef;

use crate::driver::uring::Uring;
use crate::driver::uring::queue::Place;
use crate::driver::uring::settle::poll;
use crate::driver::uring::stream::WRITABLE;
use crate::driver::uring::tag::{Kind, Tag};
use crate::driver::{Buffer, Event};
use crate::sys::udp::{self, Outgoing};

/// As for the readiness driver: errors of earlier datagrams that are passed over in a row.
const ERRORS_PER_EVENT: usize = 64;

pub(super) struct DatagramEntry {
    socket: UdpSocket,
    /// What it is bound to, as the system says it.
    bound: SocketAddr,
    queued: bool,
    readable: bool,
    /// A send came back blocked.
    blocked: bool,
    writable: bool,
}

impl DatagramEntry {
    pub(super) fn note_readable(&mut self, place: Place, queue: &mut VecDeque<Place>) {
        self.readable = true;
        self.enqueue(place, queue);
    }

    pub(super) fn note_writable(&mut self, place: Place, queue: &mut VecDeque<Place>) {
        self.writable = true;
        self.enqueue(place, queue);
    }

    fn enqueue(&mut self, place: Place, queue: &mut VecDeque<Place>) {
        if !self.queued {
            self.queued = true;
            queue.push_back(place);
        }
    }
}

impl Uring {
    pub(super) fn add_datagram(&mut self, number: u32, socket: UdpSocket) -> io::Result<()> {
        let bound = socket.local_addr()?;
        if bound.ip().is_unspecified() {
            udp::enable_local_address(&SockRef::from(&socket), bound.is_ipv6())?;
        }
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
        self.watch_datagrams(number);
        Ok(())
    }

    /// Begins the poll, at first or where it has ended.
    pub(super) fn watch_datagrams(&mut self, number: u32) {
        let Some(Some(entry)) = self.datagrams.get_mut(number as usize) else { return };
        let fd = entry.socket.as_raw_fd();
        let tag = Tag::new(Kind::Datagram, number, 0);
        if let Err(error) = poll(&mut self.ring, fd, libc::POLLIN as u32, tag, true) {
            log::error!("a socket receives no datagrams any more: {error}");
        }
    }

    pub(super) fn datagram_event(&mut self, number: u32) -> Option<Event> {
        let entry = self.datagrams.get_mut(number as usize)?.as_mut()?;
        let place = Place::Datagram(number);
        entry.queued = false;
        if entry.blocked && entry.writable {
            entry.blocked = false;
            if entry.readable {
                entry.enqueue(place, &mut self.queue);
            }
            return Some(Event::DatagramWritable { socket: number });
        }
        for _ in 0..ERRORS_PER_EVENT {
            if !entry.readable {
                return None;
            }
            let socket = SockRef::from(&entry.socket);
            match udp::receive(&socket, &mut self.receive, entry.bound, true) {
                Ok(received) => {
                    entry.enqueue(place, &mut self.queue);
                    if received.truncated {
                        return Some(Event::DatagramTruncated { socket: number });
                    }
                    self.lent = None;
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
        // An error that does not go away must not hold the loop: the next datagram tries again.
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
        let socket = SockRef::from(&entry.socket);
        let sent = udp::send(&socket, payload, first.to, first.from, entry.bound);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            (entry.blocked, entry.writable) = (true, false);
            let fd = entry.socket.as_raw_fd();
            let tag = Tag::new(Kind::DatagramWritable, number, 0);
            poll(&mut self.ring, fd, WRITABLE, tag, false)?;
        }
        sent.map(|_| 1)
    }
}
