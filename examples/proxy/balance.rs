//! The upstreams, and which of them a connection goes to. One value for all loops: all of it is
//! atomics, touched when connections come and go.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tightloop::{Address, Endpoint};

use crate::health::Health;
use crate::options::Balance;

pub struct Upstreams {
    list: Vec<Upstream>,
    balance: Balance,
    turn: AtomicUsize,
}

pub struct Upstream {
    pub endpoint: Endpoint,
    pub health: Health,
    /// Connections now, those under way included.
    open: AtomicUsize,
    /// Connections that were made, and that were not.
    pub connected: AtomicU64,
    pub failed: AtomicU64,
    /// Bytes to the upstream and from it, of connections that have ended.
    pub sent: AtomicU64,
    pub received: AtomicU64,
}

/// A connection's place at its upstream, given back when it is dropped.
pub struct Lease {
    upstreams: Arc<Upstreams>,
    pub index: usize,
}

impl Upstreams {
    pub fn new(endpoints: &[Endpoint], balance: Balance, down_for: Duration) -> Self {
        let upstream = |endpoint: &Endpoint| Upstream {
            endpoint: endpoint.clone(),
            health: Health::new(down_for),
            open: AtomicUsize::new(0),
            connected: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        };
        let list = endpoints.iter().map(upstream).collect();
        Upstreams { list, balance, turn: AtomicUsize::new(0) }
    }

    /// An upstream for `client` that is not among those `tried`; `None` when there is no other.
    /// When all of the others are left out, one of them is tried all the same: that is better
    /// than to refuse.
    pub fn pick(
        self: &Arc<Self>,
        client: &Address,
        tried: &[usize],
        now: Instant,
    ) -> Option<Lease> {
        let untried = || (0..self.list.len()).filter(|index| !tried.contains(index));
        loop {
            let up = untried().filter(|&index| self.list[index].health.is_eligible(now));
            let Some(index) = self.choose(client, up.collect()) else { break };
            if self.list[index].health.claim(now) {
                return Some(self.lease(index));
            }
        }
        Some(self.lease(self.choose(client, untried().collect())?))
    }

    fn choose(&self, client: &Address, candidates: Vec<usize>) -> Option<usize> {
        if candidates.len() < 2 {
            return candidates.first().copied();
        }
        let in_turn = || self.turn.fetch_add(1, Ordering::Relaxed) % candidates.len();
        match (self.balance, client.ip()) {
            // By rendezvous: when one goes, only its own clients move. Clients without an address
            // (Unix sockets) take turns.
            (Balance::SourceHash, Some(ip)) => candidates.into_iter().max_by_key(|index| {
                let mut hasher = DefaultHasher::new();
                (ip, index).hash(&mut hasher);
                hasher.finish()
            }),
            (Balance::LeastConnections, _) => {
                let first = in_turn();
                let (before, from) = candidates.split_at(first);
                let open = |index: &&usize| self.list[**index].open.load(Ordering::Relaxed);
                from.iter().chain(before).min_by_key(open).copied()
            }
            (Balance::RoundRobin | Balance::SourceHash, _) => Some(candidates[in_turn()]),
        }
    }

    fn lease(self: &Arc<Self>, index: usize) -> Lease {
        self.list[index].open.fetch_add(1, Ordering::Relaxed);
        Lease { upstreams: Arc::clone(self), index }
    }

    /// A line for each upstream: what it was used for.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for upstream in &self.list {
            let [connected, failed, sent, received] =
                [&upstream.connected, &upstream.failed, &upstream.sent, &upstream.received]
                    .map(|counter| counter.load(Ordering::Relaxed));
            // Writing to a string never fails.
            let _ = writeln!(
                text,
                "{}: {connected} connections, {failed} failed, {sent} bytes sent, \
                 {received} received",
                upstream.endpoint
            );
        }
        text
    }
}

impl Deref for Lease {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.upstreams.list[self.index]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
