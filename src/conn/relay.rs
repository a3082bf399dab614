//! Relaying: what one connection receives becomes the output of another one, unseen by the handler.
//! Gateways and tunnels do that once they know where a client wants to go.
//!
//! The reactor does what such a handler would do: it writes the input to the other connection, has
//! the source rest while that is too full, and goes on when it has drained (`reactor/relay.rs`).
//! Where driver and system can, bulk data does not come into the process at all.

use crate::conn::Conn;
use crate::conn::core::Core;
use crate::conn::id::ConnId;
use crate::conn::rare::Rare;
use crate::conn::state::ConnCore;
use crate::driver::Token;

/// What one connection has to do with others by relaying.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    /// Where its input goes. Valid while it has the mark `RELAYS`.
    pub(crate) to: Option<Token>,
    /// Passed on so far.
    pub(crate) bytes: u64,
    /// Whose input goes here, and rests until there is room: each that has the mark `RELAY_RESTS`
    /// stands once in the list of the one that its input goes to, and nobody else does.
    pub(crate) resting: Vec<Token>,
}

impl ConnCore {
    /// Where its input goes, if not to the handler.
    pub(crate) fn relays_to(&self) -> Option<Token> {
        let relay = self.extra.as_ref()?.relay.as_ref()?;
        relay.to.filter(|_| self.rare.has(Rare::RELAYS))
    }
}

impl Conn<'_> {
    /// From now on, what this connection receives is written to `other`, a connection of the same
    /// loop, and `on_traffic` is not called. Input that the running callback leaves in its
    /// [`Input`](crate::Input), or an earlier one has left, goes first. Each call is for one
    /// direction; a tunnel calls it for both connections, also for one that is still being made.
    /// Answers `false`, and changes nothing, if `other` is on another loop, if one of the two is gone
    /// or closing, or if one carries datagrams.
    ///
    /// Reading rests by itself while `other` has more pending output than the high watermark, and goes
    /// on at the low one. What is pending on this connection does not hold it up, whatever
    /// [`auto_pause`](crate::Server::auto_pause) says: two directions do not wait for each other. The end of the input is told by `on_eof` as ever, behind everything that
    /// came before it: `other` gets no end but by [`shutdown_write`](Conn::shutdown_write), behind which
    /// what is relayed is dropped, as all that is written then. When `other` is gone, relaying has ended: `on_traffic` is called again. What else is written to
    /// `other` takes its place between what is relayed; TLS is taken off and put on.
    ///
    /// Where it can, the kernel moves bulk data from socket to socket, without copying it into the
    /// process (`splice`; on Linux, by the readiness driver, between a TCP connection and one over
    /// TCP or a Unix socket, neither with TLS). `pre_write` is not called for that, and what has left one
    /// socket and not reached the other, up to a pipe's size, is no part of what
    /// [`memory_budget`](crate::Server::memory_budget) counts; a loop has 128 such pipes at most.
    ///
    /// ```
    /// # use tightloop::{Action, CloseReason, Conn, ConnId, Endpoint, Handler, Input};
    /// /// Passes everybody on to one upstream.
    /// struct Tunnel {
    ///     upstream: Endpoint,
    /// }
    ///
    /// impl Handler for Tunnel {
    ///     type State = Option<ConnId>; // the other side
    ///
    ///     fn on_open(&mut self, conn: &mut Conn<'_>) -> Option<ConnId> {
    ///         // Either its client has asked for it, or it is a client.
    ///         let other = conn.initiator().or_else(|| conn.connect(&self.upstream).ok());
    ///         if !other.is_some_and(|other| conn.relay_to(other)) {
    ///             conn.abort();
    ///         }
    ///         other
    ///     }
    /// #   fn on_traffic(
    /// #       &mut self,
    /// #       _: &mut Conn<'_>,
    /// #       _: &mut Option<ConnId>,
    /// #       _: &mut Input<'_>,
    /// #   ) -> Action {
    /// #       Action::Close // the other side is gone
    /// #   }
    ///
    ///     fn on_close(&mut self, conn: &mut Conn<'_>, other: Option<ConnId>, _: CloseReason) {
    ///         println!("{} bytes were relayed", conn.relayed());
    ///         if let Some(mut other) = other.and_then(|other| conn.peer(other)) {
    ///             other.close(); // delivers what it was written
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// See the example `proxy` for half-close and for upstreams that cannot be reached.
    #[doc(alias = "splice")]
    #[must_use = "`false`: nothing is relayed"]
    pub fn relay_to(&mut self, other: ConnId) -> bool {
        let to = other.token();
        let takes = |conn: &ConnCore| conn.takes_commands() && !conn.datagrams;
        let is_here = other.loop_index == self.core.index;
        if !is_here || !self.core.table.get(to).is_some_and(takes) {
            return false;
        }
        if !self.core.table.get(self.token).is_some_and(takes) {
            return false;
        }
        // It may have rested for another one.
        self.core.ends_rest(self.token);
        let Some(conn) = self.core.table.get_mut(self.token) else { return false };
        conn.rare.set(Rare::RELAYS, true);
        conn.auto_paused = false;
        conn.want_offer |= !conn.inbound.is_empty();
        conn.extra_mut().relay.get_or_insert_default().to = Some(to);
        self.core.touch(self.token);
        true
    }

    /// From now on input goes to the handler again, as before [`relay_to`](Conn::relay_to). What has been
    /// relayed is on its way.
    pub fn stop_relaying(&mut self) {
        self.core.ends_relaying(self.token);
        self.core.touch(self.token);
    }

    /// The bytes that were relayed from this connection so far; known in `on_close` too.
    pub fn relayed(&self) -> u64 {
        let extra = self.core.table.get(self.token).and_then(|conn| conn.extra.as_ref());
        extra.and_then(|extra| extra.relay.as_ref()).map_or(0, |relay| relay.bytes)
    }
}

impl Core {
    /// Input is the handler's again.
    pub(crate) fn ends_relaying(&mut self, token: Token) {
        self.ends_rest(token);
        let Some(conn) = self.table.get_mut(token) else { return };
        let relayed = conn.rare.set(Rare::RELAYS, false);
        conn.want_offer |= relayed && !conn.inbound.is_empty();
    }

    /// A connection rests for its target no more, whether that has room or not: the target forgets it.
    pub(crate) fn ends_rest(&mut self, token: Token) {
        let Some(conn) = self.table.get_mut(token) else { return };
        if !conn.rare.set(Rare::RELAY_RESTS, false) {
            return;
        }
        let to = conn.extra.as_ref().and_then(|extra| extra.relay.as_ref()?.to);
        let target = to.and_then(|to| self.table.get_mut(to)?.extra.as_mut());
        if let Some(relay) = target.and_then(|extra| extra.relay.as_mut()) {
            relay.resting.retain(|resting| *resting != token);
        }
    }
}
