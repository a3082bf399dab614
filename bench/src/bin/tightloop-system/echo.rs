//! Every byte and every datagram is sent back.

use tightloop::{Action, Conn, Datagram, Handler, Input};

pub struct Echo;

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

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        datagram.reply(datagram.payload());
        Action::Continue
    }
}
