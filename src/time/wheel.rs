//! A hierarchical hashed timing wheel.
//!
//! Ticks of one millisecond; six levels of 64 slots. A timer sits at the level of the highest
//! base-64 digit in which its tick differs from the wheel's position, in the slot of that digit:
//!
//! ```text
//!  level 0: 64 slots of 1 ms      the timers of one slot are due together
//!  level 1: 64 slots of 64 ms     when the position enters a slot, its timers move down a level
//!  ...                            (or fall due); each timer does so at most once a level
//!  level 5: 64 slots of 12 days   the only level that wraps around; what lies beyond its end (2.2
//!                                 years) waits at its end and is placed anew there
//! ```
//!
//! So insert and cancel are O(1), finding the next slot looks at six bitmaps, and nothing ever
//! scans the timers. Nodes live in a slab and are reused, last freed first; the slab does not
//! shrink.
//!
//! INVARIANT 1 (lists): each node is in exactly one circular doubly linked list; a list is named by
//! its sentinel, the nodes `0..SENTINELS`. Links only name nodes that exist.
//! INVARIANT 2 (slots): a bit of `occupied` is set exactly when the slot's list is not empty, and
//! the first tick of an occupied slot is later than `position`.
//! INVARIANT 3 (nodes): a node has a payload exactly when it is in a list other than `FREE`; `len`
//! counts those. A node's generation changes when it is freed.

use crate::buf::pages::Pages;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// Ticks from the position to the end of the highest level.
const RANGE_TICKS: u64 = 1 << (SLOT_BITS * LEVELS as u32);

/// Sentinels of the lists: the slots come first, level by level.
const DUE: u32 = (LEVELS * SLOTS) as u32;
/// Taken out of a slot that the position has entered, to be placed anew or found due.
const CASCADING: u32 = DUE + 1;
const FREE: u32 = DUE + 2;
const SENTINELS: u32 = DUE + 3;

/// Timers that one call of `expire` places anew at most. Many connections that became idle together
/// share a slot; cascading a million of them at once would stop the loop for tens of milliseconds.
const CASCADES_PER_CALL: usize = 1024;

/// Timers with a payload each, which is to be small: it is moved in and out.
pub(crate) struct Wheel<T> {
    start: Instant,
    nodes: Pages<Node<T>>,
    /// A bit a slot, for each level.
    occupied: [u64; LEVELS],
    /// The tick up to which slots have been emptied.
    position: u64,
    /// The latest tick that `expire` was told; `position` reaches it when nothing due is left.
    now: u64,
    len: usize,
}

/// Names an armed timer. Once that has fired or was cancelled, the key is stale and finds nothing
/// (up to 2^32 reuses of its node).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    node: u32,
    generation: NonZeroU32,
}

struct Node<T> {
    next: u32,
    previous: u32,
    /// When to fire; valid while there is a payload.
    tick: u64,
    generation: NonZeroU32,
    payload: Option<T>,
}

impl<T> Wheel<T> {
    /// An empty wheel that counts its ticks from `start`.
    pub(crate) fn new(start: Instant) -> Self {
        let mut wheel =
            Self { start, nodes: Pages::new(), occupied: [0; LEVELS], position: 0, now: 0, len: 0 };
        wheel.nodes.ensure(SENTINELS - 1);
        for sentinel in 0..SENTINELS {
            wheel.close_ring(sentinel);
        }
        wheel.free_nodes_from(SENTINELS);
        wheel
    }

