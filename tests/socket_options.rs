//! Options of sockets are really set: asked of the kernel on the sockets that serve.

mod closures;
mod common;

use std::io;
use std::net::TcpListener;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[cfg(unix)]
use closures::Directory;
use closures::{Script, TCP};
use tightloop::{Action, Error, Keepalive, Server, SockRef};

/// What of keepalive this system can be asked for.
#[cfg(not(any(windows, target_os = "openbsd")))]
fn probes(socket: &SockRef<'_>) -> io::Result<Option<(Duration, Duration, u32)>> {
    let times = (socket.tcp_keepalive_time()?, socket.tcp_keepalive_interval()?);
    Ok(Some((times.0, times.1, socket.tcp_keepalive_retries()?)))
}

/// Windows takes the times and does not tell them; OpenBSD has none of a socket's own.
#[cfg(any(windows, target_os = "openbsd"))]
fn probes(_: &SockRef<'_>) -> io::Result<Option<(Duration, Duration, u32)>> {
    Ok(None)
}

/// Keepalive with as many values as the system has for one socket. Windows before 10 version 1709
/// has no count.
fn odd_keepalive() -> Keepalive {
    let idle = Keepalive::new(Duration::from_secs(77));
    match () {
        () if cfg!(target_os = "openbsd") => idle,
        () if cfg!(windows) => idle.interval(Duration::from_secs(11)),
        () => idle.interval(Duration::from_secs(11)).count(3),
    }
}

/// Linux doubles what is asked, for its own book-keeping.
const BUFFERS: (usize, usize) = if cfg!(any(target_os = "linux", target_os = "android")) {
    (40_000, 60_000)
} else {
    (20_000, 30_000)
};

/// What the kernel says of a connection's socket.
#[derive(Debug, PartialEq)]
struct Told {
    nodelay: bool,
    keepalive: bool,
    /// Idle time, interval and count of keepalive, where the system tells.
    probes: Option<(Duration, Duration, u32)>,
    send_buffer: usize,
    receive_buffer: usize,
    linger: Option<Duration>,
}

fn ask(socket: &SockRef<'_>) -> io::Result<Told> {
    Ok(Told {
        nodelay: socket.tcp_nodelay()?,
        keepalive: socket.keepalive()?,
        probes: probes(socket)?,
        send_buffer: socket.send_buffer_size()?,
        receive_buffer: socket.recv_buffer_size()?,
        linger: socket.linger()?,
    })
}

/// What the socket of the server's first connection has set.
fn told_by(server: Server) -> Told {
    let (told, events) = common::events();
    let server = common::start(server, move |_| {
        let told = told.clone();
        Script::new().open(move |conn| told.send(ask(&conn.socket().unwrap()).unwrap()).unwrap())
    });
    let client = common::connect(common::address(&server, 0));
    let answer = events.next();
    drop(client);
    common::stop(server);
    answer
}

/// A server with every option at a value that is no system's default.
fn odd(server: Server) -> Server {
    server
        .keepalive(odd_keepalive())
        .socket_send_buffer(20_000)
        .socket_receive_buffer(30_000)
        .linger(Duration::from_secs(2))
}

fn is_odd(told: &Told) {
    assert!(told.nodelay && told.keepalive, "{told:?}");
    if let Some((idle, interval, count)) = told.probes {
        assert_eq!((idle.as_secs(), interval.as_secs(), count), (77, 11, 3));
    }
    assert_eq!((told.send_buffer, told.receive_buffer), BUFFERS);
    assert_eq!(told.linger, Some(Duration::from_secs(2)));
}

