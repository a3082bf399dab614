//! What a datagram socket is to send: gathered while callbacks run, so that many datagrams leave
//! by one system call, and kept, within a bound, while the socket is full.

use std::net::{IpAddr, SocketAddr};

use crate::driver::Outgoing;

/// Bytes that wait for one full socket, at most. Older datagrams are worth more than newer ones
/// to a peer that is being answered in order; what does not fit is dropped, as on the way.
const MAX_WAITING: usize = 1 << 20;

/// The most bytes that one callback may want sent: nothing leaves before it returns. A hundred
/// thousand datagrams of the common size fit; more is an endless loop rather than a wish.
const MAX_GATHERED: usize = 256 << 20;

/// So many datagrams, or bytes of them, leave without waiting for more: beyond that a system call
/// is shared by so many that nothing is gained, and the peers could already be at work.
const FULL_DATAGRAMS: usize = 64;
const FULL_BYTES: usize = 64 << 10;

/// Memory for payloads that is kept for the next ones; what a rare burst needed beyond it is not.
const KEPT_BYTES: usize = 4 * FULL_BYTES;
const KEPT_DATAGRAMS: usize = 16 * FULL_DATAGRAMS;

/// The datagrams of one socket that are still to be sent.
///
/// INVARIANT: each payload lies within `bytes`, and `waiting` is the sum of their `cost`s.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    datagrams: Vec<Outgoing>,
    bytes: Vec<u8>,
    waiting: usize,
    /// The socket was full; the driver will tell when it takes more.
    blocked: bool,
}

/// What a waiting datagram counts for: its bytes and what it takes to remember it, or empty ones
/// would be without a bound.
fn cost(datagram: &Outgoing) -> usize {
    datagram.payload.len() + size_of::<Outgoing>()
}

impl Outbox {
    /// Appends one; false if the socket is full and so is this, and it is lost.
    #[inline]
    pub(crate) fn push(&mut self, to: SocketAddr, from: Option<IpAddr>, payload: &[u8]) -> bool {
        let start = self.bytes.len();
        let datagram = Outgoing { to, from, payload: start..start + payload.len() };
        let cost = cost(&datagram);
        let most = if self.blocked { MAX_WAITING } else { MAX_GATHERED };
        if self.waiting + cost > most {
            return false;
        }
        self.waiting += cost;
        self.bytes.extend_from_slice(payload);
        self.datagrams.push(datagram);
        true
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Whether what has been gathered should leave now.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        !self.blocked && (self.datagrams.len() >= FULL_DATAGRAMS || self.bytes.len() >= FULL_BYTES)
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The socket takes datagrams again.
    pub(crate) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// The payloads, and the datagrams that have not been sent when `done` have.
    pub(crate) fn behind(&mut self, done: usize) -> (&[u8], &mut [Outgoing]) {
        (&self.bytes, &mut self.datagrams[done..])
    }

    /// All have been sent, or cannot be.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.datagrams.clear();
        self.bytes.clear();
        self.waiting = 0;
        self.bytes.shrink_to(KEPT_BYTES);
        self.datagrams.shrink_to(KEPT_DATAGRAMS);
    }

    /// The socket is full behind the first `done`: the rest waits, or as much of it as may.
    /// Answers how many are dropped.
    #[cold]
    pub(crate) fn block_behind(&mut self, done: usize) -> usize {
        self.blocked = true;
        self.datagrams.drain(..done);
        let before = self.datagrams.len();
        // Copied together, as the driver may have changed the order of the payloads that are
        // done with and of those that are not.
        let from = std::mem::take(&mut self.bytes);
        let (bytes, waiting) = (&mut self.bytes, &mut self.waiting);
        *waiting = 0;
        self.datagrams.retain_mut(|datagram| {
            let cost = cost(datagram);
            if *waiting + cost > MAX_WAITING {
                return false;
            }
            *waiting += cost;
            let start = bytes.len();
            bytes.extend_from_slice(&from[datagram.payload.clone()]);
            datagram.payload = start..bytes.len();
            true
        });
        before - self.datagrams.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn with(payloads: &[&[u8]]) -> Outbox {
        let mut outbox = Outbox::default();
        for (port, payload) in payloads.iter().enumerate() {
            assert!(outbox.push(to(port as u16), None, payload));
        }
        outbox
    }

    fn left(outbox: &mut Outbox) -> Vec<(u16, Vec<u8>)> {
        let (bytes, datagrams) = outbox.behind(0);
        let all = datagrams.iter();
        all.map(|d| (d.to.port(), bytes[d.payload.clone()].to_vec())).collect()
    }

    #[test]
    fn what_is_behind_a_full_socket_waits_in_the_order_that_the_driver_chose() {
        let mut outbox = with(&[b"zero", b"one", b"", b"three"]);
        outbox.behind(0).1.reverse();
        assert_eq!(outbox.block_behind(1), 0);
        assert!(outbox.push(to(4), None, b"four"));
        let expected = [(2, &b""[..]), (1, b"one"), (0, b"zero"), (4, b"four")];
        assert_eq!(left(&mut outbox), expected.map(|(port, bytes)| (port, bytes.to_vec())));
        assert!(outbox.is_blocked() && !outbox.is_full());
        outbox.unblock();
        outbox.clear();
        assert!(outbox.is_empty() && outbox.waiting == 0);
    }

    #[test]
    fn a_full_socket_keeps_the_oldest_up_to_the_bound_and_empty_ones_count_too() {
        let large = vec![7; 300 << 10];
        let mut outbox = with(&[&large, &large, &large, &large, b"small"]);
        assert!(outbox.is_full());
        assert_eq!(outbox.block_behind(0), 1, "the fourth large one");
        assert!(!outbox.push(to(9), None, &large));
        assert!(outbox.push(to(9), None, b"another small one"));
        let ports: Vec<u16> = left(&mut outbox).iter().map(|(port, _)| *port).collect();
        assert_eq!(ports, [0, 1, 2, 4, 9]);
        let room = (MAX_WAITING - outbox.waiting) / size_of::<Outgoing>();
        assert_eq!((0..=room).filter(|_| outbox.push(to(1), None, b"")).count(), room);
    }

    #[test]
    fn a_rare_burst_leaves_no_memory_behind() {
        let large = vec![7; 1 << 20];
        let mut outbox = with(&[&large]);
        outbox.clear();
        assert!(outbox.bytes.capacity() <= KEPT_BYTES);
    }
}
