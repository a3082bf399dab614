//! A running server as other threads see it: [`ServerHandle`], and what it shares with the loops.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;

use crate::addr::Address;
use crate::balance::Balancer;
use crate::conn::admission::Admission;
use crate::conn::command::Command;
use crate::conn::dial::{Connect, Dial};
use crate::conn::handle::{ConnHandle, Promise};
use crate::driver::Waker;
use crate::error::{Error, HandleError, Result};
use crate::listen_socket::{ListenSocket, Listening};
use crate::metrics::{Counter, LoopMetrics, Stats};
use crate::options::Options;
use crate::sync::mailbox::{Mailbox, Rejected};
use crate::sync::wake::WakeFlag;
use crate::tls::MakeNamedSession;

/// What one loop shares with other threads.
pub(crate) struct LoopShared {
    pub(crate) index: u16,
    pub(crate) commands: Mailbox<Command>,
    pub(crate) wake: WakeFlag,
    /// Set when the loop's driver exists; before that the loop is awake and looks at its
    /// mailboxes before it first sleeps.
    pub(crate) waker: OnceLock<Waker>,
    pub(crate) metrics: LoopMetrics,
    /// The loop takes nothing any more.
    pub(crate) ended: AtomicBool,
    /// Connections handed over by the acceptor; it alone writes this.
    pub(crate) handed: Counter,
    /// Connections taken over from the acceptor; the loop alone writes this.
    pub(crate) taken: Counter,
    /// Connections taken over that are not open yet, as a TLS handshake or a PROXY header comes
    /// first; the loop alone writes this.
    pub(crate) opening: Counter,
    /// Connections that other threads have asked for and that are not open yet.
    pub(crate) promised: AtomicUsize,
    /// Listeners of the loop from which connections may still come, and one more as long as it was
    /// not told to stop accepting. The loop alone writes this, as the next one.
    pub(crate) accepting: Counter,
    /// Connections in whatever phase, and those that wait for a place; never too few.
    pub(crate) held: Counter,
}

impl LoopShared {
    pub(crate) fn new(index: u16, mailbox_capacity: usize) -> Self {
        LoopShared {
            index,
            commands: Mailbox::new(mailbox_capacity),
            wake: WakeFlag::new(),
            waker: OnceLock::new(),
            metrics: LoopMetrics::default(),
            ended: AtomicBool::new(false),
            handed: Counter::default(),
            taken: Counter::default(),
            opening: Counter::default(),
            promised: AtomicUsize::new(0),
            accepting: Counter::default(),
            held: Counter::default(),
        }
    }

    /// Queues a command and rings the loop if it sleeps; a refused command comes back.
    pub(crate) fn send(&self, command: Command) -> Result<(), (HandleError, Command)> {
        self.commands.push(command).map_err(Rejected::split)?;
        self.ring();
        Ok(())
    }

    /// As `send`, past the mailbox's bound, for what is bounded elsewhere.
    pub(crate) fn send_reserved(&self, command: Command) -> Result<(), Command> {
        self.commands.push_reserved(command).map_err(|rejected| rejected.split().1)?;
        self.ring();
        Ok(())
    }

    /// Wakes the loop if it sleeps.
    pub(crate) fn ring(&self) {
        if self.wake.must_ring()
            && let Some(waker) = self.waker.get()
        {
            waker();
        }
    }

    /// Whether the loop has no connection left and will get none from a listener.
    fn is_drained(&self) -> bool {
        // In this order: whoever comes is counted by the next before he leaves the one before.
        self.ended.load(Ordering::Acquire)
            || self.accepting.observe() == 0
                && self.taken.observe() == self.handed.observe()
                && self.promised.load(Ordering::Acquire) == 0
                && self.held.observe() == 0
    }

    /// Connections that the loop serves or is about to.
    pub(crate) fn load(&self) -> usize {
        let open = self.metrics.opened.get().saturating_sub(self.metrics.closed.get());
        let on_the_way = self.handed.get().saturating_sub(self.taken.get());
        let opening = self.opening.get() + on_the_way;
        (open + opening) as usize + self.promised.load(Ordering::Relaxed)
    }
}

