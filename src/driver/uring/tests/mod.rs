//! What the public API cannot force, on the real kernel: buffers that run out at a chosen moment,
//! more completions than a turn takes, a kernel that takes no entries. What the drivers have in
//! common is tested from outside.
#![cfg(test)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use crate::buf::pool::Pool;
use crate::driver::uring::ring::{SHORT_OF_MEMORY, Wait};
use crate::driver::uring::settle::cancel;
use crate::driver::uring::tag::{Kind, Tag};

mod ending;
mod full;
mod leftovers;
mod stalls;

/// Far more than any wait here needs.
const LONG: Duration = Duration::from_secs(10);

/// A small driver; `None` where the system has none, which is said.
fn driver(buffers: usize, entries: (u32, u32)) -> Option<Uring> {
    match Uring::new(BUFFER_BYTES, buffers * BUFFER_BYTES, entries) {
        Ok(driver) => Some(driver),
        Err(fallback) => {
            println!("skipped: {fallback}");
            None
        }
    }
}

fn token(index: u32) -> Token {
    Token { index, generation: 1 }
}

fn local_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Connected sockets: the driver's, and its peer's.
fn pair() -> (TcpStream, TcpStream) {
    let (listener, address) = local_listener();
    let peer = TcpStream::connect(address).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    peer.set_nodelay(true).unwrap();
    peer.set_read_timeout(Some(LONG)).unwrap();
    (ours, peer)
}

/// Opens streams 0, 1, ... and gives their peers, once all can receive.
fn open(driver: &mut Uring, count: u32) -> Vec<TcpStream> {
    let peers = (0..count).map(|index| {
        let (ours, peer) = pair();
        driver.open(token(index), Stream::Tcp(ours)).unwrap();
        peer
    });
    let peers = peers.collect();
    driver.wait(Some(Duration::ZERO)).unwrap();
    peers
}

/// The stream that the next event has bytes of, which are given back.
fn received(driver: &mut Uring) -> Option<u32> {
    match driver.next_event()? {
        Event::Received { token, buffer } => {
            driver.recycle(buffer);
            Some(token.index)
        }
        event => panic!("{event:?}"),
    }
}

/// Sends this.
fn send(driver: &mut Uring, token: Token, bytes: &[u8]) -> Sent {
    let mut pool = Pool::new(0);
    let mut output = Outbound::default();
    output.append(bytes, &mut pool);
    driver.send(token, &output, usize::MAX).unwrap()
}

/// Takes turns until nothing happens any more; gives what did.
pub(super) fn settle(driver: &mut Uring) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..20 {
        driver.wait(Some(Duration::from_millis(5))).unwrap();
        events.extend(std::iter::from_fn(|| driver.next_event()));
    }
    events
}

/// Fills the ring with entries that mean nothing, and of which the kernel takes none.
pub(super) fn fill(driver: &mut Uring) {
    driver.ring.takes = 0;
    while cancel(&mut driver.ring, Tag::new(Kind::Receive, 7777, 7)).is_ok() {}
}

fn read_to_end(peer: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).map(|_| bytes)
}

#[test]
fn the_queue_has_its_turn_among_many_completions() {
    const BUSY: u32 = 200;
    let Some(mut driver) = driver(256, (256, 1024)) else { return };
    let (listener, address) = local_listener();
    listener.set_nonblocking(true).unwrap();
    driver.listen(0, Listener::Tcp(listener)).unwrap();
    let mut peers = open(&mut driver, BUSY);
    let _clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    // The second connection is in the queue behind this event.
    driver.wait(Some(LONG)).unwrap();
    assert!(matches!(driver.next_event(), Some(Event::Accepted { .. })));
    for peer in &mut peers {
        peer.write_all(b"message").unwrap();
    }
    // The kernel hands out some at a time.
    (0..BUSY).for_each(|_| driver.wait(Some(LONG)).unwrap());
    let before = (0..BUSY).take_while(|_| match driver.next_event() {
        Some(Event::Received { buffer, .. }) => {
            driver.recycle(buffer);
            true
        }
        event => {
            assert!(matches!(event, Some(Event::Accepted { .. })), "{event:?}");
            false
        }
    });
    let before = before.count();
    assert!(before <= COMPLETIONS_PER_PLACE, "{before} completions came before it");
    // Nor are completions kept waiting by a queue that goes on.
    let after = (0..COMPLETIONS_PER_PLACE).filter_map(|_| received(&mut driver)).count();
    assert_eq!(after, COMPLETIONS_PER_PLACE);
}
