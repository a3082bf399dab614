//! Datagrams: whole or not at all, with the right addresses, to and from anybody.

mod closures;
mod common;
mod packets;

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::Sender;
use std::time::Duration;

use closures::{Script, TCP, ended};
use packets::{LARGEST, UDP, client, counted, has_nothing, held, number_of, numbered, receive};
use tightloop::{Action, DatagramHandle, HandleError, RunningServer, Server};

fn echo(server: Server) -> RunningServer<Script> {
    common::start(server, |_| Script::new())
}

/// Reports each datagram's length, sender and destination.
type Told = (usize, SocketAddr, SocketAddr);

fn telling(server: Server) -> (RunningServer<Script>, common::Events<Told>) {
    let (told, events) = common::events();
    let server = common::start(server, move |_| {
        let told = told.clone();
        Script::new().datagram(move |datagram| {
            let (peer, local) = (datagram.peer_addr(), datagram.local_addr());
            told.send((datagram.payload().len(), peer, local)).unwrap();
            datagram.reply(datagram.payload());
            Action::Continue
        })
    });
    (server, events)
}

/// Gives a handle of its socket to the test with each datagram.
fn handing_out(server: Server) -> (RunningServer<Script>, common::Events<DatagramHandle>) {
    let (give, events): (Sender<DatagramHandle>, _) = common::events();
    let server = common::start(server, move |_| {
        let give = give.clone();
        Script::new().datagram(move |datagram| {
            give.send(datagram.handle()).unwrap();
            Action::Continue
        })
    });
    (server, events)
}

