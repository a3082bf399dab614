//! Limits, timeouts, pauses and panics reach through TLS: they count what the handler wrote and
//! was given.

mod certificates;
mod closures;
mod common;
mod tls_client;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use certificates::{Authority, BOTH, Identity};
use closures::{Script, TCP};
use common::Events;
use rustls::crypto::{CipherSuiteCommon, ring};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedCipherSuite, Tls12CipherSuite};
use tightloop::tls::TlsAcceptor;
use tightloop::{Action, CloseReason, RunningServer, Server};
use tls_client::{TLS, TLS12, TLS13};

/// A resolver of certificates that panics over one name.
#[derive(Debug)]
struct Touchy(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Touchy {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        assert!(hello.server_name() != Some("evil.example"), "what a name");
        self.0.resolve(hello)
    }
}

/// A server of TLS 1.2 whose keys may encrypt ten records.
fn with_short_lived_keys(authority: &Authority) -> ServerConfig {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain_mut(|suite| {
        let SupportedCipherSuite::Tls12(good) = *suite else { return false };
        let common = CipherSuiteCommon { confidentiality_limit: 10, ..good.common };
        let short_lived = Tls12CipherSuite { common, ..*good };
        *suite = SupportedCipherSuite::Tls12(Box::leak(Box::new(short_lived)));
        true
    });
    let Identity { chain, key, .. } = authority.identity(&["localhost"]);
    ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(TLS12)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a server's configuration")
}

/// Starts a server that echoes and tells why its connections end.
fn telling_its_ends(server: Server) -> (RunningServer<Script>, Events<CloseReason>) {
    let (told, events) = common::events();
    let server = common::start(server, move |_| {
        let told = told.clone();
        Script::new().close(move |_, reason| told.send(reason).unwrap())
    });
    (server, events)
}

