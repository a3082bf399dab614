//! Sockets that were opened elsewhere: what kind they are, and what they need to be ours.

use std::io;

use socket2::{Socket, Type};

use super::socket::{Stream, address_of};
use crate::addr::Address;

/// The peer of a connected socket that can be a connection.
///
/// # Errors
/// `NotConnected`; `Unsupported` for another kind of socket; the system's.
pub(crate) fn check(socket: &Socket) -> io::Result<Address> {
    let kind = socket.r#type()?;
    let own = socket.local_addr()?;
    let is_ip = own.as_socket().is_some();
    let is_known = match kind {
        // On Windows there are such sockets, but none of ours.
        Type::STREAM => is_ip || (cfg!(unix) && own.is_unix()),
        Type::DGRAM => is_ip,
        _ => false,
    };
    if !is_known {
        let what = "a socket that is neither a TCP or Unix stream nor of UDP".to_owned();
        return Err(io::Error::new(io::ErrorKind::Unsupported, what));
    }
    let peer = socket.peer_addr().map_err(|source| {
        let message = format!("the socket is not connected: {source}");
        io::Error::new(source.kind(), message)
    })?;
    address_of(&peer)
}

/// Has a checked socket never block, and not be passed on to other programs.
///
/// # Errors
/// The system's, with the socket.
pub(crate) fn take(socket: Socket, peer: &Address) -> Result<Stream, (io::Error, Socket)> {
    let kind = match socket.r#type().and_then(|kind| own(&socket).map(|()| kind)) {
        Ok(kind) => kind,
        Err(error) => return Err((error, socket)),
    };
    Ok(match peer {
        Address::Ip(_) if kind == Type::DGRAM => Stream::Udp(socket.into()),
        #[cfg(unix)]
        Address::Unix(_) => Stream::Unix(socket.into()),
        _ => Stream::Tcp(socket.into()),
    })
}

fn own(socket: &Socket) -> io::Result<()> {
    #[cfg(unix)]
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)
}

/// The socket of a stream that nobody wants.
pub(crate) fn give_back(stream: Stream) -> Socket {
    match stream {
        Stream::Tcp(stream) => stream.into(),
        #[cfg(unix)]
        Stream::Unix(stream) => stream.into(),
        Stream::Udp(socket) => socket.into(),
    }
}
