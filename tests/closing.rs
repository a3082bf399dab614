//! Every way a connection can end: `on_close` comes exactly once, with the true reason.

mod common;
mod scripted;

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use scripted::{Event, Script, closed, ending, opened, reset, settle};
use tightloop::{Action, Conn, ConnHandle, RunningServer, Server};

const BRIEFLY: Duration = Duration::from_millis(20);

fn tcp(driver: common::Driver) -> Server {
    common::server(driver).listen("tcp://127.0.0.1:0")
}

/// Opens one connection, has `act` do what ends it, and answers the reason's name after having
/// made sure that there was one `on_close`, of this connection, and that nobody counts it any
/// more. The client lives until then, if `act` leaves it.
fn ended_by(
    server: Server,
    script: impl Fn() -> Script + Send + Sync + 'static,
    act: impl FnOnce(TcpStream, &ConnHandle, &RunningServer<Script>) -> Option<TcpStream>,
) -> String {
    let (report, events) = common::events();
    let server = common::start(server, move |_| script().report(&report));
    let client = common::connect(common::address(&server, 0));
    let handle = opened(&events);
    let client = act(client, &handle, &server);
    let (id, reason) = closed(&events);
    assert_eq!(Some(id), handle.id());
    assert!(!handle.is_open());
    assert!(handle.write("late").is_err() && handle.wake().is_err() && handle.close().is_err());
    drop(client);
    let watch = server.handle();
    common::stop(server);
    let more: Vec<Event> = events.drain();
    assert!(more.is_empty(), "after the close: {more:?}");
    let stats = watch.stats();
    assert_eq!((stats.opened, stats.closed, watch.connections()), (1, 1, 0));
    reason
}

/// Says hello, which is what starts most scripts.
fn hello(mut client: TcpStream, _: &ConnHandle, _: &RunningServer<Script>) -> Option<TcpStream> {
    client.write_all(b"hello").unwrap();
    Some(client)
}

fn idle(client: TcpStream, _: &ConnHandle, _: &RunningServer<Script>) -> Option<TcpStream> {
    Some(client)
}

/// Writes this much in `on_open`; `MUCH` is more than the kernel takes for a peer that sleeps.
fn greeting(size: usize) -> Script {
    Script::new().open(move |conn| {
        conn.write(&vec![0; size]);
    })
}

const MUCH: usize = 20 << 20;

