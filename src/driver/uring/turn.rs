//! The call of a turn: what leaves with it, and how long it may sleep. What had to wait because the
//! kernel had no memory for it is tried again here, turn by turn, as nothing will tell that there is
//! some.

use std::io;
use std::time::Duration;

use crate::driver::uring::Uring;
use crate::driver::uring::ring::{SHORT_OF_MEMORY, Wait};

/// What is to be begun again, or not over yet.
#[derive(Default)]
pub(super) struct Again {
    bell: bool,
    listeners: Vec<u32>,
    datagrams: Vec<u32>,
}

impl Again {
    fn is_empty(&self) -> bool {
        !self.bell && self.listeners.is_empty() && self.datagrams.is_empty()
    }

    /// A listener whose accepts or whose poll could not be begun, or that is ending.
    pub(super) fn add_listener(&mut self, number: u32) {
        if !self.listeners.contains(&number) {
            self.listeners.push(number);
        }
    }

    pub(super) fn listeners(&self) -> &[u32] {
        &self.listeners
    }

    /// A datagram socket whose poll could not be begun.
    pub(super) fn add_datagrams(&mut self, number: u32) {
        if !self.datagrams.contains(&number) {
            self.datagrams.push(number);
        }
    }
}

impl Uring {
    pub(super) fn take_turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // An entry may leave as soon as it is put in.
        self.buffers.publish();
        self.end_stalls();
        self.settle_streams();
        self.cancel_again();
        self.begin_again();
        self.set_hand();
        // A turn may have ended within a row of datagrams.
        let is_idle = self.queue.is_empty() && self.stalls.is_empty() && !self.datagrams.has_row();
        let has_waiting = !self.unsettled.is_empty()
            || !self.closing.has_cancelled_all()
            || !self.again.is_empty();
        let soon = timeout.map_or(SHORT_OF_MEMORY, |timeout| timeout.min(SHORT_OF_MEMORY));
        let timeout = if has_waiting { Some(soon) } else { timeout };
        let may_sleep = timeout.is_none_or(|timeout| !timeout.is_zero());
        let entries = self.ring.unsubmitted();
        if is_idle && may_sleep && !self.ring.has_completions() {
            self.ring.enter(Wait::For(timeout))?;
        } else if !is_idle || !self.ring.has_completions() || entries > 0 {
            self.ring.enter(Wait::No)?;
            let is_refused = entries > 0 && self.ring.unsubmitted() == entries;
            if is_refused && may_sleep && !self.ring.has_completions() {
                // Whoever waits for his turn may only wait for these to leave: without a pause he
                // would be asked over and over.
                self.ring.enter(Wait::For(Some(soon)))?;
            }
        }
        self.sends_have_left();
        self.let_go_of_listeners();
        self.begin_round();
        Ok(())
    }

    fn begin_again(&mut self) {
        if self.again.is_empty() {
            return;
        }
        // What cannot be done stands in a new list.
        let again = std::mem::take(&mut self.again);
        if again.bell {
            self.hear_bell();
        }
        again.listeners.into_iter().for_each(|number| self.go_on_with_listener(number));
        again.datagrams.into_iter().for_each(|number| self.watch_datagrams(number));
    }

    /// Has the bell be heard, now or with a later turn.
    pub(super) fn hear_bell(&mut self) {
        if let Err(error) = self.watch_bell() {
            log::debug!("an event loop is woken later: {error}");
            self.again.bell = true;
        }
    }
}
