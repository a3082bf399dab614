//! Which datagrams leave as one message that the kernel cuts up: such as go from the same address
//! to the same peer and have the same size, of which the last may be shorter. Peers whose
//! datagrams alternate are taken one after the other; to each of them the order is kept.

use std::net::{IpAddr, SocketAddr};

use super::{MAX_PAYLOAD, Outgoing};

/// Datagrams that are received, and looked at and sent, by one system call: with so many of them
/// the call itself is no longer what costs, and each has memory for the longest datagram.
pub(super) const BATCH: usize = 64;

/// The kernel cuts a message into 64 datagrams at most (UDP_MAX_SEGMENTS of all kernels so far).
const _: () = assert!(BATCH <= 64, "a batch cannot be too much for one message");

/// Places of the table by which peers are found: twice as many as there can be peers.
const PLACES: usize = 2 * BATCH;

/// An order in which datagrams are sent.
#[derive(Debug)]
pub(super) struct Order {
    places: [u8; BATCH],
}

impl Order {
    pub(super) fn new() -> Order {
        Order { places: [0; BATCH] }
    }

    /// The order in which they are.
    pub(super) fn keep(&mut self, count: usize) -> &[u8] {
        for (at, place) in self.places[..count].iter_mut().enumerate() {
            *place = at as u8;
        }
        &self.places[..count]
    }

    /// Puts the datagrams of each peer together, in the order in which they are, at the place of
    /// the peer's first one.
    pub(super) fn group(&mut self, datagrams: &[Outgoing]) -> &[u8] {
        let count = datagrams.len();
        // One more than the peer's number; none is 0.
        let mut table = [0_u8; PLACES];
        let (mut first, mut last, mut next) = ([0_u8; BATCH], [0_u8; BATCH], [0_u8; BATCH]);
        let (mut peers, mut latest) = (0, 0);
        for (at, datagram) in datagrams.iter().enumerate() {
            // Most come in a row from one peer, or there is but one.
            if at > 0 && datagrams[at - 1].to == datagram.to {
                next[usize::from(last[latest])] = at as u8;
                last[latest] = at as u8;
                continue;
            }
            let mut place = hash(datagram.to) % PLACES;
            loop {
                match usize::from(table[place]) {
                    0 => {
                        first[peers] = at as u8;
                        last[peers] = at as u8;
                        peers += 1;
                        table[place] = peers as u8;
                        latest = peers - 1;
                        break;
                    }
                    peer if datagrams[usize::from(first[peer - 1])].to == datagram.to => {
                        next[usize::from(last[peer - 1])] = at as u8;
                        last[peer - 1] = at as u8;
                        latest = peer - 1;
                        break;
                    }
                    // Fewer peers than places: an empty one comes.
                    _ => place = (place + 1) % PLACES,
                }
            }
        }
        let mut places = self.places[..count].iter_mut();
        for (&first, &last) in first.iter().zip(&last).take(peers) {
            let mut at = first;
            for place in places.by_ref() {
                *place = at;
                if at == last {
                    break;
                }
                at = next[usize::from(at)];
            }
        }
        &self.places[..count]
    }

    /// Brings the datagrams into the order that was last made.
    #[cold]
    pub(super) fn apply(&self, datagrams: &mut [Outgoing]) {
        let before = datagrams.to_vec();
        for (datagram, &at) in datagrams.iter_mut().zip(&self.places) {
            *datagram = before[usize::from(at)].clone();
        }
    }
}

/// Tells peers apart as far as that is cheap.
fn hash(to: SocketAddr) -> usize {
    let ip = match to.ip() {
        IpAddr::V4(ip) => u32::from(ip),
        IpAddr::V6(ip) => u128::from(ip) as u32,
    };
    let mixed = (ip ^ u32::from(to.port())).wrapping_mul(0x9e37_79b1);
    (mixed >> 16) as usize
}

/// How many from the front of `order` leave as one message, where the kernel cuts messages into
/// datagrams of at most `segment_limit` bytes.
#[inline]
pub(super) fn first_run(datagrams: &[Outgoing], order: &[u8], segment_limit: usize) -> usize {
    let mut run = order.iter().map(|&at| &datagrams[usize::from(at)]);
    let Some(first) = run.next() else { return 0 };
    let size = first.payload.len();
    if size == 0 || size > segment_limit {
        return 1;
    }
    let mut total = size;
    let mut count = 1;
    for datagram in run {
        let length = datagram.payload.len();
        total += length;
        let fits = length > 0 && length <= size && total <= MAX_PAYLOAD;
        if !fits || datagram.to != first.to || datagram.from != first.from {
            break;
        }
        count += 1;
        if length < size {
            break;
        }
    }
    count
}

