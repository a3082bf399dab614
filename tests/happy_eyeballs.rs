//! Hosts with several addresses: one that is dead costs a moment, not the connection (RFC 8305).

mod closures;
mod common;
mod outgoing;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use closures::alone;
use outgoing::{Deaf, Told, closed_port, connect_as, failure, reporting, reporting_attempts};
use tightloop::{CloseReason, ConnId, Connect};

/// How long one that does not answer is waited for before the next is tried.
const DELAY: Duration = Duration::from_millis(250);

/// Connects to the first of `addresses` that answers.
fn to(addresses: &[SocketAddr]) -> Connect {
    // The name is never looked up.
    let host = "tcp://several.invalid:1".parse().unwrap();
    Connect::to(&host).addresses(addresses.iter().copied())
}

/// The connection opens as the next thing; answers its peer.
fn opened(events: &common::Events<Told>, of: ConnId) -> String {
    match events.next() {
        Told::Opened { id, peer, .. } if id == of => peer,
        other => panic!("{other:?}"),
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

every_driver! {
    fn one_that_does_not_answer_makes_way_after_a_moment(driver) {
        common::at_best(|| {
            let (deaf, living) = (Deaf::new(), TcpListener::bind("127.0.0.1:0").unwrap());
            let living_at = living.local_addr().unwrap();
            let (server, events, attempts) = reporting_attempts(common::server(driver));
            let start = Instant::now();
            let id = connect_as(&server, to(&[deaf.address(), living_at]));
            assert_eq!(opened(&events, id), living_at.to_string());
            let took = start.elapsed();
            assert!(took >= DELAY, "the first one was given no time: {took:?}");
            assert!(took < 4 * DELAY * 2, "{took:?}");
            let mut stream = living.accept().unwrap().0;
            assert_eq!(common::read(&mut stream, 8), b"greeting");
            common::eventually("the other attempt is given up", || attempts.living_are(1));
            assert_eq!(attempts.begun(), 2);
            drop(stream);
            assert!(matches!(events.next(), Told::Closed(closed) if closed == id));
            common::stop(server);
        });
    }

    fn those_that_refuse_make_way_at_once(driver) {
        common::at_best(|| {
            let living = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut addresses: Vec<_> = (0..10).map(|_| closed_port()).collect();
            addresses.push(living.local_addr().unwrap());
            let (server, events) = reporting(common::server(driver));
            let start = Instant::now();
            let id = connect_as(&server, to(&addresses));
            assert_eq!(opened(&events, id), addresses[10].to_string());
            let took = start.elapsed();
            assert!(took < 4 * DELAY, "ten that refuse took {took:?}");
            common::stop(server);
        });
    }

    fn one_dead_family_does_not_matter(driver) {
        for living in ["[::1]:0", "127.0.0.1:0"] {
            let living = TcpListener::bind(living).unwrap();
            let at = living.local_addr().unwrap();
            let both = ["::1", "127.0.0.1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), at.port()));
            let (server, events) = reporting(common::server(driver));
            let id = connect_as(&server, to(&both));
            assert_eq!(opened(&events, id), at.to_string());
            common::stop(server);
        }
    }

    fn the_first_that_answers_wins_whenever_it_was_asked(driver) {
        for winner in 0..3 {
            let mut deaf: Vec<_> = (0..3).map(|_| Deaf::new()).collect();
            let addresses: Vec<_> = deaf.iter().map(Deaf::address).collect();
            let (server, events, attempts) = reporting_attempts(common::server(driver));
            let id = connect_as(&server, to(&addresses));
            common::eventually("all of them are asked", || attempts.begun() == 3);
            // The kernel asks again by itself.
            let listener = deaf.remove(winner).heal();
            assert_eq!(opened(&events, id), addresses[winner].to_string(), "{winner} of {addresses:?}");
            let mut stream = listener.accept().unwrap().0;
            assert_eq!(common::read(&mut stream, 8), b"greeting");
            common::eventually("the others are given up", || attempts.living_are(1));
            server.stop();
            assert_eq!(common::read_to_end(&mut stream), b"");
            drop(stream);
            assert!(matches!(events.next(), Told::Closed(closed) if closed == id));
            closures::ended(server);
        }
    }

    fn all_are_tried_and_the_time_is_that_of_the_whole(driver) {
        common::at_best(|| {
            let deaf: Vec<_> = (0..3).map(|_| Deaf::new()).collect();
            let mut addresses: Vec<_> = deaf.iter().map(Deaf::address).collect();
            addresses.insert(1, closed_port());
            let (server, events, attempts) = reporting_attempts(common::server(driver));
            let patience = 8 * DELAY;
            let start = Instant::now();
            let id = connect_as(&server, to(&addresses).timeout(patience));
            match failure(&events, id) {
                CloseReason::ConnectFailed(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                other => panic!("{other}"),
            }
            let took = start.elapsed();
            assert!(took >= patience && took < 2 * patience, "{took:?}");
            assert_eq!(attempts.begun(), 4);
            common::eventually("all are given up", || attempts.living_are(0));
            let refused = connect_as(&server, to(&[closed_port(), closed_port()]));
            match failure(&events, refused) {
                CloseReason::ConnectFailed(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                }
                other => panic!("{other}"),
            }
            common::stop(server);
            assert!(events.drain().is_empty(), "told of more than once");
        });
    }

    fn attempts_in_parallel_are_bounded(driver) {
        common::at_best(|| {
            let deaf: Vec<_> = (0..10).map(|_| Deaf::new()).collect();
            let addresses: Vec<_> = deaf.iter().map(Deaf::address).collect();
            let (server, events, attempts) = reporting_attempts(common::server(driver));
            let id = connect_as(&server, to(&addresses).timeout(16 * DELAY));
            assert!(matches!(failure(&events, id), CloseReason::ConnectFailed(_)));
            assert_eq!(attempts.begun(), 8);
            common::stop(server);
        });
    }

    fn a_stop_in_the_middle_gives_all_attempts_up(driver) {
        let deaf = [Deaf::new(), Deaf::new()];
        let hour = Duration::from_secs(3600);
        let (server, events, attempts) =
            reporting_attempts(common::server(driver).connect_timeout(hour));
        let id = connect_as(&server, to(&deaf.each_ref().map(Deaf::address)));
        common::eventually("both are asked", || attempts.begun() == 2);
        server.stop_within(hour);
        assert!(matches!(failure(&events, id), CloseReason::ServerStopped));
        closures::ended(server);
        assert!(attempts.living_are(0));
    }

    fn a_close_in_the_middle_gives_all_attempts_up(driver) {
        let deaf = [Deaf::new(), Deaf::new()];
        let (server, events, attempts) = reporting_attempts(common::server(driver));
        let handle = server.handle().connect(to(&deaf.each_ref().map(Deaf::address))).unwrap();
        common::eventually("both are asked", || attempts.begun() == 2);
        handle.close().unwrap();
        assert!(matches!(failure(&events, handle.id().unwrap()), CloseReason::Local));
        assert!(!handle.is_open());
        common::eventually("both are given up", || attempts.living_are(0));
        common::stop(server);
    }

    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn attempts_that_lose_leave_nothing(driver) {
        if !alone(driver, "attempts_that_lose_leave_nothing") {
            return;
        }
        let (deaf, living) = (Deaf::new(), TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = [deaf.address(), living.local_addr().unwrap()];
        let (server, events) = reporting(common::server(driver));
        let before = descriptors();
        for _ in 0..20 {
            connect_as(&server, to(&addresses));
        }
        for _ in 0..20 {
            assert!(matches!(events.next(), Told::Opened { .. }));
        }
        (0..20).for_each(|_| drop(living.accept().unwrap()));
        for _ in 0..20 {
            assert!(matches!(events.next(), Told::Closed(_)));
        }
        common::eventually("all sockets are closed", || descriptors() == before);
        common::stop(server);
    }
}
