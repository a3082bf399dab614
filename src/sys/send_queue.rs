//! How much of what a socket took its peer has not taken yet.
//!
//! A socket reports that it takes more only when a third of its buffer is free. To tell a slow
//! peer from one that takes nothing, one has to look at the buffer itself.

use socket2::SockRef;

/// Bytes in the socket's send buffer; `None` where the system does not tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn queued_bytes(socket: &SockRef<'_>) -> Option<u64> {
    use std::os::fd::AsRawFd;

    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int to a pointer that is valid for it; the descriptor is open
    // as long as it is borrowed.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    (result == 0).then(|| u64::try_from(bytes).unwrap_or(0))
}

/// Bytes in the socket's send buffer; `None` where the system does not tell.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn queued_bytes(_: &SockRef<'_>) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_the_peer_has_not_taken_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut receiver = listener.accept().unwrap().0;
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = sender.write(&[0; 65_536]) {
            sent += count as u64;
        }
        let full = queued_bytes(&SockRef::from(&sender)).unwrap();
        assert!(full > 0 && full <= sent, "{full} of {sent} bytes");
        let mut rest = vec![0; sent as usize];
        receiver.read_exact(&mut rest).unwrap();
        // The last acknowledgement may be on its way.
        while queued_bytes(&SockRef::from(&sender)).unwrap() > 0 {
            std::thread::yield_now();
        }
    }
}
