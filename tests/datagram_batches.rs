//! Datagrams that arrive and leave together: each is told, answered, refused or lost as if it were
//! alone, in its order. The loop is held while they are sent, so that they do arrive together.

mod closures;
mod common;
mod packets;

use std::net::{SocketAddr, UdpSocket};

use closures::{Script, TCP, ended, joined};
use packets::{LARGEST, UDP, client, counted, has_nothing, held, number_of, numbered, receive};
use tightloop::{Action, Connect, Error, PanicPolicy, RunningServer, Server};

/// More than one batch, and less than a socket's buffer holds.
const MANY: u32 = 150;

fn echo(server: Server) -> RunningServer<Script> {
    common::start(server, |_| Script::new())
}

/// The address of the first socket.
fn bound(server: &RunningServer<Script>) -> SocketAddr {
    common::address(server, 0)
}

/// A server with one socket, its peer to which that is connected, and the socket's address.
fn echo_connected(driver: common::Driver) -> (RunningServer<Script>, UdpSocket, SocketAddr) {
    let (own, peer) = (client("127.0.0.1:0"), client("127.0.0.1:0"));
    own.connect(peer.local_addr().unwrap()).unwrap();
    let to = own.local_addr().unwrap();
    (echo(common::server(driver).listen_on_udp(own)), peer, to)
}

