//! TLS begun in mid-stream (STARTTLS), on the server's side.

mod certificates;
mod closures;
mod common;
mod tls_client;

use std::io::Write;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use certificates::{Authority, BOTH};
use closures::{Script, TCP};
use tightloop::tls::{StartTls, TlsAcceptor};
use tightloop::{Action, CloseReason, Conn, Error, Input, Server};
use tls_client::{TLS, TLS12, TLS13, over, shake};

const COMMAND: &[u8] = b"STARTTLS\r\n";
const READY: &[u8] = b"220 ready\r\n";

/// Answers the command in plaintext and begins; everything else is echoed.
fn start_or_echo(tls: &TlsAcceptor, conn: &mut Conn<'_>, input: &mut Input<'_>) -> Action {
    if input.as_slice().starts_with(COMMAND) && conn.tls().is_none() {
        input.consume(COMMAND.len());
        conn.write(READY);
        conn.start_tls(tls).unwrap();
        assert!(matches!(conn.start_tls(tls), Err(Error::Unsupported { .. })), "once is enough");
    } else {
        conn.write(input.take_all());
    }
    Action::Continue
}

/// The TLS of a server, and who vouches for it.
fn acceptor() -> (Authority, TlsAcceptor) {
    let authority = Authority::new();
    let tls = TlsAcceptor::new(authority.server(BOTH));
    (authority, tls)
}

/// Asks for TLS and reads the answer, to its last byte.
fn ask(server: std::net::SocketAddr) -> std::net::TcpStream {
    let mut stream = common::connect(server);
    assert_eq!(common::exchange(&mut stream, b"hello"), b"hello");
    stream.write_all(COMMAND).unwrap();
    assert_eq!(common::read(&mut stream, READY.len()), READY);
    stream
}

/// Asks for TLS with a command behind it, in the same piece.
fn smuggle(server: std::net::SocketAddr) -> (std::net::TcpStream, Vec<u8>) {
    let mut stream = common::connect(server);
    let message = [COMMAND, b"MAIL FROM:<mallory>\r\n"].concat();
    stream.write_all(&message).unwrap();
    (stream, message)
}

