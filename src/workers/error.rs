//! How a job fails: it is given back ([`SpawnError`]), or it panics ([`JobPanic`]). Foreign code is
//! called through `contain` only, so that no panic takes a thread of the pool along.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{fmt, io, mem};

/// Why a [`WorkerPool`](super::WorkerPool) did not accept a job, and the job.
#[non_exhaustive]
pub enum SpawnError<J> {
    /// Every thread is busy and as many jobs wait as may. The work comes faster than it is done.
    Full(J),
    /// The pool was stopped.
    Stopped(J),
    /// The pool has no thread, and the system refused to create one.
    NoThread(J, io::Error),
}

impl<J> SpawnError<J> {
    /// The job, to be run elsewhere or later, or dropped.
    pub fn into_job(self) -> J {
        match self {
            SpawnError::Full(job) | SpawnError::Stopped(job) | SpawnError::NoThread(job, _) => job,
        }
    }

    pub(crate) fn map_job<K>(self, map: impl FnOnce(J) -> K) -> SpawnError<K> {
        match self {
            SpawnError::Full(job) => SpawnError::Full(map(job)),
            SpawnError::Stopped(job) => SpawnError::Stopped(map(job)),
            SpawnError::NoThread(job, error) => SpawnError::NoThread(map(job), error),
        }
    }
}

impl<J> fmt::Debug for SpawnError<J> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::Full(_) => formatter.write_str("Full(..)"),
            SpawnError::Stopped(_) => formatter.write_str("Stopped(..)"),
            SpawnError::NoThread(_, error) => write!(formatter, "NoThread(.., {error:?})"),
        }
    }
}

impl<J> fmt::Display for SpawnError<J> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            SpawnError::Full(_) => "the worker pool is busy and its queue is full",
            SpawnError::Stopped(_) => "the worker pool was stopped",
            SpawnError::NoThread(..) => "the worker pool could not create its first thread",
        })
    }
}

impl<J> Error for SpawnError<J> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SpawnError::NoThread(_, error) => Some(error),
            SpawnError::Full(_) | SpawnError::Stopped(_) => None,
        }
    }
}

/// A job of a [`WorkerPool`](super::WorkerPool) panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobPanic {
    /// What the panic said.
    pub message: String,
}

impl fmt::Display for JobPanic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a job of the worker pool panicked: {}", self.message)
    }
}

impl Error for JobPanic {}

/// Calls foreign code and turns its panic into a value.
///
/// That the code is unwind safe is only asserted: it is consumed, and what it shares with others is
/// theirs to guard, as with any thread that panics.
pub(crate) fn contain<R>(code: impl FnOnce() -> R) -> Result<R, JobPanic> {
    catch_unwind(AssertUnwindSafe(code))
        .map_err(|payload| JobPanic { message: panic_message(payload) })
}

/// What a panic says of itself.
pub(crate) fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let payload = match payload.downcast::<String>() {
        Ok(message) => return *message,
        Err(payload) => payload,
    };
    if let Some(message) = payload.downcast_ref::<&'static str>() {
        return (*message).to_owned();
    }
    // The drop of a payload is foreign code and may panic in its turn; that one's payload is leaked
    // rather than dropped, or there would be no end.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(second);
    }
    "(the panic's payload is not text)".to_owned()
}
