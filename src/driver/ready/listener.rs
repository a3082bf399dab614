//! Listening sockets of the readiness driver. One connection is accepted per event; the listener
//! then goes to the queue's end, so that a storm of connections leaves room for those that are
//! open.

use std::collections::VecDeque;
use std::io;

use crate::driver::Event;
use crate::driver::ready::socket::ReadyListener;
use crate::driver::ready::{Place, Ready};
use crate::sys::socket::{Listener, is_about_one_connection};

pub(super) struct ListenerEntry {
    socket: ReadyListener,
    queued: bool,
    /// Accepting failed: edges, which every further client brings, do not end the rest.
    resting: bool,
}

impl ListenerEntry {
    /// There may be a connection.
    pub(super) fn note(&mut self, place: Place, queue: &mut VecDeque<Place>) {
        if !self.queued && !self.resting {
            self.queued = true;
            queue.push_back(place);
        }
    }

    /// What comes from now on waits in the backlog.
    pub(super) fn begin_rest(&mut self) {
        self.resting = true;
    }

    /// The rest is over: there may be connections that came meanwhile.
    pub(super) fn end_rest(&mut self, place: Place, queue: &mut VecDeque<Place>) {
        self.resting = false;
        self.note(place, queue);
    }
}

impl Ready {
    pub(super) fn add_listener(&mut self, number: u32, listener: Listener) -> io::Result<()> {
        let mut socket = ReadyListener::from(listener);
        socket.register(self.poll.registry(), Place::Listener(number).pack(0))?;
        let index = number as usize;
        if self.listeners.len() <= index {
            self.listeners.resize_with(index + 1, || None);
        }
        self.listeners[index] = Some(ListenerEntry { socket, queued: false, resting: false });
        Ok(())
    }

    pub(super) fn remove_listener(&mut self, number: u32) {
        let entry = self.listeners.get_mut(number as usize).and_then(Option::take);
        let Some(mut entry) = entry else { return };
        // Closing the descriptor is not enough: where a duplicate lives on, as in a process that has
        // taken over, epoll would go on to tell of each connection.
        if let Err(error) = entry.socket.deregister(self.poll.registry()) {
            log::warn!("a closed listener may still wake its loop: {error}");
        }
    }

    pub(super) fn listener_event(&mut self, number: u32) -> Option<Event> {
        let entry = self.listeners.get_mut(number as usize)?.as_mut()?;
        entry.queued = false;
        if entry.resting {
            return None;
        }
        match entry.socket.accept() {
            Ok((stream, peer)) => {
                entry.note(Place::Listener(number), &mut self.queue);
                Some(Event::Accepted { listener: number, stream, peer })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            // The next one may be fine, and waits until the others have had their turn: on systems
            // that tell so of each connection that was reset, peers could hold the loop.
            Err(error) if is_about_one_connection(&error) => {
                entry.note(Place::Listener(number), &mut self.queue);
                None
            }
            Err(error) => {
                entry.resting = true;
                Some(Event::AcceptFailed { listener: number, error })
            }
        }
    }
}
