//! TLS on connections that handlers make, and begun by them in mid-stream on the client's side.

mod certificates;
mod closures;
mod common;
mod tls_client;

use std::io::Read;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use certificates::{Authority, BOTH};
use closures::{Directory, Script, TCP};
use common::{Driver, Events};
use tightloop::tls::{TlsAcceptor, TlsConnector, TlsInfo};
use tightloop::{Action, CloseReason, Connect, Direction, Endpoint, RunningServer, Server};
use tls_client::{TLS, TLS12, TLS13};

/// What has become of a connection.
#[derive(Debug)]
enum Told {
    Opened(TlsInfo),
    Failed(CloseReason),
    Closed(CloseReason),
    Input(Vec<u8>),
}

/// A client that connects as told, once, and writes `hello` before it is connected.
fn connecting(server: Server, connect: Connect) -> (RunningServer<Script>, Events<Told>) {
    connecting_often(server, connect, 1)
}

/// The same for one connection after the other.
fn connecting_often(
    server: Server,
    connect: Connect,
    mut times: usize,
) -> (RunningServer<Script>, Events<Told>) {
    let (told, events) = common::events();
    let server = common::start(server, move |_| {
        let told = told.clone();
        let (opened, failed, closed) = (told.clone(), told.clone(), told.clone());
        let (connect, again) = (connect.clone(), connect.clone());
        Script::new()
            .tick(move |cx| {
                let id = cx.connect(connect.clone()).unwrap();
                assert!(cx.conn(id).is_none(), "it is not open");
                None
            })
            .open(move |conn| {
                assert_eq!(conn.direction(), Direction::Outgoing);
                opened.send(Told::Opened(conn.tls().unwrap().clone())).unwrap();
                conn.write(b"hello");
            })
            .traffic(move |_, input| {
                told.send(Told::Input(input.take_all().to_vec())).unwrap();
                Action::Close
            })
            .failed(move |_, reason| failed.send(Told::Failed(reason)).unwrap())
            .close(move |conn, reason| {
                closed.send(Told::Closed(reason)).unwrap();
                times -= 1;
                if times > 0 {
                    conn.connect(again.clone()).unwrap();
                }
            })
    });
    (server, events)
}

/// An echo with TLS, and how its handshakes fail.
fn back_end(
    driver: Driver,
    acceptor: impl Into<TlsAcceptor>,
) -> (RunningServer<Script>, Events<CloseReason>) {
    let (told, events) = common::events();
    let server = common::server(driver).listen(TLS).tls(acceptor);
    let server = common::start(server, move |_| {
        let told = told.clone();
        Script::new().failed(move |_, reason| told.send(reason).unwrap())
    });
    (server, events)
}

/// The address of a server by the host's name, or its IP address.
fn at(host: &str, server: &RunningServer<Script>) -> Connect {
    let port = common::address(server, 0).port();
    Connect::to(&format!("tls://{host}:{port}").parse::<Endpoint>().unwrap())
}

fn is_echo(told: &Told) -> bool {
    matches!(told, Told::Input(bytes) if bytes == b"hello")
}

