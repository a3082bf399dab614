//! Datagrams that the kernel receives by itself: a socket has one multishot receive of messages,
//! each of which comes with its address, and what the system tells of it, in a buffer of a group
//! that all datagram sockets of the loop share.
//!
//! A message that the kernel has joined holds several datagrams: they are told in a row, and its
//! buffer goes back behind the last of them.
//!
//! Where all buffers are taken, receives end. They begin anew when a quarter is back. Nobody has to
//! wake the loop for that: a buffer that is taken is that of a completion, or of a row, which the
//! loop has still to look at and does not sleep on.
//!
//! INVARIANT (row): the buffer of `row` is ours, and goes back when the row is over and the datagram
//! that was told last is not `lent` any more.

use std::io;
use std::os::fd::RawFd;

use io_uring::opcode;
use io_uring::types::{Fd, RecvMsgOut};

use crate::driver::uring::Uring;
use crate::driver::uring::buffers::{Buffers, Group};
use crate::driver::uring::ring::{Completion, Ring};
use crate::driver::uring::tag::{Kind, Tag};
use crate::driver::{Buffer, Event};
use crate::options::driver::DriverFallback;
use crate::sys::udp::{Abilities, LONGEST_MESSAGE, Received};

/// Room for an address, with what brings the control messages behind it to an aligned place.
const NAME_BYTES: usize = 32;

/// Room for a local address (40 bytes) and a segment size (24).
const CONTROL_BYTES: usize = 64;

/// What stands in a buffer before the payload: the kernel's own header first.
const BEFORE_PAYLOAD: usize = 16 + NAME_BYTES + CONTROL_BYTES;

/// Errors in a row behind which a socket is received by calls: one that does not go away must not
/// keep the loop awake.
const MOST_ERRORS: u32 = 64;

/// The message that is being told.
#[derive(Debug, Clone, Copy)]
struct Row {
    socket: u32,
    /// The buffer that it lies in.
    buffer: u16,
    /// Where the next datagram begins in the buffer, and the last one ends.
    next: usize,
    end: usize,
    /// The length of each but the last.
    segment: usize,
    /// All have been told. An empty one ends where it begins, so no place says that.
    is_over: bool,
    /// What is known of the whole.
    received: Received,
}

/// How one socket receives.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    /// By a poll and calls: the other way was refused.
    by_calls: bool,
    /// Since the last message.
    errors: u32,
}

/// What the kernel receives for one loop.
pub(super) struct Messages {
    buffers: Buffers,
    /// How much of a buffer is for the address and the control messages.
    shape: libc::msghdr,
    /// By the socket's number.
    ways: Vec<Way>,
    /// Sockets whose receive has found no buffer.
    stalled: Vec<u32>,
    row: Option<Row>,
    /// Where the datagram lies that was told last.
    lent: Option<(u16, usize)>,
}

impl Messages {
    fn new(ring: &Ring, count: usize, longest: usize) -> Result<Box<Self>, DriverFallback> {
        let bytes = BEFORE_PAYLOAD + longest.min(LONGEST_MESSAGE);
        let buffers = Buffers::new(&ring.submitter(), Group::Datagrams, count * bytes, bytes)?;
        // SAFETY: it is made of integers and raw pointers, for which all bits zero is a value.
        let mut shape: libc::msghdr = unsafe { std::mem::zeroed() };
        shape.msg_namelen = NAME_BYTES as _;
        shape.msg_controllen = CONTROL_BYTES as _;
        let (ways, stalled) = (Vec::new(), Vec::new());
        Ok(Box::new(Messages { buffers, shape, ways, stalled, row: None, lent: None }))
    }

    /// Their memory is never freed.
    pub(super) fn keep_for_ever(&mut self) {
        self.buffers.keep_for_ever();
    }

    /// Whether the kernel receives for this socket.
    pub(super) fn serves(&self, number: u32) -> bool {
        self.ways.get(number as usize).is_some_and(|way| !way.by_calls)
    }

    /// Begins the receive of a socket.
    pub(super) fn begin(&self, ring: &mut Ring, fd: RawFd, number: u32) -> io::Result<()> {
        let group = Group::Datagrams as u16;
        let entry = opcode::RecvMsgMulti::new(Fd(fd), &raw const self.shape, group).build();
        let tag = Tag::new(Kind::Message, number, 0);
        // SAFETY: it points to `shape`, which is never written to, does not move, being in a box, and
        // lives as long as the ring; what it receives goes into provided buffers.
        unsafe { ring.push(&entry.user_data(tag.0)) }
    }

    /// Whether the datagram that was told last lies here.
    #[inline]
    pub(super) fn is_lent(&self) -> bool {
        self.lent.is_some()
    }

