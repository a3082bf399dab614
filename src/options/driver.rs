//! Which driver moves the bytes of a loop: what is asked for, and why it was not had.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::sys;

/// How event loops speak to the kernel.
///
/// ```
/// use tightloop::Driver;
///
/// assert_eq!("io-uring".parse(), Ok(Driver::IoUring));
/// assert_eq!(Driver::Poll.to_string(), "poll");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Driver {
    /// The one that measurements favour, as far as the system lets it be had; the other one where
    /// it does not. Today that is readiness: behind a process that is killed the kernel
    /// lets go of what a ring holds only some time later, and a successor that is started at once may
    /// find its address in use.
    /// [`LoopInfo`](crate::LoopInfo) says which it is, and why.
    #[default]
    Auto,
    /// Readiness: epoll, kqueue or what Windows has. To be had everywhere.
    Poll,
    /// io_uring, of Linux 6.1 or newer. Where it cannot be had the start fails.
    IoUring,
}

impl Driver {
    const NAMES: [(Driver, &'static str); 3] =
        [(Driver::Auto, "auto"), (Driver::Poll, "poll"), (Driver::IoUring, "io-uring")];
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(driver, _)| driver == self);
        f.pad(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Driver {
    type Err = UnknownDriver;

    fn from_str(text: &str) -> Result<Self, UnknownDriver> {
        let driver = Self::NAMES.iter().find(|(_, name)| *name == text);
        driver.map(|(driver, _)| *driver).ok_or(UnknownDriver(()))
    }
}

/// A text that names no [`Driver`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownDriver(());

impl fmt::Display for UnknownDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a driver is auto, poll or io-uring")
    }
}

impl std::error::Error for UnknownDriver {}

/// Why a loop does without io_uring although it would have been preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverFallback {
    step: &'static str,
    code: Option<i32>,
}

impl DriverFallback {
    /// This step of the set-up failed so.
    #[allow(dead_code, reason = "not where io_uring is not built")]
    pub(crate) fn new(step: &'static str, error: &io::Error) -> Self {
        DriverFallback { step, code: error.raw_os_error() }
    }

    /// There is no code for it in this build.
    #[allow(dead_code, reason = "not where io_uring is built")]
    pub(crate) fn not_built() -> Self {
        DriverFallback { step: "this build of the library does without it", code: None }
    }

    /// As the error of a start that insists.
    pub(crate) fn into_error(self) -> io::Error {
        let kind = match self.code {
            Some(code) => io::Error::from_raw_os_error(code).kind(),
            None if cfg!(not(target_os = "linux")) => return sys::unsupported("driver io-uring"),
            None => return sys::not_here(format!("driver io-uring: {self}")),
        };
        io::Error::new(kind, format!("io_uring cannot be had: {self}"))
    }
}

impl fmt::Display for DriverFallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{}: {}", self.step, io::Error::from_raw_os_error(code)),
            None => f.write_str(self.step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for (driver, name) in Driver::NAMES {
            assert_eq!(driver.to_string(), name);
            assert_eq!(name.parse(), Ok(driver));
        }
        assert!("IO-URING".parse::<Driver>().is_err());
    }

    #[test]
    fn a_fallback_says_what_failed_and_how() {
        let refused = io::Error::from_raw_os_error(1);
        let fallback = DriverFallback::new("io_uring_setup", &refused);
        assert!(fallback.to_string().starts_with("io_uring_setup: "), "{fallback}");
        assert_eq!(fallback.into_error().kind(), refused.kind());
        assert_eq!(DriverFallback::not_built().into_error().kind(), io::ErrorKind::Unsupported);
    }
}
