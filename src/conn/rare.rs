//! What is seldom true of a connection, and seldom asked: a bit each.

/// A set of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rare(u8);

impl Rare {
    pub(crate) const NONE: Rare = Rare(0);
    /// It was made by `connect`.
    pub(crate) const OUTGOING: Rare = Rare(1);
    /// The peer takes no output any more (it has reset), but may have sent input before.
    pub(crate) const OUTPUT_LOST: Rare = Rare(1 << 1);
    /// A step of the handshake waits for its turn, with what was received.
    pub(crate) const PARKED: Rare = Rare(1 << 2);
    /// The peer's end came without a close_notify.
    pub(crate) const TRUNCATED: Rare = Rare(1 << 3);
    /// The handler has set SO_LINGER.
    pub(crate) const LINGER_SET: Rare = Rare(1 << 4);
    /// The user's timer was due before the connection was open: it fires behind on_open.
    pub(crate) const TIMER_WAS_DUE: Rare = Rare(1 << 5);
    /// Its input goes to another connection.
    pub(crate) const RELAYS: Rare = Rare(1 << 6);
    /// The connection that its input goes to is too full.
    pub(crate) const RELAY_RESTS: Rare = Rare(1 << 7);

    #[inline]
    pub(crate) fn has(self, fact: Rare) -> bool {
        self.0 & fact.0 != 0
    }

    /// Says whether it was true before.
    #[inline]
    pub(crate) fn set(&mut self, fact: Rare, is_true: bool) -> bool {
        let before = self.has(fact);
        self.0 = if is_true { self.0 | fact.0 } else { self.0 & !fact.0 };
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_set_and_unset_alone() {
        let mut rare = Rare::NONE;
        assert!(!rare.set(Rare::PARKED, true));
        assert!(rare.has(Rare::PARKED) && !rare.has(Rare::OUTGOING));
        rare.set(Rare::OUTGOING, true);
        assert!(rare.set(Rare::PARKED, false));
        assert!(!rare.has(Rare::PARKED) && rare.has(Rare::OUTGOING));
    }
}
