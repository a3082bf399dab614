//! Connected datagram sockets: a connection as the others, but for what a message is. What arrives
//! is offered whole and once, and each write leaves as one datagram.

use std::io;

use crate::conn::core::Core;
use crate::conn::state::{ConnCore, Phase};
use crate::driver::{Buffer, Driver, MOST_PIECES, Token};
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
    /// datagrams: one that writes would have no end. While datagrams that have come together are
    /// told, what answers them is gathered, so that it leaves together too: at the row's end, or
    /// else at the end of the turn.
    pub(super) fn flush_pieces(&mut self, token: Token) {
        let may_wait = |conn: &ConnCore| {
            conn.phase == Phase::Open && !conn.is_ending() && !conn.has_many_pieces()
        };
        if !self.attends
            && self.driver.is_in_a_row()
            && self.core.table.get(token).is_some_and(may_wait)
        {
            return self.core.touch(token);
        }
        self.before_write(token);
        let mut budget = self.core.options.turn.write_bytes;
        loop {
            let Core { table, shared, options, .. } = &mut self.core;
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
            let mut lengths = [0; MOST_PIECES];
            let lengths = match conn.first_pieces(&mut lengths) {
                0 => return,
                count => &lengths[..count],
            };
            let metrics = &shared.metrics;
            let done = match Self::send_pieces(&mut self.driver, token, conn, lengths) {
                Ok(sent) => {
                    let bytes: usize = lengths[..sent].iter().sum();
                    metrics.datagrams_out.add(sent as u64);
                    metrics.bytes_out.add(bytes as u64);
                    sent
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    conn.send_blocked = true;
                    metrics.partial_writes.add(1);
                    return self.begin_waiting_for_output(token);
                }
                Err(error) if is_about_one_datagram(&error) => {
                    metrics.datagrams_dropped.add(1);
                    log::debug!("a datagram of {} bytes was refused: {error}", lengths[0]);
                    1
                }
                Err(error) => return conn.end(CloseReason::from_io(error)),
            };
            let bytes: usize = lengths[..done].iter().sum();
            self.pieces_have_left(token, done, bytes);
            budget = budget.saturating_sub(bytes);
            if budget == 0 {
                return self.core.touch(token);
            }
        }
    }

    /// Sends the first of these pieces, or more of them.
    fn send_pieces(
        driver: &mut D,
        token: Token,
        conn: &ConnCore,
        lengths: &[usize],
    ) -> io::Result<usize> {
        // A single one needs no batch.
        let sent = match lengths.len() {
            1 => 0,
            _ => driver.send_pieces(token, &conn.outbound, lengths)?,
        };
        if sent > 0 {
            return Ok(sent);
        }
        match driver.send(token, &conn.outbound, lengths[0])?.blocked {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(1),
        }
    }

    fn pieces_have_left(&mut self, token: Token, pieces: usize, bytes: usize) {
        let Core { table, pool, now_ms, .. } = &mut self.core;
        let Some(conn) = table.get_mut(token) else { return };
        (0..pieces).for_each(|_| conn.forget_first_piece());
        conn.outbound.advance(bytes, pool);
        conn.sent += bytes as u64;
        conn.last_sent = *now_ms;
        self.tell_completions(token);
    }
}
