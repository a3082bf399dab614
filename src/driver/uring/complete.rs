//! From completions to events.

use std::io;

use crate::driver::uring::Uring;
use crate::driver::uring::flags::Flag;
use crate::driver::uring::ring::Completion;
use crate::driver::uring::stream::{Armed, End};
use crate::driver::uring::tag::Kind;
use crate::driver::{Buffer, Event, Token};

impl Uring {
    #[inline]
    pub(super) fn completed(&mut self, completion: Completion) -> Option<Event> {
        match completion.tag.kind() {
            Some(Kind::Receive) => self.received(completion),
            Some(Kind::Readable) => self.became_readable(completion),
            Some(Kind::Writable) => self.became_writable(completion),
            Some(Kind::Accept) => self.accept_ended(completion),
            Some(Kind::Listener) => self.may_accept(completion),
            Some(Kind::Datagram) => self.may_receive_datagrams(completion),
            Some(Kind::DatagramWritable) => self.may_send_datagrams(completion),
            Some(Kind::Idle) => {
                self.move_hand();
                None
            }
            Some(Kind::Woken) => {
                self.woken = true;
                if !completion.has_more() {
                    self.hear_bell();
                }
                None
            }
            // Sends are looked at elsewhere, and whom a cancel has found tells of it himself.
            Some(Kind::Send | Kind::Cancel) | None => None,
        }
    }

    #[inline]
    fn received(&mut self, completion: Completion) -> Option<Event> {
        let buffer = completion.buffer();
        if buffer.is_some() {
            self.buffers.taken();
        }
        let index = completion.tag.index();
        let entry = self.streams.get_mut(index).filter(|entry| entry.is_named_by(&completion));
        let Some(entry) = entry else {
            if let Some(number) = buffer {
                self.buffers.give(number);
            }
            self.operation_ended(completion);
            return None;
        };
        if !completion.has_more() {
            entry.armed = Armed::Nothing;
            entry.flags.set(Flag::Cancelling, false);
        }
        let token = Token { index, generation: entry.generation };
        if let Some(number) = buffer {
            let length = completion.result.max(0) as usize;
            entry.flags.set(Flag::Fed, true);
            entry.count(length == self.buffers.bytes());
            let event = if entry.tells_at_once() && length > 0 {
                self.lent = Some(number);
                Some(Event::Received { token, buffer: Buffer { length } })
            } else {
                entry.hold(self.buffers.filled(number, length));
                self.buffers.give(number);
                None
            };
            if !entry.is_settled() || event.is_none() {
                self.changed(index);
            }
            return event;
        }
        self.receive_ended(token, completion)
    }

    /// A receive that brought no bytes.
    fn receive_ended(&mut self, token: Token, completion: Completion) -> Option<Event> {
        let entry = self.stream_mut(token)?;
        let event = match completion.error() {
            None => entry.met(token, End::Ended),
            // All buffers are taken: a stall, which ends when some are given back.
            Some(libc::ENOBUFS) => {
                self.found_no_buffer(token.index);
                return None;
            }
            // It was cancelled, or is to be begun anew.
            Some(libc::ECANCELED | libc::EAGAIN | libc::EINTR) => None,
            Some(code) => entry.met(token, End::Failed(io::Error::from_raw_os_error(code))),
        };
        self.changed(token.index);
        event
    }

    fn became_readable(&mut self, completion: Completion) -> Option<Event> {
        let index = completion.tag.index();
        let entry = self.streams.get_mut(index).filter(|entry| entry.is_named_by(&completion));
        let Some(entry) = entry else {
            self.operation_ended(completion);
            return None;
        };
        if !completion.has_more() {
            entry.armed = Armed::Nothing;
            entry.flags.set(Flag::Cancelling, false);
        }
        if completion.error().is_none() {
            entry.note(completion.result);
        }
        if entry.flags.has(Flag::Queued) {
            self.changed(index);
            return None;
        }
        // Now, if it is not to be in its turn: it came before what came behind it.
        self.stream_event(index)
    }

    fn became_writable(&mut self, completion: Completion) -> Option<Event> {
        let index = completion.tag.index();
        let entry = self.streams.get_mut(index).filter(|entry| entry.is_named_by(&completion));
        let Some(entry) = entry else {
            self.operation_ended(completion);
            return None;
        };
        entry.flags.set(Flag::WatchesRoom, false);
        if completion.error().is_none() {
            entry.has_room();
        }
        self.changed(index);
        None
    }

    fn may_receive_datagrams(&mut self, completion: Completion) -> Option<Event> {
        let number = completion.tag.index();
        self.datagrams.note(number, (true, false), &mut self.queue);
        if !completion.has_more() {
            self.watch_datagrams(number);
        }
        None
    }

    fn may_send_datagrams(&mut self, completion: Completion) -> Option<Event> {
        self.datagrams.note(completion.tag.index(), (false, true), &mut self.queue);
        None
    }
}