    /// The bytes of the datagram that was told last.
    #[inline]
    pub(super) fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let Some((number, start)) = self.lent else { return &[] };
        &self.buffers.filled(number, start + buffer.length)[start..]
    }

    /// The datagram that was told last is not needed any more.
    #[inline]
    pub(super) fn recycle(&mut self) {
        if self.lent.take().is_some() {
            self.end_row();
        }
    }

    /// Gives the row's buffer back if all of it was told.
    #[inline]
    fn end_row(&mut self) {
        if let Some(row) = self.row.take_if(|row| row.is_over) {
            self.buffers.give(row.buffer);
        }
    }

    /// Begins the row of a message of so many bytes, all that stands before the payload included.
    #[inline]
    fn open(&mut self, socket: u32, buffer: u16, length: usize, abilities: &Abilities) {
        debug_assert!(self.row.is_none(), "a row is told before the next completion is looked at");
        let filled = self.buffers.filled(buffer, length);
        let message = RecvMsgOut::parse(filled, &self.shape).ok();
        let arrived = message.and_then(|message| {
            let told = (message.name_data(), message.control_data());
            let length = message.payload_data().len();
            abilities.arrived(told, length, message.is_payload_truncated())
        });
        // One without an address that could be answered is passed over.
        let Some((received, segment)) = arrived else { return self.buffers.give(buffer) };
        let segment = segment.unwrap_or(received.length);
        let (next, end) = (BEFORE_PAYLOAD, BEFORE_PAYLOAD + received.length);
        self.row = Some(Row { socket, buffer, next, end, segment, is_over: false, received });
    }

    /// The next datagram of the row.
    #[inline]
    fn next(&mut self) -> Option<Event> {
        let row = self.row.as_mut().filter(|row| !row.is_over)?;
        let (socket, start) = (row.socket, row.next);
        let length = row.segment.min(row.end - start);
        row.next += length;
        row.is_over = row.next == row.end;
        // Only the last of them can have been cut.
        if row.is_over && row.received.truncated {
            self.end_row();
            return Some(Event::DatagramTruncated { socket });
        }
        let Received { peer, local, .. } = row.received;
        self.lent = Some((row.buffer, start));
        Some(Event::Datagram { socket, buffer: Buffer { length }, peer, local })
    }

    /// What the end of a receive means for its socket; whether it is to be begun anew at once.
    #[cold]
    fn ended(&mut self, number: u32, error: Option<i32>) -> bool {
        let Some(way) = self.ways.get_mut(number as usize) else { return false };
        match error {
            // An empty datagram ends a receive, and so do completions that overflow.
            None | Some(libc::EAGAIN | libc::EINTR) => {}
            Some(libc::ENOBUFS) => {
                self.stalled.push(number);
                return false;
            }
            // A kernel, or a socket, that does not know it.
            Some(libc::EINVAL | libc::EOPNOTSUPP) => way.by_calls = true,
            // What is told here is an earlier datagram's fate, told once.
            Some(code) => {
                way.errors += 1;
                way.by_calls |= way.errors >= MOST_ERRORS;
                let error = io::Error::from_raw_os_error(code);
                log::debug!("an earlier datagram could not be delivered: {error}");
            }
        }
        true
    }
}

#[cfg(test)]
impl Messages {
    /// As if the kernel had refused to receive for a socket.
    pub(super) fn refuse(&mut self, number: u32) {
        self.ended(number, Some(libc::EINVAL));
    }

    /// As if a receive had met an error.
    pub(super) fn fail(&mut self, number: u32) {
        self.ended(number, Some(libc::EHOSTUNREACH));
    }

    /// Buffers that the kernel has, where completions that were not looked at yet name so many.
    pub(super) fn free(&self, fetched: usize) -> usize {
        self.buffers.free(fetched)
    }
}

impl Uring {
    /// Begins to receive from a socket that was added.
    pub(super) fn receive_messages(&mut self, number: u32) {
        if self.messages.is_none() {
            match Messages::new(&self.ring, self.datagram_buffers, self.receive.len()) {
                Ok(messages) => self.messages = Some(messages),
                Err(refused) => log::debug!("datagrams are received by calls: {refused}"),
            }
        }
        if let Some(messages) = &mut self.messages {
            let needed = messages.ways.len().max(number as usize + 1);
            messages.ways.resize_with(needed, Way::default);
        }
        self.watch_datagrams(number);
    }

    /// Whether a message is being told.
    pub(super) fn has_message(&self) -> bool {
        self.messages.as_ref().is_some_and(|messages| messages.row.is_some())
    }

    /// The next datagram of the message that is being told.
    #[inline]
    pub(super) fn next_of_message(&mut self) -> Option<Event> {
        let messages = self.messages.as_mut()?;
        let event = messages.next()?;
        self.lends_datagram = messages.is_lent();
        Some(event)
    }

    /// A message has come, or its receive has ended, or both.
    pub(super) fn message_event(&mut self, completion: Completion) -> Option<Event> {
        let number = completion.tag.index();
        let messages = self.messages.as_mut()?;
        if let Some(buffer) = completion.buffer() {
            messages.buffers.taken();
            let length = completion.result.max(0) as usize;
            match (self.datagrams.abilities(number), messages.ways.get_mut(number as usize)) {
                (Some(abilities), Some(way)) => {
                    way.errors = 0;
                    messages.open(number, buffer, length, abilities);
                }
                _ => messages.buffers.give(buffer),
            }
        }
        if !completion.has_more() && messages.ended(number, completion.error()) {
            self.watch_datagrams(number);
        }
        self.next_of_message()
    }

    /// Shows the kernel the buffers that came back, and begins receives anew that found none.
    pub(super) fn prepare_messages(&mut self) {
        let Some(messages) = &mut self.messages else { return };
        messages.buffers.publish();
        let free = messages.buffers.free(self.ring.fetched_buffers(Group::Datagrams));
        if !messages.stalled.is_empty() && free >= messages.buffers.quarter() {
            for number in std::mem::take(&mut messages.stalled) {
                self.watch_datagrams(number);
            }
        }
    }
}
