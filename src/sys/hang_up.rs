//! Whether a peer has closed its side, learned without reading what it sent before.

use socket2::SockRef;

/// Whether the peer's FIN has come, behind whatever input still waits; `false` also where the
/// system does not tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn peer_has_closed(socket: &SockRef<'_>) -> bool {
    use std::os::fd::AsRawFd;

    let mut asked = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: the pointer is to one pollfd, as the count says, valid for the call, which does not
    // wait; the descriptor is open as long as it is borrowed.
    let count = unsafe { libc::poll(&raw mut asked, 1, 0) };
    count == 1 && asked.revents & libc::POLLRDHUP != 0
}

/// Whether the peer's FIN has come, behind whatever input still waits; `false` also where the
/// system does not tell.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn peer_has_closed(_: &SockRef<'_>) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};

    #[test]
    fn an_end_is_seen_behind_input_that_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().unwrap().0;
        peer.write_all(b"before it").unwrap();
        assert!(!peer_has_closed(&SockRef::from(&stream)));
        peer.shutdown(Shutdown::Write).unwrap();
        // The FIN may be on its way.
        while !peer_has_closed(&SockRef::from(&stream)) {
            std::thread::yield_now();
        }
    }
}
