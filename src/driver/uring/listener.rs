//! Listening sockets. Accepts wait in the kernel (`accepts.rs`); each brings one connection with its
//! peer's address. Where the kernel takes no such accepts, a poll tells of connections, and calls
//! fetch them.
//!
//! ```text
//!   resting:  no new accepts. What those in the kernel still bring is held, as if in the backlog.
//!   ending:   those in the kernel are cancelled, again by each turn until all have ended: a cancel
//!             does not find one that is about to look for a connection. Whom they have brought is
//!             told, or, where the listener rested, closed as the backlog is, unless that lives on in a
//!             duplicate of the socket. The entry goes behind the last.
//!   sweeping: where the socket lives on, the end comes behind some calls. The kernel wakes one accept
//!             for a connection, and forgets it where that is cancelled then: of the duplicate nobody
//!             is woken, and whoever waits for an answer would do so for ever.
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use socket2::SockAddr;

use crate::addr::Address;
use crate::driver::Event;
use crate::driver::uring::Uring;
use crate::driver::uring::accepts::Accepts;
use crate::driver::uring::queue::Place;
use crate::driver::uring::ring::{Completion, Ring, Wait};
use crate::driver::uring::settle::{cancel, poll};
use crate::driver::uring::tag::{Kind, Tag, next_epoch};
use crate::sys::socket::{Listener, Stream, address_of, is_about_one_connection};

/// How connections are fetched.
enum Way {
    /// By accepts in the kernel.
    Accepts(Accepts),
    /// By calls, when a poll says so.
    Calls {
        /// The kernel has the poll.
        polls: bool,
    },
}

pub(super) struct ListenerEntry {
    /// `None` once it is closed, while accepts that were cancelled are still to be told. Open as
    /// long as an entry that has not left yet may name it.
    socket: Option<Listener>,
    is_unix: bool,
    /// Of its operations' tags. From 1: the name of a cancel with 0 is that of the driver's end.
    epoch: u32,
    way: Way,
    queued: bool,
    /// Nobody wants connections now.
    resting: bool,
    ending: bool,
    /// How many may still be fetched by calls before the end: one for each accept at most.
    sweeps: usize,
    /// Accepted, and not told yet.
    held: VecDeque<(Stream, Address)>,
}

