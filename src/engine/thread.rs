//! The loops' threads: how one starts in step with the others, and how it ends.

use std::any::Any;
use std::io;
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::control::{LoopShared, ServerHandle};
use crate::driver::Driver;
use crate::driver::ready::Ready;
use crate::engine::choice::{self, Choice, Life};
use crate::error::{Error, Result};
use crate::handler::{Action, Handler};
use crate::options::Options;
use crate::reactor::{Parts, Reactor};
use crate::sys::affinity;
use crate::sys::is_not_here;
use crate::sys::socket::{Listener, Stream};

/// The threads of one server while they boot and until they have ended.
pub(super) struct Threads {
    server: ServerHandle,
    threads: Vec<JoinHandle<()>>,
    /// One for each thread: it goes on when told so, and gives up when the sender is gone.
    go: Vec<Sender<()>>,
    reports: Receiver<Report>,
    reporter: Option<Sender<Report>>,
}

enum Report {
    /// Built, or booted.
    Ready,
    Ended(Result<()>),
}

/// A thread's end of the boot protocol.
struct Step {
    reporter: Sender<Report>,
    go: Receiver<()>,
}

impl Step {
    /// Reports, and answers whether to go on.
    fn done(&self) -> bool {
        self.reporter.send(Report::Ready).is_ok() && self.go.recv().is_ok()
    }
}

impl Threads {
    pub(super) fn new(server: ServerHandle) -> Self {
        let (reporter, reports) = channel();
        Threads { server, threads: Vec::new(), go: Vec::new(), reports, reporter: Some(reporter) }
    }

    /// Starts a thread, which builds its loop and then waits.
    pub(super) fn spawn<H: Handler>(
        &mut self,
        name: String,
        index: usize,
        parts: Parts<Ready, H>,
        make_handler: impl FnOnce(Choice) -> H + Send + 'static,
    ) -> Result<()> {
        let (go, wait) = channel();
        let Some(reporter) = self.reporter.clone() else {
            return Ok(());
        };
        let step = Step { reporter: reporter.clone(), go: wait };
        let (server, shared) = (self.server.clone(), Arc::clone(&parts.shared));
        let jobs = Arc::clone(&parts.jobs);
        let body = move || {
            let options = Arc::clone(&parts.options);
            let life = LoopLife { index, parts, make_handler, step: &step };
            let life = AssertUnwindSafe(|| life.begin(&options));
            let result = catch_unwind(life).unwrap_or_else(|panic| {
                let message = panic_message(&*panic);
                log::error!("event loop {index} panicked: {message}");
                Err(Error::LoopPanicked { index, message })
            });
            bury(&shared);
            // Jobs of a loop that ended in order have been run; the others can not be.
            drop(jobs.close());
            if result.is_err() {
                // Half a server is worse than none.
                server.stop();
            }
            // Nobody listens when the server was not joined.
            drop(reporter.send(Report::Ended(result)));
        };
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(body)
            .map_err(|source| Error::LoopStart { index, source })?;
        self.threads.push(thread);
        self.go.push(go);
        Ok(())
    }

    /// Lets all threads boot in step, and then serve.
    pub(super) fn boot(&mut self) -> Result<()> {
        self.reporter = None;
        for _ in ["built", "booted"] {
            for _ in 0..self.threads.len() {
                match self.reports.recv() {
                    Ok(Report::Ready) => {}
                    Ok(Report::Ended(Err(error))) => return Err(self.give_up(error)),
                    Ok(Report::Ended(Ok(()))) | Err(_) => {
                        let source = io::Error::other("its thread ended while it started");
                        return Err(self.give_up(Error::LoopStart { index: 0, source }));
                    }
                }
            }
            for go in &self.go {
                // A thread that has ended reports so itself.
                let _ = go.send(());
            }
        }
        Ok(())
    }

    /// Ends the threads that wait to go on, so that everything they hold is closed.
    fn give_up(&mut self, error: Error) -> Error {
        // Handlers may keep a handle of what never was.
        self.server.shared.listening.close();
        self.go.clear();
        // Their own results say no more than the first error.
        drop(self.join());
        error
    }

    /// Waits for the end of all threads; answers the first error that one of them ended with.
    pub(super) fn join(&mut self) -> Result<()> {
        for thread in self.threads.drain(..) {
            // The thread's body has caught its panics.
            drop(thread.join());
        }
        let mut outcome = Ok(());
        while let Ok(report) = self.reports.try_recv() {
            if let Report::Ended(Err(error)) = report
                && outcome.is_ok()
            {
                outcome = Err(error);
            }
        }
        outcome
    }
}

impl Drop for Threads {
    /// A server that could not start leaves no thread behind.
    fn drop(&mut self) {
        self.server.shared.listening.close();
        self.go.clear();
    }
}

/// A loop's thread from beginning to end.
struct LoopLife<'a, H: Handler, F> {
    index: usize,
    parts: Parts<Ready, H>,
    make_handler: F,
    step: &'a Step,
}

impl<H: Handler, F: FnOnce(Choice) -> H> LoopLife<'_, H, F> {
    fn begin(self, options: &Options) -> Result<()> {
        let index = self.index;
        if options.pin_loops {
            let cpus = affinity::available_cpus();
            if let Some(&cpu) = cpus.get(index % cpus.len().max(1)) {
                affinity::pin_current_thread(cpu).map_err(|source| start_error(index, source))?;
            }
        }
        choice::live(options, self)
    }
}

impl<H: Handler, F: FnOnce(Choice) -> H> Life for LoopLife<'_, H, F> {
    fn live<D>(self, driver: D, choice: Choice) -> Result<()>
    where
        D: Driver<Stream = Stream, Listener = Listener, DatagramSocket = UdpSocket>,
    {
        let LoopLife { index, parts, make_handler, step } = self;
        let failed = |source| Error::LoopStart { index, source };
        // The same for all of them.
        if let Some(reason) = choice.fallback.filter(|_| index == 0) {
            log::info!("the loops do without io_uring: {reason}");
        }
        let (server, shared) = (parts.server.clone(), Arc::clone(&parts.shared));
        // The loop is not running yet, so nobody else has set it.
        drop(shared.waker.set(driver.waker()));
        let handler = make_handler(choice);
        let mut reactor = Reactor::new(driver, handler, parts.for_driver()).map_err(failed)?;
        if !step.done() {
            return Ok(());
        }
        if reactor.boot() == Action::Shutdown {
            server.stop();
        }
        if !step.done() {
            return Ok(());
        }
        let served = catch_unwind(AssertUnwindSafe(|| reactor.run())).unwrap_or_else(|panic| {
            reactor.send_gathered();
            resume_unwind(panic)
        });
        served.map_err(|source| Error::LoopFailed { index, source })
    }

    fn fail(self, source: io::Error) -> Result<()> {
        Err(start_error(self.index, source))
    }
}

fn start_error(index: usize, source: io::Error) -> Error {
    if is_not_here(&source) {
        return Error::Unsupported { what: source.to_string() };
    }
    Error::LoopStart { index, source }
}

/// Answers everybody who still waits for something from a loop that has ended.
fn bury(shared: &LoopShared) {
    shared.ended.store(true, Ordering::Release);
    for command in shared.commands.close() {
        // Dropping it tells whoever waits.
        drop(command.refused());
    }
}

/// What a panic says of itself.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
