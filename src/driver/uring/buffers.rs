//! The buffers that the kernel receives into: it takes one from a ring for each receive, and gets
//! it back when the reactor has recycled it.
//!
//! The ring is used round and round. Buffers lie one cache line more than a page apart, as short
//! messages, which touch the first lines only, would otherwise all compete for the same sets of the
//! cache.
//!
//! INVARIANT 1 (whose it is): a buffer is the kernel's from `give` until a completion names it, and
//! ours until the next `give`. Only then are its bytes read.
//! INVARIANT 2 (count): `ours` is the number of buffers that are ours.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::driver::uring::memory::Mapping;
use crate::options::driver::DriverFallback;

/// Bytes of one buffer; where the loop's receive buffer is smaller, that.
pub(super) const BUFFER_BYTES: usize = 4096;

/// See the module's head.
const LINE: usize = 64;

/// The only group of this ring.
pub(super) const GROUP: u16 = 0;

/// The kernel takes no more.
const MOST_BUFFERS: usize = 1 << 15;

/// The provided buffers of one loop.
pub(super) struct Buffers {
    /// The ring that is shared with the kernel.
    shared: Mapping,
    memory: Mapping,
    count: u16,
    /// Bytes of each.
    bytes: usize,
    stride: usize,
    /// The ring's tail as the kernel will see it at `publish`.
    tail: u16,
    published: u16,
    ours: u16,
}

impl Buffers {
    /// As many of `bytes` each as `total` holds, a power of two, registered with the ring.
    pub(super) fn new(
        submitter: &Submitter<'_>,
        total: usize,
        bytes: usize,
    ) -> Result<Self, DriverFallback> {
        let most = (total / bytes).clamp(1, MOST_BUFFERS);
        // The largest power of two among them; it fits, by the clamp.
        let count = (1 << most.ilog2()) as u16;
        let stride = bytes.next_multiple_of(LINE) + LINE;
        let refused = |error: io::Error| DriverFallback::new("io_uring's buffers", &error);
        let shared = Mapping::new(usize::from(count) * size_of::<BufRingEntry>());
        let shared = shared.map_err(refused)?;
        let memory = Mapping::new(usize::from(count) * stride).map_err(refused)?;
        let address = shared.at(0) as u64;
        // SAFETY: the mapping holds `count` entries, starts at a page, and outlives the ring: the
        // driver drops its ring first.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0) }
            .map_err(|error| DriverFallback::new("IORING_REGISTER_PBUF_RING", &error))?;
        let mut buffers =
            Buffers { shared, memory, count, bytes, stride, tail: 0, published: 0, ours: count };
        for number in 0..count {
            buffers.give(number);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Their memory is never freed.
    pub(super) fn keep_for_ever(&mut self) {
        self.shared.keep_for_ever();
        self.memory.keep_for_ever();
    }

    /// Bytes of one buffer.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Buffers that the kernel can still fill, where completions that were not looked at yet name
    /// so many of them.
    pub(super) fn free(&self, fetched: usize) -> usize {
        usize::from(self.count - self.ours) - fetched
    }

    /// A fourth of all: at least one.
    pub(super) fn quarter(&self) -> usize {
        usize::from(self.count.div_ceil(4))
    }

    /// The kernel has put something into this one, which is ours now.
    #[inline]
    pub(super) fn taken(&mut self) {
        self.ours += 1;
    }

    /// Gives a buffer of ours back. The kernel sees it at the next `publish`.
    #[inline]
    pub(super) fn give(&mut self, number: u16) {
        debug_assert!(number < self.count, "buffer {number} of {}", self.count);
        let address = self.address(number) as u64;
        let place = usize::from(self.tail & (self.count - 1));
        let entry = self.shared.at(0).cast::<BufRingEntry>().wrapping_add(place);
        // SAFETY: `place` is less than `count`, so it is an entry of the ring; the kernel does not
        // look at it before the tail is stored. The tail itself lies in a part of the first entry
        // that these three do not touch.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.bytes as u32);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
        self.ours -= 1;
    }

    /// Shows the kernel what was given back.
    #[inline]
    pub(super) fn publish(&mut self) {
        if self.tail == self.published {
            return;
        }
        self.published = self.tail;
        let first = self.shared.at(0).cast::<BufRingEntry>();
        // SAFETY: the first of the ring's entries, all of which are initialized: zero, or set.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: it lies in the mapping, aligned, and is shared with the kernel alone, which
        // reads it as such.
        let tail = unsafe { &*tail.cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// The first bytes of a buffer that is ours.
    #[inline]
    pub(super) fn filled(&self, number: u16, length: usize) -> &[u8] {
        debug_assert!(
            number < self.count && length <= self.bytes,
            "what the kernel names is there"
        );
        // SAFETY: by INVARIANT 1 it is not written to before it is given back, for which the
        // borrow has to end.
        unsafe { self.memory.slice(usize::from(number) * self.stride, length) }
    }

    #[inline]
    fn address(&self, number: u16) -> *mut u8 {
        self.memory.at(usize::from(number) * self.stride)
    }
}
