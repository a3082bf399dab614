//! A broadcast of another thread: to every connection, in order, and not all in one turn.

mod common;
mod scripted;

use std::io::Write;
use std::net::TcpStream;

use scripted::{Script, block};
use tightloop::{Action, Conn, RunningServer};

/// So few connections a turn that a broadcast takes several.
const A_TURN: usize = 3;
const CLIENTS: usize = 10;

fn serve(driver: common::Driver) -> (RunningServer<Script>, Vec<TcpStream>) {
    let server = common::server(driver).listen("tcp://127.0.0.1:0").events_per_turn(A_TURN);
    let server = common::start(server, |_| {
        Script::<()>::new().traffic(|conn, (), input| {
            conn.write(input.take_all());
            Action::Continue
        })
    });
    let to = common::address(&server, 0);
    let clients = (0..CLIENTS).map(|_| common::connect(to)).collect();
    common::eventually("all are open", || server.handle().connections() == CLIENTS);
    (server, clients)
}

fn all_read(clients: &mut [TcpStream], expected: &[u8]) {
    for client in clients {
        assert_eq!(common::read(client, expected.len()), expected);
    }
}

every_driver! {
    fn broadcasts_that_queue_up_reach_everybody_in_order(driver) {
        let (server, mut clients) = serve(driver);
        let gate = block(&server, 0);
        let mut expected = Vec::new();
        for number in 0..50 {
            let line = format!("{number}\n");
            server.handle().broadcast(line.clone()).unwrap();
            expected.extend(line.into_bytes());
        }
        drop(gate);
        all_read(&mut clients, &expected);
        common::stop(server);
    }

    fn what_is_asked_for_behind_a_broadcast_stays_behind_it(driver) {
        let (server, mut clients) = serve(driver);
        let gate = block(&server, 0);
        server.handle().broadcast("1").unwrap();
        let second = |conn: &mut Conn<'_>, (): &mut ()| {
            conn.write(b"2");
        };
        server.loops()[0].execute(move |_, cx| cx.for_each(second)).unwrap();
        drop(gate);
        all_read(&mut clients, b"12");
        common::stop(server);
    }

    fn a_stop_behind_a_broadcast_delivers_it_to_everybody(driver) {
        let (server, mut clients) = serve(driver);
        let gate = block(&server, 0);
        server.handle().broadcast("goodbye").unwrap();
        server.stop();
        drop(gate);
        for client in &mut clients {
            assert_eq!(common::read_to_end(client), b"goodbye");
        }
        drop(clients);
        server.join().expect("it ends in order");
    }

    fn others_are_served_while_a_broadcast_is_under_way(driver) {
        let (server, mut clients) = serve(driver);
        let gate = block(&server, 0);
        for _ in 0..200 {
            server.handle().broadcast("x").unwrap();
        }
        clients[0].write_all(b"ask").unwrap();
        drop(gate);
        let mut seen = common::read(&mut clients[0], 203);
        let at = seen.windows(3).position(|three| three == b"ask").expect("an answer");
        seen.drain(at..at + 3);
        assert_eq!(seen, [b'x'; 200]);
        assert!(at < 200, "the answer came behind all of them");
        common::stop(server);
    }
}
