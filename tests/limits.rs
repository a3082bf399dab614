//! Limits on who may come in hold over all loops, however they accept.

mod closures;
mod common;

use closures::{Script, TCP};
use common::Echo;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tightloop::{Action, RunningServer, Server, WhenFull};

/// One loop; several behind an acceptor; several that accept for themselves.
fn each_way_to_accept(
    driver: common::Driver,
    limit: impl Fn(Server) -> Server,
    test: impl Fn(RunningServer<Echo>, SocketAddr),
) {
    for (loops, reuse_port) in [(1, false), (3, false), (3, true)] {
        let server =
            limit(common::server(driver).loops(loops).reuse_port(reuse_port && common::SPREADS));
        let server = common::start(server.listen("tcp://127.0.0.1:0"), |_| Echo);
        let address = common::address(&server, 0);
        test(server, address);
    }
}

fn is_served(client: &mut TcpStream) -> bool {
    common::exchange(client, b"served?") == b"served?"
}

/// A client that comes from another address of this machine.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(common::DEADLINE)).unwrap();
    client
}

every_driver! {
    fn more_connections_than_there_may_be_are_closed_at_once(driver) {
        let limit = |server: Server| server.max_connections(3, WhenFull::Refuse);
        each_way_to_accept(driver, limit, |server, address| {
            let handle = server.handle();
            let mut clients: Vec<_> = (0..3).map(|_| common::connect(address)).collect();
            assert!(clients.iter_mut().all(is_served));
            for _ in 0..5 {
                assert!(common::is_closed(&mut common::connect(address)));
            }
            assert_eq!(handle.stats().refused_full, 5);
            assert!(clients.iter_mut().all(is_served));
            drop(clients.pop());
            common::eventually("there is a place again", || {
                let mut client = common::connect(address);
                // One that is refused may be reset before it has said anything.
                let asked = client.write_all(b"x");
                let served = asked.is_ok() && !common::is_closed(&mut client);
                if served {
                    clients.push(client);
                }
                served
            });
            assert!(common::is_closed(&mut common::connect(address)));
            assert_eq!(handle.connections(), 3);
            common::stop(server);
        });
    }

    fn more_connections_than_there_may_be_wait_their_turn(driver) {
        let limit = |server: Server| server.max_connections(2, WhenFull::Wait);
        each_way_to_accept(driver, limit, |server, address| {
            let handle = server.handle();
            let mut served: Vec<_> = (0..2).map(|_| common::connect(address)).collect();
            assert!(served.iter_mut().all(is_served));
            let clients: Vec<_> = (0..20)
                .map(|_| {
                    let mut client = common::connect(address);
                    client.write_all(b"served?").unwrap();
                    client
                })
                .collect();
            common::eventually("somebody waits", || handle.stats().full_waits > 0);
            assert_eq!(handle.stats().opened, 2);
            drop(served);
            // Whoever was served leaves; with several listeners the order is theirs.
            let threads = clients.into_iter().map(|mut client| {
                std::thread::spawn(move || assert_eq!(common::read(&mut client, 7), b"served?"))
            });
            for thread in threads.collect::<Vec<_>>() {
                thread.join().unwrap();
            }
            let stats = handle.stats();
            assert_eq!((stats.opened, stats.refused_full), (22, 0));
            common::stop(server);
        });
    }

    fn one_address_gets_its_share_and_others_theirs(driver) {
        let limit = |server: Server| server.max_connections_per_ip(2);
        each_way_to_accept(driver, limit, |server, address| {
            let handle = server.handle();
            let mut clients: Vec<_> = (0..2).map(|_| common::connect(address)).collect();
            assert!(clients.iter_mut().all(is_served));
            for _ in 0..3 {
                assert!(common::is_closed(&mut common::connect(address)));
            }
            assert!(is_served(&mut connect_from(Ipv4Addr::new(127, 0, 0, 2), address)));
            assert_eq!(handle.stats().refused_per_ip, 3);
            drop(clients);
            common::eventually("its places are free again", || handle.connections() == 0);
            common::stop(server);
        });
    }

    fn connections_are_accepted_at_the_given_rate(driver) {
        each_way_to_accept(driver, |server| server.accept_rate(50), |server, address| {
            let start = Instant::now();
            let mut clients: Vec<_> = (0..30).map(|_| common::connect(address)).collect();
            assert!(clients.iter_mut().all(is_served));
            // Five come at once; the others 20 ms apart.
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(450), "30 at 50 a second took {took:?}");
            assert!(server.handle().stats().accept_rests > 0);
            common::stop(server);
        });
    }

    fn a_server_that_stops_lets_go_of_those_who_wait(driver) {
        let limit = |server: Server| server.max_connections(1, WhenFull::Wait);
        each_way_to_accept(driver, limit, |server, address| {
            let handle = server.handle();
            let mut first = common::connect(address);
            assert!(is_served(&mut first));
            let mut waiting = common::connect(address);
            common::eventually("it waits", || handle.stats().full_waits == 1);
            common::stop(server);
            assert!(common::is_closed(&mut waiting));
        });
    }

    fn who_is_accepted_as_the_listener_closes_gets_no_place_later(driver) {
        let (blocked, events) = common::events();
        let (free, wait) = channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let server = common::server(driver).max_connections(1, WhenFull::Wait).listen(TCP);
        let server = common::start(server, move |_| {
            let (blocked, wait) = (blocked.clone(), Arc::clone(&wait));
            Script::new().traffic(move |conn, input| {
                let message = input.take_all();
                if message == b"block" {
                    blocked.send(()).unwrap();
                    wait.lock().unwrap().recv().unwrap();
                }
                conn.write(message);
                Action::Continue
            })
        });
        let to = common::address(&server, 0);
        let mut first = common::connect(to);
        assert!(is_served(&mut first));
        first.write_all(b"block").unwrap();
        events.next();
        // The listener closes right behind the callback.
        let clients: Vec<_> = (0..5).map(|_| common::connect(to)).collect();
        server.handle().stop_accepting();
        free.send(()).unwrap();
        for mut client in clients {
            assert!(common::is_closed(&mut client));
        }
        assert_eq!(common::read(&mut first, 5), b"block");
        assert!(is_served(&mut first), "who is in goes on");
        common::stop(server);
    }

    fn a_turn_of_one_event_one_command_and_one_timer_serves_everybody(driver) {
        let limit = |server: Server| {
            let server = server.events_per_turn(1).commands_per_turn(1).timers_per_turn(1);
            server.write_bytes_per_turn(4096)
        };
        each_way_to_accept(driver, limit, |server, address| {
            let mut clients: Vec<_> = (0..20).map(|_| common::connect(address)).collect();
            let message = common::pattern(100_000);
            for client in &mut clients {
                assert!(common::exchange(client, &message) == message);
            }
            common::stop(server);
        });
    }
}
