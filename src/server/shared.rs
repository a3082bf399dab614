//! The options that servers and clients have in common, written once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use crate::client::Client;
use crate::options::driver::Driver;
use crate::server::Server;
use crate::sys::sockopt::Keepalive;

/// Gives both builders the same methods.
macro_rules! for_both {
    ($($methods:tt)*) => {
        impl Server {
            $($methods)*
        }

        impl Client {
            $($methods)*
        }
    };
}

pub(super) use for_both;

for_both! {
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

    /// How the loops speak to the kernel. Default [`Driver::Auto`].
    #[doc(alias = "WithEdgeTriggeredIO")]
    pub fn driver(mut self, driver: Driver) -> Self {
        self.options.driver = driver;
        self
    }

    /// What [`Driver::Auto`] tries first: for tests of what happens where it is refused.
    #[doc(hidden)]
    pub fn auto_prefers(mut self, driver: Driver) -> Self {
        self.options.auto_prefers = driver;
        self
    }

    /// Bytes of the buffers that each loop shares among its connections for receiving by io_uring,
    /// in pieces of 4 KiB. Default 1 MiB, which stays in a core's cache. Between 64 KiB and 128
    /// MiB. Connections that stream are received into the
    /// [`receive_buffer`](Self::receive_buffer) instead.
    pub fn io_uring_buffers(mut self, bytes: usize) -> Self {
        self.options.uring_buffers = bytes;
        self
    }

    /// Not for users: entries of io_uring's two queues, for tests with small ones.
    #[doc(hidden)]
    pub fn io_uring_entries(mut self, submissions: u32, completions: u32) -> Self {
        self.options.uring_entries = (submissions, completions);
        self
    }

    // ---- sockets ------------------------------------------------------------------------

    /// Sends small segments at once (TCP_NODELAY). Default on: the loop gathers writes itself.
    #[doc(alias = "WithTCPNoDelay")]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.options.listen.socket.nodelay = on;
        self
    }

    /// TCP keepalive on every connection. Default `None`: off.
    #[doc(alias = "WithTCPKeepAlive")]
    pub fn keepalive(mut self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        self.options.listen.socket.keepalive = keepalive.into();
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
    /// for, see [`Conn::set_linger`](crate::Conn::set_linger). Default `None`: not set.
    pub fn linger(mut self, linger: impl Into<Option<Duration>>) -> Self {
        self.options.listen.socket.linger = linger.into();
        self
    }

    /// Whether datagrams of one size to or from one peer may travel through the system as one message,
    /// where it can join and cut them (Linux: UDP_GRO, UDP_SEGMENT): on connected datagram sockets,
    /// which [`connect`](crate::Context::connect) makes, with a
    /// [`receive_buffer`](Self::receive_buffer) of at least 64 KiB, which such a message may need.
    /// What leaves and arrives are single datagrams in any case. Default on.
    pub fn join_datagrams(mut self, on: bool) -> Self {
        self.options.listen.socket.lone_datagrams = !on;
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
    /// nothing was left over, and the longest datagram. Default 68 KiB, which holds every
    /// datagram whole; a message that fills the buffer costs one more system call. A loop with
    /// datagram sockets reserves as much for each of the 64 that it receives together, at most
    /// 64 KiB each. Between 1 KiB and 16 MiB.
    #[doc(alias = "MaxStreamBufferCap")]
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

    /// Pending output, in bytes, above which a connection counts as full: an accepted one is then
    /// not read from ([`auto_pause`](Server::auto_pause)). Not above
    /// [`max_pending_output`](Self::max_pending_output). Default 1 MiB: little enough for
    /// thousands of slow peers.
    #[doc(alias = "WithWriteBufferCap")]
    pub fn high_watermark(mut self, bytes: usize) -> Self {
        self.options.high_watermark = bytes;
        self
    }

    /// Pending output, in bytes, at which a connection that was full counts as drained
    /// ([`on_drain`](crate::Handler::on_drain)). Not above the high watermark. Default 256 KiB, or a
    /// fourth of the high watermark where that is less: enough that a fast peer far away finds the
    /// next bytes before it has taken the last.
    pub fn low_watermark(mut self, bytes: usize) -> Self {
        self.options.low_watermark = Some(bytes);
        self
    }

    /// Pending output, in bytes, above which a connection is ended with `OutputLimit`. Default
    /// 64 MiB: a large answer that is written at once fits, a handler that never looks at what
    /// `write` answers is found before memory is gone.
    pub fn max_pending_output(mut self, bytes: usize) -> Self {
        self.options.max_pending_output = bytes;
        self
    }

    /// Input, in bytes, that a handler may leave unconsumed though it could take it, before the
    /// connection is ended with `InputLimit`. Default 64 MiB: above any message that should be
    /// collected in memory; a protocol with smaller ones sets less. Input that waits because reading is
    /// paused does not count: it is never more than one `receive_buffer`. On a datagram connection
    /// it is what came together before the pause, of 64 messages at most; one that pauses again and
    /// again receives single messages.
    pub fn max_unconsumed_input(mut self, bytes: usize) -> Self {
        self.options.max_unconsumed_input = bytes;
        self
    }

    /// Commands of other threads that wait for one loop, at most; more are refused with
    /// `HandleError::Full`. Default 65,536: bursts of many threads fit, and a loop that hangs is
    /// noticed before memory is gone.
    pub fn mailbox_capacity(mut self, commands: usize) -> Self {
        self.options.mailbox_capacity = commands;
        self
    }

    /// Threads of the worker pool for blocking work, at most: it grows on demand. Default 64.
    #[doc(alias = "NewWorkerPool")]
    pub fn worker_threads(mut self, threads: usize) -> Self {
        self.options.worker_threads = threads;
        self
    }

    /// Jobs that may wait for a thread of the worker pool; more are refused with
    /// [`SpawnError::Full`](crate::SpawnError::Full). Default 4,096.
    pub fn worker_queue(mut self, jobs: usize) -> Self {
        self.options.worker_queue = jobs;
        self
    }

    // ---- time and ending ----------------------------------------------------------------

    /// Whether a connection stays open for writing when the peer has closed its side; see
    /// [`Handler::on_eof`](crate::Handler::on_eof). Default off.
    pub fn half_close(mut self, on: bool) -> Self {
        self.options.half_close = on;
        self
    }

    /// How long a closing connection may make no progress with its last output. Default 30 s, as
    /// for `write_stall_timeout`.
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
}
