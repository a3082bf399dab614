//! TLS sessions between the driver and the handler. The handler's bytes stay in the connection's
//! buffers as plaintext, so that limits, watermarks and completions count what the handler wrote.
//!
//! ```text
//!   driver --> received_wire --> session.read --> plaintext --> on_traffic, or inbound
//!   driver <-- wire <-- session.take_wire <-- session.write <-- outbound (its head: `covered`)
//! ```
//! Of the output, one stretch at a time is encrypted; it leaves `outbound` when the socket has taken
//! the last byte of its records. A handshake costs as much as thousands of messages, so each turn
//! takes a bounded number of its steps; further ones wait, not read from, in `handshakes`.

use std::collections::VecDeque;

use crate::buf::inbound::Inbound;
use crate::buf::outbound::Outbound;
use crate::conn::rare::Rare;
use crate::conn::state::{ConnCore, Phase};
use crate::driver::{Buffer, Driver, Token};
use crate::error::{CloseReason, TlsError};
use crate::handler::{Action, Handler};
use crate::reactor::{Reactor, guard};
use crate::time::wheel::TimerKey;
use crate::tls::{MakeSession, Session};

/// A connection's session, and what it has for the socket.
pub(super) struct Secured {
    pub(super) session: Box<dyn Session>,
    /// What goes to the socket next.
    pub(super) wire: Outbound,
    /// Bytes at the head of the connection's output that `wire` stands for.
    pub(super) covered: usize,
    /// What was received and waits for its turn; valid while the connection is `parked`.
    kept: Inbound,
    /// Bytes that the socket took since the connection opened.
    pub(super) sent: u64,
    /// Nothing of the handler's is encrypted any more: our close_notify or an alert was made.
    pub(super) closed: bool,
    /// The peer's close_notify was told.
    pub(super) ended: bool,
    /// The end of the handshake's time, where the connection was open before.
    deadline: Option<TimerKey>,
}

/// Handshakes that wait for their turn.
#[derive(Default)]
pub(super) struct Handshakes {
    queue: VecDeque<Token>,
    /// Steps that this turn may still take.
    left: usize,
}

impl Handshakes {
    pub(super) fn wait(&self) -> bool {
        !self.queue.is_empty()
    }
}

/// For people: what may panic while a session reads.
const TLS_CALLBACK: &str = "a callback of the TLS configuration";

/// Where bytes of the socket lie.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Received(&'a Buffer),
    Kept(&'a [u8]),
}

impl Secured {
    /// What was decrypted and not consumed yet.
    pub(super) fn plaintext(&mut self) -> &[u8] {
        self.session.plaintext()
    }
}

impl<D: Driver, H: Handler> Reactor<D, H> {
    pub(super) fn secured(&mut self, token: Token) -> Option<&mut Secured> {
        self.core.table.get(token).filter(|conn| conn.secured)?;
        self.sessions.get_mut(token.index)?.as_deref_mut()
    }

    /// Bytes that the socket took of the connection's session, if it has one.
    pub(super) fn wire_sent(&self, token: Token) -> Option<u64> {
        self.core.table.get(token).filter(|conn| conn.secured)?;
        Some(self.sessions.get(token.index)?.as_ref()?.sent)
    }

    // ---- beginning ----------------------------------------------------------------------

    /// A callback asked for TLS in mid-stream. What it wrote before leaves as it is; what the
    /// handler has not consumed is the session's, never to be taken for plaintext.
    pub(super) fn begin_start_tls(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.want_tls = false;
        let Some(extra) = conn.extra.as_mut() else { return };
        let Some(make) = extra.tls.take() else { return };
        let written = conn.sent + conn.outbound.len() as u64;
        if conn.want_close && written <= extra.tls_at {
            // There is nothing that the close would have to wait for a handshake for.
            return self.settle(token);
        }
        self.begin_tls(token, &make);
        let delay = self.core.options.handshake_timeout;
        let deadline = crate::conn::core::deadline(self.driver.now(), delay);
        let key = self.core.wheel.insert(deadline, crate::conn::core::Timer::Handshake(token));
        match self.secured(token) {
            Some(secured) => secured.deadline = Some(key),
            None => drop(self.core.wheel.cancel(key)),
        }
    }

