//! [`Context`]: a loop as its own callbacks see it, beyond one connection.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::buf::pages::Pages;
use crate::conn::Conn;
use crate::conn::core::{Core, Timer, deadline};
use crate::conn::dial::Connect;
use crate::conn::handle::LoopHandle;
use crate::conn::id::ConnId;
use crate::conn::state::Phase;
use crate::control::ServerHandle;
use crate::driver::Sockets;
use crate::error::Result;
use crate::handler::Handler;
use crate::workers::WorkerPool;

/// The users' states, side by side with the connections: so a callback can hold its own state
/// and write to other connections.
pub(crate) type States<S> = Pages<Option<S>>;

/// A closure sent to a loop by another thread.
pub(crate) type Job<H> = Box<dyn FnOnce(&mut H, &mut Context<'_, H>) + Send>;

type LocalJob<H> = Box<dyn FnOnce(&mut H, &mut Context<'_, H>)>;

/// Jobs that wait for their time on this loop, found by the place that their timer names.
pub(crate) struct LocalJobs<H: Handler> {
    places: Vec<Option<LocalJob<H>>>,
    free: Vec<u32>,
}

impl<H: Handler> LocalJobs<H> {
    pub(crate) fn new() -> Self {
        LocalJobs { places: Vec::new(), free: Vec::new() }
    }

    fn insert(&mut self, job: LocalJob<H>) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(job);
            return place;
        }
        self.places.push(Some(job));
        (self.places.len() - 1) as u32
    }

    pub(crate) fn remove(&mut self, place: u32) -> Option<LocalJob<H>> {
        let job = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(job)
    }
}

/// A loop, lent to `on_tick`, `on_shutdown`, scheduled jobs and jobs from other threads.
///
/// ```
/// use std::time::Duration;
/// use tightloop::{Action, Conn, Context, Handler, Input};
///
/// struct Clock(u64);
///
/// impl Handler for Clock {
///     type State = ();
///     fn on_open(&mut self, _: &mut Conn<'_>) {}
///     fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
///         input.take_all();
///         Action::Continue
///     }
///     fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
///         self.0 += 1;
///         cx.broadcast(format!("{}\n", self.0));
///         Some(Duration::from_secs(1))
///     }
/// }
/// ```
pub struct Context<'a, H: Handler> {
    core: &'a mut Core,
    sockets: &'a dyn Sockets,
    states: &'a mut States<H::State>,
    jobs: &'a mut LocalJobs<H>,
    loops: &'a [LoopHandle<H>],
}

impl<'a, H: Handler> Context<'a, H> {
    pub(crate) fn new(
        core: &'a mut Core,
        sockets: &'a dyn Sockets,
        states: &'a mut States<H::State>,
        jobs: &'a mut LocalJobs<H>,
        loops: &'a [LoopHandle<H>],
    ) -> Self {
        Context { core, sockets, states, jobs, loops }
    }

    /// The moment at which this turn of the loop began. No system call.
    pub fn now(&self) -> Instant {
        self.core.now
    }

    /// The loop's index, from 0.
    pub fn loop_index(&self) -> usize {
        usize::from(self.core.index)
    }

