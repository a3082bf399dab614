//! `Conn::relay_to` where something ends or is full: whoever rests goes on, what has been taken
//! arrives, and a stream that could not be delivered whole does not look so.

mod closures;
mod common;
mod relays;
mod scripted;

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use closures::TCP;
use common::Events;
use relays::{HIGH, LOW, MIB, Teller, narrow_ends, teller, two, with_conn};
use scripted::{connect_narrow, ending, reset, settle};
use socket2::SockRef;
use tightloop::{Action, Conn, ConnId, Endpoint, Handler, Input, RunningServer, Server};

/// A source, and a target that reads nothing.
fn slow_pair(server: &RunningServer<Teller>, ids: &Events<ConnId>) -> [(TcpStream, ConnId); 2] {
    let to = common::address(server, 0);
    let source = (common::connect(to), ids.next());
    let target = (connect_narrow(to, 32 << 10), ids.next());
    let id = target.1;
    assert!(with_conn(server, source.1, move |conn| conn.relay_to(id)));
    [source, target]
}

/// Writes until nothing more is taken, the loop being at rest.
fn fill(stream: &mut TcpStream, server: &RunningServer<Teller>) {
    stream.set_nonblocking(true).unwrap();
    let mut in_vain = 0_usize;
    while in_vain < 5 {
        match stream.write(&[7; 64 << 10]) {
            Ok(taken) => in_vain = usize::from(taken == 0),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                in_vain += 1;
                settle(server, 0);
            }
        }
    }
}

/// Asks for a connection to itself on each one that comes, and has that relayed before it is there.
struct Early(Endpoint);

impl Handler for Early {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        if conn.initiator().is_none() {
            let upstream = conn.connect(&self.0).unwrap();
            let client = conn.id();
            assert!(conn.peer(upstream).unwrap().relay_to(client));
        }
    }

    fn on_traffic(&mut self, _: &mut Conn<'_>, (): &mut (), _: &mut Input<'_>) -> Action {
        panic!("it is relayed");
    }
}

fn watermarks(server: Server) -> Server {
    server.high_watermark(HIGH).low_watermark(LOW)
}

