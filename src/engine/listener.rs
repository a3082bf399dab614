//! Binding: from what the user asked to listen on to sockets, each with the loop that gets it.

use std::io;
use std::net::UdpSocket;

use socket2::SockRef;

use crate::addr::{Address, Endpoint};
use crate::conn::state::NO_LISTENER;
use crate::error::{Error, Result};
use crate::listen_socket::{ListenSocket, Listened};
use crate::options::Options;
use crate::proxy_protocol::ProxyProtocol;
use crate::reactor::opening::ListenerPolicy;
use crate::sys::multicast::Multicast;
use crate::sys::socket::{Listener, bind_first, bind_tcp, bind_udp, bind_unix};
use crate::tls::MakeSession;

pub(crate) mod given;

/// One thing to listen on.
pub(crate) struct Listen {
    pub(crate) on: ListenOn,
    /// TLS on this listener, whatever its URL says.
    pub(crate) tls: Option<MakeSession>,
    /// The PROXY protocol on this listener, whatever holds for the others.
    pub(crate) proxy: Option<ProxyProtocol>,
    /// Groups to be joined beside the one that the URL may name.
    pub(crate) multicast: Option<Multicast>,
}

impl From<ListenOn> for Listen {
    fn from(on: ListenOn) -> Self {
        Listen { on, tls: None, proxy: None, multicast: None }
    }
}

/// Where to listen.
#[derive(Debug)]
pub(crate) enum ListenOn {
    Url(String),
    /// One listener, that has several sockets where they share an address (SO_REUSEPORT).
    Sockets(Vec<ListenSocket>),
}

/// The sockets of a server. Dropping them closes them, and removes Unix paths.
pub(super) struct Bound {
    /// One for each thing listened on, in order.
    pub(super) addresses: Vec<Address>,
    /// Listeners that one thread accepts from for all loops, with the index of their address.
    pub(super) shared: Vec<(u16, Listener)>,
    /// For each loop, listeners of its own (reuse_port).
    pub(super) own: Vec<Vec<(u16, Listener)>>,
    /// For each loop, its datagram sockets.
    pub(super) datagrams: Vec<Vec<UdpSocket>>,
    /// One for each thing listened on, in order.
    pub(super) policies: Vec<ListenerPolicy>,
    /// The same sockets again, for those who are to listen there too.
    pub(super) listened: Vec<Listened>,
}

pub(super) fn bind_all(
    listen: Vec<Listen>,
    mut found: given::Found,
    defaults: &ListenerPolicy,
    options: &Options,
    loops: usize,
) -> Result<Bound> {
    let mut bound = Bound {
        addresses: Vec::new(),
        shared: Vec::new(),
        own: (0..loops).map(|_| Vec::new()).collect(),
        datagrams: (0..loops).map(|_| Vec::new()).collect(),
        policies: Vec::new(),
        listened: Vec::new(),
    };
    if listen.len() >= usize::from(NO_LISTENER) {
        return Err(Error::Option { name: "listen", reason: "must be fewer than 65,535".into() });
    }
    for Listen { on, tls, proxy, multicast } in listen {
        let mut policy = ListenerPolicy { tls, proxy };
        match on {
            ListenOn::Url(url) => {
                let endpoint: Endpoint = url.parse()?;
                policy = policy_of(&endpoint, policy, defaults)?;
                check_multicast(&endpoint, multicast.as_ref())?;
                let multicast = multicast.unwrap_or_default();
                found
                    .bind(&mut bound, &endpoint, multicast, options)
                    .map_err(|source| listen_error(url, source))?;
            }
            ListenOn::Sockets(sockets) => given::listen_on(&mut bound, sockets, options)?,
        }
        policy.proxy = policy.proxy.or_else(|| defaults.proxy.clone());
        check_proxy(policy.proxy.as_ref())?;
        bound.policies.push(policy);
    }
    let sockets: usize = bound.listened.iter().map(|listened| listened.sockets.len()).sum();
    if sockets >= usize::from(NO_LISTENER) {
        let reason = "must be fewer than 65,535 sockets, of all listeners together".into();
        return Err(Error::Option { name: "listen_on", reason });
    }
    found.close_the_rest();
    Ok(bound)
}

/// What the endpoint of a URL asks of its connections.
fn policy_of(
    endpoint: &Endpoint,
    own: ListenerPolicy,
    defaults: &ListenerPolicy,
) -> Result<ListenerPolicy> {
    if endpoint.is_datagram() && own.tls.is_some() {
        let what = format!("TLS on {endpoint}: datagrams are no stream");
        return Err(Error::Unsupported { what });
    }
    if endpoint.is_datagram() && own.proxy.is_some() {
        let what = format!("PROXY headers on {endpoint}: datagrams are no stream");
        return Err(Error::Unsupported { what });
    }
    let tls = own.tls.or_else(|| defaults.tls.clone().filter(|_| endpoint.is_tls()));
    if endpoint.is_tls() && tls.is_none() {
        let reason = format!("{endpoint} needs one: give it by Server::tls");
        return Err(Error::Option { name: "tls", reason });
    }
    Ok(ListenerPolicy { tls, ..own })
}

