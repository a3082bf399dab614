//! Outgoing connections: to addresses and names, refused and given up, told of exactly once.

mod closures;
mod common;
mod outgoing;

use std::io::{ErrorKind, Write};
use std::net::TcpListener;
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::time::Duration;

#[cfg(unix)]
use closures::Directory;
use closures::{Script, TCP, ended};
use outgoing::{Deaf, Told, closed_port, connect, failure, reporter, reporting};
use tightloop::{Action, CloseReason, Direction, Endpoint, Error, RunningServer, Server};

/// A server that connects to `to` for each connection it accepts, writes "early" to the new one
/// before it can be connected, and reports.
fn connecting(server: Server, to: &str) -> (RunningServer<Script>, common::Events<Told>) {
    let to: Endpoint = to.parse().unwrap();
    let (told, events) = common::events();
    let server = common::start(server.listen(TCP), move |_| {
        let to = to.clone();
        reporter(&told).traffic(move |conn, input| {
            input.take_all();
            let id = conn.connect(&to).unwrap();
            conn.peer(id).expect("it is connecting").write(b"early ");
            Action::Continue
        })
    });
    (server, events)
}

every_driver! {
    fn addresses_and_names_are_connected_to(driver) {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let backend6 = TcpListener::bind("[::1]:0").unwrap();
        let (to, to6) = (backend.local_addr().unwrap(), backend6.local_addr().unwrap());
        let (server, events) = reporting(common::server(driver));
        for (url, expected) in [
            (format!("tcp://{to}"), to.to_string()),
            (to.to_string(), to.to_string()),
            (format!("tcp://localhost:{}", to.port()), to.to_string()),
            (format!("tcp4://localhost:{}", to.port()), to.to_string()),
            (format!("tcp6://{to6}"), to6.to_string()),
        ] {
            let asked = connect(&server, &url);
            let mut greeting = match &*expected {
                text if text.starts_with('[') => common::read(&mut backend6.accept().unwrap().0, 8),
                _ => common::read(&mut backend.accept().unwrap().0, 8),
            };
            assert_eq!(greeting, b"greeting");
            greeting.clear();
            match events.next() {
                Told::Opened { id, initiator: None, direction: Direction::Outgoing, peer } => {
                    assert_eq!((id, peer), (asked, expected));
                }
                other => panic!("{url}: {other:?}"),
            }
            assert!(matches!(events.next(), Told::Closed(id) if id == asked));
        }
        common::stop(server);
    }

    #[cfg(unix)]
    fn paths_are_connected_to(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("backend");
        let backend = UnixListener::bind(&path).unwrap();
        let (server, events) = reporting(common::server(driver));
        let asked = connect(&server, &url);
        assert_eq!(common::read(&mut backend.accept().unwrap().0, 8), b"greeting");
        match events.next() {
            Told::Opened { id, initiator: None, direction: Direction::Outgoing, peer } => {
                assert_eq!((id, peer), (asked, format!("unix:{}", path.display())));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(events.next(), Told::Closed(id) if id == asked));
        common::stop(server);
    }

    fn a_server_can_connect_to_itself_also_on_the_same_loop(driver) {
        let (server, events) = reporting(common::server(driver).listen(TCP));
        let asked = connect(&server, &common::address(&server, 0).to_string());
        let mut directions = Vec::new();
        for _ in 0..2 {
            match events.next() {
                Told::Opened { id, direction, .. } => {
                    assert_eq!(id == asked, direction == Direction::Outgoing);
                    directions.push(direction);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_ne!(directions[0], directions[1]);
        assert_eq!(server.handle().connections(), 2);
        server.stop();
        ended(server);
    }

    fn what_is_written_before_it_is_connected_is_sent_and_it_knows_who_asked(driver) {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        for host in ["127.0.0.1", "localhost"] {
            let to = format!("tcp://{host}:{}", backend.local_addr().unwrap().port());
            let (server, events) = connecting(common::server(driver).loops(2), &to);
            let mut client = common::connect(common::address(&server, 0));
            let incoming = match events.next() {
                Told::Opened { id, initiator: None, direction: Direction::Incoming, .. } => id,
                other => panic!("{other:?}"),
            };
            client.write_all(b"x").unwrap();
            let (mut outgoing, _) = backend.accept().unwrap();
            assert_eq!(common::read(&mut outgoing, 14), b"early greeting");
            match events.next() {
                Told::Opened { id, initiator, direction: Direction::Outgoing, .. } => {
                    assert_eq!(initiator, Some(incoming));
                    assert_eq!(id.loop_index(), incoming.loop_index());
                }
                other => panic!("{other:?}"),
            }
            drop((client, outgoing));
            common::stop(server);
        }
    }

    fn a_connection_that_cannot_be_made_is_told_of_with_its_reason(driver) {
        let (server, events) = reporting(common::server(driver));
        for (url, reason) in [
            (closed_port().to_string(), Some(ErrorKind::ConnectionRefused)),
            (format!("localhost:{}", closed_port().port()), Some(ErrorKind::ConnectionRefused)),
            ("tcp://no-such-host.invalid:80".to_owned(), None),
        ] {
            let asked = connect(&server, &url);
            let told = failure(&events, asked);
            let CloseReason::ConnectFailed(error) = told else { panic!("{told:?}") };
            match reason {
                Some(reason) => assert_eq!(error.kind(), reason, "{url}"),
                None => assert!(error.to_string().contains("no-such-host.invalid"), "{error}"),
            }
        }
        let stats = server.handle().stats();
        assert_eq!((stats.opened, stats.closed), (0, 0));
        common::stop(server);
        assert!(events.drain().is_empty(), "told of more than once");
    }

    #[cfg(unix)]
    fn a_path_that_cannot_be_connected_to_is_told_of_with_its_reason(driver) {
        let directory = Directory::new();
        let (dead, dead_url) = directory.socket("dead");
        drop(UnixListener::bind(&dead).unwrap());
        let (server, events) = reporting(common::server(driver));
        for (url, reason) in [
            (directory.socket("missing").1, ErrorKind::NotFound),
            (dead_url, ErrorKind::ConnectionRefused),
        ] {
            let asked = connect(&server, &url);
            let told = failure(&events, asked);
            let CloseReason::ConnectFailed(error) = told else { panic!("{told:?}") };
            assert_eq!(error.kind(), reason, "{url}");
        }
        common::stop(server);
        assert!(events.drain().is_empty(), "told of more than once");
    }

    fn a_failed_connection_can_be_tried_again_from_where_it_failed(driver) {
        let to: Endpoint = closed_port().to_string().parse().unwrap();
        let (failed, events) = common::events();
        let server = common::start(common::server(driver), move |_| {
            let (to, again, failed) = (to.clone(), to.clone(), failed.clone());
            let mut tries = 0;
            Script::new()
                .tick(move |cx| {
                    cx.connect(&to).unwrap();
                    None
                })
                .failed(move |conn, _| {
                    tries += 1;
                    failed.send((conn.id(), conn.initiator())).unwrap();
                    match tries {
                        5 => conn.stop_server(),
                        _ => drop(conn.connect(&again).unwrap().to_string()),
                    }
                })
        });
        ended(server);
        let told = events.drain();
        assert_eq!(told.len(), 5);
        let initiators: Vec<_> = told.iter().skip(1).map(|(_, initiator)| *initiator).collect();
        let previous: Vec<_> = told.iter().take(4).map(|(id, _)| Some(*id)).collect();
        assert_eq!(initiators, previous);
    }

    fn a_stop_gives_up_what_is_still_connecting(driver) {
        let deaf = Deaf::new();
        let hour = Duration::from_secs(3600);
        let (server, events) = reporting(common::server(driver).connect_timeout(hour));
        let asked = connect(&server, &deaf.url());
        server.stop_within(hour);
        ended(server);
        assert!(matches!(failure(&events, asked), CloseReason::ServerStopped));
    }

    fn closing_what_is_still_connecting_gives_it_up_and_tells_who_waits(driver) {
        let deaf = Deaf::new();
        let to: Endpoint = deaf.url().parse().unwrap();
        let (told, events) = common::events();
        let (done, written) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let (to, done, mut asked) = (to.clone(), done.clone(), None);
            reporter(&told).open(|_| {}).traffic(move |conn, input| {
                input.take_all();
                let id = *asked.get_or_insert_with(|| conn.connect(&to).unwrap());
                let mut outgoing = conn.peer(id).expect("it is connecting");
                let done = done.clone();
                let told = move |result| done.send(result).unwrap();
                match outgoing.pending() {
                    0 => outgoing.handle().write_then("never sent", told).unwrap(),
                    _ => outgoing.close(),
                }
                conn.write(b"ok");
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        for _ in 0..2 {
            client.write_all(b"x").unwrap();
            assert_eq!(common::read(&mut client, 2), b"ok");
        }
        match events.next() {
            Told::Failed { initiator: Some(_), reason: CloseReason::Local, .. } => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(written.next(), Err(tightloop::HandleError::Closed));
        drop(client);
        common::stop(server);
    }

    fn what_another_thread_writes_to_one_that_connects_is_sent(driver) {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let to: Endpoint = backend.local_addr().unwrap().to_string().parse().unwrap();
        let (give, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let (to, give) = (to.clone(), give.clone());
            Script::new().traffic(move |conn, input| {
                input.take_all();
                let id = conn.connect(&to).unwrap();
                give.send(conn.peer(id).unwrap().handle()).unwrap();
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"x").unwrap();
        let (sent, done) = common::events();
        events.next().write_then("from afar", move |result| sent.send(result).unwrap()).unwrap();
        let (mut outgoing, _) = backend.accept().unwrap();
        assert_eq!(common::read(&mut outgoing, 9), b"from afar");
        assert_eq!(done.next(), Ok(()));
        drop((client, outgoing));
        common::stop(server);
    }

    fn a_connect_asked_for_while_the_server_stops_is_refused(driver) {
        for pending in [0, 32 << 20] {
            let to: Endpoint = closed_port().to_string().parse().unwrap();
            let (told, events) = common::events();
            let (answer, answers) = common::events();
            let (opened, open) = common::events();
            let server = common::start(common::server(driver).listen(TCP), move |_| {
                let (to, opened, answer) = (to.clone(), opened.clone(), answer.clone());
                reporter(&told)
                    .open(move |conn| {
                        conn.write_bytes(vec![0; pending]);
                        opened.send(()).unwrap();
                    })
                    .close(move |conn, _| answer.send(conn.connect(&to)).unwrap())
            });
            let _client = common::connect(common::address(&server, 0));
            open.next();
            server.stop_within(Duration::ZERO);
            ended(server);
            assert!(matches!(answers.next(), Err(Error::Stopped)), "{pending} bytes pending");
            assert!(events.drain().is_empty());
        }
    }
}
