//! Tests of listeners and their accepts, beside what they look into.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::*;
use crate::addr::Address;
use crate::driver::Driver;
use crate::driver::uring::tag::Kind;
use crate::driver::uring::tests::{fill, settle};

/// A driver, where this system has io_uring, with a listener.
fn listening() -> Option<(Uring, std::net::SocketAddr)> {
    let mut driver = Uring::new(64 << 10, 64 << 10, (64, 256)).ok()?;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    driver.listen(0, Listener::Tcp(socket)).unwrap();
    Some((driver, address))
}

fn next(driver: &mut Uring) -> Option<Event> {
    for _ in 0..100 {
        driver.wait(Some(Duration::from_millis(10))).unwrap();
        while let Some(event) = driver.next_event() {
            if !matches!(event, Event::Woken) {
                return Some(event);
            }
        }
    }
    None
}

fn assert_accepts(driver: &mut Uring, client: &TcpStream) {
    let Some(Event::Accepted { listener: 0, stream, peer }) = next(driver) else {
        panic!("nobody was accepted");
    };
    assert_eq!(peer, Address::from(client.local_addr().unwrap()));
    let flags = |command| {
        // SAFETY: takes numbers only.
        unsafe { libc::fcntl(stream.as_socket().as_raw_fd(), command) }
    };
    assert_ne!(flags(libc::F_GETFL) & libc::O_NONBLOCK, 0);
    assert_ne!(flags(libc::F_GETFD) & libc::FD_CLOEXEC, 0);
}

/// Cancels what the listener has in the kernel; gives all that it has told, not looked at yet.
fn cancelled(driver: &mut Uring) -> Vec<Completion> {
    driver.wait(Some(Duration::ZERO)).unwrap();
    let Uring { listeners, ring, .. } = driver;
    listeners[0].as_ref().unwrap().cancel(0, ring).unwrap();
    ring.enter(Wait::No).unwrap();
    let told = std::iter::from_fn(|| ring.next());
    let is_its = |c: &Completion| matches!(c.tag.kind(), Some(Kind::Accept | Kind::Listener));
    told.filter(is_its).collect()
}

/// Has all accepts without a connection end with this error; gives what is told of it.
fn fail(driver: &mut Uring, error: i32) -> Vec<Event> {
    let mut ended = cancelled(driver);
    // Those that have accepted are the last.
    ended.sort_by_key(|completion| completion.result);
    let told = ended.into_iter().filter_map(|mut completion| {
        if completion.result < 0 {
            completion.result = -error;
        }
        driver.accept_ended(completion)
    });
    told.collect()
}

fn is_called(driver: &Uring) -> bool {
    matches!(driver.listeners[0].as_ref().unwrap().way, Way::Calls { .. })
}

/// A driver with a listener that accepts by calls; the poll has not left.
fn calling() -> Option<(Uring, std::net::SocketAddr)> {
    let (mut driver, address) = listening()?;
    // As a kernel that does not know such accepts says.
    assert!(fail(&mut driver, libc::EINVAL).is_empty());
    assert!(is_called(&driver));
    Some((driver, address))
}

#[test]
fn a_kernel_that_refuses_accepts_is_asked_by_calls() {
    let Some((mut driver, address)) = calling() else { return };
    for _ in 0..3 {
        let client = TcpStream::connect(address).unwrap();
        assert_accepts(&mut driver, &client);
    }
}

#[test]
fn whom_the_last_accept_brings_before_calls_is_told_of_and_so_are_others() {
    let Some((mut driver, address)) = listening() else { return };
    driver.wait(Some(Duration::ZERO)).unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let told = fail(&mut driver, libc::EINVAL);
    assert!(matches!(told[..], [Event::Accepted { .. }]), "{told:?}");
    assert!(is_called(&driver));
    assert_accepts(&mut driver, &TcpStream::connect(address).unwrap());
}

#[test]
fn a_listener_that_is_refused_accepts_while_it_rests_is_called_behind_the_rest() {
    let Some((mut driver, address)) = listening() else { return };
    driver.rest_listener(0);
    assert!(fail(&mut driver, libc::EINVAL).is_empty());
    driver.resume_accepting(0);
    assert!(settle(&mut driver).is_empty());
    assert_accepts(&mut driver, &TcpStream::connect(address).unwrap());
}

#[test]
fn an_error_behind_accepted_connections_says_nothing_of_the_kernel() {
    let Some((mut driver, address)) = listening() else { return };
    assert_accepts(&mut driver, &TcpStream::connect(address).unwrap());
    // An error of the network: passing.
    assert!(fail(&mut driver, libc::EOPNOTSUPP).is_empty());
    assert_accepts(&mut driver, &TcpStream::connect(address).unwrap());
    // The listener is broken: it rests.
    let told = fail(&mut driver, libc::EINVAL);
    assert!(matches!(told[..], [Event::AcceptFailed { .. }]), "{told:?}");
    driver.resume_accepting(0);
    assert_accepts(&mut driver, &TcpStream::connect(address).unwrap());
    assert!(!is_called(&driver));
}

