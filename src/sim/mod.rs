//! Whole servers in a simulated network, checked at every step: not for users.
//!
//! A seed stands for the weather, the options, the handler's temper, the peers and what other
//! threads do. [`run`] turns one event loop until it has ended and answers what happened, or which
//! rule was broken first. The same seed is the same run, to the byte.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::addr::Address;
use crate::conn::admission::Admission;
use crate::conn::handle::LoopHandle;
use crate::control::{LoopShared, ServerHandle, ServerShared};
use crate::driver::Driver;
pub use crate::driver::sim::Trace;
use crate::driver::sim::{
    Item, Ledger, Limits, Network, REASONS, Random, Sabotage, SharedNetwork, Sim, Weather,
    address_of,
};
use crate::listen_socket::Listening;
use crate::options::{Options, PanicPolicy};
use crate::reactor::{Parts, Placement, Reactor};
use crate::sync::mailbox::Mailbox;
use crate::workers::{WorkerOptions, WorkerPool};

mod acts;
mod budget;
mod checks;
mod plan;
mod subject;
#[cfg(test)]
mod tests;
mod threads;

use budget::BudgetWatch;
use plan::Plan;
use subject::Subject;
use threads::{Asked, Outcome, Threads};

/// Turns of one run, at most: far more than any seed needs.
const TURNS: usize = 400_000;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Tells this run from any other.
    pub hash: u64,
    /// Things that happened.
    pub entries: u64,
    /// Turns of the loop.
    pub turns: usize,
    /// Connections opened.
    pub opened: usize,
    /// Bytes received and sent.
    pub bytes: usize,
    /// Bytes that the driver has moved from one connection to another.
    pub moved: usize,
    /// How many connections ended by which [`CloseReason`](crate::CloseReason), in their order.
    pub reasons: [usize; REASONS],
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The seed that breaks it.
    pub seed: u64,
    /// Which rule, when, on which connection.
    pub rule: String,
}

/// Runs one seed. `trace` gets a line for everything that happens.
///
/// # Errors
/// The first rule that was broken; a panic of the loop is one too.
pub fn run(seed: u64, trace: Option<Trace>) -> Result<Report, Failure> {
    run_with(seed, trace, |_, _, _| {})
}

/// As [`run`], after changes to what the seed stands for.
fn run_with(
    seed: u64,
    trace: Option<Trace>,
    change: impl FnOnce(&mut Weather, &mut Options, &mut Plan),
) -> Result<Report, Failure> {
    let life = AssertUnwindSafe(|| {
        let mut simulation = Simulation::new(seed, trace, change)?;
        while simulation.turn()? {}
        simulation.finish()
    });
    let outcome = catch_unwind(life).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(format!("a panic: {}", text.unwrap_or_default()))
    });
    outcome.map_err(|rule| Failure { seed, rule })
}

struct Simulation {
    network: SharedNetwork,
    reactor: Reactor<Sim, Subject>,
    shared: Arc<LoopShared>,
    asked: Rc<Cell<Asked>>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    outcomes_seen: usize,
    turns: usize,
    budget: BudgetWatch,
}

impl Simulation {
    fn new(
        seed: u64,
        trace: Option<Trace>,
        change: impl FnOnce(&mut Weather, &mut Options, &mut Plan),
    ) -> Result<Self, String> {
        let mut random = Random::new(seed);
        let mut weather = Weather::by_chance(&mut random);
        let mut options = plan::options_by_chance(&mut random, weather.receive_buffer);
        let mut plan = Plan::by_chance(&mut random);
        if weather.in_bulk {
            plan::calm(&mut random, &mut options, &mut plan);
        }
        change(&mut weather, &mut options, &mut plan);
        fit_options(&mut options, &plan)?;
        let mut network = Network::new(random, weather, trace);
        network.ledger = Ledger::new(&options);
        network.limits = Limits::new(&options);
        let network = Rc::new(RefCell::new(network));
        let start = network.borrow().instant();
        let options = Arc::new(options);
        let shared = Arc::new(LoopShared::new(0, options.mailbox_capacity));
        let server = ServerHandle { shared: Arc::new(server_shared(&options, &shared, start)) };
        let jobs = Arc::new(Mailbox::new(options.mailbox_capacity));
        let handles = Rc::default();
        let (asked, outcomes) = (Rc::default(), Arc::default());
        let mut threads = Threads {
            network: Rc::clone(&network),
            plan: plan.clone(),
            handles: Rc::clone(&handles),
            server: server.clone(),
            event_loop: LoopHandle::new(Arc::clone(&shared), Arc::clone(&jobs)),
            asked: Rc::clone(&asked),
            outcomes: Arc::clone(&outcomes),
        };
        let mut driver = Sim::new(Rc::clone(&network));
        driver.set_threads(Box::new(move || threads.act()));
        drop(shared.waker.set(driver.waker()));
        let parts = Parts {
            shared: Arc::clone(&shared),
            server,
            options,
            // Nothing is given to it: it starts no thread.
            workers: WorkerPool::new(WorkerOptions::default()),
            jobs,
            loops: Arc::default(),
            listeners: (0..plan.listeners as u16).map(|number| (number, ())).collect(),
            datagram_sockets: vec![(); plan.datagram_sockets],
            placement: Placement::Here,
            policies: Arc::default(),
        };
        let subject = Subject::new(Rc::clone(&network), plan.clone(), handles);
        let reactor = Reactor::new(driver, subject, parts).map_err(|error| error.to_string())?;
        plan_visits(&mut network.borrow_mut(), &plan);
        let mut simulation = Simulation {
            network,
            reactor,
            shared,
            asked,
            outcomes,
            outcomes_seen: 0,
            turns: 0,
            budget: BudgetWatch::default(),
        };
        simulation.reactor.start();
        Ok(simulation)
    }

