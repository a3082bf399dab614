//! The end of a stream. Operations hold its socket open: they are cancelled first, and the
//! descriptor is closed when the last of them has ended, so that the peer learns of it then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::{CancelBuilder, Fd};

use crate::driver::uring::Uring;
use crate::driver::uring::ring::{Completion, Ring, Wait};
use crate::driver::uring::tag::{Kind, Tag};
use crate::driver::{CloseMode, Token};
use crate::sys::socket::Stream;

/// How long the end of the driver waits for the operations that it has cancelled. They end at
/// once; this is for a kernel that is in trouble.
const PATIENCE: Duration = Duration::from_secs(1);

/// Streams that are gone for the reactor, each with the number of its operations, by what their
/// tags say.
#[derive(Default)]
pub(super) struct Closing {
    sockets: HashMap<(u32, u32), (Stream, u8)>,
}

impl Uring {
    pub(super) fn close_stream(&mut self, token: Token, mode: CloseMode) {
        if self.stream(token).is_none() {
            return;
        }
        self.leave_before_close(token);
        let Self { streams, ring, closing, datagrams, .. } = self;
        let Some(entry) = streams.get_mut(token.index) else { return };
        // What the socket has not taken is lost, and the peer should know.
        let aborts = mode == CloseMode::Abort || entry.has_unsent();
        let operations = Self::cancel_all(ring, token.index, entry);
        let place = (token.index, entry.epoch);
        let Some(socket) = entry.end() else { return };
        if let Stream::Udp(_) = socket {
            datagrams.forget_pieces(token);
        }
        if aborts && let Err(error) = socket.as_socket().set_linger(Some(Duration::ZERO)) {
            // A Unix socket has no reset; one that is gone already needs none.
            log::debug!("closing without a reset: {error}");
        }
        if operations > 0 {
            closing.sockets.insert(place, (socket, operations));
        } else {
            close_in_ring(ring, socket);
        }
    }

    /// An operation of a stream that is gone has told something: if that was its last word, and it
    /// was the last operation, its socket is closed.
    pub(super) fn operation_ended(&mut self, completion: Completion) {
        if completion.has_more() {
            return;
        }
        let place = (completion.tag.index(), completion.tag.epoch());
        let Some((_, operations)) = self.closing.sockets.get_mut(&place) else { return };
        *operations -= 1;
        if *operations == 0
            && let Some((socket, _)) = self.closing.sockets.remove(&place)
        {
            close_in_ring(&mut self.ring, socket);
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
    /// Cancels whatever is left and waits for its end, so that no socket outlives the driver: its
    /// port can be used again at once.
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let name = Tag::new(Kind::Cancel, 0, 0);
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(name.0);
        // SAFETY: it points to nothing.
        if let Err(error) = unsafe { self.ring.push(&entry) } {
            log::debug!("operations end with their ring: {error}");
            return;
        }
        // Its own completion comes behind those of all that it has found.
        while Instant::now() < deadline {
            if self.ring.enter(Wait::For(Some(PATIENCE))).is_err() {
                return;
            }
            while let Some(completion) = self.ring.next() {
                Self::refuse_unopened(&completion);
                if completion.tag == name {
                    return;
                }
            }
        }
    }
}
