//! One simulated connection: two wires, the server's socket at one end, a peer at the other.

use std::collections::VecDeque;

use super::ledger::Book;
use super::peer::Peer;
use crate::driver::Token;

/// What travels on a wire, in order.
#[derive(Debug)]
pub(crate) enum Segment {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    pub(crate) flight: VecDeque<Segment>,
    /// Bytes in `flight`.
    pub(crate) bytes: usize,
    /// When the last segment arrives: those that follow do not overtake it.
    pub(crate) last: u64,
}

/// How far the server's socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A number for a connection that the server is about to make.
    Reserved,
    /// Waits to be accepted.
    Waiting,
    /// Accepted, or made to connect; not given to the driver yet.
    Held,
    /// The driver has it.
    Open(Token),
    Closed,
}

pub(crate) struct Link {
    pub(crate) stage: Stage,
    pub(crate) outgoing: bool,
    /// From the peer to the server.
    pub(crate) up: Wire,
    /// From the server to the peer.
    pub(crate) down: Wire,
    /// Arrived at the server's socket and not received.
    pub(crate) arrived: VecDeque<u8>,
    pub(crate) fin_arrived: bool,
    pub(crate) reset_arrived: bool,
    /// The driver has told of it.
    pub(crate) fin_told: bool,
    pub(crate) reset_told: bool,
    /// The driver could not open it.
    pub(crate) no_memory: bool,
    /// A send failed for a reason of the system's.
    pub(crate) broken: bool,
    /// A send has failed, and the end is near: the driver tells of it once input is received.
    pub(crate) dead: bool,
    pub(crate) receiving: bool,
    /// A send came back blocked, and this is owed a `Writable`.
    pub(crate) blocked: bool,
    /// What arrives is to be moved, not received; the last move may have left something.
    pub(crate) moving: bool,
    pub(crate) may_have_more: bool,
    /// Was moved to this one, and its socket has not taken it.
    pub(crate) pipe: VecDeque<u8>,
    /// The server has sent FIN.
    pub(crate) shut: bool,
    /// The server's system has sent a reset.
    pub(crate) reset_sent: bool,
    /// `Some` until the driver has told how it ended; then how.
    pub(crate) connecting: Option<Connecting>,
    /// What each kernel buffers.
    pub(crate) window: usize,
    pub(crate) peer: Peer,
    pub(crate) book: Book,
}

/// A connect under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connecting {
    GoesOn,
    Done,
    Refused,
}

impl Link {
    pub(crate) fn new(stage: Stage, outgoing: bool, window: usize, peer: Peer) -> Self {
        Link {
            stage,
            outgoing,
            up: Wire::default(),
            down: Wire::default(),
            arrived: VecDeque::new(),
            fin_arrived: false,
            reset_arrived: false,
            fin_told: false,
            reset_told: false,
            no_memory: false,
            broken: false,
            dead: false,
            receiving: false,
            blocked: false,
            moving: false,
            may_have_more: false,
            pipe: VecDeque::new(),
            shut: false,
            reset_sent: false,
            connecting: None,
            window,
            peer,
            book: Book::default(),
        }
    }

    /// What the server's socket takes.
    pub(crate) fn room_down(&self) -> usize {
        self.window.saturating_sub(self.down.bytes + self.peer.arrived.len())
    }

    /// What the peer's socket takes.
    pub(crate) fn room_up(&self) -> usize {
        self.window.saturating_sub(self.up.bytes + self.arrived.len())
    }

    /// Whether there may be something to be moved to another one.
    pub(crate) fn is_movable(&self) -> bool {
        let ends = self.dead || (self.fin_arrived && !self.fin_told && !self.reset_arrived);
        let may_be_there = self.may_have_more || !self.arrived.is_empty() || ends;
        self.moving && self.receiving && may_be_there
    }

    /// Whether the driver would have an event for this one.
    pub(crate) fn has_event(&self) -> bool {
        if !matches!(self.stage, Stage::Open(_)) {
            return false;
        }
        if let Some(connecting) = self.connecting {
            return connecting != Connecting::GoesOn;
        }
        let is_gone = self.reset_arrived || self.broken;
        (self.receiving && self.dead)
            || self.is_movable()
            || (self.blocked && (self.room_down() > 0 || is_gone))
            || (self.receiving
                && (!self.arrived.is_empty()
                    || (self.fin_arrived && !self.fin_told && !self.reset_arrived)))
            || (self.reset_arrived && !self.reset_told)
    }
}
