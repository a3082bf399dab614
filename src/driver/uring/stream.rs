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
    /// What a send met after it was answered.
    pub(super) send_error: Option<io::Error>,
}

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
    pub(super) armed: Armed,
    /// It is being cancelled.
    pub(super) cancelling: bool,
    /// A poll for room is in the kernel.
    pub(super) watches_room: bool,
    /// Has a place in the driver's queue.
    pub(super) queued: bool,
    /// Its operations may have to change.
    pub(super) unsettled: bool,
    /// The reactor wants bytes.
    pub(super) receiving: bool,
    /// A connect is under way.
    pub(super) connecting: bool,
    /// Received by calls of our own, when a poll says so.
    pub(super) direct: bool,
    /// Something was received since it was looked at last; see `idle.rs`.
    pub(super) active: bool,
    /// There may be something to receive by a call. Valid while `direct`.
    readable: bool,
    /// The end, an error or urgent data was reported: receive until nothing is left, short or not.
    ending: bool,
    /// A send came back blocked.
    pub(super) blocked: bool,
    /// The socket may take more, since the last send that was blocked.
    pub(super) writable: bool,
    /// An error was reported by a poll.
    failed: bool,
    /// Nothing more is received: the end, or a failure, was met.
    ended: bool,
    /// Full buffers in a row, or short receives, see [`FULL_RUN`] and [`SHORT_RUN`].
    run: u8,
    pub(super) extra: Option<Box<Extra>>,
}

impl StreamEntry {
    /// Begins a new use of the index.
    pub(super) fn begin(&mut self, socket: Stream, generation: u32, connecting: bool) {
        let direct = matches!(socket, Stream::Udp(_));
        *self = StreamEntry {
            socket: Some(socket),
            generation,
            epoch: next_epoch(self.epoch),
            // The index may still stand in these from its last use: harmless, and not twice.
            queued: self.queued,
            unsettled: self.unsettled,
            receiving: !connecting,
            connecting,
            direct,
            active: true,
            ..StreamEntry::default()
        };
    }

    /// Ends the use of the index.
    pub(super) fn end(&mut self) -> Option<Stream> {
        let socket = self.socket.take();
        let old = std::mem::take(self);
        (self.epoch, self.queued, self.unsettled) = (old.epoch, old.queued, old.unsettled);
        socket
    }

    /// The operation that it should have in the kernel for what it receives.
    pub(super) fn wanted(&self) -> Armed {
        if self.socket.is_none() || self.connecting {
            Armed::Nothing
        } else if self.direct || self.ended || !self.receiving {
            Armed::Readable
        } else {
            Armed::Receive
        }
    }

    /// Whether it should watch for room.
    pub(super) fn wants_room(&self) -> bool {
        let waits = self.connecting || self.blocked || self.has_unsent();
        self.socket.is_some() && waits && !self.writable
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
            none_held && extra.unsent.is_empty() && extra.send_error.is_none()
        });
    }

    fn holds(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| !extra.held.is_empty() || extra.end.is_some())
    }

    /// Whether bytes that a completion brings may be told at once.
    pub(super) fn tells_at_once(&self) -> bool {
        self.receiving && !self.holds()
    }

    /// Keeps what has come although receiving is off, or behind what was kept.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.extra_mut().held.extend_from_slice(bytes);
    }

    /// A buffer was received, full or not, by the kernel or by a call.
    pub(super) fn count(&mut self, is_full: bool) {
        self.active = true;
        let counts = self.direct != is_full;
        self.run = if counts { self.run.saturating_add(1) } else { 0 };
        let most = if self.direct { SHORT_RUN } else { FULL_RUN };
        if self.run >= most && !matches!(self.socket, Some(Stream::Udp(_))) {
            self.direct = !self.direct;
            self.run = 0;
        }
    }

    /// Goes over to polls: what is received now is looked for by a call.
    pub(super) fn become_direct(&mut self) {
        self.direct = true;
        self.run = 0;
    }

    /// A poll for input has told this.
    pub(super) fn note(&mut self, told: i32) {
        let is_error = told & i32::from(libc::POLLERR) != 0;
        self.readable = true;
        self.ending |= told & ENDING != 0;
        self.failed |= is_error;
    }

    /// A receive in the kernel has met the end, or failed. An error is told at once also where
    /// receiving is off.
    pub(super) fn met(&mut self, token: Token, end: End) -> Option<Event> {
        self.ended = true;
        match end {
            End::Failed(error) if self.tells_at_once() || !self.receiving => {
                Some(Event::Failed { token, error })
            }
            End::Ended if self.tells_at_once() => {
                self.receiving = false;
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
            && ((self.receiving && (self.holds() || (self.readable && self.receives_directly())))
                || (self.writable && (self.blocked || self.connecting))
                || (self.failed && !self.receiving && !self.connecting)
                || self.extra.as_ref().is_some_and(|extra| extra.send_error.is_some()))
    }

    /// While a receive is in the kernel, a call could come before bytes that it has taken.
    fn receives_directly(&self) -> bool {
        self.armed != Armed::Receive && !self.ended
    }

    /// What there is for the reactor, if anything.
    pub(super) fn next_event(&mut self, index: u32, receive: &mut [u8]) -> Option<Event> {
        let socket = self.socket.as_ref()?;
        let token = Token { index, generation: self.generation };
        if self.connecting {
            self.writable = false;
            let result = connect_result(&socket.as_socket())?;
            self.connecting = false;
            self.receiving = result.is_ok();
            return Some(Event::Connected { token, result });
        }
        if let Some(error) = self.extra.as_mut().and_then(|extra| extra.send_error.take()) {
            self.tidy();
            return Some(Event::SendFailed { token, error });
        }
        if self.blocked && self.writable {
            (self.blocked, self.writable) = (false, false);
            return Some(Event::Writable { token });
        }
        if self.receiving && self.holds() {
            return self.held(token, receive);
        }
        if self.readable && self.receiving && self.receives_directly() {
            return self.receive(token, receive);
        }
        if std::mem::take(&mut self.failed) && !self.receiving {
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
                self.readable = false;
                self.met(token, End::Ended)
            }
            Ok(length) => {
                // As for the readiness driver: see there.
                let trusted = is_tcp && !self.ending;
                self.readable = length == into.len() || !trusted;
                self.count(length >= super::buffers::BUFFER_BYTES);
                Some(Event::Received { token, buffer: Buffer { length } })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (self.readable, self.ending) = (false, false);
                None
            }
            Err(error) => {
                (self.readable, self.failed) = (false, false);
                self.met(token, End::Failed(error))
            }
        }
    }

    /// Whether this is a connected datagram socket that may have datagrams for the reactor, and
    /// nothing else before them.
    pub(super) fn receives_pieces(&self) -> bool {
        let is_other_first = self.connecting
            || (self.blocked && self.writable)
            || self.extra.as_ref().is_some_and(|extra| extra.send_error.is_some());
        matches!(self.socket, Some(Stream::Udp(_)))
            && self.readable
            && self.receiving
            && self.receives_directly()
            && !is_other_first
    }

    /// A connected datagram socket had nothing to be received, or is broken.
    pub(super) fn received_no_piece(&mut self, token: Token, error: io::Error) -> Option<Event> {
        self.readable = false;
        if error.kind() == io::ErrorKind::WouldBlock {
            return None;
        }
        self.failed = false;
        Some(Event::Failed { token, error })
    }

    /// Something may be held for it.
    pub(super) fn may_have_pieces(&mut self) {
        self.readable = true;
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
