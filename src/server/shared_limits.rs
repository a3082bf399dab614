//! The limits that servers and clients have in common, written once.

use std::time::Duration;

use crate::client::Client;
use crate::options::PanicPolicy;
use crate::server::Server;
use crate::server::shared::for_both;

for_both! {
    // ---- silence ------------------------------------------------------------------------

    /// Ends connections on which for this long nothing was received and nothing sent. A large
    /// output that a slow peer takes bit by bit is not idle. Default `None`: never. Per connection:
    /// [`Conn::set_idle_timeout`](crate::Conn::set_idle_timeout).
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.idle_timeout = timeout.into();
        self
    }

    /// Ends connections that were read from for this long and sent nothing, whatever they are
    /// sent. Does not count while reading is paused. Default `None`: never. Per connection:
    /// [`Conn::set_read_idle_timeout`](crate::Conn::set_read_idle_timeout).
    pub fn read_idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.read_idle_timeout = timeout.into();
        self
    }

    /// Ends connections to which for this long nothing was sent, whatever they send. Default
    /// `None`: never. Per connection:
    /// [`Conn::set_write_idle_timeout`](crate::Conn::set_write_idle_timeout).
    pub fn write_idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.write_idle_timeout = timeout.into();
        self
    }

    /// How long it may take to make an outgoing connection, where its
    /// [`Connect`](crate::Connect) says nothing else. Default 10 s: a lost packet is sent again
    /// after 1, 3 and 7 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Ends connections for which the handshake, or whatever else has to come before the first byte,
    /// takes longer than this, with [`HandshakeTimeout`](crate::CloseReason::HandshakeTimeout). Default
    /// 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.options.handshake_timeout = timeout;
        self
    }

    /// Ends connections whose peer takes nothing of the pending output for this long; `None`
    /// never. Default 30 s: whoever lives takes something in that time over any network, and the
    /// output costs memory. On Linux every byte counts; elsewhere the peer has to take enough for
    /// the socket to report room.
    pub fn write_stall_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.write_stall_timeout = timeout.into();
        self
    }

    // ---- memory -------------------------------------------------------------------------

    /// Bytes that the connections of all loops may hold together, in input that handlers have not
    /// consumed and output that peers have not taken. Above it, connections that hold more than
    /// others are not read from until it is well below again: a brake, exact to what one turn of
    /// each loop brings in, and to datagrams that came together before their connection was paused.
    /// Output written by handlers is not refused. A peer that sent half a message and was then held
    /// back cannot send the rest: set an idle timeout too, which ends such ones. One that then
    /// closes its side is read to the end; on Linux that is noticed within 100 ms of its FIN,
    /// elsewhere only a reset is. Default: no budget, as no number suits every machine.
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.options.memory_budget = Some(bytes);
        self
    }

    // ---- one turn of a loop -------------------------------------------------------------

    /// Events (buffers of input, sockets that take more, new connections) that a loop handles
    /// before it looks at commands and timers. Default 1,024. Fewer serve timers more punctually
    /// under load, more save system calls.
    pub fn events_per_turn(mut self, events: usize) -> Self {
        self.options.turn.events = events;
        self.options.turn.attended = events;
        self
    }

    /// Commands of other threads that a loop carries out before it looks at its sockets again.
    /// Default 1,024, as for events, so that neither keeps the other waiting.
    pub fn commands_per_turn(mut self, commands: usize) -> Self {
        self.options.turn.commands = commands;
        self
    }

    /// Timers that a loop lets expire before it looks at its sockets again. Default 1,024, as for
    /// events: many that are due at once do not hold up the sockets.
    pub fn timers_per_turn(mut self, timers: usize) -> Self {
        self.options.turn.timers = timers;
        self
    }

    /// Bytes given to one socket before other connections get their turn. Default 128 KiB: some
    /// tens of microseconds. More save system calls where outputs are large, and have the others
    /// wait longer.
    #[doc(alias = "WithEdgeTriggeredIOChunk")]
    pub fn write_bytes_per_turn(mut self, bytes: usize) -> Self {
        self.options.turn.write_bytes = bytes;
        self
    }

    // ---- user code ----------------------------------------------------------------------

    /// What a panic of a callback ends: its connection (the default), or the server. Panics are
    /// counted in `Stats::panics` and logged either way. A panic of the factory or of `on_boot`
    /// fails the start. Where panics abort, the process ends.
    pub fn panic_policy(mut self, policy: PanicPolicy) -> Self {
        self.options.panic_policy = policy;
        self
    }

    /// Counts (`Stats::stalls`) and logs, with its name, each callback that takes longer: while
    /// it runs, the loop's other connections wait. Costs two readings of the clock a callback,
    /// some 50 ns. Default `None`: callbacks are not timed.
    pub fn stall_threshold(mut self, threshold: impl Into<Option<Duration>>) -> Self {
        self.options.stall_threshold = threshold.into();
        self
    }
}
