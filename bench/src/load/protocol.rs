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

/// How far a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// What came is right, and it is not all.
    Partial,
    /// It is whole.
    Whole,
    /// It is whole, and the server closes the connection, as it has said in the reply.
    Last,
}

/// One protocol, for all connections of a loop.
pub trait Protocol: 'static {
    /// How far a connection is within the reply that is coming.
    type Progress: Default;

    /// Writes a request.
    fn write(&mut self, conn: &mut Conn<'_>, place: Place);

    /// Reads and consumes what there is of one reply. What is not consumed of a partial one is
    /// offered again with more behind it.
    fn read(
        &mut self,
        progress: &mut Self::Progress,
        place: Place,
        input: &mut Input<'_>,
    ) -> Result<Reply, Wrong>;

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
