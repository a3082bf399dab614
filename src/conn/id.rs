//! The identity of a connection, which outlives it without ever meaning another one.

use std::fmt;

use crate::driver::Token;

/// Names one connection of a running server: its loop, its slot in the loop's table and the
/// slot's generation. Slots are used again, generations are not: the identity of a connection
/// that is gone finds nothing.
#[doc(alias = "Fd")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) loop_index: u16,
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    pub(crate) fn new(loop_index: u16, token: Token) -> Self {
        ConnId { loop_index, index: token.index, generation: token.generation }
    }

    pub(crate) fn token(self) -> Token {
        Token { index: self.index, generation: self.generation }
    }

    /// The index of the event loop that owns the connection.
    pub fn loop_index(self) -> usize {
        usize::from(self.loop_index)
    }
}

/// `loop.slot.generation`, for logs.
impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.loop_index, self.index, self.generation)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnId({self})")
    }
}
