//! A handler can tell which listener a connection came from.

mod common;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use tightloop::{Action, Conn, Handler, Input};

/// Answers each message with the number of the connection's listener.
struct Number;

impl Handler for Number {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        input.take_all();
        conn.write(match conn.listener() {
            None => b"-",
            Some(0) => b"0",
            Some(1) => b"1",
            Some(_) => b"?",
        });
        Action::Continue
    }
}

fn ask(client: &mut TcpStream) -> u8 {
    client.write_all(b"?").unwrap();
    common::read(client, 1)[0]
}

every_driver! {
    fn a_connection_names_the_listener_it_came_from(driver) {
        for (loops, reuse_port) in [(1, false), (2, false), (2, true)] {
            let server = common::server(driver).loops(loops).reuse_port(reuse_port && common::SPREADS);
            let server = server.listen("tcp://127.0.0.1:0").listen("tcp://127.0.0.1:0");
            let server = common::start(server, |_| Number);
            for (index, answer) in [(0, b'0'), (1, b'1')] {
                for _ in 0..4 {
                    let mut client = common::connect(common::address(&server, index));
                    assert_eq!(ask(&mut client), answer, "{loops} loops, {reuse_port}");
                }
            }
            common::stop(server);
        }
    }

    fn an_adopted_connection_has_no_listener(driver) {
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| Number);
        let meeting_point = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = common::connect(meeting_point.local_addr().unwrap());
        server.handle().adopt_tcp(meeting_point.accept().unwrap().0).unwrap();
        assert_eq!(ask(&mut client), b'-');
        common::stop(server);
    }
}
