//! The truth about every connection, kept beside the loop by those who cannot be wrong: the
//! network, which knows what it delivered and took, and the handler under test, which knows what
//! it was told and what it wrote. Where the two disagree, a rule is broken.
//!
//! Several writers may mix their bytes in one connection's output in an order that only the loop
//! knows, so each has its own range of bytes: what is relayed from others 0x00 to 0x3f (`relays.rs`),
//! handler callbacks 0x40 to 0x7f (whatever they like, remembered here), handles of other threads 0x80 to 0xbf (by pattern), broadcasts 0xc0 to 0xff
//! (the message's number).

use std::collections::VecDeque;

use super::network::Network;
use super::relays::{Inflow, KINDS};
use super::told::LEEWAY;
use crate::options::Options;

/// Kinds of close reasons.
pub(crate) const REASONS: usize = 17;

/// The limits that the loop under test has to keep, as its options say.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) max_pending_output: usize,
    pub(crate) max_unconsumed_input: usize,
    pub(crate) high_watermark: usize,
    pub(crate) low_watermark: usize,
    pub(crate) close_timeout: u64,
    pub(crate) linger_timeout: u64,
    pub(crate) linger_bytes: usize,
    pub(crate) half_close: bool,
    /// Idle, read idle, write idle, first byte, write stall; milliseconds, zero for none.
    pub(crate) timeouts: [u64; 5],
    /// Panics that the handler meant.
    pub(crate) panics: usize,
    /// Lengths of the broadcasts so far.
    pub(crate) broadcasts: Vec<usize>,
    /// Since when something from other threads waits for the loop.
    pub(crate) mail_since: Option<u64>,
    pub(crate) stop_asked: Option<u64>,
    /// When the loop must have ended.
    pub(crate) stop_deadline: Option<u64>,
    pub(crate) shutdowns: usize,
    pub(crate) opened: usize,
    pub(crate) closed: usize,
    pub(crate) delivered: usize,
    pub(crate) taken: usize,
    pub(crate) connects: usize,
    /// How many connections ended by which reason.
    pub(crate) reasons: [usize; REASONS],
}

impl Ledger {
    pub(crate) fn new(options: &Options) -> Self {
        Ledger {
            max_pending_output: options.max_pending_output,
            max_unconsumed_input: options.max_unconsumed_input,
            high_watermark: options.high_watermark,
            low_watermark: options.low_watermark(),
            close_timeout: options.close_timeout.as_micros() as u64,
            linger_timeout: options.linger_timeout.as_micros() as u64,
            linger_bytes: options.linger_bytes,
            half_close: options.half_close,
            timeouts: [
                options.idle_timeout,
                options.read_idle_timeout,
                options.write_idle_timeout,
                options.first_byte_timeout,
                options.write_stall_timeout,
            ]
            .map(|timeout| timeout.map_or(0, |t| t.as_millis() as u64)),
            ..Ledger::default()
        }
    }
}

/// The truth about one connection.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) opened: usize,
    pub(crate) closed: usize,
    pub(crate) connect_failed: usize,
    /// Bytes of the peer that the driver gave out, offered to the handler, consumed by it.
    pub(crate) delivered: usize,
    pub(crate) offered: usize,
    pub(crate) consumed: usize,
    /// What callbacks wrote and the driver has not taken.
    pub(super) expected: VecDeque<u8>,
    /// Bytes that callbacks wrote, that handles were allowed to queue.
    pub(crate) written: usize,
    pub(crate) queued: usize,
    /// Bytes taken of each writer, and of all.
    pub(crate) taken_written: usize,
    pub(crate) taken_queued: usize,
    /// Where its input is relayed to, and how much of it was so far.
    pub(super) relays: Option<usize>,
    pub(super) relayed: usize,
    /// What others' input it is relayed, how much that is, and how much of it was taken.
    pub(super) inflows: [Inflow; KINDS],
    pub(crate) relayed_in: usize,
    pub(crate) taken_relayed: usize,
    /// The broadcast that has begun to be taken, and how much of it was.
    broadcast: Option<(usize, usize)>,
    pub(super) broadcast_bytes: usize,
    pub(crate) taken: usize,
    /// What the peer has read.
    pub(crate) arrived: usize,
    taken_sum: u64,
    arrived_sum: u64,
    /// What was done to it.
    pub(crate) asked_close: bool,
    pub(crate) asked_abort: bool,
    pub(crate) handle_closed: bool,
    pub(crate) shut_write: bool,
    /// The handler has paused it.
    pub(crate) paused: bool,
    pub(crate) eof_told: bool,
    /// Idle, read idle, write idle; milliseconds, zero for none.
    pub(crate) timeouts: [u64; 3],
    pub(crate) panicked: bool,
    pub(super) opened_at: u64,
    pub(super) last_delivered: u64,
    pub(super) last_taken: u64,
    /// The most that was pending since the last on_drain.
    pub(crate) peak: usize,
    /// The handler has written above the high mark, and waits for on_drain.
    pub(crate) owed_drain: bool,
    pub(crate) wakes_asked: usize,
    pub(crate) wakes_told: usize,
    /// on_close came, with everything delivered.
    pub(super) closed_whole: bool,
    pub(super) closed_at: u64,
    dropped: usize,
    /// The socket was kept long enough for the peer to read everything.
    patient: bool,
    released: bool,
}

impl Book {
    /// No callback but pre_write and on_close may come any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.asked_close || self.asked_abort || self.panicked || self.closed > 0
    }

    /// The most that may be pending: the loop may not have got to what is queued.
    pub(super) fn most_pending(&self, broadcasts: &[usize]) -> usize {
        let broadcasts: usize = broadcasts.iter().sum();
        // What was relayed in this turn is not known yet.
        (self.written + self.queued + self.relayed_in + broadcasts).saturating_sub(self.taken)
    }
}

