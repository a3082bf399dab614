//! Between connected and open: what has to come before the first byte of the handler's protocol.
//! Most connections have no such thing, and pass straight through.
//!
//! ```text
//!   accepted, connected --> [PROXY header] --> [TLS handshake] --> on_open
//!                                  |                  |
//!                                  `------------------+--> on_open_failed
//! ```
//! All of it together may take the option `handshake_timeout`, by the connection's watch. What is
//! received meanwhile lies in `inbound`, and what is left over when it opens is offered as input.

use crate::conn::extra::{Extra, Proxied};
use crate::conn::state::{ConnCore, NO_LISTENER, Phase};
use crate::control::LoopShared;
use crate::driver::{Buffer, CloseMode, Driver, Token};
use crate::error::CloseReason;
use crate::handler::Handler;
use crate::proxy_protocol::{self, DEFAULT_MAX_HEADER, Parsed, ProxyError, ProxyProtocol, Sender};
use crate::reactor::Reactor;
use crate::tls::MakeSession;

/// What a listener asks of its connections before they open.
#[derive(Clone, Default)]
pub(crate) struct ListenerPolicy {
    pub(crate) tls: Option<MakeSession>,
    pub(crate) proxy: Option<ProxyProtocol>,
}

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// A connection is connected: opens it, or begins what has to come before that.
    #[inline]
    pub(super) fn begin_opening(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let policy = self.policies.get(usize::from(conn.listener));
        let policy = policy.filter(|_| conn.listener != NO_LISTENER);
        if let Some(make) = policy.and_then(|policy| policy.tls.clone()) {
            conn.extra_mut().tls = Some(make);
        }
        if let Some(proxy) = policy.and_then(|policy| policy.proxy.as_ref()) {
            match proxy.asks_of(&conn.peer.address()) {
                Sender::Never => {}
                Sender::Refused => {
                    let reason = CloseReason::ProxyHeader(ProxyError::Untrusted);
                    return self.open_failed(token, reason);
                }
                sender => conn.awaits_header = Some(sender),
            }
        }
        let secures = conn.extra.as_ref().is_some_and(|extra| extra.tls.is_some());
        if !secures && conn.awaits_header.is_none() {
            conn.phase = Phase::Open;
            return self.opened(token);
        }
        conn.phase = Phase::Opening;
        let extra = conn.extra_mut();
        if extra.promise.is_none() {
            extra.counts_as_opening = true;
            let opening = &self.core.shared.opening;
            opening.set(opening.get() as usize + 1);
        }
        let patience = self.core.options.handshake_timeout;
        self.core.set_watch_from(token, self.driver.now(), Some(patience));
        self.go_on_opening(token);
    }

    /// The next step towards on_open.
    fn go_on_opening(&mut self, token: Token) {
        let awaits_header = |conn: &ConnCore| conn.awaits_header.is_some();
        if self.core.table.get(token).is_some_and(awaits_header) && !self.read_header(token) {
            return;
        }
        let Some(conn) = self.core.table.get_mut(token) else { return };
        if let Some(make) = conn.extra.as_mut().and_then(|extra| extra.tls.take()) {
            return self.begin_tls(token, &make);
        }
        if !conn.secured {
            self.open_now(token);
        }
    }

    /// Reads the PROXY header out of what has come, and answers whether that is done: there was
    /// one, or there is to be none.
    fn read_header(&mut self, token: Token) -> bool {
        let Some(conn) = self.core.table.get_mut(token) else { return false };
        let policy = self.policies.get(usize::from(conn.listener)).and_then(|p| p.proxy.as_ref());
        let limit = policy.map_or(DEFAULT_MAX_HEADER, ProxyProtocol::limit);
        let parsed = proxy_protocol::parse(conn.inbound.as_slice(), limit);
        match parsed {
            Ok(Parsed::Incomplete) => return false,
            Ok(Parsed::Header { header, length }) => {
                conn.inbound.consume(length, &mut self.core.pool);
                // The first byte is the client's: what the proxy says is none.
                conn.heard = !conn.inbound.is_empty();
                let socket_peer = conn.peer.address();
                if let Some(client) = header.source() {
                    conn.peer = client.clone().into();
                }
                conn.extra_mut().proxied = Some(Box::new(Proxied { header, socket_peer }));
            }
            Err(ProxyError::NotAHeader) if conn.awaits_header == Some(Sender::May) => {}
            Err(error) => {
                self.open_failed(token, CloseReason::ProxyHeader(error));
                return false;
            }
        }
        conn.awaits_header = None;
        true
    }

    /// The peer closed its side before the connection was open.
    pub(super) fn opening_ended(&mut self, token: Token) {
        let cut_off = |conn: &ConnCore| conn.awaits_header.is_some() && !conn.inbound.is_empty();
        let reason = match self.core.table.get(token).is_some_and(cut_off) {
            true => CloseReason::ProxyHeader(ProxyError::Incomplete),
            false => CloseReason::PeerClosed,
        };
        self.open_failed(token, reason);
    }

    /// Nothing is left to come first.
    pub(super) fn open_now(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.phase = Phase::Open;
        self.core.set_watch(token, None);
        self.opened(token);
        let Some(conn) = self.core.table.get_mut(token) else { return };
        if !conn.inbound.is_empty() {
            // Where on_open has written much, it waits until that has drained.
            conn.want_offer = true;
            self.offer(token);
        }
    }

    /// Bytes before on_open.
    pub(super) fn opening_received(&mut self, token: Token, buffer: Buffer) {
        if let Some(conn) = self.core.table.get_mut(token) {
            conn.inbound.append(self.driver.bytes(&buffer), &mut self.core.pool);
        }
        self.driver.recycle(buffer);
        self.go_on_opening(token);
    }

    /// Ends a connection that never was open, and tells so.
    pub(super) fn open_failed(&mut self, token: Token, reason: CloseReason) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let broken = matches!(
            reason,
            CloseReason::PeerReset(_) | CloseReason::Failed(_) | CloseReason::Aborted
        );
        // The peer was sent something, an alert perhaps, that a reset could destroy.
        let lingers = conn.phase == Phase::Opening && conn.secured && !conn.eof && !broken;
        if !broken {
            self.last_words(token);
        }
        let Some(conn) = self.core.table.get_mut(token) else { return };
        conn.phase = Phase::Lingering;
        conn.mark = 0;
        self.end_dial(token);
        self.let_go_of_memory(token);
        self.core.shared.metrics.open_failures.add(1);
        self.with_conn("on_open_failed", token, |handler, conn| {
            handler.on_open_failed(conn, reason);
        });
        if lingers && self.driver.shutdown_write(token).is_ok() {
            self.core.set_watch_from(token, self.driver.now(), Some(self.linger_patience()));
            self.settle_reading(token);
        } else {
            self.release(token, CloseMode::Orderly);
        }
    }
}

/// It is open, or will never be: it no longer counts as being opened.
pub(super) fn end_of_opening(extra: &mut Extra, shared: &LoopShared) {
    if std::mem::take(&mut extra.counts_as_opening) {
        shared.opening.set(shared.opening.get() as usize - 1);
    }
}
