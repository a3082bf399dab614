//! The simulated peers: each sends its pattern, reads at its own pace, and ends in its own way.

use std::collections::VecDeque;

use super::link::{Segment, Stage};
use super::network::{Item, Network};
use super::random::Random;
use super::relays::{KINDS, relayed_byte};
use super::weather::Weather;

/// A peer with nothing to do looks again after ever longer times, up to this.
const LONGEST_PAUSE: u64 = 400_000;

/// What a peer does when it has sent everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Closes its sending side and reads on.
    HalfClose,
    /// Closes, whatever it has not read.
    Close,
    /// Waits for the server to close.
    Wait,
}

/// How a peer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appetite {
    Eager,
    /// So many bytes a step, at most.
    Slow(usize),
    Never,
}

#[derive(Debug)]
pub(crate) struct Peer {
    /// What it sends may be relayed, and is of this kind; see `relays.rs`.
    pub(crate) kind: Option<usize>,
    /// It sends much, as much as it can at once: only such input is moved.
    pub(crate) in_bulk: bool,
    pub(crate) sent: usize,
    to_send: usize,
    chunk: usize,
    appetite: Appetite,
    farewell: Farewell,
    pace: u64,
    pause: u64,
    /// The step that counts; those planned before do not.
    stamp: u64,
    /// Arrived from the server and not read.
    pub(crate) arrived: VecDeque<u8>,
    pub(crate) got_fin: bool,
    pub(crate) got_reset: bool,
    pub(crate) fin_sent: bool,
    /// Its socket is closed, in order or not.
    pub(crate) closed: bool,
    /// It closed before it had read everything.
    pub(crate) left: bool,
    pub(crate) reset_sent: bool,
    /// Gone without a word: what is sent to it is never acknowledged.
    pub(crate) vanished: bool,
}

impl Peer {
    pub(crate) fn by_chance(random: &mut Random, weather: &Weather, window: usize) -> Self {
        // A megabyte through a window of a byte would be a matter of hours.
        let most = weather.peer_bytes.min(window * 60);
        let relayed = random.chance(weather.relayed);
        let kind = relayed.then(|| random.between(0, KINDS - 1));
        let in_bulk = relayed && random.chance(600);
        let left = if in_bulk { most } else { random.size(most + 1) - 1 };
        let appetite = match random.below(10) {
            0 => Appetite::Never,
            1..=3 => Appetite::Slow(random.size(window).max(window / 200)),
            _ => Appetite::Eager,
        };
        let farewell = match random.below(10) {
            0 | 1 => Farewell::Close,
            2..=4 => Farewell::Wait,
            _ => Farewell::HalfClose,
        };
        let chunk = random.pick(&[1, 50, 1_000, 100_000]).max(left / 500);
        let pace = 1 + random.below(weather.pace);
        Peer {
            kind,
            in_bulk,
            sent: 0,
            to_send: left,
            chunk,
            appetite,
            farewell,
            pace,
            pause: pace,
            stamp: 0,
            arrived: VecDeque::new(),
            got_fin: false,
            got_reset: false,
            fin_sent: false,
            closed: false,
            left: false,
            reset_sent: false,
            vanished: false,
        }
    }
}

impl Peer {
    /// All that it sends.
    pub(super) fn amount(&self) -> usize {
        self.sent + self.to_send
    }
}

/// The byte at `place` of what the peer of `link` sends: below 0x80, see `ledger.rs`.
pub(super) fn pattern(kind: Option<usize>, link: usize, place: usize) -> u8 {
    match kind {
        Some(kind) => relayed_byte(kind, link, place),
        None => written_byte(place.wrapping_mul(31) ^ (place >> 7) ^ link.wrapping_mul(17)),
    }
}

/// One of the bytes that are not relayed and that handlers may write.
pub(crate) fn written_byte(number: usize) -> u8 {
    0x40 | (number & 0x3f) as u8
}

impl Network {
    /// Has the peer act soon.
    pub(crate) fn wake_peer(&mut self, link: usize) {
        let pause = 1 + self.random.below(self.links[link].peer.pace);
        self.plan_step(link, pause);
    }

    fn plan_step(&mut self, link: usize, after: u64) {
        let peer = &mut self.links[link].peer;
        peer.stamp += 1;
        let stamp = peer.stamp;
        self.schedule(after, Item::Step { link, stamp });
    }

