//! IP_BIND_ADDRESS_NO_PORT: a port is chosen when the peer is known. Without it the system
//! reserves one for the local address alone, and 28,000 connections have used them up.

use std::io;

use socket2::Socket;

/// Asks the system to choose the port at connect and not at bind. Does nothing where there is no
/// such option.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn choose_at_connect(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    super::raw_option::set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, on)
}

/// Asks the system to choose the port at connect and not at bind. Does nothing where there is no
/// such option.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn choose_at_connect(_socket: &Socket) -> io::Result<()> {
    Ok(())
}