every_driver! {
    fn who_rests_for_one_goes_on_to_another(driver) {
        let (server, ids, _) = teller(watermarks(common::server(driver).listen(TCP)));
        let [(source, source_id), (mut first, _)] = slow_pair(&server, &ids);
        let mut second = common::connect(common::address(&server, 0));
        let second_id = ids.next();
        let message = common::pattern(16 * MIB);
        let writer = common::write_in_background(&source, message.clone(), false);
        common::eventually("it rests", || server.handle().stats().pauses > 0);
        settle(&server, 0);
        let change = move |conn: &mut Conn<'_>| {
            let before = conn.relayed() as usize;
            (before, conn.relay_to(second_id))
        };
        let (before, relays) = with_conn(&server, source_id, change);
        assert!(relays);
        let rest = common::read(&mut second, message.len() - before);
        assert!(rest == message[before..], "what came behind");
        assert!(common::read(&mut first, before) == message[..before], "what came before");
        writer.join().unwrap().unwrap();
        common::stop(server);
    }

    fn a_target_that_has_more_to_send_than_a_turn_sends_wakes_who_rests(driver) {
        let server = watermarks(common::server(driver).listen(TCP)).write_bytes_per_turn(4096);
        let (server, ids, _) = teller(server);
        let [(source, source_id), (mut target, target_id)] = slow_pair(&server, &ids);
        let message = common::pattern(16 * MIB);
        let writer = common::write_in_background(&source, message.clone(), false);
        common::eventually("it rests", || server.handle().stats().pauses > 0);
        settle(&server, 0);
        let before = with_conn(&server, source_id, |conn| conn.relayed()) as usize;
        // More than a turn sends, and not above the high mark.
        let between = vec![9; 2 * LOW];
        let wrote = between.clone();
        with_conn(&server, target_id, move |conn| {
            conn.write(&wrote);
        });
        let arrived = common::read(&mut target, message.len() + between.len());
        assert!(arrived[..before] == message[..before]);
        assert!(arrived[before + between.len()..] == message[before..]);
        writer.join().unwrap().unwrap();
        common::stop(server);
    }

    fn many_sources_do_not_bring_their_target_to_its_limit(driver) {
        let server = watermarks(common::server(driver).listen(TCP)).max_pending_output(2 * HIGH);
        let (server, ids, _) = teller(server);
        let [(source, _), (mut target, target_id)] = slow_pair(&server, &ids);
        let mut writers = vec![common::write_in_background(&source, vec![1; 8 * MIB], false)];
        common::eventually("it rests", || server.handle().stats().pauses > 0);
        let mut sources = Vec::new();
        for _ in 0..20 {
            sources.push(common::connect(common::address(&server, 0)));
            let id = ids.next();
            assert!(with_conn(&server, id, move |conn| conn.relay_to(target_id)));
            let source = sources.last().unwrap();
            writers.push(common::write_in_background(source, vec![1; MIB], false));
        }
        common::eventually("all rest", || server.handle().stats().pauses > 20);
        assert!(with_conn(&server, target_id, |conn| conn.pending()) <= HIGH + (64 << 10));
        assert!(common::read(&mut target, 28 * MIB) == vec![1; 28 * MIB]);
        for writer in writers {
            writer.join().unwrap().unwrap();
        }
        common::stop(server);
    }

    fn who_cannot_send_is_relayed_all_the_same(driver) {
        // One buffer is above the mark.
        let server = common::server(driver).listen(TCP).high_watermark(16 << 10).low_watermark(4 << 10);
        let (server, ids, _) = teller(server);
        let [(mut source, source_id), (mut target, target_id)] = slow_pair(&server, &ids);
        let mut third = common::connect(common::address(&server, 0));
        let third_id = ids.next();
        assert!(with_conn(&server, target_id, move |conn| conn.relay_to(third_id)));
        fill(&mut source, &server);
        with_conn(&server, target_id, |conn| {
            conn.write(&[0; 32 << 10]);
        });
        settle(&server, 0);
        target.write_all(b"I do not read, but I speak").unwrap();
        assert_eq!(common::read(&mut third, 26), b"I do not read, but I speak");
        assert!(with_conn(&server, source_id, |conn| conn.relayed()) > 0);
        common::stop(server);
    }

    fn a_target_that_is_gone_unheard_does_not_hold_its_source_up(driver) {
        let (server, ids, _traffic) = teller(watermarks(common::server(driver).listen(TCP)));
        let [(source, source_id), (mut target, target_id)] = slow_pair(&server, &ids);
        let _third = connect_narrow(common::address(&server, 0), 32 << 10);
        let third_id = ids.next();
        // The target is not read from either, so its end is not told.
        assert!(with_conn(&server, target_id, move |conn| conn.relay_to(third_id)));
        fill(&mut target, &server);
        let writer = common::write_in_background(&source, vec![1; 24 * MIB], false);
        common::eventually("both rest", || server.handle().stats().pauses > 1);
        settle(&server, 0);
        reset(target);
        writer.join().unwrap().unwrap();
        common::eventually("all is read", || {
            with_conn(&server, source_id, |conn| conn.relayed()) > 0
                && server.handle().stats().bytes_in > 24 * MIB as u64
        });
        common::stop(server);
    }

    fn what_could_not_be_delivered_does_not_end_in_order(driver) {
        let server = watermarks(common::server(driver).listen(TCP));
        let stall = Duration::from_millis(300);
        let (server, ids, _traffic) = teller(server.write_stall_timeout(stall));
        let [(mut source, source_id), (mut target, _)] = slow_pair(&server, &ids);
        fill(&mut source, &server);
        let relayed = with_conn(&server, source_id, |conn| conn.relayed());
        common::eventually("the target has stalled", || server.handle().connections() == 1);
        let (arrived, end) = ending(&mut target);
        assert!((arrived.len() as u64) < relayed, "all of it went into the sockets: no test");
        assert!(end.is_err(), "{} of {relayed} bytes look like all", arrived.len());
        common::stop(server);
    }

    fn urgent_data_before_the_end_takes_nothing_away(driver) {
        let server = common::server(driver).listen(TCP).half_close(true);
        let (server, ids, _) = teller(server.socket_receive_buffer(MIB));
        let [(mut source, source_id), (mut target, target_id)] =
            two(common::address(&server, 0), &ids);
        let hold = move |conn: &mut Conn<'_>| {
            conn.pause_reading();
            conn.relay_to(target_id)
        };
        assert!(with_conn(&server, source_id, hold));
        // The first buffer has the next ones moved, which stops at the mark; all has arrived by then.
        let message = common::pattern(150_000);
        source.write_all(&message[..110_000]).unwrap();
        SockRef::from(&source).send_out_of_band(b"!").unwrap();
        source.write_all(&message[110_000..]).unwrap();
        source.shutdown(Shutdown::Write).unwrap();
        settle(&server, 0);
        with_conn(&server, source_id, |conn| conn.resume_reading());
        assert!(common::read(&mut target, message.len()) == message);
        common::stop(server);
    }

    fn one_that_is_still_being_made_can_be_relayed(driver) {
        let (listener, url) = relays::listener();
        let endpoint: Endpoint = url.parse().unwrap();
        let server = common::server(driver).listen(TCP);
        let server = common::start(server, move |_| Early(endpoint.clone()));
        let mut client = common::connect(common::address(&server, 0));
        relays::accept(&listener).write_all(b"from the other side").unwrap();
        assert_eq!(common::read(&mut client, 19), b"from the other side");
        common::stop(server);
    }

    fn what_lies_in_a_pipe_is_delivered_before_the_end(driver) {
        let (server, _, client, mut upstream) = narrow_ends(driver);
        let message = common::pattern(8 * MIB);
        let writer = common::write_in_background(&client, message.clone(), true);
        // The end is there when most of it is still on its way.
        common::eventually("it rests", || server.handle().stats().pauses > 0);
        settle(&server, 0);
        assert!(common::read_to_end(&mut upstream) == message);
        writer.join().unwrap().unwrap();
        common::stop(server);
    }
}
