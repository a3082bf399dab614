//! Every limit and setting of a server: name, unit, default and the reason for it.
//!
//! The builder in `server.rs` fills this in; [`Options::check`] refuses what cannot be meant
//! before anything is started.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use crate::balance::{Balance, Balancer, BuiltIn};
use crate::error::{Error, Result};
use crate::sys::sockopt::{Keepalive, ListenOptions, SocketOptions};
use crate::sys::udp::LONGEST_MESSAGE;

pub(crate) mod driver;

/// How long a listener rests after the system refused to accept for want of descriptors or
/// memory: long enough to cost no CPU, short enough that nobody waits long once some are free.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Most event loops of a server; the index travels in 16 bits of a connection's identity.
pub(crate) const MAX_LOOPS: usize = 1024;

/// A user's function that sets further options on a socket.
pub(crate) type SocketHook = Arc<dyn Fn(&SockRef<'_>) -> io::Result<()> + Send + Sync>;

/// Makes the balancer for one acceptor.
pub(crate) type BalancerFactory = Arc<dyn Fn() -> Box<dyn Balancer> + Send + Sync>;

/// What a panic of a callback ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// The callback's connection, with `CloseReason::HandlerPanicked`; the loop and the other
    /// connections go on.
    #[default]
    CloseConnection,
    /// The server, with `Error::LoopPanicked`: for handlers that would rather start anew than go
    /// on with what a panic has left of them.
    StopServer,
}

/// What becomes of a connection that comes when there are `max_connections` already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// It is closed at once: clients learn soon that they have to go elsewhere.
    #[default]
    Refuse,
    /// It waits, unanswered, until another one closes; further ones wait in the listener's
    /// backlog, where they cost the server nothing.
    Wait,
}

/// How much of each kind of work one turn of a loop does before the others get theirs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TurnLimits {
    /// Events taken from the driver. Bounds how long a busy loop lets other threads wait: some
    /// hundred microseconds of ordinary handler work.
    pub(crate) events: usize,
    /// Commands of other threads, for the same reason the other way round.
    pub(crate) commands: usize,
    /// Timers expired.
    pub(crate) timers: usize,
    /// Connections attended at the end of a turn (flushed for peers, offered leftover input
    /// again). No option: it follows the events.
    pub(crate) attended: usize,
    /// Bytes given to one socket before other connections get their turn: a fast reader of a
    /// large output must not hold the loop.
    pub(crate) write_bytes: usize,
    /// Steps of TLS handshakes: each costs as much as thousands of messages, up to a millisecond.
    pub(crate) handshakes: usize,
}

/// A page more than 64 KiB: a receive that fills the buffer has to be followed by another one, and
/// messages of just that size are common.
const RECEIVE_BUFFER: usize = (64 + 4) * 1024;

