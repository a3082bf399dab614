//! Bodies that are collected, and what all of them of a loop may hold: while they come, and while
//! they wait to be sent back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::codec::Refusal;

/// What the bodies of a loop may hold; the limit of one body alone would allow every connection so
/// much.
const MAX_HELD_BYTES: usize = 256 << 20;

/// A body is collected in pieces, each as long as all before it, within these bounds. Pieces, as
/// each is free when the client has taken it: who takes all but the end holds little more than that.
const LEAST_PIECE_BYTES: usize = 4 << 10;
const MOST_PIECE_BYTES: usize = 64 << 10;

const TOO_MUCH: Refusal =
    Refusal { status: "503 Service Unavailable", reason: "too many bodies at a time" };

/// Bytes that the bodies of a loop occupy. Only the loop counts; but what is sent may be dropped
/// by any thread, as far as its type knows.
#[derive(Default, Clone)]
pub struct Held(Arc<AtomicUsize>);

/// The body so far.
pub struct Collected {
    pieces: Vec<Piece>,
    length: usize,
    held: Held,
}

/// Memory that counts until it is dropped.
struct Piece {
    bytes: Vec<u8>,
    held: Held,
}

impl Held {
    fn piece(&self, capacity: usize) -> Result<Piece, Refusal> {
        let held = self.0.load(Ordering::Relaxed);
        if held + capacity > MAX_HELD_BYTES {
            return Err(TOO_MUCH);
        }
        let bytes = Vec::with_capacity(capacity);
        self.0.fetch_add(bytes.capacity(), Ordering::Relaxed);
        Ok(Piece { bytes, held: self.clone() })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.bytes.capacity(), Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Collected {
    pub fn new(held: &Held) -> Self {
        Collected { pieces: Vec::new(), length: 0, held: held.clone() }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn add(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            let spare = self.pieces.last().map_or(0, |p| p.bytes.capacity() - p.bytes.len());
            if spare == 0 {
                let capacity = self.length.clamp(LEAST_PIECE_BYTES, MOST_PIECE_BYTES);
                self.pieces.push(self.held.piece(capacity)?);
                continue;
            }
            let (now, later) = bytes.split_at(spare.min(bytes.len()));
            if let Some(piece) = self.pieces.last_mut() {
                piece.bytes.extend_from_slice(now);
            }
            self.length += now.len();
            bytes = later;
        }
        Ok(())
    }

    /// The body, piece by piece. What each holds counts until it is dropped.
    pub fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        self.pieces.into_iter().map(Bytes::from_owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_out_as_it_went_in() {
        let held = Held::default();
        for step in [1, 7, 4096, 100_000] {
            let body: Vec<u8> = (0..200_001).map(|at| (at % 251) as u8).collect();
            let mut collected = Collected::new(&held);
            body.chunks(step).for_each(|part| assert_eq!(collected.add(part), Ok(())));
            assert_eq!(collected.len(), body.len());
            let occupied = held.0.load(Ordering::Relaxed);
            assert!(occupied - body.len() < MOST_PIECE_BYTES, "{occupied}");
            let pieces: Vec<Bytes> = collected.into_pieces().collect();
            assert_eq!(pieces.concat(), body);
            assert_eq!(held.0.load(Ordering::Relaxed), occupied, "it is not sent yet");
            drop(pieces);
            assert_eq!(held.0.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn what_bodies_hold_is_bounded_and_given_back() {
        let held = Held::default();
        held.0.store(MAX_HELD_BYTES - 2 * LEAST_PIECE_BYTES, Ordering::Relaxed);
        let (mut one, mut other) = (Collected::new(&held), Collected::new(&held));
        assert_eq!(one.add(b"12345"), Ok(()));
        assert_eq!(other.add(b"12345"), Ok(()));
        assert_eq!(one.add(&[0; LEAST_PIECE_BYTES]), Err(TOO_MUCH), "memory counts, not length");
        let sent: Vec<Bytes> = other.into_pieces().collect();
        assert_eq!(one.add(b"x"), Err(TOO_MUCH), "nobody has taken it");
        drop(sent);
        assert_eq!(one.add(b"x"), Ok(()));
        drop(one);
        assert_eq!(held.0.load(Ordering::Relaxed), MAX_HELD_BYTES - 2 * LEAST_PIECE_BYTES);
    }
}
