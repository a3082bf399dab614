//! `Conn::relay_to`: what comes in on one connection goes out on another one, whole and in order,
//! and no faster than it is taken.

mod closures;
mod common;
mod relays;
mod scripted;

use std::io::Write;
use std::net::Shutdown;

use closures::TCP;
use relays::{HIGH, LOW, MIB, Told, narrow_ends, teller, tunnel_to, two, with_conn};
use scripted::{connect_narrow, reset, settle};
use socket2::SockRef;
use tightloop::codec::LineCodec;
use tightloop::{Action, Conn, ConnId, Endpoint, FrameConn, FrameHandler, Framed};

/// Echoes lines; "tunnel N" has the rest relayed to the connection that came as the Nth.
#[derive(Default)]
struct Commands(Vec<ConnId>);

impl FrameHandler for Commands {
    type Codec = LineCodec;
    type State = ();

    fn codec(&mut self, _: &mut Conn<'_>) -> LineCodec {
        LineCodec::new(64).unwrap()
    }

    fn on_open(&mut self, conn: &mut FrameConn<'_, Self>) {
        self.0.push(conn.id());
    }

    fn on_frame(&mut self, conn: &mut FrameConn<'_, Self>, (): &mut (), line: &[u8]) -> Action {
        match line.strip_prefix(b"tunnel ") {
            Some(number) => assert!(conn.relay_to(self.0[usize::from(number[0] - b'0')])),
            None => conn.send(line).unwrap(),
        }
        Action::Continue
    }
}

