//! Idle timeouts end a connection that is silent, and none on which anything moves.

mod closures;
mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

#[cfg(unix)]
use bytes::Bytes;
#[cfg(unix)]
use closures::Directory;
use closures::{Script, TCP, be_busy};
use tightloop::{Action, CloseReason, Conn, Context, Endpoint, RunningServer, Server};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A byte every 20 ms to each client: the clock of these tests.
fn metronome() -> (RunningServer<Script>, TcpStream) {
    let server = common::start(Server::new().listen(TCP), |_| {
        Script::new().tick(|cx| {
            cx.broadcast("x");
            Some(ms(20))
        })
    });
    let client = common::connect(common::address(&server, 0));
    (server, client)
}

/// A server that reports why its connections ended.
fn idle(server: Server) -> (RunningServer<Script>, common::Events<CloseReason>) {
    let (closed, events) = common::events();
    let server = common::start(server.listen(TCP), move |_| {
        let closed = closed.clone();
        Script::new().close(move |_, reason| closed.send(reason).unwrap())
    });
    (server, events)
}

/// Has something echoed, then waits, without sending, until the server closes. Answers how long
/// that took from before the echo: the server may be silent for long before the client knows.
fn time_to_end(client: &mut TcpStream) -> Duration {
    let start = Instant::now();
    assert_eq!(common::exchange(client, b"here"), b"here");
    assert!(common::is_closed(client));
    start.elapsed()
}

/// Sets an option of the level SOL_SOCKET for which the crate of sockets has no method.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn set_option(socket: &tightloop::SockRef<'_>, option: libc::c_int, value: libc::c_uint) {
    use std::os::fd::AsRawFd;

    // SAFETY: the value lives as long as the call, and its size is given.
    let result = unsafe {
        let value = (&raw const value).cast();
        let size = size_of::<libc::c_uint>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, size)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

