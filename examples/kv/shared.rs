//! What all loops share: settings, counters, and the way to each other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Instant;

use foldhash::fast::RandomState;
use tightloop::LoopHandle;

use crate::server::Kv;

/// What all loops share.
pub struct Shared {
    pub databases: usize,
    /// Bytes; 0 is no limit.
    pub maxmemory: AtomicUsize,
    pub password: RwLock<Option<Vec<u8>>>,
    /// Also the number of connections there were.
    pub last_client: AtomicU64,
    /// Those of before CONFIG RESETSTAT.
    pub connections_before: AtomicU64,
    /// Commands that were carried out, as told now and then.
    pub commands: AtomicU64,
    pub started: Instant,
    /// One for all loops: by it keys are assigned to them.
    pub seed: RandomState,
    pub handles: OnceLock<Vec<LoopHandle<Kv>>>,
}

impl Shared {
    /// The loops, once the server has started. That is a moment after they serve: who comes
    /// earlier waits for it.
    pub fn loops(&self) -> &[LoopHandle<Kv>] {
        self.handles.wait()
    }

    /// Connections there were, as INFO tells.
    pub fn connections(&self) -> u64 {
        let before = self.connections_before.load(Ordering::Relaxed);
        self.last_client.load(Ordering::Relaxed).saturating_sub(before)
    }

    /// Whether somebody may come in: there is no password, or it is this one.
    pub fn admits(&self, password: Option<&[u8]>) -> bool {
        let expected = self.password.read().unwrap_or_else(PoisonError::into_inner);
        match (&*expected, password) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(expected), Some(told)) => is_same(expected, told),
        }
    }
}

/// Compares in a time that tells nothing but the length.
fn is_same(expected: &[u8], told: &[u8]) -> bool {
    let difference = expected.iter().zip(told).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0 && expected.len() == told.len()
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn only_the_whole_password_is_the_password() {
        assert!(is_same(b"secret", b"secret"));
        for wrong in ["", "secre", "secrets", "Secret", "secreT"] {
            assert!(!is_same(b"secret", wrong.as_bytes()), "{wrong}");
        }
    }
}
