//! The end of a stream. Operations hold its socket open: they are cancelled first, and the
//! descriptor is closed when the last of them has ended, so that the peer learns of it then. A send
//! that the kernel has not taken yet, for want of memory, holds it open in the same way.

use std::collections::HashMap;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::{CancelBuilder, Fd};

use crate::driver::uring::Uring;
use crate::driver::uring::flags::Flag;
use crate::driver::uring::ring::{Completion, Ring, Wait};
use crate::driver::uring::settle::cancel;
use crate::driver::uring::stream::{Armed, StreamEntry};
use crate::driver::uring::tag::{Kind, Tag};
use crate::driver::{CloseMode, Token};
use crate::sys::socket::Stream;

/// How long the end of the driver waits for a further one of the operations that it has cancelled.
/// They end at once; this is for a kernel that is in trouble.
const PATIENCE: Duration = Duration::from_secs(1);

/// Streams that are gone for the reactor.
#[derive(Default)]
pub(super) struct Closing {
    /// Each with the number of its operations, by what their tags say. A send that the kernel has
    /// not taken yet is one more of them.
    sockets: HashMap<(u32, u32), (Stream, u8)>,
    sends: Vec<LateSend>,
    /// Operations whose cancel found no room.
    uncancelled: Vec<Tag>,
}

/// A send that the kernel had no memory for when its stream was closed.
struct LateSend {
    index: u32,
    epoch: u32,
    /// It lies in the stage before this; behind it lies what a later stream of the index sends.
    before: usize,
}

impl Closing {
    /// Whether a send of the index is that of a stream that is gone.
    pub(super) fn has_sent(&self, index: u32, begin: usize) -> bool {
        self.sends.iter().any(|send| send.index == index && begin < send.before)
    }

    /// No send is left in the ring.
    pub(super) fn sends_have_left(&mut self) {
        for send in std::mem::take(&mut self.sends) {
            // Dropped: closed at once, as nothing is left in the ring.
            self.one_less((send.index, send.epoch));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.sends.is_empty() && self.uncancelled.is_empty()
    }

    pub(super) fn has_cancelled_all(&self) -> bool {
        self.uncancelled.is_empty()
    }

    /// Answers the socket behind its last operation: it is to be closed.
    fn one_less(&mut self, place: (u32, u32)) -> Option<Stream> {
        let (_, operations) = self.sockets.get_mut(&place)?;
        *operations -= 1;
        if *operations > 0 {
            return None;
        }
        self.sockets.remove(&place).map(|(socket, _)| socket)
    }
}

impl Uring {
    pub(super) fn close_stream(&mut self, token: Token, mode: CloseMode) {
        if self.stream(token).is_none() {
            return;
        }
        let has_left = self.leave_before_close(token);
        let before = self.staged();
        let Some(entry) = self.streams.get_mut(token.index) else { return };
        let mut operations =
            Self::cancel_all(&mut self.ring, &mut self.closing, token.index, entry);
        let (index, epoch) = (token.index, entry.epoch);
        let Some(socket) = entry.end() else { return };
        if let Stream::Udp(_) = socket {
            self.datagrams.forget_pieces(token);
        }
        // In order, also where the socket has not taken the last words: the reactor has made sure
        // of all else, and a reset would take what the socket has.
        if mode == CloseMode::Abort
            && let Err(error) = socket.as_socket().set_linger(Some(Duration::ZERO))
        {
            // A Unix socket has no reset; one that is gone already needs none.
            log::debug!("closing without a reset: {error}");
        }
        if !has_left {
            self.closing.sends.push(LateSend { index, epoch, before });
            operations += 1;
        }
        if operations > 0 {
            self.closing.sockets.insert((index, epoch), (socket, operations));
        } else {
            close_in_ring(&mut self.ring, socket);
        }
    }

    /// Cancels what a stream that is being closed has in the kernel; answers how much that is.
    fn cancel_all(ring: &mut Ring, closing: &mut Closing, index: u32, entry: &StreamEntry) -> u8 {
        let receive = (entry.armed != Armed::Nothing).then(|| entry.receive_tag(index));
        let room = entry.flags.has(Flag::WatchesRoom).then(|| entry.room_tag(index));
        let operations = [receive, room].into_iter().flatten().count() as u8;
        for tag in
            [receive.filter(|_| !entry.flags.has(Flag::Cancelling)), room].into_iter().flatten()
        {
            if let Err(error) = cancel(ring, tag) {
                log::debug!("an operation is cancelled later: {error}");
                closing.uncancelled.push(tag);
            }
        }
        operations
    }

