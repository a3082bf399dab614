//! What other threads ring: an eventfd. A poll of it tells each ring, so it is never read; the count
//! in it would take longer to overflow than any machine lives.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::driver::Waker;

pub(super) struct Bell {
    event: Arc<OwnedFd>,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Bell { event: Arc::new(event) })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Rings from any thread, also when the loop has ended: the descriptor lives as long as this.
    pub(super) fn waker(&self) -> Waker {
        let event = Arc::clone(&self.event);
        Arc::new(move || {
            let one = 1u64.to_ne_bytes();
            // SAFETY: eight bytes that are there, to a descriptor that is open as long as it is
            // owned.
            let written = unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
            if written < 0 {
                let error = io::Error::last_os_error();
                log::error!("an event loop could not be woken: {error}");
            }
        })
    }
}
