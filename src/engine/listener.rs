//! Binding: from what the user asked to listen on to sockets, each with the loop that gets it.

use std::io;
use std::net::{TcpListener, UdpSocket};
#[cfg(unix)]
use std::os::unix::net::UnixListener;

use socket2::SockRef;

use crate::addr::{Address, Endpoint};
use crate::conn::state::NO_LISTENER;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::proxy_protocol::ProxyProtocol;
use crate::reactor::opening::ListenerPolicy;
use crate::sys::is_not_here;
use crate::sys::socket::{Listener, bind_first, bind_tcp, bind_udp, bind_unix};
use crate::tls::MakeSession;

/// One thing to listen on.
pub(crate) struct Listen {
    pub(crate) on: ListenOn,
    /// TLS on this listener, whatever its URL says.
    pub(crate) tls: Option<MakeSession>,
    /// The PROXY protocol on this listener, whatever holds for the others.
    pub(crate) proxy: Option<ProxyProtocol>,
}

impl From<ListenOn> for Listen {
    fn from(on: ListenOn) -> Self {
        Listen { on, tls: None, proxy: None }
    }
}

/// Where to listen.
#[derive(Debug)]
pub(crate) enum ListenOn {
    Url(String),
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
    Udp(UdpSocket),
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
}

pub(super) fn bind_all(
    listen: Vec<Listen>,
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
    };
    if listen.len() >= usize::from(NO_LISTENER) {
        return Err(Error::Option { name: "listen", reason: "must be fewer than 65,535".into() });
    }
    for Listen { on, tls, proxy } in listen {
        let mut policy = ListenerPolicy { tls, proxy };
        match on {
            ListenOn::Url(url) => {
                let endpoint: Endpoint = url.parse()?;
                policy = policy_of(&endpoint, policy, defaults)?;
                bound.bind(&endpoint, options).map_err(|source| listen_error(url, source))?;
            }
            ListenOn::Tcp(listener) => bound
                .adopt(listener.set_nonblocking(true), Listener::Tcp(listener), options)
                .map_err(|source| listen_error("the given TCP listener", source))?,
            #[cfg(unix)]
            ListenOn::Unix(socket) => bound
                .adopt(socket.set_nonblocking(true), Listener::Unix { path: None, socket }, options)
                .map_err(|source| listen_error("the given Unix listener", source))?,
            ListenOn::Udp(socket) => bound
                .adopt_datagram(socket, options)
                .map_err(|source| listen_error("the given UDP socket", source))?,
        }
        policy.proxy = policy.proxy.or_else(|| defaults.proxy.clone());
        check_proxy(policy.proxy.as_ref())?;
        bound.policies.push(policy);
    }
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

fn listen_error(address: impl Into<String>, source: io::Error) -> Error {
    let address = address.into();
    if is_not_here(&source) {
        return Error::Unsupported { what: format!("{source}, asked for {address}") };
    }
    Error::Listen { address, source }
}

impl Bound {
    fn bind(&mut self, endpoint: &Endpoint, options: &Options) -> io::Result<()> {
        if let Some(path) = endpoint.unix_path() {
            let listener = bind_unix(path, &options.listen)?;
            hook(options, &listener.as_socket())?;
            self.shared.push((self.number(), listener));
            self.addresses.push(Address::Unix(Some(path.into())));
            return Ok(());
        }
        if endpoint.is_datagram() {
            return self.bind_datagram(endpoint, options);
        }
        let only = endpoint.ipv6_only();
        let first = bind_first(&endpoint.resolve()?, |a| bind_tcp(a, only, &options.listen))?;
        hook(options, &SockRef::from(&first))?;
        let address = first.local_addr()?;
        let number = self.number();
        self.addresses.push(Address::from(address));
        if !options.listen.reuse_port {
            self.shared.push((number, Listener::Tcp(first)));
            return Ok(());
        }
        let mut first = Some(first);
        for own in &mut self.own {
            // The first has settled the port that all others share.
            let listener = match first.take() {
                Some(first) => first,
                None => {
                    let listener = bind_tcp(address, only, &options.listen)?;
                    hook(options, &SockRef::from(&listener))?;
                    listener
                }
            };
            own.push((number, Listener::Tcp(listener)));
        }
        Ok(())
    }

    fn bind_datagram(&mut self, endpoint: &Endpoint, options: &Options) -> io::Result<()> {
        let only = endpoint.ipv6_only();
        let first = bind_first(&endpoint.resolve()?, |a| bind_udp(a, only, &options.listen))?;
        hook(options, &SockRef::from(&first))?;
        let address = first.local_addr()?;
        self.addresses.push(Address::from(address));
        let copies = if options.listen.reuse_port { self.datagrams.len() } else { 1 };
        let mut first = Some(first);
        for sockets in self.datagrams.iter_mut().take(copies) {
            let socket = match first.take() {
                Some(first) => first,
                None => {
                    let socket = bind_udp(address, only, &options.listen)?;
                    hook(options, &SockRef::from(&socket))?;
                    socket
                }
            };
            sockets.push(socket);
        }
        Ok(())
    }

    /// A given listener gets the options that its connections are to inherit.
    fn adopt(
        &mut self,
        prepared: io::Result<()>,
        listener: Listener,
        options: &Options,
    ) -> io::Result<()> {
        prepared?;
        let is_tcp = matches!(listener, Listener::Tcp(_));
        options.listen.socket.apply(listener.as_socket(), is_tcp)?;
        hook(options, &listener.as_socket())?;
        let address = listener.local_address()?;
        self.shared.push((self.number(), listener));
        self.addresses.push(address);
        Ok(())
    }

    /// The number of the listener whose address is pushed next; `bind_all` bounds them.
    fn number(&self) -> u16 {
        self.addresses.len() as u16
    }

    fn adopt_datagram(&mut self, socket: UdpSocket, options: &Options) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        hook(options, &SockRef::from(&socket))?;
        self.addresses.push(Address::from(socket.local_addr()?));
        // Taking turns spreads several adopted sockets over the loops.
        let emptiest = self.datagrams.iter_mut().min_by_key(|sockets| sockets.len());
        if let Some(sockets) = emptiest {
            sockets.push(socket);
        }
        Ok(())
    }
}

/// Lets the user set further options on a listening socket.
fn hook(options: &Options, socket: &SockRef<'_>) -> io::Result<()> {
    options.listener_hook.as_ref().map_or(Ok(()), |hook| hook(socket))
}
