//! What is set on a connection while it is still being made holds once it is open.

mod common;

use std::net::TcpListener;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tightloop::{Action, CloseReason, Conn, Direction, Endpoint, Handler, Input};

/// Connects to a silent back end for each client, and sets the new connection's timers at once.
struct Impatient {
    to: Endpoint,
    told: Sender<&'static str>,
}

impl Handler for Impatient {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        if conn.direction() == Direction::Outgoing {
            return self.told.send("open").expect("the test listens");
        }
        let id = conn.connect(&self.to).expect("a stream endpoint");
        let mut connecting = conn.peer(id).expect("it is being made");
        connecting.set_timer(Duration::ZERO);
        connecting.set_idle_timeout(Duration::from_millis(50));
    }

    fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut (), _: &mut Input<'_>) -> Action {
        Action::Close
    }

    fn on_timer(&mut self, _: &mut Conn<'_>, _: &mut ()) -> Action {
        self.told.send("timer").expect("the test listens");
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, _: (), reason: CloseReason) {
        if conn.direction() == Direction::Outgoing {
            assert!(matches!(reason, CloseReason::IdleTimeout), "{reason}");
            self.told.send("idle").expect("the test listens");
        }
    }
}

every_driver! {
    fn timers_set_while_it_connects_fire_once_it_is_open(driver) {
        let back_end = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to: Endpoint = back_end.local_addr().unwrap().to_string().parse().unwrap();
        let (told, events) = common::events();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            Impatient { to: to.clone(), told: told.clone() }
        });
        let client = common::connect(common::address(&server, 0));
        assert_eq!([events.next(), events.next(), events.next()], ["open", "timer", "idle"]);
        drop(client);
        common::stop(server);
    }
}
