//! TLS on listeners and endpoints: the handler sees plaintext, and learns what was agreed on.

mod certificates;
mod closures;
mod common;
mod tls_client;

use std::io::{Read, Write};
use std::sync::Arc;

use certificates::{Authority, BOTH};
use closures::Script;
use rustls::StreamOwned;
use tightloop::tls::TlsVersion;
use tightloop::{Action, Address, Balancer, CloseReason};
use tls_client::{TLS, TLS12, TLS13, client};

/// Sends a connection where the fewest are, as the numbers say, and of those to the first.
struct Fewest;

impl Balancer for Fewest {
    fn pick(&mut self, _: &Address, connections: &[usize]) -> usize {
        (0..connections.len()).min_by_key(|i| connections[*i]).unwrap()
    }
}

every_driver! {
    fn a_balancer_counts_those_in_their_handshake_too(driver) {
        let authority = Authority::new();
        let server = common::server(driver).loops(3).balancer(|| Fewest);
        let server = server.listen(TLS).tls(authority.server(BOTH));
        let server = common::start(server, |info| {
            Script::new().open(move |conn| {
                conn.write(&[info.index as u8]);
            })
        });
        let to = common::address(&server, 0);
        let begin = |_| {
            let mut session = tls_client::session(authority.client(BOTH), "localhost");
            let mut stream = common::connect(to);
            stream.write_all(&tls_client::wire(&mut session)).unwrap();
            // It has been taken over: there is an answer.
            assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
            StreamOwned::new(session, stream)
        };
        let clients: Vec<_> = (0..6).map(begin).collect();
        let mut counts = [0; 3];
        for mut client in clients {
            let mut index = [0];
            client.read_exact(&mut index).unwrap();
            counts[usize::from(index[0])] += 1;
        }
        assert_eq!(counts, [2, 2, 2]);
        common::stop(server);
    }

    fn what_comes_in_encrypted_goes_out_encrypted(driver) {
        for (versions, version) in [(TLS12, TlsVersion::Tls12), (TLS13, TlsVersion::Tls13)] {
            let authority = Authority::new();
            let (told, events) = common::events();
            let server = common::server(driver).listen(TLS).tls(authority.server(BOTH));
            let server = common::start(server, move |_| {
                let (opened, closed) = (told.clone(), told.clone());
                Script::new()
                    .open(move |conn| opened.send(Ok(conn.tls().unwrap().clone())).unwrap())
                    .close(move |_, reason| closed.send(Err(reason)).unwrap())
            });
            let mut client = client(authority.client(versions), common::address(&server, 0));
            let message = common::pattern(100_000);
            client.write_all(&message).unwrap();
            assert_eq!(common::read(&mut client, message.len()), message);
            let info = events.next().unwrap();
            assert_eq!(info.version, version);
            assert_eq!(info.server_name.as_deref(), Some("localhost"));
            assert!(info.cipher_suite.contains("AES") || info.cipher_suite.contains("CHACHA"));
            client.conn.send_close_notify();
            client.flush().unwrap();
            // The server answers with its own: without it this would be an error.
            assert_eq!(common::read_to_end(&mut client), b"");
            assert!(matches!(events.next(), Err(CloseReason::PeerClosed)));
            common::stop(server);
        }
    }

    fn a_handler_greets_and_closes_and_the_client_reads_the_whole_and_the_end(driver) {
        let authority = Authority::new();
        let server = common::server(driver).listen(TLS).tls(authority.server(BOTH));
        let server = common::start(server, |_| {
            Script::new().open(|conn| {
                conn.write(&common::pattern(3_000_000));
            }).traffic(
                |_, input| {
                    input.take_all();
                    Action::Close
                },
            )
        });
        let mut client = client(authority.client(BOTH), common::address(&server, 0));
        client.write_all(b"go").unwrap();
        assert_eq!(common::read_to_end(&mut client), common::pattern(3_000_000));
        common::stop(server);
    }

    fn a_peer_that_speaks_no_tls_gets_an_alert_and_the_end(driver) {
        let authority = Authority::new();
        let (told, events) = common::events();
        let server = common::server(driver).listen(TLS).tls(authority.server(BOTH));
        let server = common::start(server, move |_| {
            let told = told.clone();
            Script::new()
                .open(|_| panic!("it is not open"))
                .failed(move |conn, reason| told.send((conn.peer_addr(), reason)).unwrap())
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let answer = common::read_to_end(&mut client);
        assert_eq!(answer[0], 21, "an alert: {answer:?}");
        let (peer, reason) = events.next();
        assert_eq!(peer.socket_addr(), Some(client.local_addr().unwrap()));
        assert!(matches!(reason, CloseReason::Tls(_)), "{reason:?}");
        drop(client);
        common::stop(server);
    }

    fn a_stream_that_ends_without_close_notify_was_truncated(driver) {
        let authority = Authority::new();
        let (told, events) = common::events();
        let server = common::server(driver).listen(TLS).tls(authority.server(BOTH));
        let server = common::start(server, move |_| {
            let told = told.clone();
            Script::new().close(move |_, reason| told.send(reason).unwrap())
        });
        let mut client = client(authority.client(BOTH), common::address(&server, 0));
        client.write_all(b"half").unwrap();
        assert_eq!(common::read(&mut client, 4), b"half");
        client.sock.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(matches!(events.next(), CloseReason::Truncated));
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "our own close_notify");
        common::stop(server);
    }

    fn a_peer_that_leaves_behind_its_close_notify_has_closed_in_order(driver) {
        let authority = Authority::new();
        let (told, events) = common::events();
        let (left, wait) = std::sync::mpsc::channel();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let server = common::server(driver).half_close(true).listen(TLS).tls(authority.server(BOTH));
        let server = common::start(server, move |_| {
            let (told, wait) = (told.clone(), Arc::clone(&wait));
            Script::new()
                .eof(move |conn| {
                    // Our close_notify is to meet a socket that is gone.
                    wait.lock().unwrap().recv_timeout(common::DEADLINE).unwrap();
                    conn.shutdown_write();
                    Action::Continue
                })
                .close(move |_, reason| told.send(reason).unwrap())
        });
        let mut client = client(authority.client(BOTH), common::address(&server, 0));
        client.write_all(b"ping").unwrap();
        assert_eq!(common::read(&mut client, 4), b"ping");
        client.conn.send_close_notify();
        client.flush().unwrap();
        drop(client);
        left.send(()).unwrap();
        let reason = events.next();
        assert!(matches!(reason, CloseReason::PeerClosed), "{reason:?}");
        common::stop(server);
    }
}