/// The byte at `place` of what other threads write to `link`.
pub(crate) fn queued_pattern(link: usize, place: usize) -> u8 {
    0x80 | ((place.wrapping_mul(13) ^ (place >> 6) ^ link.wrapping_mul(5)) & 0x3f) as u8
}

/// Every byte of broadcast `number`.
pub(crate) fn broadcast_byte(number: usize) -> u8 {
    0xc0 | (number & 0x3f) as u8
}

fn mix(sum: u64, byte: u8) -> u64 {
    (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

/// What the network knows.
impl Network {
    pub(crate) fn delivers(&mut self, link: usize, length: usize) {
        self.ledger.delivered += length;
        let now = self.now;
        let book = &mut self.links[link].book;
        book.delivered += length;
        book.last_delivered = now;
        if book.closed > 0 {
            book.dropped += length;
        }
    }

    /// The driver takes these bytes from the loop.
    pub(crate) fn takes(&mut self, link: usize, bytes: &[u8]) {
        self.ledger.taken += bytes.len();
        self.links[link].book.last_taken = self.now;
        for &byte in bytes {
            let fault = match byte {
                0..0x40 => self.take_relayed(link, byte),
                0x40..0x80 => self.take_written(link, byte),
                0x80..0xc0 => self.take_queued(link, byte),
                0xc0.. => self.take_broadcast(link, byte),
            };
            let book = &mut self.links[link].book;
            book.taken += 1;
            book.taken_sum = mix(book.taken_sum, byte);
            if let Some(fault) = fault {
                let place = book.taken;
                return self.fail(format!("link {link}: output byte {place}: {fault}"));
            }
        }
    }

    fn take_written(&mut self, link: usize, byte: u8) -> Option<&'static str> {
        let book = &mut self.links[link].book;
        book.taken_written += 1;
        (book.expected.pop_front() != Some(byte)).then_some("not what the handler wrote")
    }

    fn take_queued(&mut self, link: usize, byte: u8) -> Option<&'static str> {
        let book = &mut self.links[link].book;
        let expected = queued_pattern(link, book.taken_queued);
        book.taken_queued += 1;
        (book.taken_queued > book.queued || byte != expected)
            .then_some("not what other threads wrote")
    }

    /// Broadcasts come whole and one after the other, from the first that finds it open.
    fn take_broadcast(&mut self, link: usize, byte: u8) -> Option<&'static str> {
        let lengths = &self.ledger.broadcasts;
        let book = &mut self.links[link].book;
        book.broadcast_bytes += 1;
        let (number, taken) = match book.broadcast {
            Some((number, taken)) if taken < lengths[number] => (number, taken),
            Some((number, _)) => (number + 1, 0),
            None => {
                let first = (0..lengths.len()).rev().find(|n| broadcast_byte(*n) == byte)?;
                (first, 0)
            }
        };
        book.broadcast = Some((number, taken + 1));
        let fits = number < lengths.len() && byte == broadcast_byte(number);
        (!fits).then_some("not what was broadcast")
    }

    /// The peer has read these bytes.
    pub(crate) fn peer_has(&mut self, link: usize, bytes: &[u8]) {
        let book = &mut self.links[link].book;
        book.arrived += bytes.len();
        book.arrived_sum = bytes.iter().fold(book.arrived_sum, |sum, byte| mix(sum, *byte));
        if book.arrived > book.taken
            || (book.arrived == book.taken && book.arrived_sum != book.taken_sum)
        {
            self.fail(format!("link {link}: the peer read other bytes than were sent"));
        }
    }

    /// The server's socket is closed: from now on late input is answered with a reset.
    pub(crate) fn releases(&mut self, link: usize) {
        let stopping = self.ledger.stop_asked.is_some();
        let linger = self.ledger.linger_timeout;
        let patience = if stopping { linger.min(250_000) } else { linger };
        let past_deadline = self.ledger.stop_deadline.is_some_and(|d| self.now + LEEWAY >= d);
        let (now, linger_bytes) = (self.now, self.ledger.linger_bytes);
        let book = &mut self.links[link].book;
        let waited = now.saturating_sub(book.closed_at) + LEEWAY >= patience;
        book.released = true;
        book.patient = waited || past_deadline || book.dropped > linger_bytes;
    }

    /// A reset is about to destroy what the peer has not read.
    pub(crate) fn judge_reset(&mut self, link: usize) {
        let connection = &self.links[link];
        let book = &connection.book;
        let unread = connection.down.bytes + connection.peer.arrived.len();
        let peer_is_there = !connection.peer.closed && !connection.reset_arrived;
        if unread > 0 && peer_is_there && book.closed_whole && book.released && !book.patient {
            let rule = format!("link {link}: {unread} last bytes were destroyed by a reset");
            self.fail(rule);
        }
    }

    /// The connection is over on both sides, or never will be: was everything as promised?
    pub(crate) fn judge_end(&mut self, link: usize) {
        let connection = &self.links[link];
        let (book, peer) = (&connection.book, &connection.peer);
        let fault = if book.opened != book.closed {
            format!("opened {} times and closed {} times", book.opened, book.closed)
        } else if connection.outgoing && book.opened + book.connect_failed > 1 {
            "a connect had two outcomes".to_owned()
        } else if peer.got_fin
            && !peer.got_reset
            && !peer.left
            && peer.arrived.is_empty()
            && book.arrived != book.taken
        {
            format!("the peer read {} bytes and FIN, of {} sent", book.arrived, book.taken)
        } else {
            return;
        };
        self.fail(format!("link {link}: {fault}"));
    }
}
