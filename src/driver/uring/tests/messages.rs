//! Datagrams that the kernel receives by itself.
#![cfg(test)]

use std::os::fd::AsRawFd;
use std::time::Instant;

use super::*;

/// Adds datagram socket 0, which the kernel receives for, or does not; gives a socket that is
/// connected to it, and its address.
pub(super) fn datagrams(driver: &mut Uring, by_calls: bool) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.connect(address).unwrap();
    peer.set_read_timeout(Some(LONG)).unwrap();
    driver.open_datagram(0, socket).unwrap();
    driver.wait(Some(Duration::ZERO)).unwrap();
    if by_calls {
        driver.messages.as_mut().unwrap().refuse(0);
        // Its end leads to the other way.
        cancel(&mut driver.ring, Tag::new(Kind::Message, 0, 0)).unwrap();
        settle(driver);
    }
    (peer, address)
}

/// The first byte and the length of the next datagram of this turn; `None` for one that was cut.
fn next(driver: &mut Uring) -> Option<Option<(u8, usize)>> {
    match driver.next_event()? {
        Event::Datagram { buffer, .. } => {
            let bytes = driver.bytes(&buffer);
            let told = (bytes.first().copied().unwrap_or(0), bytes.len());
            driver.recycle(buffer);
            Some(Some(told))
        }
        Event::DatagramTruncated { socket: 0 } => Some(None),
        event => panic!("{event:?}"),
    }
}

/// So many datagrams, however many turns that takes, of which each tells at most `most`.
fn receive(driver: &mut Uring, count: usize, most: usize) -> Vec<Option<(u8, usize)>> {
    let end = Instant::now() + LONG;
    let mut told = Vec::new();
    while told.len() < count {
        driver.wait(Some(Duration::from_millis(20))).unwrap();
        told.extend(std::iter::from_fn(|| next(driver)).take(most));
        assert!(Instant::now() < end, "{} of {count} have come", told.len());
    }
    told
}

/// Buffers that the kernel can fill.
fn free(driver: &Uring) -> usize {
    let fetched = driver.ring.fetched_buffers(Group::Datagrams);
    driver.messages.as_ref().unwrap().free(fetched)
}

#[test]
fn datagrams_that_find_no_buffer_are_received_when_there_is_one() {
    for most in [1, 3, usize::MAX] {
        let Some(mut driver) = driver(4, (64, 256)) else { return };
        let (peer, _) = datagrams(&mut driver, false);
        let before = driver.ring.refused_receives;
        for number in 0..50 {
            peer.send(&[number; 9]).unwrap();
        }
        let told = receive(&mut driver, 50, most);
        assert!(told.iter().copied().eq((0..50).map(|number| Some((number, 9)))), "{told:?}");
        assert!(driver.ring.refused_receives > before, "there was a buffer for each");
        assert_eq!(free(&driver), 4, "all are back");
    }
}

#[test]
fn who_found_no_buffer_does_not_ask_again_before_there_are_some() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let (peer, _) = datagrams(&mut driver, false);
    for number in 0..50 {
        peer.send(&[number; 9]).unwrap();
    }
    while driver.ring.fetched_buffers(Group::Datagrams) < 4 {
        driver.wait(Some(LONG)).unwrap();
    }
    // Nobody looks at what came.
    let before = driver.ring.refused_receives;
    for _ in 0..20 {
        driver.wait(Some(Duration::ZERO)).unwrap();
    }
    assert!(driver.ring.refused_receives <= before + 1);
    assert_eq!(receive(&mut driver, 50, usize::MAX).len(), 50);
}

#[test]
fn empty_datagrams_and_ones_that_are_cut_stop_nobody() {
    let Some(mut driver) = driver(8, (64, 256)) else { return };
    let (peer, _) = datagrams(&mut driver, false);
    let lengths = [0, 1, BUFFER_BYTES, 0, 0, BUFFER_BYTES + 1, 7, 0];
    for length in lengths {
        peer.send(&vec![5; length]).unwrap();
    }
    let told = receive(&mut driver, lengths.len(), usize::MAX);
    let expected = lengths.map(|length| match length {
        0 => Some((0, 0)),
        _ if length > BUFFER_BYTES => None,
        _ => Some((5, length)),
    });
    assert_eq!(told, expected);
    assert_eq!(free(&driver), 8, "all buffers are back");
}

/// The kernel joins them only where the receive buffer holds the longest, and what is left over of
/// a turn is told by the next one.
#[test]
fn a_joined_message_is_told_in_a_row_and_its_buffer_comes_back_behind_it() {
    let options = (4 * BUFFER_BYTES, 4);
    let Ok(mut driver) = Uring::new(1 << 16, options, (64, 256)) else { return };
    let (peer, _) = datagrams(&mut driver, false);
    let segment: libc::c_int = 100;
    // SAFETY: the pointer leads to `segment`, and the length is that of `segment`.
    let set = unsafe {
        libc::setsockopt(
            peer.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            std::ptr::from_ref(&segment).cast(),
            size_of_val(&segment) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0);
    let bytes: Vec<u8> = (0..10).flat_map(|number| [number; 100]).take(950).collect();
    peer.send(&bytes).unwrap();
    let told = receive(&mut driver, 3, 3);
    if driver.has_message() {
        assert_eq!(free(&driver), 3, "a part of it is still to be told");
    }
    let told = [told, receive(&mut driver, 7, 3)].concat();
    let expected = (0..10).map(|number| Some((number, if number < 9 { 100 } else { 50 })));
    assert!(told.iter().copied().eq(expected), "{told:?}");
    assert_eq!(free(&driver), 4);
    assert!(!driver.has_message());
}

#[test]
fn a_socket_that_is_refused_is_received_by_calls() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let (peer, _) = datagrams(&mut driver, true);
    for number in 0..20 {
        peer.send(&[number; 9]).unwrap();
    }
    assert_eq!(receive(&mut driver, 20, usize::MAX).len(), 20);
    assert!(!driver.messages.as_ref().unwrap().serves(0));
}

#[test]
fn only_an_error_that_does_not_go_away_ends_the_kernels_receiving() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let (peer, _) = datagrams(&mut driver, false);
    let fail = |driver: &mut Uring, times| {
        let messages = driver.messages.as_mut().unwrap();
        (0..times).for_each(|_| messages.fail(0));
        messages.serves(0)
    };
    assert!(fail(&mut driver, 63));
    peer.send(b"message").unwrap();
    receive(&mut driver, 1, 1);
    assert!(fail(&mut driver, 63), "they are not in a row");
    assert!(!fail(&mut driver, 1));
}

#[test]
fn no_receive_of_datagrams_outlives_the_driver() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let (peer, address) = datagrams(&mut driver, false);
    for number in 0..20 {
        peer.send(&[number]).unwrap();
    }
    driver.wait(Some(LONG)).unwrap();
    drop(driver);
    UdpSocket::bind(address).expect("the port is free");
}
