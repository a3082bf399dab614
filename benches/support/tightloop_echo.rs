//! The same echo on tightloop.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use tightloop::{Action, Conn, Handler, Input, Server};

use super::proc::{current_tid, pin_to_cpu};
use super::{SERVER_CPU, ServerUnderTest};

const START_MAX: Duration = Duration::from_secs(5);

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_open(&mut self, _conn: &mut Conn<'_>) {}

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        _state: &mut (),
        input: &mut Input<'_>,
    ) -> Action {
        conn.write(input.take_all());
        Action::Continue
    }
}

/// Starts this server with one loop, whose factory runs on the loop's thread: there it is pinned and
/// its id recorded.
pub fn start_tightloop(server: Server) -> ServerUnderTest {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let factory = move |_loop| {
        pin_to_cpu(SERVER_CPU);
        let sender = sender.lock().expect("no factory panics");
        let _ = sender.send(current_tid()); // only the first loop is waited for
        Echo
    };
    let running = server.loops(1).start(factory).expect("the server starts");
    let tid = receiver.recv_timeout(START_MAX).expect("a loop starts");
    assert!(receiver.try_recv().is_err(), "one thread is charged, so there must be one loop");
    let addr = running.local_addrs()[0].socket_addr().expect("a TCP listener");
    let stop = Box::new(move || {
        running.stop();
        running.join().expect("the server ends in order");
    });
    ServerUnderTest { addr, tid, stop }
}
