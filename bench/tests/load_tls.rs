//! `load` over TLS: whom it trusts, and what it says of others.

mod common;

use std::sync::Arc;

use common::{Echo, load};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tightloop::Server;
use tightloop::tls::TlsAcceptor;

#[test]
fn the_certificate_is_checked_for_the_name_unless_told_otherwise() {
    let names = vec!["bench.example".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let server = Server::new()
        .listen_tls("tls://127.0.0.1:0", TlsAcceptor::new(config))
        .start(|_loop| Echo)
        .unwrap();
    let port = server.local_addrs()[0].port().unwrap();
    let ca = format!("{}/ca.pem", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&ca, cert.pem()).unwrap();

    let url = format!("tls://127.0.0.1:{port}");
    for arguments in [
        "-c 3 --ca CA",
        "-c 3 -p 4 -s 20000 --insecure",
        "-c 2 --ca CA --server-name bench.example",
    ] {
        load(&format!("{url} {}", arguments.replace("CA", &ca))).success();
    }
    let outcome = load(&format!("{url} -c 1 --ca {ca} --server-name other.example"));
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.stderr.contains("cannot connect") && outcome.stderr.contains("TLS"),
        "{}",
        outcome.stderr
    );
    // Plain bytes to a server of TLS, and TLS to one of plain bytes.
    let outcome = load(&format!("tcp://127.0.0.1:{port} -c 1"));
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    let plain = common::serve("tcp://127.0.0.1:0", || Echo);
    let outcome = load(&format!("tls://127.0.0.1:{} -c 1 --insecure", plain.port()));
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("TLS"), "{}", outcome.stderr);
    server.stop();
    server.join().unwrap();
}
