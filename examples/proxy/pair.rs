//! A client's connection and the one to its upstream: what each needs to know of the other.
//!
//! Both lie on one loop, so an `Rc` and `Cell`s do: no lock. The last of the two to go reports.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tightloop::{Address, CloseReason, Conn, ConnId};

use crate::balance::Lease;

/// A connection's state: which of the two it is.
pub struct Side {
    pub role: Role,
    pub pair: Rc<Pair>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Client,
    Upstream,
}

pub struct Pair {
    pub client: ConnId,
    client_address: Address,
    /// The connection to the upstream, or the one that is being made; `None` while there is none.
    pub upstream: Cell<Option<ConnId>>,
    /// The upstream that it goes to.
    pub lease: RefCell<Option<Lease>>,
    /// Bytes on the way from the client to the upstream, and back.
    sent: Cell<u64>,
    received: Cell<u64>,
    began: Instant,
    /// The side that sent its end first.
    closed_first: OnceCell<Role>,
    /// Why the pair has ended before both sides had sent theirs.
    end: OnceCell<String>,
}

impl Side {
    /// The connection on the other side, if there is one yet.
    pub fn other(&self) -> Option<ConnId> {
        match self.role {
            Role::Client => self.pair.upstream.get(),
            Role::Upstream => Some(self.pair.client),
        }
    }

    /// Notes the bytes that came from this side.
    pub fn count(&self, bytes: u64) {
        let counter = match self.role {
            Role::Client => &self.pair.sent,
            Role::Upstream => &self.pair.received,
        };
        counter.set(bytes);
    }

    /// This side sends no more.
    pub fn sent_its_end(&self) {
        self.pair.closed_first.get_or_init(|| self.role);
    }

    /// This side is gone. The first one that goes for another reason than the end of both
    /// directions ends the pair.
    pub fn ended(&self, reason: &CloseReason) {
        if !matches!(reason, CloseReason::PeerClosed) {
            self.pair.end(|| format!("{}: {reason}", self.role));
        }
    }
}

impl Pair {
    pub fn new(client: &Conn<'_>) -> Rc<Self> {
        Rc::new(Pair {
            client: client.id(),
            client_address: client.peer_addr(),
            upstream: Cell::new(None),
            lease: RefCell::new(None),
            sent: Cell::new(0),
            received: Cell::new(0),
            began: client.now(),
            closed_first: OnceCell::new(),
            end: OnceCell::new(),
        })
    }

    /// Notes why the pair ends, unless that is known already.
    pub fn end(&self, why: impl FnOnce() -> String) {
        self.end.get_or_init(why);
    }

    /// Adds what has passed to the upstream's sums.
    pub fn settle_accounts(&self) {
        if let Some(upstream) = &*self.lease.borrow() {
            upstream.sent.fetch_add(self.sent.get(), Ordering::Relaxed);
            upstream.received.fetch_add(self.received.get(), Ordering::Relaxed);
        }
    }
}

/// The line of the log, but for the time.
impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> ", self.client_address)?;
        match &*self.lease.borrow() {
            Some(upstream) => write!(f, "{}", upstream.endpoint)?,
            None => f.write_str("nowhere")?,
        }
        let seconds = self.began.elapsed().as_secs_f64();
        let (sent, received) = (self.sent.get(), self.received.get());
        write!(f, ": {sent} bytes sent, {received} received in {seconds:.3} s, ")?;
        match (self.end.get(), self.closed_first.get()) {
            (Some(why), _) => f.write_str(why),
            (None, Some(role)) => write!(f, "closed by the {role}"),
            (None, None) => f.write_str("closed"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Client => "client",
            Role::Upstream => "upstream",
        })
    }
}
