//! Sending. Short output is copied into a stage, and an entry for it waits for the next call into
//! the kernel; long output is sent by a call of its own, beside which the call costs nothing.
//!
//! ```text
//!   send: staged ----> enter: all taken ----> nothing is told
//!                             part, or none: the rest is kept (`unsent`) until there is room
//!                             error: Event::SendFailed
//! ```
//! A stream has one staged send at a time. A further one makes those before leave first: were two
//! on the way, the second might find the room that the first has not found.
//!
//! INVARIANT 1 (stage): bytes in the stage stay as they are until no entry is left in the ring and
//! all failures have been looked at. A staged send ends during the call that submits it: it does
//! not wait (MSG_DONTWAIT), and what does not wait is not handed to another thread of the kernel.
//! INVARIANT 2 (order): while a stream has unsent bytes, nothing else of it is sent.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsRawFd;

use io_uring::squeue::Flags;
use io_uring::{opcode, types};
use socket2::SockRef;

use crate::buf::outbound::Outbound;
use crate::driver::BYTES_PER_PLACE;
use crate::driver::uring::Uring;
use crate::driver::uring::flags::Flag;
use crate::driver::uring::memory::Mapping;
use crate::driver::uring::ring::Ring;
use crate::driver::uring::stream::{StreamEntry, retry};
use crate::driver::uring::tag::{MAX_OFFSET, MAX_SEND, Tag};
use crate::driver::{Buffer, Sent, Token};
use crate::sys::socket::{Stream, send_vectored};

/// Output up to this length is staged: to copy it costs less than a call into the kernel. It is that of
/// the first chunk, so that most of what is staged lies in one.
const LONGEST_STAGED: usize = 4096;
const _: () = assert!(LONGEST_STAGED <= MAX_SEND);

/// Slices given to one vectored send, as for the readiness driver.
const SLICES_PER_SEND: usize = 64;

const BLOCKED: Sent = Sent { bytes: 0, blocked: true };

/// How output is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Not now: `Writable` will follow.
    Blocked,
    Staged,
    /// By a call of its own.
    Direct,
}

/// Output that waits for the next call into the kernel.
pub(super) struct Stage {
    memory: Mapping,
    used: usize,
    /// Counts how often it was emptied; from 1, so that a new stream has nothing in it.
    round: u32,
}

impl Stage {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Stage { memory: Mapping::new(MAX_OFFSET)?, used: 0, round: 1 })
    }

    /// Its memory is never freed.
    pub(super) fn keep_for_ever(&mut self) {
        self.memory.keep_for_ever();
    }

    fn has_room(&self, length: usize) -> bool {
        self.used + length <= MAX_OFFSET
    }

    /// Copies bytes for which there is room.
    #[inline]
    fn add(&mut self, bytes: &[u8]) {
        self.memory.copy_in(self.used, bytes);
        self.used += bytes.len();
    }
}

