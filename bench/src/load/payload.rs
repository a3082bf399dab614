//! What is sent: bytes that depend on the connection and on the place in its stream, so that lost,
//! doubled, reordered and foreign bytes are noticed; and cheap: a message is a slice of one pattern.

use bytes::Bytes;
use tightloop::Conn;

/// After so many bytes the pattern begins again: a prime, so that no round number of messages looks
/// like none, and small enough for the first cache.
const PERIOD: u64 = 8191;
/// Neighbours among the connections begin far apart. All connections up to the period begin at
/// places of their own.
const STRIDE: u64 = 1031;
/// From here on the pattern is shared with the output instead of copied.
const SHARED_FROM: usize = 4096;
/// Bytes shown of what was expected and what came.
const SHOWN: usize = 8;

/// The pattern, with room for messages up to a certain length.
#[derive(Debug, Clone)]
pub struct Pattern {
    bytes: Bytes,
}

/// A reply that is not what it should be.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub what: String,
}

impl Pattern {
    /// For messages of at most `length` bytes.
    pub fn new(length: usize) -> Self {
        let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let mut bytes: Vec<u8> = std::iter::successors(Some(1), next)
            .map(|state: u32| (state >> 24) as u8)
            .take(PERIOD as usize)
            .collect();
        // The period once more, as often as the longest message that begins at its end needs it.
        let whole = PERIOD as usize + length;
        while bytes.len() < whole {
            let more = (whole - bytes.len()).min(PERIOD as usize);
            bytes.extend_from_within(..more);
        }
        Pattern { bytes: Bytes::from(bytes) }
    }

    /// `length` bytes of the stream of `connection` from `offset` on.
    #[inline]
    pub fn slice(&self, connection: u64, offset: u64, length: usize) -> &[u8] {
        let start = start_of(connection, offset);
        &self.bytes[start..start + length]
    }

    /// Writes them.
    #[inline]
    pub fn write(&self, conn: &mut Conn<'_>, connection: u64, offset: u64, length: usize) {
        if length < SHARED_FROM {
            conn.write(self.slice(connection, offset, length));
        } else {
            let start = start_of(connection, offset);
            conn.write_bytes(self.bytes.slice(start..start + length));
        }
    }

    /// Whether `got` is what the stream of `connection` has at `offset`.
    #[inline]
    pub fn check(&self, connection: u64, offset: u64, got: &[u8]) -> Result<(), Wrong> {
        let expected = self.slice(connection, offset, got.len());
        if got == expected { Ok(()) } else { Err(difference(offset, expected, got)) }
    }
}

#[inline]
fn start_of(connection: u64, offset: u64) -> usize {
    (connection.wrapping_mul(STRIDE).wrapping_add(offset) % PERIOD) as usize
}

/// Says where two strings part; `offset` is where both begin.
#[cold]
pub fn difference(offset: u64, expected: &[u8], got: &[u8]) -> Wrong {
    let same = expected.iter().zip(got).take_while(|(expected, got)| expected == got).count();
    let shown = |bytes: &[u8]| {
        let hex: Vec<String> =
            bytes[same..].iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
        if hex.is_empty() { "nothing".to_owned() } else { hex.join(" ") }
    };
    let at = offset + same as u64;
    Wrong { what: format!("at byte {at}: expected {}, got {}", shown(expected), shown(got)) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_message_in_another_ones_place_is_noticed() {
        let pattern = Pattern::new(64);
        let message = |connection, sequence: u64| pattern.slice(connection, sequence * 64, 64);
        let of_one: HashSet<&[u8]> = (0..PERIOD).map(|sequence| message(3, sequence)).collect();
        assert_eq!(of_one.len() as u64, PERIOD, "the messages of a connection");
        let of_all: HashSet<&[u8]> = (0..PERIOD).map(|connection| message(connection, 5)).collect();
        assert_eq!(of_all.len() as u64, PERIOD, "messages of the same number");
    }

    #[test]
    fn messages_longer_than_the_period_are_slices_too() {
        let pattern = Pattern::new(100_000);
        let whole = pattern.slice(7, 12_345, 100_000).to_vec();
        assert_eq!(pattern.slice(7, 12_345 + 60_000, 40_000), &whole[60_000..]);
    }

    #[test]
    fn the_first_difference_is_told() {
        let pattern = Pattern::new(16);
        let mut bytes = pattern.slice(1, 100, 16).to_vec();
        assert_eq!(pattern.check(1, 100, &bytes), Ok(()));
        bytes[5] ^= 0xff;
        let wrong = pattern.check(1, 100, &bytes).unwrap_err();
        assert!(wrong.what.starts_with("at byte 105: expected "), "{}", wrong.what);
    }
}
