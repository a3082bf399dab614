//! PROXY headers in front of outgoing connections: the very first bytes, whatever follows.

mod closures;
mod common;
mod outgoing;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

#[cfg(unix)]
use closures::Directory;
use closures::{Script, TCP};
use outgoing::{Told, closed_port, connect_as, reporting};
use tightloop::proxy_protocol::{ProxyHeader, ProxyProtocol, Tlv};
use tightloop::{Action, Address, Connect, Endpoint, Error};

fn to(url: &str) -> Connect {
    Connect::to(&url.parse().unwrap())
}

fn ip(text: &str) -> Address {
    text.parse::<SocketAddr>().unwrap().into()
}

fn v1() -> ProxyHeader {
    ProxyHeader::v1(ip("192.0.2.1:56324"), ip("192.0.2.11:443"))
}

fn v2() -> ProxyHeader {
    let header = ProxyHeader::v2(ip("[2001:db8::1]:1"), ip("[2001:db8::2]:2"));
    header.with_tlv(Tlv::NOOP, vec![7; 60_000]).unwrap().with_crc32c().unwrap()
}

every_driver! {
    fn a_header_is_sent_before_anything_else(driver) {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = format!("tcp://{}", backend.local_addr().unwrap());
        let (server, events) = reporting(common::server(driver));
        for header in [v1(), v2(), ProxyHeader::v2_local()] {
            let expected = [&header.encode().unwrap()[..], b"greeting"].concat();
            connect_as(&server, to(&tcp).proxy_header(header));
            let mut stream = backend.accept().unwrap().0;
            assert_eq!(common::read(&mut stream, expected.len()), expected);
        }
        common::stop(server);
        drop(events);
    }

    #[cfg(unix)]
    fn a_header_is_sent_over_a_unix_socket_too(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("backend");
        let backend = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (server, events) = reporting(common::server(driver));
        for header in [v1(), v2(), ProxyHeader::v2_local()] {
            let expected = [&header.encode().unwrap()[..], b"greeting"].concat();
            connect_as(&server, to(&url).proxy_header(header));
            let mut stream = backend.accept().unwrap().0;
            assert_eq!(common::read(&mut stream, expected.len()), expected);
        }
        common::stop(server);
        drop(events);
    }

    fn what_is_written_while_it_connects_follows_the_header(driver) {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", backend.local_addr().unwrap());
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let url = url.clone();
            Script::new().traffic(move |conn, input| {
                input.take_all();
                let id = conn.connect(to(&url).proxy_header(v1())).unwrap();
                let mut peer = conn.peer(id).expect("it is connecting");
                peer.write(b"early");
                assert_eq!(peer.pending(), v1().encode().unwrap().len() + 5);
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"go").unwrap();
        let expected = [&v1().encode().unwrap()[..], b"early"].concat();
        let mut stream = backend.accept().unwrap().0;
        assert_eq!(common::read(&mut stream, expected.len()), expected);
        common::stop(server);
    }

    fn the_address_that_answers_gets_the_header_once(driver) {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let (server, events) = reporting(common::server(driver));
        let addresses = [closed_port(), closed_port(), backend.local_addr().unwrap()];
        let connect = to("tcp://backend:1").addresses(addresses).proxy_header(v1());
        connect_as(&server, connect);
        let expected = [&v1().encode().unwrap()[..], b"greeting"].concat();
        let mut stream = backend.accept().unwrap().0;
        assert_eq!(common::read(&mut stream, expected.len()), expected);
        assert!(matches!(events.next(), Told::Opened { .. }));
        common::stop(server);
        assert_eq!(common::read_to_end(&mut stream), b"", "there is more");
    }

    fn a_chain_of_proxies_tells_the_last_one_of_the_first_ones_client(driver) {
        let (told, events) = common::events();
        let last = common::server(driver)
            .listen_proxied(TCP, ProxyProtocol::required().max_header(65_551));
        let last = common::start(last, move |_| {
            let told = told.clone();
            Script::new().open(move |conn| {
                let header = conn.proxy_header().cloned().unwrap();
                told.send((conn.peer_addr(), header)).unwrap();
            })
        });
        let mut next = common::address(&last, 0);
        let mut proxies = Vec::new();
        for _ in 0..2 {
            let policy = ProxyProtocol::required().max_header(65_551);
            let proxy = common::server(driver).listen_proxied(TCP, policy);
            let back_end: Endpoint = next.to_string().parse().unwrap();
            let proxy = common::start(proxy, move |_| {
                let back_end = back_end.clone();
                Script::new().traffic(move |conn, input| {
                    if conn.proxy_header().is_some() {
                        let header = conn.proxy_header().cloned().unwrap();
                        let connect = Connect::to(&back_end).proxy_header(header);
                        let id = conn.connect(connect).unwrap();
                        conn.peer(id).expect("it is connecting").write(input.take_all());
                    } else {
                        // The answer, back to whoever asked for the connection.
                        let client = conn.initiator().unwrap();
                        conn.peer(client).expect("it waits").write(input.take_all());
                    }
                    Action::Continue
                })
            });
            next = common::address(&proxy, 0);
            proxies.push(proxy);
        }
        let mut client = common::connect(next);
        client.write_all(&[&v2().encode().unwrap()[..], b"hello"].concat()).unwrap();
        assert_eq!(common::read(&mut client, 5), b"hello");
        let (peer, header) = events.next();
        assert_eq!(peer, ip("[2001:db8::1]:1"));
        assert_eq!(header.encode(), v2().encode());
        proxies.into_iter().rev().for_each(common::stop);
        common::stop(last);
    }

    fn a_header_that_cannot_be_said_is_an_error_of_connect(driver) {
        let (server, _events) = reporting(common::server(driver));
        let (told, errors) = common::events();
        server.loops()[0]
            .execute(move |_: &mut Script, cx| {
                let mixed = ProxyHeader::v2(ip("127.0.0.1:1"), Address::Unix(None));
                let refused = cx.connect(to("tcp://127.0.0.1:1").proxy_header(mixed));
                told.send(refused).unwrap();
            })
            .unwrap();
        let refused = errors.next();
        let Err(Error::Option { name: "proxy_header", reason }) = refused else {
            panic!("{refused:?}")
        };
        assert!(reason.contains("Unix socket"), "{reason}");
        common::stop(server);
    }
}
