//! [`Client`]: event loops without listeners, for connections that are made.

use std::fmt;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use socket2::Socket;

use crate::conn::adopt::{Adopt, AdoptError, in_short};
use crate::conn::dial::Connect;
use crate::conn::handle::{ConnHandle, LoopHandle};
use crate::conn::state::Direction;
use crate::control::ServerHandle;
use crate::engine::{Defaults, Engine, Found};
use crate::error::{HandleError, Result};
use crate::handler::{Handler, LoopInfo};
use crate::metrics::Stats;
use crate::options::Options;
use crate::workers::WorkerPool;

/// Sets up event loops for outgoing connections: the same loops as a server's, with the same
/// [`Handler`], that listen nowhere.
///
/// A server needs no client to connect to others: see [`Conn::connect`](crate::Conn::connect) and
/// [`ServerHandle::connect`].
///
/// ```no_run
/// use tightloop::{Action, Client, Conn, Endpoint, Handler, Input};
///
/// struct Printer;
///
/// impl Handler for Printer {
///     type State = ();
///     fn on_open(&mut self, conn: &mut Conn<'_>) {
///         conn.write(b"GET / HTTP/1.0\r\n");
///     }
///     fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
///         print!("{}", String::from_utf8_lossy(input.take_all()));
///         Action::Continue
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let client = Client::new().start(|_loop| Printer)?;
///     let conn = client.connect("tcp://localhost:80".parse::<Endpoint>()?)?; // at once
///     conn.write("Host: localhost\r\n\r\n")?; // sent when it is connected
///     client.join()?;
///     Ok(())
/// }
/// ```
#[derive(Default)]
#[must_use = "a client is started by start"]
#[doc(alias = "NewClient")]
pub struct Client {
    pub(crate) options: Options,
    pub(crate) defaults: Defaults,
}

impl Client {
    /// A client with one event loop.
    pub fn new() -> Self {
        Client::default()
    }