    /// One turn and all checks; false when the loop has ended.
    fn turn(&mut self) -> Result<bool, String> {
        if self.reactor.is_stopped() {
            return Ok(false);
        }
        self.turns += 1;
        self.reactor.turn().map_err(|error| error.to_string())?;
        self.check_turn();
        if self.turns > TURNS {
            self.network.borrow_mut().fail("the run does not end".to_owned());
        }
        self.broken().map_or(Ok(true), Err)
    }

    fn broken(&self) -> Option<String> {
        self.network.borrow().journal.violation().map(str::to_owned)
    }

    /// The end: nothing is left in the loop, and what is on its way arrives.
    fn finish(mut self) -> Result<Report, String> {
        self.check_stopped();
        let moved = self.shared.metrics.bytes_moved.get() as usize;
        let Simulation { network, reactor, turns, .. } = self;
        drop(reactor);
        let mut network = network.borrow_mut();
        network.settle();
        if let Some(rule) = network.journal.violation() {
            return Err(rule.to_owned());
        }
        Ok(Report {
            hash: network.journal.hash(),
            entries: network.journal.entries,
            turns,
            opened: network.ledger.opened,
            bytes: network.ledger.delivered + network.ledger.taken,
            moved,
            reasons: network.ledger.reasons,
        })
    }
}

/// What follows from the plan.
fn fit_options(options: &mut Options, plan: &Plan) -> Result<(), String> {
    options.panic_policy = match plan.panics {
        // One that is not meant is to be seen.
        0 => PanicPolicy::StopServer,
        _ => PanicPolicy::CloseConnection,
    };
    options.check().map_err(|error| error.to_string())?;
    // Less than may be asked for: the simulated peers are few.
    options.memory_budget = plan.memory_budget;
    Ok(())
}

fn server_shared(options: &Arc<Options>, shared: &Arc<LoopShared>, start: Instant) -> ServerShared {
    ServerShared {
        loops: vec![Arc::clone(shared)],
        acceptor: None,
        addresses: vec![Address::Ip(address_of(0))],
        options: Arc::clone(options),
        tls_client: None,
        stopping: AtomicBool::new(false),
        admission: Admission::new(options, start),
        balancer: OnceLock::new(),
        listening: Listening::default(),
    }
}

/// Who comes when: most at the beginning, so that they meet.
fn plan_visits(network: &mut Network, plan: &Plan) {
    for _ in 0..network.weather.peers {
        let within = network.random.pick(&[1, 1_000, plan.lifetime]);
        let after = network.random.below(within);
        let listener = network.random.between(0, plan.listeners - 1);
        network.schedule(after, Item::NewPeer { listener });
    }
    for socket in 0..plan.datagram_sockets {
        network.plan_datagrams(socket, plan.lifetime);
    }
    let after = network.random.below(plan.threads);
    network.schedule(after, Item::Threads);
}

impl Network {
    /// Lets what is on its way arrive, and peers read it, when the server is gone.
    fn settle(&mut self) {
        /// Far more than any run leaves to be done.
        const ITEMS: usize = 300_000;
        const PATIENCE: u64 = 100_000_000;
        let end = self.now + PATIENCE;
        for _ in 0..ITEMS {
            match self.next_time() {
                Some(time) if time <= end => self.now = self.now.max(time),
                _ => break,
            }
            // Other threads have nobody to speak to any more.
            let _ = self.run_due();
        }
        for link in 0..self.links.len() {
            self.judge_end(link);
        }
    }
}
