//! Datagram sockets, as the drivers of real sockets have them. What waits in a socket is received together, as far
//! as there is room, and told one by one; a socket whose batch has been told goes to the queue's
//! end, as a stream does after a buffer.
//!
//! All sockets of a loop share the memory of one batch. A batch that holds more datagrams than are
//! told in a row, as the kernel has joined some, waits for its socket's next turn; the other
//! sockets wait for the memory until it has been told.

use std::collections::{HashMap, VecDeque};
use std::io;

use socket2::SockRef;

use crate::driver::{Buffer, Event, Outgoing, Token};
use crate::sys::udp::{Abilities, Inbox, Sender};

mod pieces;

use pieces::Connected;

/// Errors of earlier datagrams that are passed over before the others get their turn.
const ERRORS_PER_EVENT: usize = 64;

/// Datagrams of one socket that are told in a row: as many as one system call receives. A stream's
/// buffer of 64 KiB holds as many messages of 1 KiB.
const DATAGRAMS_PER_TURN: usize = 64;

/// A driver's own kind of datagram socket.
pub(crate) trait DatagramSocket {
    /// Makes a call that does not wait; it may fail with `WouldBlock`.
    fn attempt<R>(&self, call: impl FnOnce(&SockRef<'_>) -> io::Result<R>) -> io::Result<R>;
}

/// The place of a datagram socket in a driver's queue.
pub(crate) struct DatagramPlace(pub(crate) u32);

struct DatagramEntry<S> {
    socket: S,
    abilities: Abilities,
    queued: bool,
    readable: bool,
    /// Others receive from it now.
    left: bool,
    /// A send came back blocked.
    blocked: bool,
    writable: bool,
}

/// What a loop has only if it has a datagram socket.
struct Memory {
    inbox: Inbox,
    sender: Sender,
}

impl Memory {
    fn new(longest: usize) -> Box<Memory> {
        Memory { inbox: Inbox::new(longest), sender: Sender::new() }.into()
    }
}

/// Whose batch lies in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Socket(u32),
    /// A connected socket's.
    Stream(Token),
}

/// Connected sockets, by the index of their stream.
type ConnectedSockets = HashMap<u32, Connected>;

/// A driver's datagram sockets.
pub(crate) struct Datagrams<S> {
    entries: Vec<Option<DatagramEntry<S>>>,
    memory: Option<Box<Memory>>,
    connected: ConnectedSockets,
    /// Valid if the inbox is not empty, or datagrams are told in a row.
    owner: Owner,
    /// Datagrams of it that may still be told before the others get their turn.
    in_a_row: usize,
    /// Where the datagram lies that was told last.
    lent: usize,
    /// The same, where it does not lie in the inbox.
    told: Option<Box<[u8]>>,
}

impl<S> Default for Datagrams<S> {
    fn default() -> Self {
        Datagrams {
            entries: Vec::new(),
            memory: None,
            connected: HashMap::new(),
            owner: Owner::Nobody,
            in_a_row: 0,
            lent: 0,
            told: None,
        }
    }
}

impl<S> DatagramEntry<S> {
    fn queue<P: From<DatagramPlace>>(&mut self, number: u32, queue: &mut VecDeque<P>) {
        if !self.queued {
            self.queued = true;
            queue.push_back(DatagramPlace(number).into());
        }
    }
}

impl<S: DatagramSocket> Datagrams<S> {
    /// There may be datagrams, or room for some.
    pub(crate) fn note<P: From<DatagramPlace>>(
        &mut self,
        number: u32,
        (readable, writable): (bool, bool),
        queue: &mut VecDeque<P>,
    ) {
        let Some(entry) = self.entries.get_mut(number as usize).and_then(Option::as_mut) else {
            return;
        };
        entry.readable |= readable && !entry.left;
        entry.writable |= writable;
        entry.queue(number, queue);
    }

    /// The socket with this number.
    #[allow(dead_code, reason = "only where io_uring is built")]
    pub(crate) fn socket(&self, number: u32) -> Option<&S> {
        Some(&self.entries.get(number as usize)?.as_ref()?.socket)
    }

    /// Adds a socket; `longest` is what a datagram may have.
    pub(crate) fn add(&mut self, number: u32, socket: S, longest: usize) -> io::Result<()> {
        let memory = self.memory.get_or_insert_with(|| Memory::new(longest));
        let abilities = socket.attempt(|socket| {
            let bound = socket.local_addr()?.as_socket();
            // A socket of UDP has an address of IP.
            let bound = bound.ok_or(io::ErrorKind::InvalidInput)?;
            Abilities::find_out(socket, bound, &memory.inbox)
        })?;
        let index = number as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        self.entries[index] = Some(DatagramEntry {
            socket,
            abilities,
            queued: false,
            readable: false,
            left: false,
            blocked: false,
            writable: false,
        });
        Ok(())
    }

