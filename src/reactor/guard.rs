//! What stands around every call of user code: its panics end here, and its stalls are noticed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use crate::driver::{Driver, Token};
use crate::handler::Handler;
use crate::options::PanicPolicy;
use crate::reactor::Reactor;
use crate::workers::panic_message;

/// What a panic that was caught has left.
pub(super) struct Panicked(Box<dyn Any + Send>);

/// Calls user code. Unwinding past this point is safe to go on from: what user code can reach are
/// its own values and marks and buffers of connections, which no call leaves half changed; the
/// callers bring back what they have moved out, whatever the answer.
#[inline]
pub(super) fn call<R>(code: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(code)).map_err(Panicked)
}

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// The clock before a callback, where callbacks are timed.
    #[inline]
    pub(super) fn callback_begins(&self) -> Option<Instant> {
        self.core.options.stall_threshold.map(|_| self.driver.now())
    }

    /// What has to be done after user code of whatever kind: `name` is its name for people, and
    /// `token` the connection that a panic of it ends.
    #[inline]
    pub(super) fn callback_ended<R>(
        &mut self,
        name: &'static str,
        token: Option<Token>,
        begun: Option<Instant>,
        result: Result<R, Panicked>,
    ) -> Option<R> {
        if let Some(begun) = begun {
            self.look_for_a_stall(name, begun);
        }
        match result {
            Ok(answer) => Some(answer),
            Err(panicked) => {
                self.panicked(name, token, panicked);
                None
            }
        }
    }

    fn look_for_a_stall(&mut self, name: &'static str, begun: Instant) {
        let took = self.driver.now().saturating_duration_since(begun);
        if self.core.options.stall_threshold.is_some_and(|threshold| took > threshold) {
            self.core.shared.metrics.stalls.add(1);
            let index = self.core.index;
            log::warn!("{name} took {took:?}, and the connections of loop {index} waited");
        }
    }

    #[cold]
    fn panicked(&mut self, name: &'static str, token: Option<Token>, Panicked(payload): Panicked) {
        let message = match self.core.options.panic_policy {
            PanicPolicy::CloseConnection => panic_message(payload),
            // The thread's body tells of it.
            PanicPolicy::StopServer => resume_unwind(payload),
        };
        self.core.shared.metrics.panics.add(1);
        log::error!("{name} panicked: {message}");
        if let Some(conn) = token.and_then(|token| self.core.table.get_mut(token)) {
            conn.panicked(message);
        }
    }
}
