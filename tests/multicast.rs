//! Multicast: who is heard, on which interface, and how a group is spoken to. IPv4 groups are joined on
//! the loopback interface; what needs another one is skipped, with the reason, where there is none.
#![cfg(target_os = "linux")]

mod closures;
mod common;
mod packets;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use closures::Script;
use socket2::{Domain, InterfaceIndexOrAddress, SockRef, Socket, Type};
use tightloop::{Action, Error, Group, Interface, Multicast, RunningServer, Server};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 77, 1, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(239, 77, 1, 3);
/// Of one interface: it is never sent beyond.
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 0x77);

/// Tells each datagram's bytes and the address that it was sent to.
fn telling(server: Server) -> (RunningServer<Script>, common::Events<(Vec<u8>, IpAddr)>) {
    let (told, events) = common::events();
    let server = common::start(server, move |_| {
        let told = told.clone();
        Script::new().datagram(move |datagram| {
            told.send((datagram.payload().to_vec(), datagram.local_addr().ip())).unwrap();
            Action::Continue
        })
    });
    (server, events)
}

/// A socket that sends to groups by the loopback interface.
fn sender(from: &str) -> UdpSocket {
    let socket = UdpSocket::bind(from).unwrap();
    SockRef::from(&socket).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    socket
}

/// A member of a group on the loopback interface, on a port of its own or the given one.
fn member(group: Ipv4Addr, port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((group, port)).into()).unwrap();
    socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(common::DEADLINE)).unwrap();
    socket
}

fn port(server: &RunningServer<Script>) -> u16 {
    common::address(server, 0).port()
}

/// Why a server does not start.
fn refused(server: Server) -> Error {
    server.start(|_| Script::new()).expect_err("the server does not start")
}

/// The kind and the text of a refusal to listen.
fn listen_error(server: Server) -> (ErrorKind, String) {
    match refused(server) {
        Error::Listen { address, source } => (source.kind(), format!("{address}: {source}")),
        other => panic!("{other:?}"),
    }
}

/// Whether the system finds an interface for groups by itself; what it says is printed.
fn has_default_interface() -> bool {
    let attempt = || -> io::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.join_multicast_v4(&GROUP, &Ipv4Addr::UNSPECIFIED)?;
        SockRef::from(&socket).set_multicast_ttl_v4(0)?;
        socket.send_to(b"", (GROUP, 9)).map(|_| ())
    };
    attempt().inspect_err(|error| println!("skipped: no interface for groups: {error}")).is_ok()
}

/// An interface on which IPv6 groups are heard, as plain sockets find it out.
fn interface_of_v6() -> Option<u32> {
    let hears = |index: u32| -> io::Result<()> {
        let at = SocketAddrV6::new(GROUP_V6, 0, 0, index);
        let socket = UdpSocket::bind(at)?;
        socket.join_multicast_v6(&GROUP_V6, index)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        sender_v6(index)?.send_to(b"?", socket.local_addr()?)?;
        socket.recv(&mut [0; 8]).map(|_| ())
    };
    let found = (1..32).find(|index| hears(*index).is_ok());
    if found.is_none() {
        println!("skipped: no interface here delivers IPv6 groups");
    }
    found
}

fn sender_v6(index: u32) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("[::]:0")?;
    SockRef::from(&socket).set_multicast_if_v6(index)?;
    Ok(socket)
}

