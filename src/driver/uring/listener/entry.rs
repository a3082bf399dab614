//! One listening socket, what is under way on it, and whom that has brought.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use socket2::SockAddr;

use crate::addr::Address;
use crate::driver::uring::accepts::Accepts;
use crate::driver::uring::queue::Place;
use crate::driver::uring::ring::{Completion, Ring};
use crate::driver::uring::settle::{cancel, poll};
use crate::driver::uring::tag::{Kind, Tag, next_epoch};
use crate::sys::socket::{Listener, Stream, address_of};

/// How connections are fetched.
pub(super) enum Way {
    /// By accepts in the kernel.
    Accepts(Accepts),
    /// By calls, when a poll says so.
    Calls {
        /// The kernel has the poll.
        polls: bool,
    },
}

pub(in crate::driver::uring) struct ListenerEntry {
    /// `None` once it is closed, while accepts that were cancelled are still to be told. Open as
    /// long as an entry that has not left yet may name it.
    pub(super) socket: Option<Listener>,
    pub(super) is_unix: bool,
    /// Of its operations' tags. From 1: the name of a cancel with 0 is that of the driver's end.
    pub(super) epoch: u32,
    pub(super) way: Way,
    pub(super) queued: bool,
    /// Nobody wants connections now.
    pub(super) resting: bool,
    pub(super) ending: bool,
    /// How many may still be fetched by calls before the end: one for each accept at most.
    pub(super) sweeps: usize,
    /// Accepted, and not told yet.
    pub(super) held: VecDeque<(Stream, Address)>,
}

impl ListenerEntry {
    pub(super) fn new(socket: Listener) -> Self {
        let way = match Accepts::new() {
            Ok(accepts) => Way::Accepts(accepts),
            Err(error) => {
                log::debug!("connections are accepted by calls: {error}");
                Way::Calls { polls: false }
            }
        };
        ListenerEntry {
            is_unix: matches!(socket, Listener::Unix { .. }),
            socket: Some(socket),
            epoch: 1,
            way,
            queued: false,
            resting: false,
            ending: false,
            sweeps: 0,
            held: VecDeque::new(),
        }
    }

    pub(super) fn fd(&self) -> Option<RawFd> {
        self.socket.as_ref().map(|socket| socket.as_socket().as_raw_fd())
    }

    /// There may be something to be told, or to be done.
    pub(super) fn note(&mut self, number: u32, queue: &mut VecDeque<Place>) {
        if !self.queued && !self.resting {
            self.queued = true;
            queue.push_back(Place::Listener(number));
        }
    }

    /// One that is ending tells of whom it holds in any case.
    pub(in crate::driver::uring) fn begin_rest(&mut self) {
        self.resting |= !self.ending;
    }

    /// The rest is over: there may be connections that came meanwhile.
    pub(in crate::driver::uring) fn end_rest(&mut self, number: u32, queue: &mut VecDeque<Place>) {
        if !self.ending {
            self.resting = false;
            self.note(number, queue);
        }
    }

    /// It is closed, and not over yet.
    pub(in crate::driver::uring) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Nothing of it is in the kernel, or on its way there, or still to be told.
    pub(super) fn is_over(&self) -> bool {
        self.ending && self.socket.is_none() && self.held.is_empty() && self.operations() == 0
    }

    /// How many the kernel has.
    pub(super) fn operations(&self) -> usize {
        match &self.way {
            Way::Accepts(accepts) => accepts.armed(),
            Way::Calls { polls } => usize::from(*polls),
        }
    }

    /// Whether connections are fetched by calls now.
    pub(super) fn calls(&self) -> bool {
        match self.ending {
            true => self.sweeps > 0 && self.operations() == 0,
            false => matches!(self.way, Way::Calls { .. }),
        }
    }

