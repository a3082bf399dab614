//! A panic of user code that belongs to no open connection loses what it was called for, and
//! nothing else.

mod common;

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use tightloop::{Action, Address, Balancer, Conn, Datagram, Handler, Input};

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        conn.write(input.take_all());
        Action::Continue
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        assert!(datagram.payload() != b"boom", "boom at on_datagram");
        datagram.reply(datagram.payload());
        Action::Continue
    }
}

struct PanickingBalancer(u32);

impl Balancer for PanickingBalancer {
    fn pick(&mut self, _: &Address, loads: &[usize]) -> usize {
        self.0 += 1;
        assert!(self.0 != 2, "boom at the balancer");
        self.0 as usize % loads.len()
    }
}

every_driver! {
    fn on_datagram_that_panics_loses_that_datagram_only(driver) {
        let server = common::start(common::server(driver).listen("udp://127.0.0.1:0"), |_| Echo);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(common::DEADLINE)).unwrap();
        let to = common::address(&server, 0);
        for payload in [&b"boom"[..], b"boom", b"still there?"] {
            socket.send_to(payload, to).unwrap();
        }
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(&answer[..length], b"still there?");
        common::stop_after_panics(server, 2);
    }

    fn a_balancer_that_panics_loses_that_connection_only(driver) {
        let server = common::server(driver).loops(2).balancer(|| PanickingBalancer(0));
        let server = common::start(server.listen("tcp://127.0.0.1:0"), |_| Echo);
        let mut clients: Vec<_> =
            (0..4).map(|_| common::connect(common::address(&server, 0))).collect();
        assert!(common::is_closed(&mut clients.remove(1)));
        for client in &mut clients {
            assert_eq!(common::exchange(client, b"here"), b"here");
        }
        common::stop_after_panics(server, 1);
    }

    fn a_socket_hook_that_panics_refuses_that_connection_only(driver) {
        let first = AtomicBool::new(true);
        let server = common::server(driver).listen("tcp://127.0.0.1:0").on_connection_socket(
            move |_| {
                let is_first = first.swap(false, Ordering::SeqCst);
                assert!(!is_first, "boom at the hook");
                Ok(())
            },
        );
        let server = common::start(server, |_| Echo);
        assert!(common::is_closed(&mut common::connect(common::address(&server, 0))));
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::exchange(&mut client, b"here"), b"here");
        common::stop_after_panics(server, 1);
    }
}
