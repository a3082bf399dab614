//! Socket options: what is set on a listener, on a connection, and in which order.
//!
//! Checked before the kernel sees them, where the kernel would round (a linger of half a second
//! becomes 0, which means a reset) or answer with a bare EINVAL.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, Socket, Type};

use super::interface::Interface;

/// The longest idle time and interval that every system takes: Linux's MAX_TCP_KEEPIDLE.
const MAX_KEEPALIVE_TIME: Duration = Duration::from_secs(32_767);
/// The most probes that every system takes: Linux's MAX_TCP_KEEPCNT.
const MAX_KEEPALIVE_COUNT: u32 = 127;
/// OpenBSD keeps the families apart, whatever is asked.
const NEVER_DUAL: bool = cfg!(target_os = "openbsd");
/// The kernel counts linger in whole seconds, in 16 bits on Windows.
const MAX_LINGER: Duration = Duration::from_secs(65_535);

/// TCP keepalive: find out that a silent peer is gone.
///
/// Whole seconds; a fraction is cut off. What is out of its range is an error of the start, or of
/// [`Conn::set_keepalive`](crate::Conn::set_keepalive). What is not given is the system's default,
/// which for Linux is an interval of 75 s and 9 probes. OpenBSD and Haiku have system-wide times
/// only: there `idle` is ignored, and the other two are refused as `Unsupported`.
///
/// ```
/// # use std::time::Duration;
/// # use tightloop::{Keepalive, Server};
/// // Silent for a minute, then four unanswered probes in 40 s: gone.
/// let keepalive = Keepalive::new(Duration::from_secs(60)).interval(Duration::from_secs(10)).count(4);
/// let server = Server::new().keepalive(keepalive);
/// # let _ = server;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    idle: Duration,
    interval: Option<Duration>,
    count: Option<u32>,
}

impl Keepalive {
    /// The first probe goes out after `idle` without a byte from the peer: 1 s to 32,767 s.
    pub const fn new(idle: Duration) -> Keepalive {
        Keepalive { idle, interval: None, count: None }
    }

    /// The time from one unanswered probe to the next: 1 s to 32,767 s.
    #[must_use]
    #[doc(alias = "WithTCPKeepInterval")]
    pub const fn interval(self, interval: Duration) -> Keepalive {
        Keepalive { interval: Some(interval), ..self }
    }

    /// So many unanswered probes end the connection: 1 to 127.
    #[must_use]
    #[doc(alias = "WithTCPKeepCount")]
    pub const fn count(self, count: u32) -> Keepalive {
        Keepalive { count: Some(count), ..self }
    }

    /// Whether the values can be set at all.
    ///
    /// # Errors
    /// `InvalidInput`, with a message that says which value is out of its range.
    pub(crate) fn check(&self) -> io::Result<()> {
        check_seconds("keepalive idle", self.idle, MAX_KEEPALIVE_TIME)?;
        if let Some(interval) = self.interval {
            check_seconds("keepalive interval", interval, MAX_KEEPALIVE_TIME)?;
        }
        if let Some(count) = self.count
            && !(1..=MAX_KEEPALIVE_COUNT).contains(&count)
        {
            return Err(invalid(format!(
                "keepalive count must be 1 to {MAX_KEEPALIVE_COUNT}, not {count}"
            )));
        }
        Ok(())
    }

    /// Turns keepalive on for a TCP socket.
    pub(crate) fn apply(&self, socket: &Socket) -> io::Result<()> {
        self.check()?;
        keepalive::set(socket, self)
    }
}

/// What is set on every stream socket, and the buffers of a UDP socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    /// TCP_NODELAY; `false` leaves the system's default, off.
    pub(crate) nodelay: bool,
    /// TCP keepalive; `None` leaves it off.
    pub(crate) keepalive: Option<Keepalive>,
    /// SO_SNDBUF in bytes; `None` lets the system tune it.
    pub(crate) send_buffer: Option<usize>,
    /// SO_RCVBUF in bytes; `None` lets the system tune it.
    pub(crate) receive_buffer: Option<usize>,
    /// SO_LINGER: zero makes every close a reset. Any other time is a trap for an event loop:
    /// Linux lets close(2) wait that long, on a non-blocking socket too.
    pub(crate) linger: Option<Duration>,
    /// Datagrams of connected sockets are not to be joined to longer messages.
    pub(crate) lone_datagrams: bool,
}

