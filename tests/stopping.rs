//! The end of a server: asked for from any callback or thread, it delivers, tells everybody once,
//! and comes.

mod closures;
mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use closures::{Script, TCP, be_busy, ended, joined};
use tightloop::{Action, CloseReason, HandleError, PanicPolicy, RunningServer, Server};

/// More than the kernel's buffers of both ends hold.
const MUCH: usize = 32 << 20;

/// Made once: in a debug build that takes a while.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| common::pattern(MUCH).into());

/// What no test waits for: a stop that takes as long does not end within the tests' deadline.
const FOR_EVER: Duration = Duration::from_secs(600);

/// A server whose one client has asked for `MUCH` and reads nothing yet.
fn with_much_pending(server: Server) -> (RunningServer<Script>, TcpStream) {
    let (sent, events) = common::events();
    let server = common::start(server.listen(TCP), move |_| {
        let sent = sent.clone();
        Script::new().traffic(move |conn, input| {
            input.take_all();
            conn.write_bytes(PATTERN.clone());
            sent.send(()).unwrap();
            Action::Continue
        })
    });
    LazyLock::force(&PATTERN);
    let mut client = common::connect(common::address(&server, 0));
    client.write_all(b"all of it").unwrap();
    events.next();
    (server, client)
}

/// Reads to the end, however it comes: the bytes and whether the end was in order.
fn read_what_comes(client: &mut TcpStream) -> (usize, bool) {
    let mut total = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return (total, true),
            Ok(n) => total += n,
            Err(_) => return (total, false),
        }
    }
}

