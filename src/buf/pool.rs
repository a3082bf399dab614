//! Recycler of byte buffers, one for each event loop.
//!
//! Buffers come in four size classes, each with a last-in-first-out free list: the buffer given
//! back last is the one still in cache. A retain limit bounds the memory that lies idle. The pool
//! also recycles the outbound queues, so that a connection that becomes busy allocates nothing.
//!
//! INVARIANT: `retained` is the sum of the memory in `free`, `queues`, `warm` and `kept`, and
//! `<= retain_limit`.

use super::inbound::Kept;
use super::outbound::Queue;

/// Capacities of the size classes in bytes: the page size, then steps of four, so that a buffer
/// that has to grow does so rarely and an answer of a few hundred bytes still pins no more than a
/// page.
pub(crate) const CLASS_BYTES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];

/// Buffers of this capacity and above are freed: one of them would use up much of the retain limit,
/// and its allocation costs little next to filling it.
const OVERSIZED_BYTES: usize = 2 * CLASS_BYTES[CLASS_BYTES.len() - 1];

/// Queues kept together with their chunk: as many as connections answer small messages at once.
const WARM_QUEUES: usize = 256;

/// Inputs kept together with their buffer: as many as connections have half a message at once.
const WARM_INPUTS: usize = 256;
const WARM_INPUT_BYTES: usize = size_of::<Kept>() + CLASS_BYTES[0];

/// Buffers for one event loop; it is passed by `&mut` to whatever needs memory.
pub(crate) struct Pool {
    free: [Vec<Vec<u8>>; CLASS_BYTES.len()],
    #[expect(clippy::vec_box, reason = "the boxes are what is recycled")]
    queues: Vec<Box<Queue>>,
    /// Queues with one empty chunk of the first class.
    #[expect(clippy::vec_box, reason = "the boxes are what is recycled")]
    warm: Vec<Box<Queue>>,
    /// Inputs with one empty buffer of the first class.
    #[expect(clippy::vec_box, reason = "the boxes are what is recycled")]
    kept: Vec<Box<Kept>>,
    /// The empty buffer that a `Writer` has shown to its user and nobody has written to yet; of
    /// capacity 0 when there is none. It waits here so that `Writer` needs no `Drop`, which would
    /// stretch its borrow of the connection. Neither lent nor retained.
    prepared: Vec<u8>,
    retain_limit: usize,
    retained: usize,
    lent: usize,
    /// Bytes of memory that connections hold: the capacity of lent buffers, and shared bytes that
    /// wait to be sent.
    held: usize,
}

impl Pool {
    /// A pool whose free lists keep at most `retain_limit` bytes.
    pub(crate) fn new(retain_limit: usize) -> Self {
        Self {
            free: Default::default(),
            queues: Vec::new(),
            warm: Vec::new(),
            kept: Vec::new(),
            prepared: Vec::new(),
            retain_limit,
            retained: 0,
            lent: 0,
            held: 0,
        }
    }

    /// An empty buffer of at least `capacity` bytes, rounded up to its class; above the largest
    /// class exactly what was asked for. It is to come back through [`give`](Self::give).
    #[inline]
    pub(crate) fn take(&mut self, capacity: usize) -> Vec<u8> {
        self.lent += 1;
        let buffer = self.obtain(capacity);
        self.held += buffer.capacity();
        buffer
    }

