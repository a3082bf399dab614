//! Counters of one event loop, and their snapshot.
//!
//! Each counter has one writer, the loop's thread, so adding is a load and a store without a
//! locked instruction; any thread may read. A snapshot is not one moment in time: each counter
//! is exact by itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::CloseReason;

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the loop's own thread may call this.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// As `set`: whoever reads the value by `observe` also sees what was done before. Only the
    /// loop's own thread may call this.
    pub(crate) fn publish(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// The value, from any thread; see [`publish`](Counter::publish).
    pub(crate) fn observe(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Sets a state. Only the loop's own thread may call this.
    pub(crate) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    /// The present value, from any thread.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether a number only grows, or is a state that comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// A number as it is shown: its name, what it is, and how it is read.
struct Shown {
    name: &'static str,
    kind: Kind,
    help: &'static [&'static str],
    value: fn(&Stats) -> u64,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident: $kind:ident,)*) => {
        /// The live counters of one loop.
        #[derive(Debug, Default)]
        pub(crate) struct LoopMetrics {
            $(pub(crate) $name: Counter,)*
        }

        /// What the loops of a server have counted since it started. Each number is exact by
        /// itself; they are not all of one moment.
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

        const SHOWN: &[Shown] = &[
            $(Shown {
                name: stringify!($name),
                kind: Kind::$kind,
                help: &[$($doc),*],
                value: |stats| stats.$name,
            },)*
        ];
    };
}

counters! {
    /// Connections accepted from listeners.
    accepted: Counter,
    /// Times that `on_open` was called.
    opened: Counter,
    /// Times that `on_close` was called.
    closed: Counter,
    /// Times that accepting failed and the listener rested (no descriptors, no memory).
    accept_failures: Counter,
    /// Connections closed at once because there were `max_connections` already.
    refused_full: Counter,
    /// Connections closed at once because there were `max_connections_per_ip` from their address.
    refused_per_ip: Counter,
    /// Connections that had to wait because there were `max_connections` already.
    full_waits: Counter,
    /// Times that a listener rested because of the option `accept_rate`.
    accept_rests: Counter,
    /// Bytes received on connections.
    bytes_in: Counter,
    /// Bytes that sockets took from connections.
    bytes_out: Counter,
    /// Of both, bytes that the kernel moved from one socket to another (`Conn::relay_to`).
    bytes_moved: Counter,
    /// Writes to a socket that could not take everything at once.
    partial_writes: Counter,
    /// Times that a connection's reading paused because its pending output was above the high
    /// watermark.
    pauses: Counter,
    /// Datagrams received and handed to the handler.
    datagrams_in: Counter,
    /// Datagrams sent.
    datagrams_out: Counter,
    /// Datagrams not handed on because they did not fit the receive buffer.
    datagrams_truncated: Counter,
    /// Outgoing datagrams dropped: the socket refused them, or the queue was full.
    datagrams_dropped: Counter,
    /// Wake-ups by other threads that arrived.
    wakeups: Counter,
    /// Commands from other threads that were carried out.
    commands: Counter,
    /// Turns of the loop: each waits for events once.
    turns: Counter,
    /// Callbacks that panicked.
    panics: Counter,
    /// Callbacks that took longer than the option `stall_threshold`.
    stalls: Counter,
    /// Bytes of free buffers that the loops keep for reuse.
    pool_retained_bytes: Gauge,
    /// Bytes of memory that connections hold in input not consumed and output not sent.
    buffered_bytes: Gauge,
    /// Times that a connection was not read from any more because of the option `memory_budget`.
    budget_pauses: Counter,
    /// Buffers that connections hold now.
    pool_lent_buffers: Gauge,
    /// Connections closed by the handler.
    closed_by_handler: Counter,
    /// Connections aborted by the handler.
    closed_aborted: Counter,
    /// Connections closed by the peer, in order.
    closed_by_peer: Counter,
    /// Connections reset by the peer.
    closed_by_reset: Counter,
    /// Connections that the system reported as failed.
    closed_failed: Counter,
    /// Connections that ended before they were open: outgoing ones that could not be made, failed
    /// handshakes.
    open_failures: Counter,
    /// Handshakes that had to wait because of the option `handshakes_per_turn`.
    handshake_waits: Counter,
    /// TLS handshakes that were completed.
    handshakes: Counter,
    /// Connections ended because of their TLS session.
    closed_tls: Counter,
    /// Connections cut off by the peer, without a close_notify.
    closed_truncated: Counter,
    /// Connections ended by the option `handshake_timeout`.
    closed_handshake_timeout: Counter,
    /// Connections ended by one of the idle timeouts.
    closed_idle: Counter,
    /// Connections ended by the option `first_byte_timeout`.
    closed_first_byte: Counter,
    /// Connections ended by the option `write_stall_timeout`.
    closed_write_stall: Counter,
    /// Connections ended by the option `max_pending_output`.
    closed_output_limit: Counter,
    /// Connections ended by the option `max_unconsumed_input`.
    closed_input_limit: Counter,
    /// Connections ended by the option `close_timeout`.
    closed_close_timeout: Counter,
    /// Connections ended because their bytes were no frames.
    closed_codec: Counter,
    /// Connections ended by a panic of one of their callbacks.
    closed_panic: Counter,
    /// Connections ended by the server's stop.
    closed_stop: Counter,
}

