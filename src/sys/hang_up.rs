//! What waits at a stream's socket, learned without taking it away: no error is cleared by it, as a
//! receive that only peeks would do.

use socket2::SockRef;

/// Whether the peer's FIN has come, behind whatever input still waits; `false` also where the
/// system does not tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn peer_has_closed(socket: &SockRef<'_>) -> bool {
    is_so(socket, libc::POLLRDHUP) & libc::POLLRDHUP != 0
}

/// Whether the peer's FIN has come, behind whatever input still waits; `false` also where the
/// system does not tell.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn peer_has_closed(_: &SockRef<'_>) -> bool {
    false
}

/// Whether there is something to be received: bytes, a datagram, the end or a reset. Other errors
/// are none, as of what a user has asked the system to put into the socket's error queue: nobody
/// takes that away.
#[cfg(unix)]
pub(crate) fn has_input(socket: &SockRef<'_>) -> bool {
    is_so(socket, libc::POLLIN) & libc::POLLIN != 0
}

/// Whether there is something to be received: bytes, a datagram, the end or an error. That of a
/// datagram socket is taken by it; a stream keeps its own on Windows.
#[cfg(not(unix))]
pub(crate) fn has_input(socket: &SockRef<'_>) -> bool {
    let peeked = socket.peek(&mut [std::mem::MaybeUninit::uninit()]);
    !peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// What is so of the events asked for, and of those that are told unasked.
#[cfg(unix)]
fn is_so(socket: &SockRef<'_>, events: libc::c_short) -> libc::c_short {
    use std::os::fd::AsRawFd;

    let mut asked = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    // SAFETY: the pointer is to one pollfd, as the count says, valid for the call, which does not
    // wait; the descriptor is open as long as it is borrowed.
    let count = unsafe { libc::poll(&raw mut asked, 1, 0) };
    if count == 1 { asked.revents } else { 0 }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    #[test]
    fn a_reset_that_waits_is_seen_and_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut stream = listener.accept().unwrap().0;
        assert!(!has_input(&SockRef::from(&stream)));
        SockRef::from(&peer).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(peer);
        // It may be on its way.
        while !has_input(&SockRef::from(&stream)) {
            std::thread::yield_now();
        }
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

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
