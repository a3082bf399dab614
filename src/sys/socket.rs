//! Binding and connecting. Every socket made here is non-blocking and closed on exec.
//!
//! Nothing waits: a connect is only started, and the driver reports how it ended.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::route::Route;
use super::sockopt::{ListenOptions, SocketOptions};
#[cfg(unix)]
pub(crate) use super::unix::UnixPathGuard;
pub(crate) use super::unix::{PathClaim, bind_unix};
use crate::addr::Address;

/// Whether an accepted TCP socket has the options of its listener (no delay, keepalive, linger,
/// buffers), so that accepting costs no system call for each of them.
pub(crate) const ACCEPTED_INHERITS_OPTIONS: bool =
    cfg!(any(target_os = "linux", target_os = "android"));

/// The most slices for one system call: IOV_MAX of Linux, the BSDs, macOS; more is refused there.
pub(crate) const MAX_SLICES: usize = 1024;

/// A peer that has gone must be an error to the writer, not a SIGPIPE to the process.
#[cfg(all(unix, not(target_vendor = "apple")))]
pub(super) const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
/// Windows has no such signal; on Apple's systems the socket has SO_NOSIGPIPE.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
pub(super) const SEND_FLAGS: i32 = 0;

/// What connect says when it goes on in the background.
#[cfg(unix)]
pub(super) const CONNECT_GOES_ON: i32 = libc::EINPROGRESS;
/// What connect says when it goes on in the background: WSAEWOULDBLOCK.
#[cfg(windows)]
pub(super) const CONNECT_GOES_ON: i32 = 10_035;

/// Errors of the network that accept(2) of Linux passes on from the connection it took out of the
/// queue, beyond those that have a kind in std. EPERM and EOPNOTSUPP, which the manual lists with
/// them, can also be about the listener, and would then come back for ever.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PASSING_ACCEPT_ERRORS: &[i32] =
    &[libc::EPROTO, libc::ENOPROTOOPT, libc::EHOSTDOWN, libc::ENONET];
/// A handshake that failed while it waited to be accepted, as the System V family says it.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const PASSING_ACCEPT_ERRORS: &[i32] = &[libc::EPROTO];
/// Windows says everything with codes that have a kind in std.
#[cfg(windows)]
const PASSING_ACCEPT_ERRORS: &[i32] = &[];

/// A listening stream socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// The fields are dropped in this order: see [`UnixPathGuard`].
    #[cfg(unix)]
    Unix {
        /// `None` for a listener that was given, whose path is not ours.
        path: Option<UnixPathGuard>,
        socket: UnixListener,
    },
}

impl Listener {
    /// Where it listens, with the port that the system chose for port 0.
    #[cfg(test)]
    pub(crate) fn local_address(&self) -> io::Result<Address> {
        address_of(&self.as_socket().local_addr()?)
    }

    /// The path that is removed when it is closed.
    pub(crate) fn path_claim(&self) -> Option<Arc<PathClaim>> {
        match self {
            Listener::Tcp(_) => None,
            #[cfg(unix)]
            Listener::Unix { path, .. } => path.as_ref().map(UnixPathGuard::claim),
        }
    }

    pub(crate) fn as_socket(&self) -> SockRef<'_> {
        match self {
            Listener::Tcp(listener) => SockRef::from(listener),
            #[cfg(unix)]
            Listener::Unix { socket, .. } => SockRef::from(socket),
        }
    }
}

/// A stream socket, connected or connecting.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    /// Connected: what it carries are datagrams.
    Udp(UdpSocket),
}

impl Stream {
    /// This end.
    #[cfg(test)]
    pub(crate) fn local_address(&self) -> io::Result<Address> {
        local_address(&self.as_socket())
    }

    /// The other end; `NotConnected` while the connect goes on.
    #[cfg(test)]
    pub(crate) fn peer_address(&self) -> io::Result<Address> {
        address_of(&self.as_socket().peer_addr()?)
    }

    pub(crate) fn as_socket(&self) -> SockRef<'_> {
        match self {
            Stream::Tcp(stream) => SockRef::from(stream),
            #[cfg(unix)]
            Stream::Unix(stream) => SockRef::from(stream),
            Stream::Udp(socket) => SockRef::from(socket),
        }
    }
}

#[cfg(unix)]
impl From<Stream> for std::os::fd::OwnedFd {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Tcp(stream) => stream.into(),
            Stream::Unix(stream) => stream.into(),
            Stream::Udp(socket) => socket.into(),
        }
    }
}

/// Listens on one TCP address. `v6only` is what the URL demands, see
/// [`ListenOptions::apply_before_bind`].
pub(crate) fn bind_tcp(
    address: SocketAddr,
    v6only: Option<bool>,
    options: &ListenOptions,
) -> io::Result<TcpListener> {
    let socket = open(address, Type::STREAM, Protocol::TCP)?;
    options.apply_before_bind(&socket, address, v6only)?;
    socket.bind(&address.into())?;
    socket.listen(backlog(options))?;
    Ok(socket.into())
}

/// Binds one UDP address; the backlog is not looked at. Sending to a broadcast address is allowed.
pub(crate) fn bind_udp(
    address: SocketAddr,
    v6only: Option<bool>,
    options: &ListenOptions,
) -> io::Result<UdpSocket> {
    let socket = open(address, Type::DGRAM, Protocol::UDP)?;
    options.apply_before_bind(&socket, address, v6only)?;
    socket.set_broadcast(true)?;
    socket.bind(&group_bound_at(address).into())?;
    Ok(socket.into())
}

