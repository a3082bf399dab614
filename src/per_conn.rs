//! A thin adapter: an object per connection instead of a handler with a state per connection.

use crate::conn::Conn;
use crate::conn::input::Input;
use crate::error::CloseReason;
use crate::handler::{Action, Handler};

/// One connection's protocol as an object; see [`per_conn`]. The methods are those callbacks of
/// [`Handler`] that belong to one connection, with the state as `self`. A protocol that ticks,
/// receives datagrams, or makes connections and has to hear of those that fail is a [`Handler`].
pub trait Session: 'static {
    /// See [`Handler::on_traffic`].
    fn on_traffic(&mut self, conn: &mut Conn<'_>, input: &mut Input<'_>) -> Action;

    /// See [`Handler::pre_write`].
    fn pre_write(&mut self, conn: &mut Conn<'_>, pending: usize) {
        let _ = (conn, pending);
    }

    /// See [`Handler::on_drain`].
    fn on_drain(&mut self, conn: &mut Conn<'_>) -> Action {
        let _ = conn;
        Action::Continue
    }

    /// See [`Handler::on_eof`].
    fn on_eof(&mut self, conn: &mut Conn<'_>) -> Action {
        let _ = conn;
        Action::Close
    }

    /// See [`Handler::on_secured`].
    fn on_secured(&mut self, conn: &mut Conn<'_>) -> Action {
        let _ = conn;
        Action::Continue
    }

    /// See [`Handler::on_wake`].
    fn on_wake(&mut self, conn: &mut Conn<'_>) -> Action {
        let _ = conn;
        Action::Continue
    }

    /// See [`Handler::on_timer`].
    fn on_timer(&mut self, conn: &mut Conn<'_>) -> Action {
        let _ = conn;
        Action::Continue
    }

    /// See [`Handler::on_close`].
    fn on_close(self, conn: &mut Conn<'_>, reason: CloseReason)
    where
        Self: Sized,
    {
        let _ = (conn, reason);
    }
}

/// The handler that [`per_conn`] makes.
#[derive(Debug, Clone)]
pub struct PerConn<F> {
    open: F,
}

/// A handler that makes an object for each connection.
///
/// ```
/// use tightloop::{Action, Conn, Input, Server, Session, per_conn};
///
/// /// Answers each message with the number of bytes seen so far.
/// struct Counter(usize);
///
/// impl Session for Counter {
///     fn on_traffic(&mut self, conn: &mut Conn<'_>, input: &mut Input<'_>) -> Action {
///         self.0 += input.take_all().len();
///         conn.write(format!("{}\n", self.0).as_bytes());
///         Action::Continue
///     }
/// }
///
/// # fn main() -> tightloop::Result<()> {
/// let server = Server::new()
///     .listen("127.0.0.1:0")
///     .start(|_loop| per_conn(|_conn: &mut Conn<'_>| Counter(0)))?;
/// # server.stop();
/// # server.join()
/// # }
/// ```
pub fn per_conn<S: Session, F>(open: F) -> PerConn<F>
where
    F: FnMut(&mut Conn<'_>) -> S + 'static,
{
    PerConn { open }
}

impl<S: Session, F: FnMut(&mut Conn<'_>) -> S + 'static> Handler for PerConn<F> {
    type State = S;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> S {
        (self.open)(conn)
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut S,
        input: &mut Input<'_>,
    ) -> Action {
        session.on_traffic(conn, input)
    }

    fn pre_write(&mut self, conn: &mut Conn<'_>, session: &mut S, pending: usize) {
        session.pre_write(conn, pending);
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, session: &mut S) -> Action {
        session.on_drain(conn)
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, session: &mut S) -> Action {
        session.on_eof(conn)
    }

    fn on_secured(&mut self, conn: &mut Conn<'_>, session: &mut S) -> Action {
        session.on_secured(conn)
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, session: &mut S) -> Action {
        session.on_wake(conn)
    }

    fn on_timer(&mut self, conn: &mut Conn<'_>, session: &mut S) -> Action {
        session.on_timer(conn)
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, session: S, reason: CloseReason) {
        session.on_close(conn, reason);
    }
}
