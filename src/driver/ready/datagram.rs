//! Datagram sockets of the readiness driver. What waits in a socket is received together, as far
//! as there is room, and told one by one; a socket whose batch has been told goes to the queue's
//! end, as a stream does after a buffer.
//!
//! All sockets of a loop share the memory of one batch. A batch that holds more datagrams than are
//! told in a row, as the kernel has joined some, waits for its socket's next turn; the other
//! sockets wait for the memory until it has been told.

use std::collections::VecDeque;
use std::io;
use std::net::UdpSocket;

use mio::event::Event as Readiness;
use mio::{Interest, Registry};
use socket2::SockRef;

use crate::driver::ready::Place;
use crate::driver::{Buffer, Event, Outgoing};
use crate::sys::udp::{Abilities, Inbox, Sender};

/// Errors of earlier datagrams that are passed over before the others get their turn.
const ERRORS_PER_EVENT: usize = 64;

/// Datagrams of one socket that are told in a row: as many as one system call receives. A stream's
/// buffer of 64 KiB holds as many messages of 1 KiB.
const DATAGRAMS_PER_TURN: usize = 64;

struct DatagramEntry {
    socket: mio::net::UdpSocket,
    abilities: Abilities,
    queued: bool,
    readable: bool,
    /// A send came back blocked.
    blocked: bool,
    writable: bool,
}

/// What a loop has only if it has a datagram socket.
struct Memory {
    inbox: Inbox,
    sender: Sender,
}

/// A driver's datagram sockets.
#[derive(Default)]
pub(super) struct Datagrams {
    entries: Vec<Option<DatagramEntry>>,
    memory: Option<Box<Memory>>,
    /// The socket whose batch lies in the inbox, if that is not empty.
    owner: u32,
    /// Datagrams of it that may still be told before the others get their turn.
    in_a_row: usize,
    /// Where the datagram lies that was told last.
    lent: usize,
}

impl DatagramEntry {
    fn queue(&mut self, number: u32, queue: &mut VecDeque<Place>) {
        if !self.queued {
            self.queued = true;
            queue.push_back(Place::Datagram(number));
        }
    }
}

impl Datagrams {
    pub(super) fn note(&mut self, number: u32, event: &Readiness, queue: &mut VecDeque<Place>) {
        let Some(entry) = self.entries.get_mut(number as usize).and_then(Option::as_mut) else {
            return;
        };
        entry.readable |= event.is_readable() || event.is_error();
        entry.writable |= event.is_writable();
        entry.queue(number, queue);
    }

    /// Adds a socket; `longest` is what a datagram may have.
    pub(super) fn add(
        &mut self,
        number: u32,
        socket: UdpSocket,
        registry: &Registry,
        longest: usize,
    ) -> io::Result<()> {
        let memory = self.memory.get_or_insert_with(|| {
            Memory { inbox: Inbox::new(longest), sender: Sender::new() }.into()
        });
        let bound = socket.local_addr()?;
        let abilities = Abilities::find_out(&SockRef::from(&socket), bound, &memory.inbox)?;
        let mut socket = mio::net::UdpSocket::from_std(socket);
        registry.register(
            &mut socket,
            Place::Datagram(number).pack(0),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let index = number as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        self.entries[index] = Some(DatagramEntry {
            socket,
            abilities,
            queued: false,
            readable: false,
            blocked: false,
            writable: false,
        });
        Ok(())
    }

    /// Whether datagrams are being told in a row.
    #[inline]
    pub(super) fn has_row(&self) -> bool {
        self.in_a_row > 0
    }

    /// The bytes of the datagram that was told last.
    #[inline]
    pub(super) fn bytes(&self, buffer: &Buffer) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| memory.inbox.bytes(self.lent, buffer.length))
    }

    /// The next datagram of the row. At its end the socket goes to the queue's end if it may have
    /// more.
    #[inline]
    pub(super) fn next_in_row(&mut self, queue: &mut VecDeque<Place>) -> Option<Event> {
        let memory = self.memory.as_mut()?;
        let entry = self.entries.get_mut(self.owner as usize)?.as_mut()?;
        let arrived = memory.inbox.next(&entry.abilities);
        let is_empty = memory.inbox.is_empty();
        self.in_a_row = if is_empty { 0 } else { self.in_a_row - 1 };
        if self.in_a_row == 0 && (entry.readable || !is_empty) {
            entry.queue(self.owner, queue);
        }
        let arrived = arrived?;
        if arrived.received.truncated {
            return Some(Event::DatagramTruncated { socket: self.owner });
        }
        self.lent = arrived.start;
        Some(Event::Datagram {
            socket: self.owner,
            buffer: Buffer { length: arrived.received.length },
            peer: arrived.received.peer,
            local: arrived.received.local,
        })
    }

    /// What the socket at the queue's head has for the reactor, if anything.
    pub(super) fn event(&mut self, number: u32, queue: &mut VecDeque<Place>) -> Option<Event> {
        let memory = self.memory.as_mut()?;
        let entry = self.entries.get_mut(number as usize)?.as_mut()?;
        entry.queued = false;
        let is_mine = memory.inbox.is_empty() || self.owner == number;
        if entry.blocked && entry.writable {
            entry.blocked = false;
            if entry.readable || (is_mine && !memory.inbox.is_empty()) {
                entry.queue(number, queue);
            }
            return Some(Event::DatagramWritable { socket: number });
        }
        if !is_mine {
            // Its turn comes when the other's batch has been told.
            if entry.readable {
                entry.queue(number, queue);
            }
            return None;
        }
        if memory.inbox.is_empty() && !entry.receive(&mut memory.inbox) {
            return None;
        }
        self.owner = number;
        self.in_a_row = DATAGRAMS_PER_TURN;
        self.next_in_row(queue)
    }

    pub(super) fn send(
        &mut self,
        number: u32,
        bytes: &[u8],
        datagrams: &mut [Outgoing],
    ) -> io::Result<usize> {
        let entry = self.entries.get_mut(number as usize).and_then(Option::as_mut);
        let (Some(entry), Some(memory)) = (entry, self.memory.as_mut()) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let DatagramEntry { socket, abilities, .. } = entry;
        let sent = socket
            .try_io(|| memory.sender.send(&SockRef::from(&*socket), abilities, bytes, datagrams));
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            entry.blocked = true;
            entry.writable = false;
        }
        sent
    }
}

impl DatagramEntry {
    /// Receives a batch, if something has come.
    fn receive(&mut self, inbox: &mut Inbox) -> bool {
        for _ in 0..ERRORS_PER_EVENT {
            if !self.readable {
                return false;
            }
            let socket = &self.socket;
            let received = socket.try_io(|| inbox.receive(&SockRef::from(socket), &self.abilities));
            match received {
                Ok(may_have_more) => {
                    self.readable = may_have_more;
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                // What is told here is an earlier datagram's fate (a closed port, an unreachable
                // host), told once: the socket is as good as before.
                Err(error) => log::debug!("an earlier datagram could not be delivered: {error}"),
            }
        }
        // An error that does not go away must not hold the loop: the next datagram's edge tries
        // again.
        self.readable = false;
        false
    }
}
