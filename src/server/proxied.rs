//! The options for the PROXY protocol.

use crate::engine::{Listen, ListenOn};
use crate::proxy_protocol::ProxyProtocol;
use crate::server::Server;

impl Server {
    /// Reads the header of the PROXY protocol, by which a proxy tells who its client is, on all
    /// TCP and Unix listeners but those of [`listen_proxied`](Server::listen_proxied). Default:
    /// none is read.
    ///
    /// It is read before a TLS handshake and before `on_open`. There
    /// [`Conn::peer_addr`](crate::Conn::peer_addr) is the client,
    /// [`Conn::socket_peer_addr`](crate::Conn::socket_peer_addr) the proxy, and
    /// [`Conn::proxy_header`](crate::Conn::proxy_header) what else the proxy says. A connection
    /// whose header is missing, malformed or not to be believed ends with
    /// [`CloseReason::ProxyHeader`](crate::CloseReason::ProxyHeader), one whose header takes longer
    /// than [`handshake_timeout`](Server::handshake_timeout) with `HandshakeTimeout`; `on_open_failed`
    /// is told of either.
    ///
    /// What is decided before the header is read goes by the socket's own peer:
    /// [`max_connections_per_ip`](Server::max_connections_per_ip), which here limits the
    /// connections of each proxy, and the balancers that look at the peer's address.
    ///
    /// ```no_run
    /// # use tightloop::{Action, Conn, Handler, Input};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     type State = ();
    /// #     fn on_open(&mut self, _: &mut Conn<'_>) {}
    /// #     fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
    /// #         conn.write(input.take_all());
    /// #         Action::Continue
    /// #     }
    /// # }
    /// use tightloop::Server;
    /// use tightloop::proxy_protocol::ProxyProtocol;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let proxies = ProxyProtocol::required().trusting(["10.0.0.0/8".parse()?]);
    /// Server::new().listen("tcp://:9000").proxy_protocol(proxies).run(|_loop| Echo)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn proxy_protocol(mut self, policy: ProxyProtocol) -> Self {
        self.defaults.listener.proxy = Some(policy);
        self
    }

    /// As [`listen`](Server::listen), on a TCP, TLS or Unix address, with a rule of its own for the
    /// PROXY protocol: see [`proxy_protocol`](Server::proxy_protocol).
    pub fn listen_proxied(mut self, url: impl Into<String>, policy: ProxyProtocol) -> Self {
        let on = ListenOn::Url(url.into());
        self.listen.push(Listen { proxy: Some(policy), ..on.into() });
        self
    }
}
