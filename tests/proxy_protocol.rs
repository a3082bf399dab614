//! PROXY headers in front of connections: whom a listener believes, and what the handler sees.

mod closures;
mod common;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use closures::{Script, TCP};
use tightloop::proxy_protocol::{ProxyError, ProxyHeader, ProxyProtocol, Tlv};
use tightloop::{Address, CloseReason, Error, IpNetwork, RunningServer, Server};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.11 56324 443\r\n";

/// What happened to a connection.
#[derive(Debug)]
enum Told {
    Open { listener: usize, peer: Address, socket_peer: Address, header: Option<ProxyHeader> },
    Failed(Address, CloseReason),
    Closed(Address, CloseReason),
}

/// Starts an echo server that tells what happens.
fn start(server: Server) -> (RunningServer<Script>, SocketAddr, common::Events<Told>) {
    let (told, events) = common::events();
    let server = common::start(server, move |_| {
        let (opened, failed, closed) = (told.clone(), told.clone(), told.clone());
        Script::new()
            .open(move |conn| {
                let (listener, header) = (conn.listener().unwrap(), conn.proxy_header().cloned());
                let (peer, socket_peer) = (conn.peer_addr(), conn.socket_peer_addr());
                opened.send(Told::Open { listener, peer, socket_peer, header }).unwrap();
            })
            .failed(move |conn, reason| {
                failed.send(Told::Failed(conn.peer_addr(), reason)).unwrap();
            })
            .close(move |conn, reason| {
                closed.send(Told::Closed(conn.peer_addr(), reason)).unwrap();
            })
    });
    let address = common::address(&server, 0);
    (server, address, events)
}

fn ip(text: &str) -> Address {
    text.parse::<SocketAddr>().unwrap().into()
}

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn own(client: &TcpStream) -> Address {
    client.local_addr().unwrap().into()
}

fn v2() -> Vec<u8> {
    let header = ProxyHeader::v2(ip("[2001:db8::1]:1"), ip("[2001:db8::2]:2"));
    let header = header.with_authority("example.com").unwrap().with_tlv(0xe0, b"x").unwrap();
    header.with_crc32c().unwrap().encode().unwrap()
}

/// Asserts that the connection is open, and by whom.
#[track_caller]
fn assert_open(told: Told, client: &TcpStream, expected: &Address) -> Option<ProxyHeader> {
    let Told::Open { peer, socket_peer, header, .. } = told else { panic!("{told:?}") };
    assert_eq!(&peer, expected);
    assert_eq!(socket_peer, own(client));
    header
}

/// Asserts that the connection was never open.
#[track_caller]
fn assert_refused(told: Told, client: &mut TcpStream, expected: ProxyError) {
    let Told::Failed(peer, CloseReason::ProxyHeader(error)) = told else { panic!("{told:?}") };
    assert_eq!((error, peer), (expected, own(client)));
    assert!(common::is_closed(client));
}