every_driver! {
    fn small_segments_are_sent_at_once_by_default_and_nothing_else_is_set(driver) {
        let told = told_by(common::server(driver).listen(TCP));
        assert!(told.nodelay && !told.keepalive && told.linger.is_none(), "{told:?}");
    }

    fn nodelay_can_be_left_off(driver) {
        assert!(!told_by(common::server(driver).nodelay(false).listen(TCP)).nodelay);
    }

    fn every_option_reaches_the_sockets_of_accepted_connections(driver) {
        is_odd(&told_by(odd(common::server(driver)).listen(TCP)));
        is_odd(&told_by(odd(common::server(driver)).loops(2).listen(TCP)));
        is_odd(&told_by(odd(common::server(driver)).loops(2).reuse_port(common::SPREADS).listen(TCP)));
    }

    fn every_option_reaches_the_connections_of_a_listener_that_was_given(driver) {
        let given = || TcpListener::bind("127.0.0.1:0").unwrap();
        is_odd(&told_by(odd(common::server(driver)).listen_on_tcp(given())));
        assert!(told_by(common::server(driver).listen_on_tcp(given())).nodelay);
    }

    fn every_option_reaches_the_sockets_of_outgoing_connections(driver) {
        let (told, events) = common::events();
        let server = common::start(odd(common::server(driver)), move |_| {
            let told = told.clone();
            Script::new()
                .open(move |conn| told.send(ask(&conn.socket().unwrap()).unwrap()).unwrap())
        });
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let to: tightloop::Endpoint = format!("tcp://{}", backend.local_addr().unwrap()).parse().unwrap();
        server.loops()[0].execute(move |_, cx| {
            cx.connect(&to).unwrap();
        }).unwrap();
        is_odd(&events.next());
        drop(backend);
        common::stop(server);
    }

    #[cfg(unix)]
    fn buffer_sizes_reach_the_connections_of_unix_sockets(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let (told, events) = common::events();
        let server = odd(common::server(driver)).listen(url);
        let server = common::start(server, move |_| {
            let told = told.clone();
            Script::new().open(move |conn| {
                let socket = conn.socket().unwrap();
                let sizes = (socket.send_buffer_size(), socket.recv_buffer_size());
                told.send((sizes.0.unwrap(), sizes.1.unwrap())).unwrap();
            })
        });
        let client = UnixStream::connect(&path).unwrap();
        assert_eq!(events.next(), BUFFERS);
        drop(client);
        common::stop(server);
    }

    fn buffer_sizes_reach_datagram_sockets(driver) {
        let (told, events) = common::events();
        let server = odd(common::server(driver)).listen("udp://127.0.0.1:0");
        let server = server.on_listener_socket(move |socket| {
            told.send((socket.send_buffer_size()?, socket.recv_buffer_size()?)).unwrap();
            Ok(())
        });
        common::stop(common::start(server, |_| Script::new()));
        assert_eq!(events.next(), BUFFERS);
    }

    fn options_can_be_changed_for_one_connection(driver) {
        let (told, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let told = told.clone();
            Script::new().open(move |conn| {
                conn.set_keepalive(Some(odd_keepalive())).unwrap();
                conn.set_socket_send_buffer(20_000).unwrap();
                conn.set_socket_receive_buffer(30_000).unwrap();
                conn.set_linger(Some(Duration::from_secs(2))).unwrap();
                told.send(ask(&conn.socket().unwrap()).unwrap()).unwrap();
                conn.set_keepalive(None).unwrap();
                conn.set_nodelay(false).unwrap();
                conn.set_linger(None).unwrap();
                told.send(ask(&conn.socket().unwrap()).unwrap()).unwrap();
                let bad = conn.set_keepalive(Some(Keepalive::new(Duration::ZERO)));
                assert_eq!(bad.unwrap_err().kind(), io::ErrorKind::InvalidInput);
            })
        });
        let client = common::connect(common::address(&server, 0));
        is_odd(&events.next());
        let told = events.next();
        assert!(!told.keepalive && !told.nodelay && told.linger.is_none(), "{told:?}");
        drop(client);
        common::stop(server);
    }

    fn a_linger_of_half_a_second_does_not_become_a_reset(driver) {
        let server = common::server(driver).linger(Duration::from_millis(500)).listen(TCP);
        assert_eq!(told_by(server).linger, Some(Duration::from_secs(1)));
    }

    fn the_listener_hook_is_called_for_each_listening_socket(driver) {
        let called = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&called);
        let server = common::server(driver).listen(TCP).listen("udp://127.0.0.1:0");
        let server = server.on_listener_socket(move |socket| {
            socket.local_addr()?;
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        common::stop(common::start(server, |_| Script::new()));
        assert_eq!(called.load(Ordering::SeqCst), 2);
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    fn the_listener_hook_is_called_for_each_loops_own_socket_and_for_given_ones(driver) {
        let called = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&called);
        let server = common::server(driver).loops(2).reuse_port(common::SPREADS);
        let server = server.listen(TCP).listen("udp://127.0.0.1:0");
        let server = server.listen_on_tcp(TcpListener::bind("127.0.0.1:0").unwrap());
        let server = server.listen_on_udp(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let server = server.on_listener_socket(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        common::stop(common::start(server, |_| Script::new()));
        assert_eq!(called.load(Ordering::SeqCst), 6);
    }

    #[cfg(unix)]
    fn an_error_of_the_listener_hook_fails_the_start_with_address_and_reason(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        for url in [TCP, "udp://127.0.0.1:0", &url] {
            let server = common::server(driver).loops(2).listen(url);
            let server = server.on_listener_socket(|_| Err(io::Error::other("not this one")));
            let error = server.start(|_| Script::new()).expect_err("the hook said no");
            assert!(matches!(error, Error::Listen { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(url) && text.contains("not this one"), "{text}");
            assert!(!path.exists());
        }
    }

    fn the_connection_hook_comes_before_on_open_and_an_error_refuses(driver) {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let server = common::server(driver).listen(TCP).on_connection_socket(move |socket| {
            if count.fetch_add(1, Ordering::SeqCst) == 1 {
                return Err(io::Error::other("not the second"));
            }
            socket.set_send_buffer_size(20_000)
        });
        let server = common::start(server, |_| {
            Script::new().open(|conn| {
                let set = conn.socket().unwrap().send_buffer_size().unwrap() == BUFFERS.0;
                conn.write(&[u8::from(set)]);
            })
        });
        let to = common::address(&server, 0);
        for answer in [Some(1), None, Some(1)] {
            let mut client = common::connect(to);
            match answer {
                Some(set) => assert_eq!(common::read(&mut client, 1), [set]),
                None => assert!(common::is_closed(&mut client)),
            }
        }
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        let stats = server.handle().stats();
        assert_eq!((stats.accepted, stats.opened), (3, 2));
        common::stop(server);
    }

    fn values_that_cannot_be_meant_are_refused_by_the_name_of_the_method(driver) {
        let short = Keepalive::new(Duration::from_millis(1));
        let made = |change: fn(Server) -> Server| change(common::server(driver).listen(TCP));
        for (name, server) in [
            ("receive_buffer", made(|s| s.receive_buffer(1023))),
            ("receive_buffer", made(|s| s.receive_buffer(usize::MAX))),
            ("low_watermark", made(|s| s.high_watermark(10).low_watermark(11))),
            ("max_pending_output", made(|s| s.max_pending_output(1))),
            ("max_unconsumed_input", made(|s| s.max_unconsumed_input(0))),
            ("mailbox_capacity", made(|s| s.mailbox_capacity(0))),
            ("worker_threads", made(|s| s.worker_threads(0))),
            ("worker_queue", made(|s| s.worker_queue(0))),
            ("idle_timeout", made(|s| s.idle_timeout(Duration::ZERO))),
            ("keepalive", made(|s| s).keepalive(short)),
            ("linger", made(|s| s.linger(Duration::MAX))),
        ] {
            let error = server.start(|_| Script::new()).expect_err(name);
            match &error {
                Error::Option { name: told, .. } => assert_eq!(*told, name),
                other => panic!("{name}: {other:?}"),
            }
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    fn what_is_off_by_default_can_be_set_back_to_off(driver) {
        let zero = Duration::ZERO;
        let refused = |server: Server| server.idle_timeout(zero).read_idle_timeout(zero);
        let refused = |server| refused(server).write_idle_timeout(zero).first_byte_timeout(zero);
        let refused = |server| refused(server).write_stall_timeout(zero).stall_threshold(zero);
        let server = refused(common::server(driver)).keepalive(Keepalive::new(zero));
        let server = server.linger(Duration::MAX).listen(TCP);
        let server = server.idle_timeout(None).read_idle_timeout(None).write_idle_timeout(None);
        let server = server.first_byte_timeout(None).write_stall_timeout(None);
        let server = server.stall_threshold(None).keepalive(None).linger(None);
        common::stop(common::start(server, |_| Script::new()));
    }

    fn a_high_watermark_alone_brings_a_low_one_along(driver) {
        for bytes in [0, 1, 64 << 10] {
            let server = common::server(driver).listen(TCP).high_watermark(bytes);
            common::stop(common::start(server, |_| Script::new()));
        }
    }

    fn the_backlog_holds_those_who_wait_while_a_loop_is_busy(driver) {
        let server = common::server(driver).backlog(64).listen(TCP);
        let server = common::start(server, |_| {
            Script::new().traffic(|conn, input| {
                input.take_all();
                // All of them connect while the only loop is in this callback.
                let to = conn.local_addr().unwrap().socket_addr().unwrap();
                let waiting: Vec<_> = (0..60).map(|_| common::connect(to)).collect();
                conn.write(&[waiting.len() as u8]);
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::exchange(&mut client, b"x"), [60]);
        common::eventually("all are accepted", || server.handle().stats().opened == 61);
        drop(client);
        common::stop(server);
    }
}
