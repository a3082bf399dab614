//! The parts of the echo bench, and the order in which they run; the flood bench beside it; and what
//! all benches of servers share.

pub mod bare_echo;
pub mod epoll;
pub mod flood;
mod load;
mod options;
pub mod proc;
pub mod statistics;
pub mod tightloop_echo;

use std::net::SocketAddr;
use std::time::Duration;

use tightloop::{Driver, Server};

use load::{Totals, Workload};
use options::Options;
use proc::{SystemCalls, pin_to_cpu};
use statistics::{Samples, median, ratio_of};

pub const SERVER_CPU: usize = 0;
pub const CLIENT_CPU: usize = 1;
/// Before the measurement: connections are up, buffers have grown, branches are known.
const WARM_UP: Duration = Duration::from_millis(200);
/// More than this of one round taken by the hypervisor, and the round is marked.
const STEAL_MAX: f64 = 0.01;
/// An A/A control further from 1 says that the machine was not quiet.
const CONTROL_MAX: f64 = 0.015;

/// A server that runs on a thread of this process.
pub struct ServerUnderTest {
    /// Where it listens, on every local address.
    pub addr: SocketAddr,
    /// The thread that serves, and that is charged.
    pub tid: libc::pid_t,
    /// Ends the server and waits for its threads.
    pub stop: Box<dyn FnOnce()>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum System {
    Bare,
    /// On the readiness driver.
    Tightloop,
    /// On the io_uring driver.
    Uring,
    /// The bare loop once more: the A/A control.
    Control,
}

impl System {
    pub fn name(self) -> &'static str {
        match self {
            System::Bare => "bare",
            System::Tightloop => "tightloop",
            System::Uring => "io_uring",
            System::Control => "bare again",
        }
    }

    fn start(self) -> ServerUnderTest {
        match self {
            System::Bare | System::Control => bare_echo::start_bare(),
            System::Tightloop => start_tightloop(Driver::Poll),
            System::Uring => start_tightloop(Driver::IoUring),
        }
    }
}

fn start_tightloop(driver: Driver) -> ServerUnderTest {
    tightloop_echo::start_tightloop(Server::new().driver(driver).listen("tcp://0.0.0.0:0"))
}

/// What one system did in one round.
struct Round {
    system: System,
    ns_per_op: f64,
    ops_per_second: f64,
    /// Share of the round in which the server's thread was on its CPU.
    busy: f64,
    /// CPU time of this process outside the server's thread and this one, as a share of the
    /// server's: work that a system hides from its loop's thread shows here.
    hidden: f64,
    steal: f64,
}

/// Runs what the command line asks for.
pub fn run() {
    let options = Options::from_args();
    if !pin_to_cpu(CLIENT_CPU) {
        println!("warning: no CPU {CLIENT_CPU} to pin the client to; the figures mean little");
    }
    let mut systems = vec![System::Bare, System::Control];
    if !options.control_only {
        systems.splice(1..1, [System::Tightloop, System::Uring]);
    }
    for workload in options.workloads.iter().copied() {
        println!("{}, {} rounds x {:?}", workload, options.rounds, options.duration);
        let rounds = measure(workload, &systems, &options);
        report(&systems, &rounds);
        for system in systems.iter().filter(|system| **system != System::Control) {
            report_system_calls(*system, workload);
        }
        println!();
    }
}

fn measure(workload: Workload, systems: &[System], options: &Options) -> Vec<Round> {
    let mut order = systems.to_vec();
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.extend(order.iter().map(|system| one_round(*system, workload, options.duration)));
        order.reverse();
    }
    rounds
}

fn one_round(system: System, workload: Workload, duration: Duration) -> Round {
    let server = system.start();
    let mut load = workload.connect(server.addr);
    load.run_for(WARM_UP);
    let before = (proc::machine_ticks(), proc::process_cpu_ns(), proc::own_cpu_ns());
    let server_before = proc::thread_cpu_ns(server.tid);
    let Totals { operations, elapsed } = load.run_for(duration);
    let server_ns = proc::thread_cpu_ns(server.tid) - server_before;
    let own_ns = proc::own_cpu_ns() - before.2;
    let process_ns = proc::process_cpu_ns() - before.1;
    let steal = proc::machine_ticks().steal_since(&before.0);
    drop(load);
    (server.stop)();
    assert!(operations > 0, "{} served nothing", system.name());
    Round {
        system,
        ns_per_op: server_ns as f64 / operations as f64,
        ops_per_second: operations as f64 / elapsed.as_secs_f64(),
        busy: server_ns as f64 / elapsed.as_nanos() as f64,
        hidden: process_ns.saturating_sub(own_ns + server_ns) as f64 / server_ns.max(1) as f64,
        steal,
    }
}

fn report(systems: &[System], rounds: &[Round]) {
    let costs = |system| -> Vec<f64> {
        rounds.iter().filter(|r| r.system == system).map(|r| r.ns_per_op).collect()
    };
    for system in systems {
        let mine = || rounds.iter().filter(|round| round.system == *system);
        let cost = Samples::of(&costs(*system));
        println!(
            "  {:<11}{cost}  {:>9.0} op/s, {:>3.0} % busy",
            system.name(),
            median(mine().map(|round| round.ops_per_second)),
            100.0 * median(mine().map(|round| round.busy)),
        );
        let hidden = median(mine().map(|round| round.hidden));
        if hidden > 0.02 {
            println!("    note: other threads used {:.1} % as much CPU again", 100.0 * hidden);
        }
        let stolen = mine().enumerate().filter(|(_, round)| round.steal > STEAL_MAX);
        for (index, round) in stolen {
            println!("    round {}: {:.1} % steal", index + 1, 100.0 * round.steal);
        }
    }
    if systems.contains(&System::Uring) {
        let ratio = ratio_of(&costs(System::Uring), &costs(System::Tightloop));
        println!("  io_uring / tightloop: {ratio}");
    }
    for system in systems.iter().filter(|system| **system != System::Bare) {
        let ratio = ratio_of(&costs(*system), &costs(System::Bare));
        println!("  {} / bare: {ratio}", system.name());
        if *system == System::Control && (ratio.median - 1.0).abs() > CONTROL_MAX {
            println!("    the control is off by more than {CONTROL_MAX}: this set is void");
        }
    }
}

/// A round of its own: counting costs CPU time.
fn report_system_calls(system: System, workload: Workload) {
    let server = system.start();
    let calls = SystemCalls::start(server.tid);
    let mut load = workload.connect(server.addr);
    let operations = load.run_for(Duration::from_secs(1)).operations;
    drop(load);
    match calls.and_then(SystemCalls::finish) {
        Some(count) => println!(
            "  {:<11}{:.3} system calls/op",
            system.name(),
            count as f64 / operations.max(1) as f64
        ),
        None => println!("  {:<11}system calls/op: perf not available", system.name()),
    }
    (server.stop)();
}
