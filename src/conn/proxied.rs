//! What a connection's handler asks about the proxy in front of it.

use crate::addr::Address;
use crate::conn::Conn;
use crate::proxy_protocol::ProxyHeader;

impl Conn<'_> {
    /// The PROXY header that the connection began with: the client's and the proxy's address as the
    /// client has seen it, and what else the proxy says. `None` where none was asked for or sent.
    /// See [`Server::proxy_protocol`](crate::Server::proxy_protocol).
    #[doc(alias = "tlv")]
    pub fn proxy_header(&self) -> Option<&ProxyHeader> {
        let extra = self.core.table.get(self.token)?.extra.as_ref()?;
        extra.proxied.as_ref().map(|proxied| &proxied.header)
    }

    /// The address of the socket's own peer: behind a proxy that has sent a PROXY header, the
    /// proxy's, and else the same as [`peer_addr`](Conn::peer_addr).
    pub fn socket_peer_addr(&self) -> Address {
        let conn = self.core.table.get(self.token);
        let proxied = conn.and_then(|conn| conn.extra.as_ref()?.proxied.as_ref());
        proxied.map_or_else(|| self.peer_addr(), |proxied| proxied.socket_peer.clone())
    }
}
