//! The other Unix systems: no local address, but the kernel says what it cut.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{MaybeUninitSlice, Socket};

use super::Received;

pub(super) fn enable_local_address(_socket: &Socket, _is_v6: bool) -> io::Result<()> {
    Ok(())
}

pub(super) fn receive(
    socket: &Socket,
    buffer: &mut [u8],
    bound: SocketAddr,
    _want_local: bool,
) -> io::Result<Received> {
    let start = buffer.as_mut_ptr().cast();
    // SAFETY: bytes are a valid MaybeUninit, and socket2 promises to write initialised bytes only.
    let bytes = unsafe { std::slice::from_raw_parts_mut(start, buffer.len()) };
    let mut slices = [MaybeUninitSlice::new(bytes)];
    let (length, flags, peer) =
        socket.recv_from_vectored_with_flags(&mut slices, libc::MSG_DONTWAIT)?;
    let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok(Received { length, peer, local: bound, truncated: flags.is_truncated() })
}

pub(super) fn send_from(
    socket: &Socket,
    bytes: &[u8],
    target: SocketAddr,
    _from: IpAddr,
) -> io::Result<usize> {
    socket.send_to(bytes, &target.into())
}
