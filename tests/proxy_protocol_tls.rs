//! TLS behind a PROXY header: the header is plaintext, what follows is the handshake.

mod certificates;
mod closures;
mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use certificates::{Authority, BOTH};
use closures::{Script, TCP};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tightloop::proxy_protocol::{MAX_HEADER, ProxyError, ProxyHeader, ProxyProtocol, Tlv};
use tightloop::{Action, Address, CloseReason, Connect, Direction, RunningServer};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.11 56324 443\r\n";

/// Who opened a connection with which server name, or why it was not opened.
type Told = Result<(Address, Option<String>), CloseReason>;

/// An echo server with TLS behind a header.
fn start(
    driver: common::Driver,
    authority: &Authority,
    handshake_timeout: Duration,
) -> (RunningServer<Script>, SocketAddr, common::Events<Told>) {
    let (told, events) = common::events();
    let server = common::server(driver)
        .listen_proxied("tls://127.0.0.1:0", ProxyProtocol::required().max_header(MAX_HEADER))
        .tls(authority.server(BOTH))
        .handshake_timeout(handshake_timeout);
    let server = common::start(server, move |_| {
        let (opened, failed) = (told.clone(), told.clone());
        Script::new()
            .open(move |conn| {
                let name = conn.tls().unwrap().server_name.clone();
                opened.send(Ok((conn.peer_addr(), name))).unwrap();
            })
            .failed(move |_, reason| failed.send(Err(reason)).unwrap())
    });
    let address = common::address(&server, 0);
    (server, address, events)
}

/// A short one, and one that takes more than one record's worth of bytes.
fn headers() -> [ProxyHeader; 2] {
    let (source, destination): (SocketAddr, SocketAddr) =
        ("192.0.2.1:56324".parse().unwrap(), "192.0.2.11:443".parse().unwrap());
    let long = ProxyHeader::v2(source, destination).with_tlv(Tlv::NOOP, vec![7; 65_000]).unwrap();
    [ProxyHeader::v1(source, destination), long.with_crc32c().unwrap()]
}

fn session(authority: &Authority) -> ClientConnection {
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::new(authority.client(BOTH)), name).unwrap()
}

/// Finishes the handshake and asserts that the server echoes to the header's client.
fn assert_served(session: ClientConnection, stream: TcpStream, events: &common::Events<Told>) {
    let mut client = StreamOwned::new(session, stream);
    client.write_all(b"hello").unwrap();
    assert_eq!(common::read(&mut client, 5), b"hello");
    let (peer, name) = events.next().unwrap();
    assert_eq!(peer, "192.0.2.1:56324".parse::<SocketAddr>().unwrap().into());
    assert_eq!(name.as_deref(), Some("localhost"));
}

every_driver! {
    fn a_handshake_follows_a_header_in_the_same_segment_or_cut_anywhere_near_it(driver) {
        let authority = Authority::new();
        let (server, address, events) = start(driver, &authority, common::DEADLINE);
        let handle = server.handle();
        for cut in [None, Some(1), Some(V1.len() - 1), Some(V1.len()), Some(V1.len() + 1)] {
            let mut session = session(&authority);
            let mut bytes = V1.to_vec();
            session.write_tls(&mut bytes).unwrap();
            let mut stream = common::connect(address);
            let (first, second) = bytes.split_at(cut.unwrap_or(0));
            let before = handle.stats().bytes_in;
            stream.write_all(first).unwrap();
            let received = before + first.len() as u64;
            common::eventually("it is received", || handle.stats().bytes_in == received);
            stream.write_all(second).unwrap();
            assert_served(session, stream, &events);
        }
        common::stop(server);
    }

    fn a_handshake_without_a_header_is_none(driver) {
        let authority = Authority::new();
        let (server, address, events) = start(driver, &authority, common::DEADLINE);
        let mut stream = common::connect(address);
        session(&authority).write_tls(&mut stream).unwrap();
        let told = events.next();
        assert!(
            matches!(told, Err(CloseReason::ProxyHeader(ProxyError::NotAHeader))),
            "{told:?}"
        );
        assert!(common::is_closed(&mut stream));
        common::stop(server);
    }

    fn header_and_handshake_together_have_the_handshakes_time(driver) {
        let authority = Authority::new();
        let (server, address, events) = start(driver, &authority, Duration::from_millis(300));
        let mut stream = common::connect(address);
        stream.write_all(V1).unwrap();
        let told = events.next();
        assert!(matches!(told, Err(CloseReason::HandshakeTimeout)), "{told:?}");
        common::stop(server);
    }

    fn a_header_goes_in_front_of_an_outgoing_handshake(driver) {
        let authority = Authority::new();
        let (server, address, events) = start(driver, &authority, common::DEADLINE);
        let (told, answers) = common::events();
        let proxy = common::server(driver).listen(TCP).tls_client(authority.client(BOTH));
        let proxy = common::start(proxy, move |_| {
            let told = told.clone();
            Script::new()
                .open(|conn| {
                    if conn.direction() == Direction::Outgoing {
                        conn.write(b"greeting");
                    }
                })
                .traffic(move |conn, input| {
                    if conn.direction() == Direction::Incoming {
                        let header = headers()[usize::from(input.take_all()[0])].clone();
                        let connect = Connect::to(&"tls://localhost:1".parse().unwrap());
                        let connect = connect.addresses([address]).proxy_header(header);
                        let id = conn.connect(connect).unwrap();
                        conn.peer(id).expect("it is connecting").write(b"early ");
                    } else if input.len() == 14 {
                        told.send((input.take_all().to_vec(), conn.peer_addr())).unwrap();
                    }
                    Action::Continue
                })
        });
        let mut client = common::connect(common::address(&proxy, 0));
        for (number, header) in headers().iter().enumerate() {
            client.write_all(&[number as u8]).unwrap();
            let (peer, name) = events.next().unwrap();
            assert_eq!(Some(&peer), header.source());
            assert_eq!(name.as_deref(), Some("localhost"));
            let (answer, peer) = answers.next();
            assert_eq!((&answer[..], peer), (&b"early greeting"[..], address.into()));
        }
        common::stop(proxy);
        common::stop(server);
    }
}