impl LoopMetrics {
    /// Counts the end of a connection.
    pub(crate) fn count_close(&self, reason: &CloseReason) {
        self.closed.add(1);
        let of_the_reason = match reason {
            CloseReason::Local => &self.closed_by_handler,
            CloseReason::Aborted => &self.closed_aborted,
            CloseReason::PeerClosed => &self.closed_by_peer,
            CloseReason::PeerReset(_) => &self.closed_by_reset,
            // An open one has been connected, and its header read.
            CloseReason::Failed(_)
            | CloseReason::ConnectFailed(_)
            | CloseReason::ProxyHeader(_) => &self.closed_failed,
            CloseReason::Tls(_) => &self.closed_tls,
            CloseReason::Truncated => &self.closed_truncated,
            CloseReason::HandshakeTimeout => &self.closed_handshake_timeout,
            CloseReason::IdleTimeout
            | CloseReason::ReadIdleTimeout
            | CloseReason::WriteIdleTimeout => &self.closed_idle,
            CloseReason::FirstByteTimeout => &self.closed_first_byte,
            CloseReason::WriteStalled => &self.closed_write_stall,
            CloseReason::OutputLimit => &self.closed_output_limit,
            CloseReason::InputLimit => &self.closed_input_limit,
            CloseReason::CloseTimeout => &self.closed_close_timeout,
            CloseReason::Codec(_) => &self.closed_codec,
            CloseReason::HandlerPanicked(_) => &self.closed_panic,
            CloseReason::ServerStopped => &self.closed_stop,
        };
        of_the_reason.add(1);
    }
}

impl Stats {
    /// Connections that are open: those whose `on_open` was called and `on_close` was not.
    pub fn open(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }

    /// The numbers in the text format of Prometheus (version 0.0.4), each name behind `prefix`
    /// and an underscore. The reasons of closed connections are one metric with a label.
    ///
    /// ```
    /// let text = tightloop::Stats::default().to_prometheus("echo");
    /// assert!(text.contains("# TYPE echo_accepted_total counter\necho_accepted_total 0\n"));
    /// assert!(text.contains("echo_closed_reasons_total{reason=\"by_peer\"} 0\n"));
    /// ```
    pub fn to_prometheus(&self, prefix: &str) -> String {
        let mut text = String::new();
        let mut show = |name: &str, kind: Kind, help: &str, samples: &[(String, u64)]| {
            let (suffix, kind) = match kind {
                Kind::Counter => ("_total", "counter"),
                Kind::Gauge => ("", "gauge"),
            };
            let name = format!("{prefix}_{name}{suffix}");
            text += &format!("# HELP {name} {}\n# TYPE {name} {kind}\n", help.trim());
            for (labels, value) in samples {
                text += &format!("{name}{labels} {value}\n");
            }
        };
        let (reasons, plain): (Vec<_>, Vec<_>) =
            SHOWN.iter().partition(|shown| shown.name.starts_with(REASON));
        for shown in plain {
            let help = shown.help.concat();
            show(shown.name, shown.kind, &help, &[(String::new(), (shown.value)(self))]);
        }
        let label = |name: &str| format!("{{reason=\"{}\"}}", &name[REASON.len()..]);
        let reasons: Vec<_> =
            reasons.iter().map(|shown| (label(shown.name), (shown.value)(self))).collect();
        show("closed_reasons", Kind::Counter, "Connections closed, by reason.", &reasons);
        show("open", Kind::Gauge, "Connections that are open.", &[(String::new(), self.open())]);
        text
    }
}

/// How the names of the counters of reasons begin.
const REASON: &str = "closed_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_shown_once_with_its_help_and_its_kind() {
        let text = Stats { accepted: 7, closed: 5, closed_idle: 3, ..Stats::default() }
            .to_prometheus("tl");
        assert!(text.contains("\ntl_closed_total 5\n") && text.starts_with("# HELP tl_accepted_"));
        assert!(text.contains("\ntl_closed_reasons_total{reason=\"idle\"} 3\n"));
        assert!(text.contains("\n# TYPE tl_pool_lent_buffers gauge\ntl_pool_lent_buffers 0\n"));
        let mut names: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit_once(' ').unwrap().0)
            .collect();
        assert_eq!(names.len(), SHOWN.len() + 1);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SHOWN.len() + 1);
        assert!(text.lines().filter(|line| line.starts_with("# HELP")).all(|line| line.len() > 20));
    }

    #[test]
    fn each_close_is_counted_under_one_reason() {
        let metrics = LoopMetrics::default();
        metrics.count_close(&CloseReason::PeerClosed);
        metrics.count_close(&CloseReason::ReadIdleTimeout);
        metrics.count_close(&CloseReason::HandlerPanicked("boom".to_owned()));
        let mut stats = Stats::default();
        metrics.add_to(&mut stats);
        assert_eq!((stats.closed, stats.closed_by_peer), (3, 1));
        assert_eq!((stats.closed_idle, stats.closed_panic), (1, 1));
    }
}
