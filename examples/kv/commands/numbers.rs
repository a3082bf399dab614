//! Commands on strings that are numbers.

use super::{Call, NOT_AN_INTEGER, WRONG_TYPE};
use crate::args::integer;
use crate::reply::signed_decimal;
use crate::value::Value;

pub fn incr(call: &mut Call<'_>) {
    add(call, 1);
}

pub fn decr(call: &mut Call<'_>) {
    add(call, -1);
}

pub fn incrby(call: &mut Call<'_>) {
    match integer(call.args.get(2)) {
        Some(number) => add(call, number),
        None => call.reply.error(NOT_AN_INTEGER),
    }
}

pub fn decrby(call: &mut Call<'_>) {
    match integer(call.args.get(2)).map(i64::checked_neg) {
        Some(Some(number)) => add(call, number),
        Some(None) => call.reply.error("ERR decrement would overflow"),
        None => call.reply.error(NOT_AN_INTEGER),
    }
}

fn add(call: &mut Call<'_>, number: i64) {
    let key = call.args.get(1);
    let added = call.store.change(call.database, key, call.now, |entry| {
        let old = integer(entry.value.as_string().ok_or(WRONG_TYPE)?).ok_or(NOT_AN_INTEGER)?;
        let sum = old.checked_add(number);
        let sum = sum.ok_or("ERR increment or decrement would overflow")?;
        entry.value.set_string(&signed_decimal(sum));
        Ok::<i64, &str>(sum)
    });
    match added {
        Some(Ok(sum)) => call.reply.integer(sum),
        Some(Err(error)) => call.reply.error(error),
        None => {
            call.store.insert(call.database, key, Value::string(&signed_decimal(number)), 0);
            call.reply.integer(number);
        }
    }
}