#[test]
fn accepts_that_find_nobody_are_begun_anew_but_not_for_ever() {
    let Some((mut driver, address)) = listening() else { return };
    assert!(fail(&mut driver, libc::EAGAIN).is_empty());
    assert_accepts(&mut driver, &TcpStream::connect(address).unwrap());
    let told = (0..10).find(|_| !fail(&mut driver, libc::EAGAIN).is_empty());
    assert!(told.is_some(), "it would go on for ever");
    driver.resume_accepting(0);
    assert_accepts(&mut driver, &TcpStream::connect(address).unwrap());
}

#[test]
fn a_poll_for_which_there_was_no_memory_is_begun_later() {
    let Some((mut driver, address)) = calling() else { return };
    let ended = cancelled(&mut driver);
    fill(&mut driver);
    for completion in ended {
        assert!(driver.completed(completion).is_none());
    }
    driver.ring.takes = u32::MAX;
    assert!(settle(&mut driver).is_empty());
    assert_accepts(&mut driver, &TcpStream::connect(address).unwrap());
}

#[test]
fn a_listener_frees_its_port_also_where_accepts_are_about_to_look_for_connections() {
    let Some((mut driver, address)) = listening() else { return };
    let client = TcpStream::connect(address).unwrap();
    driver.close_listener(0, false);
    TcpListener::bind(address).unwrap();
    assert_accepts(&mut driver, &client);
    assert!(settle(&mut driver).is_empty() && driver.listeners[0].is_none());
}

#[test]
fn a_listener_for_whose_end_there_is_no_memory_ends_later() {
    for make in [listening, calling] {
        let Some((mut driver, address)) = make() else { return };
        driver.wait(Some(Duration::ZERO)).unwrap();
        fill(&mut driver);
        driver.close_listener(0, false);
        driver.ring.takes = u32::MAX;
        assert!(settle(&mut driver).is_empty() && driver.listeners[0].is_none());
        TcpListener::bind(address).unwrap();
    }
}

#[test]
fn a_listener_stays_open_as_long_as_an_entry_names_it() {
    for make in [listening, calling] {
        let Some((mut driver, address)) = make() else { return };
        driver.ring.takes = 0;
        driver.close_listener(0, false);
        let is_open = driver.listeners[0].as_ref().is_some_and(|entry| entry.fd().is_some());
        assert!(is_open, "an entry may name another socket");
        driver.ring.takes = u32::MAX;
        assert!(settle(&mut driver).is_empty() && driver.listeners[0].is_none());
        TcpListener::bind(address).unwrap();
    }
}

#[test]
fn a_listener_that_closes_tells_of_all_that_it_has_accepted_though_it_shall_rest() {
    let Some((mut driver, address)) = listening() else { return };
    driver.wait(Some(Duration::ZERO)).unwrap();
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    driver.ring.enter(Wait::No).unwrap();
    driver.close_listener(0, false);
    for client in &clients {
        assert_accepts(&mut driver, client);
        driver.rest_listener(0);
    }
    assert!(settle(&mut driver).is_empty() && driver.listeners[0].is_none());
}

#[test]
fn a_listener_that_rests_tells_of_nobody_until_it_goes_on() {
    let Some((mut driver, address)) = listening() else { return };
    driver.rest_listener(0);
    let clients: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    driver.wait(Some(Duration::ZERO)).unwrap();
    assert!(driver.next_event().is_none());
    driver.resume_accepting(0);
    for client in &clients {
        assert_accepts(&mut driver, client);
    }
}

#[test]
fn a_listener_that_closes_tells_of_those_it_has_accepted_and_frees_its_port() {
    let Some((mut driver, address)) = listening() else { return };
    driver.wait(Some(Duration::ZERO)).unwrap();
    let client = TcpStream::connect(address).unwrap();
    driver.ring.enter(Wait::No).unwrap();
    driver.close_listener(0, false);
    TcpListener::bind(address).unwrap();
    assert_accepts(&mut driver, &client);
    assert!(driver.next_event().is_none() && driver.listeners[0].is_none());
}

/// The kernel has woken accepts for them, and nobody of those who have a duplicate.
#[test]
fn those_whose_accepts_were_cancelled_just_then_are_told_of_where_the_socket_lives_on() {
    let Some((mut driver, address)) = listening() else { return };
    driver.wait(Some(Duration::ZERO)).unwrap();
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    // As if they had come behind the look that `close_listener` takes before it cancels.
    let Uring { listeners, ring, .. } = &mut driver;
    listeners[0].as_ref().unwrap().cancel(0, ring).unwrap();
    driver.close_listener(0, true);
    for client in &clients {
        assert_accepts(&mut driver, client);
    }
    assert!(settle(&mut driver).is_empty() && driver.listeners[0].is_none());
}

#[test]
fn whoever_was_accepted_and_not_told_of_is_closed_with_the_driver() {
    let Some((mut driver, address)) = listening() else { return };
    driver.wait(Some(Duration::ZERO)).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    driver.ring.enter(Wait::No).unwrap();
    drop(driver);
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let closed = std::io::Read::read(&mut client, &mut [0; 1]);
    assert!(closed.is_ok_and(|length| length == 0), "it was left open");
}
