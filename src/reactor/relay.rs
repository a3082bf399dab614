//! Carries out `Conn::relay_to`: input of one connection becomes output of another one.
//!
//! ```text
//!                       small, or where there is no other way
//!   source's socket --> receive buffer --> target's socket, or its output
//!          \                                  ^
//!           `---------> a pipe of the driver -'   bulk: moved by the kernel
//! ```
//! The source rests, by the mark `RELAY_RESTS`, while the target's socket is full or its output above
//! the high watermark; what it has received by then is kept, so that many sources of one target do not
//! bring that to its limit. The target knows the sources that rest for it, and wakes them when it has
//! drained, and when it is gone. A driver that moves bytes by itself counts those it has taken from the
//! source as sent; what the target's socket has not taken it sends ahead of all else (see the driver's
//! contract), so that order needs no thought here.

use crate::conn::Conn;
use crate::conn::core::Core;
use crate::conn::id::ConnId;
use crate::conn::lent::LENT_TO_PEER_MIN_BYTES;
use crate::conn::rare::Rare;
use crate::conn::state::{ConnCore, Phase};
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
        if self.relays_little(token, &buffer) {
            self.driver.recycle(buffer);
            return None;
        }
        if self.rests_first(token) {
            self.received_out_of_turn(token, buffer);
            self.settle(token);
            return None;
        }
        let Self { driver, core, .. } = self;
        let bytes = driver.bytes(&buffer);
        let length = bytes.len();
        let Some(to) = pass_on(core, &*driver, token, bytes, bytes) else { return Some(buffer) };
        self.send_lent(&buffer);
        self.driver.recycle(buffer);
        if length >= self.bulk() && self.may_move(token, to) {
            self.driver.set_moving(token, true);
        }
        self.rest_if_full(token, to);
        self.settle(token);
        None
    }

    /// Nearly all that goes through a tunnel: a little, from one of two that relay to each other to the
    /// other, whose output is empty. It is copied and leaves at the end of the turn, as the system's
    /// calls cost less one kind after the other than by turns. Answers whether this is so; neither of
    /// the two needs to be looked at again then.
    fn relays_little(&mut self, token: Token, buffer: &Buffer) -> bool {
        let little = self.bulk().min(LENT_TO_PEER_MIN_BYTES);
        let Self { driver, core, .. } = self;
        let length = buffer.length;
        let Some(to) = core.table.get(token).and_then(ConnCore::relays_to) else { return false };
        let is_tunnel =
            |target: &ConnCore| target.may_be_lent_output() && target.relays_to() == Some(token);
        let fits = length < little && length <= core.options.high_watermark;
        if !fits || !core.table.get(to).is_some_and(is_tunnel) {
            return false;
        }
        core.note_relayed(token, length);
        let bytes = driver.bytes(buffer);
        core.write_with(to, |target, pool| target.outbound.append(bytes, pool));
        true
    }

    /// The same for input that lies in the process; answers how much of it that was. None if it is the
    /// handler's after all.
    pub(super) fn relay_kept(&mut self, token: Token, bytes: &[u8]) -> Option<usize> {
        let Self { driver, core, .. } = self;
        // A handler may have left much more than the target should have pending.
        let most = core.options.high_watermark.max(BULK);
        let bytes = &bytes[..bytes.len().min(most)];
        let to = pass_on(core, &*driver, token, bytes, &[])?;
        self.rest_if_full(token, to);
        Some(bytes.len())
    }

    /// Has a connection with input rest if its target is full already.
    pub(super) fn rests_first(&mut self, token: Token) -> bool {
        let conn = self.core.table.get(token);
        conn.and_then(|conn| conn.relays_to()).is_some_and(|to| self.rest_if_full(token, to))
    }

    /// A smaller receive buffer that comes full is much as well.
    fn bulk(&self) -> usize {
        BULK.min(self.core.options.receive_buffer)
    }

    /// The driver has input that it could move.
    pub(super) fn movable(&mut self, token: Token) {
        let conn = self.core.table.get(token).filter(|conn| {
            conn.phase == Phase::Open && conn.takes_input() && conn.inbound.is_empty()
        });
        let to = conn.and_then(|conn| conn.relays_to());
        if to.is_some_and(|to| self.rest_if_full(token, to)) {
            // There will be another event when it is read from again.
            return;
        }
        match to.filter(|to| self.may_move(token, *to)) {
            Some(to) => self.move_on(token, to),
            None => {
                // The usual way.
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
                if bytes < self.bulk() {
                    self.driver.set_moving(token, false);
                }
                self.rest_if_full(token, to);
                self.settle(token);
            }
            Moved::Nothing => {}
            Moved::Unable => {
                self.driver.set_moving(token, false);
            }
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

    /// The source rests while its target is too full. Answers whether it does.
    fn rest_if_full(&mut self, token: Token, to: Token) -> bool {
        let high = self.core.options.high_watermark;
        let Some(conn) = self.core.table.get(token) else { return false };
        // The target's pre_write may have come between.
        let relays = conn.relays_to() == Some(to);
        let Some(target) = self.core.table.get(to).filter(|_| relays) else { return false };
        if !target.send_blocked && target.outbound.len() <= high {
            return false;
        }
        let rests = |conn: &mut ConnCore| conn.rare.set(Rare::RELAY_RESTS, true);
        if self.core.table.get_mut(token).is_some_and(|conn| !rests(conn)) {
            self.core.shared.metrics.pauses.add(1);
            if let Some(target) = self.core.table.get_mut(to) {
                target.extra_mut().relay.get_or_insert_default().resting.push(token);
            }
        }
        // Not left to `settle`, to which a source that rests looks as if nothing were to be done.
        self.settle_reading(token);
        true
    }

    /// Those who rest for this connection go on: it has drained, or takes nothing any more.
    pub(super) fn wake_resting(&mut self, to: Token) {
        let extra = self.core.table.get_mut(to).and_then(|conn| conn.extra.as_mut());
        let Some(relay) = extra.and_then(|extra| extra.relay.as_mut()) else { return };
        for token in std::mem::take(&mut relay.resting) {
            let Some(conn) = self.core.table.get_mut(token) else { continue };
            conn.rare.set(Rare::RELAY_RESTS, false);
            conn.want_offer |= !conn.inbound.is_empty();
            self.core.touch(token);
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
            core.ends_relaying(token);
            return None;
        }
    };
    core.note_relayed(token, bytes.len());
    Some(to)
}
