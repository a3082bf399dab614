//! Commands on hashes and sets.

use super::{Call, WRONG_TYPE};
use crate::value::{Hash, Set, Value};

/// Lets `change` have the hash of the key, a new one if there is none; `None`: it is no hash. A
/// hash that is empty afterwards goes.
fn change_hash<R>(
    call: &mut Call<'_>,
    make: bool,
    change: impl FnOnce(&mut Hash) -> R,
) -> Changed<R> {
    let key = call.args.get(1);
    let mut change = Some(change);
    let changed = call.store.change(call.database, key, call.now, |entry| match &mut entry.value {
        Value::Hash(hash) => change.take().map(|change| (change(hash), hash.len() == 0)),
        _ => None,
    });
    match (changed, change) {
        (Some(Some((result, is_empty))), _) => {
            if is_empty {
                call.store.remove(call.database, key, call.now);
            }
            Changed::Done(result)
        }
        (None, Some(change)) if make => {
            let mut hash = Hash::default();
            let result = change(&mut hash);
            call.store.insert(call.database, key, Value::Hash(Box::new(hash)), 0);
            Changed::Done(result)
        }
        (None, _) => Changed::NotThere,
        (Some(None), _) => Changed::WrongType,
    }
}

/// As `change_hash`, for sets.
fn change_set<R>(
    call: &mut Call<'_>,
    make: bool,
    change: impl FnOnce(&mut Set) -> R,
) -> Changed<R> {
    let key = call.args.get(1);
    let mut change = Some(change);
    let changed = call.store.change(call.database, key, call.now, |entry| match &mut entry.value {
        Value::Set(set) => change.take().map(|change| (change(set), set.len() == 0)),
        _ => None,
    });
    match (changed, change) {
        (Some(Some((result, is_empty))), _) => {
            if is_empty {
                call.store.remove(call.database, key, call.now);
            }
            Changed::Done(result)
        }
        (None, Some(change)) if make => {
            let mut set = Set::default();
            let result = change(&mut set);
            call.store.insert(call.database, key, Value::Set(Box::new(set)), 0);
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
    let changed = change_hash(call, true, |hash| {
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
    let changed = change_hash(call, false, remove);
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
    let changed = change_set(call, true, add);
    tell_count(call, changed);
}

pub fn srem(call: &mut Call<'_>) {
    let args = call.args;
    let remove = |set: &mut Set| args.from(2).filter(|member| set.remove(member)).count();
    let changed = change_set(call, false, remove);
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
