//! Short byte strings without an allocation: keys, and the elements of hashes, lists and sets.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Bytes that fit into the string itself: with them it is 24 bytes long.
const INLINE_BYTES: usize = 22;

/// Bytes that do not change.
#[derive(Clone)]
pub enum Text {
    Inline(u8, [u8; INLINE_BYTES]),
    Heap(Box<[u8]>),
}

impl Text {
    /// Bytes it occupies besides itself.
    #[inline]
    pub fn heap(&self) -> usize {
        match self {
            Text::Inline(..) => 0,
            Text::Heap(bytes) => allocation(bytes.len()),
        }
    }
}

impl From<&[u8]> for Text {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        let mut inline = [0; INLINE_BYTES];
        match inline.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Text::Inline(bytes.len() as u8, inline)
            }
            None => Text::Heap(bytes.into()),
        }
    }
}

impl Deref for Text {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Text::Inline(length, bytes) => &bytes[..usize::from(*length).min(INLINE_BYTES)],
            Text::Heap(bytes) => bytes,
        }
    }
}

/// Whether two strings are the same. Those of eight to sixteen bytes, as most keys are, are compared
/// without a call.
#[inline]
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match (one.first_chunk::<8>(), one.last_chunk::<8>(), other.first_chunk(), other.last_chunk()) {
        (Some(a), Some(b), Some(c), Some(d)) if one.len() <= 16 => {
            (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*c))
                | (u64::from_ne_bytes(*b) ^ u64::from_ne_bytes(*d))
                == 0
        }
        _ => one == other,
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        self
    }
}

/// What an allocation of so many bytes takes from the system's allocator: a word of its own, and
/// the rest up to 16 bytes.
#[inline]
pub fn allocation(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ones_need_no_allocation_and_all_are_what_they_were_made_of() {
        assert_eq!(size_of::<Text>(), 24);
        for length in [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 1000] {
            let bytes = vec![b'x'; length];
            let text = Text::from(&bytes[..]);
            assert_eq!(*text, *bytes);
            assert_eq!(text.heap() == 0, length <= INLINE_BYTES);
        }
    }

    #[test]
    fn strings_are_compared_to_their_last_byte() {
        for length in 0..40 {
            let bytes = vec![b'x'; length];
            assert!(is_same(&bytes, &bytes.clone()));
            assert!(!is_same(&bytes, &vec![b'x'; length + 1]));
            for place in 0..length {
                let mut other = bytes.clone();
                other[place] = b'y';
                assert!(!is_same(&bytes, &other));
            }
        }
    }
}