/// The ways in which a callback can end its connection, and the reasons they are to give.
type End = fn(&mut Conn<'_>) -> Action;
const ENDS: [(End, &str); 7] = [
    (|_| Action::Close, "Local"),
    (
        |conn| {
            conn.close();
            Action::Continue
        },
        "Local",
    ),
    // gnet #512: closing twice.
    (
        |conn| {
            conn.close();
            conn.close();
            Action::Close
        },
        "Local",
    ),
    (
        |conn| {
            conn.abort();
            Action::Continue
        },
        "Aborted",
    ),
    (
        |conn| {
            conn.close();
            conn.abort();
            Action::Close
        },
        "Aborted",
    ),
    (
        |conn| {
            conn.write(b"lost");
            conn.abort();
            conn.close();
            Action::Continue
        },
        "Aborted",
    ),
    (
        |conn| {
            conn.write(b"last words");
            let _ = conn.handle().close();
            conn.close();
            Action::Close
        },
        "Local",
    ),
];

/// Tries every end from one callback: `place` makes the script that calls it there.
fn ends_from(
    driver: common::Driver,
    place: fn(End) -> Script,
    act: fn(TcpStream, &ConnHandle, &RunningServer<Script>) -> Option<TcpStream>,
) {
    for (number, (end, reason)) in ENDS.into_iter().enumerate() {
        let server = tcp(driver).half_close(true).high_watermark(1000).low_watermark(100);
        assert_eq!(ended_by(server, move || place(end), act), reason, "way {number}");
    }
}

/// For callbacks that answer nothing: `Action::Close` is asked for by the method.
fn do_it(end: End, conn: &mut Conn<'_>) {
    if end(conn) == Action::Close {
        conn.close();
    }
}

every_driver! {
    fn a_connection_ends_once_from_on_open(driver) {
        ends_from(driver, |end| Script::new().open(move |conn| do_it(end, conn)), idle);
    }

    fn a_connection_ends_once_from_on_traffic(driver) {
        ends_from(driver, |end| Script::new().traffic(move |conn, (), _| end(conn)), hello);
    }

    fn a_connection_ends_once_from_on_timer(driver) {
        let place = |end: End| {
            Script::new().open(|conn| conn.set_timer(BRIEFLY)).timer(move |conn, ()| end(conn))
        };
        ends_from(driver, place, idle);
    }

    fn a_connection_ends_once_from_on_wake(driver) {
        let place = |end: End| Script::new().wake(move |conn, ()| end(conn));
        ends_from(driver, place, |client, handle, _| {
            handle.wake().unwrap();
            // The second one may find the connection gone: that is an answer, not an accident.
            let _ = handle.wake();
            Some(client)
        });
    }

    fn a_connection_ends_once_from_on_drain(driver) {
        let place = |end: End| greeting(MUCH).drain(move |conn, ()| end(conn));
        ends_from(driver, place, |mut client, _, _| {
            // An abort at the low watermark takes what the kernel still held.
            assert!(ending(&mut client).0.len() > MUCH / 2);
            Some(client)
        });
    }

    fn a_connection_ends_once_from_on_eof(driver) {
        // To answer Close is to go along with the peer: only the methods are an end of our own.
        let place = |end: End| {
            Script::new().eof(move |conn, ()| {
                do_it(end, conn);
                Action::Continue
            })
        };
        ends_from(driver, place, |client, _, _| {
            client.shutdown(Shutdown::Write).unwrap();
            Some(client)
        });
    }

    fn a_connection_ends_once_from_pre_write(driver) {
        let place = |end: End| {
            greeting(2).pre_write(move |conn, (), _| do_it(end, conn))
        };
        ends_from(driver, place, idle);
    }

    fn a_connection_ends_once_from_the_end_of_a_job_on_the_worker_pool(driver) {
        let place = |end: End| {
            Script::new().traffic(move |conn, (), input| {
                input.take_all();
                let done = move |conn: &mut Conn<'_>, (): &mut (), _| do_it(end, conn);
                conn.spawn(|| (), done).expect("the pool takes a job");
                Action::Continue
            })
        };
        ends_from(driver, place, hello);
    }

    fn a_connection_ends_once_from_on_tick(driver) {
        let place = |end: End| {
            Script::new().tick(move |cx| {
                let mut ids = Vec::new();
                cx.for_each(|conn, ()| ids.push(conn.id()));
                for id in ids {
                    let (mut conn, ()) = cx.conn(id).expect("it is open");
                    do_it(end, &mut conn);
                }
                Some(BRIEFLY)
            })
        };
        ends_from(driver, place, idle);
    }

    fn a_connection_ends_once_from_another_connections_callback(driver) {
        for (end, reason) in ENDS {
            let (report, events) = common::events();
            let server = common::start(tcp(driver), move |_| {
                let mut first = None;
                Script::<()>::new().report(&report).traffic(move |conn, (), input| {
                    input.take_all();
                    let victim = *first.get_or_insert(conn.id());
                    if victim != conn.id() {
                        do_it(end, &mut conn.peer(victim).expect("it is open"));
                    }
                    Action::Continue
                })
            });
            let mut clients = [(); 2].map(|()| {
                let mut client = common::connect(common::address(&server, 0));
                let handle = opened(&events);
                client.write_all(b"x").unwrap();
                settle(&server, 0);
                (client, handle)
            });
            assert_eq!(closed(&events), (clients[0].1.id().unwrap(), reason.to_owned()));
            assert!(ending(&mut clients[0].0).0.len() <= 10);
            assert!(clients[1].1.is_open());
            common::stop(server);
            assert_eq!(events.drain().len(), 1, "the other one, once");
        }
    }

    fn a_connection_ends_once_when_handles_close_it_from_several_threads(driver) {
        for _ in 0..20 {
            let reason = ended_by(tcp(driver), Script::new, |client, handle, _| {
                std::thread::scope(|scope| {
                    for _ in 0..4 {
                        // Too late is an answer as well.
                        scope.spawn(|| handle.close().is_ok());
                    }
                });
                Some(client)
            });
            assert_eq!(reason, "Local");
        }
    }

    fn the_peers_fin_is_told_as_such(driver) {
        assert_eq!(ended_by(tcp(driver), Script::new, |_, _, _| None), "PeerClosed");
        let shut = |client: TcpStream, _: &_, _: &_| {
            client.shutdown(Shutdown::Write).unwrap();
            Some(client)
        };
        assert_eq!(ended_by(tcp(driver), Script::new, shut), "PeerClosed");
    }

    fn the_peers_reset_is_told_as_such(driver) {
        let strike = |client, _: &ConnHandle, _: &_| {
            reset(client);
            None
        };
        assert_eq!(ended_by(tcp(driver), Script::new, strike), "PeerReset");
        // Also while reading is paused, with and without output that waits.
        let paused = || Script::new().open(|conn| conn.pause_reading());
        assert_eq!(ended_by(tcp(driver), paused, strike), "PeerReset");
        let waiting = || greeting(MUCH);
        assert_eq!(ended_by(tcp(driver), waiting, strike), "PeerReset");
        // And while a close waits for the peer to take its output.
        let closing = || Script::new().open(|conn| {
            conn.write(&vec![0; MUCH]);
            conn.close();
        });
        assert_eq!(ended_by(tcp(driver), closing, strike), "PeerReset");
    }

    fn both_sides_may_end_it_at_once(driver) {
        for round in 0..100 {
            let reason = ended_by(tcp(driver), Script::new, |client, handle, _| {
                std::thread::scope(|scope| {
                    scope.spawn(|| handle.close().is_ok());
                    if round % 2 == 0 { drop(client) } else { reset(client) }
                });
                None
            });
            let possible = ["Local", "PeerClosed", "PeerReset"];
            assert!(possible.contains(&&*reason), "{reason}");
        }
    }

    fn a_connection_that_is_idle_for_too_long_ends_as_such(driver) {
        let by_option = tcp(driver).idle_timeout(BRIEFLY);
        assert_eq!(ended_by(by_option, Script::new, idle), "IdleTimeout");
        let by_itself = || Script::new().open(|conn| conn.set_idle_timeout(BRIEFLY));
        assert_eq!(ended_by(tcp(driver), by_itself, idle), "IdleTimeout");
        // A peer that takes nothing of what waits for it is idle too.
        let stuck = || Script::new().open(|conn| {
            conn.write(&vec![0; MUCH]);
            conn.set_idle_timeout(BRIEFLY);
        });
        assert_eq!(ended_by(tcp(driver), stuck, idle), "IdleTimeout");
    }

    fn a_close_that_makes_no_progress_ends_as_such(driver) {
        let stuck = || Script::new().open(|conn| {
            conn.write(&vec![0; MUCH]);
            conn.close();
        });
        common::at_best(|| {
            let time = Duration::from_millis(400);
            let begin = Instant::now();
            assert_eq!(ended_by(tcp(driver).close_timeout(time), stuck, idle), "CloseTimeout");
            // Not a second time, though the first look finds that the peer's socket took something.
            assert!((time..time * 7 / 4).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        });
    }

    fn the_servers_stop_is_told_as_such(driver) {
        let stop = |client, _: &ConnHandle, server: &RunningServer<Script>| {
            server.stop();
            server.stop();
            Some(client)
        };
        assert_eq!(ended_by(tcp(driver), Script::new, stop), "ServerStopped");
        let now = |client, _: &ConnHandle, server: &RunningServer<Script>| {
            server.stop_within(Duration::ZERO);
            Some(client)
        };
        let waiting = || greeting(MUCH);
        assert_eq!(ended_by(tcp(driver), waiting, now), "ServerStopped");
    }

    fn too_much_output_ends_as_such_from_any_callback(driver) {
        let limited = |driver| tcp(driver).high_watermark(1000).low_watermark(100).max_pending_output(5_000);
        let too_long = || greeting(5_001);
        assert_eq!(ended_by(limited(driver), too_long, idle), "OutputLimit");
        let reply = || Script::new().traffic(|conn, (), _| {
            conn.write(&[0; 5_001]);
            conn.write(&[0; 5_001]);
            Action::Close
        });
        assert_eq!(ended_by(limited(driver), reply, hello), "OutputLimit");
        let before_write = || greeting(10).pre_write(|conn, (), _| {
            conn.write(&[0; 5_000]);
        });
        assert_eq!(ended_by(limited(driver), before_write, idle), "OutputLimit");
    }

    fn the_client_sees_an_abort_as_a_reset_and_a_close_as_an_end(driver) {
        let server = common::start(tcp(driver), |_| Script::<()>::new().traffic(|conn, (), input| {
            conn.write(b"answer");
            if input.take_all() == b"abort" {
                conn.abort();
            }
            Action::Close
        }));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"abort").unwrap();
        let (bytes, end) = ending(&mut client);
        assert_eq!(bytes, b"", "what was written before an abort is dropped");
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"close").unwrap();
        assert_eq!(common::read_to_end(&mut client), b"answer");
        common::stop(server);
    }
}
