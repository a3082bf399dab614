//! Opens the connections of one loop: some at a time, from as many local addresses as are needed,
//! and again, after a while, where one has failed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

use tightloop::{CloseReason, ConnId, Connect, Endpoint};

use super::faults::{Kind, not_connected};
use super::options::Work;
use super::plan::Plan;
use super::shared::{Reach, Seat};

/// Connections being made at a time while the load is set up. Far fewer than the backlog of any
/// server, so that none has to try again.
const AT_A_TIME: usize = 64;
/// A connection that has failed is made again after this.
const REST_NS: u64 = 100_000_000;
/// More connections than this from one local address may meet ports that are in use.
const PORTS: usize = 20_000;
/// Addresses 127.0.0.1 to 127.0.0.200, which every machine has: each has ports of its own, so that
/// those in TIME_WAIT do not run out.
const LOOPBACK_SOURCES: u8 = 200;

/// Opens connections, and knows which are on the way.
pub struct Dialer {
    seat: Seat,
    sources: Vec<IpAddr>,
    next_source: usize,
    /// The slots of those on the way, and when they were begun.
    under_way: HashMap<ConnId, (u32, u64)>,
    /// Slots that were never begun: from here to the loop's number of connections.
    next_slot: u32,
    /// Slots to be tried again, and when.
    resting: Vec<(u32, u64)>,
    /// The slots whose connection has been open once, and their number.
    was_open: Vec<bool>,
    opened: usize,
}

impl Dialer {
    pub fn new(seat: Seat) -> Self {
        let sources = sources(&seat.plan, &seat.plan.target.endpoint);
        let was_open = vec![false; seat.connections()];
        Dialer {
            // The loops begin apart.
            next_source: seat.loop_index,
            seat,
            sources,
            under_way: HashMap::new(),
            next_slot: 0,
            resting: Vec::new(),
            was_open,
            opened: 0,
        }
    }

    /// Begins the first connections.
    pub fn start(&mut self, reach: &mut impl Reach) {
        while self.under_way.len() < AT_A_TIME && self.dial_next(reach) {}
    }

    /// Begins one that never was, if there is one; false if not.
    fn dial_next(&mut self, reach: &mut impl Reach) -> bool {
        if self.next_slot as usize >= self.seat.connections() {
            return false;
        }
        self.next_slot += 1;
        self.dial(reach, self.next_slot - 1);
        true
    }

    /// Begins the connection of a slot.
    pub fn dial(&mut self, reach: &mut impl Reach, slot: u32) {
        let mut connect: Connect = self.seat.plan.connect.clone();
        if !self.sources.is_empty() {
            let source = self.sources[self.next_source % self.sources.len()];
            self.next_source += 1;
            connect = connect.local_addr(SocketAddr::new(source, 0));
        }
        let now_ns = self.seat.clock.now_ns();
        match reach.dial(connect) {
            Ok(id) => drop(self.under_way.insert(id, (slot, now_ns))),
            // The client is stopping.
            Err(tightloop::Error::Stopped) => {}
            Err(error) => self.seat.shared.give_up(|| error.to_string()),
        }
    }

    /// A connection is open: answers its slot, and when it was begun.
    pub fn opened(&mut self, reach: &mut impl Reach, id: ConnId) -> Option<(u32, u64)> {
        let found = self.under_way.remove(&id)?;
        if !std::mem::replace(&mut self.was_open[found.0 as usize], true) {
            self.opened += 1;
            self.seat.shared.opened.fetch_add(1, Ordering::Relaxed);
            self.dial_next(reach);
        }
        Some(found)
    }

    /// Whether all connections of this loop have been open.
    pub fn is_complete(&self) -> bool {
        self.opened >= self.seat.connections()
    }

    /// A connection could not be made. While the load is set up that ends it; later it is an error,
    /// and the connection is tried again.
    pub fn failed(&mut self, id: ConnId, reason: &CloseReason) {
        let Some((slot, _)) = self.under_way.remove(&id) else { return };
        if matches!(reason, CloseReason::ServerStopped) {
            return; // we are the ones who stop
        }
        let url = &self.seat.plan.target.url;
        let describe = || format!("cannot connect to {url}: {}", not_connected(reason));
        self.seat.shared.faults.add(Kind::Connect, describe);
        if self.is_complete() {
            self.rest(slot);
            return;
        }
        self.seat.shared.give_up(|| {
            let (opened, all) =
                (self.seat.shared.opened.load(Ordering::Relaxed), self.seat.plan.connections);
            format!("{opened} of {all} connections could be opened")
        });
    }

    /// Has the connection of a slot made again in a while.
    pub fn rest(&mut self, slot: u32) {
        self.resting.push((slot, self.seat.clock.now_ns() + REST_NS));
    }

    /// Begins the connections that have rested.
    pub fn dial_rested(&mut self, reach: &mut impl Reach, now_ns: u64) {
        let mut index = 0;
        while index < self.resting.len() {
            if self.resting[index].1 <= now_ns {
                let (slot, _) = self.resting.swap_remove(index);
                self.dial(reach, slot);
            } else {
                index += 1;
            }
        }
    }
}

/// The local addresses to be taken in turn; none: what the system chooses.
fn sources(plan: &Plan, endpoint: &Endpoint) -> Vec<IpAddr> {
    if !plan.sources.is_empty() {
        return plan.sources.clone();
    }
    let host: Option<Ipv4Addr> = endpoint.host().and_then(|host| host.parse().ok());
    let needs_many = plan.work == Work::Churn || plan.connections > PORTS;
    if !host.is_some_and(|host| host.is_loopback()) || !needs_many {
        return Vec::new();
    }
    (1..=LOOPBACK_SOURCES).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).collect()
}
