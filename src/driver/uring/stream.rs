//! One stream: which operation it has in the kernel, which it should have, and what there is to be
//! told.
//!
//! ```text
//!                          4 full buffers in a row, idle, or receiving off
//!   multishot receive  ------------------------------------------------->  multishot poll, and
//!   into shared buffers                                                    receives of our own
//!                      <-------------------------------------------------
//!                          16 short receives in a row
//! ```
//! What is wanted changes at once, what is in the kernel at the end of the turn (`settle.rs`):
//! whoever is paused and resumed within one has cost nothing.

use std::io;

use crate::driver::uring::flags::{Flag, Flags};
use crate::driver::uring::ring::Completion;
use crate::driver::uring::tag::next_epoch;
use crate::driver::{Buffer, Event, Token};
use crate::sys::socket::{Stream, connect_result};

/// So many buffers filled in a row say that a stream is better received by larger calls.
const FULL_RUN: u8 = 4;

/// So many short receives in a row say that it is not any more.
const SHORT_RUN: u8 = 16;

/// What a poll for input asks for; errors and the end of both sides are told in any case.
pub(super) const READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP | libc::POLLPRI) as u32;
pub(super) const WRITABLE: u32 = libc::POLLOUT as u32;

/// Of what a poll tells, what makes a receive fail or end.
const ENDING: i32 = (libc::POLLRDHUP | libc::POLLPRI | libc::POLLERR | libc::POLLHUP) as i32;

/// The receiving operation that a stream has in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Armed {
    #[default]
    Nothing,
    Receive,
    Readable,
}

/// What ended a stream.
#[derive(Debug)]
pub(super) enum End {
    Ended,
    Failed(io::Error),
}

/// What few streams have.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// Received while receiving was off, or behind what was.
    held: Vec<u8>,
    /// Of these, bytes that were told.
    told: usize,
    /// What came behind them.
    end: Option<End>,
    /// Taken by `send`, and refused by the full socket.
    pub(super) unsent: Vec<u8>,
    /// A FIN follows them.
    pub(super) shuts_later: bool,
    /// What a send met after it was answered.
    pub(super) send_error: Option<io::Error>,
}

/// There may be a million of them.
const _: () = assert!(size_of::<StreamEntry>() <= 32);

/// What is known of one stream.
#[derive(Debug, Default)]
pub(super) struct StreamEntry {
    /// `None` while the index is free.
    pub(super) socket: Option<Stream>,
    pub(super) generation: u32,
    /// Of its operations' tags.
    pub(super) epoch: u32,
    /// The round of sends in which the last one was staged.
    pub(super) staged_in: u32,
    pub(super) flags: Flags,
    pub(super) armed: Armed,
    /// Full buffers in a row, or short receives, see [`FULL_RUN`] and [`SHORT_RUN`].
    run: u8,
    pub(super) extra: Option<Box<Extra>>,
}

impl StreamEntry {
    /// Begins a new use of the index.
    pub(super) fn begin(&mut self, socket: Stream, generation: u32, connecting: bool) {
        let direct = matches!(socket, Stream::Udp(_));
        let mut flags = self.flags.of_index();
        flags.set(Flag::Receiving, !connecting);
        flags.set(Flag::Connecting, connecting);
        flags.set(Flag::Direct, direct);
        flags.set(Flag::Active, true);
        *self = StreamEntry {
            socket: Some(socket),
            generation,
            epoch: next_epoch(self.epoch),
            flags,
            ..StreamEntry::default()
        };
    }

    /// Ends the use of the index.
    pub(super) fn end(&mut self) -> Option<Stream> {
        let socket = self.socket.take();
        let old = std::mem::take(self);
        (self.epoch, self.flags) = (old.epoch, old.flags.of_index());
        socket
    }

    /// The operation that it should have in the kernel for what it receives.
    pub(super) fn wanted(&self) -> Armed {
        if self.socket.is_none() || self.flags.has(Flag::Connecting) {
            Armed::Nothing
        } else if self.flags.has(Flag::Direct)
            || self.flags.has(Flag::Ended)
            || !self.flags.has(Flag::Receiving)
        {
            Armed::Readable
        } else {
            Armed::Receive
        }
    }

