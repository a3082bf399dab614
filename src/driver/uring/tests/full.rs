//! Sockets that take no more.
#![cfg(test)]

use super::*;

/// An open stream 0 whose socket is full, its peer, and how many bytes that gets.
fn full(driver: &mut Uring) -> (TcpStream, usize) {
    let (ours, peer) = pair();
    SockRef::from(&ours).set_send_buffer_size(16 << 10).unwrap();
    let mut taken = 0;
    // The kernel moves some of it to the peer meanwhile.
    for _ in 0..3 {
        while let Ok(count) = (&ours).write(&[7; 1024]) {
            taken += count;
        }
        std::thread::yield_now();
    }
    driver.open(token(0), Stream::Tcp(ours)).unwrap();
    driver.wait(Some(Duration::ZERO)).unwrap();
    (peer, taken)
}

#[test]
fn last_words_that_a_full_socket_refuses_are_sent_before_the_fin() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let (mut peer, taken) = full(&mut driver);
    assert!(!send(&mut driver, token(0), b"last words").blocked);
    driver.shutdown_write(token(0)).unwrap();
    let reader = std::thread::spawn(move || read_to_end(&mut peer));
    while !reader.is_finished() {
        driver.wait(Some(Duration::from_millis(5))).unwrap();
        while driver.next_event().is_some() {}
    }
    let bytes = reader.join().unwrap().unwrap();
    assert_eq!((bytes.len(), &bytes[taken..]), (taken + 10, &b"last words"[..]));
}

#[test]
fn last_words_that_a_full_socket_refuses_do_not_turn_the_close_into_a_reset() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let (mut peer, taken) = full(&mut driver);
    assert!(!send(&mut driver, token(0), b"last words").blocked);
    driver.close(token(0), CloseMode::Orderly);
    settle(&mut driver);
    assert_eq!(read_to_end(&mut peer).unwrap().len(), taken);
}

#[test]
fn a_fin_waits_for_a_send_that_the_kernel_has_not_taken() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let mut peers = open(&mut driver, 1);
    driver.ring.takes = 0;
    assert!(!send(&mut driver, token(0), b"last words").blocked);
    driver.shutdown_write(token(0)).unwrap();
    settle(&mut driver);
    driver.ring.takes = u32::MAX;
    settle(&mut driver);
    assert_eq!(read_to_end(&mut peers[0]).unwrap(), b"last words");
}

#[test]
fn an_abort_is_told_at_once() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let (mut peer, _) = full(&mut driver);
    assert!(!send(&mut driver, token(0), b"last words").blocked);
    driver.shutdown_write(token(0)).unwrap();
    driver.close(token(0), CloseMode::Abort);
    settle(&mut driver);
    let error = read_to_end(&mut peer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// A datagram socket whose poll for room finds no room itself.
#[test]
fn datagrams_wait_also_where_the_kernel_takes_no_poll() {
    let Some(mut driver) = driver(4, (4, 16)) else { return };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    driver.open_datagram(0, socket).unwrap();
    // Entries fill the ring, of which none leaves.
    driver.ring.takes = 0;
    while driver.watch_bell().is_ok() {}
    driver.datagrams.block(0);
    driver.watch_datagram_room(0);
    driver.wait(Some(Duration::ZERO)).unwrap();
    let event = driver.next_event();
    assert!(matches!(event, Some(Event::DatagramWritable { socket: 0 })), "{event:?}");
}

/// The refusal is the only completion, and is told while the driver gathers others.
#[test]
fn a_loop_does_not_sleep_on_a_send_that_a_full_socket_refused() {
    // On a busy machine the kernel may move something to the peer first, and takes the send.
    let is_awake = (0..5).any(|_| driver(16, (64, 256)).is_none_or(wakes_for_a_refused_send));
    assert!(is_awake, "it slept on it");
}

fn wakes_for_a_refused_send(mut driver: Uring) -> bool {
    let (mut peer, taken) = full(&mut driver);
    let mut others: Vec<_> = (1..9)
        .map(|index| {
            let (ours, other) = pair();
            driver.open(token(index), Stream::Tcp(ours)).unwrap();
            other
        })
        .collect();
    driver.wait(Some(Duration::ZERO)).unwrap();
    others.iter_mut().for_each(|other| other.write_all(b"message").unwrap());
    driver.wait(Some(LONG)).unwrap();
    let events = std::iter::from_fn(|| received(&mut driver)).count();
    assert!(events >= 4, "{events} are not enough for the next wait to gather");
    assert!(!send(&mut driver, token(0), b"refused").blocked);
    // Less than the timer of idle streams has.
    let timeout = Duration::from_secs(3);
    let start = std::time::Instant::now();
    driver.wait(Some(timeout)).unwrap();
    let is_awake = start.elapsed() < timeout;
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; taken + 7];
        peer.read_exact(&mut bytes).map(|()| bytes)
    });
    while !reader.is_finished() {
        while driver.next_event().is_some() {}
        driver.wait(Some(Duration::from_millis(5))).unwrap();
    }
    assert_eq!(reader.join().unwrap().unwrap()[taken..], *b"refused");
    is_awake
}
