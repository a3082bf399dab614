//! Output in pieces: on a datagram connection each write is one datagram. The bytes lie in
//! `outbound` as those of any other connection, so that marks and limits count them; here is where
//! one piece ends and the next begins.

use std::collections::VecDeque;

use crate::conn::state::ConnCore;

/// The lengths of the pieces that lie in `outbound`, in order. What lies there beyond `bytes`, their
/// sum, is a piece that has not ended.
#[derive(Default)]
pub(crate) struct Pieces {
    lengths: VecDeque<usize>,
    bytes: usize,
}

impl ConnCore {
    /// What was appended since the last piece is one; nothing is none.
    pub(crate) fn end_piece(&mut self) {
        let total = self.outbound.len();
        let pieces = self.extra_mut().pieces.get_or_insert_default();
        if total > pieces.bytes {
            pieces.lengths.push_back(total - pieces.bytes);
            pieces.bytes = total;
        }
    }

    /// The length of the next piece to be sent.
    pub(crate) fn first_piece(&self) -> Option<usize> {
        self.extra.as_ref()?.pieces.as_ref()?.lengths.front().copied()
    }

    /// The next piece is about to leave `outbound`.
    pub(crate) fn forget_first_piece(&mut self) {
        let pieces = self.extra.as_mut().and_then(|extra| extra.pieces.as_mut());
        if let Some(pieces) = pieces
            && let Some(length) = pieces.lengths.pop_front()
        {
            pieces.bytes -= length;
        }
    }
}