/// What all loops and handles of one server share.
pub(crate) struct ServerShared {
    /// The event loops.
    pub(crate) loops: Vec<Arc<LoopShared>>,
    /// The acceptor's loop, where one thread accepts for several.
    pub(crate) acceptor: Option<Arc<LoopShared>>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) options: Arc<Options>,
    /// The TLS of endpoints with `tls://`.
    pub(crate) tls_client: Option<MakeNamedSession>,
    pub(crate) stopping: AtomicBool,
    pub(crate) admission: Arc<Admission>,
    /// For sockets that are adopted; the acceptor has its own. Made when it is first asked.
    pub(crate) balancer: OnceLock<Mutex<Box<dyn Balancer>>>,
    /// Until the listeners close.
    pub(crate) listening: Listening,
}

/// A running server, seen from any thread. Cheap to clone; no method blocks.
///
/// ```
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
/// let handle = server.handle();
///
/// std::thread::spawn(move || {
///     assert_eq!(handle.connections(), 0);
///     println!("{}", handle.stats().to_prometheus("echo"));
///     handle.stop();
/// });
/// server.join()?;
/// # Ok::<(), tightloop::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias = "Engine")]
pub struct ServerHandle {
    pub(crate) shared: Arc<ServerShared>,
}

impl ServerHandle {
    /// Open connections on all loops: those whose `on_open` was called and `on_close` was not.
    /// Unconnected UDP sockets do not count.
    #[doc(alias = "CountConnections")]
    pub fn connections(&self) -> usize {
        let stats = self.stats();
        stats.opened.saturating_sub(stats.closed) as usize
    }

    /// What the loops have counted since the server started.
    pub fn stats(&self) -> Stats {
        let mut total = Stats::default();
        for shared in self.shared.loops.iter().chain(&self.shared.acceptor) {
            shared.metrics.add_to(&mut total);
        }
        total
    }

    /// The addresses listened on, in the order of the `listen` calls, with the ports that the
    /// system chose where port 0 was asked for.
    pub fn local_addrs(&self) -> &[Address] {
        &self.shared.addresses
    }

    /// The number of event loops.
    pub fn loop_count(&self) -> usize {
        self.shared.loops.len()
    }

    /// Writes `bytes` to every connection that is open when its loop gets to it. The payload is
    /// shared, not copied for each connection (below 512 bytes it is, which is cheaper).
    ///
    /// # Errors
    /// [`HandleError::Closed`] if the server has stopped, [`HandleError::Full`] if a loop's
    /// mailbox is full: the other loops have the bytes nevertheless.
    pub fn broadcast(&self, bytes: impl Into<Bytes>) -> Result<(), HandleError> {
        let bytes = bytes.into();
        let mut result = Ok(());
        for shared in &self.shared.loops {
            let sent = shared.send(Command::Broadcast { bytes: bytes.clone(), from: 0 });
            result = result.and(sent.map_err(|(error, _)| error));
        }
        result
    }

    /// Starts an outgoing connection, on the loop that has the fewest, and answers its handle at
    /// once. What is written through the handle before it is connected is sent when it opens, and a
    /// close gives it up. How it went is told to the handler of its loop, by `on_open` or
    /// `on_open_failed`; see [`Conn::connect`](crate::Conn::connect). Where the server is stopped
    /// meanwhile, the handle may be all that tells so.
    ///
    /// # Errors
    /// As [`Conn::connect`](crate::Conn::connect); [`Error::Full`] when too much is queued for the
    /// loop (option `mailbox_capacity`).
    #[doc(alias = "Dial")]
    #[doc(alias = "DialContext")]
    pub fn connect(&self, to: impl Into<Connect>) -> Result<ConnHandle> {
        let dial = Dial::new(to.into(), self.shared.tls_client.as_ref())?;
        if self.is_stopping() {
            return Err(Error::Stopped);
        }
        let (owner, promise, handle) = self.promise().ok_or(Error::Stopped)?;
        match owner.send(Command::Connect { dial, promise }) {
            Ok(()) => Ok(handle),
            Err((HandleError::Full, _)) => Err(Error::Full),
            Err((HandleError::Closed, _)) => Err(Error::Stopped),
        }
    }

    /// A connection of the loop that has the fewest.
    fn promise(&self) -> Option<(&LoopShared, Promise, ConnHandle)> {
        let owner = self.shared.loops.iter().min_by_key(|shared| shared.load())?;
        let (promise, handle) = Promise::new(owner, self.shared.options.max_pending_output);
        Some((owner, promise, handle))
    }

