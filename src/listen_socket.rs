//! Listening sockets as values that go from one server to another: [`ListenSocket`], and those that
//! a running server keeps at hand ([`Listening`]).

use std::io;
use std::net::{TcpListener, UdpSocket};
#[cfg(unix)]
use std::os::fd::OwnedFd as Owned;
#[cfg(unix)]
use std::os::unix::net::UnixListener;
#[cfg(windows)]
use std::os::windows::io::OwnedSocket as Owned;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use socket2::{SockRef, Socket, Type};

use crate::addr::Address;
use crate::sys::socket::{Listener, PathClaim, address_of, is_listening};

/// A socket that a server can listen on: one that was bound elsewhere, inherited, or duplicated from
/// a running server.
///
/// It comes from the listeners of std, or from an `OwnedFd` (on Windows an `OwnedSocket`) of
/// whatever origin, and turns into them again. See
/// [`Server::listen_on`](crate::Server::listen_on).
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenSocket {
    /// A TCP socket that listens.
    Tcp(TcpListener),
    /// A Unix stream socket that listens.
    #[cfg(unix)]
    Unix(UnixListener),
    /// A UDP socket that is bound.
    Udp(UdpSocket),
}

impl ListenSocket {
    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<Address> {
        address_of(&self.as_socket().local_addr()?)
    }

    /// The same socket under another number, which is closed on exec.
    ///
    /// # Errors
    /// The system's, where there are no descriptors left.
    pub fn try_clone(&self) -> io::Result<ListenSocket> {
        Ok(match self {
            ListenSocket::Tcp(listener) => ListenSocket::Tcp(listener.try_clone()?),
            #[cfg(unix)]
            ListenSocket::Unix(listener) => ListenSocket::Unix(listener.try_clone()?),
            ListenSocket::Udp(socket) => ListenSocket::Udp(socket.try_clone()?),
        })
    }

    pub(crate) fn as_socket(&self) -> SockRef<'_> {
        match self {
            ListenSocket::Tcp(listener) => SockRef::from(listener),
            #[cfg(unix)]
            ListenSocket::Unix(listener) => SockRef::from(listener),
            ListenSocket::Udp(socket) => SockRef::from(socket),
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            ListenSocket::Tcp(_) => "TCP listener",
            #[cfg(unix)]
            ListenSocket::Unix(_) => "Unix listener",
            ListenSocket::Udp(_) => "UDP socket",
        }
    }

    /// A duplicate of a listener.
    pub(crate) fn of(listener: &Listener) -> io::Result<ListenSocket> {
        Ok(match listener {
            Listener::Tcp(listener) => ListenSocket::Tcp(listener.try_clone()?),
            #[cfg(unix)]
            Listener::Unix { socket, .. } => ListenSocket::Unix(socket.try_clone()?),
        })
    }
}

impl From<TcpListener> for ListenSocket {
    fn from(listener: TcpListener) -> Self {
        ListenSocket::Tcp(listener)
    }
}

#[cfg(unix)]
impl From<UnixListener> for ListenSocket {
    fn from(listener: UnixListener) -> Self {
        ListenSocket::Unix(listener)
    }
}

impl From<UdpSocket> for ListenSocket {
    fn from(socket: UdpSocket) -> Self {
        ListenSocket::Udp(socket)
    }
}

impl From<ListenSocket> for Owned {
    fn from(socket: ListenSocket) -> Self {
        match socket {
            ListenSocket::Tcp(listener) => listener.into(),
            #[cfg(unix)]
            ListenSocket::Unix(listener) => listener.into(),
            ListenSocket::Udp(socket) => socket.into(),
        }
    }
}

/// Finds out what it is.
///
/// # Errors
/// `InvalidInput` if it is no socket that a server could listen on: a file, a connection, a stream
/// socket that does not listen, datagrams over a Unix socket. It is closed then.
impl TryFrom<Owned> for ListenSocket {
    type Error = io::Error;

    fn try_from(owned: Owned) -> io::Result<Self> {
        let refuse = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let socket = Socket::from(owned);
        let Ok(kind) = socket.r#type() else { return refuse("it is no socket") };
        let address = socket.local_addr()?;
        let is_ip = address.is_ipv4() || address.is_ipv6();
        match kind {
            Type::STREAM if !is_listening(&socket)? => {
                refuse("it is a stream that does not listen")
            }
            Type::STREAM if is_ip => Ok(ListenSocket::Tcp(socket.into())),
            #[cfg(unix)]
            Type::STREAM if address.is_unix() => Ok(ListenSocket::Unix(socket.into())),
            Type::DGRAM if is_ip => Ok(ListenSocket::Udp(socket.into())),
            _ => refuse("it is neither TCP nor UDP nor a Unix stream socket"),
        }
    }
}

/// What a server listens on, for those who are to listen there too.
#[derive(Debug)]
pub(crate) struct Listened {
    /// The URL, if there was one, as its endpoint is shown; else the address.
    #[allow(dead_code, reason = "only where a process can inherit sockets")]
    pub(crate) name: String,
    pub(crate) sockets: Vec<ListenSocket>,
    /// The path that the server is to remove.
    pub(crate) path: Option<Arc<PathClaim>>,
}

/// Duplicates of a server's listening sockets, one entry for each `listen`, in order. They are
/// closed before the server closes its own: a socket lives as long as its last number.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    /// Empty once they are closed.
    listened: Mutex<Vec<Listened>>,
    released: AtomicBool,
}

impl Listening {
    pub(crate) fn new(listened: Vec<Listened>) -> Self {
        Listening { listened: Mutex::new(listened), released: AtomicBool::new(false) }
    }

    /// Whoever asks from now on is told that there is nothing left.
    pub(crate) fn close(&self) {
        self.with(|listened| drop(std::mem::take(listened)));
    }

    /// Leaves the listeners to those who have duplicates; `close` follows.
    pub(crate) fn release(&self) {
        self.with(|listened| {
            let paths = listened.iter().filter_map(|listened| listened.path.as_ref());
            paths.for_each(|path| path.give_up());
        });
        self.released.store(true, Ordering::Release);
    }

    /// Whether the sockets live on with others.
    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    pub(crate) fn duplicate(&self, listener: usize) -> io::Result<Vec<ListenSocket>> {
        self.with(|listened| match listened.get(listener) {
            Some(found) => found.sockets.iter().map(ListenSocket::try_clone).collect(),
            None if listened.is_empty() => Err(closed()),
            None => {
                let message = format!("the server has {} listeners", listened.len());
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        })
    }

    /// Looks at what there is.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut Vec<Listened>) -> R) -> R {
        // Nobody panics while it is locked.
        look(&mut self.listened.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is told when the listeners are closed.
pub(crate) fn closed() -> io::Error {
    let message = "the server listens nowhere, or has stopped accepting";
    io::Error::new(io::ErrorKind::NotConnected, message)
}
