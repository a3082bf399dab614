//! In the place of io_uring, where this build has none.

use crate::driver::ready::Ready;
use crate::options::Options;
use crate::options::driver::DriverFallback;

/// There is none; the type is that of some driver.
pub(super) fn make(_: &Options) -> Result<Ready, DriverFallback> {
    Err(DriverFallback::not_built())
}
