//! `WorkerPool`: bounded threads for work that blocks, which a loop must never do itself.
//!
//! One queue behind one lock; threads start when a job has no idle thread to take it, and end when
//! they stay idle. Everything is bounded: threads, waiting jobs, idle time. What cannot be accepted
//! is given back, and what was accepted runs, also after `stop`: no job vanishes.
//!
//! ```text
//!   try_spawn --> queue --> idle thread --> job runs --> done(result or JobPanic)
//!       |                       ^               |
//!       +-- SpawnError(job)     +---------------+--> thread ends: idle too long, or stopped
//! ```
//!
//! No foreign code (job, callback, logger, drop of a job) runs under the lock.
//!
//! INVARIANT: `idle <= threads <= max_threads`, where idle are the threads that hold no job,
//! whether they wait or are on their way to the queue; a queue that is not empty has a thread; at
//! most `queue_capacity` jobs wait beyond those that an idle thread is about to take.

mod error;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io, thread};

pub use error::{JobPanic, SpawnError};
pub(crate) use error::{contain, panic_message};

/// A bounded pool of threads for blocking work: files, name look-ups, databases, long computations.
///
/// A clone is another handle of the same pool. Dropping the last handle stops the pool as [`stop`]
/// does, without waiting; this may happen inside one of its own jobs.
///
/// ```
/// use std::sync::mpsc;
/// use tightloop::{WorkerOptions, WorkerPool};
///
/// let pool = WorkerPool::new(WorkerOptions::default());
/// let (sender, receiver) = mpsc::channel();
/// let done = move |result| sender.send(result).unwrap();
/// pool.try_spawn_with(|| 6 * 7, done).expect("an empty pool takes a job");
/// assert_eq!(receiver.recv(), Ok(Ok(42)));
/// ```
///
/// [`stop`]: WorkerPool::stop
#[derive(Clone)]
pub struct WorkerPool {
    owner: Arc<Owner>,
}

/// The limits of a [`WorkerPool`].
///
/// ```
/// use tightloop::{WorkerOptions, WorkerPool};
///
/// let mut options = WorkerOptions::default();
/// options.max_threads = 4;
/// options.name_prefix = "resize".to_owned();
/// let pool = WorkerPool::new(options);
/// # pool.stop();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// Threads at most; 0 counts as 1. Default 64: blocking jobs wait more than they compute, so
    /// that many times the number of cores are useful, while 64 stays far below the thread limits
    /// of containers and keeps a disk or a database's connection pool busy.
    pub max_threads: usize,
    /// Jobs that may wait when every thread has one; more are refused. Default 4096: 64 rounds of
    /// 64 threads absorb a burst, and more would only hide that the work does not keep up.
    pub queue_capacity: usize,
    /// How long a thread without a job is kept. Default 10 s: longer than the pauses of a steady
    /// load, so that it does not pay for new threads, and short enough that a burst's stacks are
    /// given back. Waiting threads take turns: a steady trickle of jobs can keep more of them than
    /// it needs.
    pub idle_timeout: Duration,
    /// Threads are named by this, a hyphen and a number. Default `tl-worker`: Linux shows 15 bytes
    /// of a thread's name, which leaves the number visible.
    pub name_prefix: String,
}

impl Default for WorkerOptions {
    fn default() -> WorkerOptions {
        WorkerOptions {
            max_threads: 64,
            queue_capacity: 4096,
            idle_timeout: Duration::from_secs(10),
            name_prefix: "tl-worker".to_owned(),
        }
    }
}

/// What a [`WorkerPool`] did so far and does now.
///
/// Jobs accepted so far = `queued` + running (`threads - idle`) + `completed` + `panicked`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Threads that live.
    pub threads: usize,
    /// Those of them without a job.
    pub idle: usize,
    /// Jobs that no thread has taken yet.
    pub queued: usize,
    /// Jobs that ran to their end.
    pub completed: u64,
    /// Jobs that panicked, or whose `done` did.
    pub panicked: u64,
    /// Jobs that were given back.
    pub rejected: u64,
    /// How often the system refused a new thread; its job waited for another thread if there was
    /// one.
    pub refused_threads: u64,
}

