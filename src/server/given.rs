//! Listening on sockets that exist already.

use std::net::{TcpListener, UdpSocket};

use crate::engine::ListenOn;
use crate::listen_socket::ListenSocket;
use crate::server::Server;

impl Server {
    /// Listens on a TCP listener that exists already. The server closes it when it stops.
    pub fn listen_on_tcp(self, listener: TcpListener) -> Self {
        self.listen_on([ListenSocket::Tcp(listener)])
    }

    /// Listens on a Unix listener that exists already. Its path stays when the server stops.
    #[cfg(unix)]
    pub fn listen_on_unix(self, listener: std::os::unix::net::UnixListener) -> Self {
        self.listen_on([ListenSocket::Unix(listener)])
    }

    /// Receives datagrams on a UDP socket that exists already. No multicast group is set on it: a duplicate
    /// (`try_clone`) that is kept aside may join and leave groups while it serves.
    pub fn listen_on_udp(self, socket: UdpSocket) -> Self {
        self.listen_on([ListenSocket::Udp(socket)])
    }

    /// Listens on sockets that exist already, as one listener: several of them share an address
    /// (SO_REUSEPORT), as [`dup_listener`](crate::ServerHandle::dup_listener) gives those of a
    /// server with [`reuse_port`](Server::reuse_port). Each is accepted from, whatever the number
    /// of loops: with `reuse_port`, and no fewer sockets than loops, by a loop each, taking turns;
    /// else by the acceptor. The server makes them non-blocking, sets the options of its sockets on
    /// them, which whoever shares a socket sees too, and closes them when it stops. The path of a
    /// Unix socket stays.
    ///
    /// Errors show at the start: none at all, or sockets of several kinds, or a stream that does
    /// not listen.
    pub fn listen_on<I>(mut self, sockets: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<ListenSocket>,
    {
        let sockets = sockets.into_iter().map(Into::into).collect();
        self.listen.push(ListenOn::Sockets(sockets).into());
        self
    }

    /// Lets the URLs of this server use the sockets that the process was started with, and takes
    /// those out of `inherited`. A URL gets the sockets of the listener that had the same URL in a
    /// predecessor, port 0 and names of hosts included; or else those that are bound to its
    /// address. A URL for which there is none is bound as ever. Sockets that no URL wants are
    /// closed, with their backlogs: take them out before by
    /// [`take_named`](crate::Inherited::take_named).
    ///
    /// A UDP socket of a predecessor has joined its multicast groups already, and is left as it is.
    /// The path of a Unix socket that a predecessor has bound is removed by whoever stops last
    /// without a successor; that of systemd stays.
    #[cfg(unix)]
    pub fn inherit(mut self, inherited: &mut crate::inherited::Inherited) -> Self {
        self.found.add(inherited.take_sockets());
        self
    }
}
