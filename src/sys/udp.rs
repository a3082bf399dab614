//! Datagrams, one or many at a time, with the two things that std's calls do not tell: to which of the
//! host's addresses a datagram came, and whether it was cut.
//!
//! A socket bound to the wildcard answers from whatever address the route prefers. A client that
//! asked another one drops the answer, so the answer must name its source; where the system can
//! tell and take addresses (IP_PKTINFO), it does.
//!
//! Addresses here are what users see: an IPv4 peer of a dual-stack socket is an IPv4 address, and
//! `bound` (what getsockname said after bind) is what turns it back into `::ffff:a.b.c.d`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use socket2::Socket;

use crate::addr::canonical;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
#[path = "udp/pktinfo.rs"]
mod platform;
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_vendor = "apple"))))]
#[path = "udp/plain.rs"]
mod platform;
#[cfg(windows)]
#[path = "udp/windows.rs"]
mod platform;

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "udp/batch.rs"]
mod many;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "udp/one_by_one.rs"]
mod many;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod runs;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod wire;

pub(crate) use many::{Abilities, Inbox, Sender, join};

/// No datagram, and no message of joined ones, is longer than this.
pub(crate) const LONGEST_MESSAGE: usize = 64 << 10;

/// The most that one datagram over IPv4 carries: 65,535 less the headers of IP and UDP.
#[cfg(any(test, target_os = "linux", target_os = "android"))]
pub(crate) const MAX_PAYLOAD: usize = 65_507;

/// One datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes in the buffer.
    pub(crate) length: usize,
    /// Who sent it.
    pub(crate) peer: SocketAddr,
    /// The address that it came to and the port of the socket. The address bound, perhaps the
    /// wildcard, where it was not asked for or the system cannot tell.
    pub(crate) local: SocketAddr,
    /// The datagram was longer than the buffer, and the rest is lost.
    pub(crate) truncated: bool,
}

/// One of several datagrams that were received together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    /// Where it begins in the memory of its `Inbox`.
    pub(crate) start: usize,
    pub(crate) received: Received,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Arrived {
    /// An empty one from nobody.
    fn nothing() -> Arrived {
        let nobody = SocketAddr::from(([0; 4], 0));
        let received = Received { length: 0, peer: nobody, local: nobody, truncated: false };
        Arrived { start: 0, received }
    }
}

/// One of several datagrams to be sent; their payloads lie in memory that goes with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) to: SocketAddr,
    /// The source address, where the socket is bound to all and one is wanted.
    pub(crate) from: Option<IpAddr>,
    /// Where its payload lies.
    pub(crate) payload: Range<usize>,
}

/// Asks the system to tell the local address of each datagram. Does nothing where it cannot.
pub(crate) fn enable_local_address(socket: &Socket, is_v6: bool) -> io::Result<()> {
    platform::enable_local_address(socket, is_v6)
}

/// Receives one datagram, which may be empty, without waiting.
///
/// # Errors
/// `WouldBlock` if there is none. On Windows `ConnectionReset` says that an earlier datagram met a
/// closed port, and nothing about this socket: call again.
#[cfg_attr(
    any(target_os = "linux", target_os = "android"),
    allow(dead_code, reason = "these receive many at once")
)]
pub(crate) fn receive(
    socket: &Socket,
    buffer: &mut [u8],
    bound: SocketAddr,
    want_local: bool,
) -> io::Result<Received> {
    // A socket of one address cannot have been reached by another.
    let want_local = want_local && bound.ip().is_unspecified();
    let received = platform::receive(socket, buffer, bound, want_local)?;
    Ok(Received { peer: canonical(received.peer), local: canonical(received.local), ..received })
}

/// Sends one datagram without waiting. `from` is the source address, if the socket is bound to the
/// wildcard and `from` can be a source: of the family of `peer`, and not a group or a wildcard.
/// Otherwise, or where the system takes no address, the system chooses.
///
/// # Errors
/// `WouldBlock` if there is no room in the send buffer; an error for more bytes than a datagram has.
pub(crate) fn send(
    socket: &Socket,
    bytes: &[u8],
    peer: SocketAddr,
    from: Option<IpAddr>,
    bound: SocketAddr,
) -> io::Result<usize> {
    match target_and_source(peer, from, bound) {
        (target, Some(from)) => platform::send_from(socket, bytes, target, from),
        (target, None) => socket.send_to(bytes, &target.into()),
    }
}

/// The peer's address as a socket that is bound to `bound` writes it, and the source address if it
/// has to name one.
#[inline]
fn target_and_source(
    peer: SocketAddr,
    from: Option<IpAddr>,
    bound: SocketAddr,
) -> (SocketAddr, Option<IpAddr>) {
    let peer = canonical(peer);
    let target = if bound.is_ipv6() { mapped(peer) } else { peer };
    (target, from.filter(|from| bound.ip().is_unspecified() && can_be_source(*from, peer)))
}

/// Whether a send failed for a reason that says nothing about the next datagram: this one is too
/// long, or there was no memory for it.
pub(crate) fn is_about_one_datagram(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| ABOUT_ONE_DATAGRAM.contains(&code))
}

#[cfg(unix)]
const ABOUT_ONE_DATAGRAM: &[i32] = &[libc::EMSGSIZE, libc::ENOBUFS];
/// WSAEMSGSIZE and WSAENOBUFS.
#[cfg(windows)]
const ABOUT_ONE_DATAGRAM: &[i32] = &[10_040, 10_055];

fn can_be_source(from: IpAddr, peer: SocketAddr) -> bool {
    let is_broadcast = matches!(from, IpAddr::V4(ip) if ip.is_broadcast());
    let is_group = from.is_multicast() || is_broadcast;
    from.is_ipv4() == peer.is_ipv4() && !from.is_unspecified() && !is_group
}

/// An IPv4 address as an IPv6 socket writes it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
        SocketAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests;