impl WorkerPool {
    /// A pool without threads: the first job starts the first one.
    pub fn new(options: WorkerOptions) -> WorkerPool {
        WorkerPool::with_starter(options, start_system_thread)
    }

    fn with_starter(mut options: WorkerOptions, start_thread: StartThread) -> WorkerPool {
        options.max_threads = options.max_threads.max(1);
        // std panics on a thread name with a zero byte.
        options.name_prefix.retain(|character| character != '\0');
        let shared = Arc::new(Shared {
            options,
            start_thread,
            state: Mutex::default(),
            work_ready: Condvar::new(),
            all_ended: Condvar::new(),
        });
        WorkerPool { owner: Arc::new(Owner { shared }) }
    }

    /// Runs `job` on a thread of the pool, or gives it back.
    ///
    /// Never blocks on other jobs; at most it starts a thread. A panic of the job is logged and
    /// counted and harms nothing else (with `panic = "abort"` it ends the program, as everywhere).
    ///
    /// # Errors
    /// [`SpawnError`], each kind with the job: see there.
    #[doc(alias = "Submit")]
    pub fn try_spawn<J>(&self, job: J) -> Result<(), SpawnError<J>>
    where
        J: FnOnce() + Send + 'static,
    {
        self.owner.shared.submit(job, |job| Box::new(move || contain(job)))
    }

    /// Runs `job` on a thread of the pool and then, on the same thread, `done` with its result.
    ///
    /// Once this returned `Ok`, `done` is called exactly once, with a [`JobPanic`] if the job
    /// panicked.
    ///
    /// # Errors
    /// [`SpawnError`], each kind with both closures: see there.
    pub fn try_spawn_with<R, J, D>(&self, job: J, done: D) -> Result<(), SpawnError<(J, D)>>
    where
        J: FnOnce() -> R + Send + 'static,
        D: FnOnce(Result<R, JobPanic>) + Send + 'static,
    {
        self.owner.shared.submit((job, done), |(job, done)| {
            Box::new(move || {
                let result = contain(job);
                let job_outcome = result.as_ref().map(|_| ()).map_err(JobPanic::clone);
                contain(move || done(result)).and(job_outcome)
            })
        })
    }

    /// As `try_spawn`, for a job made of parts that come back as they were if it is refused.
    /// `into_job` runs under the pool's lock: a move, no foreign code.
    pub(crate) fn try_submit<P>(
        &self,
        parts: P,
        into_job: impl FnOnce(P) -> Job,
    ) -> Result<(), SpawnError<P>> {
        self.owner.shared.submit(parts, into_job)
    }

    /// What the pool did so far and does now.
    pub fn stats(&self) -> WorkerStats {
        let state = self.owner.shared.lock();
        WorkerStats {
            threads: state.threads,
            idle: state.idle,
            queued: state.queue.len(),
            ..state.counters
        }
    }

    /// Refuses new jobs from now on. What was accepted still runs; then the threads end.
    ///
    /// Does not wait: that is [`join`](WorkerPool::join).
    #[doc(alias = "Release")]
    pub fn stop(&self) {
        self.owner.shared.stop();
    }

    /// Waits until the pool has no thread, for `timeout` at most; true if it has none.
    ///
    /// Meant to follow [`stop`](WorkerPool::stop). Without it, this waits until all threads have
    /// been idle for their time, and the next job starts one again. Called from inside a job it can
    /// only run into its timeout.
    pub fn join(&self, timeout: Duration) -> bool {
        let shared = &self.owner.shared;
        let ended = shared.all_ended.wait_timeout_while(shared.lock(), timeout, |s| s.threads > 0);
        ended.unwrap_or_else(PoisonError::into_inner).0.threads == 0
    }
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        formatter.debug_struct("WorkerPool").field("stats", &stats).finish_non_exhaustive()
    }
}

/// What the handles share and the threads do not: its end is the end of the last handle.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Does not join: a job may drop the last handle, and its thread cannot wait for itself.
        self.shared.stop();
    }
}

/// A job with its panics contained.
pub(crate) type Job = Box<dyn FnOnce() -> Result<(), JobPanic> + Send>;
/// Creates the thread of that name and lets it `Shared::work`; a test puts a failing one in its
/// place.
type StartThread = fn(String, Arc<Shared>) -> io::Result<()>;

