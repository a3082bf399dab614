//! Time as nanoseconds since the load began: one number, the same on all threads.

use std::time::Instant;

/// A clock. Copies tell the same time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn new() -> Self {
        Clock { began: Instant::now() }
    }

    /// Nanoseconds since the beginning.
    pub fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}