/// As in `ConnCore`, what every message touches comes first and together.
#[derive(Clone)]
#[repr(C)]
pub(crate) struct Options {
    /// None: callbacks are not timed.
    pub(crate) stall_threshold: Option<Duration>,
    pub(crate) high_watermark: usize,
    pub(crate) max_pending_output: usize,
    pub(crate) turn: TurnLimits,
    /// Number of event loops; 0 means one a core.
    pub(crate) loops: usize,
    pub(crate) pin_loops: bool,
    pub(crate) driver: driver::Driver,
    pub(crate) auto_prefers: driver::Driver,
    /// Bytes of the buffers that io_uring receives into.
    pub(crate) uring_buffers: usize,
    /// Of its queues: submissions and completions.
    pub(crate) uring_entries: (u32, u32),
    pub(crate) balancer: BalancerFactory,
    pub(crate) listen: ListenOptions,
    pub(crate) listener_hook: Option<SocketHook>,
    pub(crate) connection_hook: Option<SocketHook>,
    pub(crate) receive_buffer: usize,
    pub(crate) pool_retain: usize,
    /// See `Options::low_watermark`.
    pub(crate) low_watermark: Option<usize>,
    pub(crate) auto_pause: bool,
    pub(crate) max_unconsumed_input: usize,
    pub(crate) mailbox_capacity: usize,
    pub(crate) half_close: bool,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) read_idle_timeout: Option<Duration>,
    pub(crate) write_idle_timeout: Option<Duration>,
    pub(crate) first_byte_timeout: Option<Duration>,
    pub(crate) connect_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) write_stall_timeout: Option<Duration>,
    pub(crate) close_timeout: Duration,
    pub(crate) linger_timeout: Duration,
    pub(crate) linger_bytes: usize,
    pub(crate) stop_timeout: Duration,
    pub(crate) worker_threads: usize,
    pub(crate) worker_queue: usize,
    /// Of all loops together.
    pub(crate) memory_budget: Option<usize>,
    /// `usize::MAX`: no limit.
    pub(crate) max_connections: usize,
    pub(crate) when_full: WhenFull,
    /// `usize::MAX`: no limit.
    pub(crate) max_connections_per_ip: usize,
    /// Connections per second.
    pub(crate) accept_rate: Option<u32>,
    pub(crate) panic_policy: PanicPolicy,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            loops: 1,
            pin_loops: false,
            driver: driver::Driver::Auto,
            auto_prefers: driver::Driver::Poll,
            // They are used in turn: few enough to stay in a core's cache.
            uring_buffers: 1 << 20,
            // Submissions stay in the nearest cache; of completions each stream may have some at once.
            uring_entries: (256, 4096),
            balancer: Arc::new(|| Box::new(BuiltIn::new(Balance::RoundRobin))),
            listen: ListenOptions {
                // The kernel caps it at somaxconn (4,096 on present Linux).
                backlog: 4096,
                reuse_addr: true,
                reuse_port: false,
                device: None,
                ipv6_only: None,
                socket: SocketOptions { nodelay: true, ..SocketOptions::default() },
            },
            listener_hook: None,
            connection_hook: None,
            receive_buffer: RECEIVE_BUFFER,
            pool_retain: 4 << 20,
            high_watermark: 1 << 20,
            low_watermark: None,
            auto_pause: true,
            max_pending_output: 64 << 20,
            max_unconsumed_input: 64 << 20,
            mailbox_capacity: 65_536,
            half_close: false,
            idle_timeout: None,
            read_idle_timeout: None,
            write_idle_timeout: None,
            first_byte_timeout: None,
            // A lost SYN is sent again after 1, 3 and 7 s: long enough for three of them.
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            // A peer that lives takes something in this time, over whatever network.
            write_stall_timeout: Some(Duration::from_secs(30)),
            close_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(2),
            linger_bytes: 1 << 20,
            stop_timeout: Duration::from_secs(5),
            worker_threads: 64,
            worker_queue: 4096,
            // Unlimited, as the system's limit on descriptors bounds them too, and gently.
            max_connections: usize::MAX,
            // Off: a number that suits every machine does not exist.
            memory_budget: None,
            when_full: WhenFull::Refuse,
            max_connections_per_ip: usize::MAX,
            accept_rate: None,
            turn: TurnLimits {
                events: 1024,
                commands: 1024,
                timers: 1024,
                attended: 1024,
                write_bytes: 128 << 10,
                handshakes: 8,
            },
            panic_policy: PanicPolicy::CloseConnection,
            // Off, as it costs two readings of the clock a callback.
            stall_threshold: None,
        }
    }
}

/// One rule: what is refused, the option's name, and why.
type Rule = (bool, &'static str, &'static str);

impl Options {
    /// Refuses values that cannot be meant, naming the option.
    pub(crate) fn check(&self) -> Result<()> {
        let rules: [Rule; 27] = [
            (self.loops > MAX_LOOPS, "loops", "at most 1024"),
            (
                !(1024..=16 << 20).contains(&self.receive_buffer),
                "receive_buffer",
                "between 1 KiB and 16 MiB",
            ),
            (
                !(64 << 10..=128 << 20).contains(&self.uring_buffers),
                "io_uring_buffers",
                "between 64 KiB and 128 MiB",
            ),
            (
                self.low_watermark() > self.high_watermark,
                "low_watermark",
                "at most the high watermark",
            ),
            (
                self.max_pending_output < self.high_watermark,
                "max_pending_output",
                "at least the high watermark",
            ),
            (self.max_unconsumed_input == 0, "max_unconsumed_input", "at least 1 byte"),
            (self.mailbox_capacity == 0, "mailbox_capacity", "at least 1 command"),
            (self.worker_threads == 0, "worker_threads", "at least 1 thread"),
            (self.worker_queue == 0, "worker_queue", "at least 1 job"),
            (
                // Seconds in 16 bits, where the system keeps them so.
                self.listen.socket.linger.is_some_and(|t| t > Duration::from_secs(65_535)),
                "linger",
                "at most 65,535 s",
            ),
            (is_zero(self.idle_timeout), "idle_timeout", TIMEOUT),
            (is_zero(self.read_idle_timeout), "read_idle_timeout", TIMEOUT),
            (is_zero(self.write_idle_timeout), "write_idle_timeout", TIMEOUT),
            (is_zero(self.first_byte_timeout), "first_byte_timeout", TIMEOUT),
            (self.connect_timeout.is_zero(), "connect_timeout", TIMEOUT),
            (self.handshake_timeout.is_zero(), "handshake_timeout", TIMEOUT),
            (is_zero(self.write_stall_timeout), "write_stall_timeout", TIMEOUT),
            (self.max_connections == 0, "max_connections", "at least 1"),
            (self.max_connections_per_ip == 0, "max_connections_per_ip", "at least 1"),
            (self.memory_budget.is_some_and(|b| b < 1 << 20), "memory_budget", "at least 1 MiB"),
            (self.accept_rate == Some(0), "accept_rate", "at least 1 a second"),
            (self.turn.events == 0, "events_per_turn", "at least 1"),
            (self.turn.commands == 0, "commands_per_turn", "at least 1"),
            (self.turn.timers == 0, "timers_per_turn", "at least 1"),
            (self.turn.handshakes == 0, "handshakes_per_turn", "at least 1"),
            (self.turn.write_bytes < 4096, "write_bytes_per_turn", "at least 4 KiB"),
            (is_zero(self.stall_threshold), "stall_threshold", TIMEOUT),
        ];
        match rules.iter().find(|(refused, ..)| *refused) {
            Some(&(_, name, reason)) => {
                Err(Error::Option { name, reason: format!("must be {reason}") })
            }
            None => self.listen.socket.keepalive.as_ref().map_or(Ok(()), check_keepalive),
        }
    }

