//! A shard's databases: what commands on data work on. It reads no clock and knows no connection.

use foldhash::fast::RandomState;

use crate::table::{Entry, Hash, Place, Table, hash};
use crate::text::{Text, is_same};
use crate::value::Value;

/// The databases of one loop: those keys whose hash says that they are this loop's.
pub struct Store {
    databases: Vec<Table>,
    seed: RandomState,
    /// Keys that were taken out because they had ended.
    pub expired: u64,
    /// Where the next sweep goes on.
    sweep: (usize, usize),
}

/// The bits of a key's hash that choose its shard: not those by which the table finds it.
const SHARD_SHIFT: u32 = 48;

/// Which of `shards` a key belongs to. All loops hash by the same seed.
pub fn shard_of(seed: &RandomState, key: &[u8], shards: usize) -> usize {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = seed.build_hasher();
    hasher.write(key);
    (hasher.finish() >> SHARD_SHIFT) as usize % shards.max(1)
}

impl Store {
    pub fn new(databases: usize, seed: RandomState) -> Self {
        let databases = (0..databases).map(|_| Table::new(seed.clone())).collect();
        Store { databases, seed, expired: 0, sweep: (0, 0) }
    }

    // ---- one key ------------------------------------------------------------------------

    /// Where a key's entry lies, whether it has ended or not.
    #[inline]
    pub fn find(&self, database: usize, key: &[u8]) -> Option<Place> {
        self.databases[database].find(hash(&self.seed, key), key)
    }

    #[inline]
    pub fn hash(&self, key: &[u8]) -> Hash {
        hash(&self.seed, key)
    }

    /// As [`find`](Store::find), but it may be another key's: to be told by [`is_at`](Store::is_at).
    #[inline]
    pub fn guess(&self, database: usize, hash: Hash) -> Option<Place> {
        self.databases[database].guess(hash)
    }

    #[inline]
    pub fn is_at(&self, database: usize, place: Place, key: &[u8]) -> bool {
        self.databases[database].get(place).is_some_and(|entry| is_same(&entry.key, key))
    }

    /// The entry at this place; `None` if it has ended, or the place is out of date.
    #[inline]
    pub fn read_at(&self, database: usize, place: Place, now: u64) -> Option<&Entry> {
        self.databases[database].get(place).filter(|entry| !entry.is_expired(now))
    }

    /// The entry, if there is one that has not ended.
    #[inline]
    pub fn read(&mut self, database: usize, key: &[u8], now: u64) -> Option<&Entry> {
        let place = self.find(database, key)?;
        if self.databases[database].get(place)?.is_expired(now) {
            self.expire(database, key);
            return None;
        }
        self.databases[database].get(place)
    }

