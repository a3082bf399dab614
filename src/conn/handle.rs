//! Handles that other threads hold: [`ConnHandle`] to one connection, [`LoopHandle`] to a loop.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;

use crate::conn::command::{Command, WriteDone};
use crate::conn::context::{Context, Job};
use crate::conn::id::ConnId;
use crate::control::LoopShared;
use crate::driver::Token;
use crate::error::HandleError;
use crate::handler::Handler;
use crate::sync::mailbox::Mailbox;

/// The place of a connection that has none yet: no token has such an index.
const NOWHERE: u64 = u64::MAX;

/// What a connection and its handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The connection's token, or `NOWHERE`. Set once, by the loop, which so knows it before it
    /// comes to any command that was sent through a handle.
    place: AtomicU64,
    closed: AtomicBool,
    /// Bytes written through handles and not yet applied by the loop.
    queued: AtomicUsize,
    /// Bytes in the connection's outbound buffer, as the loop last told.
    pending: AtomicUsize,
}

impl Shared {
    /// For a connection with this token.
    pub(crate) fn at(token: Token) -> Self {
        let shared = Shared::unplaced();
        shared.set_token(token);
        shared
    }

    fn unplaced() -> Self {
        Shared {
            place: AtomicU64::new(NOWHERE),
            closed: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
        }
    }

    fn set_token(&self, token: Token) {
        let place = (u64::from(token.generation) << 32) | u64::from(token.index);
        self.place.store(place, Ordering::Release);
    }

    /// The connection's token, once it has one.
    pub(crate) fn token(&self) -> Option<Token> {
        let place = self.place.load(Ordering::Acquire);
        let token = Token { index: place as u32, generation: (place >> 32) as u32 };
        (place != NOWHERE).then_some(token)
    }

    pub(crate) fn mark_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    pub(crate) fn set_pending(&self, length: usize) {
        self.pending.store(length, Ordering::Relaxed);
    }

    /// `length` queued bytes were applied or dropped.
    pub(crate) fn applied(&self, length: usize) {
        self.queued.fetch_sub(length, Ordering::Relaxed);
    }
}

/// A connection that another thread has asked for, and has a handle of already. It counts among
/// the loop's load until it opens.
pub(crate) struct Promise {
    shared: Arc<Shared>,
    owner: Arc<LoopShared>,
}

impl Promise {
    /// A promise by this loop, and the handle that it is for. `limit` as for any handle.
    pub(crate) fn new(owner: &Arc<LoopShared>, limit: usize) -> (Self, ConnHandle) {
        owner.promised.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared::unplaced());
        let handle = ConnHandle::new(Arc::clone(owner), Arc::clone(&shared), limit);
        (Promise { shared, owner: Arc::clone(owner) }, handle)
    }

    /// There is a connection now; answers what it shares with its handles.
    pub(crate) fn keep(&self, token: Token) -> Arc<Shared> {
        self.shared.set_token(token);
        Arc::clone(&self.shared)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.owner.promised.fetch_sub(1, Ordering::Relaxed);
        if self.shared.token().is_none() {
            self.shared.mark_closed();
        }
    }
}

/// A connection as other threads see it. Cheap to clone; all methods may be called from any
/// thread, also from the connection's own loop, and never block.
///
/// A handle never keeps its connection open. When the connection is gone every method answers
/// [`HandleError::Closed`]; it never reaches another connection.
///
/// ```
/// use std::io::Read;
/// use std::net::TcpStream;
/// use std::sync::mpsc;
/// use tightloop::{Action, Conn, ConnHandle, Handler, Input, Server};
///
/// struct Quiet(mpsc::Sender<ConnHandle>);
///
/// impl Handler for Quiet {
///     type State = ();
///
///     fn on_open(&mut self, conn: &mut Conn<'_>) {
///         let _ = self.0.send(conn.handle());
///     }
///
///     fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
///         input.take_all();
///         Action::Continue
///     }
/// }
///
/// let (sender, opened) = mpsc::channel();
/// let server = Server::new().listen("tcp://127.0.0.1:0").start(move |_| Quiet(sender.clone()))?;
/// let mut client = TcpStream::connect(server.local_addrs()[0].socket_addr().unwrap())?;
///
/// let handle = opened.recv()?; // on this thread, or any other
/// handle.write("news")?;
/// handle.close()?; // behind what was written
///
/// let mut text = String::new();
/// client.read_to_string(&mut text)?;
/// assert_eq!(text, "news");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ConnHandle {
    owner: Arc<LoopShared>,
    shared: Arc<Shared>,
    /// Most bytes queued by handles: the option `max_pending_output`.
    limit: usize,
}

