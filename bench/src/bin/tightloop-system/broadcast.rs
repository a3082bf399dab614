//! What any connection sends is sent to every connection, on whichever loop it is.

use bytes::Bytes;
use tightloop::{Action, Conn, Handler, Input};

pub struct Broadcast;

impl Handler for Broadcast {
    type State = ();

    fn on_open(&mut self, _conn: &mut Conn<'_>) {}

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        _state: &mut (),
        input: &mut Input<'_>,
    ) -> Action {
        let bytes = Bytes::copy_from_slice(input.as_slice());
        // One command a loop, carried out in this same turn on this one. Where a mailbox is full,
        // the bytes stay in the input of no one: the connection ends rather than lose them silently.
        match conn.server().broadcast(bytes) {
            Ok(()) => {
                input.take_all();
                Action::Continue
            }
            Err(_) => Action::Close,
        }
    }
}
