//! Listeners that go from one server to another lose nobody.
#![cfg(unix)]

mod closures;
mod common;
mod handing;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use closures::{Directory, Script, TCP};
use common::Echo;
use handing::{Clients, answers, ask, echo, on_all, release_and_stop, ways};
use tightloop::{Action, Error, ListenSocket, Server, WhenFull};

every_driver! {
    fn a_second_server_takes_over_under_load_and_nobody_is_lost(driver) {
        for (way, next) in ways(driver).into_iter().zip([(1, false), (2, false), (2, true)]) {
            let directory = Directory::new();
            let (server, path) = on_all(way, &directory);
            let first = common::start(server, |_| echo());
            let (tcp, udp) = (common::address(&first, 0), common::address(&first, 2));
            let clients = Clients::start(tcp, &path, udp);
            clients.are_served(50);
            let mut old = first;
            for _ in 0..3 {
                let mut server = common::server(driver).loops(next.0).reuse_port(next.1);
                for listener in 0..3 {
                    server = server.listen_on(old.handle().dup_listener(listener).unwrap());
                }
                let new = common::start(server, |_| echo());
                assert_eq!(new.local_addrs(), old.local_addrs());
                clients.are_served(50);
                release_and_stop(old);
                assert!(path.exists(), "the path was handed over");
                clients.are_served(50);
                assert!(answers(udp));
                old = new;
            }
            clients.stop();
            assert!(old.handle().stats().opened > 0);
            common::stop(old);
            assert!(TcpStream::connect(tcp).is_err(), "the last number is closed");
        }
    }

    fn each_backlog_is_accepted_from_with_fewer_and_with_more_loops(driver) {
        for (before, after, own) in [(3, 1, true), (3, 2, true), (2, 3, true), (3, 2, false)] {
            let server = common::server(driver).loops(before).reuse_port(true).listen(TCP);
            let first = common::start(server, |_| Echo);
            let to = common::address(&first, 0);
            let sockets = first.handle().dup_listener(0).unwrap();
            assert_eq!(sockets.len(), before);
            first.handle().release_listeners();
            common::eventually("it is drained", || first.handle().is_drained());
            // Nobody accepts now: the backlogs of all sockets fill.
            let clients: Vec<_> = (0..60).map(|_| common::connect(to)).collect();
            common::stop(first);
            let server = common::server(driver).loops(after).reuse_port(own).listen_on(sockets);
            let second = common::start(server, |_| Echo);
            for mut client in clients {
                assert_eq!(common::exchange(&mut client, b"still there"), b"still there");
            }
            assert_eq!(second.handle().stats().accepted, 60);
            common::stop(second);
        }
    }

    fn a_server_that_has_released_its_listeners_is_not_woken_by_them(driver) {
        let first = common::start(common::server(driver).listen(TCP), |_| Echo);
        let server = common::server(driver).listen_on(first.handle().dup_listener(0).unwrap());
        let second = common::start(server, |_| Echo);
        first.handle().release_listeners();
        common::eventually("it is drained", || first.handle().is_drained());
        let before = first.handle().stats().turns;
        for _ in 0..100 {
            ask(common::connect(common::address(&second, 0))).unwrap();
        }
        let more = first.handle().stats().turns - before;
        assert!(more < 20, "{more} turns for another server's connections");
        common::stop(first);
        common::stop(second);
    }

    fn datagrams_are_left_to_the_new_server_and_the_old_one_still_sends(driver) {
        for own in [false, true] {
            let ours = || common::server(driver).loops(2).reuse_port(own);
            let (told, handles) = common::events();
            let first = common::start(ours().listen("udp://127.0.0.1:0"), move |_| {
                let told = told.clone();
                Script::new().datagram(move |datagram| {
                    told.send(datagram.handle()).unwrap();
                    datagram.reply(b"old");
                    Action::Continue
                })
            });
            let to = common::address(&first, 0);
            let peer = common::datagram_peer();
            peer.send_to(b"?", to).unwrap();
            assert_eq!(common::receive_datagram(&peer), b"old");
            let handle = handles.next();
            let server = ours().listen_on(first.handle().dup_listener(0).unwrap());
            let second = common::start(server, |_| {
                Script::new().datagram(|datagram| {
                    datagram.reply(b"new");
                    Action::Continue
                })
            });
            first.handle().release_listeners();
            common::eventually("it is drained", || first.handle().is_drained());
            let turns = first.handle().stats().turns;
            for _ in 0..100 {
                let peer = common::datagram_peer();
                peer.send_to(b"?", to).unwrap();
                assert_eq!(common::receive_datagram(&peer), b"new");
            }
            let more = first.handle().stats().turns - turns;
            assert!(more < 20, "{more} turns for another server's datagrams");
            handle.send_to(peer.local_addr().unwrap(), "later").unwrap();
            assert_eq!(common::receive_datagram(&peer), b"later");
            common::stop(first);
            peer.send_to(b"?", to).unwrap();
            assert_eq!(common::receive_datagram(&peer), b"new");
            common::stop(second);
        }
    }

    fn who_waits_for_a_place_is_served_by_the_old_server_or_the_new_one(driver) {
        let limited = common::server(driver).max_connections(1, WhenFull::Wait).listen(TCP);
        let first = common::start(limited, |_| Echo);
        let to = common::address(&first, 0);
        let mut inside = common::connect(to);
        assert_eq!(common::exchange(&mut inside, b"x"), b"x");
        let waiting: Vec<_> = (0..40).map(|_| common::connect(to)).collect();
        common::eventually("somebody waits", || first.handle().stats().full_waits > 0);
        let server = common::server(driver).listen_on(first.handle().dup_listener(0).unwrap());
        let second = common::start(server, |_| Echo);
        first.handle().release_listeners();
        assert!(!first.handle().is_drained());
        assert_eq!(common::exchange(&mut inside, b"y"), b"y");
        drop(inside);
        let asked = waiting.into_iter().map(|client| std::thread::spawn(move || ask(client)));
        for client in asked.collect::<Vec<_>>() {
            client.join().unwrap().expect("whoever waited is served");
        }
        common::eventually("it is drained", || first.handle().is_drained());
        let served = [&first, &second].map(|server| server.handle().stats().opened);
        assert!(served[0] > 1 && served[0] + served[1] == 41, "{served:?}");
        common::stop(first);
        common::stop(second);
    }

    fn a_connection_that_is_open_keeps_a_server_from_being_drained(driver) {
        for loops in [1, 2] {
            let server = common::start(common::server(driver).loops(loops).listen(TCP), |_| Echo);
            let mut client = common::connect(common::address(&server, 0));
            assert_eq!(common::exchange(&mut client, b"x"), b"x");
            let handle = server.handle();
            handle.stop_accepting();
            let to = common::address(&server, 0);
            common::eventually("the listener closes", || TcpStream::connect(to).is_err());
            assert!(!handle.is_drained());
            assert_eq!(common::exchange(&mut client, b"x"), b"x");
            drop(client);
            common::eventually("it is drained", || handle.is_drained());
            common::stop(server);
            assert!(handle.is_drained());
        }
    }

    fn duplicates_are_refused_where_there_is_no_listener_or_none_any_more(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| Echo);
        let handle = server.handle();
        let kind = |n| handle.dup_listener(n).expect_err("there is none").kind();
        assert_eq!(kind(1), ErrorKind::InvalidInput);
        handle.stop_accepting();
        assert_eq!(kind(0), ErrorKind::NotConnected);
        let refused = handle.start_successor(Command::new("true")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotConnected);
        common::stop(server);
        assert_eq!(kind(0), ErrorKind::NotConnected);
    }

    fn a_duplicate_is_closed_on_exec_and_does_not_block(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| Echo);
        let [socket] = <[_; 1]>::try_from(server.handle().dup_listener(0).unwrap()).unwrap();
        let ListenSocket::Tcp(listener) = &socket else { panic!("{socket:?}") };
        // Nobody comes: one that blocked would hang here.
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let redirect = format!(": <&{}", listener.as_raw_fd());
        let child = Command::new("sh").args(["-c", &redirect]).stderr(Stdio::null()).status();
        assert!(!child.unwrap().success(), "a child has it");
        common::stop(server);
    }

    fn what_is_no_listener_is_refused_with_its_reason(driver) {
        let stream = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap()
        };
        let (datagrams, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        for owned in [OwnedFd::from(stream), datagrams.into(), file.into()] {
            let refused = ListenSocket::try_from(owned).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
        }
        let refused = |server: Server| server.start(|_| Echo).unwrap_err();
        let none: [ListenSocket; 0] = [];
        let error = refused(common::server(driver).listen_on(none));
        assert!(matches!(error, Error::Option { name: "listen_on", .. }), "{error}");
        let mixed = [
            ListenSocket::from(TcpListener::bind("127.0.0.1:0").unwrap()),
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
        ];
        let error = refused(common::server(driver).listen_on(mixed));
        assert!(matches!(error, Error::Option { name: "listen_on", .. }), "{error}");
        let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let error = refused(common::server(driver).listen_on_tcp(bound.into()));
        assert!(error.to_string().contains("does not listen"), "{error}");
    }

    fn descriptors_of_any_origin_serve(driver) {
        let directory = Directory::new();
        let (path, _) = directory.socket("socket");
        let tcp = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let unix = OwnedFd::from(UnixListener::bind(&path).unwrap());
        let udp = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut server = common::server(driver);
        for owned in [tcp, unix, udp] {
            server = server.listen_on([ListenSocket::try_from(owned).unwrap()]);
        }
        let server = common::start(server, |_| echo());
        ask(common::connect(common::address(&server, 0))).unwrap();
        ask(UnixStream::connect(&path).unwrap()).unwrap();
        assert!(answers(common::address(&server, 2)));
        common::stop(server);
        assert!(path.exists(), "the path was not the server's");
    }
}
