//! Peers that break TLS, or try to use it against the server: each ends with its reason, and only
//! itself.

mod certificates;
mod closures;
mod common;
mod tls_client;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use certificates::{Authority, BOTH};
use closures::Script;
use common::Events;
use rustls::ClientConnection;
use socket2::SockRef;
use tightloop::{Action, CloseReason, RunningServer, Server};
use tls_client::{TLS, TLS12, TLS13};

/// How a connection has ended: never open, or open before.
#[derive(Debug)]
enum End {
    NeverOpen(CloseReason),
    Closed(CloseReason),
}
use End::{Closed, NeverOpen};

/// A server that echoes and tells how its connections end.
fn echo(server: Server, authority: &Authority) -> (RunningServer<Script>, Events<End>) {
    let (told, events) = common::events();
    let server = server.listen(TLS).tls(authority.server(BOTH));
    let server = common::start(server, move |_| {
        let (failed, closed) = (told.clone(), told.clone());
        Script::new()
            .failed(move |_, reason| failed.send(NeverOpen(reason)).unwrap())
            .close(move |_, reason| closed.send(Closed(reason)).unwrap())
    });
    (server, events)
}

/// A client whose bytes are in our hands, its handshake done.
fn raw(
    authority: &Authority,
    versions: certificates::Versions,
    to: SocketAddr,
) -> (ClientConnection, TcpStream) {
    let mut client = tls_client::client(authority.client(versions), to);
    assert_eq!(tls_client::exchange(&mut client, b"fine"), b"fine");
    client.into_parts()
}

/// The records of one message.
fn records(session: &mut ClientConnection, message: &[u8]) -> Vec<u8> {
    session.writer().write_all(message).unwrap();
    tls_client::wire(session)
}

/// Resets the connection.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