impl SocketOptions {
    /// Sets them. Buffers must be set before listen or connect, as the window scale that the
    /// handshake announces follows from them. The options of TCP are left out unless `is_tcp`.
    pub(crate) fn apply(&self, socket: SockRef<'_>, is_tcp: bool) -> io::Result<()> {
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if !is_tcp {
            return Ok(());
        }
        if self.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if let Some(keepalive) = &self.keepalive {
            keepalive.apply(&socket)?;
        }
        if let Some(linger) = self.linger {
            set_linger(&socket, linger)?;
        }
        Ok(())
    }
}

/// What is set on a listening socket and on a bound UDP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenOptions {
    /// Connections that wait to be accepted; the system cuts it to its own limit.
    pub(crate) backlog: u32,
    /// SO_REUSEADDR for TCP: bind although connections of an earlier server are in TIME_WAIT.
    /// Not set on Windows, where the option means that two servers take each other's port, nor
    /// for UDP outside multicast, where it means nearly the same.
    pub(crate) reuse_addr: bool,
    /// Several sockets on one port, and the kernel spreads connections and datagrams over them.
    /// `Unsupported` where it would not spread them.
    pub(crate) reuse_port: bool,
    /// The only network device, for IP sockets.
    pub(crate) device: Option<Interface>,
    /// IPV6_V6ONLY for an IPv6 address whose URL says nothing stricter.
    pub(crate) ipv6_only: Option<bool>,
    /// Set on the listener, for accepted connections to inherit where they do.
    pub(crate) socket: SocketOptions,
}

impl ListenOptions {
    /// All that must be set before bind. `v6only` is what the URL demands: `tcp6://` wins over
    /// the option, which stands for all listeners; the default for a wildcard does not.
    pub(crate) fn apply_before_bind(
        &self,
        socket: &Socket,
        address: SocketAddr,
        v6only: Option<bool>,
    ) -> io::Result<()> {
        let is_tcp = socket.r#type()? == Type::STREAM;
        if self.reuse_addr && (is_tcp || address.ip().is_multicast()) {
            reuse::set_reuse_address(socket)?;
        }
        if self.reuse_port {
            reuse::set_reuse_port(socket)?;
        }
        if let Some(device) = &self.device {
            super::device::bind(socket, device, address)?;
        }
        if address.is_ipv6() {
            let demanded = v6only.filter(|only| *only);
            if self.ipv6_only == Some(false) && demanded.is_none() && NEVER_DUAL {
                return Err(super::unsupported("ipv6_only(false): IPv4 on a socket of IPv6"));
            }
            if let Some(only) = demanded.or(self.ipv6_only).or(v6only) {
                socket.set_only_v6(only)?;
            }
        }
        self.socket.apply(SockRef::from(socket), is_tcp)
    }
}

#[cfg(test)]
impl ListenOptions {
    /// The plain socket of most tests.
    pub(crate) fn for_tests() -> ListenOptions {
        ListenOptions {
            backlog: 16,
            reuse_addr: false,
            reuse_port: false,
            device: None,
            ipv6_only: None,
            socket: SocketOptions::default(),
        }
    }
}

/// Sets SO_LINGER. A time above zero is rounded up to a whole second, since the kernel rounds
/// down, and down to 0 is a reset.
pub(crate) fn set_linger(socket: &Socket, linger: Duration) -> io::Result<()> {
    if linger > MAX_LINGER {
        return Err(invalid(format!("linger must be at most {MAX_LINGER:?}, not {linger:?}")));
    }
    let seconds = linger.as_secs() + u64::from(linger.subsec_nanos() > 0);
    socket.set_linger(Some(Duration::from_secs(seconds).min(MAX_LINGER)))
}

