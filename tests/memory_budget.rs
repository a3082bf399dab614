//! The memory budget holds back those who hold most, and nobody else.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;
use tightloop::{Action, Conn, Handler, Input, Server};

const BUDGET: usize = 8 << 20;
const MESSAGE: usize = 1 << 20;

/// Takes whole messages of a mebibyte only, on the first listener; echoes on the second.
struct Collector;

impl Handler for Collector {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        if conn.listener() == Some(1) {
            conn.write(input.take_all());
        } else if input.take(MESSAGE).is_some() {
            conn.write(b"thanks");
        }
        Action::Continue
    }
}

/// A peer, and how much of its message has left.
struct Peer {
    stream: TcpStream,
    sent: usize,
}

impl Peer {
    /// Sends what the kernel takes now, up to `most` of the message.
    fn push(&mut self, message: &[u8], most: usize) {
        if self.sent == most {
            return;
        }
        self.stream.set_nonblocking(true).unwrap();
        while self.sent < most {
            match self.stream.write(&message[self.sent..most]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.stream.set_nonblocking(false).unwrap();
    }
}

fn start(server: Server) -> tightloop::RunningServer<Collector> {
    // Small buffers in the kernel, so that the message does not end up there.
    let server = server.socket_receive_buffer(64 << 10);
    let server = server.listen("tcp://127.0.0.1:0").listen("tcp://127.0.0.1:0");
    common::start(server, |_| Collector)
}

every_driver! {
    fn those_who_hold_most_are_held_back_and_the_others_are_served(driver) {
        for loops in [1, 2] {
            let server = start(common::server(driver).loops(loops).memory_budget(BUDGET));
            let handle = server.handle();
            let mut witness = common::connect(common::address(&server, 1));
            let mut peers: Vec<Peer> = (0..64)
                .map(|_| Peer { stream: common::connect(common::address(&server, 0)), sent: 0 })
                .collect();
            let message = common::pattern(MESSAGE);
            let (mut most, mut quiet) = (0, 0);
            common::eventually("nothing moves any more", || {
                let before: usize = peers.iter().map(|peer| peer.sent).sum();
                // None of them is whole, so none can be consumed.
                peers.iter_mut().for_each(|peer| peer.push(&message, MESSAGE - 1));
                let after: usize = peers.iter().map(|peer| peer.sent).sum();
                assert_eq!(common::exchange(&mut witness, b"and I?"), b"and I?");
                most = most.max(handle.stats().buffered_bytes);
                quiet = if before == after { quiet + 1 } else { 0 };
                quiet > 100
            });
            assert!(handle.stats().budget_pauses > 0);
            // One more read of each is under way, and buffers double as they grow.
            let bound = 2 * (BUDGET + 64 * (128 << 10)) as u64;
            assert!(most < bound, "{most} bytes were held");
            assert_eq!(handle.connections(), 65, "nobody is closed for it");
            // Once the others have gone there is room.
            let mut last = peers.split_off(60);
            // By a reset, which every system tells of a stream that is not read from.
            for peer in peers {
                socket2::SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            for peer in &mut last {
                common::eventually("the rest is taken", || {
                    peer.push(&message, MESSAGE);
                    peer.sent == MESSAGE
                });
                assert_eq!(common::read(&mut peer.stream, 6), b"thanks");
            }
            common::eventually("nothing is held", || handle.stats().buffered_bytes == 0);
            common::stop(server);
        }
    }

    fn the_budget_holds_whatever_the_size_of_what_is_held(driver) {
        // Just as much as a buffer's half, a little more or less, and many with next to nothing.
        for (peers, size) in [(100, 32 << 10), (100, 33 << 10), (100, 31 << 10), (400, 4 << 10)] {
            let server = start(common::server(driver).memory_budget(1 << 20));
            let handle = server.handle();
            let message = common::pattern(MESSAGE);
            let mut peers: Vec<Peer> = (0..peers)
                .map(|_| Peer { stream: common::connect(common::address(&server, 0)), sent: 0 })
                .collect();
            common::eventually("it has come, or somebody is held back", || {
                // The kernel may take less at a time than this.
                peers.iter_mut().for_each(|peer| peer.push(&message, size));
                let stats = handle.stats();
                stats.bytes_in == (peers.len() * size) as u64 || stats.budget_pauses > 0
            });
            let what = format!("one of {} with {size} bytes is held back", peers.len());
            common::eventually(&what, || handle.stats().budget_pauses > 0);
            common::stop(server);
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn a_peer_that_leaves_while_it_is_held_back_is_noticed(driver) {
        let server = start(common::server(driver).memory_budget(1 << 20));
        let handle = server.handle();
        let message = common::pattern(MESSAGE);
        let mut peers = Vec::new();
        // One after the other, none of them whole: whoever brings the last straw is held back.
        while handle.stats().budget_pauses == 0 {
            let mut peer = Peer { stream: common::connect(common::address(&server, 0)), sent: 0 };
            peer.push(&message, 32 << 10);
            peers.push(peer);
            let sent: usize = peers.iter().map(|peer| peer.sent).sum();
            common::eventually("it has come, or is held back", || {
                let stats = handle.stats();
                stats.bytes_in == sent as u64 || stats.budget_pauses > 0
            });
        }
        let last = peers.pop().expect("somebody is held back");
        last.stream.shutdown(std::net::Shutdown::Write).unwrap();
        // The others still hold too much for anybody to be let go.
        common::eventually("it is gone", || handle.connections() == peers.len());
        assert_eq!(handle.stats().closed_by_peer, 1);
        drop(peers);
        common::eventually("nothing is held", || handle.stats().buffered_bytes == 0);
        common::stop(server);
    }

    fn half_messages_that_use_up_the_budget_end_by_the_idle_timeout(driver) {
        // By then the budget has to be used up.
        common::patiently(Duration::from_secs(3), |time| {
            let server = common::server(driver).memory_budget(1 << 20);
            let server = start(server.read_idle_timeout(time));
            let handle = server.handle();
            let message = common::pattern(MESSAGE);
            let mut peers: Vec<Peer> = (0..8)
                .map(|_| Peer { stream: common::connect(common::address(&server, 0)), sent: 0 })
                .collect();
            common::eventually("somebody is held back", || {
                // The kernel takes a little at a time where the server is slow to read.
                peers.iter_mut().for_each(|peer| peer.push(&message, MESSAGE - 1));
                handle.stats().budget_pauses > 0
            });
            common::eventually("all of them are gone", || handle.connections() == 0);
            assert_eq!(handle.stats().closed_idle, 8);
            common::eventually("nothing is held", || handle.stats().buffered_bytes == 0);
            common::stop(server);
        });
    }
}
