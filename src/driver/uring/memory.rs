//! Memory that is shared with the kernel: it is reached by pointers only, so that no reference of
//! Rust's claims what the kernel reads or writes meanwhile.

use std::io;
use std::ptr::NonNull;

/// Memory from the system, of whole pages, zero at first.
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
    is_kept: bool,
}

impl Mapping {
    pub(super) fn new(length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping of our own, which aliases nothing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast());
        start
            .map(|start| Mapping { start, length, is_kept: false })
            .ok_or(io::ErrorKind::OutOfMemory.into())
    }

    /// Never gives it back: the kernel may still refer to it.
    pub(super) fn keep_for_ever(&mut self) {
        self.is_kept = true;
    }

    /// Where the byte at `offset` lies.
    #[inline]
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset <= self.length);
        self.start.as_ptr().wrapping_add(offset)
    }

    /// Bytes that the kernel does not write to.
    ///
    /// # Safety
    /// Nobody writes to them, and no entry has the kernel do so, while they are borrowed.
    #[inline]
    pub(super) unsafe fn slice(&self, offset: usize, length: usize) -> &[u8] {
        assert!(offset <= self.length && length <= self.length - offset, "outside of the memory");
        // SAFETY: inside of the mapping, by the line above; initialized, as the system's memory is
        // zero; nobody writes to it, by the caller's claim.
        unsafe { std::slice::from_raw_parts(self.at(offset), length) }
    }

    /// Copies bytes to `offset`.
    #[inline]
    pub(super) fn copy_in(&mut self, offset: usize, bytes: &[u8]) {
        assert!(
            offset <= self.length && bytes.len() <= self.length - offset,
            "outside of the memory"
        );
        // SAFETY: inside of the mapping, by the line above; no reference to it exists, as `self` is
        // borrowed mutably; and `bytes` lies elsewhere for the same reason.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(offset), bytes.len()) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // SAFETY: exactly what was mapped; nobody refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