every_driver! {
    fn bytes_pass_both_ways_whatever_their_size_and_on_traffic_sees_none(driver) {
        let echo = common::start(common::server(driver).listen(TCP), |_| common::Echo);
        let upstream = format!("tcp://{}", common::address(&echo, 0));
        let (server, events) = tunnel_to(common::server(driver).listen(TCP), upstream);
        let mut total = 0;
        let mut client = common::connect(common::address(&server, 0));
        for size in [1, 100, 5_000, 16 << 10, 65_536, 65_537, 3, MIB, 1, 8 * MIB, 77] {
            let message = common::pattern(size);
            let writer = common::write_in_background(&client, message.clone(), false);
            assert!(common::read(&mut client, size) == message, "{size} bytes");
            writer.join().unwrap().unwrap();
            total += size as u64;
        }
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(common::read_to_end(&mut client), []);
        assert_eq!([events.next(), events.next()], [Told::Closed(total), Told::Closed(total)]);
        let stats = server.handle().stats();
        assert_eq!((stats.bytes_in, stats.bytes_out), (2 * total, 2 * total));
        let moves = cfg!(target_os = "linux") && driver == common::Driver::Ready;
        assert_eq!(stats.bytes_moved > 0, moves, "{} bytes by the kernel", stats.bytes_moved);
        common::stop(server);
        common::stop(echo);
    }

    fn a_source_rests_while_its_target_takes_nothing_and_nothing_is_lost(driver) {
        let (server, events, client, mut upstream) = narrow_ends(driver);
        let message = common::pattern(32 * MIB);
        let writer = common::write_in_background(&client, message.clone(), true);
        common::eventually("it rests", || server.handle().stats().pauses > 0);
        settle(&server, 0);
        let stats = server.handle().stats();
        // A pipe, if there is one, holds 16 pieces of 64 KiB at most.
        let held = stats.bytes_in as usize;
        assert!(held < 2 * MIB + 2 * HIGH, "{held} bytes were taken for a target that reads none");
        assert!(common::read_to_end(&mut upstream) == message);
        writer.join().unwrap().unwrap();
        upstream.write_all(b"thanks").unwrap();
        drop(upstream);
        let mut client = client;
        assert_eq!(common::read_to_end(&mut client), b"thanks");
        let mut told = [events.next(), events.next()];
        told.sort_by_key(|told| match told {
            Told::Closed(bytes) => *bytes,
            Told::Traffic(_) => 0,
        });
        assert_eq!(told, [Told::Closed(6), Told::Closed(message.len() as u64)]);
        common::stop(server);
    }

    fn what_is_written_to_a_full_target_comes_behind_what_was_relayed(driver) {
        let (server, ids, _) = teller(common::server(driver).listen(TCP).high_watermark(HIGH).low_watermark(LOW));
        let to = common::address(&server, 0);
        let mut source = common::connect(to);
        let source_id = ids.next();
        let mut target = connect_narrow(to, 32 << 10);
        let target_id = ids.next();
        assert!(with_conn(&server, source_id, move |conn| conn.relay_to(target_id)));
        let message = common::pattern(8 * MIB);
        let writer = common::write_in_background(&source, message.clone(), false);
        common::eventually("it rests", || server.handle().stats().pauses > 0);
        settle(&server, 0);
        let before = with_conn(&server, source_id, |conn| conn.relayed()) as usize;
        with_conn(&server, target_id, |conn| {
            conn.write(b"<<marker>>");
        });
        let arrived = common::read(&mut target, message.len() + 10);
        writer.join().unwrap().unwrap();
        let (first, rest) = arrived.split_at(before);
        assert!(first == &message[..before], "what was relayed before");
        assert_eq!(&rest[..10], b"<<marker>>");
        assert!(rest[10..] == message[before..], "what was relayed behind it");
        source.write_all(b"on and on").unwrap();
        assert_eq!(common::read(&mut target, 9), b"on and on");
        common::stop(server);
    }

    fn input_that_the_callback_leaves_goes_first(driver) {
        let server = common::server(driver).listen(TCP);
        let server = common::start(server, |_| Framed::new(Commands::default()));
        let to = common::address(&server, 0);
        let mut target = common::connect(to);
        assert_eq!(common::exchange(&mut target, b"first\n"), b"first\n");
        let mut source = common::connect(to);
        source.write_all(b"hello\ntunnel 0\nline one\nline two\nno line").unwrap();
        assert_eq!(common::read(&mut source, 6), b"hello\n");
        assert_eq!(common::read(&mut target, 25), b"line one\nline two\nno line");
        source.write_all(b", and more\n").unwrap();
        assert_eq!(common::read(&mut target, 11), b", and more\n");
        common::stop(server);
    }

    fn when_the_target_is_gone_the_handler_is_asked_again(driver) {
        let (server, ids, traffic) = teller(common::server(driver).listen(TCP));
        let [(mut source, source_id), (target, target_id)] =
            two(common::address(&server, 0), &ids);
        assert!(with_conn(&server, source_id, move |conn| conn.relay_to(target_id)));
        drop(target);
        common::eventually("it is gone", || server.handle().connections() == 1);
        source.write_all(b"anybody there?").unwrap();
        assert_eq!(traffic.next(), b"anybody there?");
        assert!(!with_conn(&server, source_id, move |conn| conn.relay_to(target_id)));
        common::stop(server);
    }

    fn a_source_that_rests_goes_on_when_its_target_breaks(driver) {
        let (server, ids, _traffic) =
            teller(common::server(driver).listen(TCP).high_watermark(HIGH).low_watermark(LOW));
        let to = common::address(&server, 0);
        let source = common::connect(to);
        let source_id = ids.next();
        let target = connect_narrow(to, 32 << 10);
        let target_id = ids.next();
        assert!(with_conn(&server, source_id, move |conn| conn.relay_to(target_id)));
        let message = common::pattern(16 * MIB);
        let writer = common::write_in_background(&source, message.clone(), false);
        common::eventually("it rests", || server.handle().stats().pauses > 0);
        reset(target);
        // All of it is read, though nobody takes it any more.
        writer.join().unwrap().unwrap();
        let all = message.len() as u64;
        common::eventually("it is read", || server.handle().stats().bytes_in == all);
        common::stop(server);
    }

    fn relaying_can_be_ended_and_begun_again(driver) {
        let (server, ids, traffic) = teller(common::server(driver).listen(TCP));
        let [(mut source, source_id), (mut target, target_id)] =
            two(common::address(&server, 0), &ids);
        for _ in 0..3 {
            assert!(with_conn(&server, source_id, move |conn| conn.relay_to(target_id)));
            source.write_all(b"to the other").unwrap();
            assert_eq!(common::read(&mut target, 12), b"to the other");
            with_conn(&server, source_id, |conn| conn.stop_relaying());
            source.write_all(b"to the handler").unwrap();
            assert_eq!(traffic.next(), b"to the handler");
        }
        assert_eq!(with_conn(&server, source_id, |conn| conn.relayed()), 36);
        common::stop(server);
    }

    fn a_connection_relayed_to_itself_echoes(driver) {
        let (server, ids, _) = teller(common::server(driver).listen(TCP));
        let mut client = common::connect(common::address(&server, 0));
        let id = ids.next();
        assert!(with_conn(&server, id, move |conn| conn.relay_to(id)));
        for size in [1, 65_536, 4 * MIB, 10] {
            let message = common::pattern(size);
            let writer = common::write_in_background(&client, message.clone(), false);
            assert!(common::read(&mut client, size) == message, "{size} bytes");
            writer.join().unwrap().unwrap();
        }
        common::stop(server);
    }

    fn two_sources_share_a_target_that_is_slow(driver) {
        let (server, ids, _) = teller(common::server(driver).listen(TCP).high_watermark(HIGH).low_watermark(LOW));
        let to = common::address(&server, 0);
        let sources = [(); 2].map(|()| (common::connect(to), ids.next()));
        let mut target = connect_narrow(to, 32 << 10);
        let target_id = ids.next();
        let mut writers = Vec::new();
        for (byte, (stream, id)) in sources.iter().enumerate() {
            assert!(with_conn(&server, *id, move |conn| conn.relay_to(target_id)));
            let bytes = vec![byte as u8; 8 * MIB];
            writers.push(common::write_in_background(stream, bytes, false));
        }
        common::eventually("they rest", || server.handle().stats().pauses > 0);
        let arrived = common::read(&mut target, 16 * MIB);
        let ones: usize = arrived.iter().map(|byte| usize::from(*byte)).sum();
        assert_eq!(ones, 8 * MIB);
        for writer in writers {
            writer.join().unwrap().unwrap();
        }
        common::stop(server);
    }

    fn a_pause_holds_what_would_be_relayed(driver) {
        let (server, ids, _) = teller(common::server(driver).listen(TCP));
        let [(mut source, source_id), (mut target, target_id)] =
            two(common::address(&server, 0), &ids);
        let paused = move |conn: &mut Conn<'_>| {
            conn.pause_reading();
            conn.relay_to(target_id)
        };
        assert!(with_conn(&server, source_id, paused));
        source.write_all(b"held").unwrap();
        settle(&server, 0);
        assert_eq!(with_conn(&server, source_id, |conn| conn.relayed()), 0);
        with_conn(&server, source_id, |conn| conn.resume_reading());
        assert_eq!(common::read(&mut target, 4), b"held");
        common::stop(server);
    }

    fn urgent_data_does_not_stop_what_is_relayed(driver) {
        let (server, _, client, mut upstream) = narrow_ends(driver);
        let message = common::pattern(2 * MIB);
        let (first, second) = message.split_at(MIB + 5);
        let (first, second) = (first.to_vec(), second.to_vec());
        let writer = std::thread::spawn(move || {
            let mut client = client;
            client.write_all(&first).unwrap();
            SockRef::from(&client).send_out_of_band(b"!").unwrap();
            client.write_all(&second).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        assert!(common::read_to_end(&mut upstream) == message);
        drop(writer.join().unwrap());
        common::stop(server);
    }

    fn datagrams_and_strangers_are_refused(driver) {
        let (server, ids, _) = teller(common::server(driver).listen(TCP).loops(2));
        let [(_one, first), (_two, second)] = two(common::address(&server, 0), &ids);
        assert_ne!(first.loop_index(), second.loop_index());
        assert!(!with_conn(&server, first, move |conn| conn.relay_to(second)), "another loop");
        let peer = common::datagram_peer();
        let to: Endpoint = format!("udp://{}", peer.local_addr().unwrap()).parse().unwrap();
        let datagrams = with_conn(&server, first, move |conn| conn.connect(to).unwrap());
        assert_eq!(ids.next(), datagrams);
        assert!(!with_conn(&server, first, move |conn| conn.relay_to(datagrams)));
        assert!(!with_conn(&server, datagrams, move |conn| conn.relay_to(first)));
        common::stop(server);
    }

    fn who_ends_at_random_leaves_nothing_behind(driver) {
        let echo = common::start(common::server(driver).listen(TCP), |_| common::Echo);
        let upstream = format!("tcp://{}", common::address(&echo, 0));
        let (server, _events) = tunnel_to(common::server(driver).listen(TCP), upstream);
        let to = common::address(&server, 0);
        let clients: Vec<_> = (0..8_usize)
            .map(|n| {
                std::thread::spawn(move || {
                    for round in 0..6 {
                        let mut client = common::connect(to);
                        let message = common::pattern(MIB);
                        let writer = common::write_in_background(&client, message.clone(), false);
                        let part = (n * 131 + round * 77_777) % MIB;
                        assert!(common::read(&mut client, part) == message[..part]);
                        if (n + round) % 2 == 0 {
                            reset(client);
                        }
                        // It may have been cut off.
                        let _ = writer.join().unwrap();
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        common::eventually("all have ended", || {
            server.handle().connections() + echo.handle().connections() == 0
        });
        common::stop(server);
        common::stop(echo);
    }
}
