//! Passive health: an upstream that cannot be connected to is left out for a while, and then tried
//! by one client alone before the others follow.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tightloop::CloseReason;

/// Shared by all loops.
pub struct Health {
    start: Instant,
    down_for: Duration,
    /// Milliseconds since the start, at which it may be tried again; zero while it is up.
    down_until: AtomicU64,
}

impl Health {
    pub fn new(down_for: Duration) -> Self {
        Health { start: Instant::now(), down_for, down_until: AtomicU64::new(0) }
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_millis() as u64
    }

    /// It has answered.
    pub fn succeeded(&self) {
        // Read first: it nearly always is up, and loops share this line of memory.
        if self.down_until.load(Ordering::Relaxed) != 0 {
            self.down_until.store(0, Ordering::Relaxed);
        }
    }

    /// It refused, or did not answer.
    pub fn failed(&self, now: Instant) {
        self.down_until.store(self.ms(now + self.down_for), Ordering::Relaxed);
    }

    /// It was tried, but who tried it did not wait for the answer: the next one may.
    pub fn was_given_up(&self, now: Instant) {
        if self.down_until.load(Ordering::Relaxed) != 0 {
            self.down_until.store(self.ms(now).max(1), Ordering::Relaxed);
        }
    }

    /// Whether it may be tried.
    pub fn is_eligible(&self, now: Instant) -> bool {
        self.down_until.load(Ordering::Relaxed) <= self.ms(now)
    }

    /// It is about to be tried. After a failure only the first one who asks may: the others would
    /// all wait for an upstream that may still be dead.
    pub fn claim(&self, now: Instant) -> bool {
        let down_until = self.down_until.load(Ordering::Relaxed);
        if down_until == 0 {
            return true;
        }
        let again = self.ms(now + self.down_for);
        let order = Ordering::Relaxed;
        down_until <= self.ms(now)
            && self.down_until.compare_exchange(down_until, again, order, order).is_ok()
    }
}

/// Whether the upstream is to blame for a connection to it that was not made.
pub fn is_fault(reason: &CloseReason) -> bool {
    match reason {
        CloseReason::ConnectFailed(error) => !is_busy(reason) && !is_want_of_our_own(error),
        // Our client has gone, or we stop.
        CloseReason::Aborted | CloseReason::Local | CloseReason::ServerStopped => false,
        _ => true,
    }
}

/// Whether the upstream's backlog is full, as a Unix socket tells, or our queue of name look-ups: a
/// client that waits may get in.
pub fn is_busy(reason: &CloseReason) -> bool {
    use io::ErrorKind::{ResourceBusy, WouldBlock};
    matches!(reason, CloseReason::ConnectFailed(error)
        if matches!(error.kind(), WouldBlock | ResourceBusy))
}

/// Whether we lack what a connection takes: descriptors, memory, a local port.
fn is_want_of_our_own(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, OutOfMemory};
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    error.kind() == OutOfMemory
        || (error.kind() == AddrNotAvailable && error.raw_os_error().is_some())
        || cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}
