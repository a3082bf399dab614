//! What is refused before the kernel sees it, and what the kernel then has.

use super::*;
use socket2::Domain;

const SECOND: Duration = Duration::from_secs(1);

fn tcp_socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
}

#[test]
fn keepalive_out_of_range_is_refused_with_a_message_that_says_which_value() {
    let good = Keepalive::new(SECOND);
    good.interval(SECOND).count(127).check().unwrap();
    for (bad, message) in [
        (Keepalive::new(Duration::ZERO), "keepalive idle must be at least 1 s"),
        (Keepalive::new(Duration::from_millis(999)), "keepalive idle must be at least 1 s"),
        (Keepalive::new(Duration::MAX), "keepalive idle must be at most 32767s"),
        (good.interval(Duration::ZERO), "keepalive interval must be at least 1 s"),
        (good.count(0), "keepalive count must be 1 to 127, not 0"),
        (good.count(128), "keepalive count must be 1 to 127, not 128"),
    ] {
        let error = bad.check().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(bad.apply(&tcp_socket()).is_err(), "{bad:?} reached the kernel");
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn options_arrive_in_the_kernel() {
    let socket = tcp_socket();
    let options = SocketOptions {
        nodelay: true,
        keepalive: Some(Keepalive::new(SECOND * 60).interval(SECOND * 10).count(4)),
        send_buffer: Some(20_000),
        receive_buffer: Some(30_000),
        linger: Some(Duration::from_millis(1_500)),
        lone_datagrams: false,
    };
    options.apply(SockRef::from(&socket), true).unwrap();
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), SECOND * 60);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), SECOND * 10);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    // Linux doubles what it is told, for its own book-keeping.
    assert_eq!(socket.send_buffer_size().unwrap(), 40_000);
    assert_eq!(socket.recv_buffer_size().unwrap(), 60_000);
    assert_eq!(socket.linger().unwrap(), Some(SECOND * 2));
}

#[test]
fn a_short_linger_never_becomes_the_reset_that_zero_means() {
    let socket = tcp_socket();
    set_linger(&socket, Duration::from_millis(1)).unwrap();
    assert_eq!(socket.linger().unwrap(), Some(SECOND));
    set_linger(&socket, Duration::ZERO).unwrap();
    assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
    assert!(set_linger(&socket, Duration::MAX).is_err());
}

#[cfg(unix)]
#[test]
fn options_of_tcp_are_not_tried_on_a_unix_socket() {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let keepalive = Some(Keepalive::new(SECOND));
    let options = SocketOptions { nodelay: true, keepalive, ..SocketOptions::default() };
    options.apply(SockRef::from(&socket), false).unwrap();
    assert!(options.apply(SockRef::from(&socket), true).is_err(), "the test proves nothing here");
}
