//! The end of a turn: what streams have in the kernel is brought in line with what they want.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};

use crate::driver::Token;
use crate::driver::uring::Uring;
use crate::driver::uring::buffers::GROUP;
use crate::driver::uring::flags::Flag;
use crate::driver::uring::ring::Ring;
use crate::driver::uring::stream::{Armed, READABLE, StreamEntry, WRITABLE};
use crate::driver::uring::tag::{Kind, Tag};
use crate::sys::socket::Stream;

impl Uring {
    pub(super) fn adopt(&mut self, token: Token, stream: Stream, connecting: bool) {
        self.streams.ensure(token.index);
        if let Some(entry) = self.streams.get_mut(token.index) {
            entry.begin(stream, token.generation, connecting);
        }
        self.changed(token.index);
    }

    /// Looks after the streams that have changed in this turn.
    pub(super) fn settle_streams(&mut self) {
        if self.unsettled.is_empty() {
            return;
        }
        let mut unsettled = std::mem::take(&mut self.unsettled);
        for index in unsettled.drain(..) {
            let Some(entry) = self.streams.get_mut(index) else { continue };
            entry.flags.set(Flag::Unsettled, false);
            if entry.wanted() == Armed::Receive {
                // Also for one behind the hand: it would not be met in this round.
                (self.hand.is_needed, self.hand.has_met) = (true, true);
            }
            let is_fin_due = entry.is_fin_due();
            if let Err(error) = entry.settle(index, &mut self.ring) {
                // The kernel takes nothing more for now: the next turn tries again.
                log::debug!("an operation has to wait: {error}");
                self.changed(index);
            }
            if is_fin_due {
                self.shut_later(index);
            }
        }
        // What could not be done stands in a new list.
        if self.unsettled.is_empty() {
            self.unsettled = unsettled;
        }
    }

    pub(super) fn rename_stream(&mut self, from: Token, to: Token) -> io::Result<()> {
        let Some(old) = self.stream_mut(from) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        debug_assert!(!old.has_operations(), "only a stream that has just connected is renamed");
        let has_operations = old.has_operations();
        let receiving = old.flags.has(Flag::Receiving);
        if has_operations {
            // Their tags say where it was.
            self.close_stream(from, crate::driver::CloseMode::Orderly);
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let Some(socket) = old.end() else { return Err(io::ErrorKind::NotConnected.into()) };
        self.adopt(to, socket, false);
        self.set_receiving_of(to, receiving);
        Ok(())
    }

    fn set_receiving_of(&mut self, token: Token, on: bool) {
        if let Some(entry) = self.stream_mut(token) {
            entry.flags.set(Flag::Receiving, on);
        }
        self.changed(token.index);
    }

    /// Has the bell be heard.
    pub(super) fn watch_bell(&mut self) -> io::Result<()> {
        poll(&mut self.ring, self.bell.fd(), libc::POLLIN as u32, Tag::new(Kind::Woken, 0, 0), true)
    }
}

impl StreamEntry {
    /// Whether its operations are as they should be.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        (self.flags.has(Flag::WatchesRoom) || !self.wants_room())
            && self.is_armed()
            && !self.is_fin_due()
    }

    /// Whether its operation for what it receives is as it should be, or has to wait.
    #[inline]
    fn is_armed(&self) -> bool {
        let wanted = self.wanted();
        self.armed == wanted
            || self.flags.has(Flag::Cancelling)
            || (self.flags.has(Flag::Stalled) && wanted == Armed::Receive)
    }

    /// Whether the kernel has an operation of it.
    pub(super) fn has_operations(&self) -> bool {
        self.armed != Armed::Nothing || self.flags.has(Flag::WatchesRoom)
    }

    /// The name of its operation for what it receives.
    pub(super) fn receive_tag(&self, index: u32) -> Tag {
        tag_of(self.armed, index, self.epoch)
    }

    /// The name of its poll for room.
    pub(super) fn room_tag(&self, index: u32) -> Tag {
        Tag::new(Kind::Writable, index, self.epoch)
    }

    /// One step towards what is wanted. What is in the way is cancelled; its end leads here again.
    fn settle(&mut self, index: u32, ring: &mut Ring) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let fd = socket.as_socket().as_raw_fd();
        if self.wants_room() && !self.flags.has(Flag::WatchesRoom) {
            poll(ring, fd, WRITABLE, self.room_tag(index), false)?;
            self.flags.set(Flag::WatchesRoom, true);
        }
        if !self.flags.has(Flag::Receiving) && !self.flags.has(Flag::Connecting) {
            // It is likely to rest again.
            self.become_direct();
        }
        if self.is_armed() {
            return Ok(());
        }
        match self.armed {
            Armed::Nothing => self.arm(self.wanted(), index, fd, ring),
            Armed::Receive | Armed::Readable => {
                cancel(ring, self.receive_tag(index))?;
                self.flags.set(Flag::Cancelling, true);
                Ok(())
            }
        }
    }

    fn arm(&mut self, wanted: Armed, index: u32, fd: RawFd, ring: &mut Ring) -> io::Result<()> {
        let tag = tag_of(wanted, index, self.epoch);
        match wanted {
            Armed::Nothing => {}
            Armed::Receive => {
                let entry = opcode::RecvMulti::new(types::Fd(fd), GROUP).build();
                // SAFETY: it points to nothing; what it receives goes into provided buffers.
                unsafe { ring.push(&entry.user_data(tag.0)) }?;
            }
            Armed::Readable => poll(ring, fd, READABLE, tag, true)?,
        }
        self.armed = wanted;
        self.flags.set(Flag::Stalled, false);
        self.flags.set(Flag::Fed, false);
        Ok(())
    }
}

fn tag_of(armed: Armed, index: u32, epoch: u32) -> Tag {
    let kind = match armed {
        Armed::Receive => Kind::Receive,
        Armed::Readable | Armed::Nothing => Kind::Readable,
    };
    Tag::new(kind, index, epoch)
}

/// Begins a poll of a descriptor, which tells once, or at each change.
pub(super) fn poll(
    ring: &mut Ring,
    fd: RawFd,
    events: u32,
    tag: Tag,
    multishot: bool,
) -> io::Result<()> {
    let entry = opcode::PollAdd::new(types::Fd(fd), events).multi(multishot).build();
    // SAFETY: it points to nothing.
    unsafe { ring.push(&entry.user_data(tag.0)) }
}

/// Cancels an operation. That it is none any more is told, and means nothing.
pub(super) fn cancel(ring: &mut Ring, tag: Tag) -> io::Result<()> {
    let entry: Entry = opcode::AsyncCancel::new(tag.0).build().flags(Flags::SKIP_SUCCESS);
    let name = Tag::new(Kind::Cancel, tag.index(), tag.epoch());
    // SAFETY: it points to nothing.
    unsafe { ring.push(&entry.user_data(name.0)) }
}
