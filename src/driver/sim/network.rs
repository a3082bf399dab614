//! The simulated network: a clock, an agenda of what is to happen, and the wires.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::datagram::DatagramSocket;
use super::journal::{Journal, Trace};
use super::ledger::Ledger;
use super::limits::Limits;
use super::link::{Connecting, Link, Segment, Stage, Wire};
use super::listener::Backlog;
use super::peer::Peer;
use super::random::Random;
use super::weather::{Sabotage, Weather};
use crate::addr::Address;

/// The network as its driver, the handler and the other threads share it; all on one thread.
pub(crate) type SharedNetwork = Rc<RefCell<Network>>;

/// The first peer's address; the others follow.
const FIRST_ADDRESS: u32 = 0x0a00_0000;

/// Peers come from so many hosts, in turn, so that some have one in common.
pub(crate) const HOSTS: u32 = 6;

/// A peer's port is its link's number above this one.
const FIRST_PORT: usize = 1000;

/// Something that happens at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Item {
    /// The next segment of a wire arrives.
    ArriveUp {
        link: usize,
    },
    ArriveDown {
        link: usize,
    },
    /// A peer acts.
    Step {
        link: usize,
        stamp: u64,
    },
    /// A peer connects.
    NewPeer {
        listener: usize,
    },
    /// A connect of the server's has ended.
    Connected {
        link: usize,
    },
    /// A peer sends a datagram; one arrives; a socket takes datagrams again.
    DatagramSent {
        socket: usize,
    },
    DatagramArrives {
        socket: usize,
        number: usize,
    },
    DatagramRoom {
        socket: usize,
    },
    /// Other threads do something.
    Threads,
}

pub(crate) struct Network {
    pub(crate) random: Random,
    pub(crate) weather: Weather,
    pub(crate) journal: Journal,
    pub(crate) ledger: Ledger,
    pub(crate) limits: Limits,
    pub(crate) links: Vec<Link>,
    /// Links that wait to be accepted; `None` for a listener that is closed.
    pub(crate) listeners: Vec<Option<Backlog>>,
    pub(crate) datagram_sockets: Vec<DatagramSocket>,
    epoch: Instant,
    /// Microseconds.
    pub(crate) now: u64,
    agenda: BinaryHeap<Reverse<(u64, u64, Item)>>,
    order: u64,
}

impl Network {
    pub(crate) fn new(random: Random, weather: Weather, trace: Option<Trace>) -> Self {
        Network {
            random,
            weather,
            journal: Journal::new(trace),
            ledger: Ledger::default(),
            limits: Limits::default(),
            links: Vec::new(),
            listeners: Vec::new(),
            datagram_sockets: Vec::new(),
            // Any moment: all others are counted from it.
            epoch: Instant::now(),
            now: 0,
            agenda: BinaryHeap::new(),
            order: 0,
        }
    }

    /// The virtual clock.
    pub(crate) fn instant(&self) -> Instant {
        self.epoch + Duration::from_micros(self.now)
    }

    pub(crate) fn note(&mut self, what: &'static str, a: usize, b: usize) {
        self.journal.note(self.now, what, a as u64, b as u64);
    }

    pub(crate) fn fail(&mut self, rule: String) {
        self.journal.fail(self.now, rule);
    }

    pub(crate) fn sabotages(&self, what: Sabotage) -> bool {
        self.weather.sabotage == Some(what)
    }

    pub(crate) fn schedule(&mut self, after: u64, item: Item) {
        self.order += 1;
        self.agenda.push(Reverse((self.now + after, self.order, item)));
    }

    /// When something happens next.
    pub(crate) fn next_time(&self) -> Option<u64> {
        self.agenda.peek().map(|Reverse((time, ..))| *time)
    }

    /// Lets happen what is due; true if other threads are to act.
    pub(crate) fn run_due(&mut self) -> bool {
        while let Some(&Reverse((time, _, item))) = self.agenda.peek() {
            if time > self.now {
                return false;
            }
            self.agenda.pop();
            if item == Item::Threads {
                return true;
            }
            self.happen(item);
        }
        false
    }

    fn happen(&mut self, item: Item) {
        match item {
            Item::ArriveUp { link } => self.arrive_up(link),
            Item::ArriveDown { link } => self.arrive_down(link),
            Item::Step { link, stamp } => self.peer_step(link, stamp),
            Item::NewPeer { listener } => self.new_peer(listener),
            Item::Connected { link } => self.connect_ends(link),
            Item::DatagramSent { socket } => self.send_from_peer(socket),
            Item::DatagramArrives { socket, number } => self.datagram_arrives(socket, number),
            Item::DatagramRoom { socket } => self.datagram_sockets[socket].has_room = true,
            Item::Threads => {}
        }
    }

    // ---- peers that come and are connected to --------------------------------------------

    fn new_link(&mut self, stage: Stage, outgoing: bool) -> usize {
        let most = self.weather.window;
        let window = self.random.size(most).max(most / 100);
        let window = if self.weather.in_bulk { most } else { window };
        let peer = Peer::by_chance(&mut self.random, &self.weather, window);
        self.links.push(Link::new(stage, outgoing, window, peer));
        self.links.len() - 1
    }

