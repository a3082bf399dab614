//! Messages that the server sends back.

use tightloop::{Conn, Input};

use super::super::payload::{Pattern, Wrong};
use super::{Place, Protocol, Replies};

/// Most bytes that are written and checked at a time, unless a single message has more.
const BATCH: usize = 16 << 10;

/// Each connection's messages are one stream of the pattern: several are one piece of it, to be
/// written and checked at once.
pub struct Echo {
    pattern: Pattern,
    size: usize,
    /// The longest piece.
    reach: usize,
}

impl Echo {
    /// Messages of `size` bytes, `pipeline` of them under way on a connection.
    pub fn new(size: usize, pipeline: usize) -> Self {
        let reach = (size * pipeline).min(BATCH).max(size);
        Echo { pattern: Pattern::new(reach), size, reach }
    }
}

impl Protocol for Echo {
    /// Bytes of the message that have come back.
    type Progress = usize;

    #[inline]
    fn write(&mut self, conn: &mut Conn<'_>, first: Place, count: usize) {
        let mut offset = first.sequence.wrapping_mul(self.size as u64);
        let mut left = count * self.size;
        while left > 0 {
            let length = left.min(self.reach);
            self.pattern.write(conn, first.connection, offset, length);
            offset = offset.wrapping_add(length as u64);
            left -= length;
        }
    }

    #[inline]
    fn read(
        &mut self,
        progress: &mut usize,
        first: Place,
        most: usize,
        input: &mut Input<'_>,
    ) -> Result<Replies, Wrong> {
        let start = first.sequence.wrapping_mul(self.size as u64);
        let mut came = *progress;
        let end = most * self.size;
        while came < end && !input.is_empty() {
            let length = input.len().min(end - came).min(self.reach);
            let got = input.take(length).unwrap_or_default(); // there are so many
            self.pattern.check(first.connection, start.wrapping_add(came as u64), got)?;
            came += length;
        }
        *progress = came % self.size;
        Ok(Replies { whole: came / self.size, is_last: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { connection: 3, sequence: 5 };

    #[test]
    fn a_reply_in_pieces_is_checked_piece_by_piece() {
        let mut echo = Echo::new(64, 1);
        let reply = echo.pattern.slice(3, 5 * 64, 64).to_vec();
        let mut progress = 0;
        for piece in [&reply[..1], &reply[1..40]] {
            let read = echo.read(&mut progress, PLACE, 1, &mut Input::new(piece));
            assert_eq!(read, Ok(Replies::NONE));
        }
        let read = echo.read(&mut progress, PLACE, 1, &mut Input::new(&reply[40..]));
        assert_eq!((read, progress), (Ok(Replies::ONE), 0));
        let next = Place { sequence: 6, ..PLACE };
        let again = echo.read(&mut progress, next, 1, &mut Input::new(&reply));
        assert!(again.is_err(), "the reply before, once more");
    }

    #[test]
    fn several_replies_are_read_at_once_but_no_more_than_there_may_be() {
        let mut echo = Echo::new(60, 1000);
        let bytes = echo.pattern.slice(3, 5 * 60, 250).to_vec();
        for (most, whole, left) in [(10, 4, 0), (3, 3, 70)] {
            let (mut progress, mut input) = (0, Input::new(&bytes));
            let read = echo.read(&mut progress, PLACE, most, &mut input);
            assert_eq!(read, Ok(Replies { whole, is_last: false }));
            assert_eq!((input.len(), progress), (left, if left == 0 { 10 } else { 0 }));
        }
    }
}
