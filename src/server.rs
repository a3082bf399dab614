//! [`Server`], the builder that users start from.

use std::fmt;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use socket2::SockRef;

use crate::balance::{Balance, Balancer, BuiltIn};
use crate::engine::{Defaults, Engine, Listen, ListenOn};
use crate::error::Result;
use crate::handler::{Handler, LoopInfo};
use crate::options::Options;

mod limits;
mod proxied;
mod running;
mod shared;
mod shared_limits;
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

    // ---- connections --------------------------------------------------------------------

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
    /// Unix sockets, keep to the acceptor. Default off. Linux, Android, FreeBSD and DragonFly;
    /// elsewhere the start fails with `Unsupported`.
    #[doc(alias = "WithReusePort")]
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.options.listen.reuse_port = on;
        self
    }

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

    /// Stops reading from a connection while its pending output is above the high watermark: a
    /// peer that does not take answers gets to ask no more. Default on, for accepted connections;
    /// see [`Conn::set_auto_pause`](crate::Conn::set_auto_pause) for proxies.
    pub fn auto_pause(mut self, on: bool) -> Self {
        self.options.auto_pause = on;
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
