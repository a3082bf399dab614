//! Many calls of other threads at once: one ring, nothing lost, nothing out of order, and a
//! refusal where too much is queued.

mod common;
mod scripted;

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use scripted::{Event, Script, block, closed, next, opened, settle};
use tightloop::{Action, ConnHandle, Context, HandleError, RunningServer, Server};

fn tcp(driver: common::Driver) -> Server {
    common::server(driver).listen("tcp://127.0.0.1:0")
}

/// A server with one client.
fn with_client(server: Server) -> (RunningServer<Script>, TcpStream, ConnHandle) {
    let (server, _, mut clients) = with_clients(server, 1);
    let (client, handle) = clients.remove(0);
    (server, client, handle)
}

type Clients = Vec<(TcpStream, ConnHandle)>;

fn with_clients(
    server: Server,
    count: usize,
) -> (RunningServer<Script>, common::Events<Event>, Clients) {
    let (report, events) = common::events();
    let server = common::start(server, move |_| Script::<()>::new().report(&report));
    let connect = || (common::connect(common::address(&server, 0)), opened(&events));
    let clients = (0..count).map(|_| connect()).collect();
    (server, events, clients)
}

/// Four bytes for each number.
fn numbers(range: std::ops::Range<u32>) -> Vec<u8> {
    range.flat_map(u32::to_be_bytes).collect()
}

/// The write system calls that this thread has made, rings included; where the system does not
/// tell, none.
fn write_calls() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
    let count = io.lines().find_map(|line| line.strip_prefix("syscw: "));
    count.map_or(0, |count| count.parse().expect("a number"))
}

