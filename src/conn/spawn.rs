//! Blocking work on behalf of a connection: out to the worker pool and back to the loop.

use std::any::{Any, TypeId};
use std::result::Result;
use std::sync::Arc;

use crate::conn::Conn;
use crate::conn::command::Command;
use crate::workers::{JobPanic, SpawnError, contain};

impl Conn<'_> {
    /// Runs `job`, which may block, on the worker pool; then `done` on this loop, with the
    /// connection, its state and the job's result, if the connection still lives. `S` is the
    /// handler's `State`. A panic of the job is a result too.
    ///
    /// # Errors
    /// `job` and `done` come back when the pool's queue is full. While the server stops, the job is
    /// still run, but its connection is closing, so `done` is not.
    ///
    /// # Panics
    /// If `S` is not the handler's `State`.
    ///
    /// ```
    /// use tightloop::{Conn, Input};
    ///
    /// fn look_up(conn: &mut Conn<'_>, input: &mut Input<'_>) {
    ///     let key = input.take_all().to_vec();
    ///     let spawned = conn.spawn(
    ///         move || std::fs::read(String::from_utf8_lossy(&key).as_ref()),
    ///         |conn: &mut Conn<'_>, _state: &mut (), result| match result {
    ///             Ok(Ok(contents)) => { conn.write_bytes(contents); }
    ///             Ok(Err(_)) | Err(_) => conn.close(),
    ///         },
    ///     );
    ///     if spawned.is_err() {
    ///         conn.write(b"busy\n");
    ///     }
    /// }
    /// ```
    #[doc(alias = "NewWorkerPool")]
    pub fn spawn<S, R, J, D>(&mut self, job: J, done: D) -> Result<(), SpawnError<(J, D)>>
    where
        S: 'static,
        R: Send + 'static,
        J: FnOnce() -> R + Send + 'static,
        D: FnOnce(&mut Conn<'_>, &mut S, Result<R, JobPanic>) + Send + 'static,
    {
        self.spawn_for(job, done, |done: D, conn, state: &mut S, result| done(conn, state, result))
    }

    /// As `spawn`, for a `done` of any kind: `call` calls it.
    pub(crate) fn spawn_for<S, R, J, D>(
        &mut self,
        job: J,
        done: D,
        call: fn(D, &mut Conn<'_>, &mut S, Result<R, JobPanic>),
    ) -> Result<(), SpawnError<(J, D)>>
    where
        S: 'static,
        R: Send + 'static,
        J: FnOnce() -> R + Send + 'static,
        D: Send + 'static,
    {
        assert!(
            TypeId::of::<S>() == self.core.state_type,
            "Conn::spawn: the state in `done` is not this handler's State"
        );
        let (token, shared) = (self.token, Arc::clone(&self.core.shared));
        self.core.workers.try_submit((job, done), |(job, done)| {
            Box::new(move || {
                let result = contain(job);
                let outcome = result.as_ref().map(drop).map_err(JobPanic::clone);
                let done = move |conn: &mut Conn<'_>, state: &mut dyn Any| {
                    if let Some(state) = state.downcast_mut::<S>() {
                        call(done, conn, state, result);
                    }
                };
                // A loop that has ended has no connection to be told of.
                drop(shared.send_reserved(Command::JobDone(token, Box::new(done))));
                outcome
            })
        })
    }
}
