//! Echo over TCP, UDP and Unix sockets at once: what comes in goes out.
use tightloop::{Action, Conn, Datagram, Handler, Input, Server};

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_open(&mut self, _conn: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        conn.write(input.take_all());
        Action::Continue
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        datagram.reply(datagram.payload());
        Action::Continue
    }
}

fn main() -> tightloop::Result<()> {
    Server::new()
        .listen("tcp://:9000")
        .listen("udp://:9000")
        .listen("unix:///tmp/smoke/s")
        .run(|_| Echo)
}