    /// As told, or what suits the high one.
    pub(crate) fn low_watermark(&self) -> usize {
        self.low_watermark.unwrap_or_else(|| (256 << 10).min(self.high_watermark / 4))
    }

    /// What is set on a datagram socket that is connected. Joined datagrams fill a message: where
    /// there is no room for the longest, they must not be joined from the first one on, as the
    /// kernel does not part those that wait when that is switched off.
    pub(crate) fn connected_datagrams(&self) -> SocketOptions {
        let mut options = self.listen.socket.clone();
        options.lone_datagrams |= self.receive_buffer < LONGEST_MESSAGE;
        options
    }

    /// The number of loops to start: as told, or one a core.
    pub(crate) fn loop_count(&self) -> usize {
        match self.loops {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_LOOPS)),
            n => n,
        }
    }
}

/// What is asked of a timeout that is on.
const TIMEOUT: &str = "longer than zero";

fn is_zero(timeout: Option<Duration>) -> bool {
    timeout.is_some_and(|timeout| timeout.is_zero())
}

fn check_keepalive(keepalive: &Keepalive) -> Result<()> {
    keepalive
        .check()
        .map_err(|error| Error::Option { name: "keepalive", reason: error.to_string() })
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("loops", &self.loops)
            .field("listen", &self.listen)
            .field("receive_buffer", &self.receive_buffer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Options)) -> &'static str {
        let mut options = Options::default();
        change(&mut options);
        match options.check() {
            Err(Error::Option { name, .. }) => name,
            other => panic!("expected an option to be refused, got {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_accepted() {
        Options::default().check().unwrap();
    }

    #[test]
    fn values_that_cannot_be_meant_are_refused_by_name() {
        assert_eq!(refused(|o| o.loops = 10_001), "loops");
        assert_eq!(refused(|o| o.receive_buffer = 0), "receive_buffer");
        assert_eq!(refused(|o| o.low_watermark = Some(usize::MAX)), "low_watermark");
        assert_eq!(refused(|o| o.max_pending_output = 1), "max_pending_output");
        assert_eq!(refused(|o| o.mailbox_capacity = 0), "mailbox_capacity");
        assert_eq!(refused(|o| o.worker_threads = 0), "worker_threads");
        assert_eq!(refused(|o| o.listen.socket.linger = Some(Duration::MAX)), "linger");
        assert_eq!(refused(|o| o.max_connections = 0), "max_connections");
        assert_eq!(refused(|o| o.max_connections_per_ip = 0), "max_connections_per_ip");
        assert_eq!(refused(|o| o.accept_rate = Some(0)), "accept_rate");
        assert_eq!(refused(|o| o.turn.events = 0), "events_per_turn");
        assert_eq!(refused(|o| o.turn.write_bytes = 1), "write_bytes_per_turn");
        assert_eq!(
            refused(|o| o.write_stall_timeout = Some(Duration::ZERO)),
            "write_stall_timeout"
        );
        assert_eq!(refused(|o| o.idle_timeout = Some(Duration::ZERO)), "idle_timeout");
    }
}
