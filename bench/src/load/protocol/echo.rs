//! Messages that the server sends back.

use tightloop::{Conn, Input};

use super::super::payload::{Pattern, Wrong};
use super::{Place, Protocol, Reply};

/// Each connection's messages are one stream of the pattern.
pub struct Echo {
    pattern: Pattern,
    size: usize,
}

impl Echo {
    /// Messages of `size` bytes.
    pub fn new(size: usize) -> Self {
        Echo { pattern: Pattern::new(size), size }
    }
}

impl Protocol for Echo {
    /// Bytes of the message that have come back.
    type Progress = usize;

    #[inline]
    fn write(&mut self, conn: &mut Conn<'_>, place: Place) {
        let offset = place.sequence.wrapping_mul(self.size as u64);
        self.pattern.write(conn, place.connection, offset, self.size);
    }

    #[inline]
    fn read(
        &mut self,
        progress: &mut usize,
        place: Place,
        input: &mut Input<'_>,
    ) -> Result<Reply, Wrong> {
        let offset = place.sequence.wrapping_mul(self.size as u64).wrapping_add(*progress as u64);
        let count = input.len().min(self.size - *progress);
        let got = input.take(count).unwrap_or_default(); // there are so many
        self.pattern.check(place.connection, offset, got)?;
        *progress += count;
        if *progress < self.size {
            return Ok(Reply::Partial);
        }
        *progress = 0;
        Ok(Reply::Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_in_pieces_is_checked_piece_by_piece() {
        let mut echo = Echo::new(64);
        let place = Place { connection: 3, sequence: 5 };
        let reply = echo.pattern.slice(3, 5 * 64, 64).to_vec();
        let mut progress = 0;
        for piece in [&reply[..1], &reply[1..40]] {
            let read = echo.read(&mut progress, place, &mut Input::new(piece));
            assert_eq!(read, Ok(Reply::Partial));
        }
        let read = echo.read(&mut progress, place, &mut Input::new(&reply[40..]));
        assert_eq!((read, progress), (Ok(Reply::Whole), 0));
        let again =
            echo.read(&mut progress, Place { sequence: 6, ..place }, &mut Input::new(&reply));
        assert!(again.is_err(), "the reply before, once more");
    }
}
