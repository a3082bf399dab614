//! OpenSSL as the other side: a client that renegotiates, and a server that a handler connects to.
//! Skipped where there is no `openssl`; `ci/tls.py` has what clients of the examples see.

mod certificates;
mod closures;
mod common;
mod tls_client;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use certificates::{Authority, BOTH, Versions};
use closures::{Directory, Script};
use tightloop::tls::TlsVersion;
use tightloop::{Action, CloseReason, Endpoint};
use tls_client::{TLS, TLS12, TLS13};

/// Ended with the test, whatever becomes of that.
struct OpenSsl(Child);

impl OpenSsl {
    fn start(arguments: &[&str]) -> OpenSsl {
        let child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        OpenSsl(child.expect("openssl starts"))
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_there() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok();
    if !found {
        println!("skipped: there is no openssl");
    }
    found
}

every_driver! {
    fn a_client_that_renegotiates_is_refused_and_others_stay(driver) {
        if !is_there() {
            return;
        }
        let authority = Authority::new();
        let (told, events) = common::events();
        let server = common::server(driver).listen(TLS).tls(authority.server(TLS12));
        let server = common::start(server, move |_| {
            let (seen, told) = (told.clone(), told.clone());
            Script::new()
                .traffic(move |conn, input| {
                    seen.send(Ok(input.len())).unwrap();
                    conn.write(input.take_all());
                    Action::Continue
                })
                .close(move |_, reason| told.send(Err(reason)).unwrap())
        });
        let to = common::address(&server, 0);
        let mut other = tls_client::client(authority.client(BOTH), to);
        assert_eq!(tls_client::exchange(&mut other, b"one"), b"one");
        assert_eq!(events.next().unwrap(), 3);
        let mut client = OpenSsl::start(&["s_client", "-tls1_2", "-connect", &to.to_string()]);
        let input = client.0.stdin.as_mut().unwrap();
        input.write_all(b"hello\n").unwrap();
        assert_eq!(events.next().unwrap(), 6);
        input.write_all(b"R\n").unwrap();
        // It takes the refusal for an error, and leaves.
        let reason = events.next().unwrap_err();
        assert!(
            matches!(
                reason,
                CloseReason::PeerClosed
                    | CloseReason::Truncated
                    | CloseReason::Tls(_)
                    | CloseReason::PeerReset(_)
            ),
            "{reason:?}"
        );
        assert_eq!(tls_client::exchange(&mut other, b"two"), b"two");
        assert_eq!(server.handle().stats().handshakes, 2);
        common::stop(server);
    }

    fn a_handler_talks_to_a_server_of_openssl(driver) {
        if !is_there() {
            return;
        }
        let authority = Authority::new();
        let identity = authority.identity(&["localhost"]);
        let directory = Directory::new();
        let (cert, key) = (directory.0.join("cert.pem"), directory.0.join("key.pem"));
        std::fs::write(&cert, &identity.chain_pem).unwrap();
        std::fs::write(&key, &identity.key_pem).unwrap();
        let versions: [(&str, Versions, _); 2] =
            [("-tls1_2", TLS12, TlsVersion::Tls12), ("-tls1_3", TLS13, TlsVersion::Tls13)];
        for (flag, versions, version) in versions {
            // It answers each line with the line reversed.
            let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
            let mut peer = OpenSsl::start(&[
                "s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key, "-alpn", "a,b",
                "-rev", flag,
            ]);
            let lines = BufReader::new(peer.0.stdout.take().unwrap()).lines();
            let port = lines
                .map(|line| line.unwrap())
                .find_map(|line| Some(line.strip_prefix("ACCEPT ")?.rsplit(':').next()?.to_owned()))
                .unwrap();
            let to: Endpoint = format!("tls://localhost:{port}").parse().unwrap();
            let mut config = authority.client(versions);
            config.alpn_protocols = vec![b"b".to_vec()];
            let (told, events) = common::events();
            let client = common::start(common::server(driver).tls_client(config), move |_| {
                let (to, told) = (to.clone(), told.clone());
                let opened = told.clone();
                Script::new()
                    .tick(move |cx| {
                        cx.connect(&to).unwrap();
                        None
                    })
                    .open(move |conn| {
                        let info = conn.tls().unwrap();
                        let agreed = format!("{} {:?}", info.version, info.alpn);
                        opened.send(agreed).unwrap();
                        conn.write(b"!dlrow ,olleH\n");
                    })
                    .traffic(move |_, input| {
                        if !input.as_slice().ends_with(b"\n") {
                            return Action::Continue;
                        }
                        told.send(String::from_utf8(input.take_all().to_vec()).unwrap()).unwrap();
                        Action::Close
                    })
            });
            assert_eq!(events.next(), format!("{version} {:?}", Some(b"b")));
            assert_eq!(events.next(), "Hello, world!\n");
            common::stop(client);
        }
    }
}