/// Where a socket is bound that is to hear the group at `address`: there, so that it hears nothing
/// else. Windows binds to no group.
fn group_bound_at(address: SocketAddr) -> SocketAddr {
    match address {
        address if !cfg!(windows) || !address.ip().is_multicast() => address,
        SocketAddr::V4(v4) => SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, v4.port())),
        SocketAddr::V6(v6) => SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, v6.port())),
    }
}

/// Binds the first of `addresses` that this system has: the next one is tried only if the family
/// or the address does not exist here. An address that is taken is an error at once, since a
/// server that quietly serves half of what it was asked for is worse than one that does not start.
pub(crate) fn bind_first<T>(
    addresses: &[SocketAddr],
    mut bind: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to bind"));
    for &address in addresses {
        outcome = bind(address);
        match &outcome {
            Err(error) if is_absent(error, address) => continue,
            _ => break,
        }
    }
    outcome
}

/// Starts to connect. The stream becomes writable when that has ended, and `take_error` of its
/// socket then says how. Options are set before, as buffers must be.
///
/// # Errors
/// Whatever connect knows at once, such as a refused connection to a Unix socket;
/// `InvalidInput` for a Unix socket without a path.
pub(crate) fn start_connect(
    address: &Address,
    route: &Route,
    options: &SocketOptions,
) -> io::Result<Stream> {
    match address {
        Address::Ip(address) => {
            let socket = open(*address, Type::STREAM, Protocol::TCP)?;
            options.apply(SockRef::from(&socket), true)?;
            route.take(&socket, *address)?;
            connect_socket(&socket, &(*address).into())?;
            Ok(Stream::Tcp(socket.into()))
        }
        Address::Unix(Some(path)) => super::unix::start_connect(path, options),
        Address::Unix(None) => {
            let message = "a Unix socket without a path cannot be connected to";
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
    }
}

/// A UDP socket that is connected. Broadcast addresses are allowed.
pub(crate) fn connect_udp(
    address: SocketAddr,
    route: &Route,
    options: &SocketOptions,
) -> io::Result<Stream> {
    let socket = open(address, Type::DGRAM, Protocol::UDP)?;
    options.apply(SockRef::from(&socket), false)?;
    if !options.lone_datagrams {
        super::udp::join(&socket);
    }
    socket.set_broadcast(true)?;
    route.take(&socket, address)?;
    socket.connect(&address.into())?;
    Ok(Stream::Udp(socket.into()))
}

/// Sends as much of `slices` as the socket takes, at most [`MAX_SLICES`] of them.
pub(crate) fn send_vectored(socket: SockRef<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let slices = &slices[..slices.len().min(MAX_SLICES)];
    socket.send_vectored_with_flags(slices, SEND_FLAGS)
}

/// Whether accept failed for a reason that ended with the one connection that it was about.
pub(crate) fn is_passing_accept_error(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| PASSING_ACCEPT_ERRORS.contains(&code))
}

/// Whether an accept error concerns only the connection that would have been accepted, which is
/// gone: the next one may be fine. Linux also hands errors of the network through accept
/// (accept(2), "Error handling").
pub(crate) fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
    ) || is_passing_accept_error(error)
}

/// Whether a stream socket listens. Where the system does not tell, a peer would say that it does
/// not.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(crate) fn is_listening(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

/// Whether a stream socket listens. Where the system does not tell, a peer would say that it does
/// not.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(crate) fn is_listening(socket: &Socket) -> io::Result<bool> {
    Ok(socket.peer_addr().is_err())
}

/// Whether a connect that was under way has ended, and how: `None` while it goes on.
pub(crate) fn connect_result(socket: &SockRef<'_>) -> Option<io::Result<()>> {
    match socket.take_error() {
        Ok(Some(error)) | Err(error) => return Some(Err(error)),
        Ok(None) => {}
    }
    match socket.peer_addr() {
        Ok(_) => Some(Ok(())),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
        Err(error) => Some(Err(error)),
    }
}

/// This end of a stream.
#[allow(dead_code, reason = "only where io_uring is built")]
pub(crate) fn local_address(socket: &SockRef<'_>) -> io::Result<Address> {
    address_of(&socket.local_addr()?)
}

/// For IPv6 nearly every error counts: a system without it says EAFNOSUPPORT, one without dual
/// stack EINVAL, and if the trouble is another one, the next address has it too.
fn is_absent(error: &io::Error, address: SocketAddr) -> bool {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => true,
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => false,
        kind => address.is_ipv6() && kind != io::ErrorKind::Unsupported,
    }
}

/// A non-blocking socket for the family of `address`, not yet bound.
fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Connects a non-blocking socket, where "it goes on" is success.
pub(super) fn connect_socket(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    match socket.connect(address) {
        Err(error) if error.raw_os_error() == Some(CONNECT_GOES_ON) => Ok(()),
        outcome => outcome,
    }
}

pub(super) fn backlog(options: &ListenOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

pub(crate) fn address_of(address: &SockAddr) -> io::Result<Address> {
    if let Some(address) = address.as_socket() {
        return Ok(Address::from(address));
    }
    if address.is_unix() {
        return Ok(Address::Unix(super::unix::path_of(address)));
    }
    let message = "the socket is neither of IP nor of Unix";
    Err(io::Error::new(io::ErrorKind::InvalidData, message))
}

#[cfg(test)]
mod tests;
