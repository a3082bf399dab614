//! Counters of one event loop, and their snapshot.
//!
//! Each counter has one writer, the loop's thread, so adding is a load and a store without a
//! locked instruction; any thread may read. A snapshot is not one moment in time: each counter
//! is exact by itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the loop's own thread may call this.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The present value, from any thread.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// The live counters of one loop.
        #[derive(Debug, Default)]
        pub(crate) struct LoopMetrics {
            $(pub(crate) $name: Counter,)*
        }

        /// What the loops of a server have counted since it started.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl LoopMetrics {
            /// Adds this loop's present values to `total`.
            pub(crate) fn add_to(&self, total: &mut Stats) {
                $(total.$name += self.$name.get();)*
            }
        }
    };
}

counters! {
    /// Connections accepted from listeners.
    accepted,
    /// Times that `on_open` was called.
    opened,
    /// Times that `on_close` was called.
    closed,
    /// Times that accepting failed and the listener rested (no descriptors, no memory).
    accept_failures,
    /// Connections closed at once because there were `max_connections` already.
    refused_full,
    /// Connections closed at once because there were `max_connections_per_ip` from their address.
    refused_per_ip,
    /// Connections that had to wait because there were `max_connections` already.
    full_waits,
    /// Times that a listener rested because of the option `accept_rate`.
    accept_rests,
    /// Bytes received on connections.
    bytes_in,
    /// Bytes that sockets took from connections.
    bytes_out,
    /// Writes to a socket that could not take everything at once.
    partial_writes,
    /// Times that a connection's reading paused because its pending output was above the high
    /// watermark.
    pauses,
    /// Datagrams received and handed to the handler.
    datagrams_in,
    /// Datagrams sent.
    datagrams_out,
    /// Datagrams not handed on because they did not fit the receive buffer.
    datagrams_truncated,
    /// Outgoing datagrams dropped: the socket refused them, or the queue was full.
    datagrams_dropped,
    /// Wake-ups by other threads that arrived.
    wakeups,
    /// Commands from other threads that were carried out.
    commands,
    /// Turns of the loop: each waits for events once.
    turns,
    /// Callbacks that panicked.
    panics,
    /// Callbacks that took longer than the option `stall_threshold`.
    stalls,
}
