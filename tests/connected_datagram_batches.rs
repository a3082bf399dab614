//! Connected datagram sockets receive and send many datagrams together; what handlers and peers see
//! are single datagrams, in order.

mod closures;
mod common;

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};

use closures::{Script, TCP};
use common::{datagram_peer, receive_datagram};
use tightloop::{Action, CloseReason, ConnHandle, Connect, Direction, RunningServer, Server};

/// More than are told in a row, and more than leave by one call.
const MANY: usize = 150;

/// More than are told in a row even where the system joins them, and where it does not, no more than a
/// socket's buffer holds.
const MANY_AT_ONCE: usize =
    if cfg!(any(target_os = "linux", target_os = "android")) { 3 * MANY } else { MANY };

/// What is new, or paused before, receives one message: behind this one there may be many.
const FIRST: &[u8] = b"no pause";

#[derive(Debug)]
enum Told {
    Opened(SocketAddr),
    Received(Vec<u8>),
    Closed(CloseReason),
}

/// Not every test listens.
fn told_if_heard(to: &Sender<Told>, told: Told) {
    let _ = to.send(told);
}

/// Starts a server with one connection to `peer`, which tells what happens to it.
fn connected(
    server: Server,
    peer: &UdpSocket,
    change: impl Fn(Script) -> Script + Send + Sync + 'static,
) -> (RunningServer<Script>, common::Events<Told>, ConnHandle, SocketAddr) {
    let (told, events) = common::events();
    let server = common::start(server, move |_| {
        let [opened, received, closed] = [(); 3].map(|()| told.clone());
        let script = Script::new()
            .open(move |conn| {
                let own = conn.local_addr().unwrap().socket_addr().unwrap();
                told_if_heard(&opened, Told::Opened(own));
            })
            .traffic(move |_, input| {
                told_if_heard(&received, Told::Received(input.take_all().to_vec()));
                Action::Continue
            })
            .close(move |_, reason| told_if_heard(&closed, Told::Closed(reason)));
        change(script)
    });
    let to = format!("udp://{}", peer.local_addr().unwrap());
    let handle = server.handle().connect(Connect::to(&to.parse().unwrap())).unwrap();
    let own = match events.next() {
        Told::Opened(own) => own,
        other => panic!("{other:?}"),
    };
    (server, events, handle, own)
}

/// Runs `while_blocked` while the loop does nothing, so that what comes meanwhile comes together.
fn together(server: &RunningServer<Script>, while_blocked: impl FnOnce()) {
    let (blocked, events) = common::events();
    let (free, wait) = channel::<()>();
    let block = move |_: &mut Script, _: &mut tightloop::Context<'_, Script>| {
        blocked.send(()).unwrap();
        let _ = wait.recv();
    };
    server.loops()[0].execute(block).unwrap();
    events.next();
    while_blocked();
    drop(free);
}