every_driver! {
    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn a_thousand_writes_to_a_busy_loop_ring_it_at_most_once_and_arrive_in_order(driver) {
        let (server, mut client, handle) = with_client(tcp(driver));
        settle(&server, 0);
        let gate = block(&server, 0);
        let before = server.handle().stats();
        let writer = {
            let handle = handle.clone();
            std::thread::spawn(move || {
                let before = write_calls();
                for n in 0..1_000u32 {
                    handle.write(Bytes::copy_from_slice(&n.to_be_bytes())).unwrap();
                }
                write_calls() - before
            })
        };
        let rung = writer.join().unwrap();
        assert!(rung <= 1, "{rung} system calls to ring a busy loop");
        drop(gate);
        assert_eq!(common::read(&mut client, 4_000), numbers(0..1_000));
        let sent = || server.handle().stats().bytes_out - before.bytes_out;
        common::eventually("the last write is counted", || sent() == 4_000);
        let after = server.handle().stats();
        let rings = after.wakeups - before.wakeups;
        assert!(rings <= 1, "{rings} wake-ups for a thousand writes to a busy loop");
        let turns = after.turns - before.turns;
        assert!(turns <= 10, "{turns} turns for a thousand writes");
        common::stop(server);
    }

    fn writes_to_a_loop_that_sleeps_and_wakes_all_the_time_arrive_in_order(driver) {
        let (server, mut client, handle) = with_client(tcp(driver));
        for n in 0..300u32 {
            handle.write(Bytes::copy_from_slice(&n.to_be_bytes())).unwrap();
            if n % 3 == 0 {
                settle(&server, 0);
            }
        }
        assert_eq!(common::read(&mut client, 1_200), numbers(0..300));
        common::stop(server);
    }

    fn each_threads_writes_keep_their_order(driver) {
        const THREADS: u32 = 4;
        const WRITES: u32 = 5_000;
        let (server, mut client, handle) = with_client(tcp(driver));
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let handle = handle.clone();
                std::thread::spawn(move || {
                    for n in 0..WRITES {
                        let bytes = Bytes::copy_from_slice(&(thread << 24 | n).to_be_bytes());
                        while handle.write(bytes.clone()) == Err(HandleError::Full) {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut expected = [0; THREADS as usize];
        for word in common::read(&mut client, (4 * THREADS * WRITES) as usize).chunks(4) {
            let word = u32::from_be_bytes(word.try_into().unwrap());
            let of_thread = &mut expected[(word >> 24) as usize];
            assert_eq!(word & 0xFF_FFFF, *of_thread, "thread {}", word >> 24);
            *of_thread += 1;
        }
        assert_eq!(expected, [WRITES; THREADS as usize]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        common::stop(server);
    }

    fn a_full_mailbox_refuses_and_what_it_accepted_arrives(driver) {
        let (server, mut client, handle) = with_client(tcp(driver).mailbox_capacity(10));
        for _ in 0..3 {
            let gate = block(&server, 0);
            for n in 0..10u32 {
                handle.write(Bytes::copy_from_slice(&n.to_be_bytes())).unwrap();
            }
            assert_eq!(handle.write("too much"), Err(HandleError::Full));
            let refused = handle.write_then("too much", |_| panic!("refused, and called"));
            assert_eq!(refused, Err(HandleError::Full));
            assert_eq!(handle.wake(), Err(HandleError::Full));
            assert_eq!(server.handle().broadcast("too much"), Err(HandleError::Full));
            for _ in 0..10 {
                server.loops()[0].execute(|_, _| {}).unwrap();
            }
            assert_eq!(server.loops()[0].execute(|_, _| {}), Err(HandleError::Full));
            drop(gate);
            assert_eq!(common::read(&mut client, 40), numbers(0..10));
            settle(&server, 0);
        }
        handle.write("and on it goes").unwrap();
        assert_eq!(common::read(&mut client, 14), b"and on it goes");
        common::stop(server);
    }

    fn stopping_gets_through_a_full_mailbox(driver) {
        let (server, mut client, handle) = with_client(tcp(driver).mailbox_capacity(1));
        let gate = block(&server, 0);
        handle.write("the last").unwrap();
        assert_eq!(handle.write("too much"), Err(HandleError::Full));
        server.stop();
        drop(gate);
        assert_eq!(common::read_to_end(&mut client), b"the last");
        drop(client);
        server.join().unwrap();
    }

    fn bytes_that_are_queued_count_against_the_limit_of_pending_output(driver) {
        let server = tcp(driver).high_watermark(1_000).low_watermark(100).max_pending_output(10_000);
        let (server, mut client, handle) = with_client(server);
        for _ in 0..3 {
            let gate = block(&server, 0);
            handle.write(vec![1; 6_000]).unwrap();
            assert_eq!(handle.write(vec![2; 4_001]), Err(HandleError::Full));
            handle.write(vec![3; 4_000]).unwrap();
            assert_eq!(handle.write(vec![4; 1]), Err(HandleError::Full));
            drop(gate);
            let expected = [vec![1; 6_000], vec![3; 4_000]].concat();
            assert_eq!(common::read(&mut client, 10_000), expected);
            settle(&server, 0);
        }
        assert!(handle.is_open());
        common::stop(server);
    }

    fn a_thread_that_writes_to_a_peer_that_does_not_read_is_refused_not_cut_off(driver) {
        let server = tcp(driver).max_pending_output(2 << 20);
        let (server, events, mut clients) = with_clients(server, 1);
        let (mut client, handle) = clients.remove(0);
        let mut written = 0;
        // "HandleError::Full: ... or the connection's pending output would pass the limit."
        loop {
            match handle.write(vec![7; 10_000]) {
                Ok(()) => written += 10_000,
                Err(error) => {
                    assert_eq!(error, HandleError::Full, "after {written} bytes");
                    break;
                }
            }
            settle(&server, 0);
        }
        assert!(events.drain().is_empty(), "the connection was ended");
        assert_eq!(common::read(&mut client, written), vec![7; written]);
        settle(&server, 0);
        handle.write("it has room again").unwrap();
        assert_eq!(common::read(&mut client, 17), b"it has room again");
        common::stop(server);
    }

    fn a_broadcast_reaches_every_connection_of_every_loop(driver) {
        for size in [1, 511, 512, 100_000] {
            let (server, events, mut clients) = with_clients(tcp(driver).loops(3), 12);
            assert_eq!(server.handle().connections(), 12);
            let payload = Bytes::from(common::pattern(size));
            server.handle().broadcast(payload.clone()).unwrap();
            server.handle().broadcast("!").unwrap();
            for (client, _) in &mut clients {
                assert!(common::read(client, size) == payload);
                assert_eq!(common::read(client, 1), b"!");
            }
            drop(clients.remove(5));
            closed(&events);
            server.handle().broadcast("still").unwrap();
            for (client, _) in &mut clients {
                assert_eq!(common::read(client, 5), b"still");
            }
            assert_eq!(server.handle().connections(), 11);
            drop(clients);
            common::stop(server);
        }
    }

    fn a_broadcast_shares_its_payload_among_the_connections(driver) {
        const SIZE: usize = 20 << 20;
        // A machine that is very busy may lose a reset. The stall that ends such a connection is no
        // excuse for a payload that is kept: it fails the attempt.
        common::at_best(|| {
            let server = tcp(driver).loops(2).write_stall_timeout(Duration::from_secs(15));
            let (server, _events, mut clients) = with_clients(server, 6);
            let payload = Bytes::from(common::pattern(SIZE));
            let copies = payload.clone();
            server.handle().broadcast(payload).unwrap();
            common::eventually("all wait", || server.handle().stats().partial_writes >= 6);
            assert!(!copies.is_unique(), "what waits is the payload itself, not a copy");
            let (first, _) = &mut clients[0];
            assert!(common::read(first, SIZE) == copies);
            drop(clients);
            common::eventually("nobody holds it any more", || copies.is_unique());
            assert_eq!(server.handle().stats().closed_write_stall, 0, "let go of by a stall only");
            common::stop(server);
        });
    }

    fn the_statistics_count_what_happened(driver) {
        let (server, mut client, handle) = with_client(tcp(driver));
        client.write_all(&[1; 1_000]).unwrap();
        common::eventually("received", || server.handle().stats().bytes_in == 1_000);
        handle.write(vec![2; 700]).unwrap();
        common::read(&mut client, 700);
        settle(&server, 0);
        let stats = server.handle().stats();
        assert_eq!((stats.accepted, stats.opened, stats.closed), (1, 1, 0));
        assert_eq!((stats.bytes_in, stats.bytes_out), (1_000, 700));
        assert!(stats.commands > 0 && stats.turns > 0);
        assert_eq!(server.handle().loop_count(), 1);
        common::stop(server);
    }

    fn a_callback_may_send_jobs_to_its_own_loop_as_often_as_it_likes(driver) {
        let (say, said) = channel();
        let server = common::start(tcp(driver).mailbox_capacity(1_000), |_| Script::<()>::new());
        let a_loop = server.loops()[0].clone();
        let again = a_loop.clone();
        let job = move |_: &mut Script, _: &mut Context<'_, Script>| {
            for n in 0..1_000 {
                let say = say.clone();
                again.execute(move |_, cx| say.send((n, cx.loop_index())).unwrap()).unwrap();
            }
            assert_eq!(again.execute(|_, _| {}), Err(HandleError::Full));
        };
        a_loop.execute(job).unwrap();
        for n in 0..1_000 {
            assert_eq!(next(&said), (n, 0));
        }
        common::stop(server);
    }

    fn a_job_that_was_accepted_before_the_stop_still_finds_the_connections(driver) {
        for _ in 0..20 {
            let (server, events, mut clients) = with_clients(tcp(driver), 3);
            let gate = block(&server, 0);
            server.loops()[0].execute(|_, cx| cx.broadcast("goodbye")).unwrap();
            server.stop();
            drop(gate);
            for (client, _) in &mut clients {
                assert_eq!(common::read_to_end(client), b"goodbye");
            }
            drop(clients);
            server.join().unwrap();
            assert_eq!(events.drain().len(), 3);
        }
    }

    fn every_accepted_job_runs_though_the_server_stops(driver) {
        for _ in 0..20 {
            let server = common::start(tcp(driver).loops(2), |_| Script::<()>::new());
            let (say, said) = channel();
            let a_loop = server.loops()[1].clone();
            let sender = std::thread::spawn(move || {
                let mut accepted = 0;
                loop {
                    let say = say.clone();
                    match a_loop.execute(move |_, _| say.send(()).unwrap()) {
                        Ok(()) => accepted += 1,
                        Err(HandleError::Closed) => return accepted,
                        Err(_) => std::thread::yield_now(),
                    }
                }
            });
            next(&said);
            common::stop(server);
            let accepted = sender.join().unwrap();
            assert_eq!(said.iter().count() + 1, accepted);
        }
    }

    fn a_wake_may_answer_anything(driver) {
        let (report, events) = common::events();
        let server = common::start(tcp(driver), move |_| {
            let mut answers = [Action::Continue, Action::Close, Action::Shutdown].into_iter();
            Script::<()>::new()
                .report(&report)
                .wake(move |_, ()| answers.next().unwrap_or_default())
        });
        let _first = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        handle.wake().unwrap();
        handle.wake().unwrap();
        assert_eq!(closed(&events), (handle.id().unwrap(), "Local".to_owned()));
        let _second = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        handle.wake().unwrap();
        assert_eq!(closed(&events), (handle.id().unwrap(), "ServerStopped".to_owned()));
        server.join().unwrap();
    }
}
