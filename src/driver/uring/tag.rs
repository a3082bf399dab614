//! What an operation is called while it is in the kernel: 64 bits that come back with each of its
//! completions.
//!
//! ```text
//!   63    60 59                    30 29                     0
//!   | kind | epoch                   | index                 |     all but sends
//!   | kind | offset (16) length (14) | index                 |     sends
//! ```
//! An index is used again; its epoch counts the uses, and is the driver's own: the reactor gives
//! one token to two streams, one behind the other, where it renames. It returns after a thousand
//! million uses of one index, and no operation outlives that many.

const EPOCH_SHIFT: u32 = 30;
const KIND_SHIFT: u32 = 60;
const LOW_BITS: u64 = (1 << EPOCH_SHIFT) - 1;
const LENGTH_BITS: u32 = 14;

/// The longest send that a tag can name.
pub(super) const MAX_SEND: usize = (1 << LENGTH_BITS) - 1;

/// Where the sends that tags can name may lie.
pub(super) const MAX_OFFSET: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A receive into provided buffers, of a stream.
    Receive,
    /// A poll for input, and for whatever ends a stream.
    Readable,
    /// A poll for room, or for the end of a connect.
    Writable,
    /// A send of a stream.
    Send,
    /// The cancelling of another operation.
    Cancel,
    /// A poll of what other threads ring.
    Woken,
    /// An accept of a listener; see `accepts.rs` for its index.
    Accept,
    /// A poll of a listener.
    Listener,
    /// A poll for datagrams.
    Datagram,
    /// A poll for room for datagrams.
    DatagramWritable,
    /// The timer of the look for idle streams.
    Idle,
}

const KINDS: [Kind; 11] = [
    Kind::Receive,
    Kind::Readable,
    Kind::Writable,
    Kind::Send,
    Kind::Cancel,
    Kind::Woken,
    Kind::Accept,
    Kind::Listener,
    Kind::Datagram,
    Kind::DatagramWritable,
    Kind::Idle,
];

/// The name of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(pub(super) u64);

impl Tag {
    #[inline]
    pub(super) fn new(kind: Kind, index: u32, epoch: u32) -> Self {
        let epoch = u64::from(epoch) & LOW_BITS;
        Tag((kind as u64) << KIND_SHIFT | epoch << EPOCH_SHIFT | u64::from(index) & LOW_BITS)
    }

    /// A send of the `length` bytes at `offset`.
    #[inline]
    pub(super) fn send(index: u32, offset: usize, length: usize) -> Self {
        debug_assert!(offset < MAX_OFFSET && length <= MAX_SEND);
        Tag::new(Kind::Send, index, (offset << LENGTH_BITS | length) as u32)
    }

    #[inline]
    pub(super) fn kind(self) -> Option<Kind> {
        KINDS.get((self.0 >> KIND_SHIFT) as usize).copied()
    }

    #[inline]
    pub(super) fn index(self) -> u32 {
        (self.0 & LOW_BITS) as u32
    }

    /// The epoch, of its bits as many as are kept.
    #[inline]
    pub(super) fn epoch(self) -> u32 {
        (self.0 >> EPOCH_SHIFT & LOW_BITS) as u32
    }

    #[inline]
    pub(super) fn is_send(self) -> bool {
        self.0 >> KIND_SHIFT == Kind::Send as u64
    }

    /// Where the bytes of a send begin and end.
    pub(super) fn sent(self) -> (usize, usize) {
        let place = self.epoch() as usize;
        let offset = place >> LENGTH_BITS;
        (offset, offset + (place & MAX_SEND))
    }
}

/// The epoch that follows.
#[inline]
pub(super) fn next_epoch(epoch: u32) -> u32 {
    epoch.wrapping_add(1) & LOW_BITS as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let most = (1 << 30) - 1;
        for kind in KINDS {
            for (index, epoch) in [(0, 0), (most, 0), (0, most), (7, 9), (most, most)] {
                let tag = Tag::new(kind, index, epoch);
                assert_eq!((tag.kind(), tag.index(), tag.epoch()), (Some(kind), index, epoch));
                assert_eq!(tag.is_send(), kind == Kind::Send);
            }
        }
        for (offset, length) in [(0, 1), (MAX_OFFSET - 1, MAX_SEND), (4096, 64)] {
            let tag = Tag::send(most, offset, length);
            assert_eq!((tag.index(), tag.sent()), (most, (offset, offset + length)));
            assert!(tag.is_send());
        }
    }

    #[test]
    fn epochs_wrap_where_tags_do() {
        assert_eq!(next_epoch(LOW_BITS as u32), 0);
        assert_eq!(next_epoch(0), 1);
    }
}
