//! The table of a database: a hash table that grows and shrinks without stopping the world.
//!
//! It is cut into segments of some hundred entries, each a small hash table. It grows by one segment
//! at a time (linear hashing): segment `split` gives half of its entries to a new one, so no command
//! ever waits for more than that. Which segment an entry belongs to is told by some bits of its
//! hash; read backwards they are the entry's `order`. Each segment covers a range of orders, and a
//! split cuts the range in two: so a scan by order meets every entry that was there all the time
//! exactly once, however the table grows meanwhile.
//!
//! What does stop the world is to drop much at once: a whole table, as FLUSHALL does, or a large
//! value, as DEL does. ASYNC and UNLINK make no difference.
//!
//! ```text
//! bits of a hash:  63..57 tag within a segment | 47..16 order, backwards | 15..0 place within it
//! ```

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::text::{Text, is_same};
use crate::value::Value;

/// A segment splits when there are more entries than this for each, on average.
const ENTRIES_PER_SEGMENT: usize = 208;

/// A key, its value, and the moment at which it ends.
#[repr(align(64))]
pub struct Entry {
    pub key: Text,
    /// Milliseconds of Unix time; 0 is never.
    pub expires_at: u64,
    pub value: Value,
}

impl Entry {
    #[inline]
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires_at != 0 && self.expires_at <= now
    }

    /// Bytes it occupies outside of the table.
    #[inline]
    pub fn heap(&self) -> usize {
        self.key.heap() + self.value.heap()
    }
}

/// Where an entry lies, as long as none is added or taken out.
#[derive(Clone, Copy)]
pub struct Place {
    segment: u32,
    bucket: u32,
    moves: u32,
}

/// INVARIANT: there are `2^level + split` segments, and `split < 2^level`; `len` and `expiring` are
/// the sums over the entries, `allocated` over the segments. (Checked by the tests after each step.)
pub struct Table {
    segments: Vec<HashTable<Entry>>,
    level: u32,
    split: usize,
    len: usize,
    /// Entries with an end.
    pub expiring: usize,
    /// Bytes of the segments.
    allocated: usize,
    /// How often entries may have changed their places.
    moves: u32,
    /// Bytes of keys and values outside of the table, kept by its owner.
    pub heap: usize,
    seed: RandomState,
}

/// A key's hash, by which the table is asked.
#[derive(Clone, Copy)]
pub struct Hash(u64);

impl Hash {
    #[inline]
    fn bits(self) -> u32 {
        (self.0 >> 16) as u32
    }

    fn order(self) -> u32 {
        self.bits().reverse_bits()
    }
}

/// The seed is random, one a process, as clients choose the keys.
#[inline]
pub fn hash(seed: &RandomState, key: &[u8]) -> Hash {
    let mut hasher = seed.build_hasher();
    hasher.write(key);
    Hash(hasher.finish())
}

