//! The bytes of a connection that its handler has seen and left for later.
//!
//! One contiguous buffer with a cursor: `consume` moves the cursor, and the consumed bytes are only
//! squeezed out when `append` finds no room. After each such move at least as many bytes are free
//! as were moved, so a byte is copied O(1) times on average however small the steps are. The buffer
//! belongs to the loop's pool and goes back as soon as it is empty; an empty `Inbound` is one null pointer.
//!
//! INVARIANT: `start < buffer.len()` of whatever is kept.

use super::pool::{CLASS_BYTES, Pool};

/// Unconsumed input; no memory while empty. It has no `Drop`: [`clear`](Self::clear) it to return what
/// it holds.
#[derive(Default)]
pub(crate) struct Inbound {
    kept: Option<Box<Kept>>,
}

/// What a non-empty [`Inbound`] points to; the pool recycles it with its allocation.
#[derive(Default)]
pub(super) struct Kept {
    buffer: Vec<u8>,
    /// Where the unconsumed bytes begin.
    start: usize,
}

impl Inbound {
    /// Bytes of memory that it holds, used or not.
    pub(crate) fn held(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.buffer.capacity())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_none()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.len())
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.kept.as_ref().map_or(&[], |kept| kept.as_slice())
    }

    /// Copies `data` behind the bytes already there.
    #[inline]
    pub(crate) fn append(&mut self, data: &[u8], pool: &mut Pool) {
        if data.is_empty() {
            return;
        }
        let kept = self.kept.get_or_insert_with(|| pool.take_kept());
        if kept.buffer.capacity() - kept.buffer.len() < data.len() {
            kept.make_room(data.len(), pool);
        }
        kept.buffer.extend_from_slice(data);
    }

    /// Drops the first `count` bytes; `count <= len()`.
    #[inline]
    pub(crate) fn consume(&mut self, count: usize, pool: &mut Pool) {
        debug_assert!(count <= self.len(), "consumed {count} of {} bytes", self.len());
        match &mut self.kept {
            Some(kept) if count < kept.len() => kept.start += count,
            _ => self.clear(pool),
        }
    }

    /// Drops everything and gives the memory back.
    #[inline]
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        let Some(mut kept) = self.kept.take() else { return };
        kept.start = 0;
        if kept.buffer.capacity() == CLASS_BYTES[0] {
            kept.buffer.clear();
            pool.give_kept(kept);
        } else {
            pool.give(kept.buffer);
        }
    }
}

impl Kept {
    /// Its buffer, taken out.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    #[inline]
    fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Makes room for `additional` bytes, and for as many as have to be moved now: that is what
    /// pays for the move.
    fn make_room(&mut self, additional: usize, pool: &mut Pool) {
        let len = self.len();
        let wanted = len + additional.max(len);
        if wanted <= self.buffer.capacity() {
            self.buffer.copy_within(self.start.., 0);
            self.buffer.truncate(len);
        } else {
            let mut larger = pool.take(wanted);
            larger.extend_from_slice(self.as_slice());
            pool.give(std::mem::replace(&mut self.buffer, larger));
        }
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Inbound {
        fn start(&self) -> usize {
            self.kept.as_ref().map_or(0, |kept| kept.start)
        }
    }

    #[test]
    fn it_is_small_and_holds_no_memory_while_empty() {
        assert!(size_of::<Inbound>() <= 8);
        let mut pool = Pool::new(1 << 20);
        let mut inbound = Inbound::default();
        inbound.append(b"", &mut pool);
        assert_eq!(pool.lent(), 0);
        inbound.append(b"abc", &mut pool);
        assert_eq!(pool.lent(), 1);
        inbound.consume(2, &mut pool);
        assert_eq!(inbound.as_slice(), b"c");
        inbound.consume(1, &mut pool);
        assert!(inbound.is_empty());
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn clear_gives_the_memory_back() {
        let mut pool = Pool::new(1 << 20);
        let mut inbound = Inbound::default();
        inbound.append(&[1; 5_000], &mut pool);
        inbound.clear(&mut pool);
        assert_eq!((inbound.len(), pool.lent(), pool.retained()), (0, 0, 16 << 10));
    }

    #[test]
    fn small_steps_through_a_large_remainder_seldom_move_bytes() {
        let mut pool = Pool::new(1 << 20);
        let mut inbound = Inbound::default();
        inbound.append(&[0; 100_000], &mut pool);
        let mut moves = 0;
        for _ in 0..1_000_000 {
            let start = inbound.start();
            inbound.append(&[1], &mut pool);
            moves += u32::from(inbound.start() < start);
            inbound.consume(1, &mut pool);
        }
        assert!((1..=10).contains(&moves), "{moves} moves of 100 kB for 1 MB");
    }

    #[test]
    fn byte_at_a_time_growth_seldom_moves_bytes() {
        let mut pool = Pool::new(1 << 20);
        let mut inbound = Inbound::default();
        let mut moves = 0;
        for _ in 0..1 << 20 {
            let capacity = inbound.held();
            inbound.append(&[7], &mut pool);
            moves += u32::from(inbound.held() != capacity);
        }
        assert!(moves <= 7, "{moves} buffers for 1 MiB");
        inbound.clear(&mut pool);
        assert_eq!(pool.lent(), 0);
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_vec_that_is_drained_from_the_front(
            steps in prop::collection::vec((0_usize..20_000, 0_usize..25_000), 1..100),
        ) {
            let mut pool = Pool::new(1 << 20);
            let mut inbound = Inbound::default();
            let mut model = Vec::new();
            for (turn, (appended, consumed)) in steps.into_iter().enumerate() {
                let mut data = [turn as u8, 1, 2, 3, 4, 5, 6].repeat(appended / 7 + 1);
                data.truncate(appended);
                inbound.append(&data, &mut pool);
                model.extend_from_slice(&data);
                prop_assert!(inbound.as_slice() == model);
                let consumed = consumed.min(model.len());
                inbound.consume(consumed, &mut pool);
                model.drain(..consumed);
                prop_assert!(inbound.as_slice() == model);
                prop_assert_eq!(inbound.len(), model.len());
                prop_assert_eq!(inbound.is_empty(), model.is_empty());
                prop_assert_eq!(pool.lent(), usize::from(!model.is_empty()));
            }
            inbound.clear(&mut pool);
            prop_assert_eq!(pool.lent(), 0);
            pool.assert_invariants();
        }
    }
}
