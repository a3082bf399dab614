//! Simulated listeners: connections wait in a backlog, and accepting one of them may fail for want
//! of descriptors or memory.

use std::collections::VecDeque;
use std::io;

use super::Sim;
use super::network::{Network, address_of};
use super::stream::SimStream;
use crate::addr::Address;
use crate::driver::Event;

/// The numbers of errors that have no portable kind, as most systems count them.
mod libc_free {
    pub(super) const TOO_MANY_FILES: i32 = 24;
    pub(super) const NO_MEMORY: i32 = 12;
}

#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) waiting: VecDeque<usize>,
    /// An accept failed; the driver waits to be told to go on.
    pub(crate) resting: bool,
}

impl Sim {
    pub(super) fn listener_event(&mut self, number: usize) -> Option<Event<SimStream>> {
        let mut network = self.network.borrow_mut();
        let fails = network.weather.accept_error;
        let fails = network.random.chance(fails);
        let kind = network.random.pick(&[libc_free::TOO_MANY_FILES, libc_free::NO_MEMORY]);
        let backlog = network.listeners[number].as_mut()?;
        if backlog.resting || backlog.waiting.is_empty() {
            return None;
        }
        if fails {
            backlog.resting = true;
            network.note("accept fails", number, 0);
            let error = io::Error::from_raw_os_error(kind);
            return Some(Event::AcceptFailed { listener: number as u32, error });
        }
        let link = backlog.waiting.pop_front()?;
        network.note("accepted", link, number);
        network.is_accepted();
        drop(network);
        let stream = SimStream::hold(&self.network, link);
        Some(Event::Accepted {
            listener: number as u32,
            stream,
            peer: Address::Ip(address_of(link)),
        })
    }
}

impl Network {
    pub(crate) fn rest_listener(&mut self, number: usize, resting: bool) {
        self.note("listener rests", number, usize::from(resting));
        if let Some(backlog) = &mut self.listeners[number] {
            backlog.resting = resting;
        }
    }

    /// Those that nobody will accept are reset.
    pub(crate) fn close_listener(&mut self, number: usize) {
        let backlog = self.listeners[number].take();
        for link in backlog.into_iter().flat_map(|backlog| backlog.waiting) {
            self.drop_stream(link);
        }
    }
}
