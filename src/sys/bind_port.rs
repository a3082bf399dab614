//! IP_BIND_ADDRESS_NO_PORT: a port is chosen when the peer is known. Without it the system
//! reserves one for the local address alone, and 28,000 connections have used them up.

use std::io;

use socket2::Socket;

/// Asks the system to choose the port at connect and not at bind. Does nothing where there is no
/// such option.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn choose_at_connect(socket: &Socket) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the kernel reads the four
    // bytes of `on`, whose size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks the system to choose the port at connect and not at bind. Does nothing where there is no
/// such option.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn choose_at_connect(_socket: &Socket) -> io::Result<()> {
    Ok(())
}
