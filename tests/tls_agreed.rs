//! What is agreed on in handshakes, by whose configuration, and how the handler learns of it.

mod certificates;
mod closures;
mod common;
mod tls_client;

#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use certificates::{Authority, BOTH, Identity, provider};
#[cfg(unix)]
use closures::Directory;
use closures::Script;
#[cfg(unix)]
use closures::TCP;
use common::Events;
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use tightloop::tls::{TlsAcceptor, TlsInfo, TlsVersion};
use tightloop::{CloseReason, RunningServer, Server};
use tls_client::{TLS, TLS12, TLS13, client, exchange, over};

type Told = Result<TlsInfo, CloseReason>;

/// A server that echoes and tells what was agreed on, or why not.
fn agreeing(server: Server) -> (RunningServer<Script>, Events<Told>) {
    let (told, events) = common::events();
    let server = common::start(server, move |_| {
        let (opened, failed) = (told.clone(), told.clone());
        Script::new()
            .open(move |conn| opened.send(Ok(conn.tls().unwrap().clone())).unwrap())
            .failed(move |_, reason| failed.send(Err(reason)).unwrap())
    });
    (server, events)
}

fn with_protocols(mut config: ClientConfig, protocols: &[&str]) -> ClientConfig {
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

every_driver! {
    fn an_application_protocol_is_agreed_on_or_there_is_none_or_no_connection(driver) {
        let authority = Authority::new();
        for versions in [TLS12, TLS13] {
            let mut config: ServerConfig = authority.server(versions);
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let (server, events) = agreeing(common::server(driver).listen(TLS).tls(config));
            let to = common::address(&server, 0);
            let told = |protocols: &[&str]| {
                let config = with_protocols(authority.client(BOTH), protocols);
                let mut client = client(config, to);
                let _ = client.conn.complete_io(&mut client.sock);
                events.next()
            };
            assert_eq!(told(&["http/1.1", "h2"]).unwrap().alpn.unwrap(), b"h2");
            assert_eq!(told(&["http/1.1"]).unwrap().alpn.unwrap(), b"http/1.1");
            assert_eq!(told(&[]).unwrap().alpn, None);
            match told(&["gopher"]) {
                Err(CloseReason::Tls(error)) => assert!(error.to_string().contains("protocol")),
                other => panic!("{other:?}"),
            }
            common::stop(server);
        }
    }

    fn version_suite_and_name_are_told(driver) {
        let authority = Authority::new();
        let (server, events) =
            agreeing(common::server(driver).listen(TLS).tls(authority.server(BOTH)));
        let to = common::address(&server, 0);
        let told = |name: &str, versions| {
            let mut client = over(authority.client(versions), name, common::connect(to));
            tls_client::shake(&mut client);
            events.next().unwrap()
        };
        let new = told("localhost", BOTH);
        assert_eq!(new.version, TlsVersion::Tls13);
        assert!(new.cipher_suite.starts_with("TLS13_"), "{}", new.cipher_suite);
        assert_eq!(new.server_name.as_deref(), Some("localhost"));
        assert!(new.peer_certificates.is_empty() && !new.resumed);
        let old = told("127.0.0.1", TLS12);
        assert_eq!((old.version, old.version.to_string().as_str()), (TlsVersion::Tls12, "TLSv1.2"));
        assert!(old.cipher_suite.starts_with("TLS_ECDHE_ECDSA_WITH_"), "{}", old.cipher_suite);
        assert_eq!(old.server_name, None, "an address is no name to ask for");
        common::stop(server);
    }

    fn versions_without_common_ground_are_no_connection(driver) {
        let authority = Authority::new();
        let (server, events) =
            agreeing(common::server(driver).listen(TLS).tls(authority.server(TLS13)));
        let mut client = client(authority.client(TLS12), common::address(&server, 0));
        assert!(client.conn.complete_io(&mut client.sock).is_err());
        assert!(matches!(events.next(), Err(CloseReason::Tls(_))));
        common::stop(server);
    }

    fn the_name_that_a_client_asks_for_chooses_the_certificate(driver) {
        let authority = Authority::new();
        let names = ["one.example", "two.example"];
        let mut chooser = ResolvesServerCertUsingSni::new();
        for name in names {
            let Identity { chain, key, .. } = authority.identity(&[name]);
            let key = CertifiedKey::from_der(chain, key, &provider()).unwrap();
            chooser.add(name, key).unwrap();
        }
        let mut config = authority.server(BOTH);
        config.cert_resolver = Arc::new(chooser);
        let (server, events) = agreeing(common::server(driver).listen(TLS).tls(config));
        let to = common::address(&server, 0);
        for name in names {
            // The client checks the certificate for that name.
            let mut client = over(authority.client(BOTH), name, common::connect(to));
            assert_eq!(exchange(&mut client, name.as_bytes()), name.as_bytes());
            assert_eq!(events.next().unwrap().server_name.as_deref(), Some(name));
        }
        let mut client = over(authority.client(BOTH), "three.example", common::connect(to));
        assert!(client.conn.complete_io(&mut client.sock).is_err());
        assert!(matches!(events.next(), Err(CloseReason::Tls(_))));
        common::stop(server);
    }

    fn clients_prove_who_they_are_where_that_is_asked_for(driver) {
        let (authority, other) = (Authority::new(), Authority::new());
        for versions in [TLS12, TLS13] {
            let config = authority.server_for_known(versions);
            let (server, events) = agreeing(common::server(driver).listen(TLS).tls(config));
            let to = common::address(&server, 0);
            let mut known = client(authority.known_client(versions), to);
            assert_eq!(exchange(&mut known, b"it is me"), b"it is me");
            let info = events.next().unwrap();
            assert_eq!(info.peer_certificates.len(), 1);
            assert!(info.peer_certificates[0].starts_with(&[0x30]), "DER");
            // One without a certificate, and one with that of another authority.
            let mut stranger = other.known_client(versions);
            stranger.dangerous().set_certificate_verifier(
                rustls::client::WebPkiServerVerifier::builder_with_provider(
                    Arc::new(authority.roots()),
                    provider(),
                ).build().unwrap(),
            );
            for config in [authority.client(versions), stranger] {
                let mut client = client(config, to);
                let _ = client.conn.complete_io(&mut client.sock);
                let error = common::is_closed(&mut client);
                assert!(error, "it is told by an alert");
                assert!(matches!(events.next(), Err(CloseReason::Tls(_))));
            }
            common::stop(server);
        }
    }

    fn a_session_is_resumed_when_the_client_comes_again(driver) {
        let authority = Authority::new();
        for versions in [TLS12, TLS13] {
            let (server, events) =
                agreeing(common::server(driver).listen(TLS).tls(authority.server(versions)));
            let config = Arc::new(authority.client(BOTH));
            for resumed in [false, true, true] {
                let mut client = client(Arc::clone(&config), common::address(&server, 0));
                assert_eq!(exchange(&mut client, b"again"), b"again");
                assert_eq!(events.next().unwrap().resumed, resumed);
                tls_client::close(&mut client);
            }
            common::stop(server);
        }
    }

    fn a_configuration_that_is_replaced_serves_handshakes_from_then_on(driver) {
        let (old, new) = (Authority::new(), Authority::new());
        let acceptor = TlsAcceptor::new(old.server(BOTH));
        let (server, events) = agreeing(common::server(driver).listen(TLS).tls(&acceptor));
        let to = common::address(&server, 0);
        let mut before = client(old.client(BOTH), to);
        assert_eq!(exchange(&mut before, b"one"), b"one");
        assert!(events.next().is_ok());
        acceptor.replace(new.server(BOTH));
        let mut behind = client(new.client(BOTH), to);
        assert_eq!(exchange(&mut behind, b"two"), b"two");
        assert!(events.next().is_ok());
        assert_eq!(exchange(&mut before, b"three"), b"three");
        let mut outdated = client(old.client(BOTH), to);
        assert!(outdated.conn.complete_io(&mut outdated.sock).is_err());
        assert!(matches!(events.next(), Err(CloseReason::Tls(_))));
        common::stop(server);
    }

    #[cfg(unix)]
    fn listeners_have_configurations_of_their_own_or_none(driver) {
        let authorities = [Authority::new(), Authority::new(), Authority::new()];
        let directory = Directory::new();
        let (path, url) = directory.socket("tls.sock");
        let server = common::server(driver)
            .listen(TLS)
            .tls(authorities[0].server(BOTH))
            .listen_tls(TCP, authorities[1].server(BOTH))
            .listen_tls(url, authorities[2].server(BOTH))
            .listen(TCP);
        let server = common::start(server, |_| Script::new());
        for number in [0, 1] {
            let to = common::address(&server, number);
            let mut good = client(authorities[number].client(BOTH), to);
            assert_eq!(exchange(&mut good, b"fine"), b"fine");
            let mut bad = client(authorities[2].client(BOTH), to);
            assert!(bad.conn.complete_io(&mut bad.sock).is_err());
        }
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(common::DEADLINE)).unwrap();
        let mut local = over(authorities[2].client(BOTH), "localhost", stream);
        let message = common::pattern(300_000);
        for part in message.chunks(100_000) {
            assert_eq!(exchange(&mut local, part), part);
        }
        let mut plain = common::connect(common::address(&server, 3));
        assert_eq!(common::exchange(&mut plain, b"plain"), b"plain");
        common::stop(server);
    }

    fn every_loop_speaks_tls_however_connections_come_to_it(driver) {
        let authority = Authority::new();
        for reuse_port in [false, true] {
            let server = common::server(driver).loops(2).reuse_port(reuse_port && common::SPREADS).listen(TLS);
            let server = common::start(server.tls(authority.server(BOTH)), |_| Script::new());
            let config = Arc::new(authority.client(BOTH));
            let mut clients: Vec<_> = (0..16)
                .map(|_| client(Arc::clone(&config), common::address(&server, 0)))
                .collect();
            for client in &mut clients {
                assert_eq!(exchange(client, b"hello"), b"hello");
            }
            assert_eq!(server.handle().stats().handshakes, 16);
            common::stop(server);
        }
    }

    fn an_adopted_connection_begins_tls_where_the_handler_says_so(driver) {
        let authority = Authority::new();
        let acceptor = TlsAcceptor::new(authority.server(BOTH));
        let server = common::start(common::server(driver).listen(TLS).tls(&acceptor), move |_| {
            let acceptor = acceptor.clone();
            Script::new().open(move |conn| {
                if conn.listener().is_none() {
                    conn.start_tls(&acceptor).unwrap();
                }
            })
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = common::connect(listener.local_addr().unwrap());
        server.handle().adopt_tcp(listener.accept().unwrap().0).unwrap();
        let mut client = over(authority.client(BOTH), "localhost", stream);
        assert_eq!(exchange(&mut client, b"adopted"), b"adopted");
        common::stop(server);
    }
}
