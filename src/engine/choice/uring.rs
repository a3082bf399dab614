//! io_uring, where this build has it.

use crate::driver::uring::Uring;
use crate::options::Options;
use crate::options::driver::DriverFallback;

pub(super) fn make(options: &Options) -> Result<Uring, DriverFallback> {
    Uring::new(options.receive_buffer, options.uring_buffers, options.uring_entries)
}
