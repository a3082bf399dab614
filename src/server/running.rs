//! [`RunningServer`], what `Server::start` answers.

use std::fmt;
use std::time::Duration;

use crate::addr::Address;
use crate::conn::handle::LoopHandle;
use crate::control::ServerHandle;
use crate::engine::Engine;
use crate::error::Result;
use crate::handler::Handler;
use crate::workers::WorkerPool;

/// A server that serves. Dropping it stops it, without waiting for the end.
///
/// ```
/// # use std::time::Duration;
/// # use tightloop::Server;
/// # use tightloop::{Action, Conn, Handler, Input};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     type State = ();
/// #     fn on_open(&mut self, _: &mut Conn<'_>) {}
/// #     fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
/// #         conn.write(input.take_all());
/// #         Action::Continue
/// #     }
/// # }
/// let server = Server::new().listen("tcp://127.0.0.1:0").start(|_| Echo)?;
/// println!("on {}", server.local_addrs()[0]); // the port that the system chose
/// server.stop_within(Duration::from_secs(5)); // for connections to end; then they are cut off
/// server.join()?;
/// # Ok::<(), tightloop::Error>(())
/// ```
#[must_use = "dropping a running server stops it"]
pub struct RunningServer<H: Handler> {
    pub(super) engine: Engine<H>,
}

impl<H: Handler> RunningServer<H> {
    /// A handle for any thread.
    pub fn handle(&self) -> ServerHandle {
        self.engine.server.clone()
    }

    /// See [`ServerHandle::local_addrs`].
    pub fn local_addrs(&self) -> &[Address] {
        self.engine.server.local_addrs()
    }

    /// The event loops, to run closures there.
    pub fn loops(&self) -> &[LoopHandle<H>] {
        &self.engine.loops
    }

    /// The worker pool that `Conn::spawn` uses.
    pub fn workers(&self) -> &WorkerPool {
        &self.engine.workers
    }

    /// See [`ServerHandle::stop`].
    pub fn stop(&self) {
        self.engine.server.stop();
    }

    /// See [`ServerHandle::stop_within`].
    pub fn stop_within(&self, deadline: Duration) {
        self.engine.server.stop_within(deadline);
    }

    /// Waits until the server has stopped. Jobs that still run on the worker pool then get one
    /// more second.
    ///
    /// # Errors
    /// The failure of a loop that ended the server.
    pub fn join(mut self) -> Result<()> {
        self.engine.join()
    }
}

impl<H: Handler> Drop for RunningServer<H> {
    fn drop(&mut self) {
        self.engine.server.stop();
    }
}

impl<H: Handler> fmt::Debug for RunningServer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningServer").field("server", &self.engine.server).finish_non_exhaustive()
    }
}