every_driver! {
    fn a_header_tells_the_client_however_the_connection_came(driver) {
        for (loops, reuse_port) in [(1, false), (3, false), (3, true)] {
            let server = common::server(driver).loops(loops).reuse_port(reuse_port && common::SPREADS).listen(TCP);
            let (server, address, events) = start(server.proxy_protocol(ProxyProtocol::required()));
            for _ in 0..4 {
                let mut client = common::connect(address);
                client.write_all(&[V1, b"hello"].concat()).unwrap();
                assert_eq!(common::read(&mut client, 5), b"hello");
                let header = assert_open(events.next(), &client, &ip("192.0.2.1:56324")).unwrap();
                assert_eq!(header.destination(), Some(&ip("192.0.2.11:443")));
                drop(client);
                let told = events.next();
                let Told::Closed(peer, CloseReason::PeerClosed) = told else { panic!("{told:?}") };
                assert_eq!(peer, ip("192.0.2.1:56324"));
            }
            common::stop(server);
        }
    }

    fn what_a_proxy_says_besides_is_readable(driver) {
        let server = common::server(driver).listen(TCP).proxy_protocol(ProxyProtocol::required());
        let (server, address, events) = start(server);
        let mut client = common::connect(address);
        client.write_all(&v2()).unwrap();
        let header = assert_open(events.next(), &client, &ip("[2001:db8::1]:1")).unwrap();
        assert_eq!(header.destination(), Some(&ip("[2001:db8::2]:2")));
        assert_eq!(header.authority(), Some("example.com"));
        assert_eq!(header.tlv(0xe0), Some(&b"x"[..]));
        assert!(header.crc32c().is_some() && header.tlv(Tlv::SSL).is_none());
        common::stop(server);
    }

    fn a_header_may_be_cut_anywhere_and_what_follows_arrives_whole(driver) {
        let server = common::server(driver).listen(TCP).proxy_protocol(ProxyProtocol::required());
        let (server, address, events) = start(server);
        let handle = server.handle();
        let mut sent = 0;
        for (header, client_is) in [(V1.to_vec(), "192.0.2.1:56324"), (v2(), "[2001:db8::1]:1")] {
            let bytes = [&header[..], b"hello"].concat();
            let mut cuts: Vec<Vec<usize>> = (1..bytes.len()).map(|cut| vec![cut]).collect();
            cuts.push((1..bytes.len()).collect()); // each byte by itself
            for mut cuts in cuts {
                let mut client = common::connect(address);
                cuts.push(bytes.len());
                let mut from = 0;
                for to in cuts {
                    client.write_all(&bytes[from..to]).unwrap();
                    sent += (to - from) as u64;
                    common::eventually("it is received", || handle.stats().bytes_in == sent);
                    from = to;
                }
                assert_eq!(common::read(&mut client, 5), b"hello");
                assert_open(events.next(), &client, &ip(client_is));
                drop(client);
                assert!(matches!(events.next(), Told::Closed(_, CloseReason::PeerClosed)));
            }
        }
        common::stop(server);
    }

    fn what_is_no_header_ends_the_connection_and_is_told(driver) {
        let server = common::server(driver).listen(TCP).proxy_protocol(ProxyProtocol::required());
        let (server, address, events) = start(server);
        let mut flipped = v2();
        flipped[20] ^= 1;
        let mut command = v2();
        command[12] = 0x23;
        let cases: [(&[u8], ProxyError); 7] = [
            (b"GET / HTTP/1.1\r\n\r\n", ProxyError::NotAHeader),
            (b"G", ProxyError::NotAHeader),
            (b"PROXY TCP4 192.0.2.1 192.0.2.11 56324 443\n", ProxyError::InvalidLineEnd),
            (b"PROXY TCP4 192.0.2.1 192.0.2.11 056324 443\r\n", ProxyError::InvalidPort),
            (&[b'P'; 1 << 20], ProxyError::NotAHeader),
            (&flipped, ProxyError::ChecksumMismatch),
            (&command, ProxyError::UnknownCommand(3)),
        ];
        let count = cases.len() as u64;
        for (bytes, error) in cases {
            let mut client = common::connect(address);
            let _ = client.write_all(bytes); // it may be closed before it has all of it
            assert_refused(events.next(), &mut client, error);
        }
        let stats = server.handle().stats();
        assert_eq!((stats.opened, stats.open_failures), (0, count));
        common::stop(server);
    }

    fn a_stream_that_ends_before_its_header_is_never_open(driver) {
        let server = common::server(driver).listen(TCP).proxy_protocol(ProxyProtocol::required());
        let (server, address, events) = start(server);
        for cut in [1, 6, V1.len() - 1] {
            let mut client = common::connect(address);
            client.write_all(&V1[..cut]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_refused(events.next(), &mut client, ProxyError::Incomplete);
        }
        drop(common::connect(address));
        assert!(matches!(events.next(), Told::Failed(_, CloseReason::PeerClosed)));
        // A whole one in front of the end is a connection.
        let mut client = common::connect(address);
        client.write_all(&[V1, b"hello"].concat()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(common::read_to_end(&mut client), b"hello");
        assert_open(events.next(), &client, &ip("192.0.2.1:56324"));
        common::stop(server);
    }

    fn a_header_that_takes_too_long_ends_the_connection_though_bytes_keep_coming(driver) {
        let server = common::server(driver).listen(TCP).proxy_protocol(ProxyProtocol::required());
        let (server, address, events) = start(server.handshake_timeout(Duration::from_millis(300)));
        let mut silent = common::connect(address);
        let mut slow = common::connect(address);
        let bytes = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 90]].concat();
        let dripping = std::thread::spawn(move || {
            for byte in bytes {
                // sleep-ok: the peer is slow on purpose, and its whole line takes seconds.
                std::thread::sleep(Duration::from_millis(30));
                if slow.write_all(&[byte]).is_err() {
                    break;
                }
            }
            common::is_closed(&mut slow)
        });
        for _ in 0..2 {
            let told = events.next();
            assert!(matches!(told, Told::Failed(_, CloseReason::HandshakeTimeout)), "{told:?}");
        }
        assert!(common::is_closed(&mut silent) && dripping.join().unwrap());
        common::stop(server);
    }

    fn a_stranger_is_refused_where_a_header_is_required_of_the_trusted(driver) {
        let policy = ProxyProtocol::required().trusting([network("10.0.0.0/8"), network("::1")]);
        let (server, address, events) = start(common::server(driver).listen(TCP).proxy_protocol(policy));
        let mut client = common::connect(address);
        let _ = client.write_all(V1); // it may be closed before
        assert_refused(events.next(), &mut client, ProxyError::Untrusted);
        common::stop(server);
        let policy = ProxyProtocol::required().trusting([network("127.0.0.0/8")]);
        let (server, address, events) = start(common::server(driver).listen(TCP).proxy_protocol(policy));
        let mut client = common::connect(address);
        client.write_all(V1).unwrap();
        assert_open(events.next(), &client, &ip("192.0.2.1:56324"));
        common::stop(server);
    }

    fn a_strangers_header_is_data_where_it_is_optional(driver) {
        let policy = ProxyProtocol::optional([network("10.0.0.0/8")]);
        let (server, address, events) = start(common::server(driver).listen(TCP).proxy_protocol(policy));
        let mut client = common::connect(address);
        // It is open before it has said anything.
        assert_eq!(assert_open(events.next(), &client, &own(&client)), None);
        assert_eq!(common::exchange(&mut client, V1), V1);
        common::stop(server);
    }

    fn a_trusted_peer_may_leave_an_optional_header_out(driver) {
        let policy = ProxyProtocol::optional([network("127.0.0.1")]);
        let (server, address, events) = start(common::server(driver).listen(TCP).proxy_protocol(policy));
        let handle = server.handle();
        let mut client = common::connect(address);
        client.write_all(&[V1, V1].concat()).unwrap();
        // The second one is the client's.
        assert_eq!(common::read(&mut client, V1.len()), V1);
        assert!(assert_open(events.next(), &client, &ip("192.0.2.1:56324")).is_some());
        let before = handle.stats().bytes_in;
        let mut client = common::connect(address);
        client.write_all(b"P").unwrap();
        common::eventually("it is received", || handle.stats().bytes_in == before + 1);
        client.write_all(b"OST / HTTP/1.1\r\n").unwrap();
        assert_eq!(common::read(&mut client, 17), b"POST / HTTP/1.1\r\n");
        assert_eq!(assert_open(events.next(), &client, &own(&client)), None);
        // What begins as a header has to be one.
        let mut client = common::connect(address);
        client.write_all(b"PROXY TCP4 x\r\n").unwrap();
        assert_refused(events.next(), &mut client, ProxyError::InvalidAddress);
        common::stop(server);
    }

    fn a_header_without_addresses_leaves_the_sockets(driver) {
        let server = common::server(driver).listen(TCP).proxy_protocol(ProxyProtocol::required());
        let (server, address, events) = start(server);
        let mut clients = Vec::new();
        for header in
            [ProxyHeader::v1_unknown(), ProxyHeader::v2_local(), ProxyHeader::v2_unspecified()]
        {
            let mut client = common::connect(address);
            client.write_all(&header.encode().unwrap()).unwrap();
            let told = assert_open(events.next(), &client, &own(&client));
            assert_eq!(told, Some(header));
            clients.push(client);
        }
        common::stop(server);
    }

    fn each_listener_has_its_own_rule(driver) {
        let server = common::server(driver)
            .listen_proxied(TCP, ProxyProtocol::required().trusting([network("10.0.0.0/8")]))
            .listen(TCP)
            .listen_on_tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
            .listen_proxied(TCP, ProxyProtocol::required().max_header(232))
            .listen("udp://127.0.0.1:0")
            .proxy_protocol(ProxyProtocol::optional([network("127.0.0.1")]));
        let (server, first, events) = start(server);
        let mut client = common::connect(first);
        assert_refused(events.next(), &mut client, ProxyError::Untrusted);
        let header = v2();
        let long = ProxyHeader::v2_local().with_tlv(Tlv::NOOP, [0; 214]).unwrap().encode().unwrap();
        let mut clients = Vec::new();
        for n in [1, 2] {
            for (bytes, is_header) in [(&b"plain"[..], false), (&header, true), (&long, true)] {
                let mut client = common::connect(common::address(&server, n));
                client.write_all(bytes).unwrap();
                let Told::Open { listener, header, .. } = events.next() else { panic!("refused") };
                assert_eq!((listener, header.is_some()), (n, is_header));
                clients.push(client);
            }
        }
        let mut client = common::connect(common::address(&server, 3));
        client.write_all(&long).unwrap();
        assert_refused(events.next(), &mut client, ProxyError::TooLong { length: 233, limit: 232 });
        common::stop(server);
    }

    fn the_limit_for_one_address_counts_the_sockets_peer(driver) {
        let server = common::server(driver).listen(TCP).max_connections_per_ip(1);
        let (server, address, events) = start(server.proxy_protocol(ProxyProtocol::required()));
        let mut client = common::connect(address);
        client.write_all(V1).unwrap();
        assert_open(events.next(), &client, &ip("192.0.2.1:56324"));
        let mut second = common::connect(address);
        let _ = second.write_all(&v2()); // it may be closed before
        assert!(common::is_closed(&mut second));
        assert_eq!(server.handle().stats().refused_per_ip, 1);
        drop(client);
        assert!(matches!(events.next(), Told::Closed(..)));
        common::eventually("there is a place again", || {
            let mut client = common::connect(address);
            client.write_all(&[V1, b"x"].concat()).is_ok() && !common::is_closed(&mut client)
        });
        common::stop(server);
    }

    fn a_header_is_not_the_clients_first_byte(driver) {
        let server = common::server(driver).listen(TCP).proxy_protocol(ProxyProtocol::required());
        let (server, address, events) = start(server.first_byte_timeout(Duration::from_millis(100)));
        let mut client = common::connect(address);
        client.write_all(V1).unwrap();
        assert_open(events.next(), &client, &ip("192.0.2.1:56324"));
        let told = events.next();
        assert!(matches!(told, Told::Closed(_, CloseReason::FirstByteTimeout)), "{told:?}");
        common::stop(server);
    }

    fn a_stop_ends_those_whose_header_has_not_come(driver) {
        let server = common::server(driver).listen(TCP).proxy_protocol(ProxyProtocol::required());
        let (server, address, events) = start(server);
        let handle = server.handle();
        let mut client = common::connect(address);
        client.write_all(&V1[..20]).unwrap();
        common::eventually("it is received", || handle.stats().bytes_in == 20);
        common::stop(server);
        let told = events.next();
        assert!(matches!(told, Told::Failed(_, CloseReason::ServerStopped)), "{told:?}");
        assert!(common::is_closed(&mut client));
    }

    #[cfg(unix)]
    fn a_unix_listener_is_behind_a_proxy_too(driver) {
        let path = std::env::temp_dir().join(format!("tl-proxied-{}-{driver:?}", std::process::id()));
        let url = format!("unix://{}", path.display());
        let trusting = ProxyProtocol::required().trusting([network("0.0.0.0/0"), network("::/0")]);
        for (policy, is_served) in [(ProxyProtocol::required(), true), (trusting, false)] {
            let (told, events) = common::events();
            let server = common::server(driver).listen(url.clone()).proxy_protocol(policy);
            let server = common::start(server, move |_| {
                let (opened, failed) = (told.clone(), told.clone());
                Script::new()
                    .open(move |conn| {
                        opened.send(Ok((conn.peer_addr(), conn.socket_peer_addr()))).unwrap();
                    })
                    .failed(move |_, reason| failed.send(Err(reason)).unwrap())
            });
            let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
            let _ = client.write_all(V1); // it may be closed before
            match events.next() {
                Ok(told) => {
                    assert!(is_served);
                    assert_eq!(told, (ip("192.0.2.1:56324"), Address::Unix(None)));
                }
                // A peer without an IP address is in no network.
                Err(reason) => {
                    assert!(!is_served);
                    assert!(matches!(reason, CloseReason::ProxyHeader(ProxyError::Untrusted)));
                }
            }
            common::stop(server);
        }
    }

    fn rules_that_cannot_be_meant_fail_the_start(driver) {
        let refused = |server: Server| match server.start(|_| Script::new()) {
            Err(Error::Option { name, reason }) => {
                assert_eq!(name, "proxy_protocol");
                reason
            }
            other => panic!("{other:?}"),
        };
        let nobody = ProxyProtocol::required().trusting([]);
        let reason = refused(common::server(driver).listen_proxied(TCP, nobody));
        assert!(reason.contains("nobody is trusted"), "{reason}");
        let short = ProxyProtocol::required().max_header(100);
        let reason = refused(common::server(driver).listen(TCP).proxy_protocol(short));
        assert!(reason.contains("232 to 65,551"), "{reason}");
        let required = ProxyProtocol::required();
        let server = common::server(driver).listen_proxied("udp://127.0.0.1:0", required);
        assert!(matches!(server.start(|_| Script::new()), Err(Error::Unsupported { .. })));
    }
}
