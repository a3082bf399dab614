//! Peers that misbehave, or are merely slow, harm themselves only; what a patient one is owed
//! arrives whole.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use tightloop::{Action, CloseReason, Conn, Handler, Input};

/// Echoes; answers "8" with 8 MiB, and tells why connections ended.
struct Server {
    large: bytes::Bytes,
    closed: std::sync::mpsc::Sender<CloseReason>,
}

impl Handler for Server {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        match input.take_all() {
            b"8" => conn.write_bytes(self.large.clone()),
            other => conn.write(other),
        };
        Action::Continue
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, _: &mut ()) -> Action {
        conn.shutdown_write();
        Action::Continue
    }

    fn on_close(&mut self, _: &mut Conn<'_>, _: (), reason: CloseReason) {
        // A test that has seen enough no longer listens.
        let _ = self.closed.send(reason);
    }
}

fn start(
    server: tightloop::Server,
) -> (tightloop::RunningServer<Server>, common::Events<CloseReason>) {
    let large = bytes::Bytes::from(common::pattern(8 << 20));
    let (closed, events) = common::events();
    let server = common::start(server.listen("tcp://127.0.0.1:0"), move |_| Server {
        large: large.clone(),
        closed: closed.clone(),
    });
    (server, events)
}

fn is_served(client: &mut TcpStream) -> bool {
    common::exchange(client, b"served?") == b"served?"
}

every_driver! {
    fn a_peer_that_has_closed_its_side_reads_eight_mebibytes_slowly_and_whole(driver) {
        for half_close in [false, true] {
            let (server, closed) = start(common::server(driver).half_close(half_close));
            let mut client = common::connect(common::address(&server, 0));
            client.write_all(b"8").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            let mut part = vec![0; 100_000];
            loop {
                match client.read(&mut part).expect("it ends in order") {
                    0 => break,
                    length => got.extend_from_slice(&part[..length]),
                }
                std::thread::yield_now();
            }
            assert!(got == common::pattern(8 << 20), "{} bytes came", got.len());
            assert!(matches!(closed.next(), CloseReason::PeerClosed));
            common::stop(server);
        }
    }

    fn a_reset_in_the_middle_of_a_write_ends_that_connection_only(driver) {
        let (server, closed) = start(common::server(driver));
        let mut witness = common::connect(common::address(&server, 0));
        for _ in 0..20 {
            let mut client = common::connect(common::address(&server, 0));
            client.write_all(b"8").unwrap();
            common::read(&mut client, 1_000);
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            assert!(matches!(closed.next(), CloseReason::PeerReset(_)));
            assert!(is_served(&mut witness));
        }
        common::stop(server);
    }

    fn hundreds_of_peers_that_say_nothing_are_sent_away_while_others_are_served(driver) {
        // Whoever is served has to speak by then.
        common::patiently(Duration::from_secs(1), |time| {
            let server = common::server(driver).first_byte_timeout(time);
            let (server, closed) = start(server);
            let address = common::address(&server, 0);
            let mut mute: Vec<_> = (0..400).map(|_| common::connect(address)).collect();
            for _ in 0..100 {
                assert!(is_served(&mut common::connect(address)));
            }
            assert!(mute.iter_mut().all(common::is_closed));
            let mut sent_away = 0;
            while sent_away < mute.len() {
                sent_away += usize::from(matches!(closed.next(), CloseReason::FirstByteTimeout));
            }
            assert_eq!(server.handle().stats().closed_first_byte, mute.len() as u64);
            common::stop(server);
        });
    }
}
