//! Sockets that the program has opened elsewhere become connections of a loop of its choice.

mod closures;
mod common;
mod packets;

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use closures::{Script, TCP};
use tightloop::{
    Action, Address, Adopt, Balancer, CloseReason, Connect, Direction, Error, HandleError,
    RunningServer, Server, Socket,
};

/// What a handler sees of a connection that opens: its loop, what was given along, its direction.
type Opened = (usize, Option<&'static str>, Direction);

/// Echoes, and tells of each connection that opens.
fn telling(server: Server) -> (RunningServer<Script>, common::Events<Opened>) {
    let (told, events) = common::events();
    let server = common::start(server, move |_| {
        let told = told.clone();
        Script::new()
            .open(move |conn| {
                let given = conn.attachment::<&'static str>().map(|text| *text);
                told.send((conn.loop_index(), given, conn.direction())).unwrap();
            })
            .traffic(|conn, input| {
                assert!(conn.attachment::<&'static str>().is_none(), "it was for on_open alone");
                conn.write(input.take_all());
                Action::Continue
            })
    });
    (server, events)
}

/// A connected pair: ours, which never times out, and the one to be adopted.
fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = common::connect(listener.local_addr().unwrap());
    (ours, listener.accept().unwrap().0)
}

fn udp_pair() -> (UdpSocket, UdpSocket) {
    let (ours, theirs) = (packets::client("127.0.0.1:0"), packets::client("127.0.0.1:0"));
    ours.connect(theirs.local_addr().unwrap()).unwrap();
    theirs.connect(ours.local_addr().unwrap()).unwrap();
    theirs.set_read_timeout(None).unwrap();
    (ours, theirs)
}

fn datagrams_come_back(ours: &UdpSocket) {
    for text in [&b"one"[..], b"two", b"three"] {
        ours.send(text).unwrap();
        assert_eq!(packets::receive(ours).0, text);
    }
}

/// Picks the loop by the port.
struct ByPort;

impl Balancer for ByPort {
    fn pick(&mut self, peer: &Address, _: &[usize]) -> usize {
        usize::from(peer.socket_addr().map_or(0, |address| address.port()))
    }
}

every_driver! {
    fn a_socket_of_each_kind_becomes_a_connection_of_the_chosen_loop(driver) {
        let (server, events) = telling(common::server(driver).loops(3));
        let handle = server.handle();
        let mut kept = Vec::new();
        for index in [2, 0, 1] {
            let (mut stream, theirs) = tcp_pair();
            let conn = handle.adopt(Adopt::new(theirs).on_loop(index).attach("stream")).unwrap();
            assert_eq!(events.next(), (index, Some("stream"), Direction::Incoming));
            assert_eq!(conn.id().unwrap().loop_index(), index);
            assert_eq!(common::exchange(&mut stream, b"hello"), b"hello");

            let (ours, theirs) = udp_pair();
            let adopt = Adopt::new(theirs).on_loop(index).direction(Direction::Outgoing);
            handle.adopt(adopt).unwrap();
            assert_eq!(events.next(), (index, None, Direction::Outgoing));
            datagrams_come_back(&ours);

            let (mut other, theirs) = tcp_pair();
            handle.adopt(Adopt::new(Socket::from(theirs)).on_loop(index)).unwrap();
            assert_eq!(events.next().0, index);
            assert_eq!(common::exchange(&mut other, b"hello"), b"hello");
            kept.push((stream, ours, other));
        }
        assert_eq!(handle.connections(), 9);
        common::stop(server);
    }

    // The flags of a descriptor are told by /proc.
    #[cfg(target_os = "linux")]
    fn a_unix_stream_and_a_bare_descriptor_too(driver) {
        use std::os::fd::{AsRawFd, OwnedFd};
        use std::os::unix::net::UnixStream;

        use tightloop::SockRef;

        let (seen, flags) = common::events();
        let server = common::server(driver).loops(2).on_connection_socket(move |socket| {
            let info = format!("/proc/self/fdinfo/{}", socket.as_raw_fd());
            let info = std::fs::read_to_string(info)?;
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
            // O_NONBLOCK and O_CLOEXEC.
            let is_ours = flags & 0o4000 != 0 && flags & 0o2_000_000 != 0;
            seen.send((is_ours, socket.as_raw_fd())).unwrap();
            Ok(())
        });
        let (server, events) = telling(server);
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(common::DEADLINE)).unwrap();
        server.handle().adopt(Adopt::new(theirs).on_loop(1)).unwrap();
        assert_eq!(events.next().0, 1);
        assert!(flags.next().0, "it may block the loop, or leak to a child");
        ours.write_all(b"hello").unwrap();
        assert_eq!(common::read(&mut ours, 5), b"hello");

        let (mut ours, theirs) = tcp_pair();
        let descriptor = OwnedFd::from(theirs);
        let number = descriptor.as_raw_fd();
        // As a library in another language may have made it.
        SockRef::from(&descriptor).set_cloexec(false).unwrap();
        server.handle().adopt(Adopt::new(descriptor)).unwrap();
        assert_eq!(flags.next(), (true, number));
        assert_eq!(common::exchange(&mut ours, b"hello"), b"hello");
        common::stop(server);
    }

    fn what_came_before_it_was_adopted_is_offered_even_if_the_peer_has_gone(driver) {
        let (told, events) = common::events();
        let server = common::start(common::server(driver), move |_| {
            let (bytes, told) = (told.clone(), told.clone());
            Script::new()
                .traffic(move |_, input| {
                    bytes.send(String::from_utf8_lossy(input.take_all()).into_owned()).unwrap();
                    Action::Continue
                })
                .close(move |_, reason| told.send(format!("{reason:?}")).unwrap())
        });
        let (mut ours, theirs) = tcp_pair();
        ours.write_all(b"last words").unwrap();
        drop(ours);
        server.handle().adopt_tcp(theirs).unwrap();
        assert_eq!((events.next(), events.next()), ("last words".into(), "PeerClosed".into()));

        let (ours, theirs) = udp_pair();
        ours.send(b"one").unwrap();
        ours.send(b"two").unwrap();
        server.handle().adopt_udp(theirs).unwrap();
        assert_eq!((events.next(), events.next()), ("one".to_owned(), "two".to_owned()));
        common::stop(server);
    }

    fn a_datagram_connection_ends_when_its_peers_port_is_closed(driver) {
        let (told, events) = common::events();
        let server = common::start(common::server(driver), move |_| {
            let told = told.clone();
            Script::new().close(move |_, reason| told.send(reason).unwrap())
        });
        let (ours, theirs) = udp_pair();
        let conn = server.handle().adopt_udp(theirs).unwrap();
        conn.write("heard").unwrap();
        assert_eq!(packets::receive(&ours).0, b"heard");
        drop(ours);
        conn.write("not heard").unwrap();
        let reason = events.next();
        assert!(matches!(reason, CloseReason::PeerReset(_)), "{reason}");
        common::eventually("its handle knows", || !conn.is_open());
        common::stop(server);
    }

    fn a_callback_adopts_for_its_own_loop_and_for_others(driver) {
        let (give, take) = std::sync::mpsc::channel::<TcpStream>();
        let take = Arc::new(std::sync::Mutex::new(take));
        let (told, events) = common::events();
        let server = common::server(driver).loops(3).listen(TCP);
        let server = common::start(server, move |_| {
            let (take, told) = (Arc::clone(&take), told.clone());
            Script::new()
                .open(move |conn| told.send((conn.loop_index(), conn.listener())).unwrap())
                .traffic(move |conn, input| {
                    if input.as_slice() != b"adopt" {
                        conn.write(input.take_all());
                        return Action::Continue;
                    }
                    input.take_all();
                    let own = conn.loop_index();
                    for index in [own, (own + 1) % 3] {
                        let stream = take.lock().unwrap().recv().unwrap();
                        conn.server().adopt(Adopt::new(stream).on_loop(index)).unwrap();
                    }
                    conn.write(b"done");
                    Action::Continue
                })
        });
        let mut client = common::connect(common::address(&server, 0));
        let (own, listener) = events.next();
        assert_eq!(listener, Some(0));
        let pairs = [tcp_pair(), tcp_pair()];
        let mut ours = Vec::new();
        for (mine, theirs) in pairs {
            ours.push(mine);
            give.send(theirs).unwrap();
        }
        client.write_all(b"adopt").unwrap();
        assert_eq!(common::read(&mut client, 4), b"done");
        let mut loops = [events.next(), events.next()];
        loops.sort();
        let mut expected = [(own, None), ((own + 1) % 3, None)];
        expected.sort();
        assert_eq!(loops, expected);
        for mut mine in ours {
            assert_eq!(common::exchange(&mut mine, b"hello"), b"hello");
        }
        common::stop(server);
    }

    fn the_servers_balancer_chooses_where_it_is_asked(driver) {
        let server = common::server(driver).loops(4).balancer(|| ByPort);
        let (server, events) = telling(server);
        let mut kept = Vec::new();
        for _ in 0..12 {
            let (ours, theirs) = tcp_pair();
            let port = ours.local_addr().unwrap().port();
            server.handle().adopt(Adopt::new(theirs).balanced()).unwrap();
            assert_eq!(events.next().0, usize::from(port) % 4);
            kept.push(ours);
        }
        common::stop(server);
        // The default takes turns, whoever asks.
        let (server, events) = telling(common::server(driver).loops(3));
        let mut spread = [0; 3];
        for _ in 0..6 {
            let (ours, theirs) = tcp_pair();
            server.handle().adopt(Adopt::new(theirs).balanced()).unwrap();
            spread[events.next().0] += 1;
            kept.push(ours);
        }
        assert_eq!(spread, [2; 3]);
        common::stop(server);
    }

    fn a_balancer_that_panics_is_the_callers_trouble_and_asked_again(driver) {
        struct Once(bool);
        impl Balancer for Once {
            fn pick(&mut self, _: &Address, _: &[usize]) -> usize {
                assert!(std::mem::replace(&mut self.0, true), "the first is too much for it");
                1
            }
        }
        let (server, events) = telling(common::server(driver).loops(2).balancer(|| Once(false)));
        let handle = server.handle();
        let (mut ours, theirs) = tcp_pair();
        let adopt = Adopt::new(theirs).balanced();
        std::thread::spawn(move || handle.adopt(adopt)).join().unwrap_err();
        assert!(common::is_closed(&mut ours));
        let (mut ours, theirs) = tcp_pair();
        server.handle().adopt(Adopt::new(theirs).balanced()).unwrap();
        assert_eq!(events.next().0, 1);
        assert_eq!(common::exchange(&mut ours, b"hello"), b"hello");
        common::stop(server);
    }

    fn a_socket_that_cannot_be_adopted_comes_back_as_it_was(driver) {
        let (server, events) = telling(common::server(driver).loops(2));
        let handle = server.handle();
        let (mut ours, theirs) = tcp_pair();
        let refused = handle.adopt(Adopt::new(theirs).on_loop(2)).unwrap_err();
        assert!(refused.to_string().contains("below 2"), "{refused}");
        assert!(matches!(refused.error, Error::Option { name: "on_loop", .. }));
        let mut theirs: TcpStream = refused.socket;

        let unconnected = UdpSocket::bind("127.0.0.1:0").unwrap();
        let refused = handle.adopt(Adopt::new(unconnected)).unwrap_err();
        assert!(refused.to_string().contains("not connected"), "{refused}");
        match refused.error {
            Error::Adopt { source } => assert_eq!(source.kind(), ErrorKind::NotConnected),
            other => panic!("{other}"),
        }
        refused.socket.send_to(b"still mine", theirs.local_addr().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = handle.adopt(Adopt::new(listener)).unwrap_err();
        assert!(matches!(refused.error, Error::Adopt { .. }), "{refused}");
        #[cfg(unix)]
        {
            let (one, _two) = std::os::unix::net::UnixDatagram::pair().unwrap();
            let refused = handle.adopt(Adopt::new(std::os::fd::OwnedFd::from(one))).unwrap_err();
            assert!(matches!(refused.error, Error::Unsupported { .. }), "{refused}");
            let file = std::fs::File::open("/dev/null").unwrap();
            let refused = handle.adopt(Adopt::new(std::os::fd::OwnedFd::from(file))).unwrap_err();
            assert!(matches!(refused.error, Error::Adopt { .. }), "{refused}");
        }
        assert!(events.drain().is_empty());
        common::stop(server);

        let refused = handle.adopt(Adopt::new(theirs)).unwrap_err();
        assert!(matches!(refused.error, Error::Stopped));
        assert_eq!(refused.to_string(), "the server is stopping");
        theirs = refused.socket;
        // It still blocks, and still works.
        let waits = std::thread::spawn(move || common::read(&mut theirs, 5));
        ours.write_all(b"hello").unwrap();
        assert_eq!(waits.join().unwrap(), b"hello");
        let error = handle.adopt_tcp(tcp_pair().1).unwrap_err();
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<HandleError>());
        assert_eq!((error.kind(), inner), (ErrorKind::NotConnected, Some(&HandleError::Closed)));
    }

    fn those_adopted_in_the_moment_of_a_stop_are_opened_and_closed_or_only_closed(driver) {
        for _ in 0..10 {
            let (told, events) = common::events();
            let server = common::start(common::server(driver).loops(2), move |_| {
                let (open, close) = (told.clone(), told.clone());
                Script::new()
                    .open(move |_| open.send(1).unwrap())
                    .close(move |_, _| close.send(-1).unwrap())
            });
            let handle = server.handle();
            let caller = std::thread::spawn(move || {
                let mut conns = Vec::new();
                loop {
                    let (ours, theirs) = tcp_pair();
                    match handle.adopt(Adopt::new(theirs).on_loop(conns.len() % 2)) {
                        Ok(conn) => conns.push((ours, conn)),
                        Err(refused) => break assert!(matches!(refused.error, Error::Stopped)),
                    }
                }
                conns
            });
            assert_eq!(events.next(), 1);
            common::stop(server);
            let conns = caller.join().unwrap();
            for (mut ours, conn) in conns {
                assert!(!conn.is_open());
                assert!(common::is_closed(&mut ours), "a socket is left open");
            }
            let (opened, closed): (Vec<_>, Vec<_>) =
                events.drain().into_iter().partition(|change| *change == 1);
            assert_eq!(opened.len() + 1, closed.len());
        }
    }

    fn what_is_given_along_to_connect_is_there_when_it_opens_or_fails(driver) {
        let (told, events) = common::events();
        let server = common::start(common::server(driver), move |_| {
            let (open, failed) = (told.clone(), told.clone());
            Script::new()
                .open(move |conn| {
                    assert!(conn.attachment::<u8>().is_none(), "it is of another type");
                    open.send(("open", conn.attachment::<u64>().map(|number| *number))).unwrap();
                })
                .failed(move |conn, _| {
                    failed.send(("failed", conn.attachment::<u64>().map(|n| *n))).unwrap();
                })
        });
        let to = |address: SocketAddr| Connect::to(&format!("tcp://{address}").parse().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        server.handle().connect(to(there).attach(7_u64)).unwrap();
        assert_eq!(events.next(), ("open", Some(7)));
        server.handle().connect(to(there)).unwrap();
        assert_eq!(events.next(), ("open", None));
        let gone = common::closed_port();
        server.loops()[0].execute(move |_, cx| drop(cx.connect(to(gone).attach(8_u64)))).unwrap();
        assert_eq!(events.next(), ("failed", Some(8)));
        common::stop(server);
    }
}
