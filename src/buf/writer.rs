//! Writes straight into a connection's outbound buffer.
//!
//! For code that produces bytes itself, such as serializers and `write!`: nothing is built up
//! elsewhere first. The writer is two borrows and a count; its other state is in the `Outbound` and
//! the `Pool`, so it needs no `Drop` and the borrow ends with its last use. Its `BufMut` half, an
//! unsafe trait, is in `sys/writer.rs`.

use super::outbound::Outbound;
use super::pool::Pool;
use std::fmt;
use std::io::{self, IoSlice, Write};

/// Appends to what a connection has to send, as [`std::io::Write`] and as [`bytes::BufMut`].
///
/// Writing never fails and never blocks: the bytes are sent after the callback. `flush` does
/// nothing.
///
/// ```
/// use std::io::Write;
/// use tightloop::Conn;
///
/// fn greet(conn: &mut Conn<'_>) -> std::io::Result<()> {
///     let peer = conn.peer_addr();
///     if let Some(mut writer) = conn.writer() {
///         writeln!(writer, "hello {peer}")?;
///     }
///     Ok(())
/// }
/// ```
pub struct Writer<'a> {
    outbound: &'a mut Outbound,
    pool: &'a mut Pool,
    written: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(outbound: &'a mut Outbound, pool: &'a mut Pool) -> Self {
        Self { outbound, pool, written: 0 }
    }

    /// How many bytes have been written through this writer.
    #[inline]
    pub fn written(&self) -> usize {
        self.written
    }

    /// How many bytes are waiting to be sent, by whomever they were written.
    pub(crate) fn pending(&self) -> usize {
        self.outbound.len()
    }

    #[inline]
    pub(crate) fn append(&mut self, data: &[u8]) {
        self.outbound.append(data, self.pool);
        self.written += data.len();
    }

    /// The buffer whose spare capacity, never nothing, takes the next bytes.
    pub(crate) fn spare(&mut self) -> &mut Vec<u8> {
        self.outbound.spare(self.pool)
    }

    /// Counts `count > 0` bytes as written and returns the buffer of the last
    /// [`spare`](Self::spare) for the caller to add just these bytes to.
    pub(crate) fn claim_spare(&mut self, count: usize) -> &mut Vec<u8> {
        let buffer = self.outbound.claim_spare(count, self.pool);
        self.written += count;
        buffer
    }
}

impl Write for Writer<'_> {
    #[inline]
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.append(data);
        Ok(data.len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let before = self.written;
        for slice in slices {
            self.append(slice);
        }
        Ok(self.written - before)
    }

    #[inline]
    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        self.append(data);
        Ok(())
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("written", &self.written).finish_non_exhaustive()
    }
}