every_driver! {
    fn answers_come_in_the_order_of_the_questions(driver) {
        for url in [UDP, "udp://[::1]:0", "udp4://:0"] {
            let server = echo(common::server(driver).listen(url));
            let to = SocketAddr::new(
                if url.contains("::1") { [0, 0, 0, 0, 0, 0, 0, 1].into() } else { [127, 0, 0, 1].into() },
                bound(&server).port(),
            );
            let client = client(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
            held(&server, || {
                for number in 0..MANY {
                    client.send_to(&numbered(number, 64), to).unwrap();
                }
            });
            for number in 0..MANY {
                assert_eq!(receive(&client), (numbered(number, 64), to), "{url}");
            }
            counted(&server, "all", |stats| stats.datagrams_out == u64::from(MANY));
            common::stop(server);
        }
    }

    fn a_turn_that_ends_within_a_batch_goes_on_with_it(driver) {
        let (told, events) = common::events();
        let server = common::server(driver).events_per_turn(3).listen(UDP);
        let server = common::start(server, move |_| {
            let told = told.clone();
            // An answer would bring news of the socket, and wake the loop.
            Script::new().datagram(move |datagram| {
                told.send(number_of(datagram.payload())).unwrap();
                Action::Continue
            })
        });
        let client = client("127.0.0.1:0");
        held(&server, || {
            for number in 0..MANY {
                client.send_to(&numbered(number, 64), bound(&server)).unwrap();
            }
        });
        for number in 0..MANY {
            assert_eq!(events.next(), number);
        }
        common::stop(server);
    }

    fn peers_whose_datagrams_alternate_each_get_their_own_in_order(driver) {
        let server = echo(common::server(driver).listen(UDP));
        let clients: Vec<_> = (0..9).map(|_| client("127.0.0.1:0")).collect();
        held(&server, || {
            for number in 0..20 {
                for (n, client) in clients.iter().enumerate() {
                    // Runs of equal sizes and such that are broken, of different lengths.
                    let size = [64, 64, 64 + number as usize % (n + 1)][n % 3];
                    client.send_to(&numbered(number, size), bound(&server)).unwrap();
                }
            }
        });
        for (n, client) in clients.iter().enumerate() {
            for number in 0..20 {
                let size = [64, 64, 64 + number as usize % (n + 1)][n % 3];
                assert_eq!(receive(client).0, numbered(number, size), "client {n}");
            }
            assert!(has_nothing(client));
        }
        common::stop(server);
    }

    fn sizes_are_kept_whatever_the_neighbours_are(driver) {
        let server = echo(common::server(driver).listen(UDP).listen("udp://[::1]:0"));
        for (n, address) in ["127.0.0.1:0", "[::1]:0"].into_iter().enumerate() {
            let client = client(address);
            for sizes in [
                // Equal ones and a shorter last one; a longer one; empty ones in between.
                &[1_200, 1_200, 1_200, 1_200, 700][..],
                &[100, 100, 101, 101, 100, 1, 1, 1, 2],
                &[0, 0, 9, 0, 9, 9, 0],
                &[9_000, 9_000, 9_000, 9_000, 9_000, 8_999, 9_000],
                // Together longer than one datagram may be.
                &[30_000, 30_000, 30_000, 29_999],
                &[LARGEST, 1, LARGEST, 0],
                &[1, 2, 3, 1_472, 1_473, 2_048, 65_000],
            ] {
                let sent: Vec<_> = sizes.iter().map(|&size| common::pattern(size)).collect();
                held(&server, || {
                    for payload in &sent {
                        client.send_to(payload, common::address(&server, n)).unwrap();
                    }
                });
                for payload in &sent {
                    let answer = receive(&client).0;
                    assert_eq!(answer.len(), payload.len(), "{sizes:?}");
                    assert!(answer == *payload, "{sizes:?}");
                }
            }
        }
        counted(&server, "none is dropped", |stats| {
            let lost = stats.datagrams_truncated + stats.datagrams_dropped;
            (stats.datagrams_out, lost) == (stats.datagrams_in, 0)
        });
        common::stop(server);
    }

    #[cfg_attr(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")), ignore = "the system does not tell the address")]
    fn answers_leave_from_the_address_that_each_was_sent_to(driver) {
        for url in ["udp4://:0", "udp://:0"] {
            let server = echo(common::server(driver).listen(url));
            let port = bound(&server).port();
            let asked = [1, 2, 1, 1, 3, 3, 2].map(|last| SocketAddr::from(([127, 0, 0, last], port)));
            let client = client("127.0.0.9:0");
            held(&server, || {
                for (number, to) in asked.iter().enumerate() {
                    client.send_to(&numbered(number as u32, 32), to).unwrap();
                }
            });
            for (number, to) in asked.into_iter().enumerate() {
                assert_eq!(receive(&client), (numbered(number as u32, 32), to), "{url}");
            }
            common::stop(server);
        }
    }

    fn what_cannot_be_sent_is_lost_alone(driver) {
        let server = common::start(common::server(driver).listen(UDP), |_| {
            Script::new().datagram(|datagram| {
                match number_of(datagram.payload()) % 4 {
                    1 => datagram.reply(&vec![0; LARGEST + 1]),
                    2 => datagram.send_to("[::1]:9".parse().unwrap(), b"another family"),
                    _ => datagram.reply(datagram.payload()),
                }
                Action::Continue
            })
        });
        let clients = [client("127.0.0.1:0"), client("127.0.0.1:0")];
        held(&server, || {
            for number in 0..40 {
                for client in &clients {
                    client.send_to(&numbered(number, 64), bound(&server)).unwrap();
                }
            }
        });
        for client in &clients {
            for number in (0..40).filter(|number| ![1, 2].contains(&(number % 4))) {
                assert_eq!(number_of(&receive(client).0), number);
            }
            assert!(has_nothing(client));
        }
        counted(&server, "half of them", |stats| {
            (stats.datagrams_in, stats.datagrams_out, stats.datagrams_dropped) == (80, 40, 40)
        });
        common::stop(server);
    }

    fn what_is_too_long_is_lost_alone(driver) {
        for url in [UDP, "udp4://:0"] {
            let server = echo(common::server(driver).receive_buffer(1024).listen(url));
            let to = SocketAddr::from(([127, 0, 0, 1], bound(&server).port()));
            let client = client("127.0.0.1:0");
            let sizes = [1024, 1025, 1024, 1024, 9_000, 0, 1_200, 1_200, 1_023];
            held(&server, || {
                for size in sizes {
                    client.send_to(&common::pattern(size), to).unwrap();
                }
            });
            for size in sizes.into_iter().filter(|size| *size <= 1024) {
                assert!(receive(&client).0 == common::pattern(size), "{size}");
            }
            let stats = server.handle().stats();
            assert_eq!((stats.datagrams_in, stats.datagrams_truncated), (5, 4));
            common::stop(server);
        }
    }

    fn a_panic_ends_one_datagram_and_no_other(driver) {
        let server = common::start(common::server(driver).listen(UDP), |_| {
            Script::new().datagram(|datagram| {
                datagram.reply(datagram.payload());
                assert!(!number_of(datagram.payload()).is_multiple_of(5), "meant");
                Action::Continue
            })
        });
        let client = client("127.0.0.1:0");
        held(&server, || {
            for number in 0..20 {
                client.send_to(&numbered(number, 64), bound(&server)).unwrap();
            }
        });
        for number in 0..20 {
            assert_eq!(number_of(&receive(&client).0), number, "what was written before is sent");
        }
        common::stop_after_panics(server, 4);
    }

    fn who_was_answered_before_a_panic_that_stops_the_server_gets_the_answer(driver) {
        let server = common::server(driver).panic_policy(PanicPolicy::StopServer).listen(UDP);
        let server = common::start(server, |_| {
            Script::new().datagram(|datagram| {
                assert!(number_of(datagram.payload()) < 5, "meant");
                datagram.reply(datagram.payload());
                Action::Continue
            })
        });
        let client = client("127.0.0.1:0");
        let to = bound(&server);
        held(&server, || {
            for number in 0..9 {
                client.send_to(&numbered(number, 64), to).unwrap();
            }
        });
        for number in 0..5 {
            assert_eq!(number_of(&receive(&client).0), number);
        }
        assert!(matches!(joined(server).0, Err(Error::LoopPanicked { .. })));
    }

    fn a_shutdown_in_the_middle_sends_what_was_answered(driver) {
        let server = common::start(common::server(driver).listen(UDP), |_| {
            Script::new().datagram(|datagram| {
                datagram.reply(datagram.payload());
                match number_of(datagram.payload()) {
                    3 => Action::Shutdown,
                    _ => Action::Continue,
                }
            })
        });
        let client = client("127.0.0.1:0");
        held(&server, || {
            for number in 0..9 {
                client.send_to(&numbered(number, 64), bound(&server)).unwrap();
            }
        });
        for number in 0..=3 {
            assert_eq!(number_of(&receive(&client).0), number);
        }
        ended(server);
    }

    fn datagrams_that_the_kernel_has_joined_are_told_one_by_one(driver) {
        let (told, events) = common::events();
        let receiving = common::start(common::server(driver).listen(UDP), move |_| {
            let told = told.clone();
            Script::new().datagram(move |datagram| {
                told.send((datagram.payload().to_vec(), datagram.peer_addr())).unwrap();
                Action::Continue
            })
        });
        let to = bound(&receiving);
        // Equal ones to one peer leave joined, and on loopback they arrive so. More than are told
        // in a row.
        let sending = common::start(common::server(driver).listen(UDP), move |_| {
            Script::new().datagram(move |datagram| {
                for number in 0..MANY {
                    datagram.send_to(to, &numbered(number, 100));
                }
                datagram.send_to(to, &numbered(MANY, 40));
                datagram.send_to(to, b"");
                Action::Continue
            })
        });
        let client = client("127.0.0.1:0");
        held(&receiving, || {
            client.send_to(b"go", bound(&sending)).unwrap();
            let all = u64::from(MANY) + 2;
            counted(&sending, "all are sent", |stats| stats.datagrams_out == all);
        });
        for number in 0..=MANY {
            let size = if number == MANY { 40 } else { 100 };
            assert_eq!(events.next(), (numbered(number, size), bound(&sending)));
        }
        assert_eq!(events.next().0, b"");
        common::stop(sending);
        common::stop(receiving);
        assert!(events.drain().is_empty());
    }

    fn several_sockets_of_one_loop_keep_their_datagrams_apart(driver) {
        let server = common::server(driver).listen(UDP).listen(UDP).listen(UDP).listen(TCP);
        let server = echo(server);
        let clients: Vec<_> = (0..3).map(|_| client("127.0.0.1:0")).collect();
        let mut stream = common::connect(common::address(&server, 3));
        for _ in 0..5 {
            held(&server, || {
                for number in 0..100 {
                    for (n, client) in clients.iter().enumerate() {
                        let to = common::address(&server, n);
                        client.send_to(&numbered(number, 50 + n), to).unwrap();
                    }
                }
            });
            assert_eq!(common::exchange(&mut stream, b"a stream in between"), b"a stream in between");
            for (n, client) in clients.iter().enumerate() {
                for number in 0..100 {
                    let expected = (numbered(number, 50 + n), common::address(&server, n));
                    assert_eq!(receive(client), expected);
                }
            }
        }
        drop(stream);
        common::stop(server);
    }

    fn a_connected_socket_hears_many_at_once(driver) {
        let (server, peer, to) = echo_connected(driver);
        held(&server, || {
            for number in 0..MANY {
                peer.send_to(&numbered(number, 30), to).unwrap();
            }
        });
        for number in 0..MANY {
            assert_eq!(number_of(&receive(&peer).0), number);
        }
        common::stop(server);
    }

    fn the_end_of_a_connected_sockets_peer_is_no_end_of_the_socket(driver) {
        let (server, peer, to) = echo_connected(driver);
        // The peer is gone when it is answered, and comes back.
        let address = peer.local_addr().unwrap();
        held(&server, || {
            for number in 0..5 {
                peer.send_to(&numbered(number, 30), to).unwrap();
            }
            drop(peer);
        });
        counted(&server, "all have come", |stats| stats.datagrams_in == 5);
        let peer = client(&address.to_string());
        held(&server, || {
            for number in 0..5 {
                peer.send_to(&numbered(number, 30), to).unwrap();
            }
        });
        for number in 0..5 {
            assert_eq!(number_of(&receive(&peer).0), number);
        }
        common::stop(server);
    }

    fn a_datagram_connection_gets_each_answer_whole(driver) {
        let server = echo(common::server(driver).listen(UDP));
        let to = Connect::to(&format!("udp://{}", bound(&server)).parse().unwrap());
        let (told, events) = common::events();
        let other = common::start(common::server(driver), move |_| {
            let told = told.clone();
            Script::new()
                .open(|conn| {
                    for number in 0..50 {
                        conn.write(&numbered(number, 200));
                    }
                    conn.write(&numbered(50, 90));
                })
                .traffic(move |_, input| {
                    told.send(input.take_all().to_vec()).unwrap();
                    Action::Continue
                })
        });
        held(&server, || {
            other.handle().connect(to).unwrap();
            counted(&other, "all are sent", |stats| stats.datagrams_out == 51);
        });
        for number in 0..=50 {
            assert_eq!(events.next(), numbered(number, if number == 50 { 90 } else { 200 }));
        }
        common::stop(other);
        common::stop(server);
    }
}
