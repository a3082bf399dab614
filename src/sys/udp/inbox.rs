//! Receiving many datagrams at once: a batch of messages, each with memory for the longest
//! datagram, and of those that the kernel has joined one datagram after the other.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::Socket;

use super::{Abilities, Messages};
use crate::addr::canonical;
use crate::sys::udp::runs::BATCH;
use crate::sys::udp::wire::{Control, Name};
use crate::sys::udp::{Arrived, LONGEST_MESSAGE, Received};

/// Buffers a whole number of pages apart would all fall into the same few sets of the cache.
const COLOUR: usize = 5 * 64;

/// Received datagrams, and the memory they lie in, as much of it as has ever been needed: the
/// system gives memory when it is first written to.
pub(crate) struct Inbox {
    messages: Messages,
    memory: Vec<u8>,
    /// What one datagram may have.
    room: usize,
    /// Messages whose headers the kernel has written to.
    used: usize,
    /// What the headers ask to be told.
    tells: bool,
    /// Messages that were received.
    filled: usize,
    /// The next one of them to be taken.
    next: usize,
    joined: Joined,
}

/// Datagrams that the kernel has joined to one message, and that are still to be taken.
struct Joined {
    datagrams: usize,
    /// The length of each but the last, and the end of all.
    segment: usize,
    end: usize,
    next: Arrived,
}

impl Inbox {
    /// An empty one for datagrams of `longest` bytes.
    pub(crate) fn new(longest: usize) -> Inbox {
        let room = longest.min(LONGEST_MESSAGE);
        let stride = room + COLOUR;
        let mut inbox = Inbox {
            messages: Messages::new(),
            memory: vec![0; BATCH * stride],
            room,
            used: 0,
            tells: false,
            filled: 0,
            next: 0,
            joined: Joined { datagrams: 0, segment: 0, end: 0, next: Arrived::nothing() },
        };
        for at in 0..BATCH {
            let start = inbox.memory.as_mut_ptr().wrapping_add(at * stride);
            inbox.messages.slices[at] = libc::iovec { iov_base: start.cast(), iov_len: room };
            inbox.messages.point(at, at, 1, 0);
            inbox.messages.headers[at].msg_hdr.msg_namelen = Name::LENGTH as _;
        }
        inbox
    }

    /// Whether a datagram can not be longer than there is room for.
    pub(super) fn takes_the_longest(&self) -> bool {
        self.room == LONGEST_MESSAGE
    }

    /// The messages of the last batch.
    #[cfg(test)]
    pub(in crate::sys::udp) fn messages(&self) -> usize {
        self.filled
    }

    /// Whether all datagrams have been taken.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.joined.datagrams == 0 && self.next == self.filled
    }

    /// Forgets what has not been taken.
    pub(crate) fn clear(&mut self) {
        self.joined.datagrams = 0;
        self.next = self.filled;
    }

    /// Receives what has come, without waiting; answers whether there may be more. Only for an
    /// empty one.
    ///
    /// # Errors
    /// As `receive` of one datagram.
    pub(crate) fn receive(&mut self, socket: &Socket, abilities: &Abilities) -> io::Result<bool> {
        self.receive_messages(socket, abilities, BATCH)
    }

    /// The same for one message at most, which is no longer than one datagram may be.
    ///
    /// # Errors
    /// As `receive`.
    pub(crate) fn receive_one(
        &mut self,
        socket: &Socket,
        abilities: &Abilities,
    ) -> io::Result<bool> {
        self.receive_messages(socket, abilities, 1)
    }

    fn receive_messages(
        &mut self,
        socket: &Socket,
        abilities: &Abilities,
        most: usize,
    ) -> io::Result<bool> {
        debug_assert!(self.is_empty() && most <= BATCH);
        (self.next, self.filled) = (0, 0);
        self.make_ready(abilities.tells);
        let headers = self.messages.headers.as_mut_ptr();
        // SAFETY: INVARIANT M, and the slices lead to disjoint parts of `memory`, each as long as
        // it says.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers,
                most as _,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        self.filled = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.used = self.filled;
        Ok(self.filled == most || !abilities.short_is_all)
    }

    /// Undoes what the kernel has written to the headers, and asks it to tell what is wanted.
    fn make_ready(&mut self, tells: bool) {
        let used = if tells == self.tells { self.used } else { BATCH };
        self.tells = tells;
        for at in 0..used {
            self.messages.point(at, at, 1, if tells { Control::LENGTH } else { 0 });
            self.messages.headers[at].msg_hdr.msg_namelen = Name::LENGTH as _;
        }
        self.used = 0;
    }

    /// The next datagram.
    #[inline]
    pub(crate) fn next(&mut self, abilities: &Abilities) -> Option<Arrived> {
        if self.joined.datagrams > 0 {
            return Some(self.next_joined());
        }
        while self.next < self.filled {
            let at = self.next;
            self.next += 1;
            let header = &self.messages.headers[at];
            // One without an address that could be answered is passed over.
            let Some(peer) = self.messages.names[at].get() else { continue };
            let arrived = Arrived {
                start: at * (self.room + COLOUR),
                received: Received {
                    length: (header.msg_len as usize).min(self.room),
                    peer: canonical(peer),
                    local: abilities.local,
                    truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                },
            };
            // Its type is the C library's choice.
            let told: usize = header.msg_hdr.msg_controllen as _;
            if self.tells && told > 0 {
                return Some(self.with_told(arrived, at, told, abilities.local.port()));
            }
            return Some(arrived);
        }
        None
    }

    /// Completes what has arrived by what the kernel has told of it. Several that it has joined are
    /// kept, and the first of them is answered.
    fn with_told(&mut self, mut arrived: Arrived, at: usize, told: usize, port: u16) -> Arrived {
        let told = self.messages.controls[at].told(told);
        if let Some(local) = told.local {
            arrived.received.local = canonical(local.with_port(port));
        }
        let length = arrived.received.length;
        match told.segment {
            Some(segment) if (1..length).contains(&segment) => {
                self.joined = Joined {
                    datagrams: length.div_ceil(segment),
                    segment,
                    end: arrived.start + length,
                    next: arrived,
                };
                self.next_joined()
            }
            _ => arrived,
        }
    }

    fn next_joined(&mut self) -> Arrived {
        let joined = &mut self.joined;
        joined.datagrams -= 1;
        let mut arrived = joined.next;
        let length = joined.segment.min(joined.end - arrived.start);
        joined.next.start += length;
        arrived.received.length = length;
        // Only the last of them can have been cut.
        arrived.received.truncated &= joined.datagrams == 0;
        arrived
    }

    /// The bytes of a datagram, until the next `receive`.
    #[inline]
    pub(crate) fn bytes(&self, start: usize, length: usize) -> &[u8] {
        &self.memory[start..start + length]
    }
}
