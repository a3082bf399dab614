//! What [`Conn`] does for adapters that call handlers several times for one input.

use super::Conn;
use crate::error::CloseReason;

impl Conn<'_> {
    /// The same connection, lent for a shorter time.
    pub(crate) fn reborrow(&mut self) -> Conn<'_> {
        Conn { core: self.core, sockets: self.sockets, token: self.token, received: self.received }
    }

    /// Whether the handler may be given more of the input that it has, now. If it may not because
    /// of its pending output, what it leaves is offered again when that has drained.
    pub(crate) fn may_go_on(&mut self) -> bool {
        self.core.may_go_on(self.token)
    }

    /// Delivers what was written, then closes for `reason`.
    pub(crate) fn close_for(&mut self, reason: CloseReason) {
        if let Some(conn) = self.core.table.get_mut(self.token) {
            conn.close(reason);
        }
        self.core.touch(self.token);
    }

    /// Has the input that was left over offered again, though nothing new arrives.
    pub(crate) fn offer_again(&mut self) {
        if let Some(conn) = self.core.table.get_mut(self.token) {
            conn.want_offer |= !conn.inbound.is_empty();
        }
        self.core.touch(self.token);
    }
}
