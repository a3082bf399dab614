//! What a handler writes: whole, in order, in as few writes as can be, and within limits.

mod common;
mod scripted;

use std::cell::Cell;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::mpsc::channel;

use bytes::{BufMut, Bytes};
use scripted::{Dice, Script, block, closed, connect_narrow, ending, next, opened, settle};
use tightloop::{Action, Conn};

/// Writes `bytes` in pieces, each in another way, and checks what each call answers.
fn write_in_every_way(conn: &mut Conn<'_>, mut bytes: &[u8], dice: &mut Dice) {
    let mut pending = conn.pending();
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at((1 + dice.below(3_000)).min(bytes.len()));
        bytes = later;
        pending += now.len();
        match dice.below(5) {
            0 => assert_eq!(conn.write(now), pending),
            1 => assert_eq!(conn.write_bytes(Bytes::copy_from_slice(now)), pending),
            2 => {
                let (one, two) = now.split_at(now.len() / 3);
                let slices = [IoSlice::new(one), IoSlice::new(&[]), IoSlice::new(two)];
                assert_eq!(conn.write_vectored(&slices), pending);
            }
            3 => conn.writer().expect("it is open").write_all(now).expect("it takes all"),
            _ => conn.writer().expect("it is open").put_slice(now),
        }
        assert_eq!(conn.pending(), pending);
    }
}