every_driver! {
    fn who_is_sent_away_by_a_timeout_gets_a_close_notify(driver) {
        let authority = Authority::new();
        // The client has to say something by then.
        common::patiently(Duration::from_millis(200), |time| {
            let server = common::server(driver).listen(TLS).tls(authority.server(BOTH));
            let (server, events) = telling_its_ends(server.idle_timeout(time));
            let mut client = tls_client::client(authority.client(BOTH), common::address(&server, 0));
            assert_eq!(tls_client::exchange(&mut client, b"fine"), b"fine");
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "without it this would be an error");
            assert!(matches!(events.next(), CloseReason::IdleTimeout));
            common::stop(server);
        });
    }

    fn a_stop_says_close_notify_to_those_who_are_open(driver) {
        let authority = Authority::new();
        let server = common::server(driver).listen(TLS).tls(authority.server(BOTH));
        let server = common::start(server, |_| Script::new());
        let to = common::address(&server, 0);
        let mut client = tls_client::client(authority.client(BOTH), to);
        assert_eq!(tls_client::exchange(&mut client, b"fine"), b"fine");
        let mut silent = common::connect(to);
        common::eventually("both are there", || server.handle().stats().accepted == 2);
        common::stop(server);
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0, "its handshake was never begun");
    }

    fn many_small_requests_in_one_packet_wait_while_the_answers_are_above_the_high_watermark(driver) {
        // Each answer is above the high watermark; ten of them would be more than may be pending.
        const ANSWER: usize = 100_000;
        let authority = Authority::new();
        let server = common::server(driver).listen(TLS).tls(authority.server(BOTH));
        let server = server.high_watermark(50_000).low_watermark(10_000).max_pending_output(10 * ANSWER);
        let server = common::start(server, |_| {
            Script::new().traffic(|conn, input| {
                input.consume(1);
                conn.write(&common::pattern(ANSWER));
                Action::Continue
            })
        });
        let mut client = tls_client::client(authority.client(BOTH), common::address(&server, 0));
        tls_client::shake(&mut client);
        for _ in 0..100 {
            client.conn.writer().write_all(b"?").unwrap();
        }
        client.flush().unwrap();
        for _ in 0..100 {
            assert_eq!(common::read(&mut client, ANSWER), common::pattern(ANSWER));
        }
        common::stop(server);
    }

    fn what_comes_while_the_last_answer_is_on_its_way_is_not_looked_at(driver) {
        // More than sockets take.
        const LENGTH: usize = 20_000_000;
        let authority = Authority::new();
        let (told, events) = common::events();
        let server = common::server(driver).listen(TLS).tls(authority.server(BOTH));
        let server = common::start(server, move |_| {
            let told = told.clone();
            Script::new()
                .traffic(|conn, input| {
                    input.take_all();
                    conn.write(&common::pattern(LENGTH));
                    conn.close();
                    Action::Continue
                })
                .close(move |_, reason| told.send(reason).unwrap())
        });
        let mut client = tls_client::client(authority.client(BOTH), common::address(&server, 0));
        client.write_all(b"the end").unwrap();
        assert!(common::read(&mut client, 1_000_000) == common::pattern(LENGTH)[..1_000_000]);
        client.sock.write_all(b"no TLS while the answer is on its way").unwrap();
        assert!(common::read_to_end(&mut client) == common::pattern(LENGTH)[1_000_000..]);
        assert!(matches!(events.next(), CloseReason::Local));
        common::stop(server);
    }

    fn a_callback_of_the_configuration_that_panics_ends_its_connection_only(driver) {
        let authority = Authority::new();
        let mut config = authority.server(BOTH);
        config.cert_resolver = Arc::new(Touchy(config.cert_resolver));
        let (told, events) = common::events();
        let server = common::server(driver).listen(TLS).tls(config);
        let server = common::start(server, move |_| {
            let told = told.clone();
            Script::new().failed(move |_, reason| told.send(reason).unwrap())
        });
        let to = common::address(&server, 0);
        let mut good = tls_client::client(authority.client(BOTH), to);
        tls_client::shake(&mut good);
        let mut evil = tls_client::session(authority.client(BOTH), "evil.example");
        let mut stream = common::connect(to);
        stream.write_all(&tls_client::wire(&mut evil)).unwrap();
        assert!(common::is_closed(&mut stream));
        match events.next() {
            CloseReason::HandlerPanicked(message) => assert_eq!(message, "what a name"),
            other => panic!("{other:?}"),
        }
        assert_eq!(tls_client::exchange(&mut good, b"still here"), b"still here");
        common::stop_after_panics(server, 1);
    }

    fn a_flood_of_handshakes_leaves_each_turn_to_the_open_connections(driver) {
        const FLOOD: usize = 200;
        let authority = Authority::new();
        let server = common::server(driver).handshakes_per_turn(1).listen(TCP).listen(TLS);
        let (told, events) = common::events();
        let server = common::start(server.tls(authority.server(TLS13)), move |_| {
            let told = told.clone();
            Script::new().traffic(move |conn, input| {
                if input.take_all() == b"wait" {
                    // The flood comes meanwhile; it is seen all at once.
                    told.send((0, 0)).unwrap();
                    closures::be_busy(Duration::from_millis(300));
                }
                let stats = conn.server().stats();
                told.send((stats.turns, stats.bytes_out)).unwrap();
                conn.write(b"here");
                Action::Continue
            })
        });
        let mut open = common::connect(common::address(&server, 0));
        let mut session = tls_client::session(authority.client(TLS13), "localhost");
        let hello = tls_client::wire(&mut session);
        let mut one = common::connect(common::address(&server, 1));
        one.write_all(&hello).unwrap();
        common::eventually("it is answered", || server.handle().stats().bytes_out > 0);
        // They differ in the length of the signature, by some bytes.
        let flight = server.handle().stats().bytes_out + 16;
        let mut flood: Vec<_> =
            (0..FLOOD).map(|_| common::connect(common::address(&server, 1))).collect();
        common::eventually("all are there", || {
            server.handle().stats().accepted == FLOOD as u64 + 2
        });
        open.write_all(b"wait").unwrap();
        events.next();
        for stream in &mut flood {
            stream.write_all(&hello).unwrap();
        }
        common::read(&mut open, 4);
        let (first_turn, first_bytes) = events.next();
        for _ in 0..10 {
            open.write_all(b"?").unwrap();
            common::read(&mut open, 4);
            let (turns, bytes) = events.next();
            let (steps, turns) = ((bytes - first_bytes) / flight, turns - first_turn);
            assert!(steps <= turns + 1, "{steps} steps in {turns} turns");
        }
        for stream in &mut flood {
            assert_eq!(common::read(stream, 1), [22], "each gets its answer");
        }
        assert!(server.handle().stats().handshake_waits > 0);
        common::stop(server);
    }

    fn a_closing_connection_whose_handshake_waits_is_not_read_from(driver) {
        const FLOOD: usize = 100;
        let authority = Authority::new();
        let tls = TlsAcceptor::new(authority.server(TLS13));
        let most = Arc::new(AtomicU64::new(0));
        let server: Server = common::server(driver).handshakes_per_turn(1).listen(TCP).listen(TLS);
        let server = common::start(server.tls(&tls), {
            let most = Arc::clone(&most);
            move |_| {
                let (tls, most) = (tls.clone(), Arc::clone(&most));
                Script::new()
                    .traffic(move |conn, input| {
                        input.consume(1);
                        closures::be_busy(Duration::from_millis(200));
                        conn.start_tls(&tls).unwrap();
                        conn.write(&common::pattern(100_000));
                        Action::Close
                    })
                    .tick(move |cx| {
                        most.fetch_max(cx.server().stats().buffered_bytes, Ordering::Relaxed);
                        Some(Duration::from_millis(1))
                    })
            }
        });
        let mut flood: Vec<_> =
            (0..FLOOD).map(|_| common::connect(common::address(&server, 1))).collect();
        common::eventually("all are there", || server.handle().stats().accepted == FLOOD as u64);
        let mut session = tls_client::session(authority.client(TLS13), "localhost");
        let hello = tls_client::wire(&mut session);
        let mut stream = common::connect(common::address(&server, 0));
        stream.write_all(&[b"!", &hello[..]].concat()).unwrap();
        for other in &mut flood {
            other.write_all(&hello).unwrap();
        }
        let mut client = rustls::StreamOwned::new(session, stream);
        assert_eq!(common::read_to_end(&mut client), common::pattern(100_000));
        assert!(most.load(Ordering::Relaxed) < 2 << 20, "{most:?} bytes were held");
        common::stop(server);
    }

    fn who_ends_its_handshake_and_says_nothing_owes_its_first_byte(driver) {
        let authority = Authority::new();
        // Whoever speaks has to have spoken by then.
        common::patiently(Duration::from_millis(300), |time| {
            let server = common::server(driver).listen(TLS).tls(authority.server(BOTH));
            let (server, events) = telling_its_ends(server.first_byte_timeout(time));
            let to = common::address(&server, 0);
            for config in [authority.client(TLS13), authority.client(BOTH)] {
                let config = Arc::new(config);
                let mut speaks = tls_client::client(Arc::clone(&config), to);
                assert_eq!(tls_client::exchange(&mut speaks, b"fine"), b"fine");
                let mut silent = tls_client::client(config, to);
                tls_client::shake(&mut silent);
                assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0);
                let reason = events.next();
                assert!(matches!(reason, CloseReason::FirstByteTimeout), "{reason}");
                assert_eq!(tls_client::exchange(&mut speaks, b"fine"), b"fine");
                drop(speaks);
                let reason = events.next();
                assert!(!matches!(reason, CloseReason::FirstByteTimeout), "{reason}");
            }
            common::stop(server);
        });
    }

    fn keys_that_are_used_up_end_the_connection_and_nothing_lost_is_told_as_sent(driver) {
        let authority = Authority::new();
        let (told, events) = common::events();
        let config = with_short_lived_keys(&authority);
        let server = common::server(driver).listen(TLS).tls(config);
        let server = common::start(server, move |_| {
            let (sent, closed) = (told.clone(), told.clone());
            Script::new()
                .traffic(move |conn, input| {
                    let (answer, sent) = (input.take_all().to_vec(), sent.clone());
                    let told = move |result: Result<_, _>| sent.send(Ok(result.is_ok())).unwrap();
                    conn.handle().write_then(answer, told).unwrap();
                    Action::Continue
                })
                .close(move |_, reason| closed.send(Err(reason)).unwrap())
        });
        let to = common::address(&server, 0);
        let mut client = tls_client::client(authority.client(TLS12), to);
        let message = common::pattern(100);
        let mut answers = 0;
        loop {
            client.write_all(&message).unwrap();
            let mut answer = Vec::new();
            (&mut client).take(100).read_to_end(&mut answer).unwrap();
            if answer.is_empty() {
                break;
            }
            assert_eq!(answer, message);
            assert!(events.next().unwrap(), "it was sent");
            answers += 1;
        }
        assert!((1..10).contains(&answers), "{answers} answers");
        assert!(!events.next().unwrap(), "the last one was not sent");
        let reason = events.next().unwrap_err();
        assert!(matches!(reason, CloseReason::Tls(_)), "{reason:?}");
        common::stop(server);
    }

    fn what_is_said_and_ended_with_the_handshake_arrives_though_that_had_to_wait(driver) {
        const CLIENTS: usize = 40;
        let authority = Authority::new();
        let (told, events) = common::events();
        let server = common::server(driver).listen(TLS).tls(authority.server(TLS13));
        let server = server.handshakes_per_turn(1).listen(TCP);
        let server = common::start(server, move |_| {
            let (heard, closed, failed) = (told.clone(), told.clone(), told.clone());
            Script::new()
                .traffic(move |_, input| {
                    let length = input.take_all().len();
                    heard.send(format!("{length} bytes")).unwrap();
                    if length == 4 {
                        // All of them come meanwhile.
                        closures::be_busy(Duration::from_millis(200));
                    }
                    Action::Continue
                })
                .close(move |_, reason| closed.send(format!("{reason:?}")).unwrap())
                .failed(move |_, reason| failed.send(format!("{reason:?}")).unwrap())
        });
        let config = Arc::new(authority.client(TLS13));
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut session = tls_client::session(Arc::clone(&config), "localhost");
            let mut stream = common::connect(common::address(&server, 0));
            stream.write_all(&tls_client::wire(&mut session)).unwrap();
            tls_client::listen_until(&mut session, &mut stream, |s| !s.is_handshaking());
            session.writer().write_all(b"all").unwrap();
            session.send_close_notify();
            clients.push((stream, tls_client::wire(&mut session)));
        }
        let mut busy = common::connect(common::address(&server, 1));
        busy.write_all(b"wait").unwrap();
        assert_eq!(events.next(), "4 bytes");
        for (stream, last) in &mut clients {
            stream.write_all(last).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let mut heard: Vec<String> = (0..2 * CLIENTS).map(|_| events.next()).collect();
        heard.sort();
        assert!(server.handle().stats().handshake_waits > 0, "none had to wait");
        assert!(heard[..CLIENTS].iter().all(|what| what == "3 bytes"), "{heard:?}");
        assert!(heard[CLIENTS..].iter().all(|what| what == "PeerClosed"), "{heard:?}");
        drop(clients);
        common::stop(server);
    }
}

#[test]
fn a_configuration_is_shared_by_the_clones_of_its_acceptor() {
    let authority = Authority::new();
    let first: Arc<ServerConfig> = Arc::new(authority.server(BOTH));
    let second: Arc<ServerConfig> = Arc::new(authority.server(BOTH));
    let acceptor = TlsAcceptor::new(Arc::clone(&first));
    let clone = acceptor.clone();
    assert!(Arc::ptr_eq(&clone.config(), &first));
    acceptor.replace(Arc::clone(&second));
    assert!(Arc::ptr_eq(&clone.config(), &second));
}
