//! The table against a plain map, its growth, and the promise of its scans.

use std::collections::{BTreeSet, HashMap};

use super::*;

fn entry(key: &str, expires_at: u64) -> Entry {
    Entry { key: key.as_bytes().into(), expires_at, value: Value::string(key.as_bytes()) }
}

fn filled(keys: impl Iterator<Item = usize>) -> Table {
    let seed = RandomState::default();
    let mut table = Table::new(seed.clone());
    for number in keys {
        let key = format!("key:{number}");
        table.insert(hash(&seed, key.as_bytes()), entry(&key, 0));
    }
    table
}

fn remove(table: &mut Table, key: &str) -> Option<Entry> {
    let hash = hash(&table.seed, key.as_bytes());
    table.remove(hash, key.as_bytes())
}

#[test]
fn an_entry_is_a_line_of_the_cache() {
    assert_eq!(size_of::<Entry>(), 64);
}

#[test]
fn a_guess_is_right_nearly_always() {
    let table = filled(0..20_000);
    let is_right = |number: &usize| {
        let key = format!("key:{number}");
        let place = table.guess(hash(&table.seed, key.as_bytes()));
        place.and_then(|place| table.get(place)).is_some_and(|entry| *entry.key == *key.as_bytes())
    };
    assert!((0..20_000).filter(is_right).count() > 18_000);
    assert!(Table::new(RandomState::default()).guess(Hash(7)).is_none());
}

#[test]
fn a_place_is_out_of_date_when_entries_may_have_moved() {
    let mut table = filled(0..100);
    let place_of = |table: &Table, key: &str| {
        let key = key.as_bytes();
        table.find(hash(&table.seed, key), key)
    };
    let place = place_of(&table, "key:7").expect("it is there");
    assert_eq!(table.get(place).map(|entry| &entry.key[..]), Some(&b"key:7"[..]));
    assert!(table.get_mut(place).is_some() && table.get(place).is_some());
    remove(&mut table, "key:8");
    assert!(table.get(place).is_none() && table.get_mut(place).is_none());
    let place = place_of(&table, "key:7").expect("it is there");
    let seed = table.seed.clone();
    table.insert(hash(&seed, b"key:8"), entry("key:8", 1));
    assert!(table.get(place).is_none());
    let place = place_of(&table, "key:7").expect("it is there");
    for segment in 0..table.segments() {
        table.expire(segment, 1);
    }
    assert!(table.get(place).is_none());
    let place = place_of(&table, "key:7").expect("it is there");
    table.clear();
    assert!(table.get(place).is_none());
}

#[test]
fn it_holds_what_a_plain_map_holds() {
    let seed = RandomState::default();
    let (mut table, mut map) = (Table::new(seed.clone()), HashMap::new());
    let mut random = 88172645463325252_u64;
    for step in 0..60_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Grows at first, shrinks at last.
        let key = format!("a rather long name of a key {}", random % 8000);
        let place = hash(&seed, key.as_bytes());
        let removes = if step < 30_000 { 4 } else { 7 };
        if random >> 60 < removes {
            let removed = table.remove(place, key.as_bytes()).is_some();
            assert_eq!(removed, map.remove(&key).is_some());
        } else if let Some(found) = table.find(place, key.as_bytes()) {
            assert_eq!(table.get(found).map(|entry| &entry.expires_at), map.get(&key));
        } else {
            assert_eq!(map.insert(key.clone(), random % 3), None);
            table.insert(place, entry(&key, random % 3));
        }
        if step % 1000 == 0 {
            table.assert_invariants();
        }
    }
    assert_eq!(table.len(), map.len());
    for (key, expires_at) in &map {
        let place = table.find(hash(&seed, key.as_bytes()), key.as_bytes());
        let found = place.and_then(|place| table.get(place));
        assert_eq!(found.map(|entry| entry.expires_at), Some(*expires_at));
    }
    table.clear();
    assert_eq!((table.len(), table.memory()), (0, size_of::<HashTable<Entry>>()));
}

#[test]
fn no_segment_is_much_larger_than_the_others() {
    let table = filled(0..100_000);
    let largest = table.segments.iter().map(HashTable::len).max();
    assert!(largest.is_some_and(|entries| entries < ENTRIES_PER_SEGMENT * 5 / 2), "{largest:?}");
    assert!(table.memory() < 100_000 * 160, "{} bytes", table.memory());
}

#[test]
fn memory_is_given_back_when_entries_go() {
    let mut table = filled(0..50_000);
    let full = table.memory();
    for number in 0..49_900 {
        assert!(remove(&mut table, &format!("key:{number}")).is_some());
    }
    table.assert_invariants();
    assert!(table.memory() < full / 10, "{} of {full}", table.memory());
}

#[test]
fn a_scan_meets_all_that_stays_once_though_the_table_grows_and_shrinks() {
    for count in [1, 10, 1000, usize::MAX] {
        let mut table = filled(0..3000);
        let mut met: Vec<Vec<u8>> = Vec::new();
        let (mut from, mut step) = (Some(0), 0);
        while let Some(at) = from {
            from = table.scan(at, count, |entry| met.push(entry.key.to_vec()));
            // Half of what there was goes away, and five times as much comes.
            step += 1;
            if step <= 1500 {
                remove(&mut table, &format!("key:{}", step * 2));
                for more in 0..5 {
                    let key = format!("new:{step}:{more}");
                    let place = hash(&table.seed, key.as_bytes());
                    table.insert(place, entry(&key, 0));
                }
            }
        }
        let unique: BTreeSet<_> = met.iter().collect();
        assert_eq!(unique.len(), met.len(), "something was met twice");
        for number in (1..3000).step_by(2) {
            assert!(unique.contains(&format!("key:{number}").into_bytes()), "key:{number}");
        }
    }
}

#[test]
fn a_step_of_a_scan_is_as_long_as_it_was_asked_for() {
    let table = filled(0..10_000);
    let mut met = 0;
    let next = table.scan(0, 25, |_| met += 1);
    assert!((25..27).contains(&met) && next.is_some());
}

#[test]
fn what_has_ended_is_taken_out_segment_by_segment() {
    let seed = RandomState::default();
    let mut table = Table::new(seed.clone());
    for number in 0..5000_u64 {
        let key = number.to_string();
        table.insert(hash(&seed, key.as_bytes()), entry(&key, number % 5 * 10));
    }
    let taken: usize = (0..table.segments()).map(|at| table.expire(at, 20).1).sum();
    table.assert_invariants();
    assert_eq!((taken, table.len(), table.expiring), (2000, 3000, 2000));
}