impl ConnHandle {
    pub(crate) fn new(owner: Arc<LoopShared>, shared: Arc<Shared>, limit: usize) -> Self {
        ConnHandle { owner, shared, limit }
    }

    /// The connection's identity. `None` as long as its loop has not taken up the call of
    /// [`ServerHandle::connect`](crate::ServerHandle::connect) or `adopt_tcp` that the handle came
    /// from; always there for a handle that came from [`Conn::handle`](crate::Conn::handle).
    pub fn id(&self) -> Option<ConnId> {
        self.shared.token().map(|token| ConnId::new(self.owner.index, token))
    }

    /// Whether the connection is still open or on the way to it, as far as this thread can know.
    pub fn is_open(&self) -> bool {
        !self.shared.closed.load(Ordering::Acquire) && !self.owner.ended.load(Ordering::Acquire)
    }

    /// Bytes that were written and not yet taken by the socket, those that wait for the loop
    /// included. Other threads write at the same time: a hint, not a promise.
    #[doc(alias = "OutboundBuffered")]
    pub fn pending(&self) -> usize {
        self.shared.queued() + self.shared.pending.load(Ordering::Relaxed)
    }

    /// Queues `bytes` for sending, without copying them. Writes of one thread keep their order.
    /// What goes to many connections is best a `Bytes`, each given a clone, which shares it.
    /// What is written to a connection that is still being made is sent when it opens.
    ///
    /// # Errors
    /// [`HandleError::Closed`] if the connection or the server is gone, [`HandleError::Full`] if
    /// too much is queued. A connection that ends before the loop gets to the bytes drops them;
    /// use [`write_then`](ConnHandle::write_then) to be told.
    #[doc(alias = "AsyncWrite")]
    pub fn write(&self, bytes: impl Into<Bytes>) -> Result<(), HandleError> {
        self.queue(bytes.into(), None)
    }

    /// As [`write`](ConnHandle::write); `done` is then called exactly once, on the loop: with `Ok`
    /// when the last byte was given to the socket, or with the error when the connection ended
    /// before. It is not lent the connection, and owns what it uses; what needs the connection's
    /// state belongs into `on_wake`, or into a job of [`LoopHandle::execute`].
    ///
    /// # Errors
    /// As [`write`](ConnHandle::write); `done` is then dropped without being called.
    #[doc(alias = "AsyncWrite")]
    #[doc(alias = "AsyncWritev")]
    #[doc(alias = "AsyncCallback")]
    pub fn write_then(
        &self,
        bytes: impl Into<Bytes>,
        done: impl FnOnce(Result<(), HandleError>) + Send + 'static,
    ) -> Result<(), HandleError> {
        self.queue(bytes.into(), Some(WriteDone::new(done)))
    }

    fn queue(&self, bytes: Bytes, done: Option<WriteDone>) -> Result<(), HandleError> {
        let length = bytes.len();
        if let Err(error) = self.admit(length) {
            done.into_iter().for_each(WriteDone::forget);
            return Err(error);
        }
        let shared = Arc::clone(&self.shared);
        let command = Command::Write { shared, bytes, done };
        self.owner.send(command).map_err(|(error, command)| {
            command.forget();
            error
        })
    }

    /// Counts `length` bytes in, if they may be queued.
    fn admit(&self, length: usize) -> Result<(), HandleError> {
        if !self.is_open() {
            return Err(HandleError::Closed);
        }
        let pending = self.shared.pending.load(Ordering::Relaxed);
        let before = self.shared.queued.fetch_add(length, Ordering::Relaxed);
        if before.saturating_add(pending).saturating_add(length) > self.limit {
            self.shared.applied(length);
            return Err(HandleError::Full);
        }
        Ok(())
    }

    /// Has the handler's `on_wake` called for this connection, if it is open.
    ///
    /// # Errors
    /// [`HandleError::Closed`] or [`HandleError::Full`].
    #[doc(alias = "Wake")]
    pub fn wake(&self) -> Result<(), HandleError> {
        self.send(Command::Wake(Arc::clone(&self.shared)))
    }