    /// Lets `change` have the entry at this place, and counts what became of it; `None` as by
    /// [`read_at`](Store::read_at).
    #[inline]
    pub fn change_at<R>(
        &mut self,
        database: usize,
        place: Place,
        now: u64,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> Option<R> {
        let table = &mut self.databases[database];
        let entry = table.get_mut(place).filter(|entry| !entry.is_expired(now))?;
        let (heap, expires) = (entry.value.heap(), entry.expires_at != 0);
        let result = change(entry);
        let (heap_after, expires_after) = (entry.value.heap(), entry.expires_at != 0);
        table.heap = table.heap + heap_after - heap;
        table.expiring = table.expiring + usize::from(expires_after) - usize::from(expires);
        Some(result)
    }

    /// Lets `change` have the entry, if there is one that has not ended.
    #[inline]
    pub fn change<R>(
        &mut self,
        database: usize,
        key: &[u8],
        now: u64,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> Option<R> {
        let place = self.find(database, key)?;
        let changed = self.change_at(database, place, now, change);
        if changed.is_none() {
            self.expire(database, key);
        }
        changed
    }

    /// Takes an entry out that has ended.
    #[cold]
    fn expire(&mut self, database: usize, key: &[u8]) {
        self.databases[database].remove(hash(&self.seed, key), key);
        self.expired += 1;
    }

    /// Adds a key that is not there.
    pub fn insert(&mut self, database: usize, key: &[u8], value: Value, expires_at: u64) {
        let entry = Entry { key: Text::from(key), expires_at, value };
        self.databases[database].insert(hash(&self.seed, key), entry);
    }

    /// Takes an entry out. One that has ended is not told.
    pub fn remove(&mut self, database: usize, key: &[u8], now: u64) -> Option<Entry> {
        let entry = self.databases[database].remove(hash(&self.seed, key), key)?;
        if entry.is_expired(now) {
            self.expired += 1;
            return None;
        }
        Some(entry)
    }

    // ---- all keys -----------------------------------------------------------------------

    pub fn database(&self, database: usize) -> &Table {
        &self.databases[database]
    }

    pub fn databases(&self) -> &[Table] {
        &self.databases
    }

    pub fn clear(&mut self, database: usize) {
        self.databases[database].clear();
    }

    pub fn clear_all(&mut self) {
        self.databases.iter_mut().for_each(Table::clear);
    }

    /// Bytes that the data occupies.
    pub fn memory(&self) -> usize {
        self.databases.iter().map(Table::memory).sum()
    }

    /// Takes out keys that have ended, wherever the last sweep stopped, and looks at `budget`
    /// entries or some more. Answers whether many of them had ended, so that it is worth coming
    /// again soon.
    pub fn sweep(&mut self, now: u64, budget: usize) -> bool {
        let (mut seen, mut taken) = (0, 0);
        let segments: usize = self.databases.iter().map(Table::segments).sum();
        let visits = segments.min(budget);
        for _ in 0..visits {
            let (database, segment) = self.sweep;
            let table = &mut self.databases[database];
            if table.expiring == 0 || segment >= table.segments() {
                self.sweep = ((database + 1) % self.databases.len(), 0);
                continue;
            }
            let (here, ended) = table.expire(segment, now);
            self.sweep.1 += 1;
            seen += here;
            taken += ended;
            if seen >= budget {
                break;
            }
        }
        self.expired += taken as u64;
        seen >= budget && taken * 4 > seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        Store::new(2, RandomState::default())
    }

    #[test]
    fn a_key_is_gone_when_its_time_has_come() {
        let mut store = store();
        store.insert(0, b"k", Value::string(b"v"), 100);
        assert!(store.read(0, b"k", 99).is_some() && store.read(1, b"k", 99).is_none());
        assert!(store.read(0, b"k", 100).is_none());
        assert_eq!((store.database(0).len(), store.expired), (0, 1));
        store.insert(0, b"k", Value::string(b"v"), 100);
        assert!(store.change(0, b"k", 100, |_| ()).is_none());
        assert_eq!(store.database(0).len(), 0);
    }

    #[test]
    fn changes_are_counted() {
        let mut store = store();
        let empty = store.memory();
        store.insert(0, b"k", Value::string(b""), 0);
        let small = store.memory();
        store.change(0, b"k", 0, |entry| {
            entry.value.set_string(&[b'x'; 1000]);
            entry.expires_at = 7;
        });
        assert_eq!(store.memory() - small, 1008);
        assert_eq!(store.database(0).expiring, 1);
        assert!(store.remove(0, b"k", 7).is_none(), "it had ended");
        assert_eq!(store.expired, 1);
        store.clear_all();
        assert_eq!(store.memory(), empty);
    }

    #[test]
    fn a_sweep_finds_all_that_has_ended_in_bounded_steps() {
        let mut store = store();
        for number in 0..10_000_u64 {
            store.insert(1, &number.to_le_bytes(), Value::string(b""), 1 + number % 2);
        }
        let mut sweeps = 0;
        while store.database(1).len() > 5000 {
            let before = store.database(1).len();
            store.sweep(1, 1000);
            assert!(before - store.database(1).len() <= 1500);
            sweeps += 1;
            assert!(sweeps < 40);
        }
        assert!(sweeps >= 8);
        assert_eq!(store.expired, 5000);
    }
}
