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

use std::io;

use crate::driver::Event;
use crate::driver::uring::Uring;
use crate::driver::uring::accepts::Accepts;
use crate::driver::uring::ring::{Completion, Wait};
use crate::sys::socket::{Listener, address_of, is_about_one_connection};

mod entry;

pub(super) use entry::ListenerEntry;
use entry::{Way, unopened};

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
