//! Commands on hashes and sets.

use super::{Call, WRONG_TYPE};
use crate::value::{Hash, Set, Value};

/// What a hash and a set have in common.
trait Collection: Default {
    fn of(value: &mut Value) -> Option<&mut Self>;
    fn is_empty(&self) -> bool;
    fn into_value(self) -> Value;
}

impl Collection for Hash {
    fn of(value: &mut Value) -> Option<&mut Self> {
        if let Value::Hash(hash) = value { Some(hash) } else { None }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn into_value(self) -> Value {
        Value::Hash(Box::new(self))
    }
}

impl Collection for Set {
    fn of(value: &mut Value) -> Option<&mut Self> {
        if let Value::Set(set) = value { Some(set) } else { None }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn into_value(self) -> Value {
        Value::Set(Box::new(self))
    }
}

/// Lets `change` have the collection of the key, where `make` says so a new one if there is none.
/// One that is empty afterwards goes.
fn change<C: Collection, R>(
    call: &mut Call<'_>,
    make: bool,
    change: impl FnOnce(&mut C) -> R,
) -> Changed<R> {
    let key = call.args.get(1);
    let mut change = Some(change);
    let changed = call.store.change(call.database, key, call.now, |entry| {
        let collection = C::of(&mut entry.value)?;
        change.take().map(|change| (change(collection), collection.is_empty()))
    });
    match (changed, change) {
        (Some(Some((result, is_empty))), _) => {
            if is_empty {
                call.store.remove(call.database, key, call.now);
            }
            Changed::Done(result)
        }
        (None, Some(change)) if make => {
            let mut collection = C::default();
            let result = change(&mut collection);
            call.store.insert(call.database, key, collection.into_value(), 0);
            Changed::Done(result)
        }
        (None, _) => Changed::NotThere,
        (Some(None), _) => Changed::WrongType,
    }
}

enum Changed<R> {
    Done(R),
    NotThere,
    WrongType,
}

fn tell_count(call: &mut Call<'_>, changed: Changed<usize>) {
    match changed {
        Changed::Done(count) => call.reply.integer(count as i64),
        Changed::NotThere => call.reply.integer(0),
        Changed::WrongType => call.reply.error(WRONG_TYPE),
    }
}

/// What is at the key: `Ok(None)` for nothing, an error for another type.
fn read_hash<'a>(call: &'a mut Call<'_>) -> Result<Option<&'a Hash>, &'static str> {
    match call.store.read(call.database, call.args.get(1), call.now).map(|entry| &entry.value) {
        None => Ok(None),
        Some(Value::Hash(hash)) => Ok(Some(hash)),
        Some(_) => Err(WRONG_TYPE),
    }
}

fn read_set<'a>(call: &'a mut Call<'_>) -> Result<Option<&'a Set>, &'static str> {
    match call.store.read(call.database, call.args.get(1), call.now).map(|entry| &entry.value) {
        None => Ok(None),
        Some(Value::Set(set)) => Ok(Some(set)),
        Some(_) => Err(WRONG_TYPE),
    }
}

fn tell_number(call: &mut Call<'_>, number: Result<usize, &'static str>) {
    match number {
        Ok(number) => call.reply.integer(number as i64),
        Err(error) => call.reply.error(error),
    }
}

pub fn hset(call: &mut Call<'_>) {
    let args = call.args;
    if args.len() % 2 == 1 {
        return call.reply.error("ERR wrong number of arguments for 'hset' command");
    }
    let changed = change(call, true, |hash: &mut Hash| {
        (2..args.len()).step_by(2).filter(|&at| hash.set(args.get(at), args.get(at + 1))).count()
    });
    tell_count(call, changed);
}

pub fn hget(call: &mut Call<'_>) {
    let field = call.args.get(2);
    match call.store.read(call.database, call.args.get(1), call.now).map(|entry| &entry.value) {
        None => call.reply.null(),
        Some(Value::Hash(hash)) => match hash.get(field) {
            Some(value) => call.reply.bulk(value),
            None => call.reply.null(),
        },
        Some(_) => call.reply.error(WRONG_TYPE),
    }
}

pub fn hdel(call: &mut Call<'_>) {
    let args = call.args;
    let remove = |hash: &mut Hash| args.from(2).filter(|field| hash.remove(field)).count();
    let changed = change(call, false, remove);
    tell_count(call, changed);
}

pub fn hgetall(call: &mut Call<'_>) {
    match call.store.read(call.database, call.args.get(1), call.now).map(|entry| &entry.value) {
        None => call.reply.map(0),
        Some(Value::Hash(hash)) => {
            call.reply.map(hash.len());
            for (field, value) in hash.iter() {
                call.reply.bulk(field);
                call.reply.bulk(value);
            }
        }
        Some(_) => call.reply.error(WRONG_TYPE),
    }
}

pub fn hlen(call: &mut Call<'_>) {
    let length = read_hash(call).map(|hash| hash.map_or(0, Hash::len));
    tell_number(call, length);
}

pub fn hexists(call: &mut Call<'_>) {
    let field = call.args.get(2);
    let found = read_hash(call).map(|hash| hash.is_some_and(|hash| hash.get(field).is_some()));
    tell_number(call, found.map(usize::from));
}

pub fn sadd(call: &mut Call<'_>) {
    let args = call.args;
    let add = |set: &mut Set| args.from(2).filter(|member| set.add(member)).count();
    let changed = change(call, true, add);
    tell_count(call, changed);
}

pub fn srem(call: &mut Call<'_>) {
    let args = call.args;
    let remove = |set: &mut Set| args.from(2).filter(|member| set.remove(member)).count();
    let changed = change(call, false, remove);
    tell_count(call, changed);
}

pub fn smembers(call: &mut Call<'_>) {
    match call.store.read(call.database, call.args.get(1), call.now).map(|entry| &entry.value) {
        None => call.reply.set(0),
        Some(Value::Set(set)) => {
            call.reply.set(set.len());
            set.iter().for_each(|member| call.reply.bulk(member));
        }
        Some(_) => call.reply.error(WRONG_TYPE),
    }
}

pub fn sismember(call: &mut Call<'_>) {
    let member = call.args.get(2);
    let found = read_set(call).map(|set| set.is_some_and(|set| set.contains(member)));
    tell_number(call, found.map(usize::from));
}

pub fn scard(call: &mut Call<'_>) {
    let length = read_set(call).map(|set| set.map_or(0, Set::len));
    tell_number(call, length);
}
