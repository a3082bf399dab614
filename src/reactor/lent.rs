//! Sends what a callback wrote out of its own input, from the receive buffer and before that is
//! used again; see `conn/lent.rs`.

use crate::conn::lent::Lent;
use crate::driver::{Buffer, Driver};
use crate::error::CloseReason;
use crate::handler::Handler;
use crate::reactor::Reactor;

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Gives the stretch that the last callback has noted, if any, to its connection's socket.
    /// What is not taken becomes ordinary output.
    #[inline]
    pub(super) fn send_lent(&mut self, buffer: &Buffer) {
        if let Some(lent) = self.core.lent {
            self.send_stretch(lent, buffer);
        }
    }

    fn send_stretch(&mut self, Lent { token, start, end }: Lent, buffer: &Buffer) {
        let high = self.core.options.high_watermark;
        let Some(conn) = self.core.table.get_mut(token) else {
            self.core.lent = None;
            return;
        };
        conn.above_high |= end - start > high;
        if conn.want_end {
            return self.keep_lent(buffer);
        }
        self.before_write_lent(token, buffer);
        if self.core.lent.is_none() {
            // Something was written behind it, so it was copied.
            return self.flush(token, true);
        }
        let conn = self.core.table.get(token);
        if conn.is_none_or(|conn| conn.want_end) {
            return self.keep_lent(buffer);
        }
        let sent = match self.driver.send_received(token, buffer, start..end) {
            Ok(sent) => sent,
            Err(error) => {
                self.keep_lent(buffer);
                return self.output_lost(token, CloseReason::from_io(error));
            }
        };
        self.core.lent = Some(Lent { token, start: start + sent.bytes, end });
        self.keep_lent(buffer);
        if sent.bytes > 0 {
            self.socket_took(token, sent.bytes);
        }
        if sent.blocked {
            self.socket_is_full(token);
        } else if sent.bytes < end - start {
            // pre_write was called for all of it, unless a part has left.
            self.flush(token, sent.bytes == 0);
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
