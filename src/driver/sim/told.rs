//! The ledger's other half: what the handler under test is told and what it does, entered by the
//! handler itself, and judged by what the network knows.

use super::network::Network;
use super::peer::pattern;
use crate::error::CloseReason;

/// Times are compared with this much leeway: timers are to the millisecond, and a turn may drift.
pub(super) const LEEWAY: u64 = 6_000;

/// What the handler's own panics say.
pub(crate) const PLANNED_PANIC: &str = "planned";

/// What the handler knows.
impl Network {
    pub(crate) fn opens(&mut self, link: usize) {
        self.note("on_open", link, 0);
        self.ledger.opened += 1;
        let now = self.now;
        let connection = &mut self.links[link];
        connection.book.opened += 1;
        let book = &mut connection.book;
        (book.opened_at, book.last_delivered, book.last_taken) = (now, now, now);
        for (own, option) in book.timeouts.iter_mut().zip(self.ledger.timeouts) {
            // What was set while it was being made stays.
            *own = if *own > 0 { *own } else { option };
        }
        if connection.book.opened > 1 || connection.book.connect_failed > 0 {
            self.fail(format!("link {link}: on_open for one that was open before"));
        }
    }

    /// A callback other than on_open and on_close.
    pub(crate) fn calls(&mut self, link: usize, what: &'static str) {
        self.note(what, link, 0);
        let book = &self.links[link].book;
        if book.opened == 0 || book.closed > 0 {
            self.fail(format!("link {link}: {what} before on_open or after on_close"));
        } else if book.is_ending() && (what != "pre_write" || book.panicked) {
            self.fail(format!("link {link}: {what} after the handler has closed it"));
        }
    }

    /// Input is offered.
    pub(crate) fn offers(&mut self, link: usize, input: &[u8]) {
        let (kind, place) = (self.links[link].peer.kind, self.links[link].book.consumed);
        self.note("offered", link, input.len());
        let book = &mut self.links[link].book;
        let end = place + input.len();
        let fault = if input.is_empty() {
            "no input is offered"
        } else if book.paused {
            "input is offered while reading is paused"
        } else if end > book.delivered || end < book.offered {
            "more input is offered than arrived, or less than before"
        } else if input.iter().zip(place..).any(|(byte, place)| *byte != pattern(kind, link, place))
        {
            "other input is offered than arrived"
        } else {
            book.offered = end;
            return;
        };
        let (delivered, offered) = (book.delivered, book.offered);
        self.fail(format!("link {link}: {fault}: {place}..{end}, {delivered}, {offered}"));
    }

    pub(crate) fn writes(&mut self, link: usize, bytes: &[u8]) {
        let high = self.ledger.high_watermark;
        let book = &mut self.links[link].book;
        book.written += bytes.len();
        book.expected.extend(bytes);
        book.peak = book.peak.max(book.expected.len());
        book.owed_drain |= book.expected.len() > high;
        self.note("wrote", link, bytes.len());
    }

    /// All that the peer has sent was offered, and its FIN may be told.
    pub(crate) fn ends_input(&mut self, link: usize) {
        let Some(connection) = self.links.get(link) else { return };
        let (sent, book) = (connection.peer.sent, &connection.book);
        if !connection.fin_told || book.delivered != sent || book.offered != sent {
            let (delivered, offered) = (book.delivered, book.offered);
            self.fail(format!(
                "link {link}: the peer's FIN is told, but of {sent} bytes {delivered} were \
                 received and {offered} offered"
            ));
        }
    }

    /// on_drain, which comes at the turn's end: `pending` may have passed the high mark once more by
    /// then, and is to fall again.
    pub(crate) fn drains(&mut self, link: usize, pending: usize) {
        let (high, low) = (self.ledger.high_watermark, self.ledger.low_watermark);
        let is_relayed_to = self.is_relayed_to(link);
        let connection = &mut self.links[link];
        let is_lost = connection.reset_told || connection.broken || is_relayed_to;
        let book = &mut connection.book;
        book.owed_drain = false;
        let peak = book.peak + book.queued + book.broadcast_bytes;
        if pending <= low {
            book.peak = pending;
        }
        if peak <= high && !is_lost {
            self.fail(format!("link {link}: on_drain though little was pending"));
        }
    }

    /// A connect has come to this one of its addresses: what was done to the connection before is
    /// this one's.
    pub(crate) fn moves(&mut self, from: usize, to: usize) {
        self.note("connected by another address", from, to);
        self.links[to].book = std::mem::take(&mut self.links[from].book);
        self.relays_move(from, to);
    }

    /// on_open_failed, for one that the handler has asked for.
    pub(crate) fn fails_to_open(&mut self, link: usize, reason: &CloseReason) {
        self.note("on_open_failed", link, 0);
        let fits = match reason {
            CloseReason::ConnectFailed(_) => true,
            CloseReason::Local => {
                let book = &self.links[link].book;
                book.asked_close || book.handle_closed
            }
            CloseReason::ServerStopped => self.ledger.stop_asked.is_some(),
            CloseReason::Aborted | CloseReason::OutputLimit => {
                self.wrong_reason(link, reason).is_none()
            }
            _ => false,
        };
        let book = &mut self.links[link].book;
        book.connect_failed += 1;
        if (book.opened, book.connect_failed) != (0, 1) {
            self.fail(format!("link {link}: a connect had two outcomes"));
        } else if !fits {
            self.fail(format!("link {link}: not opened as \"{reason}\""));
        }
    }

