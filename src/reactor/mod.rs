//! The event loop: the one place where driver, connections and handler meet.
//!
//! ```text
//!            +--------------------------- one turn ---------------------------+
//!            |                                                                |
//!   kernel --+--> wait --> events --> dispatch --> callback --> settle: send, |
//!            |      ^      commands                              pause, close |
//!            |      |      timers                                     |       |
//!            |      +------------- end of turn: attend the others <---+       |
//!            +----------------------------------------------------------------+
//! ```
//!
//! Every callback is called from `callback.rs`, with nothing half changed; what it asked for is
//! carried out by `settle`, which is the only way from a mark on a connection to the driver.

use std::any::TypeId;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::Balancer;
use crate::buf::pages::Pages;
use crate::buf::pool::Pool;
use crate::conn::admission::Ticket;
use crate::conn::command::Command;
use crate::conn::context::{Job, LocalJobs, States};
use crate::conn::core::{Core, Timer};
use crate::conn::handle::LoopHandle;
use crate::conn::table::Table;
use crate::conn::timeouts::Patience;
use crate::control::{LoopShared, ServerHandle};
use crate::driver::{Driver, Token};
use crate::handler::{Action, Handler};
use crate::options::Options;
use crate::sync::mailbox::Mailbox;
use crate::sys::socket::Stream;
use crate::time::long_turns::LongTurns;
use crate::time::wheel::Wheel;
use crate::workers::WorkerPool;

mod accept;
mod budget;
mod callback;
mod close;
mod command;
mod connect;
mod datagram;
mod dispatch;
mod encrypt;
mod guard;
#[cfg(any(test, feature = "sim"))]
mod inspect;
mod lent;
pub(crate) mod opening;
mod pieces;
mod relay;
mod secure;
mod settle;
mod stop;
mod timers;

use accept::Arrival;
use opening::ListenerPolicy;
use secure::{Handshakes, Secured};

/// What a loop is built from, made by the engine.
pub(crate) struct Parts<D: Driver, H: Handler> {
    pub(crate) shared: Arc<LoopShared>,
    pub(crate) server: ServerHandle,
    pub(crate) options: Arc<Options>,
    pub(crate) workers: WorkerPool,
    pub(crate) jobs: Arc<Mailbox<Job<H>>>,
    /// Those of the whole server.
    pub(crate) loops: Arc<[LoopHandle<H>]>,
    /// Each with the number of its `listen`.
    pub(crate) listeners: Vec<(u16, D::Listener)>,
    pub(crate) datagram_sockets: Vec<D::DatagramSocket>,
    pub(crate) placement: Placement<D::Stream>,
    /// One for each `listen`, in order.
    pub(crate) policies: Arc<[ListenerPolicy]>,
}

impl<D: Driver, H: Handler> Parts<D, H> {
    /// The same for another driver of the same sockets.
    pub(crate) fn for_driver<E>(self) -> Parts<E, H>
    where
        E: Driver<Stream = D::Stream, Listener = D::Listener, DatagramSocket = D::DatagramSocket>,
    {
        Parts {
            shared: self.shared,
            server: self.server,
            options: self.options,
            workers: self.workers,
            jobs: self.jobs,
            loops: self.loops,
            listeners: self.listeners,
            datagram_sockets: self.datagram_sockets,
            placement: self.placement,
            policies: self.policies,
        }
    }
}

/// Where accepted connections go.
pub(crate) enum Placement<S> {
    /// To this loop.
    Here,
    /// To the loop that the balancer picks, as the socket that any driver takes.
    Balanced { balancer: Box<dyn Balancer>, socket_of: fn(S) -> Stream },
}

/// How far a loop is.
enum Stage {
    Running,
    /// Listeners are closed; connections deliver what is pending.
    Draining,
    Stopped,
}

