//! Bytes behind a place where the kernel ends a receive early: they must not wait for the next
//! packet, which may never come.

mod common;

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use socket2::SockRef;
use tightloop::{Action, Conn, Handler, Input};

/// Holds the loop at the first input, so that all that follows is in the kernel when it goes on.
struct Held {
    reached: Sender<()>,
    go_on: Receiver<()>,
    held: bool,
}

impl Handler for Held {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        if !std::mem::replace(&mut self.held, true) {
            self.reached.send(()).expect("the test listens");
            self.go_on.recv().expect("the test goes on");
        }
        conn.write(input.take_all());
        Action::Continue
    }
}

every_driver! {
    fn bytes_behind_urgent_data_are_offered_at_once(driver) {
        let (reached, at_first_input) = common::events();
        let (go, go_on) = channel();
        let parts = Mutex::new(Some((reached, go_on)));
        let server = common::start(
            common::server(driver).listen("tcp://127.0.0.1:0"),
            move |_| {
                let (reached, go_on) = parts.lock().expect("one").take().expect("one loop");
                Held { reached, go_on, held: false }
            },
        );
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"first ").expect("it leaves");
        at_first_input.next();
        client.write_all(b"before ").expect("it leaves");
        SockRef::from(&client).send_out_of_band(b"!").expect("it leaves");
        client.write_all(b"behind").expect("it leaves");
        go.send(()).expect("the handler waits");
        assert_eq!(common::read(&mut client, 19), b"first before behind");
        common::stop(server);
    }
}
