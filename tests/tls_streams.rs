//! Streams through TLS: whole in both directions, bounded where the peer is slow, ended one side
//! at a time.

mod certificates;
mod closures;
mod common;
mod tls_client;

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use certificates::{Authority, BOTH, Versions};
use closures::Script;
use common::Driver;
use tightloop::{Action, CloseReason, RunningServer, Server};
use tls_client::{Client, TLS, TLS12, TLS13, duplex};

const MIB: usize = 1 << 20;

/// A server with TLS, and a client whose handshake is done.
fn connected(
    server: Server,
    authority: &Authority,
    versions: Versions,
    script: impl Fn() -> Script + Send + Sync + 'static,
) -> (RunningServer<Script>, Client) {
    let server = server.listen(TLS).tls(authority.server(BOTH));
    let server = common::start(server, move |_| script());
    let mut client = tls_client::client(authority.client(versions), common::address(&server, 0));
    tls_client::shake(&mut client);
    (server, client)
}

/// Compares what comes with what is to come, position by position.
fn compare(expected: &[u8]) -> impl FnMut(&[u8]) -> bool {
    let mut at = 0;
    move |part| {
        assert!(part == &expected[at..at + part.len()], "bytes differ from {at} on");
        at += part.len();
        at < expected.len()
    }
}

fn echoes(driver: Driver, versions: Versions, length: usize) {
    let authority = Authority::new();
    let (server, client) = connected(common::server(driver), &authority, versions, Script::new);
    let message = common::pattern(length);
    let mut client = duplex(client, message.clone(), compare(&message));
    tls_client::close(&mut client);
    assert_eq!(common::read_to_end(&mut client), b"");
    common::stop(server);
}

/// Tells the reason of each close.
fn tells(told: &Sender<CloseReason>) -> Script {
    let told = told.clone();
    Script::new().close(move |_, reason| told.send(reason).unwrap())
}

