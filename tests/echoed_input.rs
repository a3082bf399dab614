//! What a handler writes out of its own input, which is not copied: it keeps its place among
//! everything else, arrives whole, and counts as any other output does.

mod common;
mod scripted;

use std::cell::Cell;
use std::io::{BufReader, Write};
use std::net::UdpSocket;
use std::rc::Rc;

use bytes::Bytes;
use scripted::{Dice, Script, block, closed, connect_narrow, ending, name, opened, settle};
use tightloop::{Action, Direction, Endpoint};

every_driver! {
    fn stretches_of_the_input_keep_their_place_among_other_output(driver) {
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let mut dice = Dice::new(7);
            Script::<()>::new().traffic(move |conn, (), input| {
                // The answer is the input, piece by piece, each piece in one of many ways.
                let all = input.take_all();
                let mut rest = all;
                while !rest.is_empty() {
                    let (now, later) = rest.split_at((1 + dice.below(300)).min(rest.len()));
                    rest = later;
                    let before = conn.pending();
                    match dice.below(6) {
                        0 => {
                            let copy = now.to_vec();
                            conn.write(&copy);
                        }
                        1 => {
                            conn.write_bytes(Bytes::copy_from_slice(now));
                        }
                        2 => conn.writer().expect("it is open").write_all(now).expect("it takes all"),
                        _ => assert_eq!(conn.write(now), before + now.len()),
                    }
                    assert_eq!(conn.pending(), before + now.len());
                }
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        let mut dice = Dice::new(11);
        for _ in 0..300 {
            let message = common::pattern(1 + dice.below(5_000));
            assert!(common::exchange(&mut client, &message) == message, "the echo differs");
        }
        common::stop(server);
    }

    fn what_a_slow_reader_does_not_take_of_an_echo_arrives_later_and_in_order(driver) {
        const SIZE: usize = 8 << 20;
        let server = common::server(driver).listen("tcp://127.0.0.1:0").socket_send_buffer(16_384);
        let server = common::start(server, |_| {
            Script::<()>::new().traffic(|conn, (), input| {
                let (first, second) = input.take_all().split_at(input.len() / 2);
                conn.write(first);
                conn.write(second);
                Action::Continue
            })
        });
        let mut client = connect_narrow(common::address(&server, 0), 16_384);
        let writer = common::write_in_background(&client, common::pattern(SIZE), true);
        common::eventually("it blocks", || server.handle().stats().partial_writes > 0);
        assert!(common::read_to_end(&mut client) == common::pattern(SIZE), "the echo differs");
        writer.join().unwrap().unwrap();
        common::stop(server);
    }

    fn input_written_twice_or_out_of_order_is_what_the_peer_reads(driver) {
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| {
            Script::<()>::new().traffic(|conn, (), input| {
                let all = input.take_all();
                let (first, second) = all.split_at(all.len() / 2);
                for part in [second, first, first, all, &all[1..3]] {
                    conn.write(part);
                }
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"abcdef").unwrap();
        assert_eq!(common::read(&mut client, 17), b"defabcabcabcdefbc");
        common::stop(server);
    }

    fn input_is_passed_on_to_a_peer_and_back_in_order_at_every_size(driver) {
        let (report, events) = common::events();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let (first, second) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(None)));
            let ids = (first.clone(), second.clone());
            Script::<()>::new()
                .report(&report)
                .open(move |conn| match first.get() {
                    None => first.set(Some(conn.id())),
                    Some(_) => second.set(Some(conn.id())),
                })
                .traffic(move |conn, (), input| {
                    let own = conn.id();
                    let other = if ids.0.get() == Some(own) { &ids.1 } else { &ids.0 };
                    let mut peer = conn.peer(other.get().expect("two")).expect("it is open");
                    let before = peer.pending();
                    let all = input.take_all();
                    assert_eq!(peer.write(all), before + all.len());
                    peer.write(b".");
                    assert_eq!(peer.pending(), before + all.len() + 1);
                    Action::Continue
                })
        });
        let mut clients = [0, 1].map(|_| common::connect(common::address(&server, 0)));
        opened(&events);
        opened(&events);
        for size in [1, 64, 4_095, 4_096, 20_000, 65_536, 1 << 20] {
            let message = common::pattern(size);
            let [one, two] = &mut clients;
            let writer = common::write_in_background(one, message.clone(), false);
            // A full stop comes after each stretch, wherever those end.
            let mut arrived = Vec::new();
            let mut two = BufReader::new(two);
            while arrived.len() < size {
                let byte = common::read(&mut two, 1)[0];
                if byte == message[arrived.len()] {
                    arrived.push(byte);
                } else {
                    assert_eq!(byte, b'.', "at {} of {size}", arrived.len());
                }
            }
            assert_eq!(common::read(&mut two, 1), b".");
            assert!(two.buffer().is_empty(), "there is more than was sent");
            writer.join().unwrap().unwrap();
            clients.reverse();
        }
        common::stop(server);
    }

    fn an_abort_behind_an_echo_drops_it(driver) {
        let (report, events) = common::events();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            Script::<()>::new().report(&report).traffic(|conn, (), input| {
                conn.write(input.take_all());
                conn.abort();
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"hello").unwrap();
        let (bytes, end) = ending(&mut client);
        assert_eq!(bytes, b"");
        assert!(end.is_err(), "no reset");
        opened(&events);
        assert_eq!(closed(&events).1, "Aborted");
        common::stop(server);
    }

    fn an_echo_above_the_output_limit_ends_the_connection(driver) {
        let (report, events) = common::events();
        let server = common::server(driver).listen("tcp://127.0.0.1:0");
        let server = server.high_watermark(400).low_watermark(100).max_pending_output(500);
        let server = common::start(server, move |_| {
            Script::<()>::new().report(&report).traffic(|conn, (), input| {
                if input.len() >= 600 {
                    conn.write(input.take_all());
                }
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(&[b'x'; 600]).unwrap();
        assert_eq!(ending(&mut client).0, b"");
        opened(&events);
        assert_eq!(closed(&events).1, name(&tightloop::CloseReason::OutputLimit));
        settle(&server, 0);
        common::stop(server);
    }

    fn output_before_a_close_or_a_half_close_is_delivered_when_it_is_the_input_itself(driver) {
        for half in [true, false] {
            let server = common::server(driver).listen("tcp://127.0.0.1:0");
            let server = common::start(server, move |_| {
                Script::<()>::new().traffic(move |conn, (), input| {
                    let all = input.take_all();
                    conn.write(&all[..3]);
                    if half { conn.shutdown_write() } else { conn.close() }
                    // Too late: it is dropped, and what came before is not.
                    conn.write(&all[3..]);
                    conn.write(b"too late");
                    Action::Continue
                })
            });
            let mut client = common::connect(common::address(&server, 0));
            client.write_all(b"abcdef").unwrap();
            assert_eq!(common::read_to_end(&mut client), b"abc");
            drop(client);
            common::stop(server);
        }
    }

    fn a_large_datagram_is_passed_on_to_a_stream(driver) {
        let (report, events) = common::events();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = format!("udp://{}", peer.local_addr().unwrap());
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let to: Endpoint = url.parse().unwrap();
            let first = Rc::new(Cell::new(None));
            let known = first.clone();
            Script::<()>::new()
                .report(&report)
                .open(move |conn| match (conn.direction(), first.get()) {
                    (Direction::Incoming, None) => {
                        first.set(Some(conn.id()));
                        conn.connect(to.clone()).unwrap();
                    }
                    (Direction::Outgoing, _) => {
                        conn.write(b"hello");
                    }
                    _ => {}
                })
                .traffic(move |conn, (), input| {
                    let all = input.take_all();
                    match conn.direction() {
                        Direction::Incoming => {
                            conn.write(all);
                        }
                        Direction::Outgoing => {
                            conn.peer(known.get().unwrap()).expect("it is open").write(all);
                        }
                    }
                    Action::Continue
                })
        });
        let mut stream = common::connect(common::address(&server, 0));
        let mut other = common::connect(common::address(&server, 0));
        for _ in 0..3 {
            opened(&events);
        }
        peer.set_read_timeout(Some(common::DEADLINE)).unwrap();
        let (_, back) = peer.recv_from(&mut [0; 5]).unwrap();
        for size in [4_096, 20_000, 1, 65_000] {
            let datagram = common::pattern(size);
            peer.send_to(&datagram, back).unwrap();
            assert_eq!(common::exchange(&mut other, b"in between"), b"in between");
            assert!(common::read(&mut stream, size) == datagram, "of {size} bytes");
        }
        common::stop(server);
    }

    fn what_is_left_behind_an_echo_is_there_for_pre_write_to_resume(driver) {
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| {
            Script::<()>::new()
                .traffic(|conn, (), input| {
                    conn.write(input.take(1).unwrap());
                    conn.pause_reading();
                    Action::Continue
                })
                .pre_write(|conn, (), _| conn.resume_reading())
        });
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::exchange(&mut client, b"abcdefgh"), b"abcdefgh");
        common::stop(server);
    }

    // A driver that waits for completions must not sleep on one that says that a socket was full.
    // Any tail that is lost fails this; that one stall was found by reading and is not met for sure.
    fn the_tail_that_a_full_socket_refuses_arrives_though_everybody_else_is_quiet(driver) {
        let server = common::server(driver).listen("tcp://127.0.0.1:0").socket_send_buffer(4_096);
        let server = common::start(server, |_| common::Echo);
        let to = common::address(&server, 0);
        // In one of these rounds the slow one's socket is full for the first time at the very end.
        for rounds in 1..40 {
            let mut others: Vec<_> = (0..8).map(|_| common::connect(to)).collect();
            let mut slow = connect_narrow(to, 2_048);
            common::eventually("all are open", || server.handle().connections() == 9);
            for _ in 0..rounds {
                let gate = block(&server, 0);
                slow.write_all(&[b's'; 1_500]).unwrap();
                for other in &mut others {
                    other.write_all(b"hello").unwrap();
                }
                drop(gate);
                for other in &mut others {
                    assert_eq!(common::read(other, 5), b"hello");
                }
            }
            let sent = rounds * 1_500;
            assert!(common::read(&mut slow, sent).iter().all(|byte| *byte == b's'));
            drop((slow, others));
            common::eventually("all have gone", || server.handle().connections() == 0);
        }
        common::stop(server);
    }
}
