//! What is said on a stream: [`Protocol`] writes requests and checks replies, byte by byte, as they
//! come. It knows no time and no sockets.

use tightloop::{Conn, Input};

use super::payload::Wrong;

pub mod echo;
pub mod http;
pub mod resp;

/// A request and its reply: the connection's number among all, and how many came before it there.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub connection: u64,
    pub sequence: u64,
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replies {
    /// Replies that became whole.
    pub whole: usize,
    /// The server closes the connection behind the last of them, as it has said there.
    pub is_last: bool,
}

impl Replies {
    /// What came is right, and no reply is whole.
    pub const NONE: Replies = Replies { whole: 0, is_last: false };
    /// One more.
    pub const ONE: Replies = Replies { whole: 1, is_last: false };
}

/// One protocol, for all connections of a loop.
pub trait Protocol: 'static {
    /// How far a connection is within the reply that is coming.
    type Progress: Default;

    /// Writes `count` requests, of which `first` is the first.
    fn write(&mut self, conn: &mut Conn<'_>, first: Place, count: usize);

    /// Reads and consumes what there is of the next reply, or of the next ones up to `most`. None
    /// whole means that more is needed: what was not consumed is then offered again with more
    /// behind it.
    fn read(
        &mut self,
        progress: &mut Self::Progress,
        first: Place,
        most: usize,
        input: &mut Input<'_>,
    ) -> Result<Replies, Wrong>;

    /// Requests to be made before the load begins.
    fn preparations(&self) -> u64 {
        0
    }

    /// Writes one of them.
    fn prepare(&mut self, conn: &mut Conn<'_>, index: u64) {
        let _ = (conn, index);
    }

    /// The preparations are done: from now on replies are those of the load.
    fn prepared(&mut self) {}
}