every_driver! {
    fn what_goes_in_and_out_at_once_arrives_whole(driver) {
        echoes(driver, TLS12, 16 * MIB);
        echoes(driver, TLS13, 16 * MIB);
    }

    fn sixty_four_mebibytes_go_in_and_out_whole_and_bounded_where_the_client_reads_late(driver) {
        const HIGH: usize = 256 << 10;
        let authority = Authority::new();
        let server = common::server(driver).high_watermark(HIGH).low_watermark(64 << 10);
        let (server, client) = connected(server, &authority, TLS13, Script::new);
        let message = common::pattern(64 * MIB);
        let handle = server.handle();
        let (checks, mut first) = (server.handle(), true);
        let mut compare = compare(&message);
        let client = duplex(client, message.clone(), move |part| {
            if std::mem::take(&mut first) {
                // The writer goes on for as long as it is read from.
                common::eventually("reading pauses", || checks.stats().pauses > 0);
                let mut bytes_in = 0;
                common::eventually("nothing more is read", || {
                    // sleep-ok: the pause of a poll; whether it still grows is what is asked.
                    thread::sleep(Duration::from_millis(50));
                    let before = std::mem::replace(&mut bytes_in, checks.stats().bytes_in);
                    before == bytes_in
                });
                let held = checks.stats().buffered_bytes;
                // One receive buffer, what its answers are encrypted to, and half-full buffers.
                assert!(held < (HIGH + (512 << 10)) as u64, "{held} bytes are held");
            }
            compare(part)
        });
        assert!(handle.stats().bytes_in > 64 * MIB as u64);
        drop(client);
        common::stop(server);
    }

    fn a_client_that_says_its_end_before_it_reads_gets_the_whole_echo(driver) {
        for half_close in [false, true] {
            let authority = Authority::new();
            let (told, events) = common::events();
            let server = common::server(driver).half_close(half_close);
            let (server, mut client) =
                connected(server, &authority, BOTH, move || tells(&told));
            let message = common::pattern(4 * MIB);
            client.write_all(&message).unwrap();
            tls_client::close(&mut client);
            client.sock.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(common::read_to_end(&mut client) == message);
            assert!(matches!(events.next(), CloseReason::PeerClosed));
            common::stop(server);
        }
    }

    fn a_handler_may_end_its_side_and_go_on_listening(driver) {
        let authority = Authority::new();
        let (told, events) = common::events();
        let script = move || {
            let told = told.clone();
            tells(&told)
                .open(|conn| {
                    conn.write(&common::pattern(MIB));
                    conn.shutdown_write();
                })
                .traffic(move |conn, input| {
                    if input.len() < MIB {
                        return Action::Continue;
                    }
                    assert!(input.take_all() == common::pattern(MIB));
                    assert_eq!(conn.write(b"nobody gets this"), 0);
                    Action::Continue
                })
        };
        let server = common::server(driver).half_close(true);
        let (server, mut client) = connected(server, &authority, TLS13, script);
        assert!(common::read_to_end(&mut client) == common::pattern(MIB));
        client.write_all(&common::pattern(MIB)).unwrap();
        tls_client::close(&mut client);
        assert!(matches!(events.next(), CloseReason::PeerClosed));
        common::stop(server);
    }

    fn who_has_ended_its_side_is_still_written_to(driver) {
        let authority = Authority::new();
        let script = || {
            Script::new().eof(|conn| {
                conn.set_timer(Duration::from_millis(20));
                Action::Continue
            }).timer(|conn| {
                conn.write(&common::pattern(3 * MIB));
                Action::Close
            })
        };
        let server = common::server(driver).half_close(true);
        let (server, mut client) = connected(server, &authority, BOTH, script);
        tls_client::close(&mut client);
        assert!(common::read_to_end(&mut client) == common::pattern(3 * MIB));
        common::stop(server);
    }

    fn what_was_decrypted_waits_while_reading_is_paused_and_nothing_is_lost(driver) {
        let authority = Authority::new();
        let script = || {
            let paused = Rc::new(RefCell::new(false));
            let resumed = Rc::clone(&paused);
            Script::new().traffic(move |conn, input| {
                assert!(!std::mem::replace(&mut *paused.borrow_mut(), true), "it is paused");
                conn.pause_reading();
                conn.set_timer(Duration::from_millis(1));
                conn.write(input.take(10_000.min(input.len())).unwrap());
                Action::Continue
            }).timer(move |conn| {
                *resumed.borrow_mut() = false;
                conn.resume_reading();
                Action::Continue
            })
        };
        let server = common::server(driver).receive_buffer(40_000);
        let (server, client) = connected(server, &authority, TLS13, script);
        let message = common::pattern(MIB);
        duplex(client, message.clone(), compare(&message));
        common::stop(server);
    }

    fn completions_and_drains_are_told_in_order_of_the_plaintext(driver) {
        let authority = Authority::new();
        let (told, events) = common::events();
        let script = move || {
            let told = told.clone();
            let drained = told.clone();
            Script::new().traffic(move |conn, input| {
                input.take_all();
                for number in 0..100 {
                    let told = told.clone();
                    conn.handle()
                        .write_then(common::pattern(50_000), move |result| {
                            told.send(result.map(|()| number)).unwrap();
                        })
                        .unwrap();
                }
                Action::Continue
            }).drain(move |conn| {
                drained.send(Ok(conn.pending())).unwrap();
                Action::Continue
            })
        };
        let server = common::server(driver).high_watermark(100_000).low_watermark(20_000);
        let (server, mut client) = connected(server, &authority, BOTH, script);
        client.write_all(b"go").unwrap();
        for _ in 0..100 {
            assert!(common::read(&mut client, 50_000) == common::pattern(50_000));
        }
        let mut next = 0;
        while next < 100 {
            // The drain's own number is what is pending then: not above the low watermark.
            let number = events.next().unwrap();
            assert!(number == next || number <= 20_000);
            next += usize::from(number == next);
        }
        common::stop(server);
    }

    fn a_broadcast_reaches_those_with_tls_and_those_without(driver) {
        let authority = Authority::new();
        let server = common::server(driver).listen("tcp://127.0.0.1:0");
        let server = common::start(
            server.listen(TLS).tls(authority.server(BOTH)),
            |_| Script::new(),
        );
        let mut plain = common::connect(common::address(&server, 0));
        let mut client = tls_client::client(authority.client(BOTH), common::address(&server, 1));
        assert_eq!(common::exchange(&mut plain, b"a"), b"a");
        assert_eq!(tls_client::exchange(&mut client, b"b"), b"b");
        server.handle().broadcast(&b"to all"[..]).unwrap();
        assert_eq!(common::read(&mut plain, 6), b"to all");
        assert_eq!(common::read(&mut client, 6), b"to all");
        common::stop(server);
    }
}