impl Table {
    pub fn new(seed: RandomState) -> Self {
        Table {
            segments: vec![HashTable::new()],
            level: 0,
            split: 0,
            len: 0,
            expiring: 0,
            allocated: 0,
            moves: 0,
            heap: 0,
            seed,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// All bytes it occupies.
    #[inline]
    pub fn memory(&self) -> usize {
        self.allocated + self.heap + self.segments.capacity() * size_of::<HashTable<Entry>>()
    }

    #[inline]
    fn segment(&self, hash: Hash) -> usize {
        let bits = hash.bits() as usize;
        let index = bits & ((1 << self.level) - 1);
        if index < self.split { bits & ((2 << self.level) - 1) } else { index }
    }

    #[inline]
    pub fn find(&self, hash: Hash, key: &[u8]) -> Option<Place> {
        let segment = self.segment(hash);
        let entries = &self.segments[segment];
        let bucket = entries.find_bucket_index(hash.0, |entry| is_same(&entry.key, key))?;
        // There are fewer segments than orders, and few buckets in each.
        Some(Place { segment: segment as u32, bucket: bucket as u32, moves: self.moves })
    }

    /// Where the first entry lies that looks as if it were this one: nearly always it is. No entry is
    /// looked at for that.
    #[inline]
    pub fn guess(&self, hash: Hash) -> Option<Place> {
        let segment = self.segment(hash);
        let bucket = self.segments[segment].find_bucket_index(hash.0, |_| true)?;
        Some(Place { segment: segment as u32, bucket: bucket as u32, moves: self.moves })
    }

    /// The entry at this place; `None` if the place is out of date.
    #[inline]
    pub fn get(&self, place: Place) -> Option<&Entry> {
        if place.moves != self.moves {
            return None;
        }
        self.segments.get(place.segment as usize)?.get_bucket(place.bucket as usize)
    }

    #[inline]
    pub fn get_mut(&mut self, place: Place) -> Option<&mut Entry> {
        if place.moves != self.moves {
            return None;
        }
        self.segments.get_mut(place.segment as usize)?.get_bucket_mut(place.bucket as usize)
    }

    /// Adds an entry whose key is not there. Its bytes are counted.
    pub fn insert(&mut self, hash: Hash, entry: Entry) {
        debug_assert!(self.find(hash, &entry.key).is_none(), "the key is there already");
        self.heap += entry.heap();
        self.expiring += usize::from(entry.expires_at != 0);
        self.len += 1;
        self.moves = self.moves.wrapping_add(1);
        if self.len > self.segments.len() * ENTRIES_PER_SEGMENT {
            self.grow();
        }
        let at = self.segment(hash);
        let (segment, seed) = (&mut self.segments[at], &self.seed);
        let before = segment.allocation_size();
        let rehash = |entry: &Entry| self::hash(seed, &entry.key).0;
        segment.insert_unique(hash.0, entry, rehash);
        self.allocated = self.allocated + segment.allocation_size() - before;
    }

    /// Takes an entry out; its bytes are no longer counted.
    pub fn remove(&mut self, hash: Hash, key: &[u8]) -> Option<Entry> {
        let at = self.segment(hash);
        let found = self.segments[at].find_entry(hash.0, |entry| is_same(&entry.key, key)).ok()?;
        let entry = found.remove().0;
        self.removed(&entry);
        self.shrink(at);
        Some(entry)
    }

    fn removed(&mut self, entry: &Entry) {
        self.heap -= entry.heap();
        self.expiring -= usize::from(entry.expires_at != 0);
        self.len -= 1;
        self.moves = self.moves.wrapping_add(1);
    }

    /// Gives back memory of a segment in which little is left.
    fn shrink(&mut self, at: usize) {
        let (segment, seed) = (&mut self.segments[at], &self.seed);
        if segment.len() * 8 < segment.capacity() {
            let before = segment.allocation_size();
            segment.shrink_to(segment.len() * 2, |entry| hash(seed, &entry.key).0);
            self.allocated = self.allocated + segment.allocation_size() - before;
        }
    }

    /// Splits the next segment.
    fn grow(&mut self) {
        let seed = &self.seed;
        let (old, bit) = (&mut self.segments[self.split], 1_u32 << self.level);
        let before = old.allocation_size();
        let rehash = |entry: &Entry| hash(seed, &entry.key).0;
        let mut new = HashTable::with_capacity(old.len() / 2);
        for entry in old.extract_if(|entry| hash(seed, &entry.key).bits() & bit != 0) {
            let hash = rehash(&entry);
            new.insert_unique(hash, entry, rehash);
        }
        old.shrink_to(old.len(), rehash);
        let after = old.allocation_size() + new.allocation_size();
        self.allocated = self.allocated + after - before;
        self.segments.push(new);
        self.split += 1;
        if self.split == 1 << self.level {
            self.level += 1;
            self.split = 0;
        }
    }

    /// Forgets everything, and gives the memory back. This does stop the world: all entries are
    /// dropped at once, and what waits for the loop waits for that.
    pub fn clear(&mut self) {
        let moves = self.moves.wrapping_add(1);
        *self = Table { moves, ..Table::new(self.seed.clone()) };
    }

    // ---- visiting -----------------------------------------------------------------------

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.segments.iter().flatten()
    }

    /// Visits the next entries in the order of a scan, `count` of them or some more, and answers
    /// where to go on; `None` at the end.
    pub fn scan(&self, from: u32, count: usize, mut visit: impl FnMut(&Entry)) -> Option<u32> {
        let (mut from, mut left) = (from, count.max(1));
        // Segments are rarely empty; but a table that was large may have many that are.
        let mut segments_left = count.saturating_mul(10).max(16);
        loop {
            let at = self.segment(Hash(u64::from(from.reverse_bits()) << 16));
            let order = |entry: &&Entry| hash(&self.seed, &entry.key).order();
            let mut here: Vec<(u32, &Entry)> = self.segments[at]
                .iter()
                .map(|entry| (order(&entry), entry))
                .filter(|&(order, _)| order >= from)
                .collect();
            if here.len() > left {
                let (_, &mut (last, _), _) = here.select_nth_unstable_by_key(left - 1, |at| at.0);
                here.iter().filter(|at| at.0 <= last).for_each(|at| visit(at.1));
                return last.checked_add(1);
            }
            here.iter().for_each(|at| visit(at.1));
            left -= here.len();
            segments_left -= 1;
            from = self.end_of(at, from)?;
            if left == 0 || segments_left == 0 {
                return Some(from);
            }
        }
    }

    /// The order at which the segment behind this one begins.
    fn end_of(&self, segment: usize, from: u32) -> Option<u32> {
        let first = 1_usize << self.level;
        let is_split = segment < self.split || segment >= first;
        let bits = self.level + u32::from(is_split);
        let width = 1_u64 << (32 - bits);
        u32::try_from((u64::from(from) / width + 1) * width).ok()
    }

    /// Takes the entries out that have ended, in the segment with this number, and answers how
    /// many entries it looked at and how many it took.
    pub fn expire(&mut self, segment: usize, now: u64) -> (usize, usize) {
        let Some(entries) = self.segments.get_mut(segment) else { return (0, 0) };
        let seen = entries.len();
        let ended: Vec<Entry> = entries.extract_if(|entry| entry.is_expired(now)).collect();
        ended.iter().for_each(|entry| self.removed(entry));
        if !ended.is_empty() {
            self.shrink(segment);
        }
        (seen, ended.len())
    }

    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// What the segments take from the system's allocator, looked at one by one.
    #[cfg(test)]
    fn assert_invariants(&self) {
        assert_eq!(self.segments.len(), (1 << self.level) + self.split);
        assert!(self.split < 1 << self.level);
        assert_eq!(self.len, self.iter().count());
        assert_eq!(self.expiring, self.iter().filter(|entry| entry.expires_at != 0).count());
        assert_eq!(self.heap, self.iter().map(Entry::heap).sum::<usize>());
        let allocated = self.segments.iter().map(HashTable::allocation_size).sum::<usize>();
        assert_eq!(self.allocated, allocated);
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