    /// Whether no timer is armed: then there is no need to tell the wheel of the time.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many timers are armed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many armed timers are such; it walks all of them.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn count(&self, is_such: impl Fn(&T) -> bool) -> usize {
        let nodes = (SENTINELS..self.nodes.len() as u32).filter_map(|index| self.nodes.get(index));
        nodes.filter(|node| node.payload.as_ref().is_some_and(&is_such)).count()
    }

    /// Arms a timer. One whose deadline has passed fires at the tick after the latest that
    /// [`expire`](Self::expire) was told, so that timers that rearm themselves cannot keep a caller
    /// in its loop of `expire` calls.
    pub(crate) fn insert(&mut self, deadline: Instant, payload: T) -> TimerKey {
        let tick = self.tick_not_before(deadline).max(self.now + 1);
        let index = self.take_free_node();
        let node = self.node_mut(index);
        node.tick = tick;
        node.payload = Some(payload);
        let generation = node.generation;
        self.len += 1;
        self.place(index);
        TimerKey { node: index, generation }
    }

    /// Disarms a timer and returns its payload; `None` when the key is stale.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let node = self.nodes.get(key.node)?;
        if node.generation != key.generation {
            return None;
        }
        self.unlink(key.node);
        self.release(key.node)
    }

    /// When to call [`expire`](Self::expire) next: never later than the first timer fires. It may
    /// be earlier, when timers have to move down a level first; `expire` then yields nothing.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let tick = if self.first(DUE).or_else(|| self.first(CASCADING)).is_some() {
            self.position
        } else {
            self.next_slot()?.tick
        };
        Some(self.start + Duration::from_millis(tick))
    }

    /// Yields one timer whose deadline is not after `now`, and disarms it; to be called until it
    /// returns `None`, or as often as the caller has time for. A timer never fires before its
    /// deadline, and is yielded by calls with a `now` from one millisecond after it on.
    ///
    /// `None` can also mean that this call has spent its share of work on cascading; then
    /// [`next_deadline`](Self::next_deadline) is not after `now`.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<T> {
        self.now = self.now.max(self.tick_not_after(now));
        let mut budget = CASCADES_PER_CALL;
        loop {
            if let Some(index) = self.first(DUE) {
                self.unlink(index);
                return self.release(index);
            }
            if self.first(CASCADING).is_some() {
                if budget == 0 {
                    return None;
                }
                self.cascade(&mut budget);
            } else if !self.enter_next_slot() {
                return None;
            }
        }
    }

    fn cascade(&mut self, budget: &mut usize) {
        while *budget > 0
            && let Some(index) = self.first(CASCADING)
        {
            *budget -= 1;
            self.unlink(index);
            self.place(index);
        }
    }

    /// Moves the position to the next occupied slot, if its time has come, and empties that.
    fn enter_next_slot(&mut self) -> bool {
        match self.next_slot() {
            Some(slot) if slot.tick <= self.now => {
                self.position = slot.tick;
                let destination = if slot.level == 0 { DUE } else { CASCADING };
                self.move_all(slot.list, destination);
                true
            }
            _ => {
                self.position = self.now;
                false
            }
        }
    }

    /// The occupied slot that begins first. The timers of a level lie before those of the levels
    /// above, which differ from the position in a higher digit; so the lowest level decides.
    fn next_slot(&self) -> Option<Slot> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let shift = SLOT_BITS * level as u32;
        let current = self.position >> shift;
        // The current slot comes last: on the highest level it stands for the next time around.
        let from_next = self.occupied[level].rotate_right((current as u32 + 1) % SLOTS as u32);
        let ordinal = current + 1 + u64::from(from_next.trailing_zeros());
        let list = slot_list(level, ordinal as usize % SLOTS);
        Some(Slot { level, list, tick: ordinal << shift })
    }

    /// Links a node with a payload into the list where its tick belongs.
    fn place(&mut self, index: u32) {
        let tick = self.node(index).tick;
        if tick <= self.position {
            return self.push_back(DUE, index);
        }
        // The end of the range is at most 64 top slots away, so no slot means two times at once.
        let tick = tick.min(self.position + RANGE_TICKS - 1);
        let highest_bit = (tick ^ self.position).ilog2(); // They differ: it is later.
        let level = ((highest_bit / SLOT_BITS) as usize).min(LEVELS - 1);
        let digit = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        self.occupied[level] |= 1 << digit;
        self.push_back(slot_list(level, digit), index);
    }

    /// Ticks round up for deadlines and down for the time, so that no timer is early.
    fn tick_not_before(&self, deadline: Instant) -> u64 {
        let elapsed = deadline.saturating_duration_since(self.start);
        let subsecond = u64::from(elapsed.subsec_nanos().div_ceil(1_000_000));
        elapsed.as_secs().saturating_mul(1_000).saturating_add(subsecond)
    }

    fn tick_not_after(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start);
        elapsed.as_secs().saturating_mul(1_000).saturating_add(u64::from(elapsed.subsec_millis()))
    }
}

