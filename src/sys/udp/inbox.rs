//! Receiving many datagrams at once: a batch of messages, each with memory for the longest
//! datagram, and of those that the kernel has joined one datagram after the other.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::Socket;

use super::{Abilities, Messages};
use crate::addr::canonical;
use crate::sys::udp::runs::BATCH;
use crate::sys::udp::wire::{Control, Name};
use crate::sys::udp::{Arrived, Received};

/// Longer datagrams than this do not exist, whatever the receive buffer holds.
const MOST_ROOM: usize = 64 << 10;

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
    /// The next one of them to be opened.
    next: usize,
    opened: Opened,
}

/// What is left of one message.
struct Opened {
    at: usize,
    end: usize,
    segment: usize,
    datagrams: usize,
    truncated: bool,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Inbox {
    /// An empty one for datagrams of `longest` bytes.
    pub(crate) fn new(longest: usize) -> Inbox {
        let room = longest.min(MOST_ROOM);
        let stride = room + COLOUR;
        let mut inbox = Inbox {
            messages: Messages::new(),
            memory: vec![0; BATCH * stride],
            room,
            used: 0,
            tells: false,
            filled: 0,
            next: 0,
            opened: Opened {
                at: 0,
                end: 0,
                segment: 0,
                datagrams: 0,
                truncated: false,
                peer: ([0; 4], 0).into(),
                local: ([0; 4], 0).into(),
            },
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
        self.room == MOST_ROOM
    }

    /// Whether all datagrams have been taken.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.opened.datagrams == 0 && self.next == self.filled
    }

    /// Receives what has come, without waiting; answers whether there may be more. Only for an
    /// empty one.
    ///
    /// # Errors
    /// As `receive` of one datagram.
    pub(crate) fn receive(&mut self, socket: &Socket, abilities: &Abilities) -> io::Result<bool> {
        debug_assert!(self.is_empty());
        (self.next, self.filled) = (0, 0);
        self.make_ready(abilities.tells);
        let headers = self.messages.headers.as_mut_ptr();
        // SAFETY: INVARIANT M, and the slices lead to disjoint parts of `memory`, each as long as
        // it says.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers,
                BATCH as _,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        self.filled = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.used = self.filled;
        Ok(self.filled == BATCH || !abilities.short_is_all)
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
        while self.opened.datagrams == 0 {
            if self.next == self.filled {
                return None;
            }
            self.open(abilities.bound);
        }
        let opened = &mut self.opened;
        opened.datagrams -= 1;
        let start = opened.at;
        let length = opened.segment.min(opened.end - start);
        opened.at += length;
        Some(Arrived {
            start,
            received: Received {
                length,
                peer: opened.peer,
                local: opened.local,
                // Of joined ones only the last can have been cut.
                truncated: opened.truncated && opened.datagrams == 0,
            },
        })
    }

    /// Opens the next message; one without an address that could be answered is passed over.
    #[inline]
    fn open(&mut self, bound: SocketAddr) {
        let at = self.next;
        self.next += 1;
        let header = &self.messages.headers[at];
        let Some(peer) = self.messages.names[at].get() else { return };
        let length = (header.msg_len as usize).min(self.room);
        let mut segment = length;
        let mut local = bound;
        let told = header.msg_hdr.msg_controllen as usize;
        if self.tells && told > 0 {
            let told = self.messages.controls[at].told(told);
            local = told.local.map_or(bound, |ip| ip.with_port(bound.port()));
            segment = told.segment.filter(|segment| *segment > 0).unwrap_or(length);
        }
        let start = at * (self.room + COLOUR);
        self.opened = Opened {
            at: start,
            end: start + length,
            segment,
            // An empty datagram is one too.
            datagrams: length.div_ceil(segment.max(1)).max(1),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            peer: canonical(peer),
            local: canonical(local),
        };
    }

    /// The bytes of a datagram, until the next `receive`.
    #[inline]
    pub(crate) fn bytes(&self, start: usize, length: usize) -> &[u8] {
        &self.memory[start..start + length]
    }
}
