//! Commands on keys, whatever they hold.

use super::{Call, NOT_AN_INTEGER, SYNTAX};
use crate::args::{self, integer, is};
use crate::glob::Pattern;
use crate::reply::{Reply, decimal};
use crate::value::Kind;

pub fn del(call: &mut Call<'_>) {
    let (store, database, now) = (&mut *call.store, call.database, call.now);
    let removed =
        call.args.from(1).filter(|key| store.remove(database, key, now).is_some()).count();
    call.reply.integer(removed as i64);
}

pub fn exists(call: &mut Call<'_>) {
    let (store, database, now) = (&mut *call.store, call.database, call.now);
    let found = call.args.from(1).filter(|key| store.read(database, key, now).is_some()).count();
    call.reply.integer(found as i64);
}

pub fn kind(call: &mut Call<'_>) {
    let entry = call.store.read(call.database, call.args.get(1), call.now);
    let name = entry.map_or("none", |entry| entry.value.kind().name());
    call.reply.status(name);
}

pub fn keys(call: &mut Call<'_>) {
    let pattern = Pattern::new(call.args.get(1));
    let mut found = Reply::new(call.reply.resp3);
    let mut count = 0;
    for entry in call.store.database(call.database).iter() {
        if !entry.is_expired(call.now) && pattern.matches(&entry.key) {
            found.bulk(&entry.key);
            count += 1;
        }
    }
    call.reply.array(count);
    call.reply.append(found);
}

/// How a cursor is made: the loop, and behind it the order of the next key.
const SHARD_SHIFT: u32 = 40;

/// The loop that the cursor of a SCAN tells; a cursor that was never given out is that of loop 0,
/// where it finds its end.
pub fn shard_of_cursor(cursor: &[u8], shards: usize) -> usize {
    let shard = args::cursor(cursor).unwrap_or_default() >> SHARD_SHIFT;
    usize::try_from(shard).ok().filter(|&shard| shard < shards).unwrap_or_default()
}

/// What SCAN tells: keys by pattern and type, so many a call.
struct Filter<'a> {
    pattern: Pattern<'a>,
    count: usize,
    kind: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    fn read(call: &Call<'a>) -> Result<Self, &'static str> {
        let mut filter = Filter { pattern: Pattern::new(b"*"), count: 10, kind: None };
        let mut at = 2;
        while at < call.args.len() {
            let Some(value) = call.args.find(at + 1) else { return Err(SYNTAX) };
            match call.args.get(at) {
                name if is(name, "match") => filter.pattern = Pattern::new(value),
                name if is(name, "type") => filter.kind = Some(value),
                name if is(name, "count") => {
                    let count = integer(value).ok_or(NOT_AN_INTEGER)?;
                    filter.count = usize::try_from(count).ok().filter(|&n| n > 0).ok_or(SYNTAX)?;
                }
                _ => return Err(SYNTAX),
            }
            at += 2;
        }
        Ok(filter)
    }

    fn takes(&self, kind: Kind) -> bool {
        self.kind.is_none_or(|wanted| is(wanted, kind.name()))
    }
}

pub fn scan(call: &mut Call<'_>) {
    let Some(cursor) = args::cursor(call.args.get(1)) else {
        return call.reply.error("ERR invalid cursor");
    };
    let filter = match Filter::read(call) {
        Ok(filter) => filter,
        Err(error) => return call.reply.error(error),
    };
    let (shard, shards) = call.shard;
    let mut found = Reply::new(call.reply.resp3);
    let mut count = 0;
    let from = u32::try_from(cursor & ((1 << SHARD_SHIFT) - 1));
    let is_ours = cursor >> SHARD_SHIFT == shard as u64;
    let next = from.ok().filter(|_| is_ours).and_then(|from| {
        call.store.database(call.database).scan(from, filter.count, |entry| {
            let fits = filter.takes(entry.value.kind()) && !entry.is_expired(call.now);
            if fits && filter.pattern.matches(&entry.key) {
                found.bulk(&entry.key);
                count += 1;
            }
        })
    });
    let cursor = match next {
        Some(order) => ((shard as u64) << SHARD_SHIFT) | u64::from(order),
        None if is_ours && shard + 1 < shards => (shard as u64 + 1) << SHARD_SHIFT,
        None => 0,
    };
    call.reply.array(2);
    call.reply.bulk(decimal(cursor, &mut [0; 20]));
    call.reply.array(count);
    call.reply.append(found);
}
