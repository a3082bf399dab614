//! Streams that found no buffer. Their receive has ended, and is begun anew when there are buffers:
//! of as many streams as there are buffers, those that have waited longest first. Were all begun
//! anew, most would only be told again that there is none.
//!
//! Who is named here is looked after by every `wait`, which does not sleep while somebody is left:
//! no completion would tell that a buffer has come back. So each turn begins some of them anew, and
//! one comes back only if others have received meanwhile.

use std::collections::VecDeque;

use crate::driver::uring::Uring;
use crate::driver::uring::flags::Flag;

/// Streams that wait for a buffer.
#[derive(Default)]
pub(super) struct Stalls {
    /// Some may be gone, or want another operation by now.
    queue: VecDeque<u32>,
    /// Those at its head that received nothing when they had their turn: they come before others
    /// that did, so that one that takes all buffers each time has them only once.
    starved: usize,
}

impl Stalls {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn add(&mut self, index: u32, fed: bool) {
        if fed {
            self.queue.push_back(index);
        } else {
            self.queue.insert(self.starved, index);
            self.starved += 1;
        }
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        self.starved = self.starved.saturating_sub(1);
        self.queue.pop_front()
    }
}

impl Uring {
    /// A stream's receive has ended for want of a buffer.
    #[cold]
    pub(super) fn found_no_buffer(&mut self, index: u32) {
        let Some(entry) = self.streams.get_mut(index) else { return };
        entry.flags.set(Flag::Stalled, true);
        self.stalls.add(index, entry.flags.has(Flag::Fed));
        // It may have been told meanwhile to receive in another way.
        self.changed(index);
    }

    /// Has as many streams try again as there are buffers.
    pub(super) fn end_stalls(&mut self) {
        if self.stalls.is_empty() {
            return;
        }
        let fetched = self.ring.fetched_buffers();
        let mut free = self.buffers.free(fetched);
        // What is fetched comes back soon: then more can try at a time.
        if fetched > 0 && free < self.buffers.quarter() {
            return;
        }
        while free > 0
            && let Some(index) = self.stalls.take()
        {
            let Some(entry) = self.streams.get_mut(index) else { continue };
            if entry.flags.take(Flag::Stalled) {
                free -= 1;
                self.changed(index);
            }
        }
    }
}
