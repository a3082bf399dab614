//! The sockets of the readiness driver: mio's, with the calls that a stream needs, the same for
//! TCP and Unix. On Unix systems a stream costs 8 bytes here.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};

use mio::event::Source;
use mio::{Interest, Registry};
use socket2::SockRef;

use crate::addr::Address;
use crate::sys::socket::{Listener, Stream, connect_result, send_vectored};
use crate::sys::transfer;

/// A stream socket registered with the poller.
#[derive(Debug)]
pub(super) enum ReadyStream {
    Tcp(mio::net::TcpStream),
    #[cfg(unix)]
    Unix(mio::net::UnixStream),
    /// Connected: each piece is a datagram.
    Udp(mio::net::UdpSocket),
}

impl From<Stream> for ReadyStream {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Tcp(stream) => ReadyStream::Tcp(mio::net::TcpStream::from_std(stream)),
            #[cfg(unix)]
            Stream::Unix(stream) => ReadyStream::Unix(mio::net::UnixStream::from_std(stream)),
            Stream::Udp(socket) => ReadyStream::Udp(mio::net::UdpSocket::from_std(socket)),
        }
    }
}

impl ReadyStream {
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            ReadyStream::Tcp(stream) => stream,
            #[cfg(unix)]
            ReadyStream::Unix(stream) => stream,
            ReadyStream::Udp(socket) => socket,
        }
    }

    pub(super) fn is_tcp(&self) -> bool {
        matches!(self, ReadyStream::Tcp(_))
    }

    /// The datagram socket, if it is one.
    pub(super) fn udp(&self) -> Option<&mio::net::UdpSocket> {
        match self {
            ReadyStream::Udp(socket) => Some(socket),
            _ => None,
        }
    }

    pub(super) fn as_socket(&self) -> SockRef<'_> {
        match self {
            ReadyStream::Tcp(stream) => SockRef::from(stream),
            #[cfg(unix)]
            ReadyStream::Unix(stream) => SockRef::from(stream),
            ReadyStream::Udp(socket) => SockRef::from(socket),
        }
    }

    #[inline(always)] // Once a message.
    pub(super) fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            ReadyStream::Tcp(stream) => {
                stream.try_io(|| transfer::receive(&SockRef::from(stream), into))
            }
            #[cfg(unix)]
            ReadyStream::Unix(stream) => {
                stream.try_io(|| transfer::receive(&SockRef::from(stream), into))
            }
            // Not by this way: datagrams are received one by one, see `stream.rs`.
            ReadyStream::Udp(socket) => socket.recv(into),
        }
    }

    #[inline(always)] // Once a message.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            ReadyStream::Tcp(stream) => {
                stream.try_io(|| transfer::send(&SockRef::from(stream), bytes))
            }
            #[cfg(unix)]
            ReadyStream::Unix(stream) => {
                stream.try_io(|| transfer::send(&SockRef::from(stream), bytes))
            }
            ReadyStream::Udp(socket) => socket.send(bytes),
        }
    }

    pub(super) fn send_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            ReadyStream::Tcp(stream) => {
                stream.try_io(|| send_vectored(SockRef::from(stream), slices))
            }
            #[cfg(unix)]
            ReadyStream::Unix(stream) => {
                stream.try_io(|| send_vectored(SockRef::from(stream), slices))
            }
            ReadyStream::Udp(socket) => {
                socket.try_io(|| send_vectored(SockRef::from(socket), slices))
            }
        }
    }

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        self.as_socket().shutdown(Shutdown::Write)
    }

    pub(super) fn local_address(&self) -> io::Result<Address> {
        match self {
            ReadyStream::Tcp(stream) => stream.local_addr().map(Address::from),
            #[cfg(unix)]
            ReadyStream::Unix(stream) => stream.local_addr().map(Address::from),
            ReadyStream::Udp(socket) => socket.local_addr().map(Address::from),
        }
    }

    /// Whether a connect that was under way has ended, and how: `None` while it goes on.
    pub(super) fn connect_result(&self) -> Option<io::Result<()>> {
        connect_result(&self.as_socket())
    }
}

/// A listening socket registered with the poller.
#[derive(Debug)]
pub(super) enum ReadyListener {
    Tcp(mio::net::TcpListener),
    #[cfg(unix)]
    /// The path goes before the socket does.
    Unix {
        _path: Option<crate::sys::socket::UnixPathGuard>,
        socket: mio::net::UnixListener,
    },
}

impl From<Listener> for ReadyListener {
    fn from(listener: Listener) -> Self {
        match listener {
            Listener::Tcp(listener) => {
                ReadyListener::Tcp(mio::net::TcpListener::from_std(listener))
            }
            #[cfg(unix)]
            Listener::Unix { path, socket } => {
                let socket = mio::net::UnixListener::from_std(socket);
                ReadyListener::Unix { _path: path, socket }
            }
        }
    }
}

impl ReadyListener {
    pub(super) fn register(&mut self, registry: &Registry, token: mio::Token) -> io::Result<()> {
        match self {
            ReadyListener::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            #[cfg(unix)]
            ReadyListener::Unix { socket, .. } => {
                socket.register(registry, token, Interest::READABLE)
            }
        }
    }

    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            ReadyListener::Tcp(listener) => listener.deregister(registry),
            #[cfg(unix)]
            ReadyListener::Unix { socket, .. } => socket.deregister(registry),
        }
    }

    /// The next connection, non-blocking and close-on-exec.
    pub(super) fn accept(&self) -> io::Result<(Stream, Address)> {
        match self {
            ReadyListener::Tcp(listener) => {
                let (stream, peer): (_, SocketAddr) = listener.accept()?;
                Ok((Stream::Tcp(stream.into()), Address::from(peer)))
            }
            #[cfg(unix)]
            ReadyListener::Unix { socket, .. } => {
                let (stream, peer) = socket.accept()?;
                let stream = std::os::fd::OwnedFd::from(stream);
                Ok((Stream::Unix(stream.into()), Address::from(peer)))
            }
        }
    }
}
