//! One stream of the readiness driver: what the poller has told of it, turned into events.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use mio::Interest;
use mio::event::Event as Readiness;

use crate::buf::outbound::Outbound;
use crate::driver::ready::Place;
use crate::driver::ready::socket::ReadyStream;
use crate::driver::{Event, Sent, Token};

/// Slices given to one vectored send; the kernel's own limit is 1,024, and past some tens a
/// longer vector gains nothing.
const SLICES_PER_SEND: usize = 64;

/// Whether a receive that does not fill the buffer can have emptied a TCP socket; see the
/// driver's head.
const SHORT_RECEIVE_EMPTIES: bool = cfg!(unix);

/// Whether the poller's word is all that is known of a reset: Windows may have no error to ask for,
/// and reports one as the end of both directions.
const RESET_IS_TOLD: bool = cfg!(windows);

/// What a stream is registered for, once.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) const INTEREST: Interest =
    Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// What is known of one stream.
#[derive(Debug, Default)]
pub(super) struct StreamEntry {
    /// `None` while the index is free.
    pub(super) socket: Option<ReadyStream>,
    pub(super) generation: u32,
    /// Has a place in the driver's queue.
    pub(super) queued: bool,
    /// The reactor wants bytes.
    pub(super) receiving: bool,
    /// A connect is under way.
    connecting: bool,
    /// There may be something to receive.
    pub(super) readable: bool,
    /// The end, an error or urgent data was reported: receive until nothing is left, short or not.
    pub(super) ending: bool,
    /// A send came back blocked.
    pub(super) blocked: bool,
    /// The socket may take more, since the last send that was blocked.
    pub(super) writable: bool,
    /// An error was reported.
    pub(super) failed: bool,
    /// What arrives may be moved to another stream: the reactor is asked before it is received.
    pub(super) moves: bool,
    /// It was moved a pipe's content that its socket has not taken yet.
    pub(super) owes: bool,
}

impl StreamEntry {
    pub(super) fn new(socket: ReadyStream, generation: u32, connecting: bool) -> Self {
        let receiving = !connecting;
        let socket = Some(socket);
        StreamEntry { socket, generation, connecting, receiving, ..StreamEntry::default() }
    }

    /// Remembers what the poller has reported.
    #[inline]
    pub(super) fn note(&mut self, event: &Readiness) {
        let ending = event.is_read_closed() || event.is_error() || event.is_priority();
        self.readable |= event.is_readable() || ending;
        self.ending |= ending;
        self.writable |= event.is_writable() || event.is_error();
        self.failed |= event.is_error() || (RESET_IS_TOLD && event.is_write_closed());
    }

    /// Whether the reactor may have something to learn without a further report.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        self.socket.is_some()
            && ((self.readable && self.receiving)
                || (self.writable && self.blocked)
                || (self.failed && !self.receiving && !self.connecting))
    }

    /// Whether receiving bytes is what comes next.
    #[inline(always)] // Once a message.
    pub(super) fn receives_bytes(&self) -> bool {
        self.readable & self.receiving
            && !(self.connecting | self.blocked & self.writable | self.moves)
            && self.socket.as_ref().is_some_and(|socket| socket.udp().is_none())
    }

    /// Valid if that is so. What has come of it, if not bytes, is told by `received_none`.
    #[inline(always)] // Once a message.
    pub(super) fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(socket) = self.socket.as_ref() else { return Ok(0) };
        let length = loop {
            match socket.receive(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        let trusted = SHORT_RECEIVE_EMPTIES && socket.is_tcp() && !self.ending;
        self.readable = length == into.len() || !trusted;
        Ok(length)
    }

    /// The end of the stream, or an error.
    #[inline(never)]
    pub(super) fn received_none(
        &mut self,
        token: Token,
        result: io::Result<usize>,
    ) -> Option<Event> {
        self.readable = false;
        match result {
            // Wine takes the error from the socket, and a receive finds the end.
            Ok(_) if RESET_IS_TOLD && self.failed => {
                self.failed = false;
                let error = io::ErrorKind::ConnectionReset.into();
                Some(Event::Failed { token, error })
            }
            Ok(_) => {
                self.receiving = false;
                Some(Event::Ended { token })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ending = false;
                None
            }
            Err(error) => {
                self.failed = false;
                Some(Event::Failed { token, error })
            }
        }
    }

    /// What else than bytes there is for the reactor, if anything.
    #[inline(never)]
    pub(super) fn other_event(&mut self, token: Token) -> Option<Event> {
        let socket = self.socket.as_ref()?;
        if self.connecting {
            let result = socket.connect_result()?;
            self.connecting = false;
            self.receiving = result.is_ok();
            return Some(Event::Connected { token, result });
        }
        if self.blocked && self.writable {
            self.blocked = false;
            return Some(Event::Writable { token });
        }
        if self.moves && self.readable && self.receiving {
            return Some(Event::Movable { token });
        }
        if std::mem::take(&mut self.failed) && !self.receiving {
            let reset = RESET_IS_TOLD && socket.is_tcp();
            let error = match socket.as_socket().take_error().ok().flatten() {
                None if reset => io::ErrorKind::ConnectionReset.into(),
                error => error?,
            };
            return Some(Event::Failed { token, error });
        }
        None
    }

    /// Whether receiving datagrams is what comes next.
    #[inline]
    pub(super) fn receives_pieces(&self) -> bool {
        self.readable & self.receiving
            && !(self.connecting | self.blocked & self.writable)
            && self.socket.as_ref().is_some_and(|socket| socket.udp().is_some())
    }

    /// Gives the socket what it takes.
    #[inline(always)] // Once a message.
    pub(super) fn send(&mut self, output: &Outbound, limit: usize) -> io::Result<Sent> {
        if output.chunks() == 1 {
            let first = output.first();
            return self.send_slice(&first[..first.len().min(limit)]);
        }
        let Some(socket) = self.socket.as_ref() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let result = send_slices(socket, output, limit);
        self.sent(result)
    }

    /// Gives the socket what it takes of one slice.
    #[inline(always)] // Once a message.
    pub(super) fn send_slice(&mut self, bytes: &[u8]) -> io::Result<Sent> {
        let Some(socket) = self.socket.as_ref() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let result = loop {
            match socket.send(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.sent(result)
    }

    #[inline]
    pub(super) fn sent(&mut self, result: io::Result<usize>) -> io::Result<Sent> {
        match result {
            Ok(bytes) => Ok(Sent { bytes, blocked: false }),
            Err(error) => self.send_failed(error),
        }
    }

    #[inline(never)]
    pub(super) fn send_failed(&mut self, error: io::Error) -> io::Result<Sent> {
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
        self.blocked = true;
        self.writable = false;
        Ok(Sent { bytes: 0, blocked: true })
    }
}

/// Puts a stream that may have more at the queue's end.
#[inline]
pub(super) fn requeue(entry: &mut StreamEntry, index: u32, queue: &mut VecDeque<Place>) {
    if entry.has_more() && !entry.queued {
        entry.queued = true;
        queue.push_back(Place::Stream(index));
    }
}

/// Gives the socket what it takes of several chunks.
#[inline(never)] // The slices take a KiB of stack.
fn send_slices(socket: &ReadyStream, output: &Outbound, limit: usize) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES_PER_SEND];
    let filled = match socket.udp() {
        Some(_) => output.first_slices(limit, &mut slices),
        None => output.slices(&mut slices),
    };
    retry(|| socket.send_vectored(&slices[..filled]))
}

/// Repeats a call that a signal interrupted.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
