//! From the driver's events to connections.

use crate::conn::rare::Rare;
use crate::conn::state::Phase;
use crate::driver::{Buffer, CloseMode, Driver, Event, Token};
use crate::error::CloseReason;
use crate::handler::{Action, Handler};
use crate::reactor::Reactor;
use crate::reactor::callback::Fed;

impl<D: Driver, H: Handler> Reactor<D, H> {
    #[inline(always)] // Once a message.
    pub(super) fn dispatch(&mut self, event: Event<D::Stream>) {
        let is_datagram = matches!(event, Event::Datagram { .. });
        if !is_datagram && !self.core.gathered.is_empty() {
            self.send_gathered();
        }
        match event {
            Event::Received { token, buffer } => self.received(token, buffer),
            event => self.dispatch_other(event),
        }
    }

    /// Apart, so that the event of nearly every message, a small one, is not moved as a large one.
    #[inline(never)]
    fn dispatch_other(&mut self, event: Event<D::Stream>) {
        match event {
            Event::Received { token, buffer } => self.received(token, buffer),
            Event::Writable { token } => {
                if let Some(conn) = self.core.table.get_mut(token) {
                    conn.send_blocked = false;
                    self.settle(token);
                }
            }
            Event::Movable { token } => self.movable(token),
            Event::SendFailed { token, error } => self.send_failed(token, error),
            Event::Ended { token } => self.ended(token),
            Event::Failed { token, error } => self.end(token, CloseReason::from_io(error)),
            Event::Accepted { listener, stream, peer } => self.accepted(listener, stream, peer),
            Event::AcceptFailed { listener, error } => self.accept_failed(listener, &error),
            Event::Connected { token, result } => self.connected(token, result),
            Event::Datagram { socket, buffer, peer, local } => {
                self.datagram_arrived(socket, buffer, peer, local);
            }
            Event::DatagramTruncated { socket } => {
                self.core.shared.metrics.datagrams_truncated.add(1);
                log::debug!("a datagram on socket {socket} did not fit the receive buffer");
            }
            Event::PieceTruncated => self.core.shared.metrics.datagrams_truncated.add(1),
            Event::DatagramWritable { socket } => self.flush_datagrams(socket),
            Event::Woken => self.core.shared.metrics.wakeups.add(1),
        }
    }

    #[inline(always)] // Once a message.
    fn received(&mut self, token: Token, buffer: Buffer) {
        self.core.shared.metrics.bytes_in.add(buffer.length as u64);
        let now = self.core.now_ms;
        let Some(conn) = self.core.table.get_mut(token) else {
            return self.driver.recycle(buffer);
        };
        conn.last_received = now;
        // A handshake is not the first byte.
        conn.heard |= !conn.handshaking;
        let is_plain = !(conn.secured | conn.datagrams | conn.rare.has(Rare::RELAYS));
        if !(is_plain & conn.inbound.is_empty() && conn.takes_input()) {
            return self.received_otherwise(token, buffer);
        }
        self.offer_received(token, buffer);
    }

    /// Offers a receive buffer to the handler, where it lies.
    #[inline(always)] // Once a message.
    fn offer_received(&mut self, token: Token, buffer: Buffer) {
        let fed = self.feed_buffer(token, &buffer);
        if fed.consumed < buffer.length {
            return self.left_over(token, buffer, fed);
        }
        self.send_lent(&buffer);
        self.driver.recycle(buffer);
        self.act(token, fed.action);
    }

    /// What the handler has left of a receive buffer is kept.
    fn left_over(&mut self, token: Token, buffer: Buffer, fed: Fed) {
        if let Some(conn) = self.core.table.get_mut(token) {
            let left = &self.driver.bytes(&buffer)[fed.consumed..];
            conn.inbound.append(left, &mut self.core.pool);
        }
        // Behind that: pre_write may begin TLS, which the rest belongs to then, or resume reading.
        self.send_lent(&buffer);
        self.driver.recycle(buffer);
        self.after_traffic(token, fed.action);
    }

    /// Bytes that are not the handler's at once and as they are.
    #[inline(never)]
    fn received_otherwise(&mut self, token: Token, buffer: Buffer) {
        let Some(conn) = self.core.table.get_mut(token) else {
            return self.driver.recycle(buffer);
        };
        if (conn.secured | conn.datagrams) && matches!(conn.phase, Phase::Open | Phase::Opening) {
            let datagrams = conn.datagrams;
            return if datagrams {
                self.received_piece(token, buffer)
            } else {
                self.received_wire(token, buffer)
            };
        }
        if !conn.takes_input() {
            return self.received_out_of_turn(token, buffer);
        }
        if conn.inbound.is_empty() {
            if let Some(buffer) = self.relay_received(token, buffer) {
                self.offer_received(token, buffer);
            }
            return;
        }
        // Something was left over before.
        conn.inbound.append(self.driver.bytes(&buffer), &mut self.core.pool);
        self.driver.recycle(buffer);
        self.offer(token);
    }