    /// Whether it should watch for room.
    pub(super) fn wants_room(&self) -> bool {
        let waits =
            self.flags.has(Flag::Connecting) || self.flags.has(Flag::Blocked) || self.has_unsent();
        self.socket.is_some() && waits && !self.flags.has(Flag::Writable)
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| !extra.unsent.is_empty())
    }

    pub(super) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Lets go of what is empty.
    pub(super) fn tidy(&mut self) {
        self.extra.take_if(|extra| {
            let none_held = extra.held.is_empty() && extra.end.is_none();
            let none_unsent = extra.unsent.is_empty() && !extra.shuts_later;
            none_held && none_unsent && extra.send_error.is_none()
        });
    }

    fn holds(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| !extra.held.is_empty() || extra.end.is_some())
    }

    /// Whether bytes that a completion brings may be told at once.
    pub(super) fn tells_at_once(&self) -> bool {
        self.flags.has(Flag::Receiving) && !self.holds()
    }

    /// Keeps what has come although receiving is off, or behind what was kept.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.extra_mut().held.extend_from_slice(bytes);
    }

    /// A buffer was received, full or not, by the kernel or by a call.
    pub(super) fn count(&mut self, is_full: bool) {
        self.flags.set(Flag::Active, true);
        let counts = self.flags.has(Flag::Direct) != is_full;
        self.run = if counts { self.run.saturating_add(1) } else { 0 };
        let most = if self.flags.has(Flag::Direct) { SHORT_RUN } else { FULL_RUN };
        if self.run >= most && !matches!(self.socket, Some(Stream::Udp(_))) {
            self.flags.set(Flag::Direct, !self.flags.has(Flag::Direct));
            self.run = 0;
        }
    }

    /// Goes over to polls: what is received now is looked for by a call.
    pub(super) fn become_direct(&mut self) {
        self.flags.set(Flag::Direct, true);
        self.run = 0;
    }

    /// A poll for input has told this.
    pub(super) fn note(&mut self, told: i32) {
        let is_error = told & i32::from(libc::POLLERR) != 0;
        self.flags.set(Flag::Readable, true);
        self.flags.add(Flag::Ending, told & ENDING != 0);
        self.flags.add(Flag::Failed, is_error);
    }

    /// A receive in the kernel has met the end, or failed. An error is told at once also where
    /// receiving is off.
    pub(super) fn met(&mut self, token: Token, end: End) -> Option<Event> {
        self.flags.set(Flag::Ended, true);
        match end {
            End::Failed(error) if self.tells_at_once() || !self.flags.has(Flag::Receiving) => {
                Some(Event::Failed { token, error })
            }
            End::Ended if self.tells_at_once() => {
                self.flags.set(Flag::Receiving, false);
                Some(Event::Ended { token })
            }
            end => {
                self.extra_mut().end = Some(end);
                None
            }
        }
    }

    /// Whether there may be something to be told without a further completion.
    pub(super) fn has_more(&self) -> bool {
        self.socket.is_some()
            && ((self.flags.has(Flag::Receiving)
                && (self.holds() || (self.flags.has(Flag::Readable) && self.receives_directly())))
                || (self.flags.has(Flag::Writable)
                    && (self.flags.has(Flag::Blocked) || self.flags.has(Flag::Connecting)))
                || (self.flags.has(Flag::Failed)
                    && !self.flags.has(Flag::Receiving)
                    && !self.flags.has(Flag::Connecting))
                || self.extra.as_ref().is_some_and(|extra| extra.send_error.is_some()))
    }

    /// While a receive is in the kernel, a call could come before bytes that it has taken.
    fn receives_directly(&self) -> bool {
        self.armed != Armed::Receive && !self.flags.has(Flag::Ended)
    }

    /// What there is for the reactor, if anything.
    pub(super) fn next_event(&mut self, index: u32, receive: &mut [u8]) -> Option<Event> {
        let socket = self.socket.as_ref()?;
        let token = Token { index, generation: self.generation };
        if self.flags.has(Flag::Connecting) {
            self.flags.set(Flag::Writable, false);
            let result = connect_result(&socket.as_socket())?;
            self.flags.set(Flag::Connecting, false);
            self.flags.set(Flag::Receiving, result.is_ok());
            return Some(Event::Connected { token, result });
        }
        if let Some(error) = self.extra.as_mut().and_then(|extra| extra.send_error.take()) {
            self.tidy();
            return Some(Event::SendFailed { token, error });
        }
        if self.flags.has(Flag::Blocked) && self.flags.has(Flag::Writable) {
            self.flags.set(Flag::Blocked, false);
            self.flags.set(Flag::Writable, false);
            return Some(Event::Writable { token });
        }
        if self.flags.has(Flag::Receiving) && self.holds() {
            return self.held(token, receive);
        }
        if self.flags.has(Flag::Readable)
            && self.flags.has(Flag::Receiving)
            && self.receives_directly()
        {
            return self.receive(token, receive);
        }
        if self.flags.take(Flag::Failed) && !self.flags.has(Flag::Receiving) {
            let error = socket.as_socket().take_error().ok().flatten()?;
            return Some(Event::Failed { token, error });
        }
        None
    }

    /// What was kept, in pieces no larger than those of other receives.
    fn held(&mut self, token: Token, into: &mut [u8]) -> Option<Event> {
        let extra = self.extra.as_mut()?;
        let rest = &extra.held[extra.told..];
        if rest.is_empty() {
            let end = extra.end.take()?;
            self.tidy();
            return self.met(token, end);
        }
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        extra.told += length;
        if extra.told == extra.held.len() {
            (extra.held, extra.told) = (Vec::new(), 0);
            self.tidy();
        }
        Some(Event::Received { token, buffer: Buffer { length } })
    }

    fn receive(&mut self, token: Token, into: &mut [u8]) -> Option<Event> {
        let socket = self.socket.as_ref()?;
        let is_tcp = matches!(socket, Stream::Tcp(_));
        let received = retry(|| io::Read::read(&mut &*socket.as_socket(), into));
        match received {
            Ok(0) => {
                self.flags.set(Flag::Readable, false);
                self.met(token, End::Ended)
            }
            Ok(length) => {
                // As for the readiness driver: see there.
                let trusted = is_tcp && !self.flags.has(Flag::Ending);
                self.flags.set(Flag::Readable, length == into.len() || !trusted);
                self.count(length >= super::buffers::BUFFER_BYTES);
                Some(Event::Received { token, buffer: Buffer { length } })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.flags.set(Flag::Readable, false);
                self.flags.set(Flag::Ending, false);
                None
            }
            Err(error) => {
                self.flags.set(Flag::Readable, false);
                self.flags.set(Flag::Failed, false);
                self.met(token, End::Failed(error))
            }
        }
    }

    /// Whether this is a connected datagram socket that may have datagrams for the reactor, and
    /// nothing else before them.
    pub(super) fn receives_pieces(&self) -> bool {
        let flags = &self.flags;
        let is_other_first = flags.has(Flag::Connecting)
            || (flags.has(Flag::Blocked) && flags.has(Flag::Writable))
            || self.extra.as_ref().is_some_and(|extra| extra.send_error.is_some());
        matches!(self.socket, Some(Stream::Udp(_)))
            && flags.has(Flag::Readable)
            && flags.has(Flag::Receiving)
            && self.receives_directly()
            && !is_other_first
    }

    /// A connected datagram socket had nothing to be received, or is broken.
    pub(super) fn received_no_piece(&mut self, token: Token, error: io::Error) -> Option<Event> {
        self.flags.set(Flag::Readable, false);
        if error.kind() == io::ErrorKind::WouldBlock {
            return None;
        }
        self.flags.set(Flag::Failed, false);
        Some(Event::Failed { token, error })
    }

    /// Something may be held for it.
    pub(super) fn may_have_pieces(&mut self) {
        self.flags.set(Flag::Readable, true);
    }

    /// Whether this completion is of the present use of the index.
    #[inline]
    pub(super) fn is_named_by(&self, completion: &Completion) -> bool {
        self.socket.is_some() && self.epoch == completion.tag.epoch()
    }
}

/// Repeats a call that a signal interrupted.
#[inline]
pub(super) fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
