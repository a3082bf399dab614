//! The handler of the acceptor's loop, which hands every connection to another loop and so has
//! none of its own.

use crate::conn::Conn;
use crate::conn::input::Input;
use crate::handler::{Action, Handler};

pub(super) struct Acceptor;

impl Handler for Acceptor {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        debug_assert!(false, "the acceptor serves no connection");
        conn.close();
    }

    fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut (), _: &mut Input<'_>) -> Action {
        Action::Close
    }
}
