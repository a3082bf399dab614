//! IP_BIND_ADDRESS_NO_PORT: a port is chosen when the peer is known. Without it the system
//! reserves one for the local address alone, and 28,000 connections have used them up.

use std::io;

use socket2::Socket;

/// Asks the system to choose the port at connect and not at bind. Does nothing where there is no
/// such option.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn choose_at_connect(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    match super::raw_option::set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, on) {
        // Before Linux 4.2, and on what only looks like Linux: the port is chosen by the bind.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

/// Asks the system to choose the port at connect and not at bind. Does nothing where there is no
/// such option.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn choose_at_connect(_socket: &Socket) -> io::Result<()> {
    Ok(())
}