    /// All event loops of the server, this one too, to run closures there; they can be kept, and be
    /// handed to other threads. `on_tick` is called at the start, and so can keep them from then on.
    ///
    /// ```
    /// # use tightloop::{Context, Handler};
    /// /// Has every loop do something.
    /// fn everywhere<H: Handler>(cx: &Context<'_, H>, what: fn(&mut H)) {
    ///     for event_loop in cx.loops() {
    ///         // Refused only by a loop that has ended, or whose mailbox is full.
    ///         let _ = event_loop.execute(move |handler, _| what(handler));
    ///     }
    /// }
    /// ```
    #[doc(alias = "EventLoop")]
    pub fn loops(&self) -> &'a [LoopHandle<H>] {
        self.loops
    }

    /// The worker pool of the server, which [`Conn::spawn`] uses too, for work that waits or takes
    /// long. What it has found comes back by [`LoopHandle::execute`] or a
    /// [`ConnHandle`](crate::ConnHandle).
    ///
    /// ```
    /// # use tightloop::{Context, Handler};
    /// # trait Rates { fn set(&mut self, rates: String); }
    /// /// Reads a file without holding the loop up; called by `on_tick`.
    /// fn reload<H: Handler + Rates>(cx: &Context<'_, H>) {
    ///     let this_loop = cx.loops()[cx.loop_index()].clone();
    ///     let spawned = cx.workers().try_spawn(move || {
    ///         if let Ok(rates) = std::fs::read_to_string("rates") {
    ///             // Refused only by a loop that has ended, or whose mailbox is full.
    ///             let _ = this_loop.execute(move |handler, _| handler.set(rates));
    ///         }
    ///     });
    ///     if spawned.is_err() {
    ///         log::warn!("the workers are busy: the rates stay as they are");
    ///     }
    /// }
    /// ```
    pub fn workers(&self) -> &WorkerPool {
        &self.core.workers
    }

    /// The server, to be handed to other threads.
    pub fn server(&self) -> &ServerHandle {
        &self.core.server
    }

    /// An open connection of this loop and its state; `None` if it is gone, or on another loop.
    pub fn conn(&mut self, id: ConnId) -> Option<(Conn<'_>, &mut H::State)> {
        if id.loop_index != self.core.index {
            return None;
        }
        let open = self.core.table.get(id.token()).is_some_and(|c| c.phase == Phase::Open);
        let state = self.states.get_mut(id.index).and_then(Option::as_mut).filter(|_| open)?;
        Some((Conn::new(self.core, self.sockets, id.token()), state))
    }

    /// Calls `visit` for each open connection of this loop.
    #[doc(alias = "Iterate")]
    pub fn for_each(&mut self, mut visit: impl FnMut(&mut Conn<'_>, &mut H::State)) {
        for index in 0..self.core.table.bound() {
            let Some(token) = self.core.table.token_at(index) else { continue };
            if let Some((mut conn, state)) = self.conn(ConnId::new(self.core.index, token)) {
                visit(&mut conn, state);
            }
        }
    }

    /// The number of this loop's open connections: those whose `on_open` was called and
    /// `on_close` was not.
    pub fn connections(&self) -> usize {
        let metrics = &self.core.shared.metrics;
        metrics.opened.get().saturating_sub(metrics.closed.get()) as usize
    }

    /// Writes `bytes` to every open connection of this loop, sharing the payload. For all loops
    /// see [`ServerHandle::broadcast`].
    pub fn broadcast(&mut self, bytes: impl Into<Bytes>) {
        self.core.broadcast(&bytes.into());
    }

    /// Starts an outgoing connection on this loop; see [`Conn::connect`].
    ///
    /// # Errors
    /// As [`Conn::connect`].
    #[doc(alias = "Dial")]
    #[doc(alias = "DialContext")]
    pub fn connect(&mut self, to: impl Into<Connect>) -> Result<ConnId> {
        self.core.connect(to.into(), None)
    }

    /// Runs `job` on this loop after `delay` (to the millisecond, never early). Jobs that are
    /// not due when the server stops are dropped.
    #[doc(alias = "Schedule")]
    pub fn schedule(
        &mut self,
        delay: Duration,
        job: impl FnOnce(&mut H, &mut Context<'_, H>) + 'static,
    ) {
        let place = self.jobs.insert(Box::new(job));
        let deadline = deadline(self.sockets.now(), delay);
        self.core.wheel.insert(deadline, Timer::Job(place));
    }

    /// Stops the whole server, as [`ServerHandle::stop`] does.
    pub fn stop_server(&mut self) {
        self.core.stop_requested = true;
    }
}

impl<H: Handler> fmt::Debug for Context<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("loop_index", &self.loop_index())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
