//! What a connection still delivers when it ends, and what its last callback can still ask.

mod common;
mod scripted;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::Duration;

use scripted::{Script, block, closed, next, opened, reset, settle};
use tightloop::{Action, Address, HandleError, Server};

fn tcp(driver: common::Driver) -> Server {
    common::server(driver).listen("tcp://127.0.0.1:0")
}

every_driver! {
    fn a_reply_with_a_close_arrives_whole_though_the_client_still_sends(driver) {
        const REPLY: usize = 400_000;
        // The small receive buffer leaves most of the request unread when the reply is written.
        let server = common::start(tcp(driver).receive_buffer(1024), |_| {
            Script::<()>::new().traffic(|conn, (), input| {
                input.take(1);
                conn.write(&common::pattern(REPLY));
                Action::Close
            })
        });
        for round in 0..12 {
            let mut client = common::connect(common::address(&server, 0));
            let writer = common::write_in_background(&client, vec![b'r'; 700_000], false);
            if round % 2 == 0 {
                // The server has closed long before the client reads.
                writer.join().unwrap().unwrap();
                common::eventually("closed", || server.handle().connections() == 0);
            }
            assert!(common::read_to_end(&mut client) == common::pattern(REPLY), "round {round}");
        }
        common::stop(server);
    }

    fn a_large_reply_with_a_close_arrives_whole(driver) {
        const REPLY: usize = 12 << 20;
        let (report, events) = common::events();
        let server = common::start(tcp(driver), move |_| {
            Script::<()>::new().report(&report).traffic(|conn, (), input| {
                input.take_all();
                conn.write(&common::pattern(REPLY));
                Action::Close
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        opened(&events);
        client.write_all(b"?").unwrap();
        common::eventually("it blocks", || server.handle().stats().partial_writes > 0);
        client.write_all(b"this is not read any more").unwrap();
        assert!(common::read_to_end(&mut client) == common::pattern(REPLY), "the reply differs");
        assert_eq!(closed(&events).1, "Local");
        common::stop(server);
    }

    fn input_after_a_close_is_not_shown_to_the_handler(driver) {
        let (say, said) = channel();
        let server = common::start(tcp(driver), move |_| {
            let say = say.clone();
            Script::<()>::new().traffic(move |conn, (), input| {
                say.send(input.take(1).unwrap()[0]).unwrap();
                conn.write(&vec![0; 12 << 20]);
                Action::Close
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"1-") .unwrap();
        assert_eq!(next(&said), b'1');
        client.write_all(b"2").unwrap();
        assert_eq!(common::read_to_end(&mut client).len(), 12 << 20);
        settle(&server, 0);
        assert!(said.try_recv().is_err(), "one call after the close");
        common::stop(server);
    }

    // gnet #529: the last bytes before a close were lost.
    fn what_a_peer_sends_just_before_it_closes_is_all_delivered(driver) {
        const SIZE: usize = 300_000;
        let (say, said) = channel();
        let (report, events) = common::events();
        let server = common::start(tcp(driver).receive_buffer(5_000), move |_| {
            let say = say.clone();
            Script::<usize>::new()
                .report(&report)
                .traffic(|_, total, input| {
                    *total += input.take_all().len();
                    Action::Continue
                })
                .close(move |_, total, _| say.send(total).unwrap())
        });
        for round in 0..50 {
            let mut client = common::connect(common::address(&server, 0));
            opened(&events);
            let gate = (round % 2 == 0).then(|| block(&server, 0));
            client.write_all(&vec![1; SIZE >> (round % 5)]).unwrap();
            drop(client);
            drop(gate);
            assert_eq!(next(&said), SIZE >> (round % 5), "round {round}");
            assert_eq!(closed(&events).1, "PeerClosed");
        }
        common::stop(server);
    }

    // gnet #126, #714: no addresses after the close.
    fn the_addresses_can_be_read_in_on_close_however_it_came(driver) {
        let (say, said) = channel();
        let server = common::start(tcp(driver), move |_| {
            let say = say.clone();
            Script::<()>::new()
                .traffic(|conn, (), input| {
                    if input.take_all() == b"abort" {
                        conn.abort();
                    }
                    Action::Close
                })
                .close(move |conn, (), _| {
                    say.send((conn.peer_addr(), conn.local_addr().unwrap())).unwrap();
                })
        });
        let address = common::address(&server, 0);
        for way in ["fin", "reset", "close", "abort", "stop"] {
            let mut client = common::connect(address);
            let expected = (Address::from(client.local_addr().unwrap()), Address::from(address));
            match way {
                "fin" => drop(client),
                "reset" => {
                    // Windows does not hand out a connection that has been reset.
                    common::eventually("open", || server.handle().connections() == 1);
                    reset(client);
                }
                "stop" => {
                    common::eventually("open", || server.handle().connections() == 1);
                    server.stop();
                }
                _ => client.write_all(way.as_bytes()).unwrap(),
            }
            assert_eq!(next(&said), expected, "{way}");
        }
        server.join().unwrap();
    }

    fn what_is_asked_of_a_connection_in_on_close_goes_nowhere(driver) {
        let (say, said) = channel();
        let server = common::start(tcp(driver), move |_| {
            let say = say.clone();
            // No report: the first handle of the connection is the one asked for in on_close.
            Script::<()>::new()
                .traffic(|conn, (), input| {
                    conn.write(input.take_all());
                    Action::Close
                })
                .wake(|_, ()| panic!("woken after the close"))
                .timer(|_, ()| panic!("its timer came after the close"))
                .close(move |conn, (), _| {
                    assert_eq!(conn.write(b"after the end"), 0);
                    assert_eq!(conn.write_bytes(vec![0; 5_000]), 0);
                    assert!(conn.writer().is_none());
                    assert_eq!(conn.pending(), 0);
                    conn.pause_reading();
                    conn.resume_reading();
                    conn.set_timer(Duration::from_millis(1));
                    conn.set_idle_timeout(Duration::from_millis(1));
                    conn.flush();
                    conn.shutdown_write();
                    conn.close();
                    conn.abort();
                    let own = conn.id();
                    assert!(conn.peer(own).is_none());
                    let handle = conn.handle();
                    assert!(!handle.is_open(), "a handle to a closed connection is open");
                    assert_eq!(handle.write("late"), Err(HandleError::Closed));
                    assert_eq!(handle.wake(), Err(HandleError::Closed));
                    assert_eq!(handle.close(), Err(HandleError::Closed));
                    say.send(()).unwrap();
                })
        });
        for closes_first in [true, false] {
            let mut client = common::connect(common::address(&server, 0));
            if closes_first {
                client.shutdown(Shutdown::Write).unwrap();
            } else {
                client.write_all(b"hello").unwrap();
            }
            next(&said);
            let expected: &[u8] = if closes_first { b"" } else { b"hello" };
            assert_eq!(common::read_to_end(&mut client), expected);
            settle(&server, 0);
        }
        common::stop(server);
    }

    fn after_the_peers_fin_everything_is_still_echoed_where_half_close_is_on(driver) {
        const SIZE: usize = 4 << 20;
        let (report, events) = common::events();
        let (say, said) = channel();
        let server = common::start(tcp(driver).half_close(true), move |_| {
            let say = say.clone();
            Script::<usize>::new()
                .report(&report)
                .traffic(|conn, total, input| {
                    *total += input.len();
                    conn.write(input.take_all());
                    Action::Continue
                })
                .eof(move |conn, total| {
                    conn.write(b"end");
                    say.send(*total).unwrap();
                    Action::Continue
                })
        });
        let mut client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        let writer = common::write_in_background(&client, common::pattern(SIZE), true);
        assert!(common::read(&mut client, SIZE) == common::pattern(SIZE), "the echo differs");
        writer.join().unwrap().unwrap();
        assert_eq!(common::read(&mut client, 3), b"end");
        assert_eq!(next(&said), SIZE);
        settle(&server, 0);
        assert!(handle.is_open(), "`Continue` keeps it open for writing");
        handle.write("much later").unwrap();
        assert_eq!(common::read(&mut client, 10), b"much later");
        handle.close().unwrap();
        assert_eq!(common::read_to_end(&mut client), b"");
        assert_eq!(closed(&events), (handle.id().unwrap(), "Local".to_owned()));
        assert!(said.try_recv().is_err(), "on_eof came twice");
        common::stop(server);
    }

    fn after_shutdown_write_the_client_reads_the_end_and_may_still_send(driver) {
        for half_close in [false, true] {
            let (report, events) = common::events();
            let (say, said) = channel();
            let server = common::start(tcp(driver).half_close(half_close), move |_| {
                let say = say.clone();
                let asked = Rc::new(Cell::new(false));
                Script::<()>::new()
                    .report(&report)
                    .traffic(move |conn, (), input| {
                        say.send(input.take_all().to_vec()).unwrap();
                        if !asked.replace(true) {
                            conn.write(&common::pattern(3 << 20));
                            conn.shutdown_write();
                        }
                        assert_eq!(conn.write(b"after the end"), conn.pending());
                        assert!(conn.writer().is_none());
                        Action::Continue
                    })
                    .eof(|_, ()| Action::Continue)
            });
            let mut client = common::connect(common::address(&server, 0));
            let handle = opened(&events);
            client.write_all(b"?").unwrap();
            assert_eq!(next(&said), b"?");
            assert!(common::read_to_end(&mut client) == common::pattern(3 << 20));
            for _ in 0..3 {
                client.write_all(b"more").unwrap();
                assert_eq!(next(&said), b"more");
            }
            assert!(handle.is_open());
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(closed(&events), (handle.id().unwrap(), "PeerClosed".to_owned()));
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            common::stop(server);
        }
    }

    #[cfg(unix)]
    fn unix_streams_deliver_their_last_bytes_too(driver) {
        use std::os::unix::net::UnixStream;
        // Each driver's test has one of its own.
        let name = format!("tl-delivery-{}-{driver:?}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let (report, events) = common::events();
        let url = format!("unix://{}", path.display());
        let server = common::start(common::server(driver).listen(url), move |_| {
            Script::<()>::new().report(&report).traffic(|conn, (), input| {
                input.take(1);
                conn.write(&common::pattern(2 << 20));
                Action::Close
            })
        });
        for _ in 0..8 {
            let mut client = UnixStream::connect(&path).unwrap();
            client.set_read_timeout(Some(common::DEADLINE)).unwrap();
            client.write_all(&[0; 100_000]).unwrap();
            opened(&events);
            assert!(common::read_to_end(&mut client) == common::pattern(2 << 20));
            assert_eq!(closed(&events).1, "Local");
        }
        common::stop(server);
    }

    fn a_peer_that_goes_on_sending_after_the_close_is_bounded_in_bytes_and_in_time(driver) {
        const HOUR: Duration = Duration::from_secs(3600);
        for (patience, bytes) in [(HOUR, 1 << 20), (Duration::from_millis(100), usize::MAX)] {
            let server = tcp(driver).linger_after_close(patience, bytes);
            let server = common::start(server, |_| {
                Script::<()>::new().traffic(|conn, (), input| {
                    conn.write(input.take_all());
                    Action::Close
                })
            });
            let mut client = common::connect(common::address(&server, 0));
            assert_eq!(common::exchange(&mut client, b"bye"), b"bye");
            let mut sent = 0;
            common::eventually("its socket is closed", || {
                let part = if patience == HOUR { 64 << 10 } else { 1 };
                let result = client.write(&vec![0; part]);
                sent += part;
                result.is_err()
            });
            assert!(sent < 64 << 20, "{sent} bytes were taken");
            common::stop(server);
        }
    }
}