    /// Takes back a buffer, whatever its contents. A buffer without memory is ignored.
    #[inline]
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() == 0 {
            return;
        }
        debug_assert!(self.lent > 0, "more buffers were given back than taken");
        self.lent = self.lent.saturating_sub(1);
        self.held = self.held.saturating_sub(buffer.capacity());
        self.keep(buffer);
    }

    /// Bytes in the free lists.
    pub(crate) fn retained(&self) -> usize {
        self.retained
    }

    /// Buffers taken and not yet given back.
    pub(crate) fn lent(&self) -> usize {
        self.lent
    }

    /// Bytes of memory that connections hold.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Shared bytes wait to be sent: memory that is not the pool's, but is held all the same.
    #[inline]
    pub(super) fn hold(&mut self, bytes: usize) {
        self.held += bytes;
    }

    /// The opposite of [`hold`](Self::hold).
    #[inline]
    pub(super) fn let_go(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
    }

    /// The buffer that [`take_prepared`](Self::take_prepared) will hand out: empty, with at least
    /// `capacity` bytes, and the same one in every call with the same `capacity` until it is taken.
    pub(super) fn prepare(&mut self, capacity: usize) -> &mut Vec<u8> {
        if self.prepared.capacity() < capacity {
            let outgrown = std::mem::take(&mut self.prepared);
            self.keep(outgrown);
            self.prepared = self.obtain(capacity);
        }
        &mut self.prepared
    }

    /// The buffer shown by [`prepare`](Self::prepare), which must have been called before.
    pub(super) fn take_prepared(&mut self) -> Vec<u8> {
        debug_assert!(self.prepared.capacity() > 0, "no buffer was prepared");
        self.lent += 1;
        self.held += self.prepared.capacity();
        std::mem::take(&mut self.prepared)
    }

    /// An empty queue.
    #[inline]
    pub(super) fn take_queue(&mut self) -> Box<Queue> {
        match self.queues.pop() {
            Some(queue) => {
                self.retained -= queue.memory();
                queue
            }
            None => Box::default(),
        }
    }

    /// A queue for a first message: with one empty chunk where there is such a one, since a small
    /// message that is sent at once then costs no more than this push and the next pop.
    #[inline]
    pub(super) fn take_warm_queue(&mut self) -> Box<Queue> {
        match self.warm.pop() {
            Some(queue) => {
                self.retained -= queue.memory() + CLASS_BYTES[0];
                self.lent += 1;
                self.held += CLASS_BYTES[0];
                queue
            }
            None => self.take_queue(),
        }
    }

    /// Takes back a queue with one empty chunk of the first class.
    #[inline(always)] // Once a message.
    pub(super) fn give_warm_queue(&mut self, queue: Box<Queue>) {
        let memory = queue.memory() + CLASS_BYTES[0];
        if self.warm.len() < WARM_QUEUES && self.retained + memory <= self.retain_limit {
            self.retained += memory;
            self.lent = self.lent.saturating_sub(1);
            self.held = self.held.saturating_sub(CLASS_BYTES[0]);
            self.warm.push(queue);
        } else {
            self.give_cold_queue(queue);
        }
    }

    /// The same where there is no place for it as it is.
    #[inline(never)]
    fn give_cold_queue(&mut self, mut queue: Box<Queue>) {
        queue.take_first().recycle(self);
        self.give_queue(queue);
    }

    /// Takes back a queue, which must be empty.
    #[inline]
    pub(super) fn give_queue(&mut self, queue: Box<Queue>) {
        let memory = queue.memory();
        // Smaller than any buffer, it may take the place of one of whatever class; a queue that has
        // grown beyond that, to more than a hundred chunks, is rare and freed.
        if memory < CLASS_BYTES[0] && self.make_room(memory, 0) {
            self.retained += memory;
            self.queues.push(queue);
        }
    }

    /// An empty input, with a buffer of the first class where there is such a one.
    #[inline]
    pub(super) fn take_kept(&mut self) -> Box<Kept> {
        match self.kept.pop() {
            Some(kept) => {
                self.retained -= WARM_INPUT_BYTES;
                self.lent += 1;
                self.held += CLASS_BYTES[0];
                kept
            }
            None => Box::default(),
        }
    }

    /// Takes back an empty input with a buffer of the first class.
    #[inline]
    pub(super) fn give_kept(&mut self, mut kept: Box<Kept>) {
        if self.kept.len() < WARM_INPUTS && self.retained + WARM_INPUT_BYTES <= self.retain_limit {
            self.retained += WARM_INPUT_BYTES;
            self.lent = self.lent.saturating_sub(1);
            self.held = self.held.saturating_sub(CLASS_BYTES[0]);
            self.kept.push(kept);
        } else {
            self.give(kept.take_buffer());
        }
    }

    #[inline]
    fn obtain(&mut self, capacity: usize) -> Vec<u8> {
        let Some(class) = CLASS_BYTES.iter().position(|&bytes| capacity <= bytes) else {
            return Vec::with_capacity(capacity);
        };
        match self.free[class].pop() {
            Some(buffer) => {
                self.retained -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(CLASS_BYTES[class]),
        }
    }

    /// Puts the buffer into its free list, or frees it where there is no place for it.
    #[inline]
    fn keep(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let class = CLASS_BYTES.iter().rposition(|&bytes| bytes <= capacity);
        if let Some(class) = class
            && capacity < OVERSIZED_BYTES
            && self.make_room(capacity, class + 1)
        {
            buffer.clear();
            self.retained += capacity;
            self.free[class].push(buffer);
        }
    }

    /// Says whether `bytes` more may be kept. At the limit it frees one buffer of `larger_class` or
    /// above, each of which is larger than `bytes`: otherwise large buffers left from a burst would
    /// keep the small ones that are now in use from being recycled. Never the other way round,
    /// since the cost of allocating a large buffer is small next to filling it.
    #[inline]
    fn make_room(&mut self, bytes: usize, larger_class: usize) -> bool {
        if self.retained + bytes <= self.retain_limit {
            return true;
        }
        match self.free[larger_class..].iter_mut().rev().find_map(Vec::pop) {
            Some(larger) => {
                self.retained -= larger.capacity();
                true
            }
            None => false,
        }
    }

    #[cfg(test)]
    pub(super) fn assert_invariants(&self) {
        let buffers: usize = self.free.iter().flatten().map(Vec::capacity).sum();
        let queues: usize = self.queues.iter().map(|queue| queue.memory()).sum();
        let warm: usize = self.warm.iter().map(|queue| queue.memory() + CLASS_BYTES[0]).sum();
        let kept = self.kept.len() * WARM_INPUT_BYTES;
        assert_eq!(self.retained, buffers + queues + warm + kept);
        assert!(self.retained <= self.retain_limit);
        assert!(self.free.iter().flatten().all(Vec::is_empty));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIB: usize = 1 << 10;

    #[test]
    fn take_rounds_up_to_the_class_and_is_exact_above_the_largest() {
        let mut pool = Pool::new(0);
        for (asked, got) in [
            (0, 4 * KIB),
            (1, 4 * KIB),
            (4 * KIB, 4 * KIB),
            (4 * KIB + 1, 16 * KIB),
            (64 * KIB, 64 * KIB),
            (65 * KIB, 256 * KIB),
            (256 * KIB + 1, 256 * KIB + 1),
        ] {
            let buffer = pool.take(asked);
            assert!(buffer.is_empty());
            assert_eq!(buffer.capacity(), got);
        }
        assert_eq!(pool.lent(), 7);
    }

    #[test]
    fn a_buffer_given_back_is_cleared_and_handed_out_again() {
        let mut pool = Pool::new(64 * KIB);
        let mut buffer = pool.take(100);
        buffer.extend_from_slice(b"secret");
        let address = buffer.as_ptr();
        pool.give(buffer);
        assert_eq!((pool.lent(), pool.retained()), (0, 4 * KIB));
        let buffer = pool.take(4 * KIB);
        assert!(buffer.is_empty());
        assert_eq!(buffer.as_ptr(), address);
        assert_eq!((pool.lent(), pool.retained()), (1, 0));
    }

    #[test]
    fn buffers_without_memory_are_ignored_and_odd_sizes_freed() {
        let mut pool = Pool::new(usize::MAX);
        pool.give(Vec::new());
        assert_eq!(pool.lent(), 0);
        for capacity in [100, 512 * KIB] {
            drop(pool.take(capacity));
            pool.give(Vec::with_capacity(capacity));
            assert_eq!((pool.lent(), pool.retained()), (0, 0));
        }
    }

    #[test]
    fn a_full_pool_drops_a_large_buffer_for_a_small_one_but_not_the_reverse() {
        let mut pool = Pool::new(64 * KIB);
        let (small, large) = (pool.take(1), pool.take(64 * KIB));
        pool.give(large);
        pool.give(small);
        assert_eq!(pool.retained(), 4 * KIB);
        let large = pool.take(64 * KIB);
        pool.give(large);
        assert_eq!(pool.retained(), 4 * KIB);
    }

    #[test]
    fn a_prepared_buffer_stays_the_same_until_it_is_taken() {
        let mut pool = Pool::new(64 * KIB);
        let address = pool.prepare(1).as_ptr();
        assert_eq!(pool.prepare(1).as_ptr(), address);
        assert_eq!(pool.lent(), 0);
        let buffer = pool.take_prepared();
        assert_eq!((buffer.as_ptr(), pool.lent()), (address, 1));
        pool.give(buffer);
        assert!(pool.prepare(4 * KIB + 1).capacity() == 16 * KIB);
        pool.assert_invariants();
    }

    proptest! {
        #[test]
        fn the_free_lists_never_hold_more_than_the_limit(
            limit in 0_usize..600 * KIB,
            steps in prop::collection::vec(
                (any::<bool>(), 0_usize..600 * KIB, any::<usize>()),
                1..200,
            ),
        ) {
            let mut pool = Pool::new(limit);
            let mut lent = Vec::new();
            for (take, capacity, choice) in steps {
                if take || lent.is_empty() {
                    lent.push(pool.take(capacity));
                } else {
                    pool.give(lent.swap_remove(choice % lent.len()));
                }
                pool.assert_invariants();
                prop_assert!(pool.retained() <= limit);
                prop_assert_eq!(pool.lent(), lent.len());
            }
        }
    }
}
