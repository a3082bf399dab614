//! Sockets that exist already: given by the user, or found among those that the process inherited.

use std::io;

use socket2::SockRef;

use super::{Bound, hook, listen_error};
use crate::addr::Endpoint;
use crate::error::{Error, Result};
#[cfg(unix)]
use crate::inherited::Inherited;
use crate::listen_socket::ListenSocket;
use crate::options::Options;
use crate::sys::multicast::Multicast;
use crate::sys::socket::{Listener, is_listening};
#[cfg(unix)]
use crate::sys::socket::{PathClaim, UnixPathGuard};

/// What URLs may find instead of binding.
#[derive(Default)]
pub(crate) struct Found {
    #[cfg(unix)]
    inherited: Vec<Inherited>,
}

#[cfg(unix)]
impl Found {
    pub(crate) fn add(&mut self, inherited: Inherited) {
        self.inherited.push(inherited);
    }

    /// Listens on what fits the endpoint, or binds.
    pub(super) fn bind(
        &mut self,
        bound: &mut Bound,
        endpoint: &Endpoint,
        multicast: Multicast,
        options: &Options,
    ) -> io::Result<()> {
        for inherited in &mut self.inherited {
            let found = inherited.for_endpoint(endpoint)?;
            let path = found.iter().find_map(|found| found.path.clone());
            for found in found.iter().filter(|found| found.is_new && endpoint.is_datagram()) {
                if let Some(address) = found.address.socket_addr() {
                    let multicast = multicast.clone().with_bound(address);
                    multicast.apply(&found.socket.as_socket(), address.is_ipv6())?;
                }
            }
            let sockets: Vec<_> = found.into_iter().map(|found| found.socket).collect();
            if !sockets.is_empty() {
                bound.adopt_all(endpoint.to_string(), sockets, options)?;
                bound.claim_path(path);
                return Ok(());
            }
        }
        bound.bind(endpoint, multicast, options)
    }

    pub(super) fn close_the_rest(self) {
        for inherited in self.inherited {
            inherited.names().for_each(|name| log::info!("nobody listens on {name} any more"));
        }
    }
}

#[cfg(not(unix))]
impl Found {
    pub(super) fn bind(
        &mut self,
        bound: &mut Bound,
        endpoint: &Endpoint,
        multicast: Multicast,
        options: &Options,
    ) -> io::Result<()> {
        bound.bind(endpoint, multicast, options)
    }

    pub(super) fn close_the_rest(self) {}
}

/// Listens on what the user has given.
pub(super) fn listen_on(
    bound: &mut Bound,
    sockets: Vec<ListenSocket>,
    options: &Options,
) -> Result<()> {
    let refuse = |reason: &str| Err(Error::Option { name: "listen_on", reason: reason.into() });
    let Some(first) = sockets.first() else { return refuse("must be given a socket at least") };
    let kind = first.kind();
    if sockets.iter().any(|socket| socket.kind() != kind) {
        return refuse("must be given sockets of one kind");
    }
    let address = first.local_addr();
    let name = address.map_or_else(|_| String::new(), |address| address.to_string());
    let adopted = bound.adopt_all(name, sockets, options);
    adopted.map_err(|source| listen_error(format!("the given {kind}"), source))
}

impl Bound {
    /// All of one kind, and one at least.
    fn adopt_all(
        &mut self,
        name: String,
        sockets: Vec<ListenSocket>,
        options: &Options,
    ) -> io::Result<()> {
        if let Some(first) = sockets.first() {
            self.note(name, first.local_addr()?);
        }
        let loops = self.own.len();
        let one_a_loop = options.listen.reuse_port && loops > 1 && sockets.len() >= loops;
        for (n, socket) in sockets.into_iter().enumerate() {
            let owner = one_a_loop.then_some(n % loops);
            self.adopt(socket, owner, options)?;
        }
        Ok(())
    }

    /// A given listener gets the options that its connections are to inherit.
    fn adopt(
        &mut self,
        socket: ListenSocket,
        owner: Option<usize>,
        options: &Options,
    ) -> io::Result<()> {
        socket.as_socket().set_nonblocking(true)?;
        let listener = match socket {
            ListenSocket::Tcp(listener) => Listener::Tcp(listener),
            #[cfg(unix)]
            ListenSocket::Unix(socket) => Listener::Unix { path: None, socket },
            ListenSocket::Udp(socket) => {
                hook(options, &SockRef::from(&socket))?;
                // Taking turns spreads several adopted sockets over the loops.
                let loops = 0..self.datagrams.len();
                let emptiest = loops.min_by_key(|index| self.datagrams[*index].len());
                return self.give_datagrams(emptiest.unwrap_or(0), socket);
            }
        };
        if !is_listening(&listener.as_socket())? {
            let message = "the socket does not listen";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let is_tcp = matches!(listener, Listener::Tcp(_));
        options.listen.socket.apply(listener.as_socket(), is_tcp)?;
        hook(options, &listener.as_socket())?;
        match owner {
            Some(owner) => self.give(owner, listener),
            None => self.share(listener),
        }
    }

    /// The path of the listener adopted last is to be removed by it.
    #[cfg(unix)]
    fn claim_path(&mut self, claim: Option<std::sync::Arc<PathClaim>>) {
        let (Some(claim), Some((_, Listener::Unix { path, .. }))) = (claim, self.shared.last_mut())
        else {
            return;
        };
        *path = Some(UnixPathGuard::of(std::sync::Arc::clone(&claim)));
        if let Some(listened) = self.listened.last_mut() {
            listened.path = Some(claim);
        }
    }
}