every_driver! {
    #[cfg_attr(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")), ignore = "the system does not tell the address")]
    fn the_answer_of_a_wildcard_socket_comes_from_the_address_that_was_asked(driver) {
        for (url, hosts) in [
            ("udp4://:0", &["127.0.0.1", "127.0.0.2", "127.1.2.3"][..]),
            ("udp6://:0", &["::1"]),
            ("udp://:0", &["127.0.0.1", "::1", "127.0.0.2"]),
        ] {
            let (server, events) = telling(common::server(driver).listen(url));
            let port = common::address(&server, 0).port();
            for host in hosts {
                let to = SocketAddr::new(host.parse().unwrap(), port);
                let client = client(if to.is_ipv4() { "127.0.0.9:0" } else { "[::1]:0" });
                client.send_to(b"where?", to).unwrap();
                let told = events.next();
                assert_eq!(told, (6, client.local_addr().unwrap(), to), "{url} at {host}");
                assert_eq!(receive(&client), (b"where?".to_vec(), to), "{url} at {host}");
            }
            common::stop(server);
        }
    }

    fn datagrams_of_every_size_arrive_whole_and_empty_ones_too(driver) {
        let (server, events) = telling(common::server(driver).listen(UDP).listen("udp://[::1]:0"));
        for (n, address) in ["127.0.0.1:0", "[::1]:0"].into_iter().enumerate() {
            let client = client(address);
            for size in [0, 1, 1472, 2048, 9000, 65_000, LARGEST, 0] {
                let payload = common::pattern(size);
                client.send_to(&payload, common::address(&server, n)).unwrap();
                assert_eq!(events.next().0, size);
                assert!(receive(&client).0 == payload, "{size} bytes came back differently");
            }
        }
        counted(&server, "all are sent", |stats| {
            let lost = stats.datagrams_truncated + stats.datagrams_dropped;
            (stats.datagrams_in, stats.datagrams_out, lost) == (16, 16, 0)
        });
        common::stop(server);
    }

    fn a_datagram_longer_than_the_receive_buffer_is_counted_and_never_handed_on(driver) {
        for url in [UDP, "udp4://:0"] {
            let server = common::server(driver).receive_buffer(2048).listen(url);
            let (server, events) = telling(server);
            let client = client("127.0.0.1:0");
            let to = SocketAddr::from(([127, 0, 0, 1], common::address(&server, 0).port()));
            for size in [2048, 2049, 4096, LARGEST, 2047, 0] {
                client.send_to(&common::pattern(size), to).unwrap();
            }
            let sizes = [2048, 2047, 0].map(|_| events.next().0);
            assert_eq!(sizes, [2048, 2047, 0]);
            let stats = server.handle().stats();
            assert_eq!((stats.datagrams_in, stats.datagrams_truncated), (3, 3));
            common::stop(server);
        }
    }

    fn one_datagram_can_be_answered_several_times_and_to_several_others(driver) {
        let others = [client("127.0.0.1:0"), client("127.0.0.1:0")];
        let addresses = [0, 1].map(|n: usize| others[n].local_addr().unwrap());
        let server = common::start(common::server(driver).listen(UDP), move |_| {
            Script::new().datagram(move |datagram| {
                datagram.reply(b"one");
                for to in addresses {
                    datagram.send_to(to, datagram.payload());
                }
                datagram.reply(b"");
                datagram.reply(b"three");
                // What cannot be sent is dropped, and the rest is sent all the same.
                datagram.reply(&vec![0; LARGEST + 1]);
                datagram.send_to("[::1]:9".parse().unwrap(), b"another family");
                datagram.reply(b"five");
                Action::Close
            })
        });
        let asking = client("127.0.0.1:0");
        for round in 1..=2 {
            asking.send_to(b"pass it on", common::address(&server, 0)).unwrap();
            for expected in [&b"one"[..], b"", b"three", b"five"] {
                assert_eq!(receive(&asking).0, expected);
            }
            for other in &others {
                let expected = (b"pass it on".to_vec(), common::address(&server, 0));
                assert_eq!(receive(other), expected);
            }
            counted(&server, "six are sent and two dropped", |stats| {
                (stats.datagrams_out, stats.datagrams_dropped) == (6 * round, 2 * round)
            });
        }
        common::stop(server);
    }

    fn a_handle_sends_from_any_thread_and_answers_closed_after_the_end(driver) {
        let (server, events) = handing_out(common::server(driver).listen(UDP));
        let client = client("127.0.0.1:0");
        let to = client.local_addr().unwrap();
        client.send_to(b"hello", common::address(&server, 0)).unwrap();
        let handle = events.next();
        let clone = handle.clone();
        std::thread::spawn(move || clone.send_to(to, "from a thread").unwrap()).join().unwrap();
        let expected = (b"from a thread".to_vec(), common::address(&server, 0));
        assert_eq!(receive(&client), expected);
        handle.send_to(to, common::pattern(LARGEST)).unwrap();
        assert!(receive(&client).0 == common::pattern(LARGEST));
        handle.send_to(to, "").unwrap();
        assert_eq!(receive(&client).0, b"");
        common::stop(server);
        assert_eq!(handle.send_to(to, "too late"), Err(HandleError::Closed));
        assert!(has_nothing(&client));
    }

    fn a_full_mailbox_refuses_datagrams(driver) {
        let server = common::server(driver).mailbox_capacity(4).listen(UDP);
        let (server, events) = handing_out(server);
        let client = client("127.0.0.1:0");
        client.send_to(b"hello", common::address(&server, 0)).unwrap();
        let handle = events.next();
        let (free, wait) = std::sync::mpsc::channel::<()>();
        server.loops()[0].execute(move |_, _| { let _ = wait.recv(); }).unwrap();
        let to = client.local_addr().unwrap();
        let sent: Vec<Result<(), HandleError>> = (0..12).map(|_| handle.send_to(to, "x")).collect();
        drop(free);
        let accepted = sent.iter().filter(|answer| answer.is_ok()).count();
        assert!((4..=8).contains(&accepted), "{sent:?}");
        assert_eq!(sent.last(), Some(&Err(HandleError::Full)));
        for _ in 0..accepted {
            assert_eq!(receive(&client).0, b"x");
        }
        common::stop(server);
    }

    fn ten_clients_are_collected_and_each_gets_one_message(driver) {
        let server = common::start(common::server(driver).listen(UDP), |_| {
            let mut clients = Vec::new();
            Script::new().datagram(move |datagram| {
                clients.push(datagram.peer_addr());
                if clients.len() == 10 {
                    for to in clients.drain(..) {
                        datagram.send_to(to, to.to_string().as_bytes());
                    }
                }
                Action::Continue
            })
        });
        let clients: Vec<_> = (0..10).map(|_| client("127.0.0.1:0")).collect();
        for client in &clients {
            client.send_to(b"me too", common::address(&server, 0)).unwrap();
        }
        for client in &clients {
            let own = client.local_addr().unwrap().to_string();
            assert_eq!(receive(client).0, own.as_bytes());
        }
        assert!(clients.iter().all(has_nothing));
        common::stop(server);
    }

    fn a_burst_is_counted_to_the_last_datagram(driver) {
        const COUNT: u32 = 5_000;
        let server = common::server(driver).socket_receive_buffer(8 << 20);
        // A little more than fits waits in the sender: none is lost on loopback.
        let server = echo(server.listen(UDP).on_listener_socket(|socket| {
            assert!(socket.recv_buffer_size()? > 0);
            Ok(())
        }));
        let client = client("127.0.0.1:0");
        let to = common::address(&server, 0);
        let mut seen = HashSet::new();
        for first in (0..COUNT).step_by(50) {
            for number in first..first + 50 {
                client.send_to(&number.to_le_bytes(), to).unwrap();
            }
            for _ in 0..50 {
                let number = receive(&client).0.try_into().expect("four bytes");
                assert!(seen.insert(u32::from_le_bytes(number)), "twice the same");
            }
        }
        assert_eq!((seen.len() as u32, seen.iter().max()), (COUNT, Some(&(COUNT - 1))));
        let all = u64::from(COUNT);
        counted(&server, "all", |stats| (stats.datagrams_in, stats.datagrams_out) == (all, all));
        common::stop(server);
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "dragonfly"))]
    fn there_is_one_socket_a_loop_with_reuse_port_and_else_one(driver) {
        for (reuse_port, loops_used) in [(false, 1), (true, 3)] {
            let server = common::server(driver).loops(3).reuse_port(reuse_port && common::SPREADS).listen(UDP);
            let server = common::start(server, |_| {
                Script::new().datagram(|datagram| {
                    datagram.reply(&[datagram.loop_index() as u8]);
                    Action::Continue
                })
            });
            let mut used = HashSet::new();
            for _ in 0..100 {
                let client = client("127.0.0.1:0");
                client.send_to(b"?", common::address(&server, 0)).unwrap();
                used.insert(receive(&client).0);
            }
            assert_eq!(used.len(), loops_used);
            common::stop(server);
        }
    }

    fn one_server_serves_datagrams_and_connections_on_the_same_port(driver) {
        let first = echo(common::server(driver).listen(TCP));
        let to = common::address(&first, 0);
        common::stop(first);
        let server = common::server(driver).loops(2).listen(format!("tcp://{to}"));
        let server = echo(server.listen(format!("udp://{to}")));
        let mut stream = common::connect(to);
        let client = client("127.0.0.1:0");
        for _ in 0..20 {
            assert_eq!(common::exchange(&mut stream, b"stream"), b"stream");
            client.send_to(b"packet", to).unwrap();
            assert_eq!(receive(&client), (b"packet".to_vec(), to));
        }
        assert_eq!(server.handle().connections(), 1, "datagram sockets do not count");
        drop(stream);
        common::stop(server);
    }

    fn datagrams_do_not_starve_connections_nor_timers(driver) {
        let server = common::server(driver).listen(UDP).listen(TCP);
        let server = common::start(server, |_| {
            Script::new().datagram(|_| Action::Continue).timer(|conn| {
                conn.write(b"tick");
                Action::Continue
            }).traffic(|conn, input| {
                input.take_all();
                conn.set_timer(Duration::from_millis(5));
                Action::Continue
            })
        });
        let to = common::address(&server, 0);
        let flood = std::thread::spawn(move || {
            let client = client("127.0.0.1:0");
            // A connected socket is told when the port has closed.
            client.connect(to).unwrap();
            while client.send(&[0; 64]).is_ok() {}
        });
        let mut stream = common::connect(common::address(&server, 1));
        let mut ticks = 0;
        common::eventually("ticks in the midst of a flood", || {
            std::io::Write::write_all(&mut stream, b"go").unwrap();
            assert_eq!(common::read(&mut stream, 4), b"tick");
            ticks += 1;
            ticks >= 20 && server.handle().stats().datagrams_in > 1_000
        });
        drop(stream);
        server.stop();
        ended(server);
        flood.join().unwrap();
    }

    fn a_reply_to_a_port_that_is_closed_does_no_harm(driver) {
        let (server, events) = handing_out(common::server(driver).listen(UDP));
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
        let closed = gone.local_addr().unwrap();
        drop(gone);
        let client = client("127.0.0.1:0");
        client.send_to(b"hello", common::address(&server, 0)).unwrap();
        let handle = events.next();
        for _ in 0..10 {
            handle.send_to(closed, "anybody?").unwrap();
            handle.send_to(client.local_addr().unwrap(), "you").unwrap();
            assert_eq!(receive(&client).0, b"you");
        }
        common::stop(server);
    }

    fn answers_and_what_handles_send_are_all_sent(driver) {
        const EACH: u32 = 100; // Both together fit a socket's buffer.
        let (give, handles) = common::events();
        let server = common::start(common::server(driver).listen(UDP), move |_| {
            let give = give.clone();
            Script::new().datagram(move |datagram| {
                give.send(datagram.handle()).unwrap();
                datagram.reply(datagram.payload());
                Action::Continue
            })
        });
        let client = client("127.0.0.1:0");
        let own = client.local_addr().unwrap();
        client.send_to(&numbered(0, 20), common::address(&server, 0)).unwrap();
        let handle = handles.next();
        receive(&client);
        held(&server, || {
            for number in 0..EACH {
                handle.send_to(own, numbered(1_000 + number, 20)).unwrap();
                client.send_to(&numbered(number, 20), common::address(&server, 0)).unwrap();
            }
        });
        let (mut by_handle, mut answers) = (Vec::new(), Vec::new());
        for _ in 0..2 * EACH {
            match number_of(&receive(&client).0) {
                number if number >= 1_000 => by_handle.push(number - 1_000),
                number => answers.push(number),
            }
        }
        let all: Vec<u32> = (0..EACH).collect();
        assert_eq!((by_handle, answers), (all.clone(), all));
        common::stop(server);
    }
}
