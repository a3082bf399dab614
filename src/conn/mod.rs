//! [`Conn`]: a connection as callbacks see it. Bytes in, bytes and intentions out; no system
//! call but the socket options that the handler asks for, and no clock.
//! Writing appends to the outbound buffer; closing, pausing and the rest leave a mark. The
//! reactor acts on both when the callback has returned, so nothing here re-enters the handler.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::addr::Address;
use crate::buf::writer::Writer;
use crate::conn::core::Core;
use crate::conn::dial::Connect;
use crate::conn::handle::{ConnHandle, Shared};
use crate::conn::id::ConnId;
use crate::conn::state::Phase;
use crate::control::ServerHandle;
use crate::driver::{Sockets, Token};
use crate::error::{CloseReason, Result};

pub(crate) mod admission;
pub(crate) mod adopt;
pub(crate) mod command;
pub(crate) mod context;
pub(crate) mod core;
pub(crate) mod datagram;
pub(crate) mod dial;
pub(crate) mod extra;
mod framing;
pub(crate) mod handle;
pub(crate) mod id;
pub(crate) mod input;
pub(crate) mod lent;
pub(crate) mod origin;
pub(crate) mod outbox;
pub(crate) mod peer;
pub(crate) mod pieces;
mod proxied;
pub(crate) mod rare;
mod reason;
pub(crate) mod relay;
mod secure;
mod socket;
mod spawn;
pub(crate) mod state;
pub(crate) mod table;
pub(crate) mod timeouts;

/// A connection, lent for the time of one callback.
///
/// All methods belong to the loop's thread; other threads use a [`handle`](Conn::handle).
#[doc(alias = "AsyncConn")]
pub struct Conn<'a> {
    core: &'a mut Core,
    sockets: &'a dyn Sockets,
    token: Token,
    /// The receive buffer's bytes, where the callback was lent them; see `lent.rs`.
    received: &'a [u8],
}

impl<'a> Conn<'a> {
    #[inline]
    pub(crate) fn new(core: &'a mut Core, sockets: &'a dyn Sockets, token: Token) -> Self {
        Conn { core, sockets, token, received: &[] }
    }

    /// As `new`, for a callback whose input lies in the driver's receive buffer.
    pub(crate) fn lent(
        core: &'a mut Core,
        sockets: &'a dyn Sockets,
        token: Token,
        received: &'a [u8],
    ) -> Self {
        Conn { core, sockets, token, received }
    }

    /// The connection's identity, valid also when it is gone.
    #[doc(alias = "Fd")]
    pub fn id(&self) -> ConnId {
        ConnId::new(self.core.index, self.token)
    }

    /// The peer's address. Known as long as there is a `Conn`, also in `on_close`. Behind a proxy
    /// that has sent a PROXY header, the address of the proxy's client. Where the name of a host could
    /// not be resolved, `on_open_failed` finds none: `Unix(None)`.
    #[doc(alias = "RemoteAddr")]
    pub fn peer_addr(&self) -> Address {
        self.core.table.get(self.token).map_or(Address::Unix(None), |conn| conn.peer.address())
    }

    /// The connection's own address, asked of the system.
    ///
    /// # Errors
    /// The system's, for a socket that is gone.
    #[doc(alias = "LocalAddr")]
    pub fn local_addr(&self) -> io::Result<Address> {
        self.sockets.local_address(self.token)
    }

    /// The moment at which this turn of the loop began. No system call.
    pub fn now(&self) -> Instant {
        self.core.now
    }

    /// The server, to be handed to other threads.
    pub fn server(&self) -> &ServerHandle {
        &self.core.server
    }

    /// The index of the loop that owns the connection.
    #[doc(alias = "EventLoop")]
    pub fn loop_index(&self) -> usize {
        usize::from(self.core.index)
    }

    // ---- output -------------------------------------------------------------------------

