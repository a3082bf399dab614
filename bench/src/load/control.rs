//! The phases of a load, as the main thread sees them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use tightloop::{Client, Context, Driver, LoopHandle, RunningClient};

use super::broadcast::Broadcast;
use super::clock::Clock;
use super::datagrams::Datagrams;
use super::meter::Totals;
use super::options::Work;
use super::pacer::Pacer;
use super::plan::Plan;
use super::progress::Progress;
use super::protocol::echo::Echo;
use super::protocol::http::Http;
use super::protocol::resp::Resp;
use super::report::{Measured, Point, Report};
use super::requests::Requests;
use super::sample::{Sample, sample};
use super::shared::{Load, LoopCounters, Seat, Shared};

/// The distance of the points of the series.
const POINT: Duration = Duration::from_millis(100);
/// How often it is looked whether a phase that has no time of its own is over.
const GLANCE: Duration = Duration::from_millis(5);
/// In an open loop, requests that were due in the window and found no room are sent for so long.
const LATE: Duration = Duration::from_secs(1);
/// The connections have this time to be closed at the end.
const STOPPING: Duration = Duration::from_millis(500);
/// Messages of this size and more are received in pieces of that size.
const LARGE: usize = 64 << 10;
const LARGE_BUFFER: usize = 260 << 10;
/// Why there is no report.
#[derive(Debug)]
pub enum Failure {
    /// It cannot be done like this.
    Usage(String),
    /// It went wrong.
    Load(String),
}

/// Puts the load on the server.
pub fn run(plan: &Arc<Plan>) -> Result<Report, Failure> {
    if plan.target.endpoint.is_datagram() {
        return drive(plan, Datagrams::new);
    }
    match (plan.work, plan.spoken) {
        (Work::Broadcast, _) => drive(plan, Broadcast::new),
        (_, Work::Http) => drive(plan, |seat| {
            let http = Http::new(&seat.plan);
            Requests::new(seat, http)
        }),
        (_, Work::Resp) => drive(plan, |seat| {
            let resp = Resp::new(&seat.plan);
            Requests::new(seat, resp)
        }),
        _ => drive(plan, |seat| {
            let echo = Echo::new(seat.plan.size, seat.plan.pipeline);
            Requests::new(seat, echo)
        }),
    }
}

/// The client with its options.
fn client(plan: &Plan) -> Client {
    let window = plan.size * plan.pipeline;
    let mut client = Client::new()
        .loops(plan.loops)
        .join_datagrams(plan.join)
        .max_pending_output(window.max(16 << 20) * 4)
        .handshake_timeout(plan.connect_timeout);
    if plan.size >= LARGE {
        client = client.receive_buffer(LARGE_BUFFER);
    }
    client
}

fn drive<H, F>(plan: &Arc<Plan>, make: F) -> Result<Report, Failure>
where
    H: Load,
    F: Fn(Seat) -> H + Send + Sync + 'static,
{
    let interrupted = interruptions().map_err(|error| {
        Failure::Load(format!("the handler of signals cannot be installed: {error}"))
    })?;
    let shared = Arc::new(Shared::default());
    let counters: Vec<_> = (0..plan.loops).map(|_| Arc::<LoopCounters>::default()).collect();
    let clock = Clock::new();
    // Before the first connection: what idle connections cost is the difference.
    let before = server_sample(plan)?;
    let seats: Vec<Seat> = counters
        .iter()
        .enumerate()
        .map(|(loop_index, counters)| Seat {
            plan: Arc::clone(plan),
            shared: Arc::clone(&shared),
            counters: Arc::clone(counters),
            clock,
            loop_index,
            loops: plan.loops,
        })
        .collect();
    let make = Arc::new(make);
    let start = |driver| {
        let (seats, make) = (seats.clone(), Arc::clone(&make));
        client(plan).driver(driver).start(move |info| {
            let seat = seats[info.index].clone();
            let _ = seat.shared.driver.set(info.driver);
            make(seat)
        })
    };
    let client = match plan.driver {
        // A client costs least on io_uring, and should cost less than what it measures.
        Driver::Auto => start(Driver::IoUring).or_else(|_| start(Driver::Poll)),
        driver => start(driver),
    };
    let client = client.map_err(|error| Failure::Usage(error.to_string()))?;
    let run = Run {
        plan,
        shared: &shared,
        counters: &counters,
        clock,
        interrupted: &interrupted,
        progress: Progress::new(plan),
        client: &client,
    };
    let result = run.phases(before);
    run.progress.finish();
    client.stop_within(STOPPING);
    let joined = client.join();
    let report = result.map_err(|reason| {
        let mut lines = shared.faults.told();
        lines.push(reason);
        Failure::Load(lines.join("\nerror: "))
    })?;
    joined.map_err(|error| Failure::Load(error.to_string()))?;
    Ok(report)
}

/// The first interruption asks for an early end, the second one is one.
fn interruptions() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}

fn server_sample(plan: &Plan) -> Result<Option<Sample>, Failure> {
    let Some(pid) = plan.server_pid else { return Ok(None) };
    sample(&pid.to_string())
        .map(Some)
        .map_err(|error| Failure::Load(format!("the server's process {pid}: {error}")))
}

/// A load that is under way.
struct Run<'a, H: Load> {
    plan: &'a Arc<Plan>,
    shared: &'a Shared,
    counters: &'a [Arc<LoopCounters>],
    clock: Clock,
    interrupted: &'a AtomicBool,
    progress: Progress,
    client: &'a RunningClient<H>,
}

/// What the measured window was.
struct Window {
    server: Option<(Sample, Sample)>,
    client_cpu_ns: u64,
    series: Vec<Point>,
    length: Duration,
}