    /// Stands a session before the connection.
    pub(super) fn begin_tls(&mut self, token: Token, make: &MakeSession) {
        let session = match self.with_nothing("making a TLS session", Some(token), || make()) {
            Some(Ok(session)) => session,
            Some(Err(error)) => return self.end(token, CloseReason::Tls(error)),
            None => return self.settle(token),
        };
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let mut wire = Outbound::default();
        let plain = conn.extra.as_ref().map_or(0, |extra| extra.tls_at.saturating_sub(conn.sent));
        let covered = conn.outbound.len().min(plain as usize);
        conn.outbound.copy_to(&mut wire, covered, &mut self.core.pool);
        let kept = std::mem::take(&mut conn.inbound);
        conn.want_offer = false;
        conn.secured = true;
        conn.handshaking = true;
        conn.wire_pending = session.has_wire() || covered > 0;
        conn.rare.set(Rare::PARKED, !kept.is_empty());
        if conn.rare.has(Rare::PARKED) {
            self.handshakes.queue.push_back(token);
        }
        let secured = Secured {
            session,
            wire,
            covered,
            kept,
            sent: conn.sent,
            closed: false,
            ended: false,
            deadline: None,
        };
        self.sessions.ensure(token.index);
        if let Some(place) = self.sessions.get_mut(token.index) {
            *place = Some(Box::new(secured));
        }
        self.settle(token);
    }

