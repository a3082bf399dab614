//! Bytes in and out of a stream socket: what is called for every message.
//!
//! The libc of Linux makes recv and send points at which a thread may be cancelled, and in a program
//! of several threads does some 60 instructions for that around each call. Nobody cancels threads
//! here; so on the common processors the system is called without that, and everywhere else by
//! socket2.

use std::io;

use socket2::SockRef;

use super::socket::SEND_FLAGS;

/// Receives what is there, as far as it fits.
#[inline]
pub(crate) fn receive(socket: &SockRef<'_>, into: &mut [u8]) -> io::Result<usize> {
    calls::receive(socket, into)
}

/// Sends as much as the socket takes.
#[inline]
pub(crate) fn send(socket: &SockRef<'_>, bytes: &[u8]) -> io::Result<usize> {
    calls::send(socket, bytes)
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod calls {
    use super::{SEND_FLAGS, SockRef, io};
    use std::os::fd::AsRawFd;

    const NOBODY: libc::c_long = 0;

    #[inline]
    pub(super) fn receive(socket: &SockRef<'_>, into: &mut [u8]) -> io::Result<usize> {
        let (fd, place, length) = (socket.as_raw_fd(), into.as_mut_ptr(), into.len());
        // SAFETY: recvfrom writes at most `length` bytes to `place`, which are ours alone until it
        // has returned, and nothing to a null address; the descriptor is open as long as it is
        // borrowed.
        let result =
            unsafe { libc::syscall(libc::SYS_recvfrom, fd, place, length, 0_i32, NOBODY, NOBODY) };
        answer(result)
    }

    #[inline]
    pub(super) fn send(socket: &SockRef<'_>, bytes: &[u8]) -> io::Result<usize> {
        let (fd, place, length) = (socket.as_raw_fd(), bytes.as_ptr(), bytes.len());
        // SAFETY: sendto reads `length` bytes at `place`, which are borrowed until it has returned,
        // and no address; the descriptor is open as long as it is borrowed.
        let result = unsafe {
            libc::syscall(libc::SYS_sendto, fd, place, length, SEND_FLAGS, NOBODY, NOBODY)
        };
        answer(result)
    }

    /// libc::syscall answers as the functions around it do: -1, with the reason in errno.
    #[inline]
    fn answer(result: libc::c_long) -> io::Result<usize> {
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod calls {
    use super::{SEND_FLAGS, SockRef, io};
    use std::io::Read;

    #[inline]
    pub(super) fn receive(socket: &SockRef<'_>, into: &mut [u8]) -> io::Result<usize> {
        (&mut &**socket).read(into)
    }

    #[inline]
    pub(super) fn send(socket: &SockRef<'_>, bytes: &[u8]) -> io::Result<usize> {
        socket.send_with_flags(bytes, SEND_FLAGS)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_sent_is_received_and_errors_are_told() {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut into = [0; 8];
        let nothing = receive(&SockRef::from(&near), &mut into).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(send(&SockRef::from(&far), b"hello").unwrap(), 5);
        assert_eq!(receive(&SockRef::from(&near), &mut into[..2]).unwrap(), 2);
        assert_eq!(receive(&SockRef::from(&near), &mut into[2..]).unwrap(), 3);
        assert_eq!(&into[..5], b"hello");
        drop(far);
        assert_eq!(receive(&SockRef::from(&near), &mut into).unwrap(), 0);
        // An error, and no signal that would end the process.
        let gone = send(&SockRef::from(&near), b"x").unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
    }
}
