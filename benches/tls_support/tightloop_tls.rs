//! The echo on tightloop.

use std::sync::{Arc, Mutex, mpsc};

use rustls::ServerConfig;
use tightloop::{Action, Conn, Handler, Input, Server};

use super::{SERVER_CPU, ServerUnderTest};
use crate::proc::{current_tid, pin_to_cpu};

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_open(&mut self, _conn: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        conn.write(input.take_all());
        Action::Continue
    }
}

/// Starts a server with one loop, pinned, its thread's id recorded.
pub fn start(config: Arc<ServerConfig>) -> ServerUnderTest {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let factory = move |_loop| {
        pin_to_cpu(SERVER_CPU);
        let _ = sender.lock().expect("no factory panics").send(current_tid());
        Echo
    };
    let server = Server::new().listen("tls://127.0.0.1:0").tls(config);
    let running = server.start(factory).expect("the server starts");
    let tid = receiver.recv().expect("a loop starts");
    let addr = running.local_addrs()[0].socket_addr().expect("a TCP listener");
    let stop = Box::new(move || {
        running.stop();
        running.join().expect("the server ends in order");
    });
    ServerUnderTest { addr, tid, stop }
}
