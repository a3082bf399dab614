//! [`Connect`]: what an outgoing connection is to be, and [`Dial`]: how far it is on the way there.
//! The reactor does the connecting.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::addr::{Address, Endpoint};
use crate::conn::attachment::Attachment;
use crate::conn::core::Core;
use crate::conn::extra::Extra;
use crate::conn::handle::Promise;
use crate::conn::id::ConnId;
use crate::conn::rare::Rare;
use crate::conn::state::{ConnCore, Phase};
use crate::driver::Token;
use crate::error::{Error, Result};
use crate::proxy_protocol::ProxyHeader;
use crate::sys::interface::Interface;
use crate::sys::multicast::Multicast;
use crate::sys::route::Route;
use crate::time::wheel::TimerKey;
#[cfg(feature = "tls")]
use crate::tls::TlsConnector;
use crate::tls::{MakeNamedSession, MakeSession};

/// Where to connect to, and how. An [`Endpoint`] is enough where nothing else is to be said.
///
/// ```
/// use std::time::Duration;
/// use tightloop::{Conn, Connect, Endpoint};
///
/// fn ask_the_back_end(conn: &mut Conn<'_>, back_end: &Endpoint) -> tightloop::Result<()> {
///     let connect = Connect::to(back_end).timeout(Duration::from_secs(2));
///     let id = conn.connect(connect)?;
///     if let Some(mut back_end) = conn.peer(id) {
///         back_end.write(b"hello"); // sent as soon as it is connected
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
#[must_use = "it connects when it is given to connect"]
#[doc(alias = "Dial")]
pub struct Connect {
    pub(crate) endpoint: Endpoint,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) route: Route,
    pub(crate) tls: Option<MakeNamedSession>,
    pub(crate) proxy_header: Option<ProxyHeader>,
    pub(crate) attachment: Option<Attachment>,
}

impl Connect {
    /// Connects to this endpoint.
    ///
    /// One of `udp` gives a connected datagram socket, which only this peer can send to. It opens at
    /// once, whether somebody is there or not; there `on_traffic` is given one whole datagram a
    /// call, and what it does not consume of it is dropped; each write is one datagram (a write of
    /// nothing is none, one that is too long is dropped and counted in `Stats::datagrams_dropped`).
    /// Limits, watermarks and timers are as for any connection. That the peer's port is closed, which
    /// a later datagram may find out, ends it with [`PeerReset`](crate::CloseReason::PeerReset).
    pub fn to(endpoint: &Endpoint) -> Self {
        Connect {
            endpoint: endpoint.clone(),
            addresses: Vec::new(),
            timeout: None,
            route: Route::default(),
            tls: None,
            proxy_header: None,
            attachment: None,
        }
    }

    /// The addresses of the host, in the order in which they are preferred, for programs that have
    /// a resolver of their own. Without any, the system is asked. What the endpoint says of ports
    /// and families is not looked at; its host still names the server for TLS.
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// How long all of it may take, from asking to being connected, the look-up of the name and
    /// attempts at several addresses included. Afterwards the connection fails with
    /// [`ConnectFailed`](crate::CloseReason::ConnectFailed) and `TimedOut`. Default: the option
    /// [`connect_timeout`](crate::Server::connect_timeout). A TLS handshake has its own time.
    #[doc(alias = "DialTimeout")]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The address to connect from; port 0 lets the system choose one (on Linux only when the peer
    /// is known, so that many connections to different peers can share ports). Only addresses of
    /// its family are tried; with a port, one at a time. Not for Unix sockets.
    pub fn local_addr(mut self, address: SocketAddr) -> Self {
        self.route.local = Some(address);
        self
    }

    /// Leaves and hears by this network device alone, whatever the system's routes say. Linux, Android
    /// (SO_BINDTODEVICE), macOS, illumos and Solaris (IP_BOUND_IF). That there is none, or that it is
    /// not allowed, is told as any failure: [`ConnectFailed`](crate::CloseReason::ConnectFailed), elsewhere with
    /// `Unsupported`. Not for Unix sockets.
    ///
    /// ```
    /// # use tightloop::{Connect, Endpoint};
    /// # let endpoint: Endpoint = "tcp://192.0.2.1:80".parse().unwrap();
    /// let connect = Connect::to(&endpoint).bind_device("eth1");
    /// # let _ = connect;
    /// ```
    #[doc(alias = "BindToDevice")]
    pub fn bind_device(mut self, device: impl Into<Interface>) -> Self {
        self.route.device = Some(device.into());
        self
    }

    /// How datagrams to a group leave, for a `udp` endpoint that is one; and groups to be joined. A
    /// socket that is connected to a group sends to its members and hears nobody, as their answers come
    /// from addresses of their own: whoever wants these sends from a listener
    /// ([`Datagram::send_to`](crate::Datagram::send_to)). One that is connected to a host hears what
    /// that host sends to a group where [`local_addr`](Connect::local_addr) is the group, which is
    /// to be [joined](Multicast::join). What cannot be set is told as
    /// [`ConnectFailed`](crate::CloseReason::ConnectFailed). Not for streams.
    pub fn multicast(mut self, multicast: Multicast) -> Self {
        self.route.multicast = Some(Box::new(multicast));
        self
    }