    pub(crate) fn closes(&mut self, link: usize, reason: &CloseReason) {
        let (name, number) = name_of(reason);
        self.note("on_close", link, number);
        self.note(name, link, number);
        self.ledger.closed += 1;
        self.ledger.reasons[number] += 1;
        let fault = self.wrong_reason(link, reason);
        let now = self.now;
        let took_relayed = self.has_taken_relayed(link);
        let book = &mut self.links[link].book;
        book.closed += 1;
        book.closed_at = now;
        let promised = match reason {
            CloseReason::Local | CloseReason::PeerClosed => true,
            CloseReason::ServerStopped => book.queued == book.taken_queued,
            _ => false,
        };
        book.closed_whole = promised && book.taken_written == book.written && took_relayed;
        let times = (book.opened, book.closed);
        if times != (1, 1) {
            self.fail(format!("link {link}: opened and closed {times:?} times"));
        }
        if let Some(fault) = fault {
            self.fail(format!("link {link}: closed as \"{reason}\": {fault}"));
        }
        if matches!(reason, CloseReason::PeerClosed) {
            self.ends_input(link);
        }
    }

    /// What does not fit a reason, if anything.
    fn wrong_reason(&self, link: usize, reason: &CloseReason) -> Option<&'static str> {
        let (ledger, connection) = (&self.ledger, &self.links[link]);
        let book = &connection.book;
        let whole = book.written == book.taken_written && self.has_taken_relayed(link);
        let in_time = ledger.stop_deadline.is_some_and(|d| self.now + LEEWAY < d);
        let unconsumed = book.delivered - book.consumed;
        let since = |moment: u64| self.now.saturating_sub(moment) + LEEWAY;
        let unheard = since(book.last_delivered);
        let unsent = since(book.last_taken);
        let [idle, read_idle, write_idle] = book.timeouts;
        let [_, _, _, first_byte, write_stall] = ledger.timeouts;
        let over = |silent: u64, limit: u64| {
            (limit == 0 || silent < limit * 1_000).then_some("there was traffic, or no timeout")
        };
        let rule = |fits: bool, fault: &'static str| (!fits).then_some(fault);
        let is_unread = connection.receiving && !connection.arrived.is_empty();
        let silent = || rule(!is_unread, "it had spoken");
        match reason {
            CloseReason::Local => rule(book.asked_close || book.handle_closed, "nobody did")
                .or(rule(whole, "not everything was sent")),
            CloseReason::Aborted => rule(book.asked_abort, "nobody did"),
            CloseReason::PeerClosed => rule(connection.fin_told, "there was no FIN")
                .or(rule(whole, "not everything was sent")),
            CloseReason::PeerReset(_) => rule(connection.reset_told, "there was no reset"),
            CloseReason::Failed(_) => rule(connection.broken, "nothing failed"),
            CloseReason::IdleTimeout => over(unheard.min(unsent), idle).or(silent()),
            CloseReason::ReadIdleTimeout => over(unheard, read_idle).or(silent()),
            CloseReason::WriteIdleTimeout => over(unsent, write_idle),
            CloseReason::FirstByteTimeout => over(since(book.opened_at), first_byte)
                .or(rule(book.delivered == 0, "there was a byte"))
                .or(silent()),
            CloseReason::WriteStalled => over(unsent, write_stall),
            CloseReason::OutputLimit => {
                let pending = book.most_pending(&ledger.broadcasts);
                let is_known = !self.is_relayed_to(link);
                rule(!is_known || pending > ledger.max_pending_output, "less was pending")
            }
            CloseReason::InputLimit => {
                rule(unconsumed > ledger.max_unconsumed_input, "less was unconsumed")
            }
            CloseReason::CloseTimeout => rule(unsent >= ledger.close_timeout, "there was progress"),
            CloseReason::HandlerPanicked(message) => {
                rule(book.panicked && message == PLANNED_PANIC, "it did not")
            }
            CloseReason::ServerStopped => rule(ledger.stop_asked.is_some(), "nobody did")
                .or(rule(whole || !in_time, "not everything was sent")),
            CloseReason::Codec(_) => Some("there is none"),
            CloseReason::Tls(_) | CloseReason::Truncated => Some("there is no TLS"),
            CloseReason::ConnectFailed(_) | CloseReason::HandshakeTimeout => Some("it was open"),
            CloseReason::ProxyHeader(_) => Some("there is no header"),
        }
    }
}

/// A reason's name and number.
fn name_of(reason: &CloseReason) -> (&'static str, usize) {
    match reason {
        CloseReason::Local => ("local", 0),
        CloseReason::Aborted => ("aborted", 1),
        CloseReason::PeerClosed => ("peer closed", 2),
        CloseReason::PeerReset(_) => ("peer reset", 3),
        CloseReason::Failed(_) => ("failed", 4),
        CloseReason::IdleTimeout => ("idle timeout", 5),
        CloseReason::ReadIdleTimeout => ("read idle timeout", 6),
        CloseReason::WriteIdleTimeout => ("write idle timeout", 7),
        CloseReason::FirstByteTimeout => ("first byte timeout", 8),
        CloseReason::WriteStalled => ("write stalled", 9),
        CloseReason::OutputLimit => ("output limit", 10),
        CloseReason::InputLimit => ("input limit", 11),
        CloseReason::CloseTimeout => ("close timeout", 12),
        CloseReason::HandlerPanicked(_) => ("handler panicked", 13),
        CloseReason::ServerStopped => ("server stopped", 14),
        CloseReason::Codec(_) => ("codec", 15),
        // No simulated connection ends so.
        CloseReason::ConnectFailed(_)
        | CloseReason::HandshakeTimeout
        | CloseReason::Tls(_)
        | CloseReason::Truncated
        | CloseReason::ProxyHeader(_) => ("handshake", 16),
    }
}
