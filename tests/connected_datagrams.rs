//! Connected datagram sockets: a connection whose messages are datagrams.

mod closures;
mod common;
mod outgoing;

use std::io::{ErrorKind, IoSlice, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use closures::{Script, ended};
use common::{datagram_peer, receive_datagram};
use tightloop::{
    Action, CloseReason, ConnHandle, Connect, Direction, Error, HandleError, RunningServer, Server,
};

/// What a test is told of its connection.
#[derive(Debug)]
enum Told {
    Opened(SocketAddr),
    Received(Vec<u8>),
    Timer,
    Closed(CloseReason),
    Failed(CloseReason),
}

fn to(socket: &UdpSocket) -> Connect {
    Connect::to(&format!("udp://{}", socket.local_addr().unwrap()).parse().unwrap())
}

/// A server whose connections tell what happens; `change` may give them other callbacks.
fn telling(
    server: Server,
    change: impl Fn(Script) -> Script + Send + Sync + 'static,
) -> (RunningServer<Script>, common::Events<Told>) {
    let (told, events) = common::events();
    let server = common::start(server, move |_| {
        let [opened, received, timer, closed, failed] = [(); 5].map(|()| told.clone());
        let script = Script::new()
            .open(move |conn| {
                assert_eq!(conn.direction(), Direction::Outgoing);
                let own = conn.local_addr().unwrap().socket_addr().unwrap();
                opened.send(Told::Opened(own)).unwrap();
            })
            .traffic(move |_, input| {
                received.send(Told::Received(input.take_all().to_vec())).unwrap();
                Action::Continue
            })
            .timer(move |_| {
                timer.send(Told::Timer).unwrap();
                Action::Continue
            })
            .close(move |_, reason| closed.send(Told::Closed(reason)).unwrap())
            .failed(move |_, reason| failed.send(Told::Failed(reason)).unwrap());
        change(script)
    });
    (server, events)
}

/// Connects, and waits until it is open.
fn open(
    server: &RunningServer<Script>,
    events: &common::Events<Told>,
    connect: Connect,
) -> (ConnHandle, SocketAddr) {
    let handle = server.handle().connect(connect).unwrap();
    match events.next() {
        Told::Opened(own) => (handle, own),
        other => panic!("{other:?}"),
    }
}

fn received(events: &common::Events<Told>) -> Vec<u8> {
    match events.next() {
        Told::Received(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

fn closed(events: &common::Events<Told>) -> CloseReason {
    match events.next() {
        Told::Closed(reason) => reason,
        other => panic!("{other:?}"),
    }
}

every_driver! {
    fn each_write_is_one_datagram_by_whatever_way(driver) {
        let peer = datagram_peer();
        let (server, _events) = telling(common::server(driver), |script| {
            script.open(|conn| {
                conn.write(b"one");
                conn.write(b"");
                conn.write_vectored(&[IoSlice::new(b"t"), IoSlice::new(b"w"), IoSlice::new(b"o")]);
                conn.write_bytes(vec![3; 600]);
                let mut writer = conn.writer().unwrap();
                write!(writer, "fo").unwrap();
                write!(writer, "ur").unwrap();
                conn.write(&[5; 60_000]);
                conn.writer().unwrap().write_all(b"six").unwrap();
            })
        });
        let handle = server.handle().connect(to(&peer)).unwrap();
        handle.write("from").unwrap();
        let (told, done) = common::events();
        handle.write_then("afar", move |result| told.send(result).unwrap()).unwrap();
        let big = vec![5; 60_000];
        let (three, mut all) = (vec![3; 600], Vec::new());
        for _ in 0..8 {
            all.push(receive_datagram(&peer));
        }
        // What another thread has written before it was open comes first or last.
        all.sort();
        let mut expected: Vec<&[u8]> =
            vec![b"one", b"two", &three, b"four", &big, b"six", b"from", b"afar"];
        expected.sort();
        assert_eq!(all, expected);
        assert_eq!(done.next(), Ok(()));
        common::eventually("all are counted", || server.handle().stats().datagrams_out == 8);
        common::stop(server);
    }

    fn each_datagram_is_offered_whole_and_once(driver) {
        let peer = datagram_peer();
        let (told, calls) = common::events();
        let (server, events) = telling(common::server(driver), move |script| {
            let told = told.clone();
            script.traffic(move |_, input| {
                told.send(input.as_slice().to_vec()).unwrap();
                input.take(input.len().min(1));
                Action::Continue
            })
        });
        let (_handle, own) = open(&server, &events, to(&peer));
        let big = vec![7; 60_000];
        for datagram in [b"one".as_slice(), b"", b"three", &big] {
            assert_eq!(peer.send_to(datagram, own).unwrap(), datagram.len());
            assert_eq!(calls.next(), datagram);
        }
        assert_eq!(server.handle().stats().datagrams_in, 4);
        common::stop(server);
        assert!(calls.drain().is_empty(), "what was not consumed is offered again");
    }

    fn only_the_peer_is_heard(driver) {
        let (peer, other) = (datagram_peer(), datagram_peer());
        let (server, events) = telling(common::server(driver), |script| script);
        let (_handle, own) = open(&server, &events, to(&peer));
        other.send_to(b"not for you", own).unwrap();
        peer.send_to(b"for you", own).unwrap();
        assert_eq!(received(&events), b"for you");
        common::stop(server);
    }

    fn a_closed_port_is_told_as_a_reset(driver) {
        let peer = datagram_peer();
        let (server, events) = telling(common::server(driver), |script| script);
        let (handle, _) = open(&server, &events, to(&peer));
        drop(peer);
        // Nobody knows before something is sent; the answer may come with the next send.
        common::eventually("it is told", || handle.write("are you there?").is_err());
        let reason = closed(&events);
        assert!(matches!(&reason, CloseReason::PeerReset(_)), "{reason}");
        assert_eq!(handle.write("late"), Err(HandleError::Closed));
        common::stop(server);
    }

    fn a_close_delivers_what_was_written_and_frees_the_socket_at_once(driver) {
        let peer = datagram_peer();
        // A stream that has sent something would linger.
        let server = common::server(driver).linger_after_close(Duration::from_secs(3600), 1 << 20);
        let (server, events) = telling(server, |script| script);
        let (handle, own) = open(&server, &events, to(&peer));
        handle.write("last").unwrap();
        handle.close().unwrap();
        assert_eq!(receive_datagram(&peer), b"last");
        assert!(matches!(closed(&events), CloseReason::Local));
        common::eventually("its port is free", || UdpSocket::bind(own).is_ok());
        server.stop_within(Duration::from_secs(3600));
        ended(server);
    }

    fn timers_and_idle_timeouts_are_as_for_streams(driver) {
        let peer = datagram_peer();
        let (server, events) = telling(common::server(driver), |script| {
            script.open(|conn| {
                conn.set_timer(Duration::from_millis(20));
                conn.set_idle_timeout(Duration::from_millis(100));
                // There is no end of datagrams: it stays open for writing.
                conn.shutdown_write();
                conn.write(b"hello");
            })
        });
        server.handle().connect(to(&peer)).unwrap();
        assert_eq!(receive_datagram(&peer), b"hello");
        assert!(matches!(events.next(), Told::Timer));
        assert!(matches!(closed(&events), CloseReason::IdleTimeout));
        common::stop(server);
    }

    fn datagrams_wait_whole_while_reading_is_paused(driver) {
        let peer = datagram_peer();
        let (server, events) = telling(common::server(driver), |script| {
            script.wake(|conn| {
                conn.resume_reading();
                Action::Continue
            })
        });
        let (handle, own) = open(&server, &events, to(&peer));
        let id = handle.id().unwrap();
        let (told, paused) = common::events();
        server.loops()[0]
            .execute(move |_, cx| {
                cx.conn(id).unwrap().0.pause_reading();
                told.send(()).unwrap();
            })
            .unwrap();
        paused.next();
        let sent = ["one", "two", "three"];
        for datagram in sent {
            peer.send_to(datagram.as_bytes(), own).unwrap();
        }
        assert!(events.drain().is_empty());
        handle.wake().unwrap();
        for datagram in sent {
            assert_eq!(received(&events), datagram.as_bytes());
        }
        common::stop(server);
    }

    fn what_no_datagram_can_hold_is_dropped_and_counted(driver) {
        let peer = datagram_peer();
        let server = common::server(driver).receive_buffer(1024);
        let (server, events) = telling(server, |script| script);
        let (handle, own) = open(&server, &events, to(&peer));
        handle.write(vec![0; 70_000]).unwrap();
        handle.write(vec![1; 9_000_000]).unwrap();
        handle.write("short").unwrap();
        assert_eq!(receive_datagram(&peer), b"short");
        assert_eq!(server.handle().stats().datagrams_dropped, 2);
        peer.send_to(&[0; 1025], own).unwrap();
        peer.send_to(&[1; 1024], own).unwrap();
        assert_eq!(received(&events), [1; 1024]);
        assert_eq!(server.handle().stats().datagrams_truncated, 1);
        common::stop(server);
    }

    fn output_above_its_limit_ends_it(driver) {
        let peer = datagram_peer();
        let server = common::server(driver).high_watermark(1 << 16).low_watermark(1 << 10).max_pending_output(1 << 17);
        let (server, events) = telling(server, |script| {
            script.wake(|conn| {
                for _ in 0..3 {
                    conn.write(&[0; 60_000]);
                }
                Action::Continue
            })
        });
        let (handle, _) = open(&server, &events, to(&peer));
        handle.wake().unwrap();
        assert!(matches!(closed(&events), CloseReason::OutputLimit));
        common::stop(server);
    }

    fn names_and_local_addresses_are_as_for_streams(driver) {
        let peer = datagram_peer();
        let port = peer.local_addr().unwrap().port();
        let (server, events) = telling(common::server(driver), |script| script);
        let named = Connect::to(&format!("udp4://localhost:{port}").parse().unwrap());
        let (handle, _) = open(&server, &events, named.local_addr("127.0.0.2:0".parse().unwrap()));
        handle.write("from two").unwrap();
        let mut bytes = [0; 64];
        let (length, from) = peer.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..length], from.ip().to_string()), (&b"from two"[..], "127.0.0.2".into()));
        let nobody = Connect::to(&"udp://no-such-host.invalid:1".parse().unwrap());
        server.handle().connect(nobody).unwrap();
        assert!(matches!(events.next(), Told::Failed(CloseReason::ConnectFailed(_))));
        let foreign = to(&peer).local_addr("192.0.2.1:0".parse().unwrap());
        server.handle().connect(foreign).unwrap();
        match events.next() {
            Told::Failed(CloseReason::ConnectFailed(error)) => {
                assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
            }
            other => panic!("{other:?}"),
        }
        common::stop(server);
    }

    fn a_server_of_datagrams_and_its_clients_understand_one_another(driver) {
        let server = common::server(driver).listen("udp://127.0.0.1:0");
        let server = common::start(server, |_| Script::new());
        let url = format!("udp://{}", common::address(&server, 0));
        let (told, events) = common::events();
        let client = common::client(driver).start(move |_| {
            let told = told.clone();
            Script::new().traffic(move |_, input| {
                told.send(input.take_all().to_vec()).unwrap();
                Action::Continue
            })
        });
        let client = client.unwrap();
        let conn = client.connect(Connect::to(&url.parse().unwrap())).unwrap();
        for number in 0..1_000 {
            let message = format!("datagram {number}");
            conn.write(message.clone()).unwrap();
            assert_eq!(events.next(), message.as_bytes());
        }
        assert_eq!(client.handle().connections(), 1);
        client.stop();
        client.join().unwrap();
        common::stop(server);
    }

    fn what_needs_a_stream_is_refused(driver) {
        let peer = datagram_peer();
        let (server, _events) = telling(common::server(driver), |script| script);
        let header = tightloop::proxy_protocol::ProxyHeader::v2(
            "192.0.2.1:1".parse::<SocketAddr>().unwrap(),
            "192.0.2.2:2".parse::<SocketAddr>().unwrap(),
        );
        let refused = server.handle().connect(to(&peer).proxy_header(header));
        assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
        common::stop(server);
    }

    fn what_pre_write_brings_above_the_high_watermark_is_told_by_drain(driver) {
        let peer = datagram_peer();
        let (told, drained) = common::events();
        let server = common::server(driver).high_watermark(100).low_watermark(10);
        let (server, events) = telling(server, move |script| {
            let told = told.clone();
            let mut more = Some([7; 200]);
            script
                .before_write(move |conn| {
                    more.take().inspect(|more| assert_eq!(conn.write(more), 201));
                })
                .drain(move |conn| {
                    told.send(conn.pending()).unwrap();
                    Action::Continue
                })
        });
        let (handle, _) = open(&server, &events, to(&peer));
        handle.write("a").unwrap();
        assert_eq!((receive_datagram(&peer), receive_datagram(&peer)), (b"a".to_vec(), vec![7; 200]));
        assert_eq!(drained.next(), 0);
        common::stop(server);
    }

    fn a_datagram_that_comes_in_the_turn_of_a_pause_is_offered_and_counted(driver) {
        let peer = datagram_peer();
        let ids = Arc::new(Mutex::new(Vec::new()));
        let (told, received) = common::events();
        let (server, events) = telling(common::server(driver), {
            let ids = Arc::clone(&ids);
            move |script| {
                let (ids, told) = (Arc::clone(&ids), told.clone());
                script
                    .traffic(move |conn, input| {
                        let own = conn.id();
                        for id in ids.lock().unwrap().iter().filter(|id| **id != own) {
                            conn.peer(*id).unwrap().pause_reading();
                        }
                        told.send(input.take_all().to_vec()).unwrap();
                        Action::Continue
                    })
                    .wake(|conn| (conn.resume_reading(), Action::Continue).1)
            }
        });
        let [first, second] = [(); 2].map(|()| open(&server, &events, to(&peer)));
        *ids.lock().unwrap() = vec![first.0.id().unwrap(), second.0.id().unwrap()];
        let (go, begun) = channel::<()>();
        server.loops()[0].execute(move |_, _| begun.recv().unwrap()).unwrap();
        assert_eq!([&first, &second].map(|(_, own)| peer.send_to(b"x", own).unwrap()), [1; 2]);
        go.send(()).unwrap();
        received.next();
        [first, second].iter().for_each(|(handle, _)| handle.wake().unwrap());
        received.next();
        assert_eq!(server.handle().stats().datagrams_in, 2);
        common::stop(server);
    }
}