fn received(events: &common::Events<Told>) -> Vec<u8> {
    match events.next() {
        Told::Received(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// Of sizes that make rows of equal ones, shorter ends of rows, and ones that grow.
fn datagram(number: usize) -> Vec<u8> {
    let size = match number % 10 {
        0..5 => 64,
        5 => 17,
        6..8 => 300,
        _ => 8 + number,
    };
    let mut bytes = vec![number as u8; size];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

every_driver! {
    fn many_that_come_together_are_told_one_by_one_in_order(driver) {
        for join in [true, false] {
            let (peer, server) = (datagram_peer(), common::server(driver).join_datagrams(join));
            let (server, events, _, own) = connected(server, &peer, |script| script);
            together(&server, || {
                for number in 0..MANY {
                    peer.send_to(&datagram(number), own).unwrap();
                }
            });
            for number in 0..MANY {
                assert_eq!(received(&events), datagram(number));
            }
            assert_eq!(server.handle().stats().datagrams_in, MANY as u64);
            common::stop(server);
        }
    }

    fn many_that_are_written_together_leave_one_by_one_in_order(driver) {
        for join in [true, false] {
            let (peer, server) = (datagram_peer(), common::server(driver).join_datagrams(join));
            let (server, _, handle, _) = connected(server, &peer, |script| {
                script.wake(|conn| {
                    for number in 0..MANY {
                        // Some lie in chunks of their own.
                        match number % 4 {
                            0 => _ = conn.write_bytes(datagram(number)),
                            _ => _ = conn.write(&datagram(number)),
                        }
                    }
                    Action::Continue
                })
            });
            handle.wake().unwrap();
            for number in 0..MANY {
                assert_eq!(receive_datagram(&peer), datagram(number));
            }
            let stats = || server.handle().stats().datagrams_out;
            common::eventually("all are counted", || stats() == MANY as u64);
            common::stop(server);
        }
    }

    fn answers_to_what_came_together_are_all_sent(driver) {
        let peer = datagram_peer();
        let (server, _, _, own) = connected(common::server(driver), &peer, |script| {
            script.traffic(|conn, input| {
                conn.write(input.take_all());
                Action::Continue
            })
        });
        together(&server, || {
            for number in 0..MANY {
                peer.send_to(&datagram(number), own).unwrap();
            }
        });
        for number in 0..MANY {
            assert_eq!(receive_datagram(&peer), datagram(number));
        }
        common::stop(server);
    }

    fn what_came_together_waits_in_order_while_reading_is_paused(driver) {
        let peer = datagram_peer();
        let (told, events) = common::events();
        let (server, _, handle, own) = connected(common::server(driver), &peer, move |script| {
            let told = told.clone();
            script
                .traffic(move |conn, input| {
                    let bytes = input.take_all().to_vec();
                    if bytes != FIRST {
                        conn.pause_reading();
                    }
                    told.send(bytes).unwrap();
                    Action::Continue
                })
                .wake(|conn| {
                    conn.resume_reading();
                    Action::Continue
                })
        });
        peer.send_to(FIRST, own).unwrap();
        assert_eq!(events.next(), FIRST);
        together(&server, || {
            for number in 0..20 {
                peer.send_to(&datagram(number), own).unwrap();
            }
        });
        // Others of this loop are not held up by what waits.
        let second = self::datagram_peer();
        let to = format!("udp://{}", second.local_addr().unwrap());
        for number in 0..20 {
            assert_eq!(events.next(), datagram(number));
            assert!(events.drain().is_empty(), "a paused connection is offered nothing");
            if number == 3 {
                let other = server.handle().connect(Connect::to(&to.parse().unwrap())).unwrap();
                other.write("hello").unwrap();
                let mut bytes = [0; 16];
                let (length, from) = second.recv_from(&mut bytes).unwrap();
                second.send_to(&bytes[..length], from).unwrap();
                assert_eq!(events.next(), b"hello");
                other.close().unwrap();
            }
            // Behind the last ones come such as were not there yet.
            if number == 10 {
                peer.send_to(&datagram(20), own).unwrap();
            }
            handle.wake().unwrap();
        }
        assert_eq!(events.next(), datagram(20));
        common::stop(server);
    }

    fn behind_a_close_nothing_is_told_of_what_came_together(driver) {
        let peer = datagram_peer();
        let (server, events, _, own) = connected(common::server(driver), &peer, |script| {
            script.traffic(|conn, input| {
                conn.write(input.take_all());
                Action::Close
            })
        });
        together(&server, || {
            for number in 0..20 {
                peer.send_to(&datagram(number), own).unwrap();
            }
        });
        assert_eq!(receive_datagram(&peer), datagram(0), "what was written before the close is sent");
        assert!(matches!(events.next(), Told::Closed(CloseReason::Local)));
        // The memory that they lay in serves others.
        let to = format!("udp://{}", peer.local_addr().unwrap());
        let other = server.handle().connect(Connect::to(&to.parse().unwrap())).unwrap();
        assert!(matches!(events.next(), Told::Opened(_)));
        other.write("hello").unwrap();
        assert_eq!(receive_datagram(&peer), b"hello");
        assert!(events.drain().is_empty());
        common::stop(server);
    }

    fn a_closed_port_is_told_behind_what_came_before(driver) {
        let peer = datagram_peer();
        let (server, events, handle, own) = connected(common::server(driver), &peer, |s| s);
        together(&server, || {
            for number in 0..5 {
                peer.send_to(&datagram(number), own).unwrap();
            }
        });
        for number in 0..5 {
            assert_eq!(received(&events), datagram(number));
        }
        drop(peer);
        for _ in 0..40 {
            // It may be closed by now.
            let _ = handle.write("nobody hears this");
        }
        let reason = loop {
            if let Told::Closed(reason) = events.next() {
                break reason;
            }
        };
        assert!(matches!(reason, CloseReason::PeerReset(_)), "{reason:?}");
        common::stop(server);
    }

    fn one_that_is_too_long_is_passed_over_and_the_others_come(driver) {
        let (peer, server) = (datagram_peer(), common::server(driver).receive_buffer(1024));
        let (server, events, handle, own) = connected(server, &peer, |script| {
            script.wake(|conn| {
                for size in [100, 70_000, 100, 100] {
                    conn.write(&vec![9; size]);
                }
                Action::Continue
            })
        });
        together(&server, || {
            for size in [10, 1_025, 1_024, 1_025, 30] {
                peer.send_to(&vec![7; size], own).unwrap();
            }
        });
        for size in [10, 1_024, 30] {
            assert_eq!(received(&events), vec![7; size]);
        }
        handle.wake().unwrap();
        for _ in 0..3 {
            assert_eq!(receive_datagram(&peer), [9; 100]);
        }
        let stats = server.handle().stats();
        assert_eq!((stats.datagrams_truncated, stats.datagrams_dropped), (2, 1));
        common::stop(server);
    }

    fn what_passes_from_a_datagram_socket_to_a_stream_is_what_came(driver) {
        let peer = datagram_peer();
        let (told, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let told = told.clone();
            let stream = Rc::new(Cell::new(None));
            let to = Rc::clone(&stream);
            Script::new()
                .open(move |conn| match conn.direction() {
                    Direction::Incoming => stream.set(Some(conn.id())),
                    _ => told.send(conn.local_addr().unwrap().socket_addr().unwrap()).unwrap(),
                })
                .traffic(move |conn, input| {
                    let mut to = conn.peer(to.get().unwrap()).unwrap();
                    to.write(input.take_all());
                    Action::Continue
                })
        });
        let mut stream = common::connect(common::address(&server, 0));
        common::eventually("the stream is open", || server.handle().connections() == 1);
        let to = format!("udp://{}", peer.local_addr().unwrap());
        server.handle().connect(Connect::to(&to.parse().unwrap())).unwrap();
        let own = events.next();
        together(&server, || {
            for number in 0..MANY {
                peer.send_to(&datagram(number), own).unwrap();
            }
        });
        // Each is sent from where it lies.
        for number in 0..MANY {
            let expected = datagram(number);
            assert_eq!(common::read(&mut stream, expected.len()), expected);
        }
        common::stop(server);
    }

    fn what_is_held_for_one_does_not_take_what_came_for_another(driver) {
        // A listening socket with more datagrams, joined, than are told in a row, and beside it a
        // connected one with some that are held.
        let (peer, server) = (datagram_peer(), common::server(driver).listen("udp://127.0.0.1:0"));
        let (told, events) = common::events();
        let (arrived, datagrams) = common::events();
        let (server, _, handle, own) = connected(server, &peer, move |script| {
            let (told, arrived) = (told.clone(), arrived.clone());
            script
                .traffic(move |conn, input| {
                    let bytes = input.take_all().to_vec();
                    if bytes != FIRST {
                        conn.pause_reading();
                    }
                    told.send(bytes).unwrap();
                    Action::Continue
                })
                .wake(|conn| {
                    conn.resume_reading();
                    Action::Continue
                })
                .datagram(move |datagram| {
                    arrived.send(datagram.payload().to_vec()).unwrap();
                    Action::Continue
                })
        });
        let to = format!("udp://{}", common::address(&server, 0));
        let sender = common::start(common::server(driver), |_| {
            Script::new().wake(|conn| {
                (0..MANY_AT_ONCE).for_each(|number| _ = conn.write(&number.to_le_bytes()));
                Action::Continue
            })
        });
        let sending = sender.handle().connect(Connect::to(&to.parse().unwrap())).unwrap();
        common::eventually("it is open", || sender.handle().connections() == 1);
        peer.send_to(FIRST, own).unwrap();
        assert_eq!(events.next(), FIRST);
        together(&server, || {
            for number in 0..20 {
                peer.send_to(&datagram(number), own).unwrap();
            }
        });
        for number in 0..20 {
            assert_eq!(events.next(), datagram(number));
            if number % 5 == 0 {
                together(&server, || {
                    sending.wake().unwrap();
                    let sent = || sender.handle().stats().datagrams_out;
                    let expected = (MANY_AT_ONCE * (number / 5 + 1)) as u64;
                    common::eventually("all are sent", || sent() == expected);
                    handle.wake().unwrap();
                });
                for number in 0..MANY_AT_ONCE {
                    assert_eq!(datagrams.next(), number.to_le_bytes());
                }
            } else {
                handle.wake().unwrap();
            }
        }
        common::stop(sender);
        common::stop(server);
    }
}