every_driver! {
    fn a_group_is_joined_on_an_interface_by_name_number_or_address(driver) {
        let lo = [Interface::from("lo"), Interface::from(1), Interface::from(Ipv4Addr::LOCALHOST)];
        for interface in lo {
            let url = format!("udp://{GROUP}:0");
            let multicast = Multicast::new().interface(interface.clone());
            let (server, events) = telling(common::server(driver).listen_multicast(url, multicast));
            sender("127.0.0.1:0").send_to(b"hello", (GROUP, port(&server))).unwrap();
            assert_eq!(events.next(), (b"hello".to_vec(), GROUP.into()), "{interface}");
            common::stop(server);
        }
    }

    fn a_listener_on_a_groups_address_joins_it_by_itself(driver) {
        if !has_default_interface() {
            return;
        }
        let (server, events) = telling(common::server(driver).listen(format!("udp://{GROUP}:0")));
        let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
        // It stays on this host.
        sender.set_multicast_ttl_v4(0).unwrap();
        sender.send_to(b"hello", (GROUP, port(&server))).unwrap();
        assert_eq!(events.next(), (b"hello".to_vec(), GROUP.into()));
        common::stop(server);
    }

    fn a_socket_on_all_addresses_hears_its_groups_and_itself_and_no_other_group(driver) {
        for url in ["udp4://:0", "udp://:0"] {
            let multicast = Multicast::new().join(Group::new(GROUP).on("lo"));
            let (server, events) = telling(common::server(driver).listen_multicast(url, multicast));
            // Linux would give it this group too, because another program has joined it.
            let other = member(OTHER, 0);
            let sender = sender("127.0.0.1:0");
            sender.send_to(b"foreign", (OTHER, port(&server))).unwrap();
            sender.send_to(b"group", (GROUP, port(&server))).unwrap();
            sender.send_to(b"own", (Ipv4Addr::LOCALHOST, port(&server))).unwrap();
            assert_eq!(events.next(), (b"group".to_vec(), GROUP.into()), "{url}");
            assert_eq!(events.next(), (b"own".to_vec(), Ipv4Addr::LOCALHOST.into()), "{url}");
            drop(other);
            common::stop(server);
        }
    }

    fn an_answer_to_a_datagram_of_a_group_leaves_from_an_address_of_the_host(driver) {
        for url in [format!("udp://{GROUP}:0"), "udp4://:0".to_owned(), "udp://:0".to_owned()] {
            let multicast = Multicast::new().join(Group::new(GROUP).on("lo"));
            let server = common::server(driver).listen_multicast(url.clone(), multicast);
            let server = common::start(server, |_| Script::new());
            let asking = sender("127.0.0.7:0");
            asking.set_read_timeout(Some(common::DEADLINE)).unwrap();
            asking.send_to(b"hello", (GROUP, port(&server))).unwrap();
            let (answer, from) = packets::receive(&asking);
            assert_eq!((&answer[..], from.port()), (&b"hello"[..], port(&server)), "{url}");
            assert!(from.ip().is_loopback(), "{url} answers from {from}");
            common::stop(server);
        }
    }

    fn only_the_sender_that_was_asked_for_is_heard(driver) {
        let near: Ipv4Addr = "127.0.0.5".parse().unwrap();
        for on in [Interface::from("lo"), Interface::from(Ipv4Addr::LOCALHOST)] {
            let multicast = Multicast::new().join(Group::new(GROUP).on(on.clone()).source(near));
            let server = common::server(driver).listen_multicast(format!("udp://{GROUP}:0"), multicast);
            let (server, events) = telling(server);
            sender("127.0.0.6:0").send_to(b"from another", (GROUP, port(&server))).unwrap();
            sender("127.0.0.5:0").send_to(b"from it", (GROUP, port(&server))).unwrap();
            assert_eq!(events.next().0, b"from it", "{on}");
            common::stop(server);
        }
    }

    fn groups_come_and_go_on_a_duplicate_of_a_given_socket(driver) {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let aside = socket.try_clone().unwrap();
        let (server, events) = telling(common::server(driver).listen_on_udp(socket));
        let sender = sender("127.0.0.1:0");
        // A given socket hears what anybody on this host has joined: nobody else has this one.
        let group = Ipv4Addr::new(239, 77, 9, driver as u8);
        let (to_group, to_itself) = ((group, port(&server)), (Ipv4Addr::LOCALHOST, port(&server)));
        sender.send_to(b"too early", to_group).unwrap();
        sender.send_to(b"own", to_itself).unwrap();
        assert_eq!(events.next().0, b"own");
        aside.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        sender.send_to(b"joined", to_group).unwrap();
        assert_eq!(events.next().0, b"joined");
        aside.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        sender.send_to(b"too late", to_group).unwrap();
        sender.send_to(b"own again", to_itself).unwrap();
        assert_eq!(events.next().0, b"own again");
        common::stop(server);
    }

    fn two_servers_on_one_group_both_hear_and_a_server_with_reuse_port_hears_once(driver) {
        let multicast = || Multicast::new().interface("lo");
        let first = common::server(driver).listen_multicast(format!("udp://{GROUP}:0"), multicast());
        let (first, to_first) = telling(first);
        let url = format!("udp://{GROUP}:{}", port(&first));
        let (second, to_second) = telling(common::server(driver).listen_multicast(url, multicast()));
        let sender = sender("127.0.0.1:0");
        for n in 0..3 {
            sender.send_to(&[n], (GROUP, port(&first))).unwrap();
            assert_eq!((to_first.next().0, to_second.next().0), (vec![n], vec![n]));
        }
        common::stop(first);
        common::stop(second);
        let url = format!("udp://{GROUP}:0");
        let server = common::server(driver).loops(3).reuse_port(true).listen_multicast(url, multicast());
        let (server, events) = telling(server);
        for n in 0..8 {
            sender.send_to(&[n], (GROUP, port(&server))).unwrap();
        }
        let heard: Vec<_> = (0..8).flat_map(|_| events.next().0).collect();
        assert_eq!(heard, [0, 1, 2, 3, 4, 5, 6, 7]);
        common::stop(server);
        assert!(events.drain().is_empty(), "a datagram was heard twice");
    }

    fn a_server_speaks_to_a_group_by_its_interface_and_the_members_answers_reach_it(driver) {
        let member = member(OTHER, 0);
        let to = SocketAddr::from((OTHER, member.local_addr().unwrap().port()));
        let server = common::server(driver)
            .listen_multicast("udp://127.0.0.1:0", Multicast::new().interface(1).hops(3))
            .on_listener_socket(|socket| {
                assert_eq!(socket.multicast_ttl_v4()?, 3);
                Ok(())
            });
        let (told, events) = common::events();
        let server = common::start(server, move |_| {
            let told = told.clone();
            Script::new().datagram(move |datagram| {
                match datagram.payload() {
                    b"tell them" => datagram.send_to(to, b"news"),
                    answer => told.send(answer.to_vec()).unwrap(),
                }
                Action::Continue
            })
        });
        packets::client("127.0.0.1:0").send_to(b"tell them", common::address(&server, 0)).unwrap();
        let (news, from) = packets::receive(&member);
        assert_eq!((&news[..], from), (&b"news"[..], common::address(&server, 0)));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"heard", from).unwrap();
        assert_eq!(events.next(), b"heard");
        common::stop(server);
    }

    fn without_loopback_the_own_host_hears_nothing(driver) {
        if !has_default_interface() {
            return;
        }
        for loopback in [true, false] {
            // Of no hop at all, so that nothing leaves this host.
            let multicast = Multicast::new().join(GROUP).loopback(loopback).hops(0);
            let server = common::server(driver).listen_multicast("udp4://:0", multicast);
            let (told, events) = common::events();
            let server = common::start(server, move |_| {
                let told = told.clone();
                Script::new().datagram(move |datagram| {
                    let local = datagram.local_addr();
                    told.send((datagram.payload().to_vec(), local.ip())).unwrap();
                    if datagram.payload() == b"speak" {
                        datagram.send_to((GROUP, local.port()).into(), b"to the group");
                        datagram.send_to((Ipv4Addr::LOCALHOST, local.port()).into(), b"to itself");
                    }
                    Action::Continue
                })
            });
            let to = (Ipv4Addr::LOCALHOST, port(&server));
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"speak", to).unwrap();
            assert_eq!(events.next().0, b"speak");
            if loopback {
                assert_eq!(events.next(), (b"to the group".to_vec(), GROUP.into()));
            }
            assert_eq!(events.next(), (b"to itself".to_vec(), Ipv4Addr::LOCALHOST.into()));
            common::stop(server);
        }
    }

    fn groups_of_ipv6_are_joined_by_scope_name_and_number(driver) {
        let Some(index) = interface_of_v6() else { return };
        let name = std::fs::read_dir("/sys/class/net").unwrap().find_map(|entry| {
            let path = entry.unwrap().path();
            let number = std::fs::read_to_string(path.join("ifindex")).ok()?;
            (number.trim() == index.to_string()).then(|| path.file_name().unwrap().to_owned())
        });
        let name = name.unwrap().into_string().unwrap();
        let on_all = |group: Group| ("udp6://:0".to_owned(), Multicast::new().join(group));
        for (url, multicast) in [
            (format!("udp://[{GROUP_V6}%{name}]:0"), Multicast::new()),
            (format!("udp6://[{GROUP_V6}%{index}]:0"), Multicast::new().loopback(true).hops(1)),
            on_all(Group::new(GROUP_V6).on(index)),
            on_all(Group::new(GROUP_V6).on(&*name)),
        ] {
            let server = common::server(driver).listen_multicast(url.clone(), multicast);
            let (server, events) = telling(server);
            let to = SocketAddrV6::new(GROUP_V6, port(&server), 0, index);
            sender_v6(index).unwrap().send_to(b"hello", to).unwrap();
            assert_eq!(events.next(), (b"hello".to_vec(), GROUP_V6.into()), "{url}");
            common::stop(server);
        }
        // A sender that was not asked for.
        let group = Group::new(GROUP_V6).on(index).source("fe80::dead:beef".parse::<Ipv6Addr>().unwrap());
        let (url, multicast) = on_all(group);
        let (server, events) = telling(common::server(driver).listen_multicast(url, multicast));
        let to = SocketAddrV6::new(GROUP_V6, port(&server), 0, index);
        sender_v6(index).unwrap().send_to(b"to the group", to).unwrap();
        let to = SocketAddr::from((Ipv6Addr::LOCALHOST, port(&server)));
        packets::client("[::1]:0").send_to(b"alone", to).unwrap();
        assert_eq!(events.next().0, b"alone");
        common::stop(server);
    }

    fn a_connected_socket_speaks_to_a_group_and_hears_what_its_peer_says_there(driver) {
        let member = member(GROUP, 0);
        let at = member.local_addr().unwrap();
        let (told, events) = common::events();
        let client = common::client(driver).start(move |_| {
            let (told, failed) = (told.clone(), told.clone());
            Script::new()
                .open(|conn| {
                    conn.write(b"to the group");
                })
                .traffic(move |_, input| {
                    told.send(String::from_utf8_lossy(input.take_all()).into_owned()).unwrap();
                    Action::Continue
                })
                .failed(move |_, reason| failed.send(reason.to_string()).unwrap())
        });
        let client = client.unwrap();
        let to = |url: String| tightloop::Connect::to(&url.parse().unwrap());
        let by_lo = Multicast::new().interface("lo");
        let conn = client.connect(to(format!("udp://{at}")).multicast(by_lo.clone())).unwrap();
        assert_eq!(packets::receive(&member).0, b"to the group");
        conn.close().unwrap();
        drop(member);

        let peer = sender("127.0.0.1:0");
        let url = format!("udp://{}", peer.local_addr().unwrap());
        let joined = by_lo.join(GROUP);
        client.connect(to(url).local_addr(at).multicast(joined)).unwrap();
        peer.set_read_timeout(Some(common::DEADLINE)).unwrap();
        assert_eq!(packets::receive(&peer).0, b"to the group");
        sender("127.0.0.1:0").send_to(b"a stranger", at).unwrap();
        peer.send_to(b"news", at).unwrap();
        assert_eq!(events.next(), "news");

        let nowhere = Multicast::new().interface("no-such-device");
        client.connect(to(format!("udp://{at}")).multicast(nowhere)).unwrap();
        let told = events.next();
        assert!(told.contains("no-such-device"), "{told}");
        let stream = to("tcp://127.0.0.1:9".to_owned()).multicast(Multicast::new());
        assert!(matches!(client.connect(stream), Err(Error::Unsupported { .. })));
        client.stop();
        client.join().unwrap();
    }

    fn what_cannot_be_joined_is_told_by_name(driver) {
        let on = |url: &str, group: Group| {
            let multicast = Multicast::new().join(group);
            listen_error(common::server(driver).listen_multicast(url, multicast))
        };
        let host = Ipv4Addr::new(10, 1, 2, 3);
        for ((kind, text), expected, says) in [
            (on("udp4://:0", host.into()), ErrorKind::InvalidInput, "10.1.2.3: it is no multicast"),
            (on("udp4://:0", Group::new(GROUP).on("no-such")), ErrorKind::AddrNotAvailable, "no-such"),
            (on("udp4://:0", Group::new(GROUP).on(4_000)), ErrorKind::AddrNotAvailable, "interface 4000"),
            (on("udp4://:0", Group::new(GROUP).on(0)), ErrorKind::InvalidInput, "number 0"),
            (on("udp4://:0", Group::new(GROUP).on(Ipv4Addr::new(203, 0, 113, 9))), ErrorKind::AddrNotAvailable, "203.0.113.9"),
            (on("udp4://:0", GROUP_V6.into()), ErrorKind::InvalidInput, "of IPv4, and the group of IPv6"),
            (on("udp6://:0", GROUP.into()), ErrorKind::InvalidInput, "of IPv6, and the group of IPv4"),
            (on("udp6://:0", Group::new(GROUP_V6).on(4_000)), ErrorKind::AddrNotAvailable, "interface 4000"),
            (on("udp6://:0", Group::new(GROUP_V6).on(Ipv4Addr::LOCALHOST)), ErrorKind::InvalidInput, "name or number"),
            (on("udp4://:0", Group::new(GROUP).source(Ipv6Addr::LOCALHOST)), ErrorKind::InvalidInput, "another family"),
            (on("udp4://:0", Group::new(GROUP).source(OTHER)), ErrorKind::InvalidInput, "not one of a host"),
        ] {
            assert!(kind == expected && text.contains(says), "{says}: {kind:?}, {text}");
        }
        for url in ["tcp://127.0.0.1:0", "unix:///tmp/never"] {
            let server = common::server(driver).listen_multicast(url, Multicast::new());
            let error = refused(server);
            assert!(matches!(&error, Error::Unsupported { what } if what.contains(url)), "{error}");
        }
        let taken = member(GROUP, 0);
        // The probe of the test itself: a plain socket joins by number too.
        SockRef::from(&taken)
            .join_multicast_v4_n(&OTHER, &InterfaceIndexOrAddress::Index(1))
            .unwrap();
    }
}
