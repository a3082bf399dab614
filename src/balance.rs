//! Which loop gets a new connection, where one acceptor serves several loops.
//!
//! A balancer is plain state: it sees the peer's address and each loop's number of connections,
//! and answers with a loop's index.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::addr::Address;

/// How the acceptor spreads connections over the event loops.
///
/// Only used where one listening socket serves several loops; with `reuse_port(true)` the kernel
/// balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Balance {
    /// Each loop in turn. The default.
    #[default]
    RoundRobin,
    /// The loop with the fewest connections, as [`Balancer::pick`] counts them; on a tie, the one after the last chosen.
    LeastConnections,
    /// By a hash of the peer's IP address (without the port): all connections of one host are on
    /// one loop. Peers without an IP address (Unix sockets) take turns.
    SourceAddrHash,
    /// Any loop, each equally likely.
    Random,
}

/// A balancer of the user's own.
///
/// # Example
/// ```
/// use tightloop::{Address, Balancer};
///
/// /// Local peers share loop 0, everybody else takes turns on the others.
/// struct LocalApart(usize);
///
/// impl Balancer for LocalApart {
///     fn pick(&mut self, peer: &Address, connections: &[usize]) -> usize {
///         if peer.ip().is_none_or(|ip| ip.is_loopback()) || connections.len() == 1 {
///             return 0;
///         }
///         self.0 += 1;
///         1 + self.0 % (connections.len() - 1)
///     }
/// }
/// ```
pub trait Balancer: Send + 'static {
    /// The index of the loop that gets the connection from `peer`. `connections` holds each
    /// loop's number of connections: those that are open, on their way to the loop, or in their
    /// TLS handshake. Called on the acceptor's thread; an index out of range is taken modulo the
    /// number of loops.
    fn pick(&mut self, peer: &Address, connections: &[usize]) -> usize;
}

/// The built-in balancers' state.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    kind: Balance,
    turn: usize,
    random: u64,
}

impl BuiltIn {
    pub(crate) fn new(kind: Balance) -> Self {
        // The hasher's fixed keys make SourceAddrHash the same over restarts; the random
        // sequence only has to be spread evenly, not to be unguessable.
        BuiltIn { kind, turn: usize::MAX, random: 0x9e37_79b9_7f4a_7c15 }
    }

    fn next_turn(&mut self, loops: usize) -> usize {
        self.turn = self.turn.wrapping_add(1) % loops;
        self.turn
    }

    /// xorshift64*: full period, good high bits.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn fewest(&mut self, connections: &[usize]) -> usize {
        let loops = connections.len();
        let start = self.next_turn(loops);
        let fewest = (0..loops).map(|i| (start + i) % loops).min_by_key(|&i| connections[i]);
        self.turn = fewest.unwrap_or(start);
        self.turn
    }
}

impl Balancer for BuiltIn {
    fn pick(&mut self, peer: &Address, connections: &[usize]) -> usize {
        let loops = connections.len();
        match (self.kind, peer.ip()) {
            (Balance::LeastConnections, _) => self.fewest(connections),
            (Balance::Random, _) => ((self.next_random() >> 32) as usize) % loops,
            (Balance::SourceAddrHash, Some(ip)) => {
                let mut hasher = DefaultHasher::new();
                ip.hash(&mut hasher);
                (hasher.finish() % loops as u64) as usize
            }
            (Balance::RoundRobin | Balance::SourceAddrHash, _) => self.next_turn(loops),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Address {
        Address::from(text.parse::<std::net::SocketAddr>().unwrap())
    }

    fn picks(kind: Balance, peers: &[Address], connections: &[usize]) -> Vec<usize> {
        let mut balancer = BuiltIn::new(kind);
        peers.iter().map(|p| balancer.pick(p, connections)).collect()
    }

    #[test]
    fn round_robin_takes_each_loop_in_turn() {
        let peers = vec![peer("10.0.0.1:1"); 5];
        assert_eq!(picks(Balance::RoundRobin, &peers, &[9, 0, 0]), [0, 1, 2, 0, 1]);
    }

    #[test]
    fn least_connections_takes_the_emptiest_and_rotates_on_a_tie() {
        let peers = vec![peer("10.0.0.1:1"); 3];
        assert_eq!(picks(Balance::LeastConnections, &peers, &[2, 1, 3]), [1, 1, 1]);
        assert_eq!(picks(Balance::LeastConnections, &peers, &[0, 0, 0]), [0, 1, 2]);
    }

    #[test]
    fn source_addr_hash_ignores_the_port_and_spreads_hosts() {
        let same = [peer("10.0.0.1:1"), peer("10.0.0.1:999"), peer("10.0.0.1:65535")];
        let picked = picks(Balance::SourceAddrHash, &same, &[0; 4]);
        assert!(picked.iter().all(|&p| p == picked[0]));
        let hosts: Vec<_> = (0..64).map(|i| peer(&format!("10.0.0.{i}:1"))).collect();
        let picked = picks(Balance::SourceAddrHash, &hosts, &[0; 4]);
        assert!((0..4).all(|l| picked.contains(&l)));
    }

    #[test]
    fn random_reaches_every_loop_about_equally() {
        let peers = vec![peer("10.0.0.1:1"); 4000];
        let picked = picks(Balance::Random, &peers, &[0; 4]);
        for l in 0..4 {
            let share = picked.iter().filter(|&&p| p == l).count();
            assert!((800..1200).contains(&share), "loop {l} got {share} of 4000");
        }
    }
}
