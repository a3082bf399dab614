//! Who may come in: the limits on the connections of the whole server, whichever loop accepts.
//!
//! All of it is on the way of new connections only, and only where a limit is set; bytes never
//! come by here. The time is an argument.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::addr::Address;
use crate::options::{Options, WhenFull};

/// Tokens of the accept rate that pile up while nobody comes, in parts of a second: enough for
/// clients that come together, too few to defeat the rate.
const BURST: Duration = Duration::from_millis(100);

/// What limits know of the whole server.
#[derive(Debug)]
pub(crate) struct Admission {
    max: usize,
    when_full: WhenFull,
    max_per_ip: usize,
    /// Between two connections at the full rate; zero is no limit.
    interval_ns: u64,
    start: Instant,
    /// When the next connection would be on time, in nanoseconds since the start.
    next_ns: AtomicU64,
    open: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
    /// A loop holds a connection that waits for another one to close.
    waiting: AtomicBool,
}

/// A connection's place among those that are counted, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    ip: Option<IpAddr>,
}

/// Why a connection may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There are as many as may be.
    Full,
    /// As above, and the listener is to wait until one closes.
    Wait,
    /// There are as many from this address as may be.
    Address,
}

impl Admission {
    pub(crate) fn new(options: &Options, start: Instant) -> Arc<Self> {
        let interval = options.accept_rate.map_or(0, |rate| 1_000_000_000 / u64::from(rate.max(1)));
        Arc::new(Admission {
            max: options.max_connections,
            when_full: options.when_full,
            max_per_ip: options.max_connections_per_ip,
            interval_ns: interval,
            start,
            next_ns: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            by_ip: Mutex::default(),
            waiting: AtomicBool::new(false),
        })
    }

    /// Takes a place for a connection from `peer`; `Ok(None)` where nothing is limited.
    pub(crate) fn enter(self: &Arc<Self>, peer: &Address) -> Result<Option<Ticket>, Refusal> {
        let counts_addresses = self.max_per_ip < usize::MAX;
        if self.max == usize::MAX && !counts_addresses {
            return Ok(None);
        }
        let enter = |open: usize| (open < self.max).then(|| open + 1);
        if self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter).is_err() {
            if self.when_full == WhenFull::Refuse {
                return Err(Refusal::Full);
            }
            self.waiting.store(true, Ordering::SeqCst);
            return Err(Refusal::Wait);
        }
        // From here on the place is given back by dropping the ticket.
        let mut ticket = Ticket { admission: Arc::clone(self), ip: None };
        if let Some(ip) = peer.socket_addr().map(|address| counted(address.ip()))
            && counts_addresses
        {
            let mut by_ip = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_ip.entry(ip).or_default();
            if *count >= self.max_per_ip {
                return Err(Refusal::Address);
            }
            *count += 1;
            ticket.ip = Some(ip);
        }
        Ok(Some(ticket))
    }

    /// One connection was accepted: how long the listener has to rest for the accept rate.
    pub(crate) fn rest_after_accept(&self, now: Instant) -> Option<Duration> {
        if self.interval_ns == 0 {
            return None;
        }
        let now = now.saturating_duration_since(self.start).as_nanos() as u64;
        let burst = (BURST.as_nanos() as u64).max(self.interval_ns);
        let after = |next: u64| next.max(now) + self.interval_ns;
        let next =
            self.next_ns.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(after(n)));
        // It never answers None, so there is no error; both are what was there before.
        let ahead = after(next.unwrap_or_else(|next| next)) - now;
        // The next one would be ahead of its time by one more interval.
        let excess = (ahead + self.interval_ns).saturating_sub(burst);
        (excess > 0).then(|| Duration::from_nanos(excess))
    }

    /// Whether connections are counted, and how many there are.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn is_counting(&self) -> bool {
        self.max < usize::MAX || self.max_per_ip < usize::MAX
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Whether somebody waits for a place, which is asked once.
    pub(crate) fn take_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) && self.waiting.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(ip) = self.ip {
            let mut by_ip = self.admission.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_ip.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    by_ip.remove(&ip);
                }
            }
        }
        self.admission.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The address that a peer is counted by: of IPv6 its /64, which is what one customer has.
fn counted(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(change: impl FnOnce(&mut Options)) -> (Arc<Admission>, Instant) {
        let mut options = Options::default();
        change(&mut options);
        let start = Instant::now();
        (Admission::new(&options, start), start)
    }

    fn peer(text: &str) -> Address {
        Address::Ip(text.parse().unwrap())
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let (admission, start) = admission(|_| {});
        assert!(admission.enter(&peer("127.0.0.1:1")).unwrap().is_none());
        assert_eq!(admission.rest_after_accept(start), None);
    }

    #[test]
    fn a_place_comes_free_when_its_ticket_is_dropped() {
        let (admission, _) = admission(|o| o.max_connections = 1);
        let first = admission.enter(&peer("127.0.0.1:1")).unwrap();
        assert_eq!(admission.enter(&peer("127.0.0.1:1")).unwrap_err(), Refusal::Full);
        drop(first);
        assert!(admission.enter(&peer("127.0.0.1:1")).unwrap().is_some());
        assert!(!admission.take_waiting());
    }

    #[test]
    fn who_waits_is_seen_once() {
        let (admission, _) = admission(|o| {
            o.max_connections = 1;
            o.when_full = WhenFull::Wait;
        });
        let _first = admission.enter(&peer("127.0.0.1:1")).unwrap();
        assert_eq!(admission.enter(&peer("127.0.0.1:1")).unwrap_err(), Refusal::Wait);
        assert!(admission.take_waiting());
        assert!(!admission.take_waiting());
    }

    #[test]
    fn addresses_are_counted_by_what_one_customer_has() {
        let (admission, _) = admission(|o| o.max_connections_per_ip = 1);
        let tickets = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1", "[2001:db8:0:1::1]:1"]
            .map(|text| admission.enter(&peer(text)).unwrap().unwrap());
        for text in ["192.0.2.1:2", "[::ffff:192.0.2.2]:1", "[2001:db8::2]:1"] {
            assert_eq!(admission.enter(&peer(text)).unwrap_err(), Refusal::Address);
        }
        assert!(admission.enter(&Address::Unix(None)).is_ok());
        drop(tickets);
        assert!(admission.by_ip.lock().unwrap().is_empty());
        assert_eq!(admission.open.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_accept_rate_holds_over_time_and_lets_a_burst_pass() {
        let (admission, start) = admission(|o| o.accept_rate = Some(100));
        let (mut now, mut accepted) = (start, 0);
        while now < start + Duration::from_secs(10) {
            accepted += 1;
            now += admission.rest_after_accept(now).unwrap_or_default();
        }
        assert!((1_000..=1_011).contains(&accepted), "{accepted} in 10 s at 100 a second");
        now += Duration::from_secs(60);
        let at_once = (0..).find(|_| admission.rest_after_accept(now).is_some()).unwrap() + 1;
        assert_eq!(at_once, 10, "a tenth of a second's worth comes at once");
    }
}
