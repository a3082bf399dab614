//! Event loops: how connections are spread over them, which threads there are, how they boot.

mod closures;
mod common;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(unix)]
use closures::Directory;
use closures::{Script, TCP, alone, ended, server_threads, wait_for_the_end_of_threads};
use tightloop::{Action, Address, Balance, Balancer, Error, RunningServer, Server};

/// Greets with the index of the loop that serves the connection.
fn tell_the_loop(server: Server) -> RunningServer<Script> {
    common::start(server, |info| {
        Script::new().open(move |conn| {
            assert_eq!(conn.loop_index(), info.index);
            conn.write(&[info.index as u8]);
        })
    })
}

/// Connects and asks which loop that went to; the connection stays open.
fn loop_of(to: SocketAddr) -> (TcpStream, u8) {
    let mut client = common::connect(to);
    let index = common::read(&mut client, 1)[0];
    (client, index)
}

/// As `loop_of`, from a given address of this host.
fn loop_of_peer(from: &str, to: SocketAddr) -> (TcpStream, u8) {
    let from = SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect_timeout(&to.into(), common::DEADLINE).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(common::DEADLINE)).unwrap();
    let index = common::read(&mut client, 1)[0];
    (client, index)
}

/// How many of `n` connections, made one after the other, each loop got.
fn spread(n: usize, loops: usize, to: SocketAddr) -> (Vec<usize>, Vec<(TcpStream, u8)>) {
    let clients: Vec<_> = (0..n).map(|_| loop_of(to)).collect();
    let mut counts = vec![0; loops];
    for (_, index) in &clients {
        counts[usize::from(*index)] += 1;
    }
    (counts, clients)
}

/// Always answers what no server has as a loop.
struct FarOut;

impl Balancer for FarOut {
    fn pick(&mut self, _: &Address, connections: &[usize]) -> usize {
        assert_eq!(connections.len(), 3);
        usize::MAX
    }
}

/// Sends a connection where the fewest are, as the numbers say.
struct ByLoad;

impl Balancer for ByLoad {
    fn pick(&mut self, peer: &Address, connections: &[usize]) -> usize {
        assert!(peer.ip().unwrap().is_loopback());
        (0..connections.len()).min_by_key(|i| connections[*i]).unwrap()
    }
}