every_driver! {
    fn a_server_that_is_who_it_says_is_talked_to(driver) {
        let authority = Authority::new();
        for versions in [TLS12, TLS13] {
            let (back, _) = back_end(driver, authority.server(BOTH));
            for host in ["localhost", "127.0.0.1"] {
                let client = common::server(driver).tls_client(authority.client(versions));
                let (client, events) = connecting(client, at(host, &back));
                let Told::Opened(info) = events.next() else { panic!("it opens") };
                assert_eq!(info.server_name.as_deref(), Some(host));
                assert_eq!(info.peer_certificates.len(), 1);
                assert!(is_echo(&events.next()));
                assert!(matches!(events.next(), Told::Closed(CloseReason::Local)));
                common::stop(client);
            }
            common::stop(back);
        }
    }

    fn a_server_that_is_not_is_told_by_an_alert_and_not_talked_to(driver) {
        let (authority, other) = (Authority::new(), Authority::new());
        let (back, back_events) = back_end(driver, authority.server(BOTH));
        let wrong_name =
            TlsConnector::new(authority.client(BOTH)).with_server_name("other.example").unwrap();
        let untrusted = TlsConnector::new(other.client(BOTH));
        for connector in [wrong_name, untrusted] {
            let client = common::server(driver).tls_client(connector);
            let (client, events) = connecting(client, at("127.0.0.1", &back));
            match events.next() {
                Told::Failed(CloseReason::Tls(error)) => {
                    assert!(error.to_string().contains("certificate"), "{error}");
                }
                told => panic!("{told:?}"),
            }
            assert!(matches!(back_events.next(), CloseReason::Tls(_)));
            assert_eq!(client.handle().stats().open_failures, 1);
            common::stop(client);
        }
        common::stop(back);
    }

    fn a_port_that_is_closed_or_speaks_no_tls_or_says_nothing_fails_as_such(driver) {
        let authority = Authority::new();
        let start = |port: u16, patience: Duration| {
            let to: Endpoint = format!("tls://127.0.0.1:{port}").parse().unwrap();
            let client = common::server(driver).handshake_timeout(patience);
            connecting(client.tls_client(authority.client(BOTH)), Connect::to(&to))
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (client, events) = start(port, Duration::from_millis(300));
        assert!(matches!(events.next(), Told::Failed(CloseReason::HandshakeTimeout)));
        common::stop(client);
        drop(listener);
        let patience = 2 * common::DEADLINE;
        let (client, events) = start(port, patience);
        assert!(matches!(events.next(), Told::Failed(CloseReason::ConnectFailed(_))));
        common::stop(client);
        let plain = common::start(common::server(driver).listen(TCP), |_| Script::new());
        let (client, events) = start(common::address(&plain, 0).port(), patience);
        assert!(matches!(events.next(), Told::Failed(CloseReason::Tls(_))));
        common::stop(client);
        common::stop(plain);
    }

    fn a_client_shows_its_certificate_where_it_has_one(driver) {
        let authority = Authority::new();
        for versions in [TLS12, TLS13] {
            let (back, back_events) = back_end(driver, authority.server_for_known(versions));
            let client = common::server(driver).tls_client(authority.known_client(BOTH));
            let (client, events) = connecting(client, at("localhost", &back));
            assert!(matches!(events.next(), Told::Opened(_)));
            assert!(is_echo(&events.next()));
            common::stop(client);
            let client = common::server(driver).tls_client(authority.client(BOTH));
            let (client, events) = connecting(client, at("localhost", &back));
            // A client of TLS 1.3 has done its part before the server looks at it.
            let told = match events.next() {
                Told::Opened(_) => events.next(),
                told => told,
            };
            assert!(
                matches!(told, Told::Failed(CloseReason::Tls(_)) | Told::Closed(CloseReason::Tls(_))),
                "{told:?}"
            );
            assert!(matches!(back_events.next(), CloseReason::Tls(_)));
            common::stop(client);
            common::stop(back);
        }
    }

    fn a_session_is_resumed_when_the_handler_connects_again(driver) {
        let authority = Authority::new();
        for versions in [TLS12, TLS13] {
            let (back, _) = back_end(driver, authority.server(versions));
            let client = common::server(driver).tls_client(authority.client(BOTH));
            let (client, events) = connecting_often(client, at("localhost", &back), 3);
            for resumed in [false, true, true] {
                let Told::Opened(info) = events.next() else { panic!("it opens") };
                assert_eq!(info.resumed, resumed);
                assert!(is_echo(&events.next()));
                assert!(matches!(events.next(), Told::Closed(CloseReason::Local)));
            }
            common::stop(client);
            common::stop(back);
        }
    }

    #[cfg_attr(not(unix), ignore = "over a Unix socket")]
    fn what_is_written_before_the_handshake_is_sent_behind_it_and_tls_runs_over_unix_too(driver) {
        let authority = Authority::new();
        let directory = Directory::new();
        let (_, url) = directory.socket("tls.sock");
        let back = common::server(driver).listen_tls(&url, authority.server(BOTH));
        let back = common::start(back, |_| Script::new());
        let connector =
            TlsConnector::new(authority.client(BOTH)).with_server_name("localhost").unwrap();
        let to = Connect::to(&url.parse::<Endpoint>().unwrap()).tls(connector);
        // Each connection gets one of its own to the back end, and what it says goes there.
        let front = common::start(common::server(driver).listen(TCP), move |_| {
            let to = to.clone();
            Script::new().traffic(move |conn, input| {
                if let Some(front) = conn.initiator() {
                    assert!(conn.tls().is_some());
                    conn.peer(front).unwrap().write(input.take_all());
                } else {
                    let back = conn.connect(to.clone()).unwrap();
                    conn.peer(back).unwrap().write(input.take_all());
                }
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&front, 0));
        assert_eq!(common::exchange(&mut client, b"through"), b"through");
        common::stop(front);
        common::stop(back);
    }

    fn a_client_begins_tls_in_mid_stream_and_says_nothing_in_plaintext_behind_that(driver) {
        let authority = Authority::new();
        let acceptor = TlsAcceptor::new(authority.server(BOTH));
        let back = common::start(common::server(driver).listen(TCP), move |_| {
            let acceptor = acceptor.clone();
            Script::new().traffic(move |conn, input| {
                if conn.tls().is_none() {
                    assert_eq!(input.take_all(), b"STARTTLS");
                    conn.write(b"ready");
                    conn.start_tls(&acceptor).unwrap();
                } else {
                    conn.write(input.take_all());
                }
                Action::Continue
            })
        });
        let connector =
            TlsConnector::new(authority.client(BOTH)).with_server_name("localhost").unwrap();
        let (told, events) = common::events();
        let to = common::address(&back, 0).to_string().parse::<Endpoint>().unwrap();
        let client = common::start(common::server(driver), move |_| {
            let (to, connector, told) = (to.clone(), connector.clone(), told.clone());
            let secured = told.clone();
            Script::new()
                .tick(move |cx| {
                    cx.connect(&to).unwrap();
                    None
                })
                .open(|conn| {
                    conn.write(b"STARTTLS");
                })
                .traffic(move |conn, input| {
                    told.send(input.take_all().to_vec()).unwrap();
                    if conn.tls().is_none() {
                        conn.start_tls(&connector).unwrap();
                        conn.write(b"password");
                    }
                    Action::Continue
                })
                .secured(move |conn| {
                    secured.send(conn.tls().unwrap().version.to_string().into_bytes()).unwrap();
                    Action::Continue
                })
        });
        assert_eq!(events.next(), b"ready");
        assert_eq!(events.next(), b"TLSv1.3");
        assert_eq!(events.next(), b"password");
        common::stop(client);
        common::stop(back);
    }

    fn a_connector_without_a_name_for_it_ends_the_connection(driver) {
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (accepted, is_accepted) = common::events();
        let is_accepted = Arc::new(Mutex::new(is_accepted));
        let peer = thread::spawn({
            let listener = listener.try_clone().unwrap();
            move || {
                let mut said = Vec::new();
                let mut stream = listener.accept().unwrap().0;
                accepted.send(()).unwrap();
                // It may end by a reset; what was said before that is what counts.
                let _ = stream.read_to_end(&mut said);
                said
            }
        });
        let connector = TlsConnector::new(authority.client(BOTH));
        let to: Endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (told, events) = common::events();
        let client = common::start(common::server(driver), move |_| {
            let (to, connector, told) = (to.clone(), connector.clone(), told.clone());
            let is_accepted = Arc::clone(&is_accepted);
            Script::new()
                .tick(move |cx| {
                    cx.connect(&to).unwrap();
                    None
                })
                .open(move |conn| {
                    // Windows hands out no connection that has been reset before.
                    is_accepted.lock().unwrap().next();
                    conn.start_tls(&connector).unwrap();
                    conn.write(b"password");
                })
                .close(move |_, reason| told.send(reason).unwrap())
        });
        assert!(matches!(events.next(), CloseReason::Tls(_)));
        common::stop(client);
        assert_eq!(peer.join().unwrap(), b"", "nothing in plaintext");
    }
}
