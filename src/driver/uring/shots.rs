//! Datagrams that the kernel receives by itself: a socket has one multishot receive of messages,
//! each of which comes with its address, and what the system tells of it, in a buffer of a group
//! that all datagram sockets of the loop share.
//!
//! A message that the kernel has joined holds several datagrams: they are told in a row, and its
//! buffer goes back behind the last of them. Where all buffers are taken the receives end. They are
//! begun anew when a quarter is back, which needs no waiting, as each buffer is one of a completion
//! that the loop has still to look at.

use std::io;
use std::os::fd::RawFd;

use io_uring::opcode;
use io_uring::types::{Fd, RecvMsgOut};

use crate::driver::uring::Uring;
use crate::driver::uring::buffers::{Buffers, DATAGRAM_GROUP};
use crate::driver::uring::ring::{Completion, Ring};
use crate::driver::uring::tag::{Kind, Tag};
use crate::driver::{Buffer, Event};
use crate::options::driver::DriverFallback;
use crate::sys::udp::{Abilities, LONGEST_MESSAGE, Received};

/// Room for an address, with what brings the control messages behind it to an aligned place.
const NAME_BYTES: usize = 32;

/// Room for a local address (40 bytes) and a segment size (24).
const CONTROL_BYTES: usize = 64;

/// What stands in a buffer before the payload, with the kernel's own header.
const BEFORE_PAYLOAD: usize = 16 + NAME_BYTES + CONTROL_BYTES;

/// Buffers of the group; the kernel fills half as many at a time.
const COUNT: usize = 64;

/// Errors in a row behind which a socket is received by calls.
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
    /// It has no next one.
    is_over: bool,
    /// Of the whole.
    received: Received,
}

/// How one socket receives.
#[derive(Debug, Clone, Copy, Default)]
struct Socket {
    by_calls: bool,
    errors: u32,
}

/// The datagrams that the kernel receives for one loop.
pub(super) struct Shots {
    buffers: Buffers,
    /// How much of a buffer is for the address and the control messages. The kernel reads it when
    /// it takes the entry.
    shape: libc::msghdr,
    sockets: Vec<Socket>,
    /// Those whose receive has found no buffer.
    stalled: Vec<u32>,
    row: Option<Row>,
    /// Where the datagram lies that was told last.
    lent: Option<(u16, usize)>,
}

impl Shots {
    fn new(ring: &Ring, longest: usize) -> Result<Box<Shots>, DriverFallback> {
        let bytes = BEFORE_PAYLOAD + longest.min(LONGEST_MESSAGE);
        let count = std::env::var("SHOTS").ok().and_then(|c| c.parse().ok()).unwrap_or(COUNT);
        let buffers = Buffers::new(&ring.submitter(), DATAGRAM_GROUP, count * bytes, bytes)?;
        // SAFETY: `msghdr` is made of integers and raw pointers, for which all bits zero is a value.
        let mut shape: libc::msghdr = unsafe { std::mem::zeroed() };
        shape.msg_namelen = NAME_BYTES as _;
        shape.msg_controllen = CONTROL_BYTES as _;
        let (sockets, stalled) = (Vec::new(), Vec::new());
        Ok(Box::new(Shots { buffers, shape, sockets, stalled, row: None, lent: None }))
    }

    /// Their memory is never freed.
    pub(super) fn keep_for_ever(&mut self) {
        self.buffers.keep_for_ever();
    }

    /// Whether the kernel receives for this socket.
    pub(super) fn serves(&self, number: u32) -> bool {
        self.sockets.get(number as usize).is_some_and(|socket| !socket.by_calls)
    }

    /// Begins the receive of a socket.
    pub(super) fn begin(&self, ring: &mut Ring, fd: RawFd, number: u32) -> io::Result<()> {
        let entry =
            opcode::RecvMsgMulti::new(Fd(fd), &raw const self.shape, DATAGRAM_GROUP).build();
        let tag = Tag::new(Kind::Shot, number, 0);
        // SAFETY: it points to `shape`, which is never changed, nor moved as it is in a box, and
        // lives as long as the ring; what it receives goes into provided buffers.
        unsafe { ring.push(&entry.user_data(tag.0)) }
    }

    /// Whether the datagram that was told last lies here.
    #[inline]
    pub(super) fn is_lent(&self) -> bool {
        self.lent.is_some()
    }

