//! The queue of those who may have something to be told without a further completion: they are
//! received, accepted or told one event at a time, and go to the end if they may have more.

use crate::driver::uring::Uring;
use crate::driver::uring::flags::Flag;
use crate::driver::uring::stream::Armed;
use crate::driver::{BYTES_PER_PLACE, Event, LEAST_PLACES_PER_TURN, Sockets, Token};
use crate::sys::hang_up::has_input;

/// Something that may have an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Stream(u32),
    Listener(u32),
    Datagram(u32),
}

impl Uring {
    /// A turn looks at each place once, and at some twice where few wait.
    pub(super) fn begin_round(&mut self) {
        self.round = self.queue.len();
        self.spare = LEAST_PLACES_PER_TURN.saturating_sub(self.round);
    }

    /// What the stream at the queue's head has for the reactor, if anything. It goes to the
    /// queue's end if it may have more.
    pub(super) fn stream_event(&mut self, index: u32) -> Option<Event> {
        let entry = self.streams.get_mut(index)?;
        entry.flags.set(Flag::Queued, false);
        if entry.receives_pieces() {
            return self.pieces_event(index);
        }
        let event = entry.next_event(index, &mut self.receive);
        self.lent = None;
        debug_assert!(event.is_some() || !entry.has_more(), "it would be asked for ever");
        self.changed(index);
        event
    }

    /// Whether a stream has something that was not told: in the queue, in the socket, or received.
    pub(super) fn has_untold(&self, token: Token) -> bool {
        let Some(entry) = self.stream(token) else { return false };
        entry.has_more()
            || self.socket(token).is_some_and(|socket| has_input(&socket))
            || (entry.armed == Armed::Receive && self.ring.has_received(token.index))
    }

    /// Something about a stream is new: it may have an event, or need another operation.
    pub(super) fn changed(&mut self, index: u32) {
        let Some(entry) = self.streams.get_mut(index) else { return };
        if !entry.flags.has(Flag::Queued) && entry.has_more() {
            entry.flags.set(Flag::Queued, true);
            self.queue.push_back(Place::Stream(index));
        }
        if !entry.flags.has(Flag::Unsettled) && !entry.is_settled() {
            entry.flags.set(Flag::Unsettled, true);
            self.unsettled.push(index);
        }
    }

    /// The next event of the queue.
    pub(super) fn queued_event(&mut self) -> Option<Event> {
        while self.round + self.spare > 0
            && let Some(place) = self.queue.pop_front()
        {
            match self.round {
                0 => self.spare -= 1,
                _ => self.round -= 1,
            }
            let event = match place {
                Place::Stream(index) => self.stream_event(index),
                Place::Listener(index) => self.listener_event(index),
                Place::Datagram(index) => self.datagram_event(Some(index)),
            };
            if let Some(Event::Received { buffer, .. }) = &event {
                self.spare = self.spare.saturating_sub(buffer.length / BYTES_PER_PLACE);
            }
            if event.is_some() {
                return event;
            }
        }
        None
    }
}
