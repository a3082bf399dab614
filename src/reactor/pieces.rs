//! Connected datagram sockets: a connection as the others, but for what a message is. What arrives
//! is offered whole and once, and each write leaves as one datagram.

use crate::conn::core::Core;
use crate::conn::state::Phase;
use crate::driver::{Buffer, Driver, Token};
use crate::error::CloseReason;
use crate::handler::Handler;
use crate::reactor::Reactor;
use crate::sys::udp::is_about_one_datagram;

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// A datagram for a connection. What the handler does not consume of it is dropped.
    pub(super) fn received_piece(&mut self, token: Token, buffer: Buffer) {
        let Some(conn) = self.core.table.get(token) else { return self.driver.recycle(buffer) };
        // Also where it has just been paused: it is offered later.
        let is_offered = conn.phase == Phase::Open && !conn.is_ending();
        self.core.shared.metrics.datagrams_in.add(u64::from(is_offered));
        if !conn.takes_input() {
            return self.received_out_of_turn(token, buffer);
        }
        let fed = self.feed_buffer(token, &buffer);
        // Passed on to a stream, it may be sent from where it lies.
        self.send_lent(&buffer);
        self.driver.recycle(buffer);
        self.after_traffic(token, fed.action);
    }

    /// `flush` for a datagram connection. pre_write is called once, whatever the number of
    /// datagrams: one that writes would have no end.
    pub(super) fn flush_pieces(&mut self, token: Token) {
        self.before_write(token);
        let mut budget = self.core.options.turn.write_bytes;
        loop {
            let Core { table, pool, shared, now_ms, options, .. } = &mut self.core;
            let Some(conn) = table.get_mut(token) else { return };
            conn.end_piece();
            // As in `settle`: pre_write may have written.
            conn.above_high |= conn.outbound.len() > options.high_watermark;
            if conn.outbound.len() > options.max_pending_output {
                conn.end(CloseReason::OutputLimit);
            }
            if conn.want_end {
                return;
            }
            let Some(length) = conn.first_piece() else { return };
            match self.driver.send(token, &conn.outbound, length) {
                Ok(sent) if sent.blocked => {
                    conn.send_blocked = true;
                    shared.metrics.partial_writes.add(1);
                    return self.begin_waiting_for_output(token);
                }
                Ok(_) => {
                    shared.metrics.datagrams_out.add(1);
                    shared.metrics.bytes_out.add(length as u64);
                }
                Err(error) if is_about_one_datagram(&error) => {
                    shared.metrics.datagrams_dropped.add(1);
                    log::debug!("a datagram of {length} bytes was refused: {error}");
                }
                Err(error) => return conn.end(CloseReason::from_io(error)),
            }
            conn.forget_first_piece();
            conn.outbound.advance(length, pool);
            conn.sent += length as u64;
            conn.last_sent = *now_ms;
            self.tell_completions(token);
            budget = budget.saturating_sub(length);
            if budget == 0 {
                return self.core.touch(token);
            }
        }
    }
}