    /// The peer takes nothing any more, so nothing of the session waits for it.
    pub(super) fn drop_wire(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token).filter(|conn| conn.secured) else { return };
        conn.wire_pending = false;
        let Some(Some(secured)) = self.sessions.get_mut(token.index) else { return };
        secured.wire.clear(&mut self.core.pool);
        secured.covered = 0;
        secured.closed = true;
    }

    /// Lets go of the session.
    pub(super) fn end_tls(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token).filter(|conn| conn.secured) else { return };
        conn.secured = false;
        conn.wire_pending = false;
        conn.handshaking = false;
        conn.rare.set(Rare::PARKED, false);
        let session = self.sessions.get_mut(token.index).and_then(Option::take);
        let Some(mut secured) = session else { return };
        secured.wire.clear(&mut self.core.pool);
        secured.kept.clear(&mut self.core.pool);
        if let Some(key) = secured.deadline {
            self.core.wheel.cancel(key);
        }
    }

    // ---- bytes in -----------------------------------------------------------------------

    /// Bytes from the socket of a connection with a session.
    pub(super) fn received_wire(&mut self, token: Token, buffer: Buffer) {
        let Some(conn) = self.core.table.get_mut(token) else {
            return self.driver.recycle(buffer);
        };
        let Some(Some(secured)) = self.sessions.get_mut(token.index) else {
            return self.driver.recycle(buffer);
        };
        let handshaking = conn.handshaking;
        if conn.rare.has(Rare::PARKED) || (handshaking && self.handshakes.left == 0) {
            secured.kept.append(self.driver.bytes(&buffer), &mut self.core.pool);
            if !conn.rare.set(Rare::PARKED, true) {
                self.core.shared.metrics.handshake_waits.add(1);
                self.handshakes.queue.push_back(token);
            }
            self.driver.recycle(buffer);
            return self.settle_reading(token);
        }
        self.handshakes.left -= usize::from(handshaking);
        self.read_wire(token, buffer.length, Wire::Received(&buffer));
        self.driver.recycle(buffer);
    }

    /// Goes on with handshakes that had to wait: as many steps as a turn takes.
    pub(super) fn run_handshakes(&mut self) {
        self.handshakes.left = self.core.options.turn.handshakes;
        while self.handshakes.left > 0
            && let Some(token) = self.handshakes.queue.pop_front()
        {
            let Some(conn) =
                self.core.table.get_mut(token).filter(|conn| conn.rare.has(Rare::PARKED))
            else {
                continue;
            };
            let Some(Some(secured)) = self.sessions.get_mut(token.index) else { continue };
            self.handshakes.left -= 1;
            conn.rare.set(Rare::PARKED, false);
            let mut kept = std::mem::take(&mut secured.kept);
            self.read_wire(token, kept.len(), Wire::Kept(kept.as_slice()));
            kept.clear(&mut self.core.pool);
            self.settle_reading(token);
        }
    }

    fn read_wire(&mut self, token: Token, length: usize, wire: Wire<'_>) {
        let mut at = 0;
        while at < length {
            let begun = self.callback_begins();
            if self.secured(token).is_none() {
                return;
            }
            let Self { driver, sessions, .. } = self;
            let bytes = match wire {
                Wire::Received(buffer) => driver.bytes(buffer),
                Wire::Kept(bytes) => bytes,
            };
            let Some(Some(secured)) = sessions.get_mut(token.index) else { return };
            let was_handshaking = secured.session.is_handshaking();
            // The configuration has callbacks of the user's: to choose certificates, to judge them.
            let read = guard::call(|| secured.session.read(&bytes[at..]));
            let is_done = was_handshaking && !secured.session.is_handshaking();
            let Some(read) = self.callback_ended(TLS_CALLBACK, Some(token), begun, read) else {
                return self.settle(token);
            };
            if is_done && read.is_ok() {
                self.handshake_done(token);
            }
            self.offer_plaintext(token);
            // What comes behind a close is of no interest, not even whether it is TLS.
            let is_over = |conn: &ConnCore| conn.is_ending() && !conn.handshaking;
            let is_over = self.core.table.get(token).is_none_or(is_over);
            match read {
                Err(error) => return self.tls_failed(token, error),
                Ok(count) if count == 0 || is_over => break,
                Ok(count) => at += count,
            }
        }
        self.after_wire(token);
    }

    fn after_wire(&mut self, token: Token) {
        let Some(secured) = self.secured(token) else { return };
        let has_wire = secured.session.has_wire();
        let ends = secured.session.peer_has_closed() && !secured.ended;
        secured.ended |= ends;
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.wire_pending |= has_wire;
        if ends {
            conn.eof = true;
            match conn.phase {
                Phase::Opening => return self.open_failed(token, CloseReason::PeerClosed),
                _ if conn.handshaking => return self.end(token, CloseReason::PeerClosed),
                Phase::Open => conn.want_eof = true,
                _ => {}
            }
            self.tell_end(token);
        }
        self.settle(token);
    }

    fn handshake_done(&mut self, token: Token) {
        self.core.shared.metrics.handshakes.add(1);
        let Some(secured) = self.secured(token) else { return };
        let info = secured.session.info();
        let deadline = secured.deadline.take();
        if let Some(key) = deadline {
            self.core.wheel.cancel(key);
        }
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.extra_mut().tls_info = Some(Box::new(info));
        conn.wire_pending = true;
        conn.handshaking = false;
        match conn.phase {
            Phase::Opening => self.open_now(token),
            Phase::Open if !conn.is_ending() => {
                let action = self
                    .with_state("on_secured", token, |h, conn, state| h.on_secured(conn, state));
                self.act(token, action.unwrap_or(Action::Continue));
            }
            _ => self.settle(token),
        }
    }

    /// Offers what was decrypted to the handler, or keeps it where the handler takes none now.
    fn offer_plaintext(&mut self, token: Token) {
        loop {
            let length = self.secured(token).map_or(0, |s| s.session.plaintext().len());
            let Some(conn) = self.core.table.get_mut(token).filter(|_| length > 0) else { return };
            conn.heard = true;
            // Nothing leaves between two records: what they are answered with adds up meanwhile.
            let takes = conn.takes_input() && !conn.want_offer && self.core.may_go_on(token);
            let Some(conn) = self.core.table.get_mut(token) else { return };
            let mut action = Action::Continue;
            let mut consumed = 0;
            if takes && conn.inbound.is_empty() {
                let fed = self.feed_plaintext(token);
                (consumed, action) = (fed.consumed, fed.action);
            }
            let Some(conn) = self.core.table.get_mut(token) else { return };
            let Some(Some(secured)) = self.sessions.get_mut(token.index) else { return };
            let left = &secured.session.plaintext()[consumed..];
            let leaves = !left.is_empty();
            if leaves && conn.phase == Phase::Open && !conn.is_ending() {
                conn.inbound.append(left, &mut self.core.pool);
            }
            secured.session.consume(length);
            if !takes {
                conn.want_offer |= conn.phase == Phase::Open;
            } else if consumed == 0 && leaves && action == Action::Continue {
                // It is behind what was left over before, or was not wanted: one piece.
                self.offer_kept(token, length);
            } else if leaves || action != Action::Continue {
                self.after_traffic(token, action);
            }
        }
    }

    /// What was kept has grown by `length`: offers it, unless that was all there is and refused.
    fn offer_kept(&mut self, token: Token, length: usize) {
        let kept = self.core.table.get(token).map_or(0, |conn| conn.inbound.len());
        if kept > length {
            self.offer(token);
        } else {
            self.after_traffic(token, Action::Continue);
        }
    }

    fn tls_failed(&mut self, token: Token, error: TlsError) {
        if let Some(secured) = self.secured(token) {
            // The alert is among the last words.
            secured.closed = true;
            self.end(token, CloseReason::Tls(error));
        }
    }
}
