//! The queue of sockets that may have something: how they come in, and what each has for the reactor
//! when it is its turn.

use crate::driver::ready::Ready;
use crate::driver::ready::place::Place;
use crate::driver::ready::stream::requeue;
use crate::driver::{BYTES_PER_PLACE, Buffer, Event, Token};

impl Ready {
    /// Turns what the poller reported into flags and places in the queue.
    pub(super) fn note(&mut self) {
        for event in &self.fetched {
            let (place, generation) = Place::unpack(event.token());
            match place {
                Place::Waker => self.woken = true,
                Place::Stream(index) => {
                    let Some(entry) = self.streams.get_mut(index) else { continue };
                    if generation.is_some_and(|g| g != entry.generation) {
                        continue;
                    }
                    entry.note(event);
                    if !entry.queued {
                        entry.queued = true;
                        self.queue.push_back(place);
                    }
                }
                Place::Listener(index) => {
                    if let Some(Some(entry)) = self.listeners.get_mut(index as usize) {
                        entry.note(place, &mut self.queue);
                    }
                }
                Place::Datagram(index) => {
                    let told = (event.is_readable() || event.is_error(), event.is_writable());
                    self.datagrams.note(index, told, &mut self.queue);
                }
            }
        }
    }

    /// What the stream at the queue's head has for the reactor, if anything. It goes to the
    /// queue's end if it may have more.
    #[inline(always)] // Once a message.
    pub(super) fn stream_event(&mut self, index: u32) -> Option<Event> {
        let entry = self.streams.get_mut(index)?;
        entry.queued = false;
        let token = Token { index, generation: entry.generation };
        let event = if entry.receives_bytes() {
            match entry.receive(&mut self.receive) {
                Ok(length) if length > 0 => {
                    requeue(entry, index, &mut self.queue);
                    self.spare = self.spare.saturating_sub(length / BYTES_PER_PLACE);
                    return Some(Event::Received { token, buffer: Buffer { length } });
                }
                result => entry.received_none(token, result),
            }
        } else if entry.receives_pieces() {
            return self.pieces_event(token);
        } else if entry.owes && entry.blocked && entry.writable {
            let event = self.go_on_draining(token);
            if let Some(entry) = self.streams.get_mut(index) {
                requeue(entry, index, &mut self.queue);
            }
            return event;
        } else {
            entry.other_event(token)
        };
        debug_assert!(event.is_some() || !entry.has_more(), "it would be asked for ever");
        requeue(entry, index, &mut self.queue);
        event
    }

    /// What a socket that is no stream has for the reactor, if anything.
    #[inline(never)]
    pub(super) fn other_event(&mut self, place: Place) -> Option<Event> {
        match place {
            Place::Listener(index) => self.listener_event(index),
            Place::Datagram(index) => self.datagram_event(Some(index)),
            Place::Stream(_) | Place::Waker => None,
        }
    }
}