    /// Has the kernel look for connections, where it does not yet.
    pub(super) fn begin(&mut self, number: u32, ring: &mut Ring) -> io::Result<()> {
        let Some(fd) = self.fd() else { return Ok(()) };
        match &mut self.way {
            // When the rest is over.
            Way::Accepts(_) if self.resting => Ok(()),
            Way::Accepts(accepts) => accepts.arm(ring, fd, number, self.epoch),
            Way::Calls { polls: true } => Ok(()),
            Way::Calls { polls } => {
                self.epoch = next_epoch(self.epoch);
                let tag = Tag::new(Kind::Listener, number, self.epoch);
                poll(ring, fd, libc::POLLIN as u32, tag, true)?;
                *polls = true;
                Ok(())
            }
        }
    }

    /// Has the kernel look for no more connections.
    pub(super) fn cancel(&self, number: u32, ring: &mut Ring) -> io::Result<()> {
        match &self.way {
            Way::Accepts(accepts) => accepts.cancel(ring, number, self.epoch),
            Way::Calls { polls: true } => {
                cancel(ring, Tag::new(Kind::Listener, number, self.epoch))
            }
            Way::Calls { polls: false } => Ok(()),
        }
    }

    /// The next connection, by a call: non-blocking and close-on-exec.
    pub(super) fn accept(&self) -> io::Result<(Stream, SockAddr)> {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let fd = self.fd().ok_or(io::ErrorKind::WouldBlock)?;
        // SAFETY: what the call writes to storage and length is what a SockAddr is made of.
        let (accepted, peer) = unsafe {
            SockAddr::try_init(|storage, length| {
                // SAFETY: the storage has the length that is said, and the descriptor is open.
                let accepted = libc::accept4(fd, storage.cast(), length, flags);
                if accepted < 0 { Err(io::Error::last_os_error()) } else { Ok(accepted) }
            })
        }?;
        // SAFETY: a new descriptor that nobody else owns.
        let accepted = unsafe { OwnedFd::from_raw_fd(accepted) };
        Ok((self.stream(accepted), peer))
    }

    pub(super) fn stream(&self, accepted: OwnedFd) -> Stream {
        if self.is_unix { Stream::Unix(accepted.into()) } else { Stream::Tcp(accepted.into()) }
    }

    /// An accept in the kernel has ended with this: keeps the connection, if there is one. An error
    /// is the listener's.
    pub(super) fn ended(&mut self, completion: &Completion) -> io::Result<()> {
        let accepted = unopened(completion);
        let Way::Accepts(accepts) = &mut self.way else { return Ok(()) };
        let peer = accepts.ended(completion.tag);
        let result = match completion.error() {
            None => {
                accepts.succeeded();
                Ok(())
            }
            Some(code) => accepts.failed(io::Error::from_raw_os_error(code)),
        };
        if accepts.are_refused() {
            log::debug!("connections are accepted by calls: the kernel takes no such accepts");
            self.way = Way::Calls { polls: false };
        }
        if let Some(accepted) = accepted {
            self.keep(accepted, peer);
        }
        result
    }

    pub(super) fn keep(&mut self, accepted: OwnedFd, peer: Option<SockAddr>) {
        let peer = peer.ok_or(io::ErrorKind::InvalidData.into()).and_then(|p| address_of(&p));
        match peer {
            // Closed as the backlog is with its listener: it was never let in.
            Ok(_) if self.ending && self.resting => {}
            Ok(peer) => self.held.push_back((self.stream(accepted), peer)),
            Err(error) => log::warn!("a connection was refused: {error}"),
        }
    }
}

/// The connection that an accept in the kernel has brought. A completion is asked once.
pub(super) fn unopened(completion: &Completion) -> Option<OwnedFd> {
    let is_accept = completion.tag.kind() == Some(Kind::Accept) && completion.result >= 0;
    // SAFETY: a new descriptor, which the kernel has told of here only.
    is_accept.then(|| unsafe { OwnedFd::from_raw_fd(completion.result) })
}
