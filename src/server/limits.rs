//! The options that keep peers and callbacks from harming the server.

use std::time::Duration;

use crate::options::PanicPolicy;
use crate::server::Server;

impl Server {
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
