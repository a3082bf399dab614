//! What happened in a simulation: a hash of everything, the text of it where somebody reads
//! along, and the first rule that was broken.

/// Receives the lines of a trace.
pub type Trace = Box<dyn FnMut(&str)>;

pub(crate) struct Journal {
    hash: u64,
    pub(crate) entries: u64,
    pub(crate) trace: Option<Trace>,
    violation: Option<String>,
}

impl Journal {
    pub(crate) fn new(trace: Option<Trace>) -> Self {
        // The offset basis of FNV-1a.
        Journal { hash: 0xcbf2_9ce4_8422_2325, entries: 0, trace, violation: None }
    }

    /// Adds what happened at `now` (microseconds).
    pub(crate) fn note(&mut self, now: u64, what: &'static str, a: u64, b: u64) {
        self.entries += 1;
        self.mix(what.as_bytes());
        for number in [now, a, b] {
            self.mix(&number.to_le_bytes());
        }
        if let Some(trace) = &mut self.trace {
            trace(&format!("{:>12.6} {what} {a} {b}", now as f64 / 1e6));
        }
    }

    /// A rule was broken. The first one counts: what follows from it says little.
    pub(crate) fn fail(&mut self, now: u64, rule: String) {
        if let Some(trace) = &mut self.trace {
            trace(&format!("{:>12.6} BROKEN: {rule}", now as f64 / 1e6));
        }
        if self.violation.is_none() {
            self.violation = Some(format!("at {:.6} s: {rule}", now as f64 / 1e6));
        }
    }

    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Tells one run from another.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn mix(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