    /// TLS on this connection, whatever its URL says, in place of the option
    /// [`tls_client`](crate::Server::tls_client). The certificate is checked for the host of the
    /// endpoint, or for the connector's own server name. `on_open` comes behind the handshake.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, connector: impl Into<TlsConnector>) -> Self {
        self.tls = Some(connector.into().sessions());
        self
    }

    /// A header of the PROXY protocol, sent as the very first bytes: in front of what is written
    /// while it is connecting, and in front of a TLS handshake. It counts as pending output until
    /// it is sent. A header that cannot be encoded is an error of `connect`.
    ///
    /// ```
    /// use tightloop::proxy_protocol::ProxyHeader;
    /// use tightloop::{Conn, Connect, ConnId, Endpoint};
    ///
    /// /// Tells the back end who the client is, as it was told itself if there is a proxy in front.
    /// fn pass_on(conn: &mut Conn<'_>, back_end: &Endpoint) -> Result<ConnId, Box<dyn std::error::Error>> {
    ///     let header = match conn.proxy_header() {
    ///         Some(header) => header.clone(),
    ///         None => ProxyHeader::v2(conn.peer_addr(), conn.local_addr()?),
    ///     };
    ///     Ok(conn.connect(Connect::to(back_end).proxy_header(header))?)
    /// }
    /// ```
    pub fn proxy_header(mut self, header: ProxyHeader) -> Self {
        self.proxy_header = Some(header);
        self
    }

    /// Gives this value along, for [`Conn::attachment`](crate::Conn::attachment) in `on_open` or
    /// `on_open_failed`: what the connection is for, where whoever asks is not the handler. Clones
    /// of this `Connect` share it.
    #[doc(alias = "DialContext")]
    #[doc(alias = "NewContext")]
    #[doc(alias = "NewNetAddrContext")]
    pub fn attach<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.attachment = Some(Arc::new(value));
        self
    }

    /// The bytes of the PROXY header, none where there is none.
    fn first_bytes(&self) -> Result<Vec<u8>> {
        let Some(header) = &self.proxy_header else { return Ok(Vec::new()) };
        header
            .encode()
            .map_err(|error| Error::Option { name: "proxy_header", reason: error.to_string() })
    }

    /// Refuses what cannot be meant, and answers what makes the TLS session, if there is one.
    fn check(&self, default: Option<&MakeNamedSession>) -> Result<Option<MakeSession>> {
        let endpoint = &self.endpoint;
        let refused = |what: &str| {
            Err(Error::Unsupported { what: format!("connecting to {endpoint}: {what}") })
        };
        if endpoint.is_datagram() && (self.tls.is_some() || self.proxy_header.is_some()) {
            return refused("datagrams are no stream");
        }
        if endpoint.is_unix() && (self.route.local.is_some() || !self.addresses.is_empty()) {
            return refused("a Unix socket has no IP address");
        }
        if endpoint.is_unix() && self.route.device.is_some() {
            return refused("a Unix socket leaves by no device");
        }
        if !endpoint.is_datagram() && self.route.multicast.is_some() {
            return refused("multicast is for datagrams");
        }
        let given = self.tls.as_ref().or(default.filter(|_| endpoint.is_tls()));
        let Some(make) = given.cloned() else {
            return if endpoint.is_tls() { refused("no TLS was given for it") } else { Ok(None) };
        };
        let host = endpoint.host();
        Ok(Some(Arc::new(move || make(host.as_deref()))))
    }
}

impl From<&Endpoint> for Connect {
    fn from(endpoint: &Endpoint) -> Self {
        Connect::to(endpoint)
    }
}

impl From<Endpoint> for Connect {
    fn from(endpoint: Endpoint) -> Self {
        Connect::to(&endpoint)
    }
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("endpoint", &self.endpoint)
            .field("timeout", &self.timeout)
            .field("route", &self.route)
            .field("proxy_header", &self.proxy_header)
            .finish_non_exhaustive()
    }
}

/// A connection on its way. It exists while the connection is Connecting.
pub(crate) struct Dial {
    pub(crate) connect: Connect,
    /// The TLS session that it begins with, if any.
    tls: Option<MakeSession>,
    /// The PROXY header that it begins with, if any.
    first_bytes: Vec<u8>,
    /// Addresses still to be tried, last one first.
    pub(crate) candidates: Vec<Address>,
    /// The address of the attempt that is under way under the connection's own token.
    pub(crate) own: Option<Address>,
    /// Attempts under way beside it, each in a slot of its own.
    pub(crate) others: Vec<Token>,
    /// When the next attempt begins, though the others have not failed.
    pub(crate) next: Option<TimerKey>,
    /// Why the last attempt that has failed did.
    pub(crate) error: Option<std::io::Error>,
}