    /// Cancels what could not be cancelled before.
    pub(super) fn cancel_again(&mut self) {
        while let Some(tag) = self.closing.uncancelled.last() {
            if cancel(&mut self.ring, *tag).is_err() {
                return;
            }
            self.closing.uncancelled.pop();
        }
    }

    /// An operation of a stream that is gone has told something: if that was its last word, and it
    /// was the last operation, its socket is closed.
    pub(super) fn operation_ended(&mut self, completion: Completion) {
        if completion.has_more() {
            return;
        }
        let place = (completion.tag.index(), completion.tag.epoch());
        if let Some(socket) = self.closing.one_less(place) {
            close_in_ring(&mut self.ring, socket);
        }
    }
}

impl Uring {
    /// Cancels whatever is left and waits until nothing is, however much that is: the kernel ends
    /// only some at a time. What is about to try something is not found by a cancel: it has ended, or
    /// can be found, only behind the call. So nothing has to be met twice.
    ///
    /// # Errors
    /// The kernel's, or that it ends nothing for some time: something may be left.
    pub(super) fn end_operations(&mut self) -> io::Result<()> {
        let mut sign_of_life = Instant::now();
        let mut in_vain = 0;
        while in_vain < 2 {
            let is_in_vain = self.cancel_everything(&mut sign_of_life)? == 0;
            in_vain = if is_in_vain { in_vain + 1 } else { 0 };
        }
        Ok(())
    }

    /// Cancels all operations, and waits for the end of those that are found; answers how many
    /// these are, or how many have ended if more have. One that was found before and has not ended
    /// is found again.
    fn cancel_everything(&mut self, sign_of_life: &mut Instant) -> io::Result<i32> {
        let name = Tag::new(Kind::Cancel, 0, 0);
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(name.0);
        let (mut is_in, mut found, mut ended) = (false, None, 0);
        loop {
            // SAFETY: it points to nothing.
            is_in = is_in || unsafe { self.ring.push(&entry) }.is_ok();
            self.ring.enter(Wait::For(Some(PATIENCE)))?;
            while self.ring.failed_send().is_some() {}
            while let Some(completion) = self.ring.next() {
                *sign_of_life = Instant::now();
                Self::refuse_unopened(&completion);
                if completion.tag == name {
                    found = Some(completion.result.max(0));
                } else {
                    ended += i32::from(!completion.has_more());
                }
            }
            if let Some(found) = found.filter(|found| *found <= ended) {
                return Ok(found.max(ended));
            }
            if sign_of_life.elapsed() >= PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Closes a socket with the next call into the kernel, behind all entries that name it. Where there
/// is no room it is closed at once: whatever names it has left by then.
fn close_in_ring(ring: &mut Ring, socket: Stream) {
    if ring.is_full() {
        return drop(socket);
    }
    // Told only if it fails, and then it means nothing; not the name by which the driver's end is told.
    let name = Tag::new(Kind::Cancel, 0, 1);
    let fd = OwnedFd::from(socket).into_raw_fd();
    let entry = opcode::Close::new(Fd(fd)).build().flags(Flags::SKIP_SUCCESS);
    // SAFETY: it points to nothing, and the descriptor is nobody else's any more.
    if let Err(error) = unsafe { ring.push(&entry.user_data(name.0)) } {
        log::warn!("a socket is closed late: {error}");
        // SAFETY: it is open, and owned here: the entry was not taken.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

impl Drop for Uring {
    /// No operation outlives the driver, also where a panic ends its loop: not in memory that is
    /// freed, and no socket stays open, so that its port can be used again at once.
    fn drop(&mut self) {
        if let Err(error) = self.end_operations() {
            log::error!("operations of an event loop have not ended, its memory is kept: {error}");
            self.buffers.keep_for_ever();
            self.stage.keep_for_ever();
            // With the places of its accepts.
            std::mem::forget(std::mem::take(&mut self.listeners));
        }
    }
}
