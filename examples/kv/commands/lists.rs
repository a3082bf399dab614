//! Commands on lists.

use super::{Call, NOT_AN_INTEGER, WRONG_TYPE};
use crate::args::integer;
use crate::value::{List, Value};

pub fn lpush(call: &mut Call<'_>) {
    push(call, true);
}

pub fn rpush(call: &mut Call<'_>) {
    push(call, false);
}

fn push(call: &mut Call<'_>, at_front: bool) {
    let (key, args) = (call.args.get(1), call.args);
    let pushed = call.store.change(call.database, key, call.now, |entry| match &mut entry.value {
        Value::List(list) => {
            args.from(2).for_each(|element| list.push(element, at_front));
            Some(list.len())
        }
        _ => None,
    });
    match pushed {
        Some(Some(length)) => call.reply.integer(length as i64),
        Some(None) => call.reply.error(WRONG_TYPE),
        None => {
            let mut list = List::default();
            args.from(2).for_each(|element| list.push(element, at_front));
            call.reply.integer(list.len() as i64);
            call.store.insert(call.database, key, Value::List(Box::new(list)), 0);
        }
    }
}

pub fn lpop(call: &mut Call<'_>) {
    pop(call, true, "lpop");
}

pub fn rpop(call: &mut Call<'_>) {
    pop(call, false, "rpop");
}

fn pop(call: &mut Call<'_>, at_front: bool, name: &str) {
    if call.args.len() > 3 {
        let error = format!("ERR wrong number of arguments for '{name}' command");
        return call.reply.error(&error);
    }
    let count = call.args.find(2).map(|count| integer(count).and_then(|n| usize::try_from(n).ok()));
    if count == Some(None) {
        return call.reply.error("ERR value is out of range, must be positive");
    }
    let (count, key) = (count.flatten(), call.args.get(1));
    let reply = &mut *call.reply;
    let popped = call.store.change(call.database, key, call.now, |entry| {
        let Value::List(list) = &mut entry.value else { return None };
        if let Some(count) = count {
            reply.array(count.min(list.len()));
        }
        for _ in 0..count.unwrap_or(1).min(list.len()) {
            if let Some(element) = list.pop(at_front) {
                reply.bulk(&element);
            }
        }
        Some(list.len())
    });
    match popped {
        None if count.is_some() => call.reply.null_array(),
        None => call.reply.null(),
        Some(None) => call.reply.error(WRONG_TYPE),
        Some(Some(0)) => {
            call.store.remove(call.database, key, call.now);
        }
        Some(Some(_)) => {}
    }
}

pub fn lrange(call: &mut Call<'_>) {
    let (Some(from), Some(to)) = (integer(call.args.get(2)), integer(call.args.get(3))) else {
        return call.reply.error(NOT_AN_INTEGER);
    };
    match call.store.read(call.database, call.args.get(1), call.now).map(|entry| &entry.value) {
        None => call.reply.array(0),
        Some(Value::List(list)) => {
            let places = places(from, to, list.len());
            call.reply.array(places.len());
            list.range(places).for_each(|element| call.reply.bulk(element));
        }
        Some(_) => call.reply.error(WRONG_TYPE),
    }
}

/// Both ends belong to it; negative ones count from the list's end.
fn places(from: i64, to: i64, length: usize) -> std::ops::Range<usize> {
    let length = length as i64;
    let absolute = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    let (from, to) = (absolute(from).max(0), absolute(to).min(length - 1));
    if from > to { 0..0 } else { from as usize..to as usize + 1 }
}

pub fn llen(call: &mut Call<'_>) {
    match call.store.read(call.database, call.args.get(1), call.now).map(|entry| &entry.value) {
        None => call.reply.integer(0),
        Some(Value::List(list)) => call.reply.integer(list.len() as i64),
        Some(_) => call.reply.error(WRONG_TYPE),
    }
}
