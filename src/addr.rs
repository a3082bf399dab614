//! Addresses: where a socket is ([`Address`]), and where a user asks for one ([`Endpoint`]).
//!
//! An `Endpoint` is parsed once, from URL text, into a value that needs no second look at the text:
//! parsing does no I/O and never blocks, so that a mistake in a configuration file is found before
//! anything is started. Only [`Endpoint::resolve`] asks the system (names of hosts and interfaces).

mod network;
mod parse;
mod resolve;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

pub use network::IpNetwork;
pub use parse::{AddressError, AddressFault};

/// The longest path of a Unix socket in bytes: `sun_path` less its closing NUL.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "illumos", windows))]
pub const MAX_UNIX_PATH: usize = 107;
/// The longest path of a Unix socket in bytes: `sun_path` less its closing NUL.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "illumos", windows)))]
pub const MAX_UNIX_PATH: usize = 103;

/// Where one end of a socket is.
///
/// An IPv4 peer of a dual-stack socket is given by its IPv4 address, not as `::ffff:a.b.c.d`.
/// A Unix socket without a path (every client that did not bind, and the abstract names of Linux)
/// is `Unix(None)` and shown as `unix:(unnamed)`.
///
/// ```
/// use std::net::SocketAddr;
/// use tightloop::Address;
///
/// let address = Address::from("192.0.2.1:80".parse::<SocketAddr>().unwrap());
/// assert_eq!(address.port(), Some(80));
/// assert_eq!(address.to_string(), "192.0.2.1:80");
/// assert_eq!(Address::Unix(None).to_string(), "unix:(unnamed)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A TCP or UDP address.
    Ip(SocketAddr),
    /// The path of a Unix socket, if it has one.
    Unix(Option<Arc<Path>>),
}

// Two of these lie in each connection.
const _: () = assert!(size_of::<Address>() <= 32);

impl Address {
    /// The IP address, `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_addr().map(|address| address.ip())
    }

    /// The port, `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        self.socket_addr().map(|address| address.port())
    }

    /// IP address and port, `None` for a Unix socket.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// The path of a Unix socket that has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Ip(_) => None,
            Address::Unix(path) => path.as_deref(),
        }
    }

    /// Whether this is a Unix socket, with or without a path.
    pub fn is_unix(&self) -> bool {
        matches!(self, Address::Unix(_))
    }
}

/// `::ffff:a.b.c.d` becomes the IPv4 address `a.b.c.d`, so that one peer has one address.
impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(canonical(address))
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::SocketAddr> for Address {
    fn from(address: std::os::unix::net::SocketAddr) -> Address {
        Address::Unix(address.as_pathname().map(Arc::from))
    }
}

/// An IPv4 peer of a dual-stack socket by its IPv4 address: what users filter and print.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::from((ip, v6.port())),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(formatter),
            Address::Unix(Some(path)) => write!(formatter, "unix:{}", path.display()),
            Address::Unix(None) => formatter.write_str("unix:(unnamed)"),
        }
    }
}

/// What carries the bytes, and for IP which family: the scheme of an endpoint's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// `tcp://`: TCP over IPv4 or IPv6.
    Tcp,
    /// `tcp4://`: TCP over IPv4 only.
    Tcp4,
    /// `tcp6://`: TCP over IPv6 only.
    Tcp6,
    /// `udp://`: UDP over IPv4 or IPv6.
    Udp,
    /// `udp4://`: UDP over IPv4 only.
    Udp4,
    /// `udp6://`: UDP over IPv6 only.
    Udp6,
    /// `tls://`: TLS over TCP over IPv4 or IPv6.
    Tls,
    /// `unix://`: a Unix stream socket.
    Unix,
}

impl Transport {
    const ALL: [Transport; 8] = [
        Transport::Tcp,
        Transport::Tcp4,
        Transport::Tcp6,
        Transport::Udp,
        Transport::Udp4,
        Transport::Udp6,
        Transport::Tls,
        Transport::Unix,
    ];

    /// The scheme of the URL, without `://`.
    pub fn scheme(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tcp4 => "tcp4",
            Transport::Tcp6 => "tcp6",
            Transport::Udp => "udp",
            Transport::Udp4 => "udp4",
            Transport::Udp6 => "udp6",
            Transport::Tls => "tls",
            Transport::Unix => "unix",
        }
    }

    /// Whether it carries datagrams and not a stream.
    pub fn is_datagram(self) -> bool {
        matches!(self, Transport::Udp | Transport::Udp4 | Transport::Udp6)
    }

    fn allows_ipv4(self) -> bool {
        !matches!(self, Transport::Tcp6 | Transport::Udp6 | Transport::Unix)
    }

    fn allows_ipv6(self) -> bool {
        !matches!(self, Transport::Tcp4 | Transport::Udp4 | Transport::Unix)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.scheme())
    }
}