fn check_seconds(name: &str, value: Duration, most: Duration) -> io::Result<()> {
    if value < Duration::from_secs(1) {
        return Err(invalid(format!("{name} must be at least 1 s, not {value:?}")));
    }
    if value > most {
        return Err(invalid(format!("{name} must be at most {most:?}, not {value:?}")));
    }
    Ok(())
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Windows before 10 version 1703 has no count, and says so in a way that names no option.
#[cfg(windows)]
mod keepalive {
    use std::io;
    use std::time::Duration;

    use socket2::{Socket, TcpKeepalive};

    const WSAENOPROTOOPT: i32 = 10_042;
    /// What Windows takes where nobody has said anything.
    const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

    pub(super) fn set(socket: &Socket, keepalive: &super::Keepalive) -> io::Result<()> {
        // One call sets both times: without an interval the system would be told none.
        let interval = keepalive.interval.unwrap_or(DEFAULT_INTERVAL);
        let mut values = TcpKeepalive::new().with_time(keepalive.idle).with_interval(interval);
        if let Some(count) = keepalive.count {
            values = values.with_retries(count);
        }
        socket.set_tcp_keepalive(&values).map_err(|error| match error.raw_os_error() {
            Some(WSAENOPROTOOPT) => crate::sys::unsupported("keepalive: a count of one's own"),
            _ => error,
        })
    }
}

#[cfg(not(any(windows, target_os = "openbsd", target_os = "haiku")))]
mod keepalive {
    use std::io;

    use socket2::{Socket, TcpKeepalive};

    pub(super) fn set(socket: &Socket, keepalive: &super::Keepalive) -> io::Result<()> {
        let mut values = TcpKeepalive::new().with_time(keepalive.idle);
        if let Some(interval) = keepalive.interval {
            values = values.with_interval(interval);
        }
        if let Some(count) = keepalive.count {
            values = values.with_retries(count);
        }
        socket.set_tcp_keepalive(&values)
    }
}

#[cfg(any(target_os = "openbsd", target_os = "haiku"))]
mod keepalive {
    use std::io;

    use socket2::Socket;

    pub(super) fn set(socket: &Socket, keepalive: &super::Keepalive) -> io::Result<()> {
        if keepalive.interval.is_some() || keepalive.count.is_some() {
            let what = "keepalive: interval and count of one socket, as they are the system's";
            return Err(crate::sys::unsupported(what));
        }
        socket.set_keepalive(true)
    }
}

mod reuse {
    pub(super) use address::set_reuse_address;
    pub(super) use port::set_reuse_port;

    #[cfg(not(windows))]
    mod address {
        pub(in super::super) fn set_reuse_address(socket: &socket2::Socket) -> std::io::Result<()> {
            socket.set_reuse_address(true)
        }
    }

    #[cfg(windows)]
    mod address {
        pub(in super::super) fn set_reuse_address(_: &socket2::Socket) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "dragonfly"))]
    mod port {
        pub(in super::super) fn set_reuse_port(socket: &socket2::Socket) -> std::io::Result<()> {
            socket.set_reuse_port(true)
        }
    }

    #[cfg(target_os = "freebsd")]
    mod port {
        pub(in super::super) fn set_reuse_port(socket: &socket2::Socket) -> std::io::Result<()> {
            socket.set_reuse_port_lb(true)
        }
    }

    /// macOS, NetBSD and OpenBSD know SO_REUSEPORT, but give everything to one of the sockets.
    #[cfg(not(any(
        target_os = "linux",
        target_os = "android",
        target_os = "dragonfly",
        target_os = "freebsd"
    )))]
    mod port {
        use std::io;

        pub(in super::super) fn set_reuse_port(_: &socket2::Socket) -> io::Result<()> {
            let what = "reuse_port: spreading connections over sockets on one port";
            Err(crate::sys::unsupported(what))
        }
    }
}

#[cfg(test)]
mod tests;
