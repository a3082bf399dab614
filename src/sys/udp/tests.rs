//! Real datagrams on the loopback interface.

use super::*;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use socket2::SockRef;

use crate::sys::socket::bind_udp;
use crate::sys::sockopt::ListenOptions;

/// Long enough for a busy machine; no test waits for it when all is well.
const DEADLINE: Duration = Duration::from_secs(10);

/// Whether the system tells and takes local addresses.
const KNOWS_LOCAL: bool =
    cfg!(any(target_os = "linux", target_os = "android", target_vendor = "apple"));

struct End {
    socket: UdpSocket,
    bound: SocketAddr,
}

impl End {
    fn bind(ip: impl Into<IpAddr>) -> io::Result<End> {
        let address = SocketAddr::new(ip.into(), 0);
        let v6only = address.is_ipv6().then_some(false);
        let socket = bind_udp(address, v6only, &ListenOptions::for_tests())?;
        enable_local_address(&SockRef::from(&socket), address.is_ipv6())?;
        let bound = socket.local_addr()?;
        Ok(End { socket, bound })
    }

    fn at(&self, ip: impl Into<IpAddr>) -> SocketAddr {
        SocketAddr::new(ip.into(), self.bound.port())
    }

    fn receive(&self, buffer: &mut [u8], want_local: bool) -> Received {
        let start = std::time::Instant::now();
        loop {
            match receive(&SockRef::from(&self.socket), buffer, self.bound, want_local) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(start.elapsed() < DEADLINE, "no datagram came");
                    std::thread::yield_now();
                }
                outcome => return outcome.unwrap(),
            }
        }
    }

    fn send(&self, bytes: &[u8], peer: SocketAddr, from: Option<IpAddr>) -> io::Result<usize> {
        send(&SockRef::from(&self.socket), bytes, peer, from, self.bound)
    }
}

/// The IPv6 loopback address, unless this machine has none.
fn ipv6_end(ip: Ipv6Addr) -> Option<End> {
    let end = End::bind(ip);
    if let Err(error) = &end {
        eprintln!("skipped: no IPv6 here: {error}");
    }
    end.ok()
}

fn check_echo(server: &End, client: &End, server_ip: IpAddr) {
    let mut buffer = [0; 64];
    assert_eq!(client.send(b"ping", server.at(server_ip), None).unwrap(), 4);
    let received = server.receive(&mut buffer, true);
    assert_eq!(&buffer[..received.length], b"ping");
    assert!(!received.truncated);
    assert_eq!(received.peer.port(), client.bound.port());
    if KNOWS_LOCAL || !server.bound.ip().is_unspecified() {
        assert_eq!(received.local, server.at(server_ip));
    }
    server.send(b"pong", received.peer, Some(received.local.ip())).unwrap();
    let answer = client.receive(&mut buffer, false);
    assert_eq!(&buffer[..answer.length], b"pong");
    if KNOWS_LOCAL {
        assert_eq!(answer.peer, server.at(server_ip), "the answer left from another address");
    }
}

#[test]
fn a_datagram_of_ipv4_is_echoed() {
    let (server, client) =
        (End::bind(Ipv4Addr::LOCALHOST).unwrap(), End::bind(Ipv4Addr::LOCALHOST).unwrap());
    check_echo(&server, &client, Ipv4Addr::LOCALHOST.into());
}

#[test]
fn a_datagram_of_ipv6_is_echoed() {
    let Some(client) = ipv6_end(Ipv6Addr::LOCALHOST) else { return };
    for ip in [Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED] {
        check_echo(&End::bind(ip).unwrap(), &client, Ipv6Addr::LOCALHOST.into());
    }
}

