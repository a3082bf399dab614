//! The output of connections with a TLS session: encrypted one stretch at a time, in the place where
//! plain output would be sent. See `secure.rs`.

use std::io::IoSlice;

use crate::conn::state::Phase;
use crate::driver::{Driver, Token};
use crate::error::{CloseReason, TlsError};
use crate::handler::Handler;
use crate::reactor::Reactor;
use crate::reactor::secure::Secured;

/// Bytes encrypted at a time: four records of TLS, one full send.
const STRETCH: usize = 64 << 10;

/// Slices of output looked at for one stretch.
const SLICES: usize = 16;

/// What a record is longer than its plaintext, at least: a header and a tag.
const RECORD_OVERHEAD: usize = 5 + 16;

/// Keys of TLS 1.2 cannot be changed. Behind their last record a session says its close_notify, and
/// drops what is written, which shows only in that nothing comes of it.
const KEYS_USED_UP: &str = "the keys have encrypted as many records as they may";

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// `flush` for a connection with a session: what that has for the socket, and pending output.
    pub(super) fn flush_secured(&mut self, token: Token) {
        if self.core.table.get(token).is_some_and(|conn| conn.want_tls) {
            // What was written behind that wish must not leave before it is fulfilled.
            return self.begin_start_tls(token);
        }
        let mut budget = self.core.options.turn.write_bytes;
        loop {
            if self.secured(token).is_some_and(|secured| secured.wire.is_empty()) {
                self.fill_wire(token);
            }
            let Some(conn) = self.core.table.get_mut(token) else { return };
            let Some(Some(secured)) = self.sessions.get_mut(token.index) else { return };
            if secured.wire.is_empty() || conn.want_end {
                conn.wire_pending = false;
                return;
            }
            let sent = match self.driver.send(token, &secured.wire, budget) {
                Ok(sent) => sent,
                Err(error) => {
                    conn.wire_pending = false;
                    return self.output_lost(token, CloseReason::from_io(error));
                }
            };
            conn.send_blocked = sent.blocked;
            if sent.blocked {
                conn.wire_pending = true;
                self.core.shared.metrics.partial_writes.add(1);
                return self.begin_waiting_for_output(token);
            }
            self.core.shared.metrics.bytes_out.add(sent.bytes as u64);
            conn.last_sent = self.core.now_ms;
            secured.sent += sent.bytes as u64;
            secured.wire.advance(sent.bytes, &mut self.core.pool);
            budget = budget.saturating_sub(sent.bytes);
            if secured.wire.is_empty() {
                let covered = std::mem::take(&mut secured.covered);
                conn.outbound.advance(covered, &mut self.core.pool);
                conn.sent += covered as u64;
                self.tell_completions(token);
            }
            if budget == 0 {
                return self.core.touch(token);
            }
        }
    }

    /// Makes the next records, of what the session itself has to say and of pending output.
    fn fill_wire(&mut self, token: Token) {
        let Some(secured) = self.secured(token) else { return };
        let encrypts = !secured.session.is_handshaking() && !secured.closed;
        let Some(conn) = self.core.table.get(token) else { return };
        let open = matches!(conn.phase, Phase::Open | Phase::Closing);
        let output = open && encrypts && !conn.outbound.is_empty();
        if output {
            self.before_write(token);
        }
        let options = &self.core.options;
        let (high, max_pending_output) = (options.high_watermark, options.max_pending_output);
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let Some(Some(secured)) = self.sessions.get_mut(token.index) else { return };
        // As in `settle`: pre_write may have written.
        conn.above_high |= conn.outbound.len() > high;
        if conn.outbound.len() > max_pending_output {
            conn.end(CloseReason::OutputLimit);
        }
        if conn.want_end {
            return;
        }
        if output {
            // What the session has to say besides must not be taken for records of this.
            secured.session.take_wire(&mut secured.wire.writer(&mut self.core.pool));
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = conn.outbound.slices(&mut slices);
            for slice in &slices[..filled] {
                let (room, before) = (STRETCH - secured.covered, secured.wire.len());
                let written = secured.session.write(&slice[..slice.len().min(room)]);
                secured.session.take_wire(&mut secured.wire.writer(&mut self.core.pool));
                if written > 0 && secured.wire.len() - before < written + RECORD_OVERHEAD {
                    secured.closed = true;
                    return conn.end(CloseReason::Tls(TlsError::new(KEYS_USED_UP)));
                }
                secured.covered += written;
            }
        }
        if conn.write_shut {
            // Nothing can follow our FIN, not even an answer to a change of keys.
            return secured.session.take_wire(&mut std::io::sink());
        }
        secured.session.take_wire(&mut secured.wire.writer(&mut self.core.pool));
    }

    /// Sends the close_notify, if there is a session; true when nothing of it is left to be sent.
    pub(super) fn seal(&mut self, token: Token) -> bool {
        let Some(secured) = self.secured(token) else { return true };
        if !secured.closed {
            secured.closed = true;
            if !secured.session.is_handshaking() {
                secured.session.close();
            }
            if let Some(conn) = self.core.table.get_mut(token) {
                conn.wire_pending = true;
            }
        }
        if self.core.table.get(token).is_some_and(|conn| conn.wire_pending && !conn.send_blocked) {
            self.flush_secured(token);
        }
        self.core.table.get(token).is_none_or(|conn| !conn.wire_pending)
    }

    /// For those that end at once: sends what the session still has to say, a close_notify or an
    /// alert, as far as the socket takes it now.
    pub(super) fn last_words(&mut self, token: Token) {
        let Some(secured) = self.secured(token) else { return };
        if !secured.closed && !secured.session.is_handshaking() {
            secured.session.close();
        }
        secured.closed = true;
        let Some(conn) = self.core.table.get(token) else { return };
        let Some(Some(secured)) = self.sessions.get_mut(token.index) else { return };
        if conn.send_blocked || conn.write_shut {
            return;
        }
        let Secured { session, wire, .. } = &mut **secured;
        session.take_wire(&mut wire.writer(&mut self.core.pool));
        while !wire.is_empty()
            && let Ok(sent) = self.driver.send(token, wire, usize::MAX)
            && !sent.blocked
        {
            self.core.shared.metrics.bytes_out.add(sent.bytes as u64);
            wire.advance(sent.bytes, &mut self.core.pool);
        }
    }
}
