//! Real sockets on the loopback interface.

use super::*;
use std::io::Read;
use std::net::Ipv6Addr;
use std::time::Duration;

use crate::sys::sockopt::Keepalive;

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn listen(address: SocketAddr, v6only: Option<bool>) -> io::Result<TcpListener> {
    bind_tcp(address, v6only, &ListenOptions::for_tests())
}

/// Waits for the connection of a connect that has been started.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(false).unwrap();
    listener.accept().unwrap().0
}

#[test]
fn a_listener_knows_its_port_and_does_not_block() {
    let listener = listen(LOOPBACK, None).unwrap();
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let address = Listener::Tcp(listener).local_address().unwrap();
    assert_ne!(address.port(), Some(0));
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let first = listen(LOOPBACK, None).unwrap();
    let error = listen(first.local_addr().unwrap(), None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_connect_is_started_and_both_ends_know_each_other() {
    let listener = listen(LOOPBACK, None).unwrap();
    let address = Address::from(listener.local_addr().unwrap());
    let stream = start_connect(&address, &Route::default(), &SocketOptions::default()).unwrap();
    let accepted = accept(&listener);
    assert_eq!(stream.peer_address().unwrap(), address);
    assert_eq!(stream.local_address().unwrap(), accepted.peer_addr().unwrap().into());
    assert_eq!(send_vectored(stream.as_socket(), &[]).unwrap(), 0);
    let mut many = vec![IoSlice::new(b"x"); MAX_SLICES];
    many.push(IoSlice::new(b"one more than the system takes"));
    assert_eq!(send_vectored(stream.as_socket(), &many).unwrap(), MAX_SLICES);
    drop(stream);
    let mut bytes = Vec::new();
    (&accepted).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, vec![b'x'; MAX_SLICES]);
}

#[test]
fn sending_to_a_peer_that_is_gone_is_an_error_and_no_signal() {
    let listener = listen(LOOPBACK, None).unwrap();
    let address = Address::from(listener.local_addr().unwrap());
    let stream = start_connect(&address, &Route::default(), &SocketOptions::default()).unwrap();
    drop(accept(&listener));
    stream.as_socket().shutdown(std::net::Shutdown::Write).unwrap();
    let error = send_vectored(stream.as_socket(), &[IoSlice::new(b"x")]).unwrap_err();
    assert_ne!(error.kind(), io::ErrorKind::WouldBlock);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn an_accepted_socket_has_the_options_of_its_listener() {
    let mut options = ListenOptions::for_tests();
    options.socket = SocketOptions {
        nodelay: true,
        keepalive: Some(Keepalive::new(Duration::from_secs(33)).count(3)),
        receive_buffer: Some(50_000),
        send_buffer: Some(60_000),
        linger: Some(Duration::ZERO),
        lone_datagrams: false,
    };
    let listener = bind_tcp(LOOPBACK, None, &options).unwrap();
    let address = Address::from(listener.local_addr().unwrap());
    let _client = start_connect(&address, &Route::default(), &SocketOptions::default()).unwrap();
    let accepted = accept(&listener);
    let socket = SockRef::from(&accepted);
    assert!(ACCEPTED_INHERITS_OPTIONS && socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(33));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    assert_eq!(socket.recv_buffer_size().unwrap(), 100_000);
    assert_eq!(socket.send_buffer_size().unwrap(), 120_000);
    assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
#[test]
fn two_listeners_share_a_port_only_with_reuse_port() {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::for_tests() };
    let first = bind_tcp(LOOPBACK, None, &options).unwrap();
    let address = first.local_addr().unwrap();
    bind_tcp(address, None, &options).unwrap();
    assert!(listen(address, None).is_err());
    let udp = bind_udp(LOOPBACK, None, &options).unwrap();
    bind_udp(udp.local_addr().unwrap(), None, &options).unwrap();
}

#[test]
fn two_udp_sockets_never_share_a_port_by_reuse_addr() {
    let options = ListenOptions { reuse_addr: true, ..ListenOptions::for_tests() };
    let first = bind_udp(LOOPBACK, None, &options).unwrap();
    let second = bind_udp(first.local_addr().unwrap(), None, &options);
    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_dual_stack_listener_takes_ipv4_and_shows_it_as_such() {
    let Ok(listener) = listen((Ipv6Addr::UNSPECIFIED, 0).into(), Some(false)) else {
        eprintln!("skipped: no dual stack here");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let target = Address::from(SocketAddr::from(([127, 0, 0, 1], port)));
    let _client = start_connect(&target, &Route::default(), &SocketOptions::default()).unwrap();
    let stream = Stream::Tcp(accept(&listener));
    assert!(stream.peer_address().unwrap().ip().unwrap().is_ipv4());
    assert_eq!(stream.local_address().unwrap(), target);
}

#[test]
fn a_listener_of_tcp6_leaves_ipv4_to_others_whatever_the_option_says() {
    let options = ListenOptions { ipv6_only: Some(false), ..ListenOptions::for_tests() };
    let Ok(listener) = bind_tcp((Ipv6Addr::UNSPECIFIED, 0).into(), Some(true), &options) else {
        eprintln!("skipped: no IPv6 here");
        return;
    };
    assert!(SockRef::from(&listener).only_v6().unwrap());
}

#[test]
fn the_next_address_is_tried_only_if_the_first_does_not_exist_here() {
    let absent: SocketAddr = "[2001:db8::1]:0".parse().unwrap();
    let bound = bind_first(&[absent, LOOPBACK], |address| listen(address, None)).unwrap();
    assert!(bound.local_addr().unwrap().is_ipv4());
    let taken = bound.local_addr().unwrap();
    let error = bind_first(&[taken, LOOPBACK], |address| listen(address, None)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let none = bind_first(&[], |address| listen(address, None)).unwrap_err();
    assert_eq!(none.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn nothing_connects_to_a_unix_socket_without_a_path() {
    let error = start_connect(&Address::Unix(None), &Route::default(), &SocketOptions::default())
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn errors_of_accept_that_pass_are_told_from_those_that_stay() {
    let passes = |code| is_passing_accept_error(&io::Error::from_raw_os_error(code));
    assert!(passes(libc::EPROTO) && passes(libc::ENONET));
    assert!(!passes(libc::EMFILE) && !passes(libc::EINVAL) && !passes(libc::EPERM));
}