    /// Closes the listeners of all loops: nobody new comes in, and clients that the system has
    /// accepted but the server has not are reset. Whom the server has accepted by then is still
    /// told of, if there is a place for it: with the io_uring driver, which accepts ahead, that may be
    /// some connections a listener. Open connections go on as before, and callbacks
    /// may still connect; UDP sockets still receive. Returns at once.
    ///
    /// This is the first half of a stop that waits for the connections to end by themselves: then
    /// wait until [`is_drained`](ServerHandle::is_drained), as long as your patience goes, and
    /// [`stop`](ServerHandle::stop). (No open [`connections`](ServerHandle::connections) is less: some
    /// may be on their way.)
    /// Where a successor has the listeners too, it is
    /// [`release_listeners`](ServerHandle::release_listeners) that loses nobody.
    pub fn stop_accepting(&self) {
        self.shared.listening.close();
        for shared in self.shared.acceptor.iter().chain(&self.shared.loops) {
            // A loop that has ended has no listeners either.
            drop(shared.send_reserved(Command::StopAccepting));
        }
    }

    /// As [`stop_accepting`](ServerHandle::stop_accepting), where the listening sockets live on in
    /// duplicates, with whoever has taken them over: a [`Successor`](crate::Successor), or another
    /// process or server that got them by [`dup_listener`](ServerHandle::dup_listener). Clients in
    /// the backlog are left there. All that the server has accepted by then are served, also those
    /// that wait for a place among [`max_connections`](crate::Server::max_connections). The paths
    /// of Unix sockets stay. Returns at once; how far it is tells
    /// [`is_drained`](ServerHandle::is_drained).
    ///
    /// UDP sockets receive no more, either: what arrives is for whoever has the socket too. What the
    /// server still sends leaves by them. Until then, while two servers receive from one socket, each
    /// datagram comes to either of them.
    pub fn release_listeners(&self) {
        self.shared.listening.release();
        self.stop_accepting();
    }

    /// Whether the listeners are closed, by [`stop_accepting`](ServerHandle::stop_accepting) or
    /// [`release_listeners`](ServerHandle::release_listeners), and no connection is left: none that
    /// is open, on its way from the acceptor to its loop, in a handshake, or still to be fetched
    /// from the system. [`stop`](ServerHandle::stop) then disturbs nobody.
    pub fn is_drained(&self) -> bool {
        self.shared.acceptor.iter().chain(&self.shared.loops).all(|shared| shared.is_drained())
    }

    /// Duplicates of the sockets of one listener, counted in the order of the `listen` calls, for
    /// another server or another process. There are as many as the listener has: one, or with
    /// [`reuse_port`](crate::Server::reuse_port) one a loop. [`Server::listen_on`] takes them.
    ///
    /// A duplicate is the same socket under another number. It has the same backlog and the same
    /// options, and is non-blocking; as that is a property of the socket, it must stay so as long
    /// as the server uses it. The number is closed on exec. Do not keep one for long: after the
    /// server has closed its own, the system still takes connections for those that are left.
    ///
    /// Where each loop has a socket of its own, each has a backlog of its own, and whoever takes
    /// over must accept from all: with the last number of a socket its backlog is reset.
    ///
    /// # Errors
    /// `InvalidInput` if there is no such listener; `NotConnected` once the server has stopped
    /// accepting; the system's, where there are no descriptors left.
    ///
    /// [`Server::listen_on`]: crate::Server::listen_on
    #[doc(alias = "Dup")]
    #[doc(alias = "DupListener")]
    pub fn dup_listener(&self, listener: usize) -> io::Result<Vec<ListenSocket>> {
        self.shared.listening.duplicate(listener)
    }

    /// Stops the server as [`stop_within`](ServerHandle::stop_within) does, with the option
    /// `stop_timeout` as the deadline.
    #[doc(alias = "Stop")]
    pub fn stop(&self) {
        self.stop_within(self.shared.options.stop_timeout);
    }

    /// Stops the server in order: listeners close, what was written is delivered (for at most
    /// `deadline`), every connection gets its `on_close`, each loop its `on_shutdown`, and `run`
    /// returns. Returns at once. A server that is stopping already takes the shorter deadline.
    pub fn stop_within(&self, deadline: Duration) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.listening.close();
        for shared in self.shared.acceptor.iter().chain(&self.shared.loops) {
            // A loop that has ended needs no more stopping.
            drop(shared.send_reserved(Command::Stop(deadline)));
        }
    }

    /// Whether the server was asked to stop.
    #[doc(alias = "Validate")]
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("addresses", &self.shared.addresses)
            .field("loops", &self.shared.loops.len())
            .field("stopping", &self.is_stopping())
            .finish_non_exhaustive()
    }
}
