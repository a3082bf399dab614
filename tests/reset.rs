//! A peer that goes away without reading: what it has sent counts all the same.

mod common;

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use tightloop::{Action, CloseReason, Conn, Handler, Input};

/// Greets, holds the loop at the first input until told to go on, and acknowledges every byte.
struct Acknowledging {
    go_on: Receiver<()>,
    reached: Sender<()>,
    ended: Sender<(usize, CloseReason)>,
}

impl Handler for Acknowledging {
    type State = usize;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> usize {
        conn.write(b"a greeting that is never read");
        0
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        sum: &mut usize,
        input: &mut Input<'_>,
    ) -> Action {
        if *sum == 0 {
            self.reached.send(()).expect("the test listens");
            self.go_on.recv().expect("the test goes on");
        }
        *sum += input.take_all().len();
        conn.write(b"ok");
        Action::Continue
    }

    fn on_close(&mut self, _: &mut Conn<'_>, sum: usize, reason: CloseReason) {
        self.ended.send((sum, reason)).expect("the test listens");
    }
}

every_driver! {
    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn input_that_came_before_a_reset_is_offered_though_answers_fail(driver) {
        // Less than the kernel's buffers hold, and more than one receive.
        const SENT: usize = 40_000;
        let (go, go_on) = channel();
        let (reached, at_first_input) = common::events();
        let (ended, end) = common::events();
        let parts = Mutex::new(Some((go_on, reached, ended)));
        let server = common::start(
            common::server(driver).listen("tcp://127.0.0.1:0").receive_buffer(4096),
            move |_| {
                let (go_on, reached, ended) =
                    parts.lock().expect("one loop").take().expect("one loop");
                Acknowledging { go_on, reached, ended }
            },
        );
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(&common::pattern(SENT)).expect("the kernel takes it");
        at_first_input.next();
        common::eventually("all has left the client", || unsent(&client) == 0);
        // The greeting is unread, so this is a reset.
        drop(client);
        go.send(()).expect("the handler waits");
        let (sum, reason) = end.next();
        assert_eq!(sum, SENT, "{reason}");
        assert!(matches!(reason, CloseReason::PeerReset(_)), "{reason}");
        common::stop(server);
    }
}

/// Bytes that the peer's kernel has not acknowledged yet: from the table of sockets, where each
/// line has the local port and the transmit queue in hexadecimal.
fn unsent(client: &std::net::TcpStream) -> usize {
    let port = format!(":{:04X}", client.local_addr().expect("a socket").port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table");
    let line = table
        .lines()
        .find(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port)));
    let queues = line.and_then(|line| line.split_whitespace().nth(4)).unwrap_or("FFFF:0");
    usize::from_str_radix(queues.split(':').next().unwrap_or("0"), 16).expect("hexadecimal")
}