    /// Offers leftover input to the handler.
    pub(super) fn offer(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        if !conn.takes_input() {
            // It has been paused since: the wish stays.
            return self.settle(token);
        }
        conn.want_offer = false;
        if conn.inbound.is_empty() {
            return self.settle(token);
        }
        let relays = conn.rare.has(Rare::RELAYS);
        if relays && self.rests_first(token) {
            return self.still_wanted(token);
        }
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let mut inbound = std::mem::take(&mut conn.inbound);
        let relayed = if relays { self.relay_kept(token, inbound.as_slice()) } else { None };
        let Fed { consumed, action } = match relayed {
            Some(consumed) => Fed { consumed, action: Action::Continue },
            None => self.feed_bytes(token, inbound.as_slice()),
        };
        inbound.consume(consumed, &mut self.core.pool);
        match self.core.table.get_mut(token) {
            Some(conn) if !conn.datagrams => conn.inbound = inbound,
            _ => inbound.clear(&mut self.core.pool),
        }
        self.after_traffic(token, action);
    }

    /// Leftover input is offered another time.
    fn still_wanted(&mut self, token: Token) {
        if let Some(conn) = self.core.table.get_mut(token) {
            conn.want_offer = true;
        }
        self.settle(token);
    }

    pub(super) fn after_traffic(&mut self, token: Token, action: Action) {
        // The handler has left it to another connection.
        if let Some(conn) = self.core.table.get_mut(token) {
            conn.want_offer |= conn.rare.has(Rare::RELAYS) && !conn.inbound.is_empty();
        }
        // What is left over because of a pause is not what the handler did not want; it is one
        // receive buffer at most (of datagrams one: the others wait in the driver).
        if let Some(conn) = self.core.table.get_mut(token)
            && conn.inbound.len() > self.core.options.max_unconsumed_input
            && conn.takes_input()
            && !conn.want_offer
        {
            conn.end(CloseReason::InputLimit);
        }
        self.check_budget(token);
        self.act(token, action);
    }

    /// Carries out a callback's answer and whatever else it asked of its connection.
    #[inline]
    pub(super) fn act(&mut self, token: Token, action: Action) {
        match action {
            Action::Continue => {}
            Action::Close => {
                if let Some(conn) = self.core.table.get_mut(token) {
                    conn.close(CloseReason::Local);
                }
            }
            Action::Shutdown => self.core.server.stop(),
        }
        self.settle(token);
    }

    /// Bytes for a connection whose handler takes none: dropped when it is closing, kept when it
    /// has just been paused.
    pub(super) fn received_out_of_turn(&mut self, token: Token, buffer: Buffer) {
        let limit = self.core.options.linger_bytes as u64;
        let Some(conn) = self.core.table.get_mut(token) else {
            return self.driver.recycle(buffer);
        };
        match conn.phase {
            Phase::Opening => self.opening_received(token, buffer),
            // Output that waits for the end of a handshake is delivered behind it.
            Phase::Closing if conn.handshaking => {
                self.received_wire(token, buffer);
            }
            Phase::Open if !conn.is_ending() => {
                conn.inbound.append(self.driver.bytes(&buffer), &mut self.core.pool);
                conn.want_offer = true;
                self.driver.recycle(buffer);
                // Paused by somebody else's callback, in this turn: no more than this one.
                self.settle_reading(token);
            }
            Phase::Lingering => {
                conn.mark += buffer.length as u64;
                let too_much = conn.mark > limit;
                self.driver.recycle(buffer);
                if too_much {
                    self.release(token, CloseMode::Orderly);
                }
            }
            _ => self.driver.recycle(buffer),
        }
    }

    /// The peer closed its sending side.
    pub(super) fn ended(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.eof = true;
        conn.receiving = false;
        match conn.phase {
            // Behind a handshake that cannot be done any more nothing is to be waited for.
            Phase::Open | Phase::Closing if conn.handshaking => {
                self.end(token, CloseReason::Truncated);
            }
            Phase::Lingering => self.release(token, CloseMode::Orderly),
            Phase::Opening => self.opening_ended(token),
            Phase::Open => {
                conn.want_eof = true;
                conn.rare.set(Rare::TRUNCATED, conn.secured);
                self.tell_end(token);
                self.settle(token);
            }
            _ => self.settle(token),
        }
    }

    /// Tells the handler of the peer's FIN, or closes, once all input has been offered.
    pub(super) fn tell_end(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        if !conn.want_eof || conn.want_offer || !conn.takes_input() {
            return;
        }
        conn.want_eof = false;
        if conn.rare.has(Rare::TRUNCATED) {
            conn.close(CloseReason::Truncated);
            return;
        }
        // Where no output can be sent any more, nothing is left to be done for the peer.
        if self.core.options.half_close && !conn.rare.has(Rare::OUTPUT_LOST) {
            let action = self.with_state("on_eof", token, |h, conn, state| h.on_eof(conn, state));
            match (action, self.core.table.get_mut(token)) {
                // To go along with the peer's end is not to have ended it.
                (Some(Action::Close) | None, Some(conn)) => conn.close(CloseReason::PeerClosed),
                (action, _) => self.act(token, action.unwrap_or(Action::Continue)),
            }
        } else {
            conn.close(CloseReason::PeerClosed);
        }
    }

    /// Ends a connection without delivering what is pending.
    pub(super) fn end(&mut self, token: Token, reason: CloseReason) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        match conn.phase {
            Phase::Lingering => self.release(token, CloseMode::Orderly),
            // It ends with the connection that it is for.
            Phase::Attempt => {}
            _ => {
                conn.end(reason);
                self.settle(token);
            }
        }
    }
}
