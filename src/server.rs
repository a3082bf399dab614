//! [`Server`], the builder that users start from.

use std::fmt;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use crate::balance::{Balance, Balancer, BuiltIn};
use crate::engine::{Defaults, Engine, Listen, ListenOn};
use crate::error::Result;
use crate::handler::{Handler, LoopInfo};
use crate::options::Options;
use crate::sys::sockopt::Keepalive;

mod limits;
mod proxied;
mod running;
#[cfg(feature = "tls")]
mod tls;

pub use running::RunningServer;

/// Sets up a server: where it listens, its event loops and its limits.
///
/// ```no_run
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
/// use tightloop::Server;
///
/// fn main() -> tightloop::Result<()> {
///     Server::new().listen("tcp://:9000").listen("unix:///tmp/echo.sock").run(|_loop| Echo)
/// }
/// ```
#[derive(Default)]
#[must_use = "a server is started by run or start"]
#[doc(alias = "Serve")]
#[doc(alias = "Options")]
pub struct Server {
    options: Options,
    listen: Vec<Listen>,
    defaults: Defaults,
}

impl Server {
    /// A server with one event loop that listens nowhere yet.
    pub fn new() -> Self {
        Server::default()
    }

    // ---- where to listen ----------------------------------------------------------------

    /// Listens on `tcp:// tcp4:// tcp6:// udp:// udp4:// udp6://` with `host:port`, on
    /// `unix://path`, or on plain `host:port` (tcp). May be called several times. An empty host is
    /// every interface, in both families for `tcp` and `udp`; port 0 lets the system choose (see
    /// [`RunningServer::local_addrs`]). A Unix path that a dead server left behind is taken over;
    /// any other file there is an error, and is never removed. Errors show at the start.
    #[doc(alias = "Rotate")]
    pub fn listen(mut self, url: impl Into<String>) -> Self {
        self.listen.push(ListenOn::Url(url.into()).into());
        self
    }

    /// Listens on a TCP listener that exists already. The server closes it when it stops.
    pub fn listen_on_tcp(mut self, listener: TcpListener) -> Self {
        self.listen.push(ListenOn::Tcp(listener).into());
        self
    }

    /// Listens on a Unix listener that exists already. Its path stays when the server stops.
    #[cfg(unix)]
    pub fn listen_on_unix(mut self, listener: std::os::unix::net::UnixListener) -> Self {
        self.listen.push(ListenOn::Unix(listener).into());
        self
    }

    /// Receives datagrams on a UDP socket that exists already.
    pub fn listen_on_udp(mut self, socket: UdpSocket) -> Self {
        self.listen.push(ListenOn::Udp(socket).into());
        self
    }

    // ---- event loops --------------------------------------------------------------------

    /// The number of event loops, each a thread. Default 1; 0 is one a core.
    #[doc(alias = "WithNumEventLoop")]
    pub fn loops(mut self, loops: usize) -> Self {
        self.options.loops = loops;
        self
    }

    /// One event loop for each core that this process may use.
    #[doc(alias = "WithMulticore")]
    pub fn loop_per_core(self) -> Self {
        self.loops(0)
    }

    /// Pins each loop's thread to a core, in turn. Default off. Linux and Android; elsewhere the
    /// start fails with `Unsupported`.
    #[doc(alias = "WithLockOSThread")]
    pub fn pin_loops(mut self, pin: bool) -> Self {
        self.options.pin_loops = pin;
        self
    }

    /// How the acceptor spreads connections over the loops. Default [`Balance::RoundRobin`].
    #[doc(alias = "WithLoadBalancing")]
    pub fn balance(mut self, balance: Balance) -> Self {
        self.options.balancer = Arc::new(move || Box::new(BuiltIn::new(balance)));
        self
    }