/// A slot that is not empty.
struct Slot {
    level: usize,
    list: u32,
    /// When it begins.
    tick: u64,
}

/// The list of the slot `digit` of `level`.
fn slot_list(level: usize, digit: usize) -> u32 {
    (level * SLOTS + digit) as u32
}

/// The slab and its lists.
impl<T> Wheel<T> {
    #[inline]
    fn node(&self, index: u32) -> &Node<T> {
        // Only links are passed here.
        self.nodes.get(index).expect("INVARIANT 1: a link names a node that exists")
    }

    #[inline]
    fn node_mut(&mut self, index: u32) -> &mut Node<T> {
        // Only links are passed here.
        self.nodes.get_mut(index).expect("INVARIANT 1: a link names a node that exists")
    }

    #[inline]
    fn first(&self, list: u32) -> Option<u32> {
        let first = self.node(list).next;
        (first != list).then_some(first)
    }

    fn push_back(&mut self, list: u32, index: u32) {
        let last = self.node(list).previous;
        self.join(last, index);
        self.join(index, list);
    }

    /// Takes a node out of whichever list it is in.
    fn unlink(&mut self, index: u32) {
        let Node { previous, next, .. } = *self.node(index);
        self.join(previous, next);
        // Only the sentinel of a list that is now empty is its own neighbour.
        if previous == next && next < DUE {
            self.occupied[next as usize / SLOTS] &= !(1 << (next as usize % SLOTS));
        }
    }

    /// Moves all nodes of a slot that is not empty to the list `to`, which is.
    fn move_all(&mut self, slot: u32, to: u32) {
        let Node { previous: last, next: first, .. } = *self.node(slot);
        self.join(to, first);
        self.join(last, to);
        self.close_ring(slot);
        self.occupied[slot as usize / SLOTS] &= !(1 << (slot as usize % SLOTS));
    }

    fn close_ring(&mut self, sentinel: u32) {
        self.join(sentinel, sentinel);
    }

    #[inline]
    fn join(&mut self, previous: u32, next: u32) {
        self.node_mut(previous).next = next;
        self.node_mut(next).previous = previous;
    }

    fn take_free_node(&mut self) -> u32 {
        if self.first(FREE).is_none() {
            // A wheel of 2^32 timers would need more than 128 GB.
            let grown = u32::try_from(self.nodes.len()).expect("fewer than 2^32 timers");
            self.nodes.ensure(grown);
            self.free_nodes_from(grown);
        }
        let last_freed = self.node(FREE).previous;
        self.unlink(last_freed);
        last_freed
    }

    /// Backwards, so that they are taken in the order of their addresses.
    fn free_nodes_from(&mut self, first: u32) {
        for index in (first..self.nodes.len() as u32).rev() {
            self.push_back(FREE, index);
        }
    }

    /// Disarms a node that has been unlinked, and frees it.
    fn release(&mut self, index: u32) -> Option<T> {
        let node = self.node_mut(index);
        node.generation = node.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let payload = node.payload.take();
        self.len -= 1;
        self.push_back(FREE, index);
        payload
    }

    /// Checks the three INVARIANTs; it walks all timers.
    #[cfg(test)]
    pub(super) fn assert_invariants(&self) {
        let (mut armed, mut nodes) = (0, 0);
        for list in 0..SENTINELS {
            let mut index = list;
            loop {
                let node = self.node(index);
                assert_eq!(self.node(node.next).previous, index);
                assert_eq!(node.payload.is_some(), index >= SENTINELS && list != FREE);
                armed += usize::from(node.payload.is_some());
                nodes += 1;
                index = node.next;
                if index == list {
                    break;
                }
            }
            if list < DUE {
                let occupied = self.occupied[list as usize / SLOTS] >> (list as usize % SLOTS) & 1;
                assert_eq!(occupied == 1, self.first(list).is_some());
            }
        }
        assert_eq!((armed, nodes), (self.len, self.nodes.len()));
        assert!(self.position <= self.now);
        assert!(self.next_slot().is_none_or(|slot| slot.tick > self.position));
    }
}

/// A node in no list yet, without a payload.
impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { next: 0, previous: 0, tick: 0, generation: NonZeroU32::MIN, payload: None }
    }
}