every_driver! {
    fn what_is_said_behind_the_command_is_encrypted_in_both_directions(driver) {
        for versions in [TLS12, TLS13] {
            let (authority, tls) = acceptor();
            let (told, events) = common::events();
            let server = common::start(common::server(driver).listen(TCP), move |_| {
                let (tls, secured, closed) = (tls.clone(), told.clone(), told.clone());
                Script::new()
                    .traffic(move |conn, input| start_or_echo(&tls, conn, input))
                    .secured(move |conn| {
                        secured.send(format!("{}", conn.tls().unwrap().version)).unwrap();
                        conn.write(b"secured");
                        Action::Continue
                    })
                    .close(move |conn, reason| {
                        closed.send(format!("{:?} {reason:?}", conn.tls().is_some())).unwrap();
                    })
            });
            let stream = ask(common::address(&server, 0));
            let mut client = over(authority.client(versions), "localhost", stream);
            assert_eq!(common::read(&mut client, 7), b"secured");
            let version = if versions == TLS12 { "TLSv1.2" } else { "TLSv1.3" };
            assert_eq!(events.next(), version);
            let message = common::pattern(1_000_000);
            assert_eq!(tls_client::exchange(&mut client, &message), message);
            // There is no way back, and no second time.
            assert_eq!(tls_client::exchange(&mut client, COMMAND), COMMAND);
            tls_client::close(&mut client);
            assert_eq!(common::read_to_end(&mut client), b"");
            assert_eq!(events.next(), "true PeerClosed");
            assert_eq!(server.handle().stats().handshakes, 1);
            common::stop(server);
        }
    }

    fn what_is_written_before_leaves_in_plaintext_and_what_is_written_behind_is_encrypted(driver) {
        // However much there is of both, and also where the handler closes at once.
        for (length, closes) in [(10, false), (3_000_000, false), (10, true), (3_000_000, true)] {
            let (authority, tls) = acceptor();
            let server = common::server(driver).listen(TCP);
            let server = common::start(server, move |_| {
                let tls = tls.clone();
                Script::new().open(move |conn| {
                    conn.write(&common::pattern(length));
                    conn.start_tls(&tls).unwrap();
                    conn.write(&common::pattern(length));
                    if closes {
                        conn.close();
                    }
                })
            });
            let mut stream = common::connect(common::address(&server, 0));
            assert_eq!(common::read(&mut stream, length), common::pattern(length));
            let mut client = over(authority.client(BOTH), "localhost", stream);
            shake(&mut client);
            assert_eq!(common::read(&mut client, length), common::pattern(length));
            if closes {
                assert_eq!(common::read_to_end(&mut client), b"");
            }
            common::stop(server);
        }
    }

    fn a_close_with_nothing_to_encrypt_waits_for_no_handshake(driver) {
        let (_, tls) = acceptor();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let tls = tls.clone();
            Script::new().open(move |conn| {
                conn.write(b"bye");
                conn.start_tls(&tls).unwrap();
                conn.close();
            })
        });
        let mut stream = common::connect(common::address(&server, 0));
        assert_eq!(common::read_to_end(&mut stream), b"bye");
        common::stop(server);
    }

    fn commands_smuggled_in_behind_the_command_are_never_interpreted(driver) {
        let (_, tls) = acceptor();
        let (told, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let (tls, seen, closed) = (tls.clone(), told.clone(), told.clone());
            Script::new()
                .traffic(move |conn, input| {
                    seen.send(format!("{:?}", input.len())).unwrap();
                    start_or_echo(&tls, conn, input)
                })
                .close(move |_, reason| closed.send(format!("{reason:?}")).unwrap())
        });
        let (mut stream, message) = smuggle(common::address(&server, 0));
        assert_eq!(common::read(&mut stream, READY.len()), READY);
        let alert = common::read_to_end(&mut stream);
        assert_eq!(alert[0], 21, "an alert and no answer: {alert:?}");
        assert_eq!(events.next(), message.len().to_string());
        assert!(events.next().starts_with("Tls("));
        common::stop(server);
    }

    fn what_lies_ready_for_the_session_is_not_offered_by_a_resume(driver) {
        // The wish to be offered leftover input once more is older than the session.
        let (_, tls) = acceptor();
        let (told, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let (tls, seen, closed) = (tls.clone(), told.clone(), told.clone());
            Script::new()
                .traffic(move |conn, input| {
                    seen.send(format!("{:?}", input.len())).unwrap();
                    conn.pause_reading();
                    let answer = start_or_echo(&tls, conn, input);
                    conn.handle().wake().unwrap();
                    answer
                })
                .wake(|conn| {
                    conn.resume_reading();
                    Action::Continue
                })
                .close(move |_, reason| closed.send(format!("{reason:?}")).unwrap())
        });
        let (_stream, message) = smuggle(common::address(&server, 0));
        assert_eq!(events.next(), message.len().to_string());
        assert!(events.next().starts_with("Tls("));
        common::stop(server);
    }

    fn a_handshake_pipelined_with_the_command_is_taken_by_the_session(driver) {
        let (authority, tls) = acceptor();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let tls = tls.clone();
            Script::new().traffic(move |conn, input| start_or_echo(&tls, conn, input))
        });
        let mut session = tls_client::session(authority.client(BOTH), "localhost");
        let mut stream = common::connect(common::address(&server, 0));
        let hello = tls_client::wire(&mut session);
        stream.write_all(&[COMMAND, &hello].concat()).unwrap();
        assert_eq!(common::read(&mut stream, READY.len()), READY);
        let mut client = rustls::StreamOwned::new(session, stream);
        assert_eq!(tls_client::exchange(&mut client, b"and on"), b"and on");
        common::stop(server);
    }

    fn reading_that_is_paused_does_not_stop_the_handshake(driver) {
        let (authority, tls) = acceptor();
        let (told, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let (tls, told) = (tls.clone(), told.clone());
            Script::new()
                .open(move |conn| {
                    conn.start_tls(&tls).unwrap();
                    conn.pause_reading();
                })
                .secured(move |conn| {
                    conn.set_timer(std::time::Duration::from_millis(20));
                    Action::Continue
                })
                .timer(move |conn| {
                    told.send("timer").unwrap();
                    conn.resume_reading();
                    Action::Continue
                })
        });
        let stream = common::connect(common::address(&server, 0));
        let mut client = over(authority.client(BOTH), "localhost", stream);
        client.write_all(b"at once").unwrap();
        assert_eq!(common::read(&mut client, 7), b"at once");
        assert_eq!(events.drain(), ["timer"], "not before reading was resumed");
        common::stop(server);
    }

    fn output_above_the_high_watermark_does_not_stop_the_handshake_it_waits_for(driver) {
        let (authority, tls) = acceptor();
        let server = common::server(driver).listen(TCP).high_watermark(10_000).low_watermark(1_000);
        let server = common::start(server, move |_| {
            let tls = tls.clone();
            Script::new().open(move |conn| {
                conn.start_tls(&tls).unwrap();
                conn.write(&common::pattern(500_000));
            })
        });
        let stream = common::connect(common::address(&server, 0));
        let mut client = over(authority.client(BOTH), "localhost", stream);
        shake(&mut client);
        assert_eq!(common::read(&mut client, 500_000), common::pattern(500_000));
        assert_eq!(tls_client::exchange(&mut client, b"read again"), b"read again");
        common::stop(server);
    }

    fn another_connections_callback_may_begin_it_and_nothing_is_offered_behind_that(driver) {
        let (authority, tls) = acceptor();
        let (told, events) = common::events();
        let (go, go_on) = channel();
        let go_on = Arc::new(Mutex::new(go_on));
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let (tls, told, go_on) = (tls.clone(), told.clone(), Arc::clone(&go_on));
            let mut opened = Vec::new();
            Script::new()
                .open(move |conn| {
                    opened.push(conn.id());
                    if opened.len() == 3 {
                        conn.peer(opened[0]).unwrap().start_tls(&tls).unwrap();
                    }
                })
                .traffic(move |conn, input| {
                    told.send((conn.tls().is_some(), input.len())).unwrap();
                    if input.as_slice() == b"wait" {
                        go_on.lock().unwrap().recv().unwrap();
                    }
                    conn.write(input.take_all());
                    Action::Continue
                })
        });
        let to = common::address(&server, 0);
        let (mut stream, mut gate) = (common::connect(to), common::connect(to));
        assert_eq!(common::exchange(&mut stream, b"plain"), b"plain");
        gate.write_all(b"wait").unwrap();
        assert_eq!([events.next(), events.next()], [(false, 5), (false, 4)]);
        // Both come while the loop is held: it meets the new connection first.
        let _third = common::connect(to);
        let mut session = tls_client::session(authority.client(BOTH), "localhost");
        stream.write_all(&tls_client::wire(&mut session)).unwrap();
        go.send(()).unwrap();
        let mut client = rustls::StreamOwned::new(session, stream);
        assert_eq!(tls_client::exchange(&mut client, b"secret"), b"secret");
        assert_eq!(events.drain(), [(true, 6)]);
        common::stop(server);
    }

    fn a_handshake_that_is_never_begun_or_cut_off_ends_the_connection(driver) {
        let (_, tls) = acceptor();
        let soon = std::time::Duration::from_millis(300);
        for (patience, is_cut_off) in [(soon, false), (2 * common::DEADLINE, true)] {
            let (told, events) = common::events();
            let server = common::server(driver).listen(TCP).handshake_timeout(patience);
            let tls = tls.clone();
            let server = common::start(server, move |_| {
                let (tls, told) = (tls.clone(), told.clone());
                Script::new()
                    .traffic(move |conn, input| {
                        let answer = start_or_echo(&tls, conn, input);
                        conn.write(b"waits for the handshake");
                        answer
                    })
                    .close(move |_, reason| told.send(reason).unwrap())
            });
            let mut stream = common::connect(common::address(&server, 0));
            stream.write_all(COMMAND).unwrap();
            assert_eq!(common::read(&mut stream, READY.len()), READY);
            if is_cut_off {
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
            assert!(common::is_closed(&mut stream), "nothing leaves in plaintext");
            match events.next() {
                CloseReason::HandshakeTimeout => assert!(!is_cut_off),
                CloseReason::Truncated => assert!(is_cut_off),
                other => panic!("{other}"),
            }
            common::stop(server);
        }
    }

    fn what_is_shut_or_secured_already_is_refused(driver) {
        let (authority, tls) = acceptor();
        let (told, events) = common::events();
        let start = |server: Server, shuts: bool| {
            let (tls, told) = (tls.clone(), told.clone());
            common::start(server, move |_| {
                let (tls, told) = (tls.clone(), told.clone());
                Script::new().open(move |conn| {
                    if shuts {
                        conn.shutdown_write();
                    }
                    told.send(conn.start_tls(StartTls::from(&tls)).is_err()).unwrap();
                })
            })
        };
        let server = start(common::server(driver).listen(TCP), true);
        let _stream = common::connect(common::address(&server, 0));
        assert!(events.next());
        common::stop(server);
        let server = start(common::server(driver).listen(TLS).tls(&tls), false);
        let mut client = tls_client::client(authority.client(BOTH), common::address(&server, 0));
        assert_eq!(tls_client::exchange(&mut client, b"fine"), b"fine");
        assert!(events.next());
        common::stop(server);
    }

    fn sending_is_shut_behind_the_handshake_not_in_its_middle(driver) {
        let (authority, tls) = acceptor();
        let (told, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let (tls, seen, closed) = (tls.clone(), told.clone(), told.clone());
            Script::new()
                .open(move |conn| {
                    conn.start_tls(&tls).unwrap();
                    conn.shutdown_write();
                })
                .traffic(move |_, input| {
                    seen.send(format!("{:?}", input.take_all().len())).unwrap();
                    Action::Continue
                })
                .close(move |_, reason| closed.send(format!("{reason:?}")).unwrap())
        });
        let stream = common::connect(common::address(&server, 0));
        let mut client = over(authority.client(BOTH), "localhost", stream);
        shake(&mut client);
        assert_eq!(common::read_to_end(&mut client), b"", "a close_notify");
        client.write_all(b"still heard").unwrap();
        tls_client::close(&mut client);
        assert_eq!(events.next(), "11");
        assert_eq!(events.next(), "PeerClosed");
        common::stop(server);
    }

    fn a_connection_ends_once_from_on_secured_also_by_a_panic(driver) {
        type End = fn(&mut Conn<'_>) -> Action;
        let ends: [(End, &str); 4] = [
            (|_| Action::Close, "Local"),
            (|conn| (conn.close(), Action::Continue).1, "Local"),
            (|conn| (conn.abort(), Action::Continue).1, "Aborted"),
            (|_| panic!("boom"), "HandlerPanicked(\"boom\")"),
        ];
        for (end, expected) in ends {
            let (authority, tls) = acceptor();
            let (told, events) = common::events();
            let server = common::start(common::server(driver).listen(TCP), move |_| {
                let (tls, told) = (tls.clone(), told.clone());
                Script::new()
                    .traffic(move |conn, input| start_or_echo(&tls, conn, input))
                    .secured(end)
                    .close(move |_, reason| told.send(format!("{reason:?}")).unwrap())
            });
            let to = common::address(&server, 0);
            let mut client = over(authority.client(BOTH), "localhost", ask(to));
            // It may be gone before the handshake's last flight has left.
            while client.conn.is_handshaking() && client.conn.complete_io(&mut client.sock).is_ok() {}
            assert_eq!(events.next(), expected);
            assert!(ask(to).peer_addr().is_ok(), "others are served");
            common::stop_after_panics(server, expected.contains("boom").into());
            assert_eq!(events.drain().len(), 1, "the other one, and nothing twice");
        }
    }
}