impl Uring {
    #[inline]
    pub(super) fn send_stream(
        &mut self,
        token: Token,
        output: &Outbound,
        limit: usize,
    ) -> io::Result<Sent> {
        let length = output.len().min(limit);
        let is_staged = match self.begin_send(token, length)? {
            Way::Blocked => return Ok(BLOCKED),
            Way::Staged => output.chunks() <= SLICES_PER_SEND,
            Way::Direct => false,
        };
        let Self { streams, stage, ring, .. } = self;
        let Some(entry) = streams.get_mut(token.index) else { return Ok(BLOCKED) };
        if !is_staged {
            let result = entry.send_now(output, limit);
            return self.sent_now(token, result);
        }
        let begin = stage.used;
        if output.chunks() == 1 {
            stage.add(&output.first()[..length]);
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_SEND];
            let filled = output.first_slices(length, &mut slices);
            slices[..filled].iter().for_each(|slice| stage.add(slice));
        }
        entry.push_send(token.index, begin, stage, ring)
    }

    /// As `send_stream`, out of the buffer that the reactor reads.
    #[inline]
    pub(super) fn send_lent(
        &mut self,
        token: Token,
        length: usize,
        stretch: Range<usize>,
    ) -> io::Result<Sent> {
        let way = self.begin_send(token, stretch.len())?;
        let Self { streams, stage, ring, buffers, receive, lent, datagrams, .. } = self;
        let Some(entry) = streams.get_mut(token.index) else { return Ok(BLOCKED) };
        let bytes = match *lent {
            _ if self.lends_datagram => datagrams.bytes(&Buffer { length }),
            Some(number) => buffers.filled(number, length),
            None => &receive[..length],
        };
        let bytes = &bytes[stretch];
        match way {
            Way::Blocked => Ok(BLOCKED),
            Way::Staged => {
                let begin = stage.used;
                stage.add(bytes);
                entry.push_send(token.index, begin, stage, ring)
            }
            Way::Direct => {
                let result = entry.send_slice(bytes);
                self.sent_now(token, result)
            }
        }
    }

    /// How `length` bytes of a stream are to be sent. What was staged of it before has left then,
    /// and what is to be staged finds room.
    #[inline]
    fn begin_send(&mut self, token: Token, length: usize) -> io::Result<Way> {
        if !self.may_send(token)? {
            return Ok(Way::Blocked);
        }
        let is_piece = self.stream(token).is_some_and(|e| matches!(e.socket, Some(Stream::Udp(_))));
        if length > LONGEST_STAGED || is_piece {
            return Ok(Way::Direct);
        }
        if !self.stage.has_room(length) || self.ring.is_full() {
            let submitted = self.ring.submit();
            self.sends_have_left();
            if submitted.is_err() || !self.stage.has_room(length) {
                return Ok(Way::Direct);
            }
        }
        self.spare = self.spare.saturating_sub(length / BYTES_PER_PLACE);
        Ok(Way::Staged)
    }

    /// A send of our own has come back with this.
    fn sent_now(&mut self, token: Token, result: io::Result<Sent>) -> io::Result<Sent> {
        if result.as_ref().is_ok_and(|sent| sent.blocked) {
            if let Some(entry) = self.stream_mut(token) {
                entry.flags.set(Flag::Blocked, true);
                entry.flags.set(Flag::Writable, false);
            }
            self.changed(token.index);
        }
        let bytes = result.as_ref().map_or(0, |sent| sent.bytes);
        self.spare = self.spare.saturating_sub(bytes / BYTES_PER_PLACE);
        result
    }

    /// Whether a further send of a stream would be in order: what was staged before it has left.
    /// An error is that of an earlier send.
    #[inline]
    fn may_send(&mut self, token: Token) -> io::Result<bool> {
        let round = self.stage.round;
        let Some(entry) = self.stream_mut(token) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if entry.staged_in == round {
            self.flush_sends(token)
        } else if entry.extra.is_some() {
            self.has_sent_all(token)
        } else {
            Ok(true)
        }
    }

    /// Has staged sends leave. Where that is not possible, the stream is told of it as if it were
    /// blocked.
    #[cold]
    fn flush_sends(&mut self, token: Token) -> io::Result<bool> {
        let submitted = self.ring.submit();
        self.sends_have_left();
        if let Err(error) = submitted {
            log::debug!("a send has to wait: {error}");
            self.try_again(token);
            return Ok(false);
        }
        self.has_sent_all(token)
    }

    /// Whether the socket has all that was sent. Where it has not, `Writable` will follow.
    fn has_sent_all(&mut self, token: Token) -> io::Result<bool> {
        let Some(entry) = self.stream_mut(token) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if let Some(error) = entry.extra.as_mut().and_then(|extra| extra.send_error.take()) {
            entry.tidy();
            return Err(error);
        }
        if !entry.has_unsent() {
            return Ok(true);
        }
        entry.flags.set(Flag::Blocked, true);
        entry.flags.set(Flag::Writable, false);
        self.changed(token.index);
        Ok(false)
    }

    fn try_again(&mut self, token: Token) {
        if let Some(entry) = self.stream_mut(token) {
            entry.flags.set(Flag::Blocked, true);
            entry.flags.set(Flag::Writable, true);
        }
        self.changed(token.index);
    }

    /// Whatever was submitted has been looked at by the kernel: keeps what a full socket has left
    /// over, and empties the stage.
    #[inline]
    pub(super) fn sends_have_left(&mut self) {
        while let Some(failed) = self.ring.failed_send() {
            self.send_failed(failed.tag, failed.result);
        }
        if self.stage.used > 0 && self.ring.unsubmitted() == 0 {
            self.stage.used = 0;
            self.stage.round = self.stage.round.wrapping_add(1);
            self.closing.sends_have_left();
        }
    }

    #[cold]
    fn send_failed(&mut self, tag: Tag, result: i32) {
        let index = tag.index();
        let (begin, end) = tag.sent();
        if self.closing.has_sent(index, begin) {
            // Nobody is there to be told, nor to send the rest.
            return;
        }
        let Some(entry) = self.streams.get_mut(index).filter(|entry| entry.socket.is_some()) else {
            debug_assert!(false, "a stream is closed behind its sends");
            return;
        };
        let sent = result.max(0) as usize;
        if result >= 0 || -result == libc::EAGAIN || -result == libc::EINTR {
            // SAFETY: by INVARIANT 1 they are as they were, and the kernel only reads them.
            let rest = unsafe { self.stage.memory.slice(begin + sent, end - begin - sent) };
            entry.extra_mut().unsent.extend_from_slice(rest);
            entry.flags.set(Flag::Writable, false);
        } else {
            entry.extra_mut().send_error = Some(io::Error::from_raw_os_error(-result));
        }
        self.changed(index);
    }

    pub(super) fn commit_stream(&mut self, token: Token) -> io::Result<bool> {
        self.may_send(token)
    }

    /// Has a stream's staged send leave before its descriptor is closed; all else that names that
    /// is counted among its operations. Whether it has left.
    pub(super) fn leave_before_close(&mut self, token: Token) -> bool {
        let is_staged =
            |d: &Uring| d.stream(token).is_some_and(|entry| entry.staged_in == d.stage.round);
        if !is_staged(self) {
            return true;
        }
        if let Err(error) = self.ring.submit() {
            log::debug!("a socket is closed later, behind its last output: {error}");
        }
        self.sends_have_left();
        !is_staged(self)
    }

    /// The round of sends that are staged now.
    pub(super) fn round(&self) -> u32 {
        self.stage.round
    }

    /// Bytes in the stage.
    pub(super) fn staged(&self) -> usize {
        self.stage.used
    }
}

