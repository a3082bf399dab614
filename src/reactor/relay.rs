//! Carries out `Conn::relay_to`: input of one connection becomes output of another one.
//!
//! ```text
//!                       small, or where there is no other way
//!   source's socket --> receive buffer --> target's socket, or its output
//!          \                                  ^
//!           `---------> a pipe of the driver -'   bulk: moved by the kernel
//! ```
//! The source rests, by the mark `RELAY_RESTS`, while the target's socket is full or its output above
//! the high watermark. The target knows the sources that rest for it, and wakes them when it has
//! drained, and when it is gone. A driver that moves bytes by itself counts those it has taken from the
//! source as sent; what the target's socket has not taken it sends ahead of all else (see the driver's
//! contract), so that order needs no thought here.

use crate::conn::Conn;
use crate::conn::core::Core;
use crate::conn::id::ConnId;
use crate::conn::rare::Rare;
use crate::conn::state::Phase;
use crate::driver::{Buffer, Driver, Moved, Sockets, Token};
use crate::error::CloseReason;
use crate::handler::Handler;
use crate::reactor::Reactor;

/// A receive of so many bytes has the driver move what follows. Below, the system calls cost more than
/// the copies that they save.
const BULK: usize = 16 * 1024;

/// What is moved by one call at most, so that others get their turn.
const MOST_MOVED: usize = 1024 * 1024;

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// A receive buffer of a connection that relays; comes back where it is the handler's after all.
    pub(super) fn relay_received(&mut self, token: Token, buffer: Buffer) -> Option<Buffer> {
        let Self { driver, core, .. } = self;
        let bytes = driver.bytes(&buffer);
        let length = bytes.len();
        let Some(to) = pass_on(core, &*driver, token, bytes, bytes) else { return Some(buffer) };
        self.send_lent(&buffer);
        self.driver.recycle(buffer);
        if length >= BULK && self.may_move(token, to) {
            self.driver.set_moving(token, true);
        }
        self.rest_if_full(token, to);
        self.settle(token);
        None
    }

    /// The same for input that lies in the process; answers whether that is done.
    pub(super) fn relay_kept(&mut self, token: Token, bytes: &[u8]) -> bool {
        let Self { driver, core, .. } = self;
        let Some(to) = pass_on(core, &*driver, token, bytes, &[]) else { return false };
        self.rest_if_full(token, to);
        true
    }

    /// The driver has input that it could move.
    pub(super) fn movable(&mut self, token: Token) {
        let conn = self.core.table.get(token).filter(|conn| {
            conn.phase == Phase::Open && conn.takes_input() && conn.inbound.is_empty()
        });
        let to = conn.and_then(|conn| conn.relays_to());
        match to.filter(|to| self.may_move(token, *to)) {
            Some(to) => self.move_on(token, to),
            None => {
                // The usual way, which may know that the target is full.
                self.driver.set_moving(token, false);
            }
        }
    }

    /// Whether the kernel may move bytes from the one to the other: nothing has to be sent before them, and
    /// nothing stands between a connection and its socket.
    fn may_move(&self, token: Token, to: Token) -> bool {
        let Some(from) = self.core.table.get(token) else { return false };
        let Some(to) = self.core.table.get(to) else { return false };
        !(from.secured | from.want_tls) && to.may_be_lent_output()
    }

    fn move_on(&mut self, token: Token, to: Token) {
        let moved = self.driver.move_bytes(token, to, MOST_MOVED);
        match moved {
            Moved::Bytes { bytes, blocked } => {
                self.note_moved(token, to, bytes);
                if blocked {
                    self.socket_is_full(to);
                }
                self.tell_completions(to);
                if bytes < BULK {
                    self.driver.set_moving(token, false);
                }
                self.rest_if_full(token, to);
                self.settle(token);
            }
            Moved::Nothing => {}
            Moved::Unable => {
                self.driver.set_moving(token, false);
            }
            Moved::Ended => self.ended(token),
            Moved::Failed(error) => self.end(token, CloseReason::from_io(error)),
            Moved::Refused { bytes, error } => {
                self.note_moved(token, to, bytes);
                self.driver.set_moving(token, false);
                self.output_lost(to, CloseReason::from_io(error));
                self.settle(to);
            }
        }
    }

    fn note_moved(&mut self, token: Token, to: Token, bytes: usize) {
        let Core { table, shared, now_ms, .. } = &mut self.core;
        shared.metrics.bytes_in.add(bytes as u64);
        shared.metrics.bytes_out.add(bytes as u64);
        shared.metrics.bytes_moved.add(bytes as u64);
        if let Some(conn) = table.get_mut(token) {
            conn.last_received = *now_ms;
            conn.heard = true;
        }
        if let Some(conn) = table.get_mut(to) {
            conn.note_sent(bytes, *now_ms);
        }
        self.core.note_relayed(token, bytes);
    }

    /// The source rests while its target is too full.
    fn rest_if_full(&mut self, token: Token, to: Token) {
        let high = self.core.options.high_watermark;
        let Some(target) = self.core.table.get_mut(to) else { return };
        if !target.send_blocked && target.outbound.len() <= high {
            return;
        }
        let resting = &mut target.extra_mut().relay.get_or_insert_default().resting;
        if !resting.contains(&token) {
            resting.push(token);
            self.core.shared.metrics.pauses.add(1);
        }
        if let Some(conn) = self.core.table.get_mut(token) {
            conn.rare.set(Rare::RELAY_RESTS, true);
        }
    }

    /// The target's socket takes more: those who rest for it go on, if there is room.
    pub(super) fn target_drained(&mut self, to: Token) {
        let low = self.core.options.low_watermark;
        let Some(target) = self.core.table.get(to) else { return };
        if !target.send_blocked && target.outbound.len() <= low {
            self.wake_resting(to);
        }
    }

    /// Those who rest for this connection go on.
    pub(super) fn wake_resting(&mut self, to: Token) {
        let extra = self.core.table.get_mut(to).and_then(|conn| conn.extra.as_mut());
        let Some(relay) = extra.and_then(|extra| extra.relay.as_mut()) else { return };
        for token in std::mem::take(&mut relay.resting) {
            let Some(conn) = self.core.table.get_mut(token) else { continue };
            // It may rest for another one by now.
            if conn.relays_to().is_none_or(|now| now == to) {
                conn.rare.set(Rare::RELAY_RESTS, false);
                conn.want_offer |= !conn.inbound.is_empty();
                self.core.touch(token);
            }
        }
    }
}

impl Core {
    fn note_relayed(&mut self, token: Token, bytes: usize) {
        let extra = self.table.get_mut(token).and_then(|conn| conn.extra.as_mut());
        if let Some(relay) = extra.and_then(|extra| extra.relay.as_mut()) {
            relay.bytes += bytes as u64;
        }
    }
}

/// Writes input to the connection that it is relayed to, and answers which that is. `None` if relaying has
/// ended, as there is no such connection any more. `received` is the receive buffer, if that is where the
/// bytes lie.
fn pass_on(
    core: &mut Core,
    sockets: &dyn Sockets,
    token: Token,
    bytes: &[u8],
    received: &[u8],
) -> Option<Token> {
    let to = core.table.get(token)?.relays_to()?;
    let other = ConnId::new(core.index, to);
    match Conn::lent(core, sockets, token, received).peer(other) {
        Some(mut other) => other.write(bytes),
        None => {
            core.table.get_mut(token)?.ends_relaying();
            return None;
        }
    };
    core.note_relayed(token, bytes.len());
    Some(to)
}