every_driver! {
    fn round_robin_is_the_default_and_gives_each_loop_its_turn(driver) {
        let server = tell_the_loop(common::server(driver).loops(3).listen(TCP));
        let (_, clients) = spread(9, 3, common::address(&server, 0));
        let order: Vec<_> = clients.iter().map(|(_, index)| *index).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        drop(clients);
        common::stop(server);
    }

    fn least_connections_fills_up_the_loop_that_lost_some(driver) {
        let server = common::server(driver).loops(3).balance(Balance::LeastConnections);
        let server = tell_the_loop(server.listen(TCP));
        let to = common::address(&server, 0);
        let (counts, mut clients) = spread(12, 3, to);
        assert_eq!(counts, [4, 4, 4]);
        clients.retain(|(_, index)| *index != 1);
        common::eventually("loop 1 is empty", || server.handle().connections() == 8);
        let (counts, more) = spread(4, 3, to);
        assert_eq!(counts, [0, 4, 0]);
        drop((clients, more));
        common::stop(server);
    }

    fn least_connections_counts_those_on_their_way_when_many_come_at_once(driver) {
        let server = common::server(driver).loops(4).balance(Balance::LeastConnections);
        let server = tell_the_loop(server.listen(TCP));
        let to = common::address(&server, 0);
        let mut clients: Vec<_> = (0..200).map(|_| common::connect(to)).collect();
        let mut counts = [0; 4];
        for client in &mut clients {
            counts[usize::from(common::read(client, 1)[0])] += 1;
        }
        assert!(counts.iter().all(|count| (45..=55).contains(count)), "{counts:?}");
        drop(clients);
        common::stop(server);
    }

    fn the_source_address_hash_keeps_a_host_on_one_loop_and_spreads_hosts(driver) {
        let server = common::server(driver).loops(4).balance(Balance::SourceAddrHash);
        let server = tell_the_loop(server.listen(TCP));
        let to = common::address(&server, 0);
        let mut used = [0; 4];
        for host in 2..34 {
            let from = format!("127.0.0.{host}");
            let indexes: Vec<_> = (0..4).map(|_| loop_of_peer(&from, to).1).collect();
            assert!(indexes.iter().all(|index| *index == indexes[0]), "{from}: {indexes:?}");
            used[usize::from(indexes[0])] += 1;
        }
        assert!(used.iter().all(|hosts| *hosts > 0), "32 hosts went to {used:?}");
        common::stop(server);
    }

    fn random_reaches_every_loop_about_equally(driver) {
        let server = common::server(driver).loops(4).balance(Balance::Random).listen(TCP);
        let server = tell_the_loop(server);
        let (counts, clients) = spread(400, 4, common::address(&server, 0));
        assert!(counts.iter().all(|count| (50..150).contains(count)), "{counts:?}");
        let order: Vec<_> = clients.iter().map(|(_, index)| *index).collect();
        assert!(order.windows(5).any(|w| w[0] == w[1] || w[0] != w[4]), "it takes turns");
        drop(clients);
        common::stop(server);
    }

    fn a_balancer_of_ones_own_sees_the_loads_and_may_answer_anything(driver) {
        let server = common::server(driver).loops(3).balancer(|| FarOut).listen(TCP);
        let server = tell_the_loop(server);
        let (_, index) = loop_of(common::address(&server, 0));
        assert_eq!(usize::from(index), usize::MAX % 3);
        common::stop(server);
        let server = common::server(driver).loops(3).balancer(|| ByLoad).listen(TCP);
        let server = tell_the_loop(server);
        let (counts, clients) = spread(9, 3, common::address(&server, 0));
        assert_eq!(counts, [3, 3, 3]);
        drop(clients);
        common::stop(server);
    }

    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn a_single_loop_accepts_itself_and_several_have_an_acceptor(driver) {
        if !alone(driver, "a_single_loop_accepts_itself_and_several_have_an_acceptor") {
            return;
        }
        let server = tell_the_loop(common::server(driver).listen(TCP));
        assert_eq!(server_threads(), ["tl-loop-0"]);
        assert_eq!(loop_of(common::address(&server, 0)).1, 0);
        common::stop(server);
        wait_for_the_end_of_threads();
        let server = tell_the_loop(common::server(driver).loops(2).listen(TCP));
        assert_eq!(server_threads(), ["tl-acceptor", "tl-loop-0", "tl-loop-1"]);
        common::stop(server);
        wait_for_the_end_of_threads();
        let server = tell_the_loop(common::server(driver).loops(2).listen("udp://127.0.0.1:0"));
        assert_eq!(server_threads(), ["tl-loop-0", "tl-loop-1"]);
        common::stop(server);
        wait_for_the_end_of_threads();
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "dragonfly"))]
    fn with_reuse_port_each_loop_accepts_for_itself(driver) {
        if !alone(driver, "with_reuse_port_each_loop_accepts_for_itself") {
            return;
        }
        let server = common::server(driver).loops(3).reuse_port(common::SPREADS);
        let server = tell_the_loop(server.listen(TCP).listen("tcp://[::1]:0"));
        assert_eq!(server_threads(), ["tl-loop-0", "tl-loop-1", "tl-loop-2"]);
        for n in 0..2 {
            let (counts, clients) = spread(120, 3, common::address(&server, n));
            assert!(counts.iter().all(|count| *count > 0), "the kernel spread {counts:?}");
            drop(clients);
        }
        assert_eq!(server.handle().stats().accepted, 240);
        common::stop(server);
    }

    #[cfg(unix)]
    fn with_reuse_port_unix_sockets_and_given_listeners_are_served_too(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let given = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = common::server(driver).loops(2).reuse_port(common::SPREADS).listen(TCP);
        let server = server.listen(url).listen_on_tcp(given);
        let server = tell_the_loop(server);
        let mut unix = std::os::unix::net::UnixStream::connect(&path).unwrap();
        unix.set_read_timeout(Some(common::DEADLINE)).unwrap();
        assert!(common::read(&mut unix, 1)[0] < 2);
        let (counts, clients) = spread(4, 2, common::address(&server, 2));
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        assert!(loop_of(common::address(&server, 0)).1 < 2);
        drop((unix, clients));
        common::stop(server);
    }

    fn a_loop_per_core_is_one_for_each_cpu_of_this_process(driver) {
        let server = tell_the_loop(common::server(driver).loop_per_core().listen(TCP));
        let cpus = std::thread::available_parallelism().unwrap().get();
        assert_eq!((server.loops().len(), server.handle().loop_count()), (cpus, cpus));
        common::stop(server);
    }

    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn pinned_loops_may_each_use_one_cpu_only(driver) {
        let (allowed, events) = common::events();
        let server = common::server(driver).loops(2).pin_loops(true).listen(TCP);
        let server = common::start(server, move |info| {
            let allowed = allowed.clone();
            Script::new().boot(move |_| {
                let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
                let line = status.lines().find(|l| l.starts_with("Cpus_allowed_list:")).unwrap();
                let cpu = line.split_whitespace().last().unwrap().parse::<usize>();
                allowed.send((info.index, cpu.expect("a single CPU"))).unwrap();
                Action::Continue
            })
        });
        let mut cpus = events.drain();
        cpus.sort();
        if std::thread::available_parallelism().unwrap().get() > 1 {
            assert_ne!(cpus[0].1, cpus[1].1, "both loops are on one CPU");
        }
        common::stop(server);
    }

    fn each_handler_is_made_on_its_loops_own_thread_and_need_not_be_send(driver) {
        let (made, events) = common::events();
        let server = common::start(common::server(driver).loops(3).listen(TCP), move |info| {
            assert_eq!(info.loop_count, 3);
            let thread = std::thread::current();
            made.send((info.index, thread.name().unwrap().to_owned())).unwrap();
            let shared = Rc::new(thread.id());
            let same = Rc::clone(&shared);
            Script::new()
                .open(move |conn| {
                    let here = std::thread::current().id() == *shared;
                    conn.write(&[u8::from(here)]);
                })
                .tick(move |_| {
                    assert_eq!(std::thread::current().id(), *same);
                    None
                })
        });
        let mut told = events.drain();
        told.sort();
        let names = (0..3).map(|index| (index, format!("tl-loop-{index}")));
        assert_eq!(told, names.collect::<Vec<_>>());
        let to = common::address(&server, 0);
        let answers: Vec<_> = (0..6).map(|_| loop_of(to).1).collect();
        assert_eq!(answers, [1; 6]);
        common::stop(server);
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "dragonfly"))]
    fn two_servers_on_one_port_both_get_traffic_and_stop_apart(driver) {
        let make = |port: u16| {
            let server = common::server(driver).reuse_addr(true).reuse_port(common::SPREADS);
            tell_the_loop(server.listen(format!("tcp://127.0.0.1:{port}")))
        };
        let first = make(0);
        let to = common::address(&first, 0);
        let second = make(to.port());
        let clients: Vec<_> = (0..100).map(|_| loop_of(to)).collect();
        let accepted = |server: &RunningServer<Script>| server.handle().stats().accepted;
        assert!(accepted(&first) > 0 && accepted(&second) > 0, "one got nothing");
        assert_eq!(accepted(&first) + accepted(&second), 100);
        drop(clients);
        common::stop(first);
        let before = accepted(&second);
        let clients: Vec<_> = (0..10).map(|_| loop_of(to)).collect();
        assert_eq!(accepted(&second), before + 10);
        drop(clients);
        common::stop(second);
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "dragonfly"))]
    fn datagrams_of_two_servers_on_one_port_reach_both(driver) {
        let make = |port: u16| {
            let server = common::server(driver).reuse_port(common::SPREADS);
            let server = server.listen(format!("udp://127.0.0.1:{port}"));
            common::start(server, |_| Script::new())
        };
        let first = make(0);
        let second = make(common::address(&first, 0).port());
        for _ in 0..100 {
            let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(common::DEADLINE)).unwrap();
            client.send_to(b"x", common::address(&first, 0)).unwrap();
            assert_eq!(client.recv(&mut [0; 8]).unwrap(), 1);
        }
        let got = [&first, &second].map(|server| server.handle().stats().datagrams_in);
        assert!(got[0] > 0 && got[1] > 0 && got[0] + got[1] == 100, "{got:?}");
        common::stop(first);
        common::stop(second);
    }

    fn more_loops_than_a_server_can_have_are_refused(driver) {
        let started = common::server(driver).loops(10_001).listen(TCP).start(|_| Script::new());
        let error = started.expect_err("10,001 loops");
        assert!(matches!(error, Error::Option { name: "loops", .. }), "{error}");
    }

    fn on_boot_runs_once_a_loop_before_every_other_callback(driver) {
        let booted: Arc<[AtomicUsize; 3]> = Arc::default();
        let served = Arc::new(AtomicBool::new(false));
        let (count, early) = (Arc::clone(&booted), Arc::clone(&served));
        let server = common::start(common::server(driver).loops(3).listen(TCP), move |info| {
            let (count, early) = (Arc::clone(&count), Arc::clone(&early));
            let (seen, ticked) = (Arc::clone(&count), Arc::clone(&count));
            Script::new()
                .boot(move |server| {
                    assert_eq!(server.local_addrs().len(), 1);
                    assert!(!early.load(Ordering::SeqCst), "a loop served before all had booted");
                    // A client is there already: the others must not serve it yet.
                    std::mem::forget(common::connect(server.local_addrs()[0].socket_addr().unwrap()));
                    count[info.index].fetch_add(1, Ordering::SeqCst);
                    Action::Continue
                })
                .tick(move |_| {
                    assert!(ticked.iter().all(|n| n.load(Ordering::SeqCst) == 1));
                    None
                })
                .open(move |conn| {
                    let ready = seen.iter().all(|n| n.load(Ordering::SeqCst) == 1);
                    conn.write(&[u8::from(ready)]);
                })
        });
        assert!(booted.iter().all(|n| n.load(Ordering::SeqCst) == 1), "start returned early");
        assert_eq!(loop_of(common::address(&server, 0)).1, 1);
        common::eventually("all are served", || server.handle().stats().opened == 4);
        served.store(true, Ordering::SeqCst);
        server.stop_within(std::time::Duration::ZERO);
        ended(server);
    }
}
