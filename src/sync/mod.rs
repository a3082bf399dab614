//! What crosses threads: a mailbox a loop, and the flag that says whether its owner must be rung.
//!
//! ```text
//!   any thread                                the loop
//!   ----------                                --------
//!   mailbox.push(item)                        flag.begin_sleep()
//!   if flag.must_ring() { ring the driver }   block only if mailbox.is_empty()
//!                                             flag.end_sleep()
//!                                             mailbox.swap_into(&mut batch)
//! ```
//!
//! These are the only locks and atomics on the data path, so they are the only ones that loom
//! checks: `RUSTFLAGS="--cfg loom" cargo test --release --lib sync::`.

pub(crate) mod mailbox;
pub(crate) mod wake;

/// The primitives of std, or those of loom when loom tests are built.
///
/// `cfg(loom)` alone is not enough to choose loom's: loom is a development dependency, so that it
/// exists for the crate's own tests only.
mod primitives {
    #[cfg(all(test, loom))]
    pub(super) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    };
    #[cfg(not(all(test, loom)))]
    pub(super) use std::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    };

    /// Locks, also when a panic has poisoned the mutex.
    ///
    /// No critical section of this module calls foreign code, and each leaves the data whole at
    /// every step. The poison therefore says nothing about the data, while passing it on would take
    /// down every thread that still has something to send.
    pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Runs a loom model with at most three preemptions an execution.
///
/// Three threads that sleep, wake and look again have more interleavings than a test run can visit;
/// three preemptions take a second, and every fault that was put into `wake` to try the tests shows
/// with them.
#[cfg(all(test, loom))]
fn model_with_few_preemptions(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}
