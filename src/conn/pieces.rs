//! Output in pieces: on a datagram connection each write is one datagram. The bytes lie in
//! `outbound` as those of any other connection, so that marks and limits count them; here is where
//! one piece ends and the next begins.

use std::collections::VecDeque;

use crate::conn::state::ConnCore;

/// As many as leave by one call, and a common size of the system's send buffer's half.
const MANY: usize = 32;
const MANY_BYTES: usize = 64 << 10;

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

    /// The lengths of the next pieces to be sent; answers how many there are of them.
    pub(crate) fn first_pieces(&self, into: &mut [usize]) -> usize {
        let Some(pieces) = self.extra.as_ref().and_then(|extra| extra.pieces.as_ref()) else {
            return 0;
        };
        let lengths = pieces.lengths.iter();
        lengths.zip(into.iter_mut()).map(|(length, place)| *place = *length).count()
    }

    /// Whether so many pieces or bytes wait that nothing is gained by waiting for more.
    pub(crate) fn has_many_pieces(&self) -> bool {
        let pieces = self.extra.as_ref().and_then(|extra| extra.pieces.as_ref());
        pieces.is_some_and(|pieces| pieces.lengths.len() >= MANY || pieces.bytes >= MANY_BYTES)
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
