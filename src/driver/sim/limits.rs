//! Who was let in, and whether that was right: the limits on connections, counted by the network
//! from the sockets that it sees.

use std::net::IpAddr;
use std::time::Duration;

use super::link::Stage;
use super::network::{Network, address_of};
use crate::options::{Options, WhenFull};

/// An accept rate lets so much of a second come at once.
const BURST_NS: u64 = 100_000_000;

/// A place that is free is found within this time, in microseconds: the loop looks every 100 ms,
/// and a turn may drift.
const PLACE_FREE: u64 = 150_000;

/// The limits on who may come in.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    max: usize,
    waits: bool,
    max_per_ip: usize,
    /// Between two connections at the full rate; zero for no limit.
    interval_ns: u64,
    /// When the next one would be on time.
    next_ns: u64,
    pub(crate) accepted: usize,
    /// Since when somebody waits though there is a place.
    place_free_since: Option<u64>,
}

impl Limits {
    pub(crate) fn new(options: &Options) -> Self {
        let second = Duration::from_secs(1).as_nanos() as u64;
        Limits {
            max: options.max_connections,
            waits: options.when_full == WhenFull::Wait,
            max_per_ip: options.max_connections_per_ip,
            interval_ns: options.accept_rate.map_or(0, |rate| second / u64::from(rate)),
            ..Limits::default()
        }
    }
}

impl Network {
    /// Accepted connections that have a socket, of all hosts or of one.
    pub(crate) fn accepted_and_open(&self, ip: Option<IpAddr>) -> usize {
        let is_open = |stage| matches!(stage, Stage::Open(_));
        let links = self.links.iter().enumerate();
        links
            .filter(|(_, link)| !link.outgoing && is_open(link.stage))
            .filter(|(number, _)| ip.is_none_or(|ip| ip == address_of(*number).ip()))
            .count()
    }

    /// The loop has accepted one: not too early for the rate.
    pub(crate) fn is_accepted(&mut self) {
        let now_ns = self.now * 1_000;
        let listeners = self.listeners.len() as u64;
        let limits = &mut self.limits;
        limits.accepted += 1;
        if limits.interval_ns == 0 {
            return;
        }
        limits.next_ns = limits.next_ns.max(now_ns) + limits.interval_ns;
        // One each for those that listeners had accepted before they could be told to rest, and
        // timers are to the millisecond.
        let burst = BURST_NS.max(limits.interval_ns) + limits.interval_ns * listeners + 1_000_000;
        if limits.next_ns - now_ns > burst {
            self.fail("connections are accepted faster than the rate".to_owned());
        }
    }

    /// A connection that the loop has accepted is closed without having been opened.
    pub(crate) fn is_refused(&mut self, link: usize) {
        let limits = &self.limits;
        let is_full = !limits.waits && self.accepted_and_open(None) >= limits.max;
        let ip = Some(address_of(link).ip());
        let has_too_many = self.accepted_and_open(ip) >= limits.max_per_ip;
        let is_over = self.ledger.stop_asked.is_some() || self.links[link].no_memory;
        if !is_full && !has_too_many && !is_over {
            self.fail(format!("link {link}: it was refused though there is room"));
        }
    }

    /// What holds between two turns: no more than may be, and nobody waits for nothing.
    pub(crate) fn check_limits(&mut self) {
        let open = self.accepted_and_open(None);
        let (max, max_per_ip) = (self.limits.max, self.limits.max_per_ip);
        let ips = self.links.len().min(super::network::HOSTS as usize);
        let most = (0..ips).map(|link| self.accepted_and_open(Some(address_of(link).ip()))).max();
        let waiting = self.links.iter().filter(|link| link.stage == Stage::Held).count();
        let rule = if open > max {
            "there are more connections than there may be"
        } else if most.is_some_and(|most| most > max_per_ip) {
            "there are more connections of one address than there may be"
        } else if waiting > self.listeners.len() {
            "more connections are held without a place than there are listeners"
        } else {
            let idle = waiting > 0 && open < max;
            let since = self.limits.place_free_since.take().filter(|_| idle);
            self.limits.place_free_since = idle.then(|| since.unwrap_or(self.now));
            if since.is_none_or(|since| self.now <= since + PLACE_FREE) {
                return;
            }
            "somebody waits though there is a place"
        };
        self.fail(rule.to_owned());
    }
}
