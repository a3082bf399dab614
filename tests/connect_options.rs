//! What can be asked of an outgoing connection: its time, where it comes from.

mod closures;
mod common;
mod outgoing;
#[cfg(target_os = "linux")]
mod refusing;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use closures::{Script, TCP};
use outgoing::{Deaf, Told, closed_port, connect_as, failure, reporter, reporting};
use tightloop::{Action, CloseReason, Connect, Error};

fn to(url: &str) -> Connect {
    Connect::to(&url.parse().unwrap())
}

fn kind(reason: CloseReason) -> ErrorKind {
    match reason {
        CloseReason::ConnectFailed(error) => error.kind(),
        other => panic!("{other}"),
    }
}

every_driver! {
    fn a_peer_that_does_not_answer_is_given_up_in_its_time(driver) {
        common::at_best(|| {
            let deaf = Deaf::new();
            let patience = Duration::from_millis(300);
            let by_option = common::server(driver).connect_timeout(patience);
            for (server, connect) in [
                (by_option, to(&deaf.url())),
                (common::server(driver), to(&deaf.url()).timeout(patience)),
            ] {
                let (server, events) = reporting(server);
                let start = Instant::now();
                let id = connect_as(&server, connect);
                assert_eq!(kind(failure(&events, id)), ErrorKind::TimedOut);
                let took = start.elapsed();
                assert!(took >= patience && took < 10 * patience, "{took:?}");
                common::stop(server);
            }
        });
    }

    fn the_time_covers_the_look_up_of_the_name_too(driver) {
        let (server, events) = reporting(common::server(driver).worker_threads(1).worker_queue(8));
        let (release, wait) = channel::<()>();
        let blocked = server.workers().try_spawn(move || wait.recv().unwrap_or_default());
        assert!(blocked.is_ok());
        let connect = to(&format!("tcp://localhost:{}", closed_port().port()));
        let id = connect_as(&server, connect.timeout(Duration::from_millis(100)));
        assert_eq!(kind(failure(&events, id)), ErrorKind::TimedOut);
        // The answer, which comes now, is too late for this one and not for the next.
        drop(release);
        let next = connect_as(&server, to(&format!("localhost:{}", closed_port().port())));
        assert_eq!(kind(failure(&events, next)), ErrorKind::ConnectionRefused);
        common::stop(server);
        assert!(events.drain().is_empty(), "told of more than once");
    }

    fn what_cannot_be_reached_costs_the_others_no_time(driver) {
        common::at_best(|| {
            let deaf = Deaf::new();
            let (release, wait) = channel::<()>();
            let urls = [deaf.url(), closed_port().to_string(), "tcp://no-such-host.invalid:1".into()];
            let (told, events) = common::events();
            let server = common::start(common::server(driver).listen(TCP).worker_threads(1).worker_queue(8), move |_| {
                let urls = urls.clone();
                reporter(&told).traffic(move |conn, input| {
                    for url in &urls {
                        conn.connect(to(url)).unwrap();
                    }
                    conn.write(input.take_all());
                    Action::Continue
                })
            });
            // The names wait for a worker that has no time.
            assert!(server.workers().try_spawn(move || wait.recv().unwrap_or_default()).is_ok());
            let mut client = common::connect(common::address(&server, 0));
            let mut slowest = Duration::ZERO;
            for _ in 0..3 {
                let start = Instant::now();
                assert_eq!(common::exchange(&mut client, b"still there?"), b"still there?");
                slowest = slowest.max(start.elapsed());
            }
            assert!(slowest < Duration::from_secs(2), "an echo took {slowest:?}");
            drop(release);
            let mut refused = 0;
            let mut unknown = 0;
            while refused + unknown < 6 {
                match events.next() {
                    Told::Failed { reason, .. } if kind_is(&reason, ErrorKind::ConnectionRefused) => {
                        refused += 1;
                    }
                    Told::Failed { reason, .. } => {
                        assert!(reason.to_string().contains("no-such-host.invalid"), "{reason}");
                        unknown += 1;
                    }
                    Told::Opened { .. } => {}
                    other @ Told::Closed(_) => panic!("{other:?}"),
                }
            }
            assert_eq!((refused, unknown), (3, 3));
            common::stop(server);
        });
    }

    fn a_connection_comes_from_the_address_that_was_asked_for(driver) {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", backend.local_addr().unwrap());
        let (server, events) = reporting(common::server(driver));
        let port = closed_port().port();
        for port in [0, port] {
            let local = SocketAddr::from(([127, 0, 0, 2], port));
            connect_as(&server, to(&url).local_addr(local));
            assert!(matches!(events.next(), Told::Opened { .. }));
            let (stream, peer) = backend.accept().unwrap();
            assert_eq!(peer.ip(), local.ip());
            assert!(port == 0 || peer.port() == port);
            drop(stream);
            assert!(matches!(events.next(), Told::Closed(_)));
        }
        common::stop(server);
    }

    /// As before Linux 4.2, and on what only looks like Linux.
    #[cfg(target_os = "linux")]
    fn a_system_that_chooses_no_port_at_connect_chooses_it_before(driver) {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", backend.local_addr().unwrap());
        let connected = std::thread::spawn(move || {
            let option = Some(libc::IP_BIND_ADDRESS_NO_PORT);
            refusing::Refused { call: libc::SYS_setsockopt, third: option }.with(libc::ENOPROTOOPT);
            let (server, events) = reporting(common::server(driver));
            connect_as(&server, to(&url).local_addr(SocketAddr::from(([127, 0, 0, 2], 0))));
            assert!(matches!(events.next(), Told::Opened { .. }));
            common::stop(server);
        });
        connected.join().unwrap();
        assert_eq!(backend.accept().unwrap().1.ip(), IpAddr::from([127, 0, 0, 2]));
    }

    fn a_local_address_that_does_not_fit_fails_the_connection(driver) {
        let url = format!("tcp://{}", closed_port());
        let (server, events) = reporting(common::server(driver));
        // Of the other family, and one that this system does not have (RFC 5737).
        for local in ["::1", "192.0.2.1"] {
            let local = SocketAddr::new(local.parse::<IpAddr>().unwrap(), 0);
            let id = connect_as(&server, to(&url).local_addr(local));
            assert_eq!(kind(failure(&events, id)), ErrorKind::AddrNotAvailable, "{local}");
        }
        common::stop(server);
    }

    fn what_no_connection_can_be_is_refused_at_once(driver) {
        let (answer, events) = common::events();
        let server = common::start(common::server(driver), |_| Script::new());
        server.loops()[0]
            .execute(move |_, cx| {
                let local = SocketAddr::from(([127, 0, 0, 1], 0));
                for connect in [
                    to("unix:///tmp/somewhere").local_addr(local),
                    to("unix:///tmp/somewhere").addresses([local]),
                    to("tls://localhost:1"),
                ] {
                    answer.send(cx.connect(connect).map(drop)).unwrap();
                }
            })
            .unwrap();
        for _ in 0..3 {
            let error = events.next().expect_err("it cannot be meant");
            assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        }
        common::stop(server);
    }

    fn a_name_that_no_worker_can_look_up_fails_the_connection(driver) {
        let (server, events) = reporting(common::server(driver).worker_threads(1).worker_queue(1));
        let (release, wait) = channel::<()>();
        let (started, running) = channel();
        let job = move || {
            started.send(()).unwrap();
            let _ = wait.recv();
        };
        assert!(server.workers().try_spawn(job).is_ok());
        running.recv().unwrap();
        assert!(server.workers().try_spawn(|| ()).is_ok());
        let id = connect_as(&server, to("tcp://localhost:1"));
        assert_eq!(kind(failure(&events, id)), ErrorKind::ResourceBusy);
        drop(release);
        common::stop(server);
    }
}

fn kind_is(reason: &CloseReason, kind: ErrorKind) -> bool {
    matches!(reason, CloseReason::ConnectFailed(error) if error.kind() == kind)
}
