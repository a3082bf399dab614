//! Chapter 1 of the guide (docs/guide): a server that greets, echoes, and says who left and why.

use tightloop::{Action, CloseReason, Conn, Handler, Input, Server};

struct Greeter;

impl Handler for Greeter {
    type State = (); // nothing is kept for a connection

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        let greeting = format!("hello, {}\n", conn.peer_addr());
        conn.write(greeting.as_bytes());
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        conn.write(input.take_all());
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, _: (), reason: CloseReason) {
        println!("{}: {reason}", conn.peer_addr());
    }
}

fn main() -> tightloop::Result<()> {
    let url = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:9000".to_owned());
    let server = Server::new().listen(url).start(|_loop| Greeter)?;
    println!("listening on {}", server.local_addrs()[0]);
    server.join()
}