    /// Starts the loops and returns when they have booted (`on_boot`). `factory` makes the handler
    /// of each loop, on the loop's thread.
    ///
    /// # Errors
    /// What cannot be set up; nothing is left half-started.
    pub fn start<H, F>(self, factory: F) -> Result<RunningClient<H>>
    where
        H: Handler,
        F: Fn(LoopInfo) -> H + Send + Sync + 'static,
    {
        let engine =
            Engine::start(self.options, Vec::new(), Found::default(), &self.defaults, factory)?;
        let handle = ClientHandle { loops: engine.server.clone() };
        Ok(RunningClient { engine, handle })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A client whose loops run. Dropping it stops it, without waiting for the end.
#[must_use = "dropping a running client stops it"]
pub struct RunningClient<H: Handler> {
    engine: Engine<H>,
    handle: ClientHandle,
}

impl<H: Handler> RunningClient<H> {
    /// A handle for any thread.
    pub fn handle(&self) -> ClientHandle {
        self.handle.clone()
    }

    /// See [`ClientHandle::connect`].
    ///
    /// # Errors
    /// As for [`ClientHandle::connect`].
    #[doc(alias = "Dial")]
    pub fn connect(&self, to: impl Into<Connect>) -> Result<ConnHandle> {
        self.handle.connect(to)
    }

    /// The event loops, to run closures there.
    pub fn loops(&self) -> &[LoopHandle<H>] {
        &self.engine.loops
    }

    /// The worker pool that `Conn::spawn` and the look-up of names use.
    pub fn workers(&self) -> &WorkerPool {
        &self.engine.workers
    }

    /// See [`ClientHandle::stop`].
    pub fn stop(&self) {
        self.handle.stop();
    }

    /// See [`ClientHandle::stop_within`].
    pub fn stop_within(&self, deadline: Duration) {
        self.handle.stop_within(deadline);
    }

    /// Waits until the client has stopped, which a handler can ask for too
    /// ([`Action::Shutdown`](crate::Action)). Jobs that still run on the worker pool then get one
    /// more second.
    ///
    /// # Errors
    /// The failure of a loop that ended the client.
    pub fn join(mut self) -> Result<()> {
        self.engine.join()
    }
}

impl<H: Handler> Drop for RunningClient<H> {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

impl<H: Handler> fmt::Debug for RunningClient<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningClient").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// A running client, seen from any thread. Cheap to clone; no method blocks. Callbacks have the
/// same loops as [`Conn::server`](crate::Conn::server).
#[derive(Clone)]
pub struct ClientHandle {
    loops: ServerHandle,
}

impl ClientHandle {
    /// Starts a connection, on the loop that has the fewest, and answers its handle at once; see
    /// [`ServerHandle::connect`].
    ///
    /// # Errors
    /// As for [`ServerHandle::connect`].
    #[doc(alias = "Dial")]
    #[doc(alias = "DialContext")]
    pub fn connect(&self, to: impl Into<Connect>) -> Result<ConnHandle> {
        self.loops.connect(to)
    }

    /// Makes a socket that was connected elsewhere a connection of a loop, as
    /// [`ServerHandle::adopt`] does, and as outgoing where nothing else is said.
    ///
    /// # Errors
    /// As for [`ServerHandle::adopt`]; each gives the socket back.
    #[doc(alias = "Enroll")]
    #[doc(alias = "EnrollContext")]
    pub fn adopt<S>(&self, adopt: Adopt<S>) -> Result<ConnHandle, AdoptError<S>>
    where
        S: Into<Socket> + From<Socket>,
    {
        self.loops.adopt_as(adopt, Direction::Outgoing)
    }

    /// As [`adopt`](ClientHandle::adopt), for the loop that has the fewest. A stream that is refused
    /// is closed.
    ///
    /// # Errors
    /// The system's, for a stream that is not connected; `NotConnected` too if the client has
    /// stopped, with [`HandleError::Closed`] as its source.
    #[doc(alias = "Enroll")]
    pub fn adopt_tcp(&self, stream: TcpStream) -> io::Result<ConnHandle> {
        in_short(self.adopt(Adopt::new(stream)))
    }

    /// As [`adopt_tcp`](ClientHandle::adopt_tcp), for a Unix stream.
    ///
    /// # Errors
    /// As for [`adopt_tcp`](ClientHandle::adopt_tcp).
    #[cfg(unix)]
    #[doc(alias = "Enroll")]
    pub fn adopt_unix(&self, stream: std::os::unix::net::UnixStream) -> io::Result<ConnHandle> {
        in_short(self.adopt(Adopt::new(stream)))
    }

    /// As [`adopt_tcp`](ClientHandle::adopt_tcp), for a UDP socket that is connected.
    ///
    /// # Errors
    /// As for [`adopt_tcp`](ClientHandle::adopt_tcp).
    #[doc(alias = "Enroll")]
    pub fn adopt_udp(&self, socket: UdpSocket) -> io::Result<ConnHandle> {
        in_short(self.adopt(Adopt::new(socket)))
    }

    /// Open connections on all loops; see [`ServerHandle::connections`].
    pub fn connections(&self) -> usize {
        self.loops.connections()
    }

    /// What the loops have counted since the client started.
    pub fn stats(&self) -> Stats {
        self.loops.stats()
    }

    /// The number of event loops.
    pub fn loop_count(&self) -> usize {
        self.loops.loop_count()
    }

    /// Writes `bytes` to every open connection; see [`ServerHandle::broadcast`].
    ///
    /// # Errors
    /// As for [`ServerHandle::broadcast`].
    pub fn broadcast(&self, bytes: impl Into<Bytes>) -> Result<(), HandleError> {
        self.loops.broadcast(bytes)
    }

    /// Stops the client as [`stop_within`](ClientHandle::stop_within) does, with the option
    /// `stop_timeout` as the deadline.
    pub fn stop(&self) {
        self.loops.stop();
    }

    /// Stops the client in order: what is being connected is given up, what was written is
    /// delivered (for at most `deadline`), every connection gets its `on_close`, each loop its
    /// `on_shutdown`. Returns at once.
    pub fn stop_within(&self, deadline: Duration) {
        self.loops.stop_within(deadline);
    }

    /// Whether the client was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.loops.is_stopping()
    }
}

impl fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandle")
            .field("loop_count", &self.loop_count())
            .field("stopping", &self.is_stopping())
            .finish_non_exhaustive()
    }
}