impl ListenerEntry {
    fn new(socket: Listener) -> Self {
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

    fn fd(&self) -> Option<RawFd> {
        self.socket.as_ref().map(|socket| socket.as_socket().as_raw_fd())
    }

    /// There may be something to be told, or to be done.
    fn note(&mut self, number: u32, queue: &mut VecDeque<Place>) {
        if !self.queued && !self.resting {
            self.queued = true;
            queue.push_back(Place::Listener(number));
        }
    }

    /// One that is ending tells of whom it holds in any case.
    pub(super) fn begin_rest(&mut self) {
        self.resting |= !self.ending;
    }

    /// The rest is over: there may be connections that came meanwhile.
    pub(super) fn end_rest(&mut self, number: u32, queue: &mut VecDeque<Place>) {
        if !self.ending {
            self.resting = false;
            self.note(number, queue);
        }
    }

    /// It is closed, and not over yet.
    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Nothing of it is in the kernel, or on its way there, or still to be told.
    fn is_over(&self) -> bool {
        self.ending && self.socket.is_none() && self.held.is_empty() && self.operations() == 0
    }

    /// How many the kernel has.
    fn operations(&self) -> usize {
        match &self.way {
            Way::Accepts(accepts) => accepts.armed(),
            Way::Calls { polls } => usize::from(*polls),
        }
    }

    /// Whether connections are fetched by calls now.
    fn calls(&self) -> bool {
        match self.ending {
            true => self.sweeps > 0 && self.operations() == 0,
            false => matches!(self.way, Way::Calls { .. }),
        }
    }

    /// Has the kernel look for connections, where it does not yet.
    fn begin(&mut self, number: u32, ring: &mut Ring) -> io::Result<()> {
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
    fn cancel(&self, number: u32, ring: &mut Ring) -> io::Result<()> {
        match &self.way {
            Way::Accepts(accepts) => accepts.cancel(ring, number, self.epoch),
            Way::Calls { polls: true } => {
                cancel(ring, Tag::new(Kind::Listener, number, self.epoch))
            }
            Way::Calls { polls: false } => Ok(()),
        }
    }

    /// The next connection, by a call: non-blocking and close-on-exec.
    fn accept(&self) -> io::Result<(Stream, SockAddr)> {
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

    fn stream(&self, accepted: OwnedFd) -> Stream {
        if self.is_unix { Stream::Unix(accepted.into()) } else { Stream::Tcp(accepted.into()) }
    }

    /// An accept in the kernel has ended with this: keeps the connection, if there is one. An error
    /// is the listener's.
    fn ended(&mut self, completion: &Completion) -> io::Result<()> {
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

    fn keep(&mut self, accepted: OwnedFd, peer: Option<SockAddr>) {
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
fn unopened(completion: &Completion) -> Option<OwnedFd> {
    let is_accept = completion.tag.kind() == Some(Kind::Accept) && completion.result >= 0;
    // SAFETY: a new descriptor, which the kernel has told of here only.
    is_accept.then(|| unsafe { OwnedFd::from_raw_fd(completion.result) })
}

impl Uring {
    pub(super) fn add_listener(&mut self, number: u32, socket: Listener) -> io::Result<()> {
        let index = number as usize;
        if self.listeners.len() <= index {
            self.listeners.resize_with(index + 1, || None);
        }
        let entry = self.listeners[index].insert(ListenerEntry::new(socket));
        entry.begin(number, &mut self.ring)
    }

    fn listener_mut(&mut self, number: u32) -> Option<&mut ListenerEntry> {
        self.listeners.get_mut(number as usize)?.as_mut()
    }

    /// Has the kernel look for a listener's connections, or, where it is ending, for no more of
    /// them. A later turn goes on where that has to wait, and with a listener that has not ended.
    pub(super) fn go_on_with_listener(&mut self, number: u32) {
        let Self { listeners, ring, again, .. } = self;
        let Some(Some(entry)) = listeners.get_mut(number as usize) else { return };
        let done = match entry.ending {
            true => entry.cancel(number, ring),
            false => entry.begin(number, ring),
        };
        if entry.ending || done.is_err() {
            again.add_listener(number);
        }
        if let Err(error) = done {
            log::debug!("a listener has to wait: {error}");
        }
    }

    /// Closes a listener now: another one may want its port.
    pub(super) fn remove_listener(&mut self, number: u32, lives_on: bool) {
        let Self { listeners, queue, .. } = self;
        let entry = listeners.get_mut(number as usize).and_then(Option::as_mut);
        let Some(entry) = entry.filter(|entry| !entry.ending) else { return };
        entry.ending = true;
        if lives_on {
            entry.resting = false;
            entry.sweeps = entry.operations();
            entry.note(number, queue);
        }
        if entry.resting {
            entry.held.clear();
        }
        // An accept that leaves while there are connections can be cancelled only once it has
        // looked for one.
        let begun = self.ring.enter(Wait::No);
        self.go_on_with_listener(number);
        let ended = begun.and(self.ring.enter(Wait::No));
        self.sends_have_left();
        self.let_go_of_listeners();
        if let Err(error) = ended {
            log::warn!("a listener's port is free later: {error}");
        }
    }

    /// Closes the sockets of those that are ending, unless an entry may name them that has not left
    /// yet, and lets go of those that have ended.
    pub(super) fn let_go_of_listeners(&mut self) {
        if self.again.listeners().is_empty() || self.ring.unsubmitted() > 0 {
            return;
        }
        let Self { listeners, again, .. } = self;
        for number in again.listeners() {
            let Some(place) = listeners.get_mut(*number as usize) else { continue };
            if let Some(entry) = place.as_mut().filter(|entry| entry.ending && entry.sweeps == 0) {
                entry.socket = None;
            }
            place.take_if(|entry| entry.is_over());
        }
    }

    /// Lets go of a listener that has ended.
    fn forget_listener(&mut self, number: u32) {
        if let Some(entry) = self.listeners.get_mut(number as usize) {
            entry.take_if(|entry| entry.is_over());
        }
    }

    /// An accept in the kernel has ended.
    pub(super) fn accept_ended(&mut self, completion: Completion) -> Option<Event> {
        let number = Accepts::listener_of(completion.tag);
        let Some(entry) = self.listener_mut(number) else {
            debug_assert!(false, "a listener is kept as long as it has accepts");
            drop(unopened(&completion));
            return None;
        };
        let ended = entry.ended(&completion);
        if entry.ending {
            return self.listener_event(number);
        }
        if entry.resting {
            return None;
        }
        if let Err(error) = ended {
            entry.resting = true;
            return Some(Event::AcceptFailed { listener: number, error });
        }
        let is_queued = entry.queued;
        self.go_on_with_listener(number);
        // Now, if it is not to be in its turn: it came before what came behind it.
        if is_queued { None } else { self.told(number) }
    }

    /// A poll has told of connections.
    pub(super) fn may_accept(&mut self, completion: Completion) -> Option<Event> {
        let number = completion.tag.index();
        let entry = self.listener_mut(number)?;
        if entry.epoch != completion.tag.epoch() {
            return None;
        }
        if !completion.has_more()
            && let Way::Calls { polls } = &mut entry.way
        {
            *polls = false;
        }
        // Now, or in its turn; it is polled again then.
        if entry.queued { None } else { self.listener_event(number) }
    }

    /// What a listener holds.
    fn told(&mut self, number: u32) -> Option<Event> {
        let entry = self.listener_mut(number)?;
        let (stream, peer) = entry.held.pop_front()?;
        Some(Event::Accepted { listener: number, stream, peer })
    }

    /// What the listener at the queue's head has for the reactor, if anything.
    pub(super) fn listener_event(&mut self, number: u32) -> Option<Event> {
        let entry = self.listener_mut(number)?;
        entry.queued = false;
        if entry.resting && !entry.ending {
            return None;
        }
        if !entry.ending {
            self.go_on_with_listener(number);
        }
        let Self { listeners, queue, .. } = self;
        let entry = listeners.get_mut(number as usize)?.as_mut()?;
        if entry.held.len() > 1 || entry.ending && entry.calls() {
            entry.note(number, queue);
        }
        let event = self.told(number).or_else(|| self.accept_by_call(number));
        self.forget_listener(number);
        event
    }

    fn accept_by_call(&mut self, number: u32) -> Option<Event> {
        let entry = self.listeners.get_mut(number as usize)?.as_mut()?;
        while entry.calls() {
            entry.sweeps = entry.sweeps.saturating_sub(1);
            match entry.accept().and_then(|(stream, peer)| Ok((stream, address_of(&peer)?))) {
                Ok((stream, peer)) => {
                    entry.note(number, &mut self.queue);
                    return Some(Event::Accepted { listener: number, stream, peer });
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(_) if entry.ending => entry.sweeps = 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => {
                    entry.resting = true;
                    return Some(Event::AcceptFailed { listener: number, error });
                }
            }
        }
        None
    }

    /// Closes the connection of an accept that nobody will be told of.
    pub(super) fn refuse_unopened(completion: &Completion) {
        drop(unopened(completion));
    }
}

#[cfg(test)]
mod tests;
