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
mod many {
    //! Batches, on the systems that have them.

    use super::*;
    use crate::sys::raw_option::set;

    struct Batches {
        end: End,
        abilities: Abilities,
        inbox: Inbox,
        sender: Sender,
    }

    impl Batches {
        fn bind(ip: Ipv4Addr, longest: usize) -> Batches {
            let end = End::bind(ip).unwrap();
            let inbox = Inbox::new(longest);
            let abilities =
                Abilities::find_out(&SockRef::from(&end.socket), end.bound, &inbox).unwrap();
            Batches { end, abilities, inbox, sender: Sender::new() }
        }

        fn send(&mut self, bytes: &[u8], datagrams: &mut [Outgoing]) -> io::Result<usize> {
            let socket = SockRef::from(&self.end.socket);
            self.sender.send(&socket, &mut self.abilities, bytes, datagrams)
        }

        /// Sends all of them; answers by how many system calls.
        fn send_all(&mut self, bytes: &[u8], datagrams: &mut [Outgoing]) -> usize {
            let (mut done, mut calls) = (0, 0);
            while done < datagrams.len() {
                done += self.send(bytes, &mut datagrams[done..]).unwrap();
                calls += 1;
            }
            calls
        }

        /// What there is, by one system call: length, whether cut, and local address.
        fn receive(&mut self) -> Vec<Received> {
            let socket = SockRef::from(&self.end.socket);
            self.inbox.receive(&socket, &self.abilities).unwrap();
            std::iter::from_fn(|| self.inbox.next(&self.abilities).map(|a| a.received)).collect()
        }
    }

    fn of(sizes: &[usize], to: SocketAddr) -> (Vec<u8>, Vec<Outgoing>) {
        let mut end = 0;
        let mut datagrams = Vec::new();
        for &size in sizes {
            datagrams.push(Outgoing { to, from: None, payload: end..end + size });
            end += size;
        }
        (vec![7; end], datagrams)
    }

    fn lengths(received: &[Received]) -> Vec<usize> {
        received.iter().map(|received| received.length).collect()
    }

    #[test]
    fn equal_ones_travel_joined_and_come_out_single() {
        let mut one = Batches::bind(Ipv4Addr::LOCALHOST, 1 << 16);
        let mut two = Batches::bind(Ipv4Addr::UNSPECIFIED, 1 << 16);
        let to = two.end.at(Ipv4Addr::new(127, 0, 0, 2));
        let sizes = [100, 100, 100, 40, 0, 100];
        let (bytes, mut datagrams) = of(&sizes, to);
        assert_eq!(one.send_all(&bytes, &mut datagrams), 1);
        let received = two.receive();
        assert_eq!(lengths(&received), sizes);
        for received in &received {
            assert_eq!((received.peer, received.local), (one.end.bound, to));
            assert!(!received.truncated);
        }
        let messages = two.inbox.messages();
        assert!([3, 6].contains(&messages), "{messages} messages");
        if one.abilities.segment_limit() > 0 {
            assert_eq!(messages, 3, "four joined, an empty one, a single one");
        }
        let again = two.inbox.receive(&SockRef::from(&two.end.socket), &two.abilities);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(two.inbox.is_empty());
    }

    #[test]
    fn more_than_a_batch_is_sent_and_received_by_several_calls() {
        let mut one = Batches::bind(Ipv4Addr::LOCALHOST, 1024);
        let mut two = Batches::bind(Ipv4Addr::LOCALHOST, 1024);
        let (bytes, mut datagrams) = of(&[50; 150], two.end.bound);
        assert_eq!(one.send_all(&bytes, &mut datagrams), 3);
        let counts = [0; 3].map(|_| two.receive().len());
        assert_eq!(counts, [64, 64, 22]);
    }

    #[test]
    fn in_a_batch_each_is_cut_alone() {
        let mut one = Batches::bind(Ipv4Addr::LOCALHOST, 1024);
        let mut two = Batches::bind(Ipv4Addr::UNSPECIFIED, 1024);
        let to = two.end.at(Ipv4Addr::LOCALHOST);
        let (bytes, mut datagrams) = of(&[1024, 1025, 1025, 1025, 3], to);
        one.send_all(&bytes, &mut datagrams);
        let received: Vec<_> = two.receive().iter().map(|r| (r.length, r.truncated)).collect();
        let cut = (1024, true);
        assert_eq!(received, [(1024, false), cut, cut, cut, (3, false)]);
    }

