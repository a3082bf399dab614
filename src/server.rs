//! [`Server`], the builder that users start from.

use std::fmt;
use std::io;
use std::sync::Arc;

use socket2::SockRef;

use crate::balance::{Balance, Balancer, BuiltIn};
use crate::engine::{Defaults, Engine, Found, Listen, ListenOn};
use crate::error::Result;
use crate::handler::{Handler, LoopInfo};
use crate::options::Options;
use crate::sys::interface::Interface;
use crate::sys::multicast::Multicast;

mod given;
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
#[doc(alias = "WithOptions")]
#[doc(alias = "Options")]
pub struct Server {
    options: Options,
    listen: Vec<Listen>,
    found: Found,
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

    /// As [`listen`](Server::listen), on a `udp` URL, and joins multicast groups. Where the URL's host is
    /// a group, that is joined too: [`listen`](Server::listen) alone does so, on the interface
    /// of an IPv6 scope (`udp://[ff02::fb%eth0]:5353`) or the system's choice.
    ///
    /// A socket on a group's address hears this group alone, and other programs may listen there too
    /// ([`reuse_addr`](Server::reuse_addr); not on Windows, which binds to all addresses instead). One on
    /// all addresses hears every group that it has joined, no other (on Linux IP_MULTICAST_ALL is
    /// switched off), and datagrams to itself; [`Datagram::local_addr`](crate::Datagram::local_addr)
    /// tells which. A socket of both families joins groups of both on Linux and Android, elsewhere
    /// those of IPv6. With [`reuse_port`](Server::reuse_port) it is still one socket, on
    /// one loop, as each would be given every datagram.
    ///
    /// # Errors
    /// At the start: [`Error::Unsupported`](crate::Error::Unsupported) for another URL than `udp`,
    /// [`Error::Listen`](crate::Error::Listen), naming group and interface, for an address that is no group or of
    /// the wrong family, an interface that is not there, or what the system lacks.
    ///
    /// ```no_run
    /// # use tightloop::{Group, Multicast, Server};
    /// # use std::net::Ipv4Addr;
    /// let news = Multicast::new().join(Group::new(Ipv4Addr::new(239, 1, 2, 3)).on("eth0"));
    /// let server = Server::new().listen_multicast("udp://:5000", news);
    /// # let _ = server;
    /// ```
    #[doc(alias = "WithMulticastInterfaceIndex")]
    pub fn listen_multicast(mut self, url: impl Into<String>, multicast: Multicast) -> Self {
        let on = ListenOn::Url(url.into());
        self.listen.push(Listen { multicast: Some(multicast), ..on.into() });
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
    /// there is no acceptor. UDP sockets are then one a loop too. Unix sockets keep to the acceptor,
    /// and so do listeners that were given with fewer sockets than there are loops. Default off.
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

    /// Accepts and receives by this network device alone: for all TCP and UDP listeners given by URL,
    /// not for Unix sockets and listeners that exist already. Outgoing connections have
    /// [`Connect::bind_device`](crate::Connect::bind_device). Default: any device.
    ///
    /// Linux, Android (SO_BINDTODEVICE), macOS, illumos and Solaris (IP_BOUND_IF); elsewhere the start
    /// fails with `Unsupported`. So it does, with the system's reason, if there is no such device,
    /// or it is not allowed: Linux asks for CAP_NET_RAW before 5.7.
    #[doc(alias = "WithBindToDevice")]
    #[doc(alias = "BindToDevice")]
    pub fn bind_device(mut self, device: impl Into<Interface>) -> Self {
        self.options.listen.device = Some(device.into());
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
    /// loop, on the loop's thread. What the loops are to share it clones into each:
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use std::sync::atomic::AtomicU64;
    /// # use tightloop::{Action, Conn, Handler, Input, Server};
    /// # struct Counting { all: Arc<AtomicU64> }
    /// # impl Handler for Counting {
    /// #     type State = ();
    /// #     fn on_open(&mut self, _: &mut Conn<'_>) {}
    /// #     fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
    /// #         input.take_all();
    /// #         Action::Continue
    /// #     }
    /// # }
    /// let all = Arc::new(AtomicU64::new(0));
    /// Server::new().listen("tcp://:9000").run(move |_loop| Counting { all: Arc::clone(&all) })?;
    /// # Ok::<(), tightloop::Error>(())
    /// ```
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
            engine: Engine::start(self.options, self.listen, self.found, &self.defaults, factory)?,
        })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listen: Vec<_> = self.listen.iter().map(|listen| &listen.on).collect();
        f.debug_struct("Server").field("options", &self.options).field("listen", &listen).finish()
    }
}
