//! What most connections never have, so that an idle one stays small.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::addr::Address;
use crate::conn::command::Completion;
use crate::conn::dial::Dial;
use crate::conn::handle::{Promise, Shared};
use crate::conn::id::ConnId;
use crate::conn::origin::Attachment;
use crate::conn::pieces::Pieces;
use crate::conn::relay::Relay;
use crate::driver::Token;
use crate::error::CloseReason;
use crate::proxy_protocol::ProxyHeader;
use crate::tls::{MakeSession, TlsInfo};

/// The rarely used part of a connection, kept apart to keep an idle one small.
#[derive(Default)]
pub(crate) struct Extra {
    /// Who waits for which byte to be sent, in order.
    pub(crate) completions: VecDeque<Completion>,
    /// Made when the first handle is asked for.
    pub(crate) shared: Option<Arc<Shared>>,
    /// The connection whose callback asked for this one.
    pub(crate) initiator: Option<ConnId>,
    /// Given along by whoever asked for it; there until it has opened.
    pub(crate) attachment: Option<Attachment>,
    /// There until it opens, where another thread has asked for it.
    pub(crate) promise: Option<Promise>,
    /// Where the datagrams of a datagram connection's output end.
    pub(crate) pieces: Option<Box<Pieces>>,
    /// Valid in Connecting.
    pub(crate) dial: Option<Box<Dial>>,
    /// Valid in Attempt: the connection that it may become.
    pub(crate) attempt_for: Option<Token>,
    /// The loop's load counts it as one that is being opened.
    pub(crate) counts_as_opening: bool,
    /// The PROXY header that came.
    pub(crate) proxied: Option<Box<Proxied>>,
    /// A TLS session that is to be begun.
    pub(crate) tls: Option<MakeSession>,
    /// Where in the output, counted as `sent` is, encryption begins. Valid while there is a session
    /// to be begun; beyond 0 there is plaintext before it, a PROXY header if nothing else.
    pub(crate) tls_at: u64,
    /// What the handshake has agreed on.
    pub(crate) tls_info: Option<Box<TlsInfo>>,
    /// Its input goes to another connection, or has gone, or others' comes here.
    pub(crate) relay: Option<Box<Relay>>,
    /// The reason of its end, where that is told by more than a byte (see `reason.rs`).
    pub(crate) reason: Option<CloseReason>,
}

/// A connection that came by way of a proxy.
pub(crate) struct Proxied {
    pub(crate) header: ProxyHeader,
    /// The socket's own peer, where the connection's is the one that the header says.
    pub(crate) socket_peer: Address,
}

impl Extra {
    /// Whether nobody is to be told of how the output gets on.
    pub(crate) fn is_unobserved(&self) -> bool {
        self.shared.is_none() && self.relay.as_ref().is_none_or(|relay| relay.resting.is_empty())
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        let Extra {
            completions,
            shared,
            initiator,
            attachment,
            promise,
            pieces,
            dial,
            attempt_for,
            counts_as_opening: _,
            proxied,
            tls,
            tls_at: _,
            tls_info,
            relay,
            reason,
        } = self;
        let is_made = promise.is_none() && dial.is_none() && attempt_for.is_none();
        is_made
            && pieces.is_none()
            && reason.is_none()
            && completions.is_empty()
            && shared.is_none()
            && initiator.is_none()
            && attachment.is_none()
            && proxied.is_none()
            && tls.is_none()
            && tls_info.is_none()
            && relay.is_none()
    }
}
