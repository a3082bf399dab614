//! The ledger of what is relayed. The handler sees none of it, so who may relay is known from the
//! start: such a peer sends bytes that nobody else writes, of one of four kinds, and a connection is
//! relayed to by at most one peer of each kind. So each byte that is taken tells where it came from.

use std::collections::VecDeque;

use super::network::Network;

/// Kinds of peers whose input may be relayed.
pub(crate) const KINDS: usize = 4;

/// What one connection is relayed by one peer of a kind.
#[derive(Debug, Default)]
pub(crate) struct Inflow {
    /// The peer's link.
    source: Option<usize>,
    /// Stretches of its input, from the next byte that is to be taken; each with its end, once
    /// relaying has ended.
    stretches: VecDeque<(usize, Option<usize>)>,
}

/// The byte at `place` of what the peer of `link` sends, if it is of a kind that may be relayed.
pub(super) fn relayed_byte(kind: usize, link: usize, place: usize) -> u8 {
    let mixed = place.wrapping_mul(7) ^ (place >> 4) ^ (place >> 9) ^ link;
    (kind << 4 | mixed & 0xf) as u8
}

impl Network {
    /// Whether `link` is one whose input may be relayed to `to`.
    pub(crate) fn may_relay(&self, link: usize, to: usize) -> bool {
        let connection = &self.links[link];
        let lives = connection.book.opened > 0 && connection.book.closed == 0;
        // A megabyte through a window of a byte would be a matter of hours.
        let is_wide = connection.peer.amount() <= self.links[to].window.saturating_mul(300);
        (lives && is_wide)
            && connection.peer.kind.is_some_and(|kind| {
                let source = self.links[to].book.inflows[kind].source;
                source.is_none_or(|source| source == link)
            })
    }

    pub(crate) fn is_relayed_to(&self, to: usize) -> bool {
        self.links[to].book.inflows.iter().any(|inflow| inflow.source.is_some())
    }

    /// From now on input of `link` goes to `to`; `relayed` bytes had been by then.
    pub(crate) fn relays(&mut self, link: usize, to: usize, relayed: usize) {
        self.stops_relaying(link, relayed);
        self.note("relays", link, to);
        let Some(kind) = self.links[link].peer.kind else { return };
        let place = self.links[link].book.consumed;
        self.links[link].book.relays = Some(to);
        let inflow = &mut self.links[to].book.inflows[kind];
        inflow.source = Some(link);
        inflow.stretches.push_back((place, None));
    }

    /// So many bytes of its input have been relayed, as the loop says: what is offered to the handler
    /// and what arrives at the other side must be the bytes behind them, and these.
    pub(crate) fn has_relayed(&mut self, link: usize, relayed: usize) {
        let book = &mut self.links[link].book;
        let grown = relayed - book.relayed;
        book.relayed = relayed;
        book.consumed += grown;
        book.offered = book.offered.max(book.consumed);
        let (consumed, delivered, relays) = (book.consumed, book.delivered, book.relays);
        if grown == 0 {
            return;
        }
        match relays {
            Some(_) if consumed > delivered => {
                self.fail(format!("link {link}: more was relayed than had arrived"));
            }
            Some(to) => self.links[to].book.relayed_in += grown,
            None => self.fail(format!("link {link}: something is relayed, but nowhere")),
        }
    }

    pub(crate) fn stops_relaying(&mut self, link: usize, relayed: usize) {
        self.has_relayed(link, relayed);
        let connection = &mut self.links[link];
        let end = connection.book.consumed;
        let (Some(kind), Some(to)) = (connection.peer.kind, connection.book.relays.take()) else {
            return;
        };
        self.note("relays no more", link, to);
        if let Some((next, last)) = self.links[to].book.inflows[kind].stretches.back_mut() {
            *last = Some(end);
            if *next > end {
                self.fail(format!("link {to}: more was sent than was relayed"));
            }
        }
    }

    /// The link that is relayed to has become this one.
    pub(super) fn relays_move(&mut self, from: usize, to: usize) {
        for link in &mut self.links {
            if link.book.relays == Some(from) {
                link.book.relays = Some(to);
            }
        }
    }

    pub(super) fn take_relayed(&mut self, link: usize, byte: u8) -> Option<&'static str> {
        let kind = usize::from(byte >> 4);
        let book = &mut self.links[link].book;
        book.taken_relayed += 1;
        let inflow = &mut book.inflows[kind];
        let Some(source) = inflow.source else { return Some("nobody relays such bytes to it") };
        while inflow.stretches.front().is_some_and(|(next, end)| Some(*next) == *end) {
            inflow.stretches.pop_front();
        }
        let Some((next, _)) = inflow.stretches.front_mut() else {
            return Some("more than was relayed");
        };
        let place = *next;
        *next += 1;
        let delivered = self.links[source].book.delivered;
        let fits = place < delivered && byte == relayed_byte(kind, source, place);
        (!fits).then_some("not what was relayed")
    }

    /// Whether everything that was relayed to it has been taken, if it could be.
    pub(super) fn has_taken_relayed(&self, link: usize) -> bool {
        let connection = &self.links[link];
        let book = &connection.book;
        // What is relayed to one that sends no more is dropped.
        let is_over = book.shut_write || connection.reset_told || connection.broken;
        is_over || book.relayed_in <= book.taken_relayed
    }
}
