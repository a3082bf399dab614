//! What other threads ask of a loop, as values that travel through its mailbox.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::addr::Address;
use crate::conn::Conn;
use crate::conn::admission::Ticket;
use crate::conn::attachment::Attachment;
use crate::conn::dial::Dial;
use crate::conn::handle::{Promise, Shared};
use crate::conn::state::Direction;
use crate::driver::Token;
use crate::error::HandleError;
use crate::sys::socket::Stream;
use crate::workers::contain;

/// Called on the loop when a write was given to the socket, or could not be. Exactly once: one
/// that is dropped, by whatever way a write is lost, is told that the connection is closed.
pub(crate) struct WriteDone(Option<DoneCall>);

type DoneCall = Box<dyn FnOnce(Result<(), HandleError>) + Send>;

impl WriteDone {
    pub(crate) fn new(call: impl FnOnce(Result<(), HandleError>) + Send + 'static) -> Self {
        WriteDone(Some(Box::new(call)))
    }

    pub(crate) fn call(mut self, result: Result<(), HandleError>) {
        if let Some(call) = self.0.take() {
            call(result);
        }
    }

    /// The write was never queued: the caller is told so in another way.
    pub(crate) fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for WriteDone {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            // It may be dropped by a loop that unwinds: a second panic would end the process.
            if let Err(panic) = contain(|| call(Err(HandleError::Closed))) {
                log::error!("the callback of a lost write: {panic}");
            }
        }
    }
}

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
        shared: Arc<Shared>,
        bytes: Bytes,
        done: Option<WriteDone>,
    },
    Wake(Arc<Shared>),
    Close(Arc<Shared>),
    ShutdownWrite(Arc<Shared>),
    JobDone(Token, JobDone),
    /// An outgoing connection that another thread has asked for.
    Connect {
        dial: Box<Dial>,
        promise: Promise,
    },
    /// A connection that was connected elsewhere.
    Adopt {
        stream: Stream,
        peer: Address,
        direction: Direction,
        promise: Promise,
        attachment: Option<Attachment>,
    },
    /// A connection that the acceptor has accepted, which counts those that it hands over.
    Accepted {
        stream: Stream,
        peer: Address,
        listener: u16,
        ticket: Option<Ticket>,
    },
    Resolved {
        token: Token,
        result: io::Result<Vec<SocketAddr>>,
    },
    /// A connection has closed, and this loop may have one that waits for its place.
    Admit,
    Broadcast {
        bytes: Bytes,
        /// Connections in slots before this one have it already.
        from: u32,
    },
    Datagram {
        socket: u32,
        to: SocketAddr,
        payload: Bytes,
    },
    /// Close the listeners; everything else goes on.
    StopAccepting,
    Stop(Duration),
}

impl Command {
    /// The command was never queued: takes it back without telling whoever waits for it.
    pub(crate) fn forget(self) {
        if let Command::Write { shared, bytes, done, .. } = self {
            shared.applied(bytes.len());
            done.into_iter().for_each(WriteDone::forget);
        }
    }

    /// The command will not be carried out: whoever waits for it, to be told that.
    pub(crate) fn refused(self) -> Option<(Option<Token>, WriteDone)> {
        let Command::Write { shared, bytes, done } = self else { return None };
        shared.applied(bytes.len());
        done.map(|done| (shared.token(), done))
    }
}
