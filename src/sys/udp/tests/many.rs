//! Batches, on the systems that have them.

#![cfg(test)]

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