fn check_proxy(policy: Option<&ProxyProtocol>) -> Result<()> {
    match policy.and_then(ProxyProtocol::fault) {
        Some(reason) => Err(Error::Option { name: "proxy_protocol", reason: reason.to_owned() }),
        None => Ok(()),
    }
}

fn check_multicast(endpoint: &Endpoint, multicast: Option<&Multicast>) -> Result<()> {
    match multicast {
        Some(_) if !endpoint.is_datagram() => {
            let what = format!("multicast on {endpoint}: it is for datagrams");
            Err(Error::Unsupported { what })
        }
        _ => Ok(()),
    }
}

pub(super) fn listen_error(address: impl Into<String>, source: io::Error) -> Error {
    Error::Listen { address: address.into(), source }
}

impl Bound {
    fn bind(
        &mut self,
        endpoint: &Endpoint,
        multicast: Multicast,
        options: &Options,
    ) -> io::Result<()> {
        if let Some(path) = endpoint.unix_path() {
            let listener = bind_unix(path, &options.listen)?;
            hook(options, &listener.as_socket())?;
            self.note(endpoint.to_string(), Address::Unix(Some(path.into())));
            return self.share(listener);
        }
        if endpoint.is_datagram() {
            return self.bind_datagram(endpoint, multicast, options);
        }
        let only = endpoint.ipv6_only();
        let first = bind_first(&endpoint.resolve()?, |a| bind_tcp(a, only, &options.listen))?;
        hook(options, &SockRef::from(&first))?;
        let address = first.local_addr()?;
        self.note(endpoint.to_string(), Address::from(address));
        if !options.listen.reuse_port {
            return self.share(Listener::Tcp(first));
        }
        let mut first = Some(first);
        for owner in 0..self.own.len() {
            // The first has settled the port that all others share.
            let listener = match first.take() {
                Some(first) => first,
                None => {
                    let listener = bind_tcp(address, only, &options.listen)?;
                    hook(options, &SockRef::from(&listener))?;
                    listener
                }
            };
            self.give(owner, Listener::Tcp(listener))?;
        }
        Ok(())
    }

    fn bind_datagram(
        &mut self,
        endpoint: &Endpoint,
        multicast: Multicast,
        options: &Options,
    ) -> io::Result<()> {
        let only = endpoint.ipv6_only();
        let (first, asked) = bind_first(&endpoint.resolve()?, |address| {
            Ok((bind_udp(address, only, &options.listen)?, address))
        })?;
        let multicast = multicast.with_bound(asked);
        multicast.apply(&SockRef::from(&first), asked.is_ipv6())?;
        hook(options, &SockRef::from(&first))?;
        let address = first.local_addr()?;
        self.note(endpoint.to_string(), Address::from(address));
        // What is sent to a group comes to each socket that has joined it.
        let spreads = options.listen.reuse_port && !multicast.joins();
        let copies = if spreads { self.datagrams.len() } else { 1 };
        let mut first = Some(first);
        for owner in 0..copies {
            let socket = match first.take() {
                Some(first) => first,
                None => {
                    let socket = bind_udp(address, only, &options.listen)?;
                    hook(options, &SockRef::from(&socket))?;
                    socket
                }
            };
            self.give_datagrams(owner, socket)?;
        }
        Ok(())
    }

    /// The next listener; its sockets follow. `bind_all` bounds how many there are.
    fn note(&mut self, name: String, address: Address) {
        self.addresses.push(address);
        self.listened.push(Listened { name, sockets: Vec::new(), path: None });
    }

    /// One thread accepts from it for all loops.
    fn share(&mut self, listener: Listener) -> io::Result<()> {
        let number = self.keep(&listener)?;
        self.shared.push((number, listener));
        Ok(())
    }

    /// A loop accepts from it for itself.
    fn give(&mut self, owner: usize, listener: Listener) -> io::Result<()> {
        let number = self.keep(&listener)?;
        self.own[owner].push((number, listener));
        Ok(())
    }

    fn give_datagrams(&mut self, owner: usize, socket: UdpSocket) -> io::Result<()> {
        self.keep_socket(ListenSocket::Udp(socket.try_clone()?));
        self.datagrams[owner].push(socket);
        Ok(())
    }

    /// Keeps a duplicate of a socket of the listener noted last, and answers its number.
    fn keep(&mut self, listener: &Listener) -> io::Result<u16> {
        self.keep_socket(ListenSocket::of(listener)?);
        if let Some(listened) = self.listened.last_mut() {
            listened.path = listener.path_claim();
        }
        Ok((self.addresses.len() - 1) as u16)
    }

    fn keep_socket(&mut self, socket: ListenSocket) {
        if let Some(listened) = self.listened.last_mut() {
            listened.sockets.push(socket);
        }
    }
}

/// Lets the user set further options on a listening socket.
fn hook(options: &Options, socket: &SockRef<'_>) -> io::Result<()> {
    options.listener_hook.as_ref().map_or(Ok(()), |hook| hook(socket))
}
