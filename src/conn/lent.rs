//! Output that is a stretch of the input just received: it is not copied, but sent from where it
//! lies, the loop's receive buffer.
//!
//! Echoes and proxies write what they read. [`Conn::write`](crate::Conn::write) notices that its
//! bytes lie within the buffer that the running callback was lent, and only notes the place; the
//! reactor gives it to the socket when the callback has returned, before the buffer is used
//! again, and copies what the socket does not take. Slices that follow each other in the input, as
//! the frames of a batch that is sent back one by one, become one stretch.
//!
//! INVARIANT: a stretch is noted only for a connection without other output, and whatever else is
//! written to that connection copies the stretch before it. So order needs no thought elsewhere. A
//! stretch lives from the `write` that notes it until `send_lent` returns, which calls `pre_write` in
//! between.

use crate::conn::Conn;
use crate::conn::core::Core;
use crate::conn::state::{ConnCore, Phase};
use crate::driver::Token;
use crate::error::CloseReason;

/// To another connection than the callback's own, fewer bytes are copied: they leave at the end
/// of the turn, in one system call with what others write to it.
pub(crate) const LENT_TO_PEER_MIN_BYTES: usize = 4096;

/// A stretch of the receive buffer that waits to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lent {
    pub(crate) token: Token,
    pub(crate) start: usize,
    /// Beyond `start`.
    pub(crate) end: usize,
}

impl Core {
    /// The length of the stretch that is noted for this connection.
    #[inline]
    pub(crate) fn lent_to(&self, token: Token) -> usize {
        self.lent.filter(|lent| lent.token == token).map_or(0, |lent| lent.end - lent.start)
    }

    /// Notes a stretch as a connection's output, or answers that it has to be copied.
    #[inline]
    fn lend(&mut self, token: Token, start: usize, end: usize) -> bool {
        let from = match self.lent {
            Some(lent) if lent.token == token && lent.end == start => lent.start,
            Some(_) => return false,
            None => start,
        };
        let is_own = self.current == Some(token.index);
        if !is_own && end - from < LENT_TO_PEER_MIN_BYTES {
            return false;
        }
        let Some(conn) = self.table.get_mut(token) else { return false };
        if !conn.may_be_lent_output() {
            return false;
        }
        self.lent = Some(Lent { token, start: from, end });
        if end - from > self.options.max_pending_output {
            conn.end(CloseReason::OutputLimit);
        }
        self.touch(token);
        true
    }
}

impl ConnCore {
    /// Whether output may leave straight from the receive buffer: nothing has to be sent before
    /// it, and nothing stands between the connection and its socket.
    pub(crate) fn may_be_lent_output(&self) -> bool {
        self.phase == Phase::Open
            && self.outbound.is_empty()
            && !(self.send_blocked | self.secured | self.want_tls | self.datagrams)
            && self.takes_output()
    }
}

impl Conn<'_> {
    /// Writes bytes without copying them, if they are a stretch of the input just received and
    /// nothing else is written before them.
    #[inline]
    pub(super) fn write_lent(&mut self, bytes: &[u8]) -> bool {
        // Where they lie is all that counts: there are no other bytes at the same place.
        let start = bytes.as_ptr().addr().wrapping_sub(self.received.as_ptr().addr());
        let lies_within = start < self.received.len() && bytes.len() <= self.received.len() - start;
        lies_within && !bytes.is_empty() && self.core.lend(self.token, start, start + bytes.len())
    }

    /// Copies the stretch that is noted for this connection: something else is to follow it.
    #[inline]
    pub(super) fn copy_lent(&mut self) {
        if let Some(Lent { start, end, .. }) =
            self.core.lent.take_if(|lent| lent.token == self.token)
        {
            // Written before a close that may have come since: it is not asked for leave again.
            let Core { table, pool, .. } = &mut *self.core;
            if let Some(conn) = table.get_mut(self.token) {
                conn.outbound.append(&self.received[start..end], pool);
            }
        }
    }
}