every_driver! {
    fn garbage_at_once_is_answered_with_an_alert(driver) {
        let authority = Authority::new();
        let (server, ends) = echo(common::server(driver), &authority);
        let garbage: [&[u8]; 4] = [
            &[0; 64],
            &[0xff; 20_000],
            b"SSH-2.0-OpenSSH_9.9\r\n",
            // A handshake record with a message of no known kind.
            &[22, 3, 1, 0, 4, 99, 0, 0, 0],
        ];
        for bytes in garbage {
            let mut stream = common::connect(common::address(&server, 0));
            stream.write_all(bytes).unwrap();
            let alert = common::read_to_end(&mut stream);
            assert_eq!((alert[0], alert.len()), (21, 7), "an alert in plaintext: {alert:?}");
            let end = ends.next();
            assert!(matches!(end, NeverOpen(CloseReason::Tls(_))), "{end:?}");
        }
        let stats = server.handle().stats();
        assert_eq!((stats.open_failures, stats.opened, stats.handshakes), (4, 0, 0));
        common::stop(server);
    }

    fn garbage_in_mid_stream_ends_the_session_and_what_came_before_is_offered(driver) {
        let authority = Authority::new();
        let (server, ends) = echo(common::server(driver), &authority);
        for versions in [TLS12, TLS13] {
            let (mut session, mut stream) = raw(&authority, versions, common::address(&server, 0));
            let good = records(&mut session, b"good");
            let mut bad = records(&mut session, b"tampered with");
            *bad.last_mut().unwrap() ^= 1;
            stream.write_all(&[good, bad].concat()).unwrap();
            let end = ends.next();
            assert!(matches!(end, Closed(CloseReason::Tls(_))), "{end:?}");
            let mut answer = common::read_to_end(&mut stream);
            session.read_tls(&mut &answer[..]).unwrap();
            let error = session.process_new_packets().unwrap_err();
            assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
            answer.clear();
        }
        assert_eq!(server.handle().stats().closed_tls, 2);
        common::stop(server);
    }

    fn a_peer_that_stops_half_way_through_the_handshake_is_sent_away(driver) {
        let authority = Authority::new();
        let patience = Duration::from_millis(200);
        let (server, ends) = echo(common::server(driver).handshake_timeout(patience), &authority);
        let mut session = tls_client::session(authority.client(BOTH), "localhost");
        let hello = tls_client::wire(&mut session);
        for count in [0, 1, hello.len() - 1, hello.len()] {
            let mut stream = common::connect(common::address(&server, 0));
            stream.write_all(&hello[..count]).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
            let end = ends.next();
            assert!(matches!(end, NeverOpen(CloseReason::HandshakeTimeout)), "{count}: {end:?}");
        }
        common::stop(server);
    }

    fn a_peer_that_leaves_half_way_through_the_handshake_is_told_of_as_that(driver) {
        let authority = Authority::new();
        let (server, ends) = echo(common::server(driver), &authority);
        let mut session = tls_client::session(authority.client(BOTH), "localhost");
        let hello = tls_client::wire(&mut session);
        for count in [0, 1, hello.len()] {
            let mut stream = common::connect(common::address(&server, 0));
            stream.write_all(&hello[..count]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
            let end = ends.next();
            assert!(matches!(end, NeverOpen(CloseReason::PeerClosed)), "{count}: {end:?}");
        }
        common::stop(server);
    }

    fn a_reset_half_way_through_the_handshake_is_told_of_as_that(driver) {
        let authority = Authority::new();
        let (server, ends) = echo(common::server(driver), &authority);
        let mut session = tls_client::session(authority.client(BOTH), "localhost");
        let hello = tls_client::wire(&mut session);
        for (before, count) in [0, 1, hello.len()].into_iter().enumerate() {
            let mut stream = common::connect(common::address(&server, 0));
            stream.write_all(&hello[..count]).unwrap();
            if cfg!(windows) {
                // Which hands out no connection that has been reset before.
                let accepted = || server.handle().stats().accepted;
                common::eventually("it is accepted", || accepted() == before as u64 + 1);
            }
            if count == hello.len() {
                // What is left unread would be a reset as well; this one is in the middle.
                assert_eq!(common::read(&mut stream, 1), [22]);
            }
            reset(stream);
            let end = ends.next();
            assert!(matches!(end, NeverOpen(CloseReason::PeerReset(_))), "{count}: {end:?}");
        }
        common::stop(server);
    }

    fn one_byte_a_segment_is_slow_and_no_more(driver) {
        let authority = Authority::new();
        let (server, ends) = echo(common::server(driver), &authority);
        for versions in [TLS12, TLS13] {
            let mut session = tls_client::session(authority.client(versions), "localhost");
            let mut stream = common::connect(common::address(&server, 0));
            while session.is_handshaking() {
                for byte in tls_client::wire(&mut session) {
                    stream.write_all(&[byte]).unwrap();
                }
                tls_client::listen_until(&mut session, &mut stream, |session| {
                    session.wants_write() || !session.is_handshaking()
                });
            }
            for byte in [tls_client::wire(&mut session), records(&mut session, b"at last")].concat() {
                stream.write_all(&[byte]).unwrap();
            }
            let mut client = rustls::StreamOwned::new(session, stream);
            assert_eq!(common::read(&mut client, 7), b"at last");
            tls_client::close(&mut client);
            assert!(matches!(ends.next(), Closed(CloseReason::PeerClosed)));
        }
        common::stop(server);
    }

    fn records_of_one_byte_are_served_like_others(driver) {
        let authority = Authority::new();
        let (server, _ends) = echo(common::server(driver), &authority);
        let (mut session, mut stream) = raw(&authority, BOTH, common::address(&server, 0));
        let message = common::pattern(50_000);
        let bytes: Vec<u8> = message.iter().flat_map(|&b| records(&mut session, &[b])).collect();
        let writer = common::write_in_background(&stream, bytes, false);
        let mut answer = Vec::new();
        tls_client::listen_until(&mut session, &mut stream, |session| {
            let mut part = [0; 16 << 10];
            while let Ok(count @ 1..) = session.reader().read(&mut part) {
                answer.extend_from_slice(&part[..count]);
            }
            answer.len() >= message.len()
        });
        assert_eq!(answer, message);
        writer.join().unwrap().unwrap();
        common::stop(server);
    }

    fn a_flood_of_small_records_leaves_the_others_their_turn(driver) {
        const RECORDS: usize = 200_000;
        // The other one has to be given a processor often enough to ask.
        common::at_best(|| {
            let authority = Authority::new();
            let (told, events) = common::events();
            let server = common::server(driver).listen(TLS).tls(authority.server(BOTH));
            let server = common::start(server.receive_buffer(8192), move |_| {
                let (told, mut left) = (told.clone(), RECORDS);
                Script::new().traffic(move |conn, input| {
                    if input.as_slice() == b"ping" {
                        conn.write(b"pong");
                        input.take_all();
                    } else {
                        left -= input.take_all().len();
                        if left == 0 {
                            told.send(()).unwrap();
                        }
                    }
                    Action::Continue
                })
            });
            let to = common::address(&server, 0);
            let mut other = tls_client::client(authority.client(BOTH), to);
            let mut flood = tls_client::client(authority.client(BOTH), to);
            // Before the records are made: on a busy machine that takes longer than a handshake may.
            tls_client::shake(&mut other);
            tls_client::shake(&mut flood);
            let bytes: Vec<u8> =
                (0..RECORDS).flat_map(|_| records(&mut flood.conn, b"x")).collect();
            let writer = common::write_in_background(&flood.sock, bytes, false);
            let mut served = 0;
            while events.drain().is_empty() {
                other.write_all(b"ping").unwrap();
                assert_eq!(common::read(&mut other, 4), b"pong");
                served += 1;
            }
            writer.join().unwrap().unwrap();
            // It comes in some 550 buffers, and there is a turn for the others behind each.
            assert!(served >= 20, "{served} times");
            common::stop(server);
        });
    }

    fn a_record_that_is_too_long_ends_the_session(driver) {
        let authority = Authority::new();
        let (server, ends) = echo(common::server(driver), &authority);
        let (_session, mut stream) = raw(&authority, TLS13, common::address(&server, 0));
        // The header alone says it: nobody waits for 65,535 bytes.
        stream.write_all(&[23, 3, 3, 0xff, 0xff]).unwrap();
        let end = ends.next();
        assert!(matches!(end, Closed(CloseReason::Tls(_))), "{end:?}");
        drop(stream);
        // The same before there are keys, and a handshake message of 16 MiB in small records.
        let mut stream = common::connect(common::address(&server, 0));
        stream.write_all(&[22, 3, 1, 0xff, 0xff]).unwrap();
        assert!(matches!(ends.next(), NeverOpen(CloseReason::Tls(_))));
        let mut stream_2 = common::connect(common::address(&server, 0));
        stream_2.write_all(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]).unwrap();
        assert!(matches!(ends.next(), NeverOpen(CloseReason::Tls(_))));
        common::read_to_end(&mut stream);
        common::stop(server);
    }

    fn a_stream_cut_off_without_close_notify_is_told_from_one_that_is_closed(driver) {
        let authority = Authority::new();
        let (server, ends) = echo(common::server(driver).half_close(true), &authority);
        for versions in [TLS12, TLS13] {
            let (mut session, mut stream) = raw(&authority, versions, common::address(&server, 0));
            // In the middle of a record, too.
            let part = records(&mut session, b"only a part of this");
            stream.write_all(&part[..part.len() - 1]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert!(matches!(ends.next(), Closed(CloseReason::Truncated)));

            let (mut session, mut stream) = raw(&authority, versions, common::address(&server, 0));
            session.send_close_notify();
            stream.write_all(&tls_client::wire(&mut session)).unwrap();
            assert!(matches!(ends.next(), Closed(CloseReason::PeerClosed)));
        }
        assert_eq!(server.handle().stats().closed_truncated, 2);
        common::stop(server);
    }

    fn data_behind_a_close_notify_is_nobodys(driver) {
        let authority = Authority::new();
        let (server, ends) = echo(common::server(driver), &authority);
        let (mut session, mut stream) = raw(&authority, TLS13, common::address(&server, 0));
        let before = records(&mut session, b"before");
        let stray = records(&mut session, b"behind");
        session.send_close_notify();
        let end = tls_client::wire(&mut session);
        // The records are numbered: whoever wants to say more has to make it up.
        let all = [&before[..], &stray, &end, &end, b"and plaintext"].concat();
        stream.write_all(&all).unwrap();
        let mut answer = vec![0; before.len() + stray.len()];
        stream.read_exact(&mut answer).unwrap();
        session.read_tls(&mut &answer[..]).unwrap();
        session.process_new_packets().unwrap();
        let mut echoed = [0; 12];
        session.reader().read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, b"beforebehind");
        assert!(matches!(ends.next(), Closed(CloseReason::PeerClosed)));
        common::stop(server);
    }

    fn some_changes_of_keys_are_answered_and_a_flood_of_them_ends_the_session(driver) {
        let authority = Authority::new();
        let (server, ends) = echo(common::server(driver), &authority);
        let mut client = tls_client::client(authority.client(TLS13), common::address(&server, 0));
        tls_client::shake(&mut client);
        for _ in 0..10 {
            client.conn.refresh_traffic_keys().unwrap();
            assert_eq!(tls_client::exchange(&mut client, b"new keys"), b"new keys");
        }
        let (mut session, mut stream) = client.into_parts();
        for _ in 0..10_000 {
            session.refresh_traffic_keys().unwrap();
            if stream.write_all(&tls_client::wire(&mut session)).is_err() {
                break;
            }
        }
        let end = ends.next();
        assert!(matches!(end, Closed(CloseReason::Tls(_) | CloseReason::PeerReset(_))), "{end:?}");
        common::stop(server);
    }
}
