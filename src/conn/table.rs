//! The loop's connections: a slab whose slots carry a generation, so that a stale token finds
//! nothing. It grows by pages; open connections never move, and a million of them are added
//! without one long copy.

use crate::buf::pages::Pages;
use crate::conn::state::{ConnCore, Phase};
use crate::driver::{MAX_STREAMS, Token};

const NONE: u32 = u32::MAX;

/// Generational slab of connections. Generation and, while it is free, the next free slot have their
/// places within the connection (`generation`, `watch_due`), so that a slot is whole cache lines.
pub(crate) struct Table {
    slots: Pages<ConnCore>,
    /// Slots ever used: the ones below this index are initialised.
    used: u32,
    free: u32,
    len: usize,
}

impl Table {
    pub(crate) fn new() -> Self {
        Table { slots: Pages::new(), used: 0, free: NONE, len: 0 }
    }

    /// Connections in the table, in whatever phase.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts a connection in; `None` when the table is full (2^30 connections).
    pub(crate) fn insert(&mut self, core: ConnCore) -> Option<Token> {
        debug_assert!(core.phase != Phase::Free);
        let index = if self.free != NONE {
            self.free
        } else if self.used < MAX_STREAMS {
            self.slots.ensure(self.used);
            self.used += 1;
            self.used - 1
        } else {
            return None;
        };
        let slot = self.slots.get_mut(index)?;
        if self.free == index {
            self.free = slot.watch_due;
        }
        let generation = slot.generation;
        *slot = core;
        slot.generation = generation;
        self.len += 1;
        Some(Token { index, generation })
    }

    /// Frees the slot. What the connection still held is the caller's.
    pub(crate) fn remove(&mut self, token: Token) -> Option<ConnCore> {
        let slot = self.slots.get_mut(token.index)?;
        if slot.generation != token.generation || slot.phase == Phase::Free {
            return None;
        }
        let removed = std::mem::take(slot);
        slot.generation = token.generation.wrapping_add(1);
        slot.watch_due = self.free;
        self.free = token.index;
        self.len -= 1;
        Some(removed)
    }

    #[inline]
    pub(crate) fn get(&self, token: Token) -> Option<&ConnCore> {
        let slot = self.slots.get(token.index)?;
        let lives = slot.generation == token.generation && slot.phase != Phase::Free;
        lives.then_some(slot)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut ConnCore> {
        let slot = self.slots.get_mut(token.index)?;
        let lives = slot.generation == token.generation && slot.phase != Phase::Free;
        lives.then_some(slot)
    }

    /// The token of the connection in slot `index`, if there is one. Walking `0..bound()` visits
    /// all of them, also while some are removed or added on the way.
    pub(crate) fn token_at(&self, index: u32) -> Option<Token> {
        let slot = self.slots.get(index)?;
        (slot.phase != Phase::Free).then_some(Token { index, generation: slot.generation })
    }

    /// One more than the highest slot ever used.
    pub(crate) fn bound(&self) -> u32 {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Address;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn conn(mark: u64) -> ConnCore {
        let mut core = ConnCore::new(Address::Unix(None), Phase::Open);
        core.mark = mark;
        core
    }

    #[test]
    fn a_stale_token_finds_nothing_after_its_slot_is_used_again() {
        let mut table = Table::new();
        let old = table.insert(conn(1)).unwrap();
        table.remove(old).unwrap();
        let new = table.insert(conn(2)).unwrap();
        assert_eq!(old.index, new.index);
        assert!(table.get(old).is_none() && table.remove(old).is_none());
        assert_eq!(table.get(new).unwrap().mark, 2);
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_map(steps in prop::collection::vec((0u8..3, any::<u16>()), 0..400)) {
            let mut table = Table::new();
            let mut model: HashMap<(u32, u32), u64> = HashMap::new();
            let mut seen = Vec::new();
            for (count, (kind, pick)) in steps.into_iter().enumerate() {
                if kind > 0 || seen.is_empty() {
                    let token = table.insert(conn(count as u64)).unwrap();
                    prop_assert!(model.insert((token.index, token.generation), count as u64).is_none());
                    seen.push(token);
                } else {
                    let token = seen[usize::from(pick) % seen.len()];
                    let removed = table.remove(token).map(|c| c.mark);
                    prop_assert_eq!(removed, model.remove(&(token.index, token.generation)));
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for token in seen {
                let found = table.get(token).map(|c| c.mark);
                prop_assert_eq!(found, model.get(&(token.index, token.generation)).copied());
            }
            let walked = (0..table.bound()).filter_map(|i| table.token_at(i)).count();
            prop_assert_eq!(walked, model.len());
        }
    }
}