    #[inline]
    pub(super) fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let Some((number, start)) = self.lent else { return &[] };
        &self.buffers.filled(number, start + buffer.length)[start..]
    }

    /// The datagram that was told last is not needed any more.
    #[inline]
    pub(super) fn recycle(&mut self) {
        if let Some((number, _)) = self.lent.take() {
            self.end_row(number);
        }
    }

    /// Gives the buffer back if its last datagram was told.
    #[inline]
    fn end_row(&mut self, number: u16) {
        if self.row.is_none_or(|row| row.is_over) {
            self.row = None;
            self.buffers.give(number);
        }
    }

    /// Opens the message that came in a buffer.
    #[inline]
    fn open(&mut self, socket: u32, buffer: u16, length: usize, abilities: &Abilities) {
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

    /// The next datagram of the message.
    #[inline]
    fn next(&mut self) -> Option<Event> {
        let row = self.row.as_mut().filter(|row| !row.is_over)?;
        let (socket, start) = (row.socket, row.next);
        let length = row.segment.min(row.end - start);
        row.next += length;
        row.is_over = row.next == row.end;
        let (peer, local) = (row.received.peer, row.received.local);
        // Only the last of them can have been cut.
        if row.is_over && row.received.truncated {
            let number = row.buffer;
            self.end_row(number);
            return Some(Event::DatagramTruncated { socket });
        }
        self.lent = Some((row.buffer, start));
        Some(Event::Datagram { socket, buffer: Buffer { length }, peer, local })
    }
}

impl Uring {
    /// Begins to receive from a socket that was added.
    pub(super) fn begin_shots(&mut self, number: u32) {
        if self.shots.is_none() {
            match Shots::new(&self.ring, self.receive.len()) {
                Ok(shots) => self.shots = Some(shots),
                Err(error) => log::debug!("datagrams are received by calls: {error}"),
            }
        }
        if let Some(shots) = &mut self.shots {
            let needed = number as usize + 1;
            if shots.sockets.len() < needed {
                shots.sockets.resize_with(needed, Socket::default);
            }
        }
        self.watch_datagrams(number);
    }

    /// Whether a message has further datagrams.
    #[inline]
    pub(super) fn has_shot(&self) -> bool {
        self.shots.as_ref().is_some_and(|shots| shots.row.is_some())
    }

    #[inline]
    pub(super) fn next_shot(&mut self) -> Option<Event> {
        let shots = self.shots.as_mut()?;
        let event = shots.next()?;
        self.lends_datagram = shots.is_lent();
        Some(event)
    }

    /// A message, or the end of the receive, or both: an empty datagram ends it too.
    #[inline]
    pub(super) fn shot_event(&mut self, completion: Completion) -> Option<Event> {
        let number = completion.tag.index();
        if !completion.has_more() {
            self.shot_ended(number, completion);
        }
        let buffer = completion.buffer()?;
        let shots = self.shots.as_mut()?;
        shots.buffers.taken();
        let length = completion.result.max(0) as usize;
        match self.datagrams.abilities(number) {
            Some(abilities) => shots.open(number, buffer, length, abilities),
            None => shots.buffers.give(buffer),
        }
        self.next_shot()
    }

    #[cold]
    fn shot_ended(&mut self, number: u32, completion: Completion) {
        let Some(shots) = &mut self.shots else { return };
        let Some(socket) = shots.sockets.get_mut(number as usize) else { return };
        match completion.error() {
            None => socket.errors = 0,
            // It begins anew when there are buffers.
            Some(libc::ENOBUFS) => return shots.stalled.push(number),
            Some(libc::EAGAIN | libc::EINTR) => {}
            Some(code) => {
                let error = io::Error::from_raw_os_error(code);
                socket.errors += 1;
                // One that the kernel does not know, or that does not go away.
                let refuses = matches!(code, libc::EINVAL | libc::EOPNOTSUPP);
                socket.by_calls = refuses || socket.errors >= MOST_ERRORS;
                log::debug!("an earlier datagram could not be delivered: {error}");
            }
        }
        self.watch_datagrams(number);
    }

    /// Gives buffers back to the kernel, and begins receives anew that found none.
    #[inline]
    pub(super) fn prepare_shots(&mut self) {
        let Some(shots) = &mut self.shots else { return };
        shots.buffers.publish();
        if !shots.stalled.is_empty() && !self.ring.has_completions() {
            for number in std::mem::take(&mut shots.stalled) {
                self.watch_datagrams(number);
            }
        }
    }
}
