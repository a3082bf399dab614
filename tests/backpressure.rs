//! A peer that asks and does not read: what it is owed stays bounded, the loop rests, and
//! everything arrives once it reads.

mod common;
mod scripted;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use scripted::{Event, Script, block, closed, connect_narrow, next, opened, reset, settle};
use tightloop::proxy_protocol::ProxyProtocol;
use tightloop::{Action, Conn, RunningServer, Server};

const HIGH: usize = 256 << 10;
const LOW: usize = 64 << 10;
/// What one byte of request is answered with.
const ANSWER: usize = 64 << 10;

/// A server on which little output is as good as much: small kernel buffers, low watermarks.
fn narrow(driver: common::Driver) -> Server {
    common::server(driver)
        .listen("tcp://127.0.0.1:0")
        .socket_send_buffer(32 << 10)
        .high_watermark(HIGH)
        .low_watermark(LOW)
        .max_pending_output(8 << 20)
}

/// Starts a handler that answers each byte with `ANSWER` bytes, and tells what is then pending.
fn start_amplifier(
    server: Server,
    one_a_call: bool,
) -> (RunningServer<Script>, common::Events<Event>, Receiver<usize>) {
    let (report, events) = common::events();
    let (say, said) = channel();
    let server = common::start(server, move |_| {
        let say = say.clone();
        Script::new().report(&report).traffic(move |conn, (), input| {
            let requests = if one_a_call { 1 } else { input.len() };
            for byte in input.take(requests).unwrap_or_default() {
                let pending = conn.write(&[*byte; ANSWER]);
                // The test may have ended.
                let _ = say.send(pending);
            }
            Action::Continue
        })
    });
    (server, events, said)
}

/// Starts a handler that answers each byte with so many times 4 KiB, and tells when they have drained.
fn start_drainer(
    driver: common::Driver,
) -> (RunningServer<Script>, common::Events<Event>, Receiver<usize>) {
    let (report, events) = common::events();
    let (say, drained) = channel();
    let server = common::start(narrow(driver), move |_| {
        let say = say.clone();
        Script::<()>::new()
            .report(&report)
            .traffic(|conn, (), input| {
                let kibibytes = usize::from(input.take(1).unwrap()[0]) << 2;
                conn.write(&common::pattern(kibibytes << 10));
                Action::Continue
            })
            .drain(move |conn, ()| {
                say.send(conn.pending()).unwrap();
                Action::Continue
            })
    });
    (server, events, drained)
}

/// The answers to these requests.
fn answers(requests: &[u8]) -> Vec<u8> {
    requests.iter().flat_map(|byte| vec![*byte; ANSWER]).collect()
}

fn requests(count: usize) -> Vec<u8> {
    (0..count).map(|n| n as u8).collect()
}

fn most(pending: &Receiver<usize>) -> usize {
    pending.try_iter().max().unwrap_or(0)
}

/// Sends single bytes until the server has stopped reading for good.
fn ask_until_paused(client: &mut TcpStream, server: &RunningServer<Script>) -> Vec<u8> {
    let mut asked = Vec::new();
    while server.handle().stats().pauses == 0 {
        assert!(asked.len() < 200, "the server never pauses reading");
        asked.push(asked.len() as u8);
        client.write_all(&asked[asked.len() - 1..]).unwrap();
        settle(server, 0);
    }
    asked
}