every_driver! {
    fn what_was_pending_is_delivered_before_the_end(driver) {
        let (server, mut client) = with_much_pending(common::server(driver));
        server.stop_within(common::DEADLINE);
        assert!(common::read_to_end(&mut client) == *PATTERN, "bytes differ");
        drop(client);
        ended(server);
    }

    fn what_is_pending_at_the_deadline_is_cut_off_and_the_peer_can_tell(driver) {
        let server = common::server(driver).stop_timeout(FOR_EVER).close_timeout(FOR_EVER);
        let (server, mut client) = with_much_pending(server);
        server.stop_within(Duration::from_millis(50));
        ended(server);
        let (got, in_order) = read_what_comes(&mut client);
        assert!(got < MUCH, "the kernel held everything: the test tests nothing");
        assert!(!in_order, "a truncated stream of {got} bytes ended as if it were whole");
    }

    fn a_later_stop_with_less_time_shortens_the_first(driver) {
        let server = common::server(driver).close_timeout(FOR_EVER);
        let (server, _client) = with_much_pending(server);
        server.stop_within(FOR_EVER);
        server.stop_within(Duration::from_millis(50));
        ended(server);
    }

    fn a_later_stop_with_more_time_does_not_lengthen_the_first(driver) {
        let server = common::server(driver).stop_timeout(FOR_EVER).close_timeout(FOR_EVER);
        let (server, _client) = with_much_pending(server);
        server.stop_within(Duration::from_millis(50));
        server.stop_within(FOR_EVER);
        server.stop();
        ended(server);
    }

    fn the_time_of_a_stop_counts_from_the_stop_and_not_from_the_turn_before_it(driver) {
        LazyLock::force(&PATTERN);
        // In this time the client has to take what is pending.
        common::patiently(Duration::from_millis(400), |time| {
            let server = common::server(driver).stop_timeout(time).listen(TCP);
            let server = common::start(server, move |_| {
                Script::new().traffic(move |conn, input| {
                    input.take_all();
                    be_busy(time + time / 2);
                    conn.write_bytes(PATTERN.slice(..8 << 20));
                    Action::Shutdown
                })
            });
            let mut client = common::connect(common::address(&server, 0));
            client.write_all(b"all of it").unwrap();
            assert!(common::read_to_end(&mut client) == PATTERN[..8 << 20], "bytes differ");
            drop(client);
            ended(server);
        });
    }

    fn the_option_sets_the_deadline_of_stop(driver) {
        // The one that holds without it is five seconds.
        common::at_best(|| {
            let server = common::server(driver).stop_timeout(Duration::from_millis(200));
            let (server, _client) = with_much_pending(server);
            let start = Instant::now();
            server.stop();
            ended(server);
            let took = start.elapsed();
            assert!((200..2_000).contains(&took.as_millis()), "took {took:?}");
        });
    }

    fn a_hundred_connections_each_see_the_end_and_are_told_of_once(driver) {
        let (event, events) = common::events();
        let server = common::start(common::server(driver).loops(2).listen(TCP), move |info| {
            let (close, shutdown) = (event.clone(), event.clone());
            Script::new()
                .close(move |conn, reason| {
                    assert!(matches!(reason, CloseReason::ServerStopped), "{reason}");
                    close.send((info.index, Some(conn.id()))).unwrap();
                })
                .shutdown(move |cx| {
                    assert_eq!(cx.connections(), 0);
                    shutdown.send((info.index, None)).unwrap();
                })
        });
        let to = common::address(&server, 0);
        let mut clients: Vec<_> = (0..100).map(|_| common::connect(to)).collect();
        for client in &mut clients {
            assert_eq!(common::exchange(client, b"here"), b"here");
        }
        let handle = server.handle();
        assert_eq!(handle.connections(), 100);
        server.stop();
        for client in &mut clients {
            assert!(common::read_to_end(client).is_empty());
        }
        drop(clients);
        ended(server);
        let told = events.drain();
        let ids: HashSet<_> = told.iter().filter_map(|(_, id)| *id).collect();
        assert_eq!((told.len(), ids.len()), (102, 100), "100 on_close and 2 on_shutdown");
        for index in 0..2 {
            let last = told.iter().rfind(|(at, _)| *at == index);
            assert_eq!(last, Some(&(index, None)), "on_shutdown is a loop's last callback");
        }
        assert_eq!(handle.connections(), 0);
    }

    fn clients_that_stay_do_not_delay_the_stop(driver) {
        let server = common::server(driver).linger_after_close(FOR_EVER, 1 << 20).listen(TCP);
        let server = common::start(server, |_| Script::new());
        let to = common::address(&server, 0);
        let mut clients: Vec<_> = (0..50).map(|_| common::connect(to)).collect();
        for client in clients.iter_mut().skip(25) {
            common::exchange(client, b"here");
        }
        common::eventually("all are accepted", || server.handle().connections() == 50);
        server.stop_within(FOR_EVER);
        ended(server);
    }

    fn a_client_that_was_closed_before_and_stays_does_not_delay_the_stop(driver) {
        let (closed, events) = common::events();
        let server = common::server(driver).linger_after_close(FOR_EVER, 1 << 20).listen(TCP);
        let server = common::start(server, move |_| {
            let closed = closed.clone();
            Script::new()
                .traffic(|conn, input| {
                    conn.write(input.take_all());
                    Action::Close
                })
                .close(move |_, _| closed.send(()).unwrap())
        });
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::exchange(&mut client, b"bye"), b"bye");
        events.next();
        server.stop_within(FOR_EVER);
        ended(server);
    }

    fn the_port_is_free_once_the_server_has_ended(driver) {
        let server = common::start(common::server(driver).loops(2).listen(TCP), |_| Script::new());
        let to = common::address(&server, 0);
        let client = common::connect(to);
        common::stop(server);
        drop(client);
        common::stop(common::start(
            common::server(driver).listen(format!("tcp://{to}")),
            |_| Script::new(),
        ));
    }

    fn a_stop_while_connections_pour_in_loses_none_of_them(driver) {
        let (event, events) = common::events();
        let server = common::start(common::server(driver).loops(2).listen(TCP), move |_| {
            let (open, close) = (event.clone(), event.clone());
            Script::new()
                .open(move |conn| open.send((conn.id(), 1)).unwrap())
                .close(move |conn, _| close.send((conn.id(), -1)).unwrap())
        });
        let to = common::address(&server, 0);
        let clients: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut open = Vec::new();
                    while let Ok(stream) = TcpStream::connect(to) {
                        open.push(stream);
                    }
                })
            })
            .collect();
        let handle = server.handle();
        common::eventually("many connections", || handle.stats().opened > 300);
        server.stop();
        ended(server);
        for client in clients {
            client.join().unwrap();
        }
        let told = events.drain();
        let (mut open, mut seen) = (HashSet::new(), 0);
        for (id, change) in told {
            seen += 1;
            let fits = if change > 0 { open.insert(id) } else { open.remove(&id) };
            assert!(fits, "{id} was told of twice, or closed without having been opened");
        }
        assert!(seen > 600 && open.is_empty(), "{} were never closed", open.len());
        assert_eq!(handle.stats().opened, handle.stats().closed);
    }

    fn dropping_the_running_server_stops_it(driver) {
        let (ends, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let ends = ends.clone();
            Script::new().shutdown(move |_| ends.send(()).unwrap())
        });
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::exchange(&mut client, b"here"), b"here");
        drop(server);
        assert!(common::read_to_end(&mut client).is_empty());
        drop(client);
        events.next();
    }

    fn every_handle_of_a_stopped_server_answers_closed(driver) {
        let (give, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let give = give.clone();
            Script::new().open(move |conn| give.send(conn.handle()).unwrap())
        });
        let client = common::connect(common::address(&server, 0));
        let conn = events.next();
        let (handle, event_loop) = (server.handle(), server.loops()[0].clone());
        let workers = server.workers().clone();
        server.stop();
        drop(client);
        ended(server);
        assert!(handle.is_stopping() && !conn.is_open());
        assert_eq!(conn.write("x"), Err(HandleError::Closed));
        assert_eq!(conn.write_then("x", |_| unreachable!()), Err(HandleError::Closed));
        assert_eq!(conn.wake(), Err(HandleError::Closed));
        assert_eq!(conn.close(), Err(HandleError::Closed));
        assert_eq!(handle.broadcast("x"), Err(HandleError::Closed));
        assert_eq!(event_loop.execute(|_, _| unreachable!()), Err(HandleError::Closed));
        assert!(workers.try_spawn(|| unreachable!()).is_err());
        handle.stop();
    }

    fn a_job_that_a_loop_accepted_runs_although_the_server_stops(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| Script::new());
        let (ran, events) = common::events();
        let event_loop = server.loops()[0].clone();
        server.stop();
        let mut accepted = 0;
        loop {
            let ran = ran.clone();
            match event_loop.execute(move |_, _| ran.send(()).unwrap()) {
                Ok(()) => accepted += 1,
                Err(HandleError::Full) => {}
                Err(error) => break assert_eq!(error, HandleError::Closed),
            }
        }
        ended(server);
        assert_eq!(events.drain().len(), accepted);
    }

    fn a_panic_in_on_shutdown_is_told_by_join(driver) {
        let server = common::server(driver).panic_policy(PanicPolicy::StopServer).listen(TCP);
        let server = common::start(server, |_| {
            Script::new().shutdown(|_| panic!("not now"))
        });
        server.stop();
        let error = joined(server).0.expect_err("a loop panicked");
        assert!(error.to_string().contains("not now"), "{error}");
    }

    fn who_stops_accepting_goes_on_with_open_connections(driver) {
        for (loops, reuse_port) in [(1, false), (2, false), (2, true)] {
            let server = common::server(driver).loops(loops).reuse_port(reuse_port && common::SPREADS).listen(TCP);
            let server = common::start(server.listen("udp://127.0.0.1:0"), |_| Script::new());
            let (to, udp) = (common::address(&server, 0), common::address(&server, 1));
            let mut client = common::connect(to);
            assert_eq!(common::exchange(&mut client, b"before"), b"before");
            server.handle().stop_accepting();
            common::eventually("nobody listens", || TcpStream::connect(to).is_err());
            assert_eq!(common::exchange(&mut client, b"behind"), b"behind");
            let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
            datagrams.set_read_timeout(Some(common::DEADLINE)).unwrap();
            datagrams.send_to(b"x", udp).unwrap();
            assert_eq!(datagrams.recv(&mut [0; 8]).unwrap(), 1);
            assert!(!server.handle().is_stopping());
            drop(client);
            common::eventually("it has gone", || server.handle().connections() == 0);
            common::stop(server);
        }
    }

    fn a_server_of_datagrams_alone_stops(driver) {
        let server = common::start(common::server(driver).listen("udp://127.0.0.1:0"), |_| {
            Script::new()
        });
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(common::DEADLINE)).unwrap();
        client.send_to(b"x", common::address(&server, 0)).unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 1);
        server.stop_within(FOR_EVER);
        ended(server);
    }
}