fn start_system_thread(name: String, shared: Arc<Shared>) -> io::Result<()> {
    thread::Builder::new().name(name).spawn(move || shared.work()).map(drop)
}

struct Shared {
    options: WorkerOptions,
    start_thread: StartThread,
    state: Mutex<State>,
    /// Signalled once a job, and to all when the pool stops.
    work_ready: Condvar,
    /// Signalled when `threads` becomes 0.
    all_ended: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    stopping: bool,
    /// Threads ever created, for their names.
    created: u64,
    /// Only the counters that grow are kept here; what the pool does now is filled in by
    /// `stats`.
    counters: WorkerStats,
}

impl Shared {
    /// The poison of the lock is ignored: no foreign code runs under it, so that a panic there
    /// could only be a failed debug assertion, and the rest of the jobs must run all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues what `into_job` makes of `parts` (a move, no foreign code), or gives `parts` back.
    fn submit<P>(
        self: &Arc<Self>,
        parts: P,
        into_job: impl FnOnce(P) -> Job,
    ) -> Result<(), SpawnError<P>> {
        let mut state = self.lock();
        if let Err(refusal) = self.make_room(&mut state) {
            state.counters.rejected += 1;
            return Err(refusal.map_job(|()| parts));
        }
        state.queue.push_back(into_job(parts));
        state.assert_invariants(&self.options);
        drop(state);
        self.work_ready.notify_one();
        Ok(())
    }

    /// Decides whether one more job may be queued, starting a thread for it if there is no idle
    /// one.
    ///
    /// The thread is created under the lock, some tens of microseconds: only so is it certain, when
    /// creation fails, that a job that is queued all the same has a thread.
    fn make_room(self: &Arc<Self>, state: &mut State) -> Result<(), SpawnError<()>> {
        if state.stopping {
            return Err(SpawnError::Stopped(()));
        }
        let idle_thread_is_left = state.queue.len() < state.idle;
        if idle_thread_is_left {
            return Ok(());
        }
        if state.threads < self.options.max_threads {
            let name = format!("{}-{}", self.options.name_prefix, state.created);
            match (self.start_thread)(name, Arc::clone(self)) {
                Ok(()) => {
                    state.created += 1;
                    state.threads += 1;
                    state.idle += 1;
                    return Ok(());
                }
                Err(error) => {
                    state.counters.refused_threads += 1;
                    if state.threads == 0 {
                        return Err(SpawnError::NoThread((), error));
                    }
                }
            }
        }
        let waiting = state.queue.len() - state.idle;
        if waiting < self.options.queue_capacity { Ok(()) } else { Err(SpawnError::Full(())) }
    }

    /// The life of a thread, which `make_room` has counted as idle.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            while let Some(job) = state.queue.pop_front() {
                state.idle -= 1;
                drop(state);
                let outcome = job();
                if let Err(panic) = &outcome {
                    // A logger is foreign code too, and a thread that unwinds would stay counted.
                    let _ = contain(|| log::error!("{panic}"));
                }
                state = self.lock();
                state.idle += 1;
                let counter = match outcome {
                    Ok(()) => &mut state.counters.completed,
                    Err(_) => &mut state.counters.panicked,
                };
                *counter += 1;
            }
            if state.stopping {
                break;
            }
            let nothing_to_do = |state: &mut State| state.queue.is_empty() && !state.stopping;
            let (guard, wait) = self
                .work_ready
                .wait_timeout_while(state, self.options.idle_timeout, nothing_to_do)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if wait.timed_out() {
                break;
            }
        }
        state.threads -= 1;
        state.idle -= 1;
        state.assert_invariants(&self.options);
        if state.threads == 0 {
            self.all_ended.notify_all();
        }
    }

    fn stop(&self) {
        self.lock().stopping = true;
        self.work_ready.notify_all();
    }
}

impl State {
    fn assert_invariants(&self, options: &WorkerOptions) {
        debug_assert!(self.idle <= self.threads && self.threads <= options.max_threads);
        debug_assert!(self.queue.is_empty() || self.threads > 0);
        debug_assert!(self.queue.len().saturating_sub(self.idle) <= options.queue_capacity);
    }
}

#[cfg(test)]
mod tests;
