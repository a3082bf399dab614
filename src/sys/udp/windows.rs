//! Windows: no local address; a datagram that was cut comes as the error WSAEMSGSIZE, for which
//! std and socket2 throw the sender away although the system has told it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::windows::io::AsRawSocket;

use socket2::{SockAddr, Socket};

use super::Received;

const WSAEMSGSIZE: i32 = 10_040;

pub(super) fn enable_local_address(_socket: &Socket, _is_v6: bool) -> io::Result<()> {
    Ok(())
}

pub(super) fn receive(
    socket: &Socket,
    buffer: &mut [u8],
    bound: SocketAddr,
    _want_local: bool,
) -> io::Result<Received> {
    let capacity = i32::try_from(buffer.len()).unwrap_or(i32::MAX);
    let call = |storage: *mut socket2::SockAddrStorage, name_length: *mut i32| {
        // SAFETY: `buffer` has room for `capacity` bytes, and try_init gives two valid pointers,
        // the second to the size of the first's target.
        let length = unsafe {
            libc::recvfrom(
                socket.as_raw_socket() as libc::SOCKET,
                buffer.as_mut_ptr().cast(),
                capacity,
                0,
                storage.cast(),
                name_length,
            )
        };
        if let Ok(length) = usize::try_from(length) {
            return Ok((length, false));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(WSAEMSGSIZE) {
            return Ok((buffer.len(), true));
        }
        Err(error)
    };
    // SAFETY: recvfrom has written the address and its length, with WSAEMSGSIZE too.
    let ((length, truncated), peer) = unsafe { SockAddr::try_init(call) }?;
    let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok(Received { length, peer, local: bound, truncated })
}

pub(super) fn send_from(
    socket: &Socket,
    bytes: &[u8],
    target: SocketAddr,
    _from: IpAddr,
) -> io::Result<usize> {
    socket.send_to(bytes, &target.into())
}