impl StreamEntry {
    /// Has the bytes from `begin` on, the last of the stage, leave with the next call.
    #[inline]
    fn push_send(
        &mut self,
        index: u32,
        begin: usize,
        stage: &mut Stage,
        ring: &mut Ring,
    ) -> io::Result<Sent> {
        let Some(socket) = &self.socket else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let length = stage.used - begin;
        let fd = types::Fd(socket.as_socket().as_raw_fd());
        let operation = opcode::Send::new(fd, stage.memory.at(begin), length as u32)
            .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(Tag::send(index, begin, length).0);
        // SAFETY: the stage keeps the bytes until the operation has ended, by INVARIANT 1.
        unsafe { ring.push(&operation) }?;
        self.staged_in = stage.round;
        Ok(Sent { bytes: length, blocked: false })
    }

    /// Gives the socket what it takes.
    fn send_now(&mut self, output: &Outbound, limit: usize) -> io::Result<Sent> {
        if output.chunks() == 1 {
            let first = output.first();
            return self.send_slice(&first[..first.len().min(limit)]);
        }
        let Some(socket) = &self.socket else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut slices = [IoSlice::new(&[]); SLICES_PER_SEND];
        let filled = match socket {
            Stream::Udp(_) => output.first_slices(limit, &mut slices),
            _ => output.slices(&mut slices),
        };
        answer(retry(|| send_vectored(socket.as_socket(), &slices[..filled])))
    }

    fn send_slice(&mut self, bytes: &[u8]) -> io::Result<Sent> {
        match &self.socket {
            Some(socket) => answer(retry(|| send(&socket.as_socket(), bytes))),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// A poll has told of room: what was kept goes first.
    pub(super) fn has_room(&mut self) {
        self.flags.set(Flag::Writable, true);
        let (Some(socket), Some(extra)) = (&self.socket, &mut self.extra) else { return };
        if extra.unsent.is_empty() {
            return;
        }
        match retry(|| send(&socket.as_socket(), &extra.unsent)) {
            Ok(sent) => drop(extra.unsent.drain(..sent)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                extra.unsent.clear();
                extra.send_error = Some(error);
            }
        }
        self.flags.set(Flag::Writable, !self.has_unsent());
        self.tidy();
    }
}

fn answer(result: io::Result<usize>) -> io::Result<Sent> {
    match result {
        Ok(bytes) => Ok(Sent { bytes, blocked: false }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(BLOCKED),
        Err(error) => Err(error),
    }
}

/// Not by way of std's Write, which sends without MSG_NOSIGNAL.
fn send(socket: &SockRef<'_>, bytes: &[u8]) -> io::Result<usize> {
    socket.send_with_flags(bytes, libc::MSG_NOSIGNAL)
}
