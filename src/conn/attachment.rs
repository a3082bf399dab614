//! What a program hands to a connection that it asks for, for the handler that opens it.

use std::any::Any;
use std::sync::Arc;

use crate::conn::Conn;

/// Of any type, for one connection or for all attempts at it.
pub(crate) type Attachment = Arc<dyn Any + Send + Sync>;

impl Conn<'_> {
    /// What [`Connect::attach`](crate::Connect::attach) or [`Adopt::attach`](crate::Adopt::attach) has
    /// given along, in `on_open` and `on_open_failed`. `None` if nothing of this type was, or later: what is
    /// still needed then belongs into the state.
    ///
    /// ```
    /// use tightloop::{Action, Conn, Handler, Input};
    ///
    /// struct Account(u64);
    /// struct Agent;
    ///
    /// impl Handler for Agent {
    ///     type State = u64;
    ///
    ///     fn on_open(&mut self, conn: &mut Conn<'_>) -> u64 {
    ///         conn.attachment::<Account>().map_or(0, |account| account.0)
    ///     }
    ///
    ///     fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut u64, input: &mut Input<'_>) -> Action {
    ///         input.take_all();
    ///         Action::Continue
    ///     }
    /// }
    /// ```
    #[doc(alias = "FromContext")]
    pub fn attachment<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let extra = self.core.table.get(self.token)?.extra.as_ref()?;
        Arc::clone(extra.attachment.as_ref()?).downcast().ok()
    }
}
