//! What is so or not so about a stream, a bit each: as fields they would take a third of its memory.

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    /// Its operation is being cancelled.
    Cancelling,
    /// A poll for room is in the kernel.
    WatchesRoom,
    /// Has a place in the driver's queue.
    Queued,
    /// Its operations may have to change.
    Unsettled,
    /// Its receive found no buffer, and was not begun anew yet; see `stall.rs`.
    Stalled,
    /// Its receive has brought something since it was begun.
    Fed,
    /// The reactor wants bytes.
    Receiving,
    /// A connect is under way.
    Connecting,
    /// Received by calls of our own, when a poll says so.
    Direct,
    /// Something was received since it was looked at last; see `idle.rs`.
    Active,
    /// There may be something to receive by a call. Valid while `Direct`.
    Readable,
    /// The end, an error or urgent data was reported: receive until nothing is left, short or not.
    Ending,
    /// A send came back blocked.
    Blocked,
    /// The socket may take more, since the last send that was blocked.
    Writable,
    /// An error was reported by a poll.
    Failed,
    /// Nothing more is received: the end, or a failure, was met.
    Ended,
}

/// All of them for one stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags(u16);

impl Flags {
    #[inline]
    pub(super) fn has(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u16) != 0
    }

    #[inline]
    pub(super) fn set(&mut self, flag: Flag, on: bool) {
        self.0 = self.0 & !(1 << flag as u16) | u16::from(on) << flag as u16;
    }

    /// Sets it, unless it is not so; then it stays what it is.
    #[inline]
    pub(super) fn add(&mut self, flag: Flag, on: bool) {
        self.0 |= u16::from(on) << flag as u16;
    }

    /// Clears it; whether it was set.
    #[inline]
    pub(super) fn take(&mut self, flag: Flag) -> bool {
        let had = self.has(flag);
        self.set(flag, false);
        had
    }

    /// Those of the index, which its next use inherits: it may still stand in the driver's lists from
    /// its last one, which is harmless, and must not twice.
    pub(super) fn of_index(self) -> Self {
        Flags(self.0 & (1 << Flag::Queued as u16 | 1 << Flag::Unsettled as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_is_its_own() {
        let mut flags = Flags::default();
        flags.set(Flag::Ended, true);
        flags.set(Flag::Cancelling, true);
        flags.set(Flag::Queued, true);
        flags.add(Flag::Queued, false);
        assert!(flags.has(Flag::Ended) && flags.has(Flag::Cancelling) && flags.has(Flag::Queued));
        assert!(!flags.has(Flag::WatchesRoom) && !flags.has(Flag::Failed));
        assert!(flags.take(Flag::Ended) && !flags.take(Flag::Ended));
        assert!(flags.has(Flag::Cancelling) && flags.has(Flag::Queued));
        let next = flags.of_index();
        assert!(next.has(Flag::Queued) && !next.has(Flag::Cancelling));
    }
}
