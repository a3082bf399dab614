//! Socket options for which neither the standard library nor socket2 has a method.

use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// Sets an option whose value is a `T` as the system lays it out.
pub(super) fn set<T: Copy>(
    socket: &Socket,
    level: libc::c_int,
    option: libc::c_int,
    value: T,
) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the kernel only reads
    // `value`, whose size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