// 127.0.0.2 is this host on Linux without any set-up.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    let server = End::bind(Ipv4Addr::UNSPECIFIED).unwrap();
    let client = End::bind(Ipv4Addr::LOCALHOST).unwrap();
    for last in [2, 3, 1] {
        check_echo(&server, &client, Ipv4Addr::new(127, 0, 0, last).into());
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_dual_stack_socket_speaks_ipv4_by_its_own_names() {
    let Some(server) = ipv6_end(Ipv6Addr::UNSPECIFIED) else { return };
    let client = End::bind(Ipv4Addr::LOCALHOST).unwrap();
    for last in [2, 1] {
        check_echo(&server, &client, Ipv4Addr::new(127, 0, 0, last).into());
    }
    let mut buffer = [0; 8];
    client.send(b"who", server.at(Ipv4Addr::LOCALHOST), None).unwrap();
    assert_eq!(server.receive(&mut buffer, true).peer, client.bound);
}

#[test]
fn without_asking_the_local_address_is_the_one_bound() {
    let server = End::bind(Ipv4Addr::UNSPECIFIED).unwrap();
    let client = End::bind(Ipv4Addr::LOCALHOST).unwrap();
    client.send(b"x", server.at(Ipv4Addr::LOCALHOST), None).unwrap();
    let received = server.receive(&mut [0; 8], false);
    assert_eq!((received.peer, received.local), (client.bound, server.bound));
}

#[test]
fn a_source_that_cannot_be_one_is_left_to_the_system() {
    let server = End::bind(Ipv4Addr::UNSPECIFIED).unwrap();
    let client = End::bind(Ipv4Addr::LOCALHOST).unwrap();
    let group = Ipv4Addr::new(224, 0, 0, 1);
    for from in [
        IpAddr::from(group),
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::from(Ipv4Addr::BROADCAST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ] {
        server.send(b"x", client.bound, Some(from)).unwrap();
        assert_eq!(client.receive(&mut [0; 8], true).peer, server.at(Ipv4Addr::LOCALHOST));
    }
}

#[test]
fn an_empty_datagram_is_a_datagram() {
    let (server, client) =
        (End::bind(Ipv4Addr::UNSPECIFIED).unwrap(), End::bind(Ipv4Addr::LOCALHOST).unwrap());
    for want_local in [true, false] {
        client.send(b"", server.at(Ipv4Addr::LOCALHOST), None).unwrap();
        let received = server.receive(&mut [0; 8], want_local);
        assert_eq!((received.length, received.truncated), (0, false));
        assert_eq!(received.peer, client.bound);
    }
}

#[test]
fn the_longest_datagram_arrives_whole_and_a_longer_one_is_an_error() {
    let (server, client) =
        (End::bind(Ipv4Addr::UNSPECIFIED).unwrap(), End::bind(Ipv4Addr::LOCALHOST).unwrap());
    let sent: Vec<u8> = (0..MAX_PAYLOAD).map(|i| (i % 251) as u8).collect();
    client.send(&sent, server.at(Ipv4Addr::LOCALHOST), None).unwrap();
    let mut buffer = vec![0; MAX_PAYLOAD];
    let received = server.receive(&mut buffer, true);
    assert_eq!((received.length, received.truncated), (MAX_PAYLOAD, false));
    assert!(buffer == sent, "the bytes differ");
    let longer = [&sent[..], b"x"].concat();
    assert!(client.send(&longer, server.at(Ipv4Addr::LOCALHOST), None).is_err());
}

#[test]
fn a_datagram_longer_than_the_buffer_is_flagged_and_the_next_one_is_not() {
    let (server, client) =
        (End::bind(Ipv4Addr::UNSPECIFIED).unwrap(), End::bind(Ipv4Addr::LOCALHOST).unwrap());
    for want_local in [true, false] {
        client.send(b"123456789", server.at(Ipv4Addr::LOCALHOST), None).unwrap();
        client.send(b"12345678", server.at(Ipv4Addr::LOCALHOST), None).unwrap();
        let mut buffer = [0; 8];
        let first = server.receive(&mut buffer, want_local);
        assert_eq!((first.length, first.truncated), (8, true));
        assert_eq!((&buffer, first.peer), (b"12345678", client.bound));
        let second = server.receive(&mut buffer, want_local);
        assert_eq!((second.length, second.truncated), (8, false));
    }
}

#[test]
fn no_datagram_is_would_block_and_not_a_wait() {
    let server = End::bind(Ipv4Addr::UNSPECIFIED).unwrap();
    let outcome = receive(&SockRef::from(&server.socket), &mut [0; 8], server.bound, true);
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod many;