    /// Closes the connection as `Action::Close` does: what was written before is delivered. One
    /// that is still being made is given up, with `on_open_failed` and `CloseReason::Local`.
    ///
    /// # Errors
    /// [`HandleError::Closed`] or [`HandleError::Full`].
    #[doc(alias = "Close")]
    #[doc(alias = "CloseWithCallback")]
    pub fn close(&self) -> Result<(), HandleError> {
        self.send(Command::Close(Arc::clone(&self.shared)))
    }

    /// Closes the sending side as [`Conn::shutdown_write`](crate::Conn::shutdown_write) does: what
    /// was written before is delivered. On a connection that is still being made, once it is open.
    ///
    /// # Errors
    /// [`HandleError::Closed`] or [`HandleError::Full`].
    pub fn shutdown_write(&self) -> Result<(), HandleError> {
        self.send(Command::ShutdownWrite(Arc::clone(&self.shared)))
    }

    fn send(&self, command: Command) -> Result<(), HandleError> {
        if !self.is_open() {
            return Err(HandleError::Closed);
        }
        self.owner.send(command).map_err(|(error, _)| error)
    }
}

impl fmt::Debug for ConnHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnHandle").field("id", &self.id()).field("open", &self.is_open()).finish()
    }
}

/// An event loop as other threads see it: runs closures there, with the loop's handler.
///
/// `Send` and `Sync` even where the handler is not: only the closure travels.
///
/// ```
/// use std::sync::mpsc;
/// use tightloop::{Action, Conn, Handler, Input, Server};
///
/// struct Count(u64);
///
/// impl Handler for Count {
///     type State = ();
///
///     fn on_open(&mut self, _: &mut Conn<'_>) {}
///
///     fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
///         self.0 += input.take_all().len() as u64;
///         Action::Continue
///     }
/// }
///
/// let server = Server::new().listen("tcp://127.0.0.1:0").start(|_| Count(0))?;
/// let (sender, counted) = mpsc::channel();
/// server.loops()[0].execute(move |count, cx| {
///     let _ = sender.send((count.0, cx.connections()));
/// })?;
/// assert_eq!(counted.recv()?, (0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "EventLoop")]
pub struct LoopHandle<H: Handler> {
    owner: Arc<LoopShared>,
    jobs: Arc<Mailbox<Job<H>>>,
}

impl<H: Handler> LoopHandle<H> {
    pub(crate) fn new(owner: Arc<LoopShared>, jobs: Arc<Mailbox<Job<H>>>) -> Self {
        LoopHandle { owner, jobs }
    }

    pub(crate) fn jobs(&self) -> Arc<Mailbox<Job<H>>> {
        Arc::clone(&self.jobs)
    }

    /// The loop's index.
    pub fn index(&self) -> usize {
        usize::from(self.owner.index)
    }

    /// Runs `job` on the loop, between two events, with the handler and the loop's context. Jobs of one
    /// thread keep their order. From any thread, also from a callback: the job runs after it.
    ///
    /// A job that was accepted runs, also while the server stops: at the latest when the last
    /// connection has had its `on_close`, before `on_shutdown`. The one exception is a loop that ends by a
    /// panic ([`Error::LoopPanicked`](crate::Error::LoopPanicked)): what waits then is dropped
    /// without being run, so that whoever waits for what a job owns, the end of a channel, learns it. A job that
    /// panics is counted and logged as a callback is, and ends no connection.
    ///
    /// # Errors
    /// [`HandleError::Closed`] if the loop has ended, [`HandleError::Full`] if too much is
    /// queued (option `mailbox_capacity`); the job is dropped then, in this call.
    #[doc(alias = "Runnable")]
    #[doc(alias = "RunnableFunc")]
    #[doc(alias = "Execute")]
    pub fn execute(
        &self,
        job: impl FnOnce(&mut H, &mut Context<'_, H>) + Send + 'static,
    ) -> Result<(), HandleError> {
        self.jobs.push(Box::new(job)).map_err(|rejected| rejected.split().0)?;
        self.owner.ring();
        Ok(())
    }
}

impl<H: Handler> Clone for LoopHandle<H> {
    fn clone(&self) -> Self {
        LoopHandle { owner: Arc::clone(&self.owner), jobs: Arc::clone(&self.jobs) }
    }
}

impl<H: Handler> fmt::Debug for LoopHandle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopHandle").field("index", &self.index()).finish()
    }
}
