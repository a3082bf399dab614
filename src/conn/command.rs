//! What other threads ask of a loop, as values that travel through its mailbox.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::addr::Address;
use crate::conn::Conn;
use crate::conn::handle::Shared;
use crate::driver::Token;
use crate::error::HandleError;
use crate::sys::socket::Stream;

/// Called on the loop when a write was given to the socket, or could not be.
pub(crate) type WriteDone = Box<dyn FnOnce(Result<(), HandleError>) + Send>;

/// Called on the loop with the connection and its state when a job on the worker pool is done.
/// The state travels as `Any` because connections do not carry its type; `Conn::spawn` checks it
/// before the job starts.
pub(crate) type JobDone = Box<dyn FnOnce(&mut Conn<'_>, &mut dyn Any) + Send>;

/// Waits for the connection's `sent` to reach `at`.
pub(crate) struct Completion {
    pub(crate) at: u64,
    pub(crate) done: WriteDone,
}

pub(crate) enum Command {
    Write {
        token: Token,
        shared: Arc<Shared>,
        bytes: Bytes,
        done: Option<WriteDone>,
    },
    Wake(Token),
    Close(Token),
    JobDone(Token, JobDone),
    /// A connection accepted or made elsewhere.
    Adopt {
        stream: Stream,
        peer: Address,
    },
    Resolved {
        token: Token,
        result: io::Result<Vec<SocketAddr>>,
    },
    Broadcast(Bytes),
    Datagram {
        socket: u32,
        to: SocketAddr,
        payload: Bytes,
    },
    Stop(Duration),
}

impl Command {
    /// Tells whoever waits for this command that it will not be carried out.
    pub(crate) fn refuse(self) {
        if let Command::Write { shared, bytes, done, .. } = self {
            shared.applied(bytes.len());
            if let Some(done) = done {
                done(Err(HandleError::Closed));
            }
        }
    }
}
