//! Sends what a callback wrote out of its own input, or what is relayed, from the receive buffer and
//! before that is used again; see `conn/lent.rs`.

use std::io;

use crate::conn::core::Core;
use crate::conn::lent::Lent;
use crate::driver::{Buffer, Driver, Sent, Token};
use crate::error::CloseReason;
use crate::handler::Handler;
use crate::reactor::Reactor;

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Gives the stretch that has been noted, if any, to its connection's socket.
    /// What is not taken becomes ordinary output.
    #[inline(always)] // Once a message.
    pub(super) fn send_lent(&mut self, buffer: &Buffer) {
        if let Some(lent) = self.core.lent {
            self.send_stretch(lent, buffer);
        }
    }

    #[inline]
    fn send_stretch(&mut self, Lent { token, start, end }: Lent, buffer: &Buffer) {
        let high = self.core.options.high_watermark;
        if let Some(conn) = self.core.table.get_mut(token) {
            conn.above_high |= end - start > high;
            if !conn.want_end {
                self.before_write_lent(token, buffer);
            }
        }
        let Core { table, lent, now_ms, shared, .. } = &mut self.core;
        if lent.is_none() {
            // Something was written behind it, so it was copied.
            return self.flush_rest(token, true);
        }
        let Some(conn) = table.get_mut(token).filter(|conn| !conn.want_end) else {
            return self.keep_lent(buffer);
        };
        match self.driver.send_received(token, buffer, start..end) {
            Ok(sent) if sent.bytes == end - start => {
                *lent = None;
                shared.metrics.bytes_out.add(sent.bytes as u64);
                conn.note_sent(sent.bytes, *now_ms);
                if conn.extra.is_some() {
                    self.tell_completions(token);
                }
            }
            result => self.stretch_left(token, buffer, result),
        }
    }

    /// The socket did not take all of the stretch.
    #[cold]
    fn stretch_left(&mut self, token: Token, buffer: &Buffer, result: io::Result<Sent>) {
        let taken = result.as_ref().map_or(0, |sent| sent.bytes);
        let Core { table, lent, now_ms, shared, .. } = &mut self.core;
        if let (Some(lent), Some(conn)) = (lent, table.get_mut(token)) {
            lent.start += taken;
            shared.metrics.bytes_out.add(taken as u64);
            if taken > 0 {
                conn.note_sent(taken, *now_ms);
            }
        }
        self.keep_lent(buffer);
        match result {
            Err(error) => self.output_lost(token, CloseReason::from_io(error)),
            Ok(Sent { blocked, .. }) => {
                self.tell_completions(token);
                if blocked {
                    self.socket_is_full(token);
                } else {
                    // pre_write was called for all of it, unless a part has left.
                    self.flush_rest(token, taken == 0);
                }
            }
        }
    }

    /// Makes ordinary output of the stretch.
    fn keep_lent(&mut self, buffer: &Buffer) {
        let Some(Lent { token, start, end }) = self.core.lent.take() else { return };
        let stretch = &self.driver.bytes(buffer)[start..end];
        if let Some(conn) = self.core.table.get_mut(token) {
            conn.outbound.append(stretch, &mut self.core.pool);
        }
    }
}