impl<H: Load> Run<'_, H> {
    fn phases(&self, before: Option<Sample>) -> Result<Report, String> {
        let plan = self.plan;
        self.wait_until_ready()?;
        self.on_each_loop(|handler, cx| handler.go(cx))?;
        let pacer = plan.rate.map(|_| {
            let loops = self.client.loops().iter().cloned();
            Pacer::start(loops.zip(self.counters.iter().cloned()), self.clock)
        });
        self.pass(plan.warmup, |elapsed| self.progress.warming_up(elapsed))?;
        if self.is_interrupted() {
            return Err("interrupted before the measurement began".to_owned());
        }
        let mut window = self.window()?;
        if plan.work == Work::Idle {
            window.server = window.server.zip(before).map(|((_, end), before)| (before, end));
        }
        self.drain()?;
        drop(pacer);
        let totals = self.collect()?;
        let measured = Measured {
            totals,
            server: window.server,
            client_cpu_ns: window.client_cpu_ns,
            series: window.series,
            seconds: window.length.as_secs_f64(),
            faults: self.shared.faults.counts(),
            told: self.shared.faults.told(),
            is_interrupted: self.is_interrupted(),
            driver: self.shared.driver.get().map_or_else(String::new, ToString::to_string),
        };
        Ok(Report::new(plan, measured))
    }

    /// All connections are open, and what comes before the load is done.
    fn wait_until_ready(&self) -> Result<(), String> {
        loop {
            self.check()?;
            if self.shared.ready.load(Ordering::Acquire) == self.plan.loops {
                return Ok(());
            }
            if self.is_interrupted() {
                return Err("interrupted before the load began".to_owned());
            }
            self.progress.opening(self.shared.opened.load(Ordering::Relaxed));
            std::thread::sleep(GLANCE);
        }
    }

    fn window(&self) -> Result<Window, String> {
        let process = |pid: &str| sample(pid).map_err(|error| format!("process {pid}: {error}"));
        let server = || self.plan.server_pid.map(|pid| process(&pid.to_string())).transpose();
        let (server_begin, client_begin) = (server()?, process("self")?);
        self.on_each_loop(|handler, _| handler.begin_window())?;
        let began = Instant::now();
        let mut series = Vec::new();
        let mut done = self.operations();
        self.pass(self.plan.duration, |elapsed| {
            let now = self.operations();
            let point = Point { seconds: elapsed.as_secs_f64(), operations: now - done };
            self.progress.measuring(elapsed, &point, series.last());
            series.push(point);
            done = now;
        })?;
        let (server_end, client_end) = (server()?, process("self")?);
        let length = began.elapsed();
        self.on_each_loop(|handler, cx| handler.end_window(cx))?;
        Ok(Window {
            server: server_begin.zip(server_end),
            client_cpu_ns: client_end.cpu_ns.saturating_sub(client_begin.cpu_ns),
            series,
            length,
        })
    }

    /// Lets time pass, with a call for each point of the series.
    fn pass(&self, length: Duration, mut point: impl FnMut(Duration)) -> Result<(), String> {
        let began = Instant::now();
        let mut next = POINT;
        loop {
            let until = next.min(length);
            std::thread::sleep((began + until).saturating_duration_since(Instant::now()));
            self.check()?;
            if until > Duration::ZERO {
                point(began.elapsed());
            }
            if until == length || self.is_interrupted() || self.shared.ends_early() {
                return Ok(());
            }
            next += POINT;
        }
    }

    /// Waits for the replies that are under way.
    fn drain(&self) -> Result<(), String> {
        let began = Instant::now();
        let deadline = began + self.plan.timeout.max(LATE) + GLANCE;
        let mut is_late = false;
        // Idle connections are asked in turn; each of them has its own time.
        while Instant::now() < deadline || self.plan.work == Work::Idle {
            self.check()?;
            if self.shared.ends_early() {
                return Ok(());
            }
            if !is_late && began.elapsed() > LATE {
                is_late = true;
                self.on_each_loop(|handler, _| handler.drop_due())?;
            }
            if self.ask_each_loop(|handler, _| handler.is_quiet())?.into_iter().all(|quiet| quiet) {
                return Ok(());
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    fn collect(&self) -> Result<Vec<Totals>, String> {
        self.ask_each_loop(|handler, _| handler.finish())
    }

    fn operations(&self) -> u64 {
        self.counters.iter().map(|counters| counters.operations()).sum()
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<(), String> {
        self.shared.given_up().map_or(Ok(()), Err)
    }

    fn on_each_loop(
        &self,
        job: impl FnOnce(&mut H, &mut Context<'_, H>) + Clone + Send + 'static,
    ) -> Result<(), String> {
        for handle in self.client.loops() {
            execute(handle, job.clone())?;
        }
        Ok(())
    }

    fn ask_each_loop<T: Send + 'static>(
        &self,
        job: impl Fn(&mut H, &mut Context<'_, H>) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, String> {
        let (sender, answers) = channel();
        for handle in self.client.loops() {
            let (job, sender) = (job.clone(), sender.clone());
            execute(handle, move |handler: &mut H, cx: &mut Context<'_, H>| {
                // The main thread waits for it.
                let _ = sender.send(job(handler, cx));
            })?;
        }
        drop(sender);
        let answers: Vec<T> = answers.iter().collect();
        let is_whole = answers.len() == self.plan.loops;
        is_whole.then_some(answers).ok_or_else(|| "an event loop has ended".to_owned())
    }
}

fn execute<H: Load>(
    handle: &LoopHandle<H>,
    job: impl FnOnce(&mut H, &mut Context<'_, H>) + Send + 'static,
) -> Result<(), String> {
    handle.execute(job).map_err(|error| format!("event loop {}: {error}", handle.index()))
}
