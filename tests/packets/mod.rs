//! What tests of datagrams share: clients that wait no longer than the deadline, and numbers of
//! the loops.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use tightloop::{RunningServer, Stats};

use crate::closures::Script;
use crate::common;

pub const UDP: &str = "udp://127.0.0.1:0";
pub const LARGEST: usize = 65_507;

/// A client on loopback whose every call fails after the deadline instead of hanging.
pub fn client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(common::DEADLINE)).unwrap();
    socket
}

pub fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    let received = common::uninterrupted(|| socket.recv_from(&mut buffer));
    let (length, from) = received.expect("a datagram arrives");
    buffer.truncate(length);
    (buffer, from)
}

/// Whether nothing has arrived, once everything before it has been answered.
pub fn has_nothing(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let outcome = socket.recv_from(&mut [0; 1]);
    socket.set_nonblocking(false).unwrap();
    outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Waits for numbers of the loops: a datagram is counted as sent after it has arrived.
pub fn counted(server: &RunningServer<Script>, what: &str, holds: impl Fn(Stats) -> bool) {
    common::eventually(what, || holds(server.handle().stats()));
}

/// Holds the first loop while `during` runs: what is sent to it meanwhile arrives together.
pub fn held<R>(server: &RunningServer<Script>, during: impl FnOnce() -> R) -> R {
    let (free, wait) = std::sync::mpsc::channel::<()>();
    let (told, holds) = common::events();
    server.loops()[0]
        .execute(move |_, _| {
            told.send(()).unwrap();
            // Ends when the other side is dropped, also by a panic.
            let _ = wait.recv();
        })
        .unwrap();
    holds.next();
    let answer = during();
    drop(free);
    answer
}

/// A datagram that says its number, `size` bytes long.
pub fn numbered(number: u32, size: usize) -> Vec<u8> {
    let mut payload = common::pattern(size.max(4));
    payload[..4].copy_from_slice(&number.to_le_bytes());
    payload
}

pub fn number_of(payload: &[u8]) -> u32 {
    u32::from_le_bytes(payload[..4].try_into().expect("four bytes"))
}