    /// Receives no more from this socket.
    pub(crate) fn leave(&mut self, number: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(number as usize) {
            (entry.left, entry.readable) = (true, false);
        }
    }

    /// Whether somebody else receives from it.
    pub(crate) fn is_left(&self, number: u32) -> bool {
        matches!(self.entries.get(number as usize), Some(Some(entry)) if entry.left)
    }

    /// Whether a send came back blocked, and nobody was told yet that there is room.
    pub(crate) fn is_blocked(&self, number: u32) -> bool {
        matches!(self.entries.get(number as usize), Some(Some(entry)) if entry.blocked)
    }

    /// The socket with this number, for the driver.
    pub(crate) fn socket_mut(&mut self, number: u32) -> Option<&mut S> {
        Some(&mut self.entries.get_mut(number as usize)?.as_mut()?.socket)
    }

    /// As if a send had come back blocked.
    #[cfg(test)]
    #[allow(dead_code, reason = "only where io_uring is built")]
    pub(crate) fn block(&mut self, number: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(number as usize) {
            (entry.blocked, entry.writable) = (true, false);
        }
    }

    /// Whether datagrams are being told in a row.
    #[inline]
    pub(crate) fn has_row(&self) -> bool {
        self.in_a_row > 0
    }

    /// The bytes of the datagram that was told last.
    #[inline]
    pub(crate) fn bytes(&self, buffer: &Buffer) -> &[u8] {
        match (&self.told, &self.memory) {
            (Some(told), _) => told,
            (None, Some(memory)) => memory.inbox.bytes(self.lent, buffer.length),
            (None, None) => &[],
        }
    }

    /// The next datagram of the row. At its end the socket goes to the queue's end if it may have
    /// more.
    #[inline]
    pub(crate) fn next_in_row<P: From<DatagramPlace>>(
        &mut self,
        queue: &mut VecDeque<P>,
    ) -> Option<Event> {
        let owner = match self.owner {
            Owner::Socket(number) => number,
            Owner::Stream(token) => return self.next_piece(token),
            Owner::Nobody => return None,
        };
        let memory = self.memory.as_mut()?;
        let entry = self.entries.get_mut(owner as usize)?.as_mut()?;
        let arrived = memory.inbox.next(&entry.abilities);
        let is_empty = memory.inbox.is_empty();
        self.in_a_row = if is_empty { 0 } else { self.in_a_row - 1 };
        if self.in_a_row == 0 && (entry.readable || !is_empty) {
            entry.queue(owner, queue);
        }
        let arrived = arrived?;
        if arrived.received.truncated {
            return Some(Event::DatagramTruncated { socket: owner });
        }
        self.lent = arrived.start;
        Some(Event::Datagram {
            socket: owner,
            buffer: Buffer { length: arrived.received.length },
            peer: arrived.received.peer,
            local: arrived.received.local,
        })
    }

    /// What the socket at the queue's head has for the reactor, if anything.
    pub(crate) fn event<P: From<DatagramPlace>>(
        &mut self,
        number: u32,
        queue: &mut VecDeque<P>,
    ) -> Option<Event> {
        let memory = self.memory.as_mut()?;
        let entry = self.entries.get_mut(number as usize)?.as_mut()?;
        entry.queued = false;
        let is_mine = memory.inbox.is_empty() || self.owner == Owner::Socket(number);
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
        (self.owner, self.told) = (Owner::Socket(number), None);
        self.in_a_row = DATAGRAMS_PER_TURN;
        self.next_in_row(queue)
    }

    pub(crate) fn send(
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
        let sent = socket.attempt(|s| memory.sender.send(s, abilities, bytes, datagrams));
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            entry.blocked = true;
            entry.writable = false;
        }
        sent
    }
}

impl<S: DatagramSocket> DatagramEntry<S> {
    /// Receives a batch, if something has come.
    fn receive(&mut self, inbox: &mut Inbox) -> bool {
        for _ in 0..ERRORS_PER_EVENT {
            if !self.readable {
                return false;
            }
            let received = self.socket.attempt(|s| inbox.receive(s, &self.abilities));
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

#[cfg(test)]
mod tests;
