//! A kernel that has no memory for what is submitted to it.
#![cfg(test)]

use std::time::Instant;

use super::*;

/// Has stream 0 send something that the kernel does not take, and closes it. A second stream gets
/// its index and, if it can be had, the number of its descriptor, and sends too.
fn reused(driver: &mut Uring, mode: CloseMode) -> (TcpStream, TcpStream) {
    let (first, first_peer) = pair();
    let (second, second_peer) = pair();
    // It has no operation that would hold its socket.
    driver.open(token(0), Stream::Tcp(first)).unwrap();
    driver.ring.takes = 0;
    assert!(!send(driver, token(0), b"of the first").blocked);
    driver.close(token(0), mode);
    let second_again = second.try_clone().unwrap();
    drop(second);
    let next = Token { index: 0, generation: 2 };
    driver.open(next, Stream::Tcp(second_again)).unwrap();
    assert!(!send(driver, next, b"of the second").blocked);
    driver.wait(Some(Duration::ZERO)).unwrap();
    (first_peer, second_peer)
}

#[test]
fn a_send_that_leaves_late_goes_out_on_its_own_socket() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let (mut first, mut second) = reused(&mut driver, CloseMode::Orderly);
    driver.ring.takes = u32::MAX;
    settle(&mut driver);
    assert_eq!(read_to_end(&mut first).unwrap(), b"of the first");
    driver.close(Token { index: 0, generation: 2 }, CloseMode::Orderly);
    settle(&mut driver);
    assert_eq!(read_to_end(&mut second).unwrap(), b"of the second");
    assert!(driver.closing.is_empty(), "a socket stays open");
}

#[test]
fn sends_that_leave_one_by_one_close_only_what_is_theirs() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let (mut first, mut second) = reused(&mut driver, CloseMode::Orderly);
    driver.ring.takes = 1;
    settle(&mut driver);
    driver.close(Token { index: 0, generation: 2 }, CloseMode::Orderly);
    settle(&mut driver);
    assert_eq!(read_to_end(&mut first).unwrap(), b"of the first");
    assert_eq!(read_to_end(&mut second).unwrap(), b"of the second");
    assert!(driver.closing.is_empty(), "a socket stays open");
}

#[test]
fn a_late_send_of_a_stream_that_is_gone_fails_for_nobody() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let (first, mut second) = reused(&mut driver, CloseMode::Abort);
    SockRef::from(&first).set_linger(Some(Duration::ZERO)).unwrap();
    drop(first);
    driver.ring.takes = u32::MAX;
    let events = settle(&mut driver);
    assert!(events.is_empty(), "{events:?}");
    let next = Token { index: 0, generation: 2 };
    assert!(driver.commit(next).unwrap(), "its own send has left");
    driver.close(next, CloseMode::Orderly);
    settle(&mut driver);
    assert_eq!(read_to_end(&mut second).unwrap(), b"of the second");
    assert!(driver.closing.is_empty(), "a socket stays open");
}

#[test]
fn an_operation_whose_cancel_found_no_room_is_cancelled_later() {
    let Some(mut driver) = driver(4, (4, 16)) else { return };
    let mut peers = open(&mut driver, 20);
    driver.ring.takes = 0;
    for index in 0..20 {
        driver.close(token(index), CloseMode::Orderly);
    }
    assert!(!driver.closing.has_cancelled_all(), "there was room for all");
    driver.ring.takes = u32::MAX;
    settle(&mut driver);
    for peer in &mut peers {
        assert_eq!(read_to_end(peer).unwrap(), b"");
    }
    assert!(driver.closing.is_empty(), "a socket stays open");
}

#[test]
fn a_loop_without_memory_rests_between_its_attempts() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let _peers = open(&mut driver, 1);
    driver.ring.takes = 0;
    assert!(!send(&mut driver, token(0), b"waits").blocked);
    let start = Instant::now();
    for _ in 0..5 {
        driver.wait(None).unwrap();
    }
    assert!(start.elapsed() >= 4 * SHORT_OF_MEMORY, "{:?}", start.elapsed());
}

/// A stream that sends twice in a turn has a place in the queue then, so the loop does not sleep.
#[test]
fn a_loop_without_memory_rests_also_where_a_stream_sends_again() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let _peers = open(&mut driver, 1);
    driver.ring.takes = 0;
    assert!(!send(&mut driver, token(0), b"waits").blocked);
    let start = Instant::now();
    for _ in 0..5 {
        assert!(send(&mut driver, token(0), b"blocked").blocked);
        driver.wait(None).unwrap();
        let event = driver.next_event();
        assert!(matches!(event, Some(Event::Writable { .. })), "{event:?}");
    }
    assert!(start.elapsed() >= 4 * SHORT_OF_MEMORY, "{:?}", start.elapsed());
}

/// Ends a poll; its end is looked at when the kernel takes no further one.
fn end_without_memory(driver: &mut Uring, tag: Tag) {
    driver.wait(Some(Duration::ZERO)).unwrap();
    cancel(&mut driver.ring, tag).unwrap();
    driver.wait(Some(Duration::ZERO)).unwrap();
    let ended = driver.ring.next().expect("the poll ends");
    assert!(ended.tag == tag && !ended.has_more());
    fill(driver);
    driver.completed(ended);
    driver.ring.takes = u32::MAX;
    settle(driver);
}

#[test]
fn a_bell_that_could_not_be_heard_is_heard_later() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    end_without_memory(&mut driver, Tag::new(Kind::Woken, 0, 0));
    driver.waker()();
    let events = settle(&mut driver);
    assert!(matches!(events[..], [Event::Woken]), "{events:?}");
}

#[test]
fn a_datagram_socket_whose_poll_could_not_be_begun_receives_later() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    driver.open_datagram(0, socket).unwrap();
    end_without_memory(&mut driver, Tag::new(Kind::Datagram, 0, 0));
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.send_to(b"message", address).unwrap();
    let events = settle(&mut driver);
    assert!(matches!(events[..], [Event::Datagram { .. }]), "{events:?}");
}
