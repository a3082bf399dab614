//! The `BufMut` half of `buf::writer::Writer`, which is here because the trait is unsafe.
//!
//! Both functions leave the pointer work to `Vec<u8>`'s own `BufMut`. What is proved here is that
//! they speak of the same buffer, and that it has room, so that `Vec` does not reallocate it.

#![allow(unsafe_code)]

use crate::buf::writer::Writer;
use bytes::BufMut;
use bytes::buf::UninitSlice;

// SAFETY: `chunk_mut` returns the spare capacity of one buffer, the same in each call until bytes
// are added, and `advance_mut` adds exactly the bytes it names to that buffer.
unsafe impl BufMut for Writer<'_> {
    #[inline]
    fn remaining_mut(&self) -> usize {
        usize::MAX - self.pending()
    }

    // SAFETY: the contract is the trait's; the block below says how it is kept.
    #[inline]
    unsafe fn advance_mut(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        // SAFETY: the caller has initialised the first `count` bytes of what `chunk_mut` returned.
        // That was the spare capacity of this very buffer: nothing was written since, so
        // `claim_spare` names the buffer that `spare` named; it checks that `count` bytes fit.
        unsafe { self.claim_spare(count).advance_mut(count) }
    }

    #[inline]
    fn chunk_mut(&mut self) -> &mut UninitSlice {
        // `Vec` reallocates only when it has no room, and `spare` always has.
        self.spare().chunk_mut()
    }

    #[inline]
    fn put_slice(&mut self, data: &[u8]) {
        self.append(data);
    }
}
