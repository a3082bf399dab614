//! A panic of user code that belongs to no open connection loses what it was called for, and
//! nothing else.

mod common;

use std::io::Write;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tightloop::{Action, Address, Balancer, CloseReason, Conn, Datagram, Handler, Input};

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

/// Gives its connections' handles away, and closes its side when the peer says so.
#[derive(Default)]
struct Handles {
    given: Option<std::sync::mpsc::Sender<tightloop::ConnHandle>>,
    /// Those that are written to when another connection closes.
    written_to: Vec<tightloop::ConnHandle>,
    accepted: std::sync::Arc<AtomicU64>,
}

impl Handler for Handles {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        match &self.given {
            Some(given) => given.send(conn.handle()).unwrap(),
            None => self.written_to.push(conn.handle()),
        }
        conn.write(b"hello");
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        input.take_all();
        conn.shutdown_write();
        Action::Continue
    }

    fn on_close(&mut self, _: &mut Conn<'_>, _: (), _: CloseReason) {
        for handle in &self.written_to {
            let written = handle.write_then("late", |_| panic!("boom at the late write"));
            self.accepted.fetch_add(u64::from(written.is_ok()), Ordering::SeqCst);
        }
    }
}

every_driver! {
    fn the_callback_of_a_write_that_is_too_late_is_counted_when_it_panics(driver) {
        let (given, handles) = common::events();
        let server = common::server(driver).half_close(true).listen("tcp://127.0.0.1:0");
        let given = std::sync::Mutex::new(given);
        let server = common::start(server, move |_| Handles {
            given: Some(given.lock().unwrap().clone()),
            ..Handles::default()
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"close your side").unwrap();
        assert_eq!(common::read_to_end(&mut client), b"hello");
        let late = handles.next().write_then("late", |_| panic!("boom at the late write"));
        assert_eq!(late, Ok(()), "the connection is open, though not for output");
        let handle = server.handle();
        common::eventually("it is counted", || handle.stats().panics == 1);
        common::eventually("it ends the connection", || handle.stats().closed_panic == 1);
        common::stop_after_panics(server, 1);
    }

    fn callbacks_of_writes_that_the_stop_overtakes_are_counted_when_they_panic(driver) {
        let accepted = std::sync::Arc::new(AtomicU64::new(0));
        let counted = std::sync::Arc::clone(&accepted);
        let server = common::server(driver).loops(1).listen("tcp://127.0.0.1:0");
        let server = common::start(server, move |_| Handles {
            accepted: std::sync::Arc::clone(&counted),
            ..Handles::default()
        });
        let mut clients: Vec<_> =
            (0..4).map(|_| common::connect(common::address(&server, 0))).collect();
        for client in &mut clients {
            common::read(client, 5);
        }
        let handle = server.handle();
        server.stop();
        server.join().unwrap();
        let accepted = accepted.load(Ordering::SeqCst);
        assert!(accepted > 0, "each was written to by those that closed before it");
        assert_eq!(handle.stats().panics, accepted);
    }

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