/// What to listen on or to connect to, parsed from URL text by [`str::parse`].
///
/// | text | meaning |
/// |---|---|
/// | `tcp://127.0.0.1:80`, `127.0.0.1:80` | one IPv4 address; without a scheme it is TCP |
/// | `tcp://[::1]:80`, `tcp://[fe80::1%eth0]:80` | one IPv6 address, with its scope by name or number |
/// | `tcp://localhost:80` | a name, looked up by [`resolve`](Endpoint::resolve) |
/// | `tcp://:80` | every interface, IPv6 and IPv4 on one socket, IPv4 alone where there is no IPv6 |
/// | `tcp4://:80`, `tcp6://:80` | every interface, that family only |
/// | `udp://`, `udp4://`, `udp6://` | the same for UDP |
/// | `tls://localhost:443` | TLS over TCP; a client checks the server's certificate for this name |
/// | `unix:///run/app.sock`, `unix://app.sock` | an absolute path, a path from the working directory |
///
/// Port 0 asks the system for a free port. [`Display`](fmt::Display) gives text that parses to the
/// same endpoint.
///
/// ```
/// # use tightloop::Endpoint;
/// let endpoint: Endpoint = "tcp://[::1]:9000".parse()?;
/// assert_eq!(endpoint.to_string(), "tcp://[::1]:9000");
/// assert!("tcp://localhost:9000/path".parse::<Endpoint>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    transport: Transport,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    Network { host: Host, port: u16 },
    Path(Arc<Path>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Host {
    Wildcard,
    V4(Ipv4Addr),
    V6(Ipv6Addr, Scope),
    Name(Box<str>),
}

/// The interface that an IPv6 address belongs to. A name stays a name until `resolve`, because
/// only the system knows its number, and the number can change while the program runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    None,
    Index(u32),
    Name(Box<str>),
}

impl Endpoint {
    /// What carries the bytes.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether it carries datagrams and not a stream.
    pub fn is_datagram(&self) -> bool {
        self.transport.is_datagram()
    }

    /// Whether it carries TLS.
    pub fn is_tls(&self) -> bool {
        self.transport == Transport::Tls
    }

    /// The host as the URL has it, a name or an address without brackets and scope; `None` for
    /// every interface and for a Unix socket.
    pub fn host(&self) -> Option<String> {
        match &self.target {
            Target::Network { host: Host::Name(name), .. } => Some(name.to_string()),
            Target::Network { host: Host::V4(ip), .. } => Some(ip.to_string()),
            Target::Network { host: Host::V6(ip, _), .. } => Some(ip.to_string()),
            Target::Network { host: Host::Wildcard, .. } | Target::Path(_) => None,
        }
    }

    /// Whether it is a Unix socket.
    pub fn is_unix(&self) -> bool {
        self.transport == Transport::Unix
    }

    /// The path, if it is a Unix socket.
    pub fn unix_path(&self) -> Option<&Path> {
        match &self.target {
            Target::Network { .. } => None,
            Target::Path(path) => Some(path),
        }
    }

    /// Whether connecting needs a name to be looked up first, which blocks.
    pub(crate) fn is_host_name(&self) -> bool {
        matches!(&self.target, Target::Network { host: Host::Name(_), .. })
    }

    /// Whether it names every interface (`:80`, `0.0.0.0:80`, `[::]:80`): good for listening,
    /// no place to connect to.
    pub fn is_wildcard(&self) -> bool {
        match &self.target {
            Target::Network { host: Host::Wildcard, .. } => true,
            Target::Network { host: Host::V4(ip), .. } => ip.is_unspecified(),
            Target::Network { host: Host::V6(ip, _), .. } => ip.is_unspecified(),
            Target::Network { host: Host::Name(_), .. } | Target::Path(_) => false,
        }
    }

    /// What the URL says about `IPV6_V6ONLY` of a listener: `tcp6` and `udp6` never take IPv4,
    /// a wildcard of both families must, and for anything else the system's default is right.
    pub(crate) fn ipv6_only(&self) -> Option<bool> {
        match self.transport {
            Transport::Tcp6 | Transport::Udp6 => Some(true),
            Transport::Tcp | Transport::Tls | Transport::Udp if self.is_wildcard() => Some(false),
            _ => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://", self.transport)?;
        match &self.target {
            Target::Network { host, port } => write!(formatter, "{host}:{port}"),
            Target::Path(path) => write!(formatter, "{}", path.display()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Wildcard => Ok(()),
            Host::V4(ip) => ip.fmt(formatter),
            Host::V6(ip, Scope::None) => write!(formatter, "[{ip}]"),
            Host::V6(ip, Scope::Index(index)) => write!(formatter, "[{ip}%{index}]"),
            Host::V6(ip, Scope::Name(name)) => write!(formatter, "[{ip}%{name}]"),
            Host::Name(name) => formatter.write_str(name),
        }
    }
}
