//! Moves bytes from one stream to another through a pipe, within the kernel.
//!
//! One pipe serves all streams, one after the other, as long as each target takes all that its source
//! had. What a target did not take stays in the pipe, which is that target's until it has: its stream
//! `owes`, and its send counts as blocked. So a slow target costs a pipe, and a quick one nothing; of
//! slow ones there are so many at a time, as what lies in pipes is nobody's to count.

use std::collections::HashMap;
use std::io;

use crate::driver::ready::Ready;
use crate::driver::ready::stream::{StreamEntry, requeue};
use crate::driver::{BYTES_PER_PLACE, Event, Moved, Token};
use crate::sys::pipe::Pipe;

/// Pipes that are kept for the next.
const SPARE_PIPES: usize = 4;

/// Streams that may owe at a time. A pipe costs two descriptors, which are then not there for
/// connections, and holds up to a megabyte. Whose targets are slow beyond these is received from, and
/// what comes of that counts for limits and the memory budget.
const MOST_OWED: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Pipes {
    /// Empty.
    spare: Vec<Pipe>,
    /// With what the stream of this index owes.
    owed: HashMap<u32, Owed>,
    /// The system moves no bytes like this.
    unable: bool,
}

#[derive(Debug)]
struct Owed {
    pipe: Pipe,
    bytes: usize,
}

impl Pipes {
    fn take(&mut self) -> Option<Pipe> {
        if self.unable || self.owed.len() >= MOST_OWED {
            return None;
        }
        if let Some(pipe) = self.spare.pop() {
            return Some(pipe);
        }
        let made = Pipe::new();
        // Without descriptors there may be some another time.
        self.unable = made.as_ref().is_err_and(is_unable);
        made.ok()
    }

    fn give_back(&mut self, pipe: Pipe) {
        if self.spare.len() < SPARE_PIPES {
            self.spare.push(pipe);
        }
    }

    /// Bytes that a stream still has to send.
    pub(super) fn owed(&self, index: u32) -> usize {
        self.owed.get(&index).map_or(0, |owed| owed.bytes)
    }

    /// The stream is gone, and with it what it owed.
    pub(super) fn forget(&mut self, index: u32) {
        self.owed.remove(&index);
    }
}

/// Whether the system, or who watches over it, does not do this at all.
fn is_unable(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), Unsupported | InvalidInput | PermissionDenied)
}

impl Ready {
    pub(super) fn set_stream_moving(&mut self, token: Token, on: bool) {
        let on = on && !self.pipes.unable;
        let Self { streams, queue, .. } = self;
        let entry = streams.get_mut(token.index);
        let Some(entry) = entry.filter(|e| e.generation == token.generation) else { return };
        entry.moves = on && entry.socket.as_ref().is_some_and(|socket| socket.is_tcp());
        requeue(entry, token.index, queue);
    }

    pub(super) fn move_between(&mut self, from: Token, to: Token, most: usize) -> Moved {
        let Some(pipe) = self.pipes.take() else { return Moved::Unable };
        match self.fill(&pipe, from, most) {
            // The end, or the mark of urgent data with the end somewhere behind it: a receive can tell.
            Ok(0) => {
                self.pipes.give_back(pipe);
                Moved::Unable
            }
            Ok(bytes) => {
                self.spare = self.spare.saturating_sub(bytes / BYTES_PER_PLACE);
                self.drain_into(pipe, bytes, to)
            }
            Err(error) => {
                self.pipes.give_back(pipe);
                self.fill_failed(from, error)
            }
        }
    }

    fn fill(&self, pipe: &Pipe, from: Token, most: usize) -> io::Result<usize> {
        match self.stream(from).and_then(|entry| entry.socket.as_ref()) {
            Some(socket) => pipe.fill(&socket.as_socket(), most),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn fill_failed(&mut self, from: Token, error: io::Error) -> Moved {
        if is_unable(&error) {
            self.pipes.unable = true;
            return Moved::Unable;
        }
        let Some(entry) = self.stream_mut(from) else { return Moved::Nothing };
        if error.kind() != io::ErrorKind::WouldBlock {
            (entry.readable, entry.failed) = (false, false);
            return Moved::Failed(error);
        }
        // At the mark of urgent data the kernel moves nothing, and a receive goes on behind it.
        if entry.ending {
            return Moved::Unable;
        }
        entry.readable = false;
        Moved::Nothing
    }

    /// Sends what is in the pipe. What is not taken stays there, for the target.
    fn drain_into(&mut self, pipe: Pipe, bytes: usize, to: Token) -> Moved {
        let Some(entry) = self.stream_mut(to) else {
            return Moved::Refused { bytes, error: io::ErrorKind::NotConnected.into() };
        };
        let mut left = bytes;
        match drain(entry, &pipe, &mut left) {
            Err(error) => Moved::Refused { bytes, error },
            Ok(()) if left == 0 => {
                self.pipes.give_back(pipe);
                Moved::Bytes { bytes, blocked: false }
            }
            Ok(()) => {
                entry.owes = true;
                self.pipes.owed.insert(to.index, Owed { pipe, bytes: left });
                Moved::Bytes { bytes, blocked: true }
            }
        }
    }

    /// The socket of a stream that owes takes more.
    pub(super) fn go_on_draining(&mut self, token: Token) -> Option<Event> {
        let entry = self.streams.get_mut(token.index)?;
        let Some(mut owed) = self.pipes.owed.remove(&token.index) else {
            entry.owes = false;
            return None;
        };
        match drain(entry, &owed.pipe, &mut owed.bytes) {
            Ok(()) if owed.bytes == 0 => {
                (entry.owes, entry.blocked) = (false, false);
                self.pipes.give_back(owed.pipe);
                Some(Event::Writable { token })
            }
            Ok(()) => {
                self.pipes.owed.insert(token.index, owed);
                None
            }
            Err(error) => {
                (entry.owes, entry.blocked) = (false, false);
                Some(Event::SendFailed { token, error })
            }
        }
    }
}

/// Sends the pipe's `left` bytes until all of them have left or the stream is blocked.
fn drain(entry: &mut StreamEntry, pipe: &Pipe, left: &mut usize) -> io::Result<()> {
    while *left > 0 {
        let Some(socket) = entry.socket.as_ref() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let result = pipe.drain(&socket.as_socket(), *left);
        let sent = entry.sent(result)?;
        *left -= sent.bytes;
        if sent.blocked {
            break;
        }
        if sent.bytes == 0 {
            // It never does; to ask for ever would be worse than an error.
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_pipes_are_with_slow_targets() {
        let mut pipes = Pipes::default();
        for index in 0..MOST_OWED as u32 {
            let pipe = pipes.take().unwrap();
            pipes.owed.insert(index, Owed { pipe, bytes: 1 });
        }
        assert!(pipes.take().is_none() && !pipes.unable);
        pipes.forget(3);
        assert!(pipes.take().is_some());
    }
}
