//! [`Endpoint`] to socket addresses: the one part of an address that asks the system.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use super::{Endpoint, Host, Scope, Target};

impl Endpoint {
    /// The socket addresses, in the order in which to try them; at least one.
    ///
    /// **Blocks** while a host name is looked up, possibly for seconds: not for the thread of an
    /// event loop. An address in numbers and a wildcard never block. A wildcard of both families
    /// gives `[::]` and then `0.0.0.0`, the fallback for a system without IPv6.
    ///
    /// # Errors
    /// The look-up failed, it found no address of the asked family, there is no interface of the
    /// given name, or the endpoint is a Unix socket (`InvalidInput`).
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let Target::Network { host, port } = &self.target else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{self} is a path and has no IP address"),
            ));
        };
        match host {
            Host::Wildcard => Ok(self.wildcard_addresses(*port)),
            Host::V4(ip) => Ok(vec![SocketAddrV4::new(*ip, *port).into()]),
            Host::V6(ip, scope) => {
                let scope_id = scope.index()?;
                Ok(vec![SocketAddrV6::new(*ip, *port, 0, scope_id).into()])
            }
            Host::Name(name) => self.look_up(name, *port),
        }
    }

    fn wildcard_addresses(&self, port: u16) -> Vec<SocketAddr> {
        let ipv6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let mut addresses = vec![ipv6, ipv4];
        addresses.retain(|address| self.allows(address));
        addresses
    }

    fn look_up(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = (name, port).to_socket_addrs().map_err(|source| {
            io::Error::new(source.kind(), ResolveError { host: name.into(), source })
        })?;
        let mut addresses: Vec<SocketAddr> = found.filter(|found| self.allows(found)).collect();
        // A hosts file often lists one name twice; connecting twice to one address helps nobody.
        let mut seen = HashSet::new();
        addresses.retain(|address| seen.insert(*address));
        if addresses.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                format!("the host \"{name}\" has no address that {} can use", self.transport),
            ));
        }
        Ok(addresses)
    }

    fn allows(&self, address: &SocketAddr) -> bool {
        match address {
            SocketAddr::V4(_) => self.transport.allows_ipv4(),
            SocketAddr::V6(_) => self.transport.allows_ipv6(),
        }
    }
}

impl Scope {
    fn index(&self) -> io::Result<u32> {
        match self {
            Scope::None => Ok(0),
            Scope::Index(index) => Ok(*index),
            Scope::Name(name) => crate::sys::interface::index_of(name),
        }
    }
}

/// The system's own message does not say which name it could not find.
#[derive(Debug)]
struct ResolveError {
    host: Box<str>,
    source: io::Error,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot resolve the host \"{}\": {}", self.host, self.source)
    }
}

impl std::error::Error for ResolveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