    /// Appends `bytes` to the output and answers the bytes now pending. It always accepts; what
    /// is written leaves when the callback returns, in one system call with whatever else was
    /// written (on io_uring, with the turn's only one). A stretch of the callback's input is sent
    /// without being copied, where that is cheaper. Pending output above the option
    /// `max_pending_output` ends the connection. After a close, a reset or [`shutdown_write`](Conn::shutdown_write) the bytes are
    /// dropped and do not count as pending: a loop that writes until enough is pending needs another end too.
    #[doc(alias = "Write")]
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.write_lent(bytes) {
            return self.core.lent_to(self.token);
        }
        self.copy_lent();
        self.core.write_with(self.token, |conn, pool| conn.outbound.append(bytes, pool))
    }

    /// As [`write`](Conn::write), for a `String`, `Vec<u8>`, `&'static str` or `Bytes`, sharing the
    /// bytes instead of copying them (fewer than 512 are copied, which is cheaper).
    pub fn write_bytes(&mut self, bytes: impl Into<Bytes>) -> usize {
        let bytes = bytes.into();
        self.copy_lent();
        self.core.write_with(self.token, |conn, pool| conn.outbound.append_bytes(bytes, pool))
    }

    /// As [`write`](Conn::write), for several slices one behind the other.
    #[doc(alias = "Writev")]
    pub fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> usize {
        self.copy_lent();
        self.core.write_with(self.token, |conn, pool| {
            for slice in slices {
                conn.outbound.append(slice, pool);
            }
        })
    }

    /// An `io::Write` and `BufMut` straight into the outbound buffer, for encoders. `None` after
    /// a close or [`shutdown_write`](Conn::shutdown_write).
    ///
    /// ```
    /// use bytes::BufMut;
    /// use std::io::Write;
    ///
    /// fn reply(conn: &mut tightloop::Conn<'_>, code: u16, text: &str) {
    ///     if let Some(mut writer) = conn.writer() {
    ///         writer.put_u16(code);
    ///         let _ = write!(writer, "{text}"); // never fails
    ///     }
    /// }
    /// ```
    #[doc(alias = "ReadFrom")]
    pub fn writer(&mut self) -> Option<Writer<'_>> {
        self.copy_lent();
        self.core.write_with(self.token, |_, _| {});
        let Core { table, pool, pre_writing, current, .. } = &mut *self.core;
        let pre_writing = *pre_writing && *current == Some(self.token.index);
        let conn = table.get_mut(self.token).filter(|conn| conn.takes_output() || pre_writing)?;
        Some(conn.outbound.writer(pool))
    }

    /// Bytes that were written and not yet taken by the socket, those that other threads have
    /// queued included.
    #[doc(alias = "OutboundBuffered")]
    pub fn pending(&self) -> usize {
        self.core.table.get(self.token).map_or(0, |conn| {
            let queued =
                conn.extra.as_ref().and_then(|e| e.shared.as_ref()).map_or(0, |s| s.queued());
            conn.outbound.len() + self.core.lent_to(self.token) + queued
        })
    }

    /// Asks that pending output leaves when the running callback returns. The callback's own
    /// connection always does so, but for answers to datagrams that came together; another one,
    /// reached by [`peer`](Conn::peer), otherwise waits for the end of the turn, to send once what
    /// several callbacks write to it.
    #[doc(alias = "Flush")]
    pub fn flush(&mut self) {
        let gathers = || self.core.table.get(self.token).is_some_and(|conn| conn.datagrams);
        if self.core.current != Some(self.token.index) || gathers() {
            self.core.urgent.push(self.token);
        }
    }

    // ---- ending -------------------------------------------------------------------------

    /// Delivers what was written, then closes: as answering [`Action::Close`](crate::Action).
    #[doc(alias = "Close")]
    pub fn close(&mut self) {
        if let Some(conn) = self.core.table.get_mut(self.token) {
            conn.close(CloseReason::Local);
        }
        self.core.touch(self.token);
    }

    /// Closes at once: pending output is dropped, and a TCP peer gets a reset.
    pub fn abort(&mut self) {
        if let Some(conn) = self.core.table.get_mut(self.token) {
            conn.end(CloseReason::Aborted);
        }
        self.core.touch(self.token);
    }

    /// Delivers what was written, then closes the sending side only (FIN): the peer reads the
    /// end, and can still send. The connection closes when the peer has closed its side too.
    /// Datagrams have no end that could be sent: there this does nothing.
    pub fn shutdown_write(&mut self) {
        if let Some(conn) = self.core.table.get_mut(self.token) {
            conn.want_shutdown_write = !conn.datagrams;
        }
        self.core.touch(self.token);
    }

    /// Stops the whole server, as [`ServerHandle::stop`] does.
    pub fn stop_server(&mut self) {
        self.core.stop_requested = true;
    }

    // ---- input and time -----------------------------------------------------------------

    /// Stops reading: no more input for the handler, and, once the kernel's buffers are full,
    /// none from the peer. Its FIN is not noticed either while reading is paused; a reset is.
    pub fn pause_reading(&mut self) {
        self.set_paused(true);
    }

    /// Goes on reading. Input that was left over is offered again, though nothing new arrives.
    pub fn resume_reading(&mut self) {
        self.set_paused(false);
    }

    fn set_paused(&mut self, paused: bool) {
        if let Some(conn) = self.core.table.get_mut(self.token) {
            conn.want_offer |= conn.paused && !paused && !conn.inbound.is_empty();
            conn.paused = paused;
        }
        self.core.touch(self.token);
    }

    /// Whether reading pauses by itself while this connection's pending output is above the high
    /// watermark. At first as the option [`auto_pause`](crate::Server::auto_pause) says for
    /// connections that were accepted, and off for those made by `connect`.
    ///
    /// Right for a server: a peer that does not take its answers gets to ask no more. Wrong where
    /// the peer may have to be read before it goes on reading, as a proxy's back end: such a
    /// handler pauses the source of the bytes itself, and resumes it in `on_drain`.
    pub fn set_auto_pause(&mut self, on: bool) {
        if let Some(conn) = self.core.table.get_mut(self.token) {
            conn.auto_pause = on;
            conn.auto_paused &= on;
        }
        self.core.touch(self.token);
    }

    /// Has `on_timer` called after `delay` (to the millisecond, never early), in place of any
    /// timer set before; `None` cancels. There is one timer a connection; setting it is O(1).
    pub fn set_timer(&mut self, delay: impl Into<Option<Duration>>) {
        let now = self.sockets.now();
        self.core.set_timer(self.token, now, delay.into());
    }

    /// Closes the connection with [`CloseReason::IdleTimeout`] when for this long nothing was
    /// received and the socket took nothing; `None` never. Overrides the server's option for
    /// this connection.
    #[doc(alias = "SetDeadline")]
    pub fn set_idle_timeout(&mut self, timeout: impl Into<Option<Duration>>) {
        let millis = timeouts::millis(timeout.into());
        self.core.set_timeouts(self.token, |timeouts| timeouts.idle = millis);
    }

    /// How long nothing was received and the socket took nothing, as the beginning of this turn
    /// knows it; zero before the connection is open. No system call: what a slow peer takes out of
    /// the kernel's buffer is known when the socket takes more, and by each look of the option
    /// `write_stall_timeout`.
    ///
    /// For handlers that decide by themselves what is idle, in [`on_timer`](crate::Handler::on_timer):
    /// a proxy's one side may be silent because the other is at work.
    pub fn idle_for(&self) -> Duration {
        let open = self.core.table.get(self.token).filter(|conn| conn.phase == Phase::Open);
        let since = |last| self.core.now_ms.wrapping_sub(self.core.long_turns.latest(last));
        let idle_ms = open.map_or(0, |conn| since(conn.last_received).min(since(conn.last_sent)));
        Duration::from_millis(idle_ms.into())
    }

    /// Closes the connection with [`CloseReason::ReadIdleTimeout`] when for this long it was read
    /// from and nothing came; `None` never. Overrides the server's option for this connection.
    #[doc(alias = "SetReadDeadline")]
    pub fn set_read_idle_timeout(&mut self, timeout: impl Into<Option<Duration>>) {
        let millis = timeouts::millis(timeout.into());
        self.core.set_timeouts(self.token, |timeouts| timeouts.read_idle = millis);
    }

    /// Closes the connection with [`CloseReason::WriteIdleTimeout`] when for this long nothing was
    /// sent, because there was nothing or because the peer took nothing; `None` never. Overrides
    /// the server's option for this connection.
    #[doc(alias = "SetWriteDeadline")]
    pub fn set_write_idle_timeout(&mut self, timeout: impl Into<Option<Duration>>) {
        let millis = timeouts::millis(timeout.into());
        self.core.set_timeouts(self.token, |timeouts| timeouts.write_idle = millis);
    }

    // ---- others -------------------------------------------------------------------------

    /// A handle for other threads, which outlives the connection harmlessly. The first call for
    /// a connection allocates; further ones count references.
    pub fn handle(&mut self) -> ConnHandle {
        let token = self.token;
        let shared = match self.core.table.get_mut(token) {
            Some(conn) => {
                let ended = conn.phase == Phase::Lingering;
                let shared =
                    conn.extra_mut().shared.get_or_insert_with(|| Arc::new(Shared::at(token)));
                if ended {
                    shared.mark_closed();
                }
                Arc::clone(shared)
            }
            None => Arc::new(Shared::at(token)),
        };
        let limit = self.core.options.max_pending_output;
        ConnHandle::new(Arc::clone(&self.core.shared), shared, limit)
    }

    /// Another connection of the same loop, to write to it or close it, also one that is still
    /// connecting. `None` if it is gone, closing, or on another loop.
    pub fn peer(&mut self, id: ConnId) -> Option<Conn<'_>> {
        if id.loop_index != self.core.index {
            return None;
        }
        let conn = self.core.table.get(id.token())?;
        let lives = conn.takes_commands();
        lives.then(|| Conn::lent(self.core, self.sockets, id.token(), self.received))
    }

    /// Starts an outgoing connection on this loop, to an [`Endpoint`](crate::Endpoint) or as a
    /// [`Connect`] says. It appears as `on_open`, with this connection as its
    /// [`initiator`](Conn::initiator), or as `on_open_failed`. What is written to it by
    /// [`peer`](Conn::peer) in the meantime is sent when it is connected. Nothing waits: host names
    /// are resolved on the worker pool. Their addresses are tried as RFC 8305 says: IPv6 and IPv4
    /// in turn, the next one at once when one refuses, and beside it when it has not answered for
    /// 250 ms.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for `tls://` where no TLS was given, and for
    /// what makes no sense together; [`Error::Stopped`](crate::Error::Stopped) once the server is
    /// stopping.
    #[doc(alias = "Dial")]
    #[doc(alias = "Register")]
    pub fn connect(&mut self, to: impl Into<Connect>) -> Result<ConnId> {
        let initiator = self.id();
        self.core.connect(to.into(), Some(initiator))
    }
}

impl fmt::Debug for Conn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("id", &self.id())
            .field("peer", &self.peer_addr())
            .field("pending", &self.pending())
            .finish()
    }
}
