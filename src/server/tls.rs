//! The options for TLS.

use crate::client::Client;
use crate::engine::{Listen, ListenOn};
use crate::server::Server;
use crate::server::shared::for_both;
use crate::tls::{TlsAcceptor, TlsConnector};

impl Server {
    /// The TLS of listeners with `tls://`. The handler sees plaintext; `on_open` comes behind the
    /// handshake. See [`TlsAcceptor`] for what can be set, and how it is replaced while the server
    /// serves.
    pub fn tls(mut self, acceptor: impl Into<TlsAcceptor>) -> Self {
        self.defaults.listener.tls = Some(acceptor.into().sessions());
        self
    }

    /// As [`listen`](Server::listen), on a TCP or Unix address, with TLS of its own.
    pub fn listen_tls(mut self, url: impl Into<String>, acceptor: impl Into<TlsAcceptor>) -> Self {
        let tls = Some(acceptor.into().sessions());
        self.listen.push(Listen { tls, ..ListenOn::Url(url.into()).into() });
        self
    }
}

for_both! {
    /// The TLS of connections that are made to endpoints with `tls://`. One of them may have its
    /// own: [`Connect::tls`](crate::Connect::tls).
    pub fn tls_client(mut self, connector: impl Into<TlsConnector>) -> Self {
        self.defaults.tls_client = Some(connector.into().sessions());
        self
    }

    /// Steps of TLS handshakes that a loop takes before the open connections get their turn.
    /// Default 8: some milliseconds with the most expensive keys. Further ones wait for the next
    /// turn.
    pub fn handshakes_per_turn(mut self, handshakes: usize) -> Self {
        self.options.turn.handshakes = handshakes;
        self
    }
}