    pub(crate) fn peer_step(&mut self, link: usize, stamp: u64) {
        let peer = &self.links[link].peer;
        if peer.stamp != stamp || peer.closed || peer.vanished {
            return;
        }
        if self.links[link].stage == Stage::Reserved {
            return;
        }
        if self.random.chance(self.weather.vanish) {
            self.journal.note(self.now, "peer vanishes", link as u64, 0);
            self.links[link].peer.vanished = true;
            return;
        }
        if self.random.chance(self.weather.reset) {
            return self.peer_close(link, true);
        }
        let busy = self.peer_read(link) | self.peer_send(link);
        if self.peer_end(link) {
            return;
        }
        let peer = &mut self.links[link].peer;
        peer.pause = if busy { peer.pace } else { (peer.pause * 2).min(LONGEST_PAUSE) };
        let pause = peer.pause;
        let after = 1 + self.random.below(pause);
        self.plan_step(link, after);
    }

    fn peer_read(&mut self, link: usize) -> bool {
        let room = self.links[link].room_down();
        let peer = &mut self.links[link].peer;
        let length = match peer.appetite {
            Appetite::Eager => peer.arrived.len(),
            Appetite::Slow(most) => peer.arrived.len().min(most),
            Appetite::Never => 0,
        };
        if length == 0 {
            return false;
        }
        let bytes: Vec<u8> = peer.arrived.drain(..length).collect();
        self.journal.note(self.now, "peer reads", link as u64, length as u64);
        self.peer_has(link, &bytes);
        debug_assert!(self.links[link].room_down() >= room);
        true
    }

    fn peer_send(&mut self, link: usize) -> bool {
        let room = self.links[link].room_up();
        let peer = &mut self.links[link].peer;
        if peer.fin_sent || peer.got_reset {
            return false;
        }
        let chunk = if peer.in_bulk { room } else { self.random.size(peer.chunk) };
        let length = chunk.min(peer.to_send).min(room);
        if length == 0 {
            return false;
        }
        let (kind, places) = (peer.kind, peer.sent..peer.sent + length);
        let bytes = places.map(|place| pattern(kind, link, place)).collect();
        peer.sent += length;
        peer.to_send -= length;
        self.journal.note(self.now, "peer sends", link as u64, length as u64);
        self.send_up(link, Segment::Bytes(bytes));
        true
    }

    /// Ends what there is to end; true if the peer is done.
    fn peer_end(&mut self, link: usize) -> bool {
        let peer = &mut self.links[link].peer;
        if peer.got_reset {
            peer.closed = true;
            return true;
        }
        let may_say_goodbye = peer.to_send == 0 || peer.got_fin;
        if may_say_goodbye && !peer.fin_sent {
            let close_now = peer.farewell == Farewell::Close;
            let wait = peer.farewell == Farewell::Wait && !peer.got_fin;
            if close_now {
                self.peer_close(link, false);
                return true;
            }
            if !wait {
                peer.fin_sent = true;
                self.journal.note(self.now, "peer sends FIN", link as u64, 0);
                self.send_up(link, Segment::Fin);
            }
        }
        let peer = &self.links[link].peer;
        if peer.fin_sent && peer.got_fin && peer.arrived.is_empty() {
            self.peer_close(link, false);
            return true;
        }
        false
    }

    /// Closes the peer's socket: with a reset if asked to, or if it has not read everything.
    fn peer_close(&mut self, link: usize, reset: bool) {
        let peer = &mut self.links[link].peer;
        peer.closed = true;
        peer.left = !peer.got_fin || !peer.arrived.is_empty();
        let reset = reset || !peer.arrived.is_empty();
        let fin_sent = std::mem::replace(&mut peer.fin_sent, true);
        self.journal.note(self.now, "peer closes", link as u64, u64::from(reset));
        if reset {
            self.reset_up(link);
        } else if !fin_sent {
            self.send_up(link, Segment::Fin);
        }
    }

    /// The peer's system resets the connection.
    pub(crate) fn reset_up(&mut self, link: usize) {
        let peer = &mut self.links[link].peer;
        if !std::mem::replace(&mut peer.reset_sent, true) {
            self.send_up(link, Segment::Reset);
        }
    }
}
