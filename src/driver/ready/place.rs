//! How a socket is named towards the poller, and in the driver's queue.

use crate::driver::MAX_STREAMS;

/// Where a socket is found: two bits for its kind, the rest its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Stream(u32),
    Listener(u32),
    Datagram(u32),
    Waker,
}

impl Place {
    pub(super) fn pack(self, generation: u32) -> mio::Token {
        let low = match self {
            Place::Stream(index) => index,
            Place::Listener(index) => MAX_STREAMS | index,
            Place::Datagram(index) => (2 << 30) | index,
            Place::Waker => 3 << 30,
        };
        // Where usize has 32 bits the generation falls away; a late event then finds a younger
        // stream, whose receive answers WouldBlock.
        mio::Token(((u64::from(generation) << 32) | u64::from(low)) as usize)
    }

    pub(super) fn unpack(token: mio::Token) -> (Self, Option<u32>) {
        let low = token.0 as u32;
        let index = low & (MAX_STREAMS - 1);
        let place = match low >> 30 {
            0 => Place::Stream(index),
            1 => Place::Listener(index),
            2 => Place::Datagram(index),
            _ => Place::Waker,
        };
        let generation = (usize::BITS == 64).then_some((token.0 as u64 >> 32) as u32);
        (place, generation)
    }
}
