//! The options that keep peers and callbacks from harming the server.

use std::time::Duration;

use crate::options::PanicPolicy;
use crate::server::Server;

impl Server {
    // ---- silence ------------------------------------------------------------------------

    /// Ends connections on which for this long nothing was received and nothing sent. A large
    /// output that a slow peer takes bit by bit is not idle. Default: never. Per connection:
    /// [`Conn::set_idle_timeout`](crate::Conn::set_idle_timeout).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = Some(timeout);
        self
    }

    /// Ends connections that were read from for this long and sent nothing, whatever they are
    /// sent. Does not count while reading is paused. Default: never. Per connection:
    /// [`Conn::set_read_idle_timeout`](crate::Conn::set_read_idle_timeout).
    pub fn read_idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.read_idle_timeout = Some(timeout);
        self
    }

    /// Ends connections to which for this long nothing was sent, whatever they send. Default:
    /// never. Per connection:
    /// [`Conn::set_write_idle_timeout`](crate::Conn::set_write_idle_timeout).
    pub fn write_idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.write_idle_timeout = Some(timeout);
        self
    }

    /// Ends accepted connections on which nothing at all was received for this long. Default:
    /// never, as in some protocols the server speaks first and the client may take its time.
    pub fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        self.options.first_byte_timeout = Some(timeout);
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

    // ---- user code ----------------------------------------------------------------------

    /// What a panic of a callback ends: its connection (the default), or the server. Panics are
    /// counted in `Stats::panics` and logged either way. A panic of the factory or of `on_boot`
    /// fails the start. Where panics abort, the process ends.
    pub fn on_panic(mut self, policy: PanicPolicy) -> Self {
        self.options.on_panic = policy;
        self
    }

    /// Counts (`Stats::stalls`) and logs, with its name, each callback that takes longer: while
    /// it runs, the loop's other connections wait. Costs two readings of the clock a callback,
    /// some 50 ns. Default: callbacks are not timed.
    pub fn stall_threshold(mut self, threshold: Duration) -> Self {
        self.options.stall_threshold = Some(threshold);
        self
    }
}