impl Dial {
    /// What `connect` asks for. `tls` is for endpoints with `tls://`.
    pub(crate) fn new(connect: Connect, tls: Option<&MakeNamedSession>) -> Result<Box<Self>> {
        let tls = connect.check(tls)?;
        let first_bytes = connect.first_bytes()?;
        Ok(Box::new(Dial {
            connect,
            tls,
            first_bytes,
            candidates: Vec::new(),
            own: None,
            others: Vec::new(),
            next: None,
            error: None,
        }))
    }

    pub(crate) fn attempts(&self) -> usize {
        usize::from(self.own.is_some()) + self.others.len()
    }

    /// Sets what is to be tried: addresses of the family of the local address, the families in
    /// turn, beginning with that of the first (RFC 8305, section 4).
    pub(crate) fn set_addresses(&mut self, mut addresses: Vec<SocketAddr>) {
        if let Some(local) = self.connect.route.local {
            addresses.retain(|address| address.is_ipv4() == local.is_ipv4());
        }
        let first_is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
        let (first, second): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| address.is_ipv4() == first_is_ipv4);
        let mut second = second.into_iter();
        for address in first {
            self.candidates.push(Address::Ip(address));
            self.candidates.extend(second.next().map(Address::Ip));
        }
        self.candidates.extend(second.map(Address::Ip));
        self.candidates.reverse();
    }
}

impl Core {
    /// Reserves a slot for an outgoing connection; the reactor starts it after the callback.
    pub(crate) fn connect(
        &mut self,
        connect: Connect,
        initiator: Option<ConnId>,
    ) -> Result<ConnId> {
        let dial = Dial::new(connect, self.server.shared.tls_client.as_ref())?;
        // A handler that tries again from on_open_failed would keep the loop alive for ever.
        if self.stopping {
            return Err(Error::Stopped);
        }
        let token = self.begin_dial(dial, |extra, _| extra.initiator = initiator);
        let token = token.ok_or_else(|| Error::Unsupported {
            what: "more than 2^30 connections on one loop".to_owned(),
        })?;
        Ok(ConnId::new(self.index, token))
    }

    /// The same for another thread. Without a place the promise is broken.
    pub(crate) fn connect_promised(&mut self, dial: Box<Dial>, promise: Promise) {
        self.begin_dial(dial, |extra, token| {
            extra.shared = Some(promise.keep(token));
            extra.promise = Some(promise);
        });
    }

    fn begin_dial(
        &mut self,
        mut dial: Box<Dial>,
        fill: impl FnOnce(&mut Extra, Token),
    ) -> Option<Token> {
        let mut conn = ConnCore::new(Address::Unix(None), Phase::Connecting);
        conn.rare.set(Rare::OUTGOING, true);
        conn.datagrams = dial.connect.endpoint.is_datagram();
        conn.receiving = false;
        let token = self.table.insert(conn)?;
        let conn = self.table.get_mut(token)?;
        conn.outbound.append(&dial.first_bytes, &mut self.pool);
        let extra = conn.extra_mut();
        extra.attachment = dial.connect.attachment.take();
        extra.tls = dial.tls.take();
        extra.tls_at = dial.first_bytes.len() as u64;
        extra.dial = Some(dial);
        fill(extra, token);
        self.connects.push(token);
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(addresses: &[&str], local: Option<&str>) -> Vec<String> {
        let mut connect = Connect::to(&"tcp://host:1".parse().unwrap());
        connect.route.local = local.map(|local| local.parse().unwrap());
        let mut dial = Dial::new(connect, None).unwrap();
        dial.set_addresses(addresses.iter().map(|address| address.parse().unwrap()).collect());
        dial.candidates.iter().rev().map(Address::to_string).collect()
    }

    #[test]
    fn the_families_take_turns_beginning_with_that_of_the_first_address() {
        let ipv6 = ["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"];
        let (a, b) = ("192.0.2.1:1", "192.0.2.2:1");
        assert_eq!(order(&[ipv6[0], ipv6[1], ipv6[2], a], None), [ipv6[0], a, ipv6[1], ipv6[2]]);
        assert_eq!(order(&[a, b, ipv6[0]], None), [a, ipv6[0], b]);
        assert_eq!(order(&[a, ipv6[0], ipv6[1]], None), [a, ipv6[0], ipv6[1]]);
        assert!(order(&[], None).is_empty());
    }

    #[test]
    fn only_the_family_of_the_local_address_is_tried() {
        assert_eq!(order(&["[::1]:1", "192.0.2.1:1"], Some("127.0.0.1:0")), ["192.0.2.1:1"]);
        assert!(order(&["192.0.2.1:1"], Some("[::1]:0")).is_empty());
    }
}