/// The same for a connected socket, whose datagrams have these lengths.
#[inline]
pub(super) fn first_run_of(lengths: &[usize], segment_limit: usize) -> usize {
    let Some(&size) = lengths.first() else { return 0 };
    if size == 0 || size > segment_limit {
        return 1;
    }
    let most = (MAX_PAYLOAD / size).min(lengths.len());
    let equal = lengths[..most].iter().take_while(|length| **length == size).count();
    let shorter = lengths[equal..most].first().is_some_and(|length| (1..size).contains(length));
    equal + usize::from(shorter)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Datagrams to (port, size), each with its number as the start of its payload.
    fn datagrams(of: &[(u16, usize)]) -> Vec<Outgoing> {
        let all = of.iter().enumerate();
        all.map(|(at, &(port, size))| Outgoing {
            to: ([127, 0, 0, 1], port).into(),
            from: None,
            payload: at..at + size,
        })
        .collect()
    }

    fn runs(of: &[Outgoing], limit: usize) -> Vec<usize> {
        let mut order = Order::new();
        let mut rest = order.keep(of.len());
        let mut runs = Vec::new();
        while !rest.is_empty() {
            runs.push(first_run(of, rest, limit));
            rest = &rest[runs[runs.len() - 1]..];
        }
        runs
    }

    #[test]
    fn equal_sizes_to_one_peer_are_a_run_and_a_shorter_one_ends_it() {
        let of = |sizes: &[usize]| sizes.iter().map(|&size| (1, size)).collect::<Vec<_>>();
        for (sizes, expected) in [
            (&[9, 9, 9][..], &[3][..]),
            (&[9, 9, 4, 9], &[3, 1]),
            (&[9, 9, 4, 4, 4], &[3, 2]),
            (&[4, 9, 9], &[1, 2]),
            (&[9, 4, 9, 4], &[2, 2]),
            (&[0, 0, 9, 0, 9], &[1, 1, 1, 1, 1]),
            (&[9], &[1]),
        ] {
            assert_eq!(runs(&datagrams(&of(sizes)), 1_000), expected, "{sizes:?}");
        }
        assert_eq!(runs(&datagrams(&[(1, 9); BATCH]), 1_000), [BATCH]);
    }

    #[test]
    fn a_run_ends_at_another_peer_another_source_and_the_limits() {
        assert_eq!(runs(&datagrams(&[(1, 9), (2, 9), (2, 9), (1, 9)]), 1_000), [1, 2, 1]);
        let mut sources = datagrams(&[(1, 9); 3]);
        sources[2].from = Some(IpAddr::from([127, 0, 0, 2]));
        assert_eq!(runs(&sources, 1_000), [2, 1]);
        // Longer ones than the kernel cuts, and none where it cuts none.
        assert_eq!(runs(&datagrams(&[(1, 1_000), (1, 1_000), (1, 1_001)]), 1_000), [2, 1]);
        assert_eq!(runs(&datagrams(&[(1, 9); 3]), 0), [1, 1, 1]);
        // All together are not longer than one datagram may be.
        let half = MAX_PAYLOAD / 2;
        assert_eq!(runs(&datagrams(&[(1, half); 5]), MAX_PAYLOAD), [2, 2, 1]);
        assert_eq!(runs(&datagrams(&[(1, MAX_PAYLOAD); 2]), MAX_PAYLOAD), [1, 1]);
    }

    #[test]
    fn peers_that_alternate_are_put_together_in_their_own_order() {
        let of = datagrams(&[(1, 9), (2, 9), (3, 9), (2, 8), (1, 7), (2, 6), (4, 9)]);
        let mut order = Order::new();
        assert_eq!(order.group(&of), [0, 4, 1, 3, 5, 2, 6]);
        let mut grouped = of.clone();
        order.apply(&mut grouped);
        let starts: Vec<usize> = grouped.iter().map(|datagram| datagram.payload.start).collect();
        assert_eq!(starts, [0, 4, 1, 3, 5, 2, 6]);
    }

    #[test]
    fn every_batch_is_a_permutation_that_keeps_the_order_to_each_peer() {
        let mut seed = 1_u32;
        for round in 0..200 {
            let mut chance = |below: u32| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 16) % below
            };
            let peers = 1 + chance(BATCH as u32);
            let count = 1 + chance(BATCH as u32);
            let ports: Vec<_> = (0..count).map(|_| (chance(peers) as u16 * 128, 1)).collect();
            let of = datagrams(&ports);
            let mut order = Order::new();
            let order = order.group(&of).to_vec();
            let mut sorted = order.clone();
            sorted.sort();
            assert_eq!(sorted, (0..count as u8).collect::<Vec<_>>(), "round {round}");
            let mut seen = Vec::new();
            for pair in order.windows(2) {
                let (one, two) = (&of[usize::from(pair[0])], &of[usize::from(pair[1])]);
                if one.to == two.to {
                    assert!(pair[0] < pair[1], "round {round}");
                } else {
                    seen.push(one.to);
                    assert!(!seen.contains(&two.to), "round {round}: a peer comes twice");
                }
            }
        }
    }
}