    #[test]
    fn what_a_route_does_not_cut_leaves_one_by_one_and_is_not_tried_again() {
        let mut one = Batches::bind(Ipv4Addr::LOCALHOST, 1024);
        let mut two = Batches::bind(Ipv4Addr::LOCALHOST, 1024);
        // Without checksums the kernel refuses to cut, as devices do that cannot compute them.
        let socket = SockRef::from(&one.end.socket);
        set(&socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
        let sizes = [100, 100, 100, 100, 30];
        let (bytes, mut datagrams) = of(&sizes, two.end.bound);
        for calls in [2, 1] {
            assert_eq!(one.send_all(&bytes, &mut datagrams), calls);
            assert_eq!(lengths(&two.receive()), sizes);
            assert_eq!(one.abilities.segment_limit(), 0);
        }
    }

    #[test]
    fn long_ones_that_are_not_cut_leave_the_short_ones_joined() {
        let mut one = Batches::bind(Ipv4Addr::LOCALHOST, 1024);
        let refused = io::Error::from_raw_os_error(libc::EINVAL);
        one.abilities.cuts_less_than(9_000, &refused);
        let limit = one.abilities.segment_limit();
        assert!((1_200..1_500).contains(&limit), "{limit}");
        one.abilities.cuts_less_than(1_200, &refused);
        assert_eq!(one.abilities.segment_limit(), 1_199, "a route may be narrower than Ethernet");
        one.abilities.cuts_less_than(500, &refused);
        assert_eq!(one.abilities.segment_limit(), 0, "and none is so narrow");
    }

    #[test]
    fn what_a_connected_one_sends_alone_shows_whether_it_was_about_cutting() {
        let Some(two) = ipv6_end(Ipv6Addr::LOCALHOST) else { return };
        let one = End::bind(Ipv6Addr::LOCALHOST).unwrap();
        let socket = SockRef::from(&one.socket);
        join(&socket);
        one.socket.connect(two.bound).unwrap();
        let mut abilities = Abilities::of_connected(&socket, &Inbox::new(1 << 16)).unwrap();
        if abilities.segment_limit() == 0 {
            return eprintln!("skipped: this kernel cuts nothing");
        }
        // A route as narrow as a tunnel's.
        let set = |option, value| set(&socket, libc::IPPROTO_IPV6, option, value).unwrap();
        set(libc::IPV6_MTU, 1_400);
        let mut sender = Sender::new();
        let mut send = |sizes: &[usize]| {
            let bytes = vec![7; sizes.iter().sum()];
            let slices = [io::IoSlice::new(&bytes)];
            let sent = sender.send_connected(&socket, &mut abilities, &slices, sizes);
            (sent, abilities.segment_limit())
        };
        let [long, shorter, short] = [[1_390; 3], [1_380; 3], [1_000; 3]];
        set(libc::IPV6_DONTFRAG, 1);
        // However it leaves, the first one cannot.
        let (sent, limit) = send(&long);
        assert!(is_about_one_datagram(&sent.unwrap_err()));
        assert_eq!(limit, MAX_PAYLOAD);
        assert_eq!(send(&short).0.unwrap(), 3);
        // Now it can, in fragments.
        set(libc::IPV6_DONTFRAG, 0);
        for (sizes, expected) in [(long, (1, 1_389)), (long, (3, 1_389)), (shorter, (1, 1_379))] {
            let (sent, limit) = send(&sizes);
            assert_eq!((sent.unwrap(), limit), expected);
        }
        assert_eq!(send(&short).0.unwrap(), 3, "shorter ones are cut");
        let mut buffer = [0; 2_000];
        let expected = [&short[..], &long[..1], &long, &shorter[..1], &short].concat();
        for length in expected {
            assert_eq!(two.receive(&mut buffer, false).length, length);
        }
    }

    #[test]
    fn an_error_is_about_the_first_and_the_rest_goes_on() {
        let mut one = Batches::bind(Ipv4Addr::LOCALHOST, 1 << 16);
        let mut two = Batches::bind(Ipv4Addr::LOCALHOST, 1 << 16);
        let sizes = [9, 9, MAX_PAYLOAD + 1, 9, 8];
        let (bytes, mut datagrams) = of(&sizes, two.end.bound);
        assert_eq!(one.send(&bytes, &mut datagrams).unwrap(), 2);
        assert!(is_about_one_datagram(&one.send(&bytes, &mut datagrams[2..]).unwrap_err()));
        assert_eq!(one.send(&bytes, &mut datagrams[3..]).unwrap(), 2);
        assert_eq!(lengths(&two.receive()), [9, 9, 9, 8]);
    }

    #[test]
    fn what_an_earlier_one_met_does_not_cost_a_later_one() {
        let mut one = Batches::bind(Ipv4Addr::LOCALHOST, 1024);
        let two = End::bind(Ipv4Addr::LOCALHOST).unwrap();
        let to = two.bound;
        one.end.socket.connect(to).unwrap();
        drop(two);
        let (bytes, mut datagrams) = of(&[9], to);
        // The port is closed, which the next call is told; that one sends all the same.
        for _ in 0..4 {
            assert_eq!(one.send(&bytes, &mut datagrams).unwrap(), 1);
        }
    }

    #[test]
    fn peers_that_alternate_are_sent_to_in_turn_and_the_caller_sees_the_order() {
        let mut one = Batches::bind(Ipv4Addr::LOCALHOST, 1024);
        let mut peers = [0; 2].map(|_| Batches::bind(Ipv4Addr::LOCALHOST, 1024));
        let addresses = [peers[0].end.bound, peers[1].end.bound];
        let (bytes, mut datagrams) = of(&[20, 20, 20, 20, 9, 8, 20, 20], addresses[0]);
        datagrams.iter_mut().enumerate().for_each(|(n, d)| d.to = addresses[n % 2]);
        // One that cannot be sent, to the second peer.
        datagrams[3].payload = 0..bytes.len();
        datagrams[3].from = Some(Ipv4Addr::LOCALHOST.into());
        assert_eq!(one.send_all(&bytes, &mut datagrams), 1);
        assert_eq!(lengths(&peers[0].receive()), [20, 20, 9, 20]);
        assert_eq!(lengths(&peers[1].receive()), [20, bytes.len(), 8, 20]);
        // What is sent only in part is left in the order in which it was to be sent.
        datagrams[3].to = "[::1]:9".parse().unwrap();
        let sent = one.send(&bytes, &mut datagrams).unwrap();
        assert_eq!(sent, 7, "all but the one of another family, which comes last");
        assert!(datagrams[sent].to.is_ipv6());
        assert!(one.send(&bytes, &mut datagrams[sent..]).is_err());
    }
}
