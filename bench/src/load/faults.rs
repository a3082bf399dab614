//! What went wrong: counted by kind, and the first ones told in words.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tightloop::CloseReason;

/// So many are told; a server that answers nonsense would fill the screen.
const TOLD: usize = 5;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Connect,
    Closed,
    WrongBytes,
    Timeout,
    Lost,
}

/// How often each has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub connect: u64,
    pub closed: u64,
    pub wrong_bytes: u64,
    pub timeout: u64,
    pub lost: u64,
}

impl Counts {
    pub fn total(self) -> u64 {
        self.connect + self.closed + self.wrong_bytes + self.timeout + self.lost
    }
}

/// The faults of all loops.
#[derive(Debug, Default)]
pub struct Faults {
    counts: [AtomicU64; 5],
    told: Mutex<Vec<String>>,
}

impl Faults {
    /// Counts one, and keeps its description if it is among the first.
    pub fn add(&self, kind: Kind, describe: impl FnOnce() -> String) {
        self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD {
            told.push(describe());
        }
    }

    pub fn counts(&self) -> Counts {
        let [connect, closed, wrong_bytes, timeout, lost] =
            [0, 1, 2, 3, 4].map(|kind: usize| self.counts[kind].load(Ordering::Relaxed));
        Counts { connect, closed, wrong_bytes, timeout, lost }
    }

    /// The first ones in words, and how many there were beside them.
    pub fn told(&self) -> Vec<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let more = self.counts().total().saturating_sub(told.len() as u64);
        let mut lines = told.clone();
        if more > 0 {
            lines.push(format!("and {more} more errors"));
        }
        lines
    }
}

/// What a closed connection says about the server.
pub fn closing(reason: &CloseReason) -> String {
    match reason {
        CloseReason::PeerClosed => "the server closed it".to_owned(),
        CloseReason::Local => "the server ends it with requests under way".to_owned(),
        CloseReason::PeerReset(error) => format!("the server reset it: {error}"),
        reason => reason.to_string(),
    }
}

/// Why a connection could not be made, with what may be done about it.
pub fn not_connected(reason: &CloseReason) -> String {
    match reason {
        CloseReason::ConnectFailed(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
            "the ports of the local address are used up; give more addresses with --source".into()
        }
        CloseReason::ConnectFailed(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            "no answer in time; see --timeout".to_owned()
        }
        CloseReason::ConnectFailed(error) => error.to_string(),
        reason => reason.to_string(),
    }
}
