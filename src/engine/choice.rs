//! The driver of a loop, chosen on the loop's own thread: by trying, never by the kernel's version.

use std::net::UdpSocket;

use crate::driver::Driver;
use crate::driver::ready::Ready;
use crate::error::Result;
use crate::handler::LoopInfo;
use crate::options::Options;
use crate::options::driver::{self, DriverFallback};
use crate::sys::socket::{Listener, Stream};

#[cfg_attr(
    not(all(
        target_os = "linux",
        feature = "io-uring",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64",
            target_arch = "loongarch64",
            target_arch = "powerpc64"
        )
    )),
    path = "choice/no_uring.rs"
)]
mod uring;

/// What was chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    /// Never `Auto`.
    pub(super) driver: driver::Driver,
    /// Why it is not the one that was preferred.
    pub(super) fallback: Option<DriverFallback>,
}

impl Choice {
    /// What a handler's factory is told.
    pub(super) fn loop_info(self, index: usize, loop_count: usize) -> LoopInfo {
        LoopInfo { index, loop_count, driver: self.driver, fallback: self.fallback }
    }
}

/// A loop's life, on whatever driver.
pub(super) trait Life {
    fn live<D>(self, driver: D, choice: Choice) -> Result<()>
    where
        D: Driver<Stream = Stream, Listener = Listener, DatagramSocket = UdpSocket>;

    /// The life of a loop that has no driver.
    fn fail(self, error: std::io::Error) -> Result<()>;
}

/// Lives on the driver that the options ask for, or on the one that can be had.
pub(super) fn live(options: &Options, life: impl Life) -> Result<()> {
    let wanted = match options.driver {
        driver::Driver::Auto => options.auto_prefers,
        wanted => wanted,
    };
    let mut fallback = None;
    if wanted == driver::Driver::IoUring {
        match uring::make(options) {
            Ok(made) => {
                return life.live(made, Choice { driver: wanted, fallback });
            }
            Err(refused) if options.driver == wanted => return life.fail(refused.into_error()),
            Err(refused) => fallback = Some(refused),
        }
    }
    match Ready::new(options.receive_buffer) {
        Ok(made) => life.live(made, Choice { driver: driver::Driver::Poll, fallback }),
        Err(error) => life.fail(error),
    }
}
