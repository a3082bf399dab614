//! Idle streams. A multishot receive costs the kernel some 900 bytes while it waits, a poll 250: a
//! stream on which nothing was received for a while goes over to the poll.
//!
//! A hand goes round over all streams, one page of them a step, so that no turn has to look at all.
//! Whoever it finds unused for a whole round is demoted. It rests where no stream has a receive in
//! the kernel, so that an idle loop sleeps.

use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Timespec;

use crate::driver::uring::Uring;
use crate::driver::uring::flags::Flag;
use crate::driver::uring::stream::Armed;
use crate::driver::uring::tag::{Kind, Tag};

/// The time of one round, about: a stream is idle after one or two of them.
const ROUND: Duration = Duration::from_secs(4);

/// Streams a step.
const STEP: u32 = 256;

/// Where there are so many streams that a round's steps would come more often, it takes longer.
const SHORTEST_STEP: Duration = Duration::from_millis(1);

/// The hand.
#[derive(Default)]
pub(super) struct Hand {
    at: u32,
    /// There may be streams with a receive in the kernel.
    pub(super) is_needed: bool,
    /// This round has met one.
    pub(super) has_met: bool,
    /// The timer of the next step is in the kernel.
    is_set: bool,
    /// Read by the kernel when the timer's entry leaves; in a place of its own, as the driver
    /// moves.
    time: Box<Timespec>,
}

impl Uring {
    /// Sets the timer of the next step, if one is needed.
    pub(super) fn set_hand(&mut self) {
        if self.hand.is_set || !self.hand.is_needed {
            return;
        }
        let steps = (self.streams.len() as u32).div_ceil(STEP).max(1);
        *self.hand.time = Timespec::from((ROUND / steps).max(SHORTEST_STEP));
        let entry = opcode::Timeout::new(&*self.hand.time).build();
        let tag = Tag::new(Kind::Idle, 0, 0);
        // SAFETY: the time stays where and as it is as long as the timer is set, and the driver
        // ends its operations before that is dropped.
        match unsafe { self.ring.push(&entry.user_data(tag.0)) } {
            Ok(()) => self.hand.is_set = true,
            Err(error) => log::debug!("idle streams are looked for later: {error}"),
        }
    }

    /// It is time for a step.
    pub(super) fn move_hand(&mut self) {
        self.hand.is_set = false;
        let end = self.hand.at + STEP;
        for index in self.hand.at..end {
            let Some(entry) = self.streams.get_mut(index) else { break };
            if entry.armed != Armed::Receive {
                continue;
            }
            self.hand.has_met = true;
            if !entry.flags.take(Flag::Active) && !entry.flags.has(Flag::Cancelling) {
                entry.become_direct();
                self.changed(index);
            }
        }
        self.hand.at = end;
        if end as usize >= self.streams.len() {
            self.hand.at = 0;
            self.hand.is_needed = std::mem::take(&mut self.hand.has_met);
        }
    }
}