    fn new_peer(&mut self, listener: usize) {
        if self.listeners[listener].is_none() {
            return;
        }
        let link = self.new_link(Stage::Waiting, false);
        self.note("peer connects", link, listener);
        if let Some(backlog) = &mut self.listeners[listener] {
            backlog.waiting.push_back(link);
        }
        self.wake_peer(link);
    }

    /// A number for a connection that the server makes.
    pub(crate) fn reserve(&mut self) -> usize {
        self.new_link(Stage::Reserved, true)
    }

    fn connect_ends(&mut self, link: usize) {
        let refused = self.random.chance(self.weather.refused);
        let connection = &mut self.links[link];
        if connection.connecting != Some(Connecting::GoesOn) || connection.stage == Stage::Closed {
            return;
        }
        let result = if refused { Connecting::Refused } else { Connecting::Done };
        connection.connecting = Some(result);
        self.note("connect ends", link, usize::from(refused));
        if !refused {
            self.wake_peer(link);
        }
    }

    // ---- wires ----------------------------------------------------------------------------

    fn arrival(&mut self, last: u64) -> u64 {
        let delay = self.random.below(self.weather.delay + 1);
        (self.now + delay).max(last)
    }

    pub(crate) fn send_up(&mut self, link: usize, segment: Segment) {
        let time = self.arrival(self.links[link].up.last);
        push(&mut self.links[link].up, segment, time);
        self.schedule(time - self.now, Item::ArriveUp { link });
    }

    pub(crate) fn send_down(&mut self, link: usize, segment: Segment) {
        let time = self.arrival(self.links[link].down.last);
        push(&mut self.links[link].down, segment, time);
        self.schedule(time - self.now, Item::ArriveDown { link });
    }

    fn arrive_up(&mut self, link: usize) {
        let connection = &mut self.links[link];
        let Some(segment) = pop(&mut connection.up) else { return };
        let is_closed = connection.stage == Stage::Closed;
        match segment {
            // The socket is closed, and the peer does not know: it is told by a reset.
            Segment::Bytes(_) if is_closed => self.reset_down(link),
            Segment::Bytes(bytes) => connection.arrived.extend(bytes),
            Segment::Fin => connection.fin_arrived = true,
            Segment::Reset => {
                connection.reset_arrived = true;
                // Linux keeps what has arrived before; other systems drop it.
                if self.random.chance(500) {
                    self.links[link].arrived.clear();
                }
            }
        }
    }

    fn arrive_down(&mut self, link: usize) {
        let connection = &mut self.links[link];
        let vanished = connection.peer.vanished;
        if vanished {
            // Not taken off the wire: it is never acknowledged.
            return;
        }
        let Some(segment) = pop(&mut connection.down) else { return };
        let peer = &mut connection.peer;
        match segment {
            Segment::Bytes(_) if peer.closed => return self.reset_up(link),
            Segment::Bytes(bytes) => peer.arrived.extend(bytes),
            Segment::Fin => peer.got_fin = true,
            Segment::Reset => {
                peer.got_reset = true;
                // The worst that a reset may do: what was not read is lost.
                peer.arrived.clear();
            }
        }
        if !peer.closed {
            self.wake_peer(link);
        }
    }

    /// The server's system resets the connection. What is on the way may be lost.
    pub(crate) fn reset_down(&mut self, link: usize) {
        if std::mem::replace(&mut self.links[link].reset_sent, true) {
            return;
        }
        self.note("reset to peer", link, 0);
        self.judge_reset(link);
        let flight = &mut self.links[link].down.flight;
        let kept = self.random.between(0, flight.len());
        for segment in flight.iter_mut().skip(kept) {
            // Nothing arrives in its place, so that what was planned stays in order.
            *segment = Segment::Bytes(Vec::new());
        }
        let left = flight.iter().map(|segment| match segment {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::Fin | Segment::Reset => 0,
        });
        self.links[link].down.bytes = left.sum();
        self.send_down(link, Segment::Reset);
    }
}

fn push(wire: &mut Wire, segment: Segment, time: u64) {
    if let Segment::Bytes(bytes) = &segment {
        wire.bytes += bytes.len();
    }
    wire.last = time;
    wire.flight.push_back(segment);
}

fn pop(wire: &mut Wire) -> Option<Segment> {
    let segment = wire.flight.pop_front()?;
    if let Segment::Bytes(bytes) = &segment {
        wire.bytes -= bytes.len();
    }
    Some(segment)
}

/// The address of a link's peer.
pub(crate) fn address_of(link: usize) -> SocketAddr {
    let bits = FIRST_ADDRESS + link as u32 % HOSTS;
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(bits)), (FIRST_PORT + link) as u16)
}

/// The link whose peer has this address.
pub(crate) fn link_of(address: &Address) -> Option<usize> {
    let address = address.socket_addr()?;
    usize::from(address.port()).checked_sub(FIRST_PORT)
}
