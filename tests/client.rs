//! Clients: loops without listeners, and connections whose handle is there before they are.

mod closures;
mod common;
mod outgoing;

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use closures::{Script, TCP};
use outgoing::{Attempts, Deaf, Told, closed_port, failure, reporter};
use tightloop::{
    Action, Client, CloseReason, Connect, Direction, Endpoint, Error, HandleError, RunningClient,
};

fn to(url: &str) -> Connect {
    Connect::to(&url.parse().unwrap())
}

/// A client that reports on its connections, and sends what it receives to `received`.
fn client(
    client: Client,
) -> (RunningClient<Script>, common::Events<Told>, common::Events<Vec<u8>>) {
    let (told, events) = common::events();
    let (sent, received) = common::events();
    let start = client.start(move |_| {
        let sent = sent.clone();
        reporter(&told).traffic(move |_, input| {
            sent.send(input.take_all().to_vec()).unwrap();
            Action::Continue
        })
    });
    (start.unwrap(), events, received)
}

fn end(client: RunningClient<Script>) {
    client.stop();
    client.join().expect("the client ends in order");
}

every_driver! {
    fn a_client_connects_from_any_thread_and_is_told_of_it(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| Script::new());
        let url = common::address(&server, 0).to_string();
        let (client, events, received) = client(common::client(driver).loops(2));
        let handle = client.handle();
        assert_eq!(handle.loop_count(), 2);
        let conn = std::thread::spawn(move || handle.connect(to(&url)).unwrap()).join().unwrap();
        match events.next() {
            Told::Opened { id, direction: Direction::Outgoing, initiator: None, .. } => {
                assert_eq!(conn.id(), Some(id));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(received.next(), b"greeting");
        conn.write("more").unwrap();
        assert_eq!(received.next(), b"more");
        assert_eq!(client.handle().connections(), 1);
        client.handle().broadcast("to all").unwrap();
        assert_eq!(received.next(), b"to all");
        conn.close().unwrap();
        assert!(matches!(events.next(), Told::Closed(id) if conn.id() == Some(id)));
        assert_eq!(conn.write("late"), Err(HandleError::Closed));
        end(client);
        common::stop(server);
    }

    fn what_a_handle_writes_before_there_is_a_connection_is_sent_when_it_opens(driver) {
        let deaf = Deaf::new();
        let attempts = Attempts::default();
        let hooked = common::client(driver).on_connection_socket(attempts.hook());
        let (client, events, _received) = client(hooked);
        let conn = client.connect(to(&deaf.url())).unwrap();
        assert!(conn.is_open());
        let (told, done) = common::events();
        conn.write("one ").unwrap();
        conn.write_then("two ", move |result| told.send(result).unwrap()).unwrap();
        // Nobody is there to be woken yet.
        conn.wake().unwrap();
        common::eventually("it has been asked", || attempts.begun() == 1);
        common::eventually("what was written is counted", || conn.pending() == 8);
        let (mut stream, _) = deaf.heal().accept().unwrap();
        assert_eq!(common::read(&mut stream, 16), b"one two greeting");
        assert_eq!(done.next(), Ok(()));
        assert!(matches!(events.next(), Told::Opened { .. }));
        drop(stream);
        assert!(matches!(events.next(), Told::Closed(_)));
        end(client);
    }

    fn closing_through_a_handle_gives_up_what_is_being_made(driver) {
        let deaf = Deaf::new();
        let attempts = Attempts::default();
        let hooked = common::client(driver).on_connection_socket(attempts.hook());
        let (client, events, _received) = client(hooked);
        for late in [false, true] {
            let before = attempts.begun();
            let conn = client.connect(to(&deaf.url())).unwrap();
            let (told, done) = common::events();
            conn.write_then("never sent", move |result| told.send(result).unwrap()).unwrap();
            if late {
                common::eventually("it has been asked", || attempts.begun() > before);
            }
            conn.close().unwrap();
            assert_eq!(done.next(), Err(HandleError::Closed));
            assert!(matches!(failure(&events, conn.id().unwrap()), CloseReason::Local));
            assert_eq!(conn.write("late"), Err(HandleError::Closed));
            common::eventually("it is given up", || attempts.living_are(0));
        }
        end(client);
        assert!(events.drain().is_empty(), "told of more than once");
    }

    fn a_handle_closes_the_sending_side_behind_what_it_wrote(driver) {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = peer.local_addr().unwrap().to_string();
        let (told, events) = common::events();
        let script = move |_| {
            let told = told.clone();
            Script::new().traffic(move |_, input| {
                told.send(input.take_all().to_vec()).unwrap();
                Action::Continue
            })
        };
        let client = common::client(driver).start(script).unwrap();
        for opened in [false, true] {
            let conn = client.connect(to(&url)).unwrap();
            conn.write("asked").unwrap();
            let mut stream = None;
            if opened {
                let mut accepted = peer.accept().unwrap().0;
                assert_eq!(common::read(&mut accepted, 5), b"asked");
                stream = Some(accepted);
            }
            conn.shutdown_write().unwrap();
            assert!(conn.write("late").is_ok(), "it is dropped, as behind Conn::shutdown_write");
            let mut stream = stream.unwrap_or_else(|| peer.accept().unwrap().0);
            let rest: &[u8] = if opened { b"" } else { b"asked" };
            assert_eq!(common::read_to_end(&mut stream), rest);
            stream.write_all(b"answered").unwrap();
            assert_eq!(events.next(), b"answered");
            drop(stream);
            common::eventually("both sides are closed", || !conn.is_open());
        }
        end(client);
    }

    fn the_handle_of_one_that_could_not_be_made_answers_closed(driver) {
        let (client, events, _received) = client(common::client(driver));
        let conn = client.connect(to(&closed_port().to_string())).unwrap();
        let (told, done) = common::events();
        let _ = conn.write_then("never sent", move |result| told.send(result).unwrap());
        match events.next() {
            Told::Failed { id, reason: CloseReason::ConnectFailed(error), .. } => {
                assert_eq!(conn.id(), Some(id));
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            }
            other => panic!("{other:?}"),
        }
        assert!(!conn.is_open());
        for told in done.drain() {
            assert_eq!(told, Err(HandleError::Closed));
        }
        assert_eq!(conn.wake(), Err(HandleError::Closed));
        end(client);
    }

    fn a_thousand_connections_are_spread_evenly(driver) {
        const CONNECTIONS: usize = 1_000;
        let server = common::server(driver).listen(TCP).loops(2);
        let server = common::start(server, |_| Script::new());
        let url = common::address(&server, 0).to_string();
        let (client, events, received) = client(common::client(driver).loops(2));
        let conns: Vec<_> =
            (0..CONNECTIONS).map(|_| client.connect(to(&url)).unwrap()).collect();
        let mut on_first = 0;
        for _ in 0..CONNECTIONS {
            match events.next() {
                Told::Opened { id, .. } => on_first += usize::from(id.loop_index() == 0),
                other => panic!("{other:?}"),
            }
            assert_eq!(received.next(), b"greeting");
        }
        assert!((490..=510).contains(&on_first), "{on_first} on the first of two loops");
        for (number, conn) in conns.iter().enumerate() {
            conn.write(format!("{number:04}")).unwrap();
        }
        let mut echoed: Vec<u8> = Vec::new();
        while echoed.len() < 4 * CONNECTIONS {
            echoed.extend(received.next());
        }
        let mut echoed: Vec<_> = echoed.chunks(4).map(<[u8]>::to_vec).collect();
        echoed.sort();
        let expected: Vec<_> =
            (0..CONNECTIONS).map(|number| format!("{number:04}").into_bytes()).collect();
        assert_eq!(echoed, expected);
        assert_eq!(client.handle().connections(), CONNECTIONS);
        end(client);
        assert!(conns.iter().all(|conn| !conn.is_open()));
        assert_eq!(events.drain().len(), CONNECTIONS, "each is told of its end");
        common::stop(server);
    }

    fn a_stop_gives_up_what_is_being_made_and_tells_so(driver) {
        let deaf = Deaf::new();
        let (client, events, _received) = client(common::client(driver));
        let conn = client.connect(to(&deaf.url())).unwrap();
        let (told, done) = common::events();
        conn.write_then("never sent", move |result| told.send(result).unwrap()).unwrap();
        let handle = client.handle();
        end(client);
        assert!(matches!(failure(&events, conn.id().unwrap()), CloseReason::ServerStopped));
        assert_eq!(done.next(), Err(HandleError::Closed));
        assert_eq!(conn.close(), Err(HandleError::Closed));
        assert!(matches!(handle.connect(to(&deaf.url())), Err(Error::Stopped)));
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(peer.local_addr().unwrap()).unwrap();
        assert_eq!(handle.adopt_tcp(stream).unwrap_err().kind(), ErrorKind::NotConnected);
    }

    fn those_asked_for_in_the_moment_of_the_stop_are_told_of_or_closed(driver) {
        for _ in 0..20 {
            // Few at a time, or a slow system tells for minutes of those that piled up.
            let (client, events, _received) = client(common::client(driver).mailbox_capacity(500));
            let handle = client.handle();
            let url = closed_port().to_string();
            let caller = std::thread::spawn(move || {
                let mut conns = Vec::new();
                loop {
                    match handle.connect(to(&url)) {
                        Ok(conn) => conns.push(conn),
                        Err(Error::Full) => std::thread::yield_now(),
                        Err(Error::Stopped) => return conns,
                        Err(other) => panic!("{other}"),
                    }
                }
            });
            assert!(matches!(events.next(), Told::Failed { .. }));
            end(client);
            let conns = caller.join().unwrap();
            assert!(conns.iter().all(|conn| !conn.is_open()));
            // One that the loop did not get to before its end has no identity.
            let taken_up = conns.iter().filter(|conn| conn.id().is_some()).count();
            assert_eq!(events.drain().len() + 1, taken_up);
        }
    }

    fn too_many_at_once_are_refused(driver) {
        let (client, events, _received) = client(common::client(driver).mailbox_capacity(10));
        let (release, wait) = channel::<()>();
        let (started, running) = channel();
        let block = move |_: &mut Script, _: &mut tightloop::Context<'_, Script>| {
            started.send(()).unwrap();
            let _ = wait.recv();
        };
        client.loops()[0].execute(block).unwrap();
        running.recv().unwrap();
        let url = closed_port().to_string();
        for _ in 0..10 {
            assert!(client.connect(to(&url)).is_ok());
        }
        assert!(matches!(client.connect(to(&url)), Err(Error::Full)));
        drop(release);
        for _ in 0..10 {
            assert!(matches!(events.next(), Told::Failed { .. }));
        }
        assert!(client.connect(to(&url)).is_ok());
        assert!(matches!(events.next(), Told::Failed { .. }));
        end(client);
    }

    fn a_stream_that_was_connected_elsewhere_has_a_handle_at_once(driver) {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || TcpStream::connect(peer.local_addr().unwrap()).unwrap();
        let (client, events, received) = client(common::client(driver));
        let conn = client.handle().adopt_tcp(connect()).unwrap();
        conn.write("first ").unwrap();
        let mut stream = peer.accept().unwrap().0;
        assert_eq!(common::read(&mut stream, 14), b"greetingfirst ");
        match events.next() {
            Told::Opened { id, direction, .. } => {
                assert_eq!((conn.id(), direction), (Some(id), Direction::Outgoing));
            }
            other => panic!("{other:?}"),
        }
        stream.write_all(b"hello").unwrap();
        assert_eq!(received.next(), b"hello");
        end(client);

        let (told, events) = common::events();
        let server = common::start(common::server(driver), move |_| reporter(&told));
        let conn = server.handle().adopt_tcp(connect()).unwrap();
        match events.next() {
            Told::Opened { id, direction, .. } => {
                assert_eq!((conn.id(), direction), (Some(id), Direction::Incoming));
            }
            other => panic!("{other:?}"),
        }
        common::stop(server);
    }

    fn a_stream_that_the_loop_refuses_leaves_a_closed_handle(driver) {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let refusing = common::client(driver).on_connection_socket(|_| Err(ErrorKind::Other.into()));
        let (client, events, _received) = client(refusing);
        let stream = TcpStream::connect(peer.local_addr().unwrap()).unwrap();
        let conn = client.handle().adopt_tcp(stream).unwrap();
        common::eventually("it is refused", || !conn.is_open());
        assert_eq!(conn.id(), None);
        assert!(common::is_closed(&mut peer.accept().unwrap().0));
        // One that is made ends in the usual way.
        let conn = client.connect(to(&closed_port().to_string())).unwrap();
        let reason = events.next();
        assert!(matches!(reason, Told::Failed { id, .. } if Some(id) == conn.id()), "{reason:?}");
        end(client);
    }

    fn a_server_connects_by_its_handle_too(driver) {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let to: Endpoint = peer.local_addr().unwrap().to_string().parse().unwrap();
        let (told, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| reporter(&told));
        let conn = server.handle().connect(&to).unwrap();
        let mut stream = peer.accept().unwrap().0;
        assert_eq!(common::read(&mut stream, 8), b"greeting");
        assert!(matches!(events.next(), Told::Opened { id, .. } if Some(id) == conn.id()));
        common::stop(server);
    }

    fn a_client_ends_by_its_own_handler(driver) {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = common::client(driver).start(|_| Script::new().open(|conn| conn.stop_server()));
        let client = client.unwrap();
        client.connect(to(&peer.local_addr().unwrap().to_string())).unwrap();
        let (sender, ended) = channel();
        std::thread::spawn(move || sender.send(client.join()));
        ended.recv_timeout(common::DEADLINE).expect("it ends").unwrap();
    }

    fn an_option_that_cannot_be_meant_fails_the_start(driver) {
        let start = common::client(driver).connect_timeout(Duration::ZERO).start(|_| Script::new());
        match start {
            Err(Error::Option { name, .. }) => assert_eq!(name, "connect_timeout"),
            other => panic!("{other:?}"),
        }
    }
}