pub(crate) struct Reactor<D: Driver, H: Handler> {
    driver: D,
    handler: H,
    core: Core,
    states: States<H::State>,
    local_jobs: LocalJobs<H>,
    jobs: Arc<Mailbox<Job<H>>>,
    loops: Arc<[LoopHandle<H>]>,
    placement: Placement<D::Stream>,
    /// Listening sockets that are open, by the numbers under which the driver has them.
    listeners: Vec<u32>,
    /// For each socket that there was, in the driver's order, the number of its `listen`: several
    /// sockets may be of one.
    listen_numbers: Vec<u16>,
    /// Closed, and some of them may still tell of connections.
    closing_listeners: Vec<u32>,
    /// Somebody may want to know when the last connection is gone.
    drains: bool,
    policies: Arc<[ListenerPolicy]>,
    /// The TLS sessions, by slot; where nobody uses TLS there is no memory for them.
    sessions: Pages<Option<Box<Secured>>>,
    handshakes: Handshakes,
    stage: Stage,
    /// Commands taken from the mailbox and not yet carried out.
    commands: VecDeque<Command>,
    /// Empty between turns; kept for their memory.
    command_batch: Vec<Command>,
    job_batch: Vec<Job<H>>,
    attending: Vec<Token>,
    /// More timers were due than one turn expires.
    timers_left: bool,
    /// The turn ends, or somebody wants it so: what is written waits for no others of a row.
    attends: bool,
    /// The places of connections that are counted, by slot; without limits there are none.
    tickets: Pages<Option<Ticket>>,
    /// Accepted, and waiting for another connection to close: at most one a listener, and for each
    /// that has been released what the driver had accepted.
    waiting: Vec<Arrival<D::Stream>>,
    /// Listeners that rest until their timer is due.
    resting: Vec<u32>,
    /// The timer is set that looks for places for them.
    looks_for_places: bool,
    /// Those that the memory budget holds back; some of them may be gone, or free again.
    held_back: Vec<Token>,
    /// The timer is set that looks after them.
    minds_budget: bool,
    /// What on_tick answered last.
    tick_delay: Option<Duration>,
    /// An accept failure was logged and none has succeeded since.
    accept_failure_logged: bool,
    /// Connections that broadcasts may still write to in this turn.
    broadcasts_left: usize,
}

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// A loop with its listeners open.
    pub(crate) fn new(driver: D, handler: H, parts: Parts<D, H>) -> io::Result<Self> {
        let now = driver.now();
        let core = Core {
            index: parts.shared.index,
            table: Table::new(),
            pool: Pool::new(parts.options.pool_retain),
            wheel: Wheel::new(now),
            now,
            now_ms: 0,
            long_turns: LongTurns::new(),
            started: now,
            current: None,
            pre_writing: false,
            dirty: Vec::new(),
            lent: None,
            urgent: Vec::new(),
            connects: Vec::new(),
            outboxes: Vec::new(),
            gathered: Vec::new(),
            stop_requested: false,
            stopping: false,
            shared: parts.shared,
            server: parts.server,
            allowance: usize::MAX,
            patience: Patience::of(&parts.options),
            options: parts.options,
            workers: parts.workers,
            state_type: TypeId::of::<H::State>(),
        };
        let mut reactor = Reactor {
            driver,
            handler,
            core,
            states: Pages::new(),
            local_jobs: LocalJobs::new(),
            jobs: parts.jobs,
            loops: parts.loops,
            placement: parts.placement,
            listeners: Vec::new(),
            listen_numbers: Vec::new(),
            closing_listeners: Vec::new(),
            drains: false,
            policies: parts.policies,
            sessions: Pages::new(),
            handshakes: Handshakes::default(),
            stage: Stage::Running,
            commands: VecDeque::new(),
            command_batch: Vec::new(),
            job_batch: Vec::new(),
            attending: Vec::new(),
            timers_left: false,
            attends: false,
            tickets: Pages::new(),
            waiting: Vec::new(),
            resting: Vec::new(),
            looks_for_places: false,
            held_back: Vec::new(),
            minds_budget: false,
            tick_delay: None,
            accept_failure_logged: false,
            broadcasts_left: 0,
        };
        reactor.open_sockets(parts.listeners, parts.datagram_sockets)?;
        reactor.note_accepting();
        Ok(reactor)
    }

    /// Calls on_boot; `Shutdown` means that the handler refuses to serve.
    pub(crate) fn boot(&mut self) -> Action {
        self.handler.on_boot(&self.core.server)
    }

    /// Serves until the server is stopped.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        self.start();
        while !self.is_stopped() {
            self.turn()?;
        }
        Ok(())
    }

    /// What comes before the first turn.
    pub(crate) fn start(&mut self) {
        self.core.set_now(self.driver.now());
        // A handler may have refused to serve, on this loop or another one.
        self.run_commands();
        if !self.core.stopping {
            self.tick();
        }
        self.finish_stopping();
        self.note_accepting();
    }

    /// Whether the loop has ended.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.stage, Stage::Stopped)
    }

    /// Sleeps until there is something to do, and does it.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        if let Err(error) = self.sleep() {
            self.abandon();
            return Err(error);
        }
        self.core.set_now(self.driver.now());
        self.core.shared.metrics.turns.add(1);
        self.run_handshakes();
        self.run_events();
        self.run_commands();
        // What is asked for behind a broadcast stays behind it.
        if !self.is_broadcasting() {
            self.run_jobs();
        }
        self.expire_timers();
        self.attend_urgent();
        self.attend_dirty();
        self.mind_the_budget();
        self.start_connects();
        self.finish_stopping();
        if self.drains {
            self.note_accepting();
        }
        Ok(())
    }

    /// Waits for something to do: the only place that blocks.
    fn sleep(&mut self) -> io::Result<()> {
        let until_next_timer = self.end_turn();
        let shared = &self.core.shared;
        shared.metrics.pool_retained_bytes.set(self.core.pool.retained());
        shared.metrics.pool_lent_buffers.set(self.core.pool.lent());
        shared.wake.begin_sleep();
        let busy = !self.commands.is_empty()
            || !shared.commands.is_empty()
            || !self.jobs.is_empty()
            || !self.core.dirty.is_empty()
            || !self.core.urgent.is_empty()
            || !self.core.connects.is_empty()
            || self.handshakes.wait()
            || self.timers_left;
        let timeout = if busy {
            shared.wake.end_sleep();
            Some(Duration::ZERO)
        } else {
            until_next_timer
        };
        let result = self.driver.wait(timeout);
        self.core.shared.wake.end_sleep();
        result
    }

    /// The time until the next timer. Where nobody waits for one, nobody asks for the time.
    fn end_turn(&mut self) -> Option<Duration> {
        let deadline: Instant = self.core.wheel.next_deadline()?;
        // The clock of this turn's beginning would let a long turn oversleep.
        let now = self.driver.now();
        self.core.end_turn(now);
        Some(deadline.saturating_duration_since(now))
    }

    fn run_events(&mut self) {
        for _ in 0..self.core.options.turn.events {
            let Some(event) = self.driver.next_event() else {
                break;
            };
            self.dispatch(event);
            self.attend_urgent();
        }
        self.send_gathered();
    }

    fn run_commands(&mut self) {
        // Those that have not been carried out yet are still bounded by the mailbox.
        if self.commands.is_empty() && !self.core.shared.commands.is_empty() {
            self.core.shared.commands.swap_into(&mut self.command_batch);
            self.commands.extend(self.command_batch.drain(..));
        }
        self.broadcasts_left = self.core.options.turn.attended;
        for _ in 0..self.core.options.turn.commands {
            if self.broadcasts_left == 0 && self.broadcasts_next() {
                // It goes on in the next turn.
                break;
            }
            let Some(command) = self.commands.pop_front() else {
                break;
            };
            self.core.shared.metrics.commands.add(1);
            self.carry_out(command);
        }
        self.send_gathered();
    }

    pub(super) fn run_jobs(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.job_batch);
        self.jobs.swap_into(&mut batch);
        for job in batch.drain(..) {
            self.core.shared.metrics.commands.add(1);
            self.with_context("a job of another thread", job);
        }
        self.job_batch = batch;
    }

    /// Sets the timer that calls on_tick again, if it wants so.
    fn tick(&mut self) {
        // One that panicked goes on at the pace it had.
        if let Some(delay) = self.with_context("on_tick", |handler, cx| handler.on_tick(cx)) {
            self.tick_delay = delay;
        }
        if let Some(delay) = self.tick_delay {
            // A delay of nothing still lets the sockets have their turn.
            let deadline = crate::conn::core::deadline(self.driver.now(), delay);
            self.core.wheel.insert(deadline, Timer::Tick);
        }
    }
}