    /// As [`balance`](Server::balance), by a balancer of one's own.
    pub fn balancer<B: Balancer>(mut self, make: impl Fn() -> B + Send + Sync + 'static) -> Self {
        self.options.balancer = Arc::new(move || Box::new(make()));
        self
    }

    /// Gives every loop a listening socket of its own (SO_REUSEPORT): the kernel balances, and
    /// there is no acceptor. UDP sockets are then one a loop too. Listeners that were given, and
    /// Unix sockets, keep to the acceptor. Default off.
    #[doc(alias = "WithReusePort")]
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.options.listen.reuse_port = on;
        self
    }

    // ---- sockets ------------------------------------------------------------------------

    /// Connections that the kernel holds until they are accepted. Default 4,096.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.options.listen.backlog = connections;
        self
    }

    /// Binds although an earlier server's connections linger (SO_REUSEADDR). Default on.
    #[doc(alias = "WithReuseAddr")]
    pub fn reuse_addr(mut self, on: bool) -> Self {
        self.options.listen.reuse_addr = on;
        self
    }

    /// Sends small segments at once (TCP_NODELAY). Default on: the loop gathers writes itself.
    #[doc(alias = "WithTCPNoDelay")]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.options.listen.socket.nodelay = on;
        self
    }

    /// TCP keepalive on every connection. Default off.
    #[doc(alias = "WithTCPKeepAlive")]
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.options.listen.socket.keepalive = Some(keepalive);
        self
    }

    /// The kernel's send buffer of each connection, in bytes. Default: the system's.
    #[doc(alias = "WithSocketSendBuffer")]
    pub fn socket_send_buffer(mut self, bytes: usize) -> Self {
        self.options.listen.socket.send_buffer = Some(bytes);
        self
    }

    /// The kernel's receive buffer of each connection, in bytes. Default: the system's.
    #[doc(alias = "WithSocketRecvBuffer")]
    pub fn socket_receive_buffer(mut self, bytes: usize) -> Self {
        self.options.listen.socket.receive_buffer = Some(bytes);
        self
    }

    /// SO_LINGER of every connection: zero makes each close a reset. A longer time is never waited
    /// for, see [`Conn::set_linger`](crate::Conn::set_linger). Default: not set.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.options.listen.socket.linger = Some(linger);
        self
    }

    /// Whether an IPv6 listener leaves IPv4 alone. Default: as the URL says.
    pub fn ipv6_only(mut self, on: bool) -> Self {
        self.options.listen.ipv6_only = Some(on);
        self
    }

    /// Sets any other option on each listening socket, after it was bound. An error fails the
    /// start.
    pub fn on_listener_socket(
        mut self,
        hook: impl Fn(&SockRef<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.options.listener_hook = Some(Arc::new(hook));
        self
    }

    /// Sets any other option on each new connection's socket, before `on_open`. An error refuses
    /// the connection. Called on the loops' threads.
    pub fn on_connection_socket(
        mut self,
        hook: impl Fn(&SockRef<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.options.connection_hook = Some(Arc::new(hook));
        self
    }

    // ---- memory and limits --------------------------------------------------------------

    /// Bytes of each loop's one receive buffer: the most that a callback is offered at once when
    /// nothing was left over, and the longest datagram. Default 64 KiB, which holds every
    /// datagram whole. Between 1 KiB and 16 MiB.
    #[doc(alias = "WithReadBufferCap")]
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.options.receive_buffer = bytes;
        self
    }

    /// Bytes of free buffers that each loop keeps for reuse. Default 4 MiB.
    pub fn pool_retain(mut self, bytes: usize) -> Self {
        self.options.pool_retain = bytes;
        self
    }

    /// Pending output, in bytes, above which a connection counts as full, and at which it counts
    /// as drained (`on_drain`). Defaults 1 MiB and 256 KiB.
    #[doc(alias = "WithWriteBufferCap")]
    pub fn watermarks(mut self, high: usize, low: usize) -> Self {
        self.options.high_watermark = high;
        self.options.low_watermark = low;
        self
    }

    /// Stops reading from a connection while its pending output is above the high watermark: a
    /// peer that does not take answers gets to ask no more. Default on, for accepted connections;
    /// see [`Conn::set_auto_pause`](crate::Conn::set_auto_pause) for proxies.
    pub fn auto_pause(mut self, on: bool) -> Self {
        self.options.auto_pause = on;
        self
    }

    /// Pending output, in bytes, above which a connection is ended with `OutputLimit`. Default
    /// 64 MiB.
    pub fn max_pending_output(mut self, bytes: usize) -> Self {
        self.options.max_pending_output = bytes;
        self
    }

    /// Input, in bytes, that a handler may leave unconsumed though it could take it, before the
    /// connection is ended with `InputLimit`. Default 64 MiB. Input that waits because reading is
    /// paused does not count: it is never more than one `receive_buffer`.
    pub fn max_unconsumed_input(mut self, bytes: usize) -> Self {
        self.options.max_unconsumed_input = bytes;
        self
    }

    /// Commands of other threads that wait for one loop, at most; more are refused with
    /// `HandleError::Full`. Default 65,536.
    pub fn mailbox_capacity(mut self, commands: usize) -> Self {
        self.options.mailbox_capacity = commands;
        self
    }

    /// The worker pool for blocking work: threads (default 64), grown on demand, and jobs that
    /// wait for one (default 4,096).
    #[doc(alias = "NewWorkerPool")]
    pub fn workers(mut self, threads: usize, queue: usize) -> Self {
        self.options.worker_threads = threads;
        self.options.worker_queue = queue;
        self
    }

    // ---- time and ending ----------------------------------------------------------------

    /// Whether a connection stays open for writing when the peer has closed its side; see
    /// [`Handler::on_eof`]. Default off.
    pub fn half_close(mut self, on: bool) -> Self {
        self.options.half_close = on;
        self
    }

    /// How long a closing connection may make no progress with its last output. Default 30 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.options.close_timeout = timeout;
        self
    }

    /// How long, and for how many bytes of late input, a socket is kept after its connection has
    /// closed, so that the peer can read our last bytes before a reset could destroy them.
    /// Defaults 2 s and 1 MiB.
    pub fn linger_after_close(mut self, timeout: Duration, bytes: usize) -> Self {
        self.options.linger_timeout = timeout;
        self.options.linger_bytes = bytes;
        self
    }

    /// The deadline of [`ServerHandle::stop`](crate::ServerHandle::stop) and `Action::Shutdown`. Default 5 s.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.options.stop_timeout = timeout;
        self
    }

    // ---- starting -----------------------------------------------------------------------

    /// Starts the server and blocks until it has stopped. `factory` makes the handler of each
    /// loop, on the loop's thread.
    ///
    /// # Errors
    /// What cannot be bound or set up, and then nothing is left half-started; or the failure of a
    /// loop. A server that was stopped in order ends with `Ok`.
    #[doc(alias = "Run")]
    pub fn run<H, F>(self, factory: F) -> Result<()>
    where
        H: Handler,
        F: Fn(LoopInfo) -> H + Send + Sync + 'static,
    {
        self.start(factory)?.join()
    }

    /// Starts the server and returns when all loops have booted (`on_boot`).
    ///
    /// # Errors
    /// What cannot be bound or set up; nothing is left half-started.
    pub fn start<H, F>(self, factory: F) -> Result<RunningServer<H>>
    where
        H: Handler,
        F: Fn(LoopInfo) -> H + Send + Sync + 'static,
    {
        Ok(RunningServer {
            engine: Engine::start(self.options, self.listen, &self.defaults, factory)?,
        })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listen: Vec<_> = self.listen.iter().map(|listen| &listen.on).collect();
        f.debug_struct("Server").field("options", &self.options).field("listen", &listen).finish()
    }
}