every_driver! {
    fn answers_to_pipelined_requests_stay_bounded_and_all_arrive(driver) {
        let (server, events, pending) = start_amplifier(narrow(driver), true);
        let mut client = connect_narrow(common::address(&server, 0), 32 << 10);
        let handle = opened(&events);
        let asked = requests(400);
        client.write_all(&asked).unwrap();
        common::eventually("reading pauses", || server.handle().stats().pauses > 0);
        settle(&server, 0);
        let bound = HIGH + ANSWER;
        let reached = most(&pending);
        assert!(reached <= bound, "{reached} bytes were pending, above {bound}");
        assert!(handle.is_open());
        assert!(common::read(&mut client, 400 * ANSWER) == answers(&asked), "the answers differ");
        let reached = most(&pending);
        assert!(reached <= bound, "later, {reached} bytes were pending");
        assert!(handle.is_open());
        common::stop(server);
    }

    fn a_socket_that_was_full_already_holds_back_requests_that_come_later(driver) {
        for one_a_call in [true, false] {
            let (server, events, pending) = start_amplifier(narrow(driver), one_a_call);
            let mut client = connect_narrow(common::address(&server, 0), 32 << 10);
            let handle = opened(&events);
            let mut asked = ask_until_paused(&mut client, &server);
            let more = requests(100);
            for byte in more.chunks(1) {
                client.write_all(byte).unwrap();
                settle(&server, 0);
            }
            asked.extend(more);
            let reached = most(&pending);
            assert!(reached <= HIGH + ANSWER, "{reached} bytes pending, {one_a_call}");
            assert!(handle.is_open());
            let wanted = answers(&asked);
            assert!(common::read(&mut client, wanted.len()) == wanted, "{one_a_call}");
            common::stop(server);
        }
    }

    fn a_loop_whose_only_peer_does_not_read_rests(driver) {
        let (report, events) = common::events();
        let (say, said) = channel();
        let server = common::start(narrow(driver), move |_| {
            let say = say.clone();
            Script::<()>::new()
                .report(&report)
                .traffic(|conn, (), input| {
                    let request = input.take(1).unwrap_or_default();
                    conn.write(&request.repeat(ANSWER));
                    conn.set_timer(Duration::from_millis(400));
                    Action::Continue
                })
                .timer(move |conn, ()| {
                    say.send(conn.server().stats().turns).unwrap();
                    conn.set_timer(Duration::from_millis(400));
                    Action::Continue
                })
        });
        let mut client = connect_narrow(common::address(&server, 0), 32 << 10);
        opened(&events);
        // It goes on sending too: input that is not read must not keep the loop awake.
        client.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let asked = vec![b'x'; 1 << 16];
        while client.write_all(&asked).is_ok() {}
        // What it has said until now may be of the time in which something was still moving.
        said.try_iter().for_each(drop);
        next(&said);
        let before = next(&said);
        let turns = next(&said) - before;
        assert!(turns <= 20, "{turns} turns in 400 ms with nothing to do");
        common::stop(server);
    }

    fn reading_goes_on_above_the_watermark_where_auto_pause_is_off(driver) {
        let server = narrow(driver).auto_pause(false).max_pending_output(64 << 20);
        let (server, events, pending) = start_amplifier(server, true);
        let mut client = connect_narrow(common::address(&server, 0), 32 << 10);
        opened(&events);
        let asked = requests(64);
        client.write_all(&asked).unwrap();
        for _ in 0..64 {
            next(&pending);
        }
        assert_eq!(server.handle().stats().pauses, 0);
        assert!(common::read(&mut client, 64 * ANSWER) == answers(&asked));
        common::stop(server);
    }

    fn drain_is_told_once_for_each_time_that_the_high_watermark_was_passed(driver) {
        let (server, events, drained) = start_drainer(driver);
        let mut client = connect_narrow(common::address(&server, 0), 32 << 10);
        opened(&events);
        // 200 KiB are below the high watermark, also while they wait.
        client.write_all(&[50]).unwrap();
        assert_eq!(common::read(&mut client, 200 << 10), common::pattern(200 << 10));
        settle(&server, 0);
        assert!(drained.try_recv().is_err(), "drained without having been full");
        for _ in 0..3 {
            client.write_all(&[250]).unwrap();
            common::eventually("pausing", || server.handle().stats().partial_writes > 0);
            settle(&server, 0);
            assert!(drained.try_recv().is_err(), "drained before anything was read");
            assert_eq!(common::read(&mut client, 1000 << 10), common::pattern(1000 << 10));
            let pending = next(&drained);
            assert!(pending <= LOW, "drained with {pending} bytes pending");
            settle(&server, 0);
            assert!(drained.try_recv().is_err(), "drained twice");
        }
        common::stop(server);
    }

    fn what_a_peer_loses_by_its_reset_is_not_told_as_drained(driver) {
        let (server, events, drained) = start_drainer(driver);
        let mut client = connect_narrow(common::address(&server, 0), 32 << 10);
        opened(&events);
        // The request is read, and its answer written, when the peer has gone already.
        let gate = block(&server, 0);
        let mut requests = vec![0; 40_000];
        requests[0] = 250;
        client.write_all(&requests).unwrap();
        reset(client);
        drop(gate);
        closed(&events);
        settle(&server, 0);
        let stats = server.handle().stats();
        assert!(stats.bytes_in > 0, "there was nothing to answer");
        assert!(drained.try_recv().is_err(), "nobody took it");
        common::stop(server);
    }

    fn passing_the_high_watermark_on_a_blocked_socket_is_told_by_drain_too(driver) {
        let (report, events) = common::events();
        let (say, drained) = channel();
        let (say_pending, pending) = channel();
        let server = common::start(narrow(driver), move |_| {
            let (say, say_pending) = (say.clone(), say_pending.clone());
            Script::<()>::new()
                .report(&report)
                .open(|conn| {
                    conn.write(&[0; 128 << 10]);
                })
                .wake(move |conn, ()| {
                    let missing = (HIGH + 1).saturating_sub(conn.pending());
                    say_pending.send(conn.write(&vec![0; missing])).unwrap();
                    Action::Continue
                })
                .drain(move |_, ()| {
                    say.send(()).unwrap();
                    Action::Continue
                })
        });
        let mut client = connect_narrow(common::address(&server, 0), 32 << 10);
        let handle = opened(&events);
        common::eventually("it blocks", || server.handle().stats().partial_writes > 0);
        settle(&server, 0);
        handle.wake().unwrap();
        assert_eq!(next(&pending), HIGH + 1, "just above the high watermark");
        settle(&server, 0);
        assert_eq!(server.handle().stats().pauses, 1, "reading rests above it");
        common::read(&mut client, HIGH + 1);
        next(&drained);
        common::stop(server);
    }

    fn what_came_with_a_proxy_header_is_offered_when_a_long_greeting_has_drained(driver) {
        static GREETING: [u8; 2 << 20] = [b'g'; 2 << 20];
        let server = narrow(driver).proxy_protocol(ProxyProtocol::required());
        let server = common::start(server, |_| {
            let greeting = |conn: &mut Conn<'_>| assert_eq!(conn.write(&GREETING), GREETING.len());
            Script::<()>::new().open(greeting).traffic(|conn, (), input| {
                conn.write(input.take_all());
                Action::Continue
            })
        });
        for closes in [false, true] {
            let mut client = connect_narrow(common::address(&server, 0), 32 << 10);
            client.write_all(b"PROXY UNKNOWN\r\nhello").unwrap();
            if closes {
                client.shutdown(Shutdown::Write).unwrap();
            }
            common::read(&mut client, GREETING.len());
            assert_eq!(common::read(&mut client, 5), b"hello");
        }
        assert_eq!(server.handle().stats().pauses, 2, "reading was to rest meanwhile");
        common::stop(server);
    }

    fn a_peer_that_is_not_read_from_can_send_no_more_until_it_is(driver) {
        const MESSAGE: usize = 64 << 20;
        let (report, events) = common::events();
        let server = common::start(narrow(driver).socket_receive_buffer(64 << 10), move |_| {
            let script = Script::<()>::new().report(&report).open(|conn| conn.pause_reading());
            let script = script.traffic(|_, (), input| {
                input.take_all();
                Action::Continue
            });
            script.wake(|conn, ()| {
                conn.resume_reading();
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while sent < MESSAGE
            && let Ok(length) = client.write(&vec![0; MESSAGE - sent])
        {
            sent += length;
        }
        assert!(sent < MESSAGE, "the kernel took all of it: the test tests nothing");
        settle(&server, 0);
        assert_eq!(server.handle().stats().bytes_in, 0);
        handle.wake().unwrap();
        let all_is_in = || server.handle().stats().bytes_in == sent as u64;
        common::eventually("what was sent is read", all_is_in);
        assert!(client.write(b"more").is_ok());
        common::stop(server);
    }
}