every_driver! {
    fn a_silent_connection_is_closed_when_its_idle_timeout_is_over(driver) {
        let (server, events) = idle(common::server(driver).idle_timeout(ms(100)));
        let to = common::address(&server, 0);
        let (mut silent, mut answered) = (common::connect(to), common::connect(to));
        let took = time_to_end(&mut answered);
        assert!((ms(95)..common::DEADLINE).contains(&took), "took {took:?}");
        assert!(common::is_closed(&mut silent));
        for _ in 0..2 {
            assert!(matches!(events.next(), CloseReason::IdleTimeout));
        }
        common::stop(server);
    }

    fn a_connection_with_its_own_idle_timeout_overrides_the_servers(driver) {
        let (closed, events) = common::events();
        let server = common::server(driver).idle_timeout(ms(40)).listen(TCP);
        let server = common::start(server, move |_| {
            let closed = closed.clone();
            Script::new()
                .open(|conn| conn.set_idle_timeout(None))
                .traffic(|conn: &mut Conn<'_>, input| {
                    conn.write(input.take_all());
                    conn.set_idle_timeout(ms(50));
                    Action::Continue
                })
                .close(move |_, reason| closed.send(reason).unwrap())
        });
        let mut client = common::connect(common::address(&server, 0));
        let (clock, mut tick) = metronome();
        common::read(&mut tick, 8);
        drop(tick);
        common::stop(clock);
        assert!(events.drain().is_empty(), "None did not turn it off");
        assert!(time_to_end(&mut client) >= ms(45));
        assert!(matches!(events.next(), CloseReason::IdleTimeout));
        common::stop(server);
    }

    fn a_connection_that_only_sends_is_not_idle(driver) {
        // The machine must not be silent for as long.
        common::patiently(ms(200), |time| {
            let (got, events) = common::events();
            let server = common::server(driver).idle_timeout(time).listen(TCP);
            let server = common::start(server, move |_| {
                let got = got.clone();
                Script::new().traffic(move |_, input| {
                    got.send(input.take_all().len()).unwrap();
                    Action::Continue
                })
            });
            // Another server's metronome connects to this one and never gets an answer.
            let to: Endpoint = common::address(&server, 0).to_string().parse().unwrap();
            let sender = common::start(Server::new(), move |_| {
                let (to, mut started) = (to.clone(), false);
                Script::new().tick(move |cx| {
                    if !std::mem::replace(&mut started, true) {
                        cx.connect(&to).unwrap();
                    }
                    cx.broadcast("x");
                    Some(ms(20))
                })
            });
            let start = Instant::now();
            while start.elapsed() < 3 * time {
                events.next();
            }
            let stats = server.handle().stats();
            assert_eq!((stats.opened, stats.closed), (1, 0));
            common::stop(sender);
            common::stop(server);
        });
    }

    fn a_connection_that_only_receives_is_not_idle(driver) {
        let server = common::server(driver).idle_timeout(ms(200)).listen(TCP);
        let server = common::start(server, |_| {
            Script::new().tick(|cx| {
                cx.broadcast("x");
                Some(ms(20))
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::read(&mut client, 30), [b'x'; 30]);
        assert_eq!(server.handle().stats().closed, 0);
        drop(client);
        common::stop(server);
    }

    fn a_long_callback_does_not_count_as_silence(driver) {
        // In this time the client has to answer.
        common::patiently(ms(200), |time| {
            let server = common::server(driver).idle_timeout(time).listen(TCP);
            let server = common::start(server, move |_| {
                Script::new()
                    .open(move |conn| {
                        be_busy(time + time / 2);
                        conn.write(b"hello");
                    })
                    .traffic(move |conn, input| {
                        be_busy(time + time / 2);
                        conn.write(input.take_all());
                        Action::Continue
                    })
            });
            let mut client = common::connect(common::address(&server, 0));
            assert_eq!(common::read(&mut client, 5), b"hello");
            // Now it has this time from its last byte, and uses them to answer at once.
            for _ in 0..3 {
                assert_eq!(common::exchange(&mut client, b"at once"), b"at once");
            }
            drop(client);
            common::stop(server);
        });
    }

    fn the_end_of_a_long_callback_is_remembered_behind_further_ones(driver) {
        common::patiently(ms(400), |time| {
            let server = common::server(driver).idle_timeout(time).listen(TCP);
            let server = common::start(server, move |_| {
                Script::new().traffic(move |conn, input| {
                    be_busy(time * 3 / 4);
                    conn.write(input.take_all());
                    Action::Continue
                })
            });
            let mut client = common::connect(common::address(&server, 0));
            assert_eq!(common::exchange(&mut client, b"slowly"), b"slowly");
            let answered = Instant::now();
            // Turns of a few milliseconds, until the watch has looked and long before the time is over.
            while answered.elapsed() < time / 2 {
                let (told, turn) = channel();
                let busy = move |_: &mut Script, _: &mut Context<'_, Script>| {
                    be_busy(ms(3));
                    told.send(()).unwrap();
                };
                server.loops()[0].execute(busy).unwrap();
                turn.recv().unwrap();
            }
            assert_eq!(common::exchange(&mut client, b"again"), b"again");
            drop(client);
            common::stop(server);
        });
    }

    fn who_spoke_while_the_loop_was_busy_is_not_silent_though_others_are_heard_first(driver) {
        // In this time all have to connect and be answered.
        common::patiently(ms(200), |time| {
            let server = common::server(driver).events_per_turn(1).idle_timeout(time).listen(TCP);
            let server = common::start(server, |_| Script::new());
            let to = common::address(&server, 0);
            let mut clients: Vec<_> = (0..8).map(|_| common::connect(to)).collect();
            for client in &mut clients {
                assert_eq!(common::exchange(client, b"a"), b"a");
            }
            // What is heard in a long turn counts from its end: this was in an earlier one.
            let heard = Instant::now();
            while heard.elapsed() < ms(5) {
                let (told, turn) = channel();
                server.loops()[0].execute(move |_, _| told.send(()).unwrap()).unwrap();
                turn.recv().unwrap();
            }
            let (all_have_spoken, wait) = channel();
            let busy = move |_: &mut Script, _: &mut Context<'_, Script>| {
                wait.recv().unwrap();
                be_busy(time + time / 4);
            };
            server.loops()[0].execute(busy).unwrap();
            for client in &mut clients {
                client.write_all(b"b").unwrap();
            }
            all_have_spoken.send(()).unwrap();
            for client in &mut clients {
                assert_eq!(common::read(client, 1), b"b");
            }
            drop(clients);
            common::stop(server);
        });
    }

    /// It makes the system report an error for ever, and is no input.
    #[cfg(target_os = "linux")]
    fn what_waits_in_the_sockets_error_queue_keeps_nobody_alive(driver) {
        let (closed, events) = common::events();
        let server = common::server(driver).idle_timeout(ms(200)).listen(TCP);
        let server = common::start(server, move |_| {
            let closed = closed.clone();
            Script::new()
                .open(|conn| {
                    let wanted = libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
                    set_option(&conn.socket().unwrap(), libc::SO_TIMESTAMPING, wanted);
                })
                .close(move |_, reason| closed.send(reason).unwrap())
        });
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::exchange(&mut client, b"stamped"), b"stamped");
        assert!(matches!(events.next(), CloseReason::IdleTimeout));
        drop(client);
        common::stop(server);
    }

    #[cfg(unix)]
    fn a_large_answer_to_a_slow_reader_is_not_idle_while_it_makes_progress(driver) {
        const SIZE: usize = 1 << 20;
        // Made before: in a debug build that takes longer than the timeout.
        let pattern = Bytes::from(common::pattern(SIZE));
        // The reader itself must not be silent for as long.
        common::patiently(ms(500), |time| {
            let answer = pattern.clone();
            let a_little = (16 << 10) * 500 / time.as_millis() as usize;
            let (clock, mut tick) = metronome();
            let (closed, events) = common::events();
            // Over a Unix socket, where progress is not at the mercy of TCP's probing a full window.
            let directory = Directory::new();
            let (path, url) = directory.socket("socket");
            let server = common::server(driver).idle_timeout(time).socket_send_buffer(32 << 10);
            let server = common::start(server.listen(url), move |_| {
                let (closed, answer) = (closed.clone(), answer.clone());
                Script::new()
                    .open(move |conn| {
                        conn.write_bytes(answer.clone());
                    })
                    .close(move |_, reason| closed.send(reason).unwrap())
            });
            let mut client = UnixStream::connect(&path).unwrap();
            client.set_read_timeout(Some(common::DEADLINE)).unwrap();
            let start = Instant::now();
            let mut got = Vec::new();
            while got.len() < SIZE {
                common::read(&mut tick, 1);
                let next = (SIZE - got.len()).min(a_little);
                got.extend(common::read(&mut client, next));
            }
            assert!(got == pattern);
            assert!(start.elapsed() > 2 * time, "it was not slow enough to test anything");
            assert!(events.drain().is_empty(), "it was closed meanwhile");
            drop(client);
            common::stop(server);
            drop(tick);
            common::stop(clock);
        });
    }

    fn how_long_a_connection_was_idle_can_be_asked(driver) {
        let (told, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let (at_timer, at_traffic) = (told.clone(), told.clone());
            Script::new()
                .open(|conn| conn.set_timer(ms(100)))
                .timer(move |conn| {
                    at_timer.send(conn.idle_for()).unwrap();
                    conn.write(b"!");
                    Action::Continue
                })
                .traffic(move |conn, input| {
                    input.take_all();
                    at_traffic.send(conn.idle_for()).unwrap();
                    Action::Continue
                })
        });
        let mut client = common::connect(common::address(&server, 0));
        let silent = events.next();
        assert!((ms(99)..common::DEADLINE).contains(&silent), "{silent:?}");
        common::read(&mut client, 1);
        client.write_all(b"?").unwrap();
        assert_eq!(events.next(), Duration::ZERO);
        common::stop(server);
    }

    fn a_large_answer_that_nobody_takes_is_idle_and_ends_by_a_reset(driver) {
        let (closed, events) = common::events();
        let server = common::server(driver).idle_timeout(ms(150)).listen(TCP);
        let server = common::start(server, move |_| {
            let closed = closed.clone();
            Script::new()
                .open(|conn| {
 conn.write_bytes(vec![0; 32 << 20]);
 })
                .close(move |_, reason| closed.send(reason).unwrap())
        });
        let mut client = common::connect(common::address(&server, 0));
        assert!(matches!(events.next(), CloseReason::IdleTimeout));
        let mut got = Vec::new();
        client.read_to_end(&mut got).expect_err("a truncated stream ended as if it were whole");
        assert!(got.len() < 32 << 20);
        common::stop(server);
    }
}