every_driver! {
    // gnet #572: a greeting larger than the socket's buffers never finished.
    fn a_greeting_larger_than_the_sockets_buffers_arrives_whole_and_input_is_still_read(driver) {
        const SIZE: usize = 12 << 20;
        let (report, events) = common::events();
        let (say, said) = channel();
        let server = common::server(driver).listen("tcp://127.0.0.1:0").auto_pause(false);
        let server = common::start(server, move |_| {
            let say = say.clone();
            Script::<()>::new()
                .report(&report)
                .open(|conn| assert_eq!(conn.write(&common::pattern(SIZE)), SIZE))
                .traffic(move |_, (), input| {
                    say.send(input.take_all().to_vec()).unwrap();
                    Action::Continue
                })
        });
        let mut client = common::connect(common::address(&server, 0));
        opened(&events);
        common::eventually("it blocks", || server.handle().stats().partial_writes > 0);
        client.write_all(b"I am slow").unwrap();
        assert_eq!(next(&said), b"I am slow");
        assert!(common::read(&mut client, SIZE) == common::pattern(SIZE), "the greeting differs");
        common::stop(server);
    }

    fn every_way_of_writing_keeps_its_place_among_the_others(driver) {
        for seed in 0..8 {
            let server = common::server(driver).listen("tcp://127.0.0.1:0");
            let server = common::start(server, move |_| {
                let mut dice = Dice::new(seed + 7);
                Script::<()>::new().traffic(move |conn, (), input| {
                    write_in_every_way(conn, &common::pattern(300_000), &mut dice);
                    input.take_all();
                    Action::Continue
                })
            });
            let mut client = common::connect(common::address(&server, 0));
            client.write_all(b"?").unwrap();
            assert!(common::read(&mut client, 300_000) == common::pattern(300_000), "seed {seed}");
            drop(client);
            common::stop(server);
        }
    }

    fn a_reply_of_16_mebibytes_reaches_a_slow_reader_whole(driver) {
        const SIZE: usize = 16 << 20;
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| {
            Script::<()>::new().traffic(|conn, (), input| {
                input.take_all();
                conn.write_bytes(common::pattern(SIZE));
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"?").unwrap();
        common::eventually("it blocks", || server.handle().stats().partial_writes > 0);
        let expected = common::pattern(SIZE);
        for (index, piece) in expected.chunks(100_000).enumerate() {
            assert!(common::read(&mut client, piece.len()) == piece, "piece {index}");
            std::thread::yield_now();
        }
        common::stop(server);
    }

    fn replies_to_pipelined_requests_leave_in_one_write_with_what_pre_write_appends(driver) {
        let (say, said) = channel();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let say = say.clone();
            Script::<()>::new()
                .traffic(|conn, (), input| {
                    conn.write(input.take(1).unwrap());
                    Action::Continue
                })
                .pre_write(move |conn, (), pending| {
                    assert_eq!(conn.pending(), pending);
                    conn.write(b"|");
                    say.send(pending).unwrap();
                })
        });
        let mut client = common::connect(common::address(&server, 0));
        for _ in 0..3 {
            client.write_all(&[b'r'; 200]).unwrap();
            let mut expected = vec![b'r'; 200];
            expected.push(b'|');
            assert_eq!(common::read(&mut client, 201), expected);
            assert_eq!(next(&said), 200);
            settle(&server, 0);
            assert!(said.try_recv().is_err(), "a write too many, or one of nothing");
        }
        common::stop(server);
    }

    fn pre_write_comes_before_each_further_write_to_a_slow_reader(driver) {
        let (say, said) = channel();
        let server = common::server(driver).listen("tcp://127.0.0.1:0").socket_send_buffer(65_536);
        let server = common::start(server, move |_| {
            let say = say.clone();
            let mut pending_before = usize::MAX;
            Script::<()>::new()
                .open(|conn| {
                    conn.write(&common::pattern(1 << 20));
                })
                .pre_write(move |_, (), pending| {
                    assert!(pending > 0 && pending <= pending_before, "{pending}");
                    pending_before = pending;
                    say.send(pending).unwrap();
                })
        });
        let mut client = connect_narrow(common::address(&server, 0), 65_536);
        common::eventually("it blocks", || server.handle().stats().partial_writes > 0);
        assert!(common::read(&mut client, 1 << 20) == common::pattern(1 << 20));
        settle(&server, 0);
        let calls: Vec<_> = said.try_iter().collect();
        assert_eq!(calls[0], 1 << 20);
        let blocked = server.handle().stats().partial_writes as usize;
        assert!(calls.len() > blocked, "{} calls, {blocked} blocked writes", calls.len());
        common::stop(server);
    }

    fn what_pre_write_appends_leaves_with_the_last_reply_before_a_close_too(driver) {
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| {
            Script::<()>::new()
                .traffic(|conn, (), input| {
                    conn.write(input.take_all());
                    Action::Close
                })
                .pre_write(|conn, (), _| {
                    conn.write(b" and goodbye");
                })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"hello").unwrap();
        assert_eq!(common::read_to_end(&mut client), b"hello and goodbye");
        common::stop(server);
    }

    fn a_peer_is_written_to_from_a_callback_and_flush_does_not_wait_for_the_turn(driver) {
        for flushes in [true, false] {
            let (report, events) = common::events();
            let (say, said) = channel();
            let server = common::server(driver).listen("tcp://127.0.0.1:0");
            let server = common::start(server, move |_| {
                let (first, say, wrote) = (Rc::new(Cell::new(None)), say.clone(), say.clone());
                let known = first.clone();
                Script::<()>::new()
                    .report(&report)
                    .open(move |conn| first.set(first.get().or(Some(conn.id()))))
                    .traffic(move |conn, (), input| {
                        let text = String::from_utf8(input.take_all().to_vec()).unwrap();
                        let mut peer = conn.peer(known.get().unwrap()).expect("it is open");
                        assert_eq!(peer.write(text.as_bytes()), peer.pending());
                        if flushes {
                            peer.flush();
                        }
                        say.send(text).unwrap();
                        Action::Continue
                    })
                    .pre_write(move |_, (), _| wrote.send("write".to_owned()).unwrap())
            });
            let mut clients: Vec<_> = (0..3)
                .map(|_| {
                    let client = common::connect(common::address(&server, 0));
                    opened(&events);
                    client
                })
                .collect();
            // What the loop has yet to hear of earlier events would come first.
            settle(&server, 0);
            let gate = block(&server, 0);
            clients[1].write_all(b"one").unwrap();
            clients[2].write_all(b"two").unwrap();
            drop(gate);
            assert_eq!(common::read(&mut clients[0], 6), b"onetwo");
            settle(&server, 0);
            let order: Vec<_> = said.try_iter().collect();
            let expected: &[&str] = match flushes {
                true => &["one", "write", "two", "write"],
                false => &["one", "two", "write"],
            };
            assert_eq!(order, expected);
            common::stop(server);
        }
    }

    fn a_peer_that_is_gone_or_never_was_is_not_found(driver) {
        let (report, events) = common::events();
        let (say, said) = channel();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let (known, say) = (Rc::new(Cell::new(None)), say.clone());
            let first = known.clone();
            Script::<()>::new()
                .report(&report)
                .open(move |conn| first.set(first.get().or(Some(conn.id()))))
                .traffic(move |conn, (), input| {
                    input.take_all();
                    say.send(conn.peer(known.get().unwrap()).is_some()).unwrap();
                    Action::Continue
                })
        });
        let first = common::connect(common::address(&server, 0));
        opened(&events);
        let mut second = common::connect(common::address(&server, 0));
        opened(&events);
        second.write_all(b"?").unwrap();
        assert!(next(&said));
        drop(first);
        closed(&events);
        second.write_all(b"?").unwrap();
        assert!(!next(&said));
        common::stop(server);
    }

    fn output_above_the_limit_ends_the_connection_and_up_to_it_does_not(driver) {
        let (report, events) = common::events();
        let server = common::server(driver)
            .listen("tcp://127.0.0.1:0")
            .high_watermark(1 << 20)
            .low_watermark(1 << 20)
            .max_pending_output(2 << 20);
        let server = common::start(server, move |_| {
            Script::<()>::new().report(&report).traffic(|conn, (), input| {
                let more = usize::from(input.take(1).unwrap()[0]);
                // Through the writer, whose bytes only the loop can count against the limit.
                let mut writer = conn.writer().expect("it is open");
                writer.write_all(&common::pattern((2 << 20) + more)).unwrap();
                Action::Continue
            })
        });
        let mut allowed = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        allowed.write_all(&[0]).unwrap();
        assert!(common::read(&mut allowed, 2 << 20) == common::pattern(2 << 20));
        assert!(handle.is_open());
        let mut refused = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        refused.write_all(&[1]).unwrap();
        assert_eq!(closed(&events), (handle.id().unwrap(), "OutputLimit".to_owned()));
        assert_eq!(ending(&mut refused).1.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        common::stop(server);
    }

    fn output_that_piles_up_for_a_peer_that_does_not_read_ends_it_at_the_limit(driver) {
        let (report, events) = common::events();
        let server = common::server(driver).listen("tcp://127.0.0.1:0").max_pending_output(2 << 20);
        let server = common::start(server, move |_| {
            Script::<()>::new().report(&report).wake(|conn, ()| {
                conn.write(&[7; 100_000]);
                Action::Continue
            })
        });
        let client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        while handle.wake().is_ok() {
            settle(&server, 0);
        }
        assert_eq!(closed(&events), (handle.id().unwrap(), "OutputLimit".to_owned()));
        drop(client);
        common::stop(server);
    }

    // gnet cuts the reply off after one flush.
    fn a_large_reply_reaches_a_client_that_has_shut_down_its_sending_side(driver) {
        const SIZE: usize = 12 << 20;
        let (report, events) = common::events();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            Script::<()>::new().report(&report).traffic(|conn, (), input| {
                input.take_all();
                conn.write(&common::pattern(SIZE));
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        client.write_all(b"the only request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        common::eventually("it blocks", || server.handle().stats().partial_writes > 0);
        assert!(common::read_to_end(&mut client) == common::pattern(SIZE), "the reply differs");
        assert_eq!(closed(&events), (handle.id().unwrap(), "PeerClosed".to_owned()));
        common::stop(server);
    }

    // gnet #303: more than 1,024 slices in one vectored write were refused by the system.
    fn thousands_of_chunks_leave_whole(driver) {
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| {
            Script::<()>::new().traffic(|conn, (), input| {
                input.take_all();
                let all = Bytes::from(common::pattern(2_000 * 700));
                for start in (0..all.len()).step_by(700) {
                    conn.write_bytes(all.slice(start..start + 700));
                }
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"?").unwrap();
        assert!(common::read(&mut client, 2_000 * 700) == common::pattern(2_000 * 700));
        common::stop(server);
    }

    fn pending_counts_what_other_threads_have_queued(driver) {
        let (say, said) = channel();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let say = say.clone();
            Script::<()>::new().traffic(move |conn, (), input| {
                input.take_all();
                assert_eq!(conn.pending(), 0);
                conn.write(b"four");
                conn.handle().write("queued").unwrap();
                say.send(conn.pending()).unwrap();
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        for _ in 0..2 {
            client.write_all(b"?").unwrap();
            assert_eq!(next(&said), 10);
            assert_eq!(common::read(&mut client, 10), b"fourqueued");
            settle(&server, 0);
        }
        common::stop(server);
    }
}
