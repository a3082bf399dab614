//! When keys end: the options that say so, and the commands that tell and change it.

use super::{Call, NOT_AN_INTEGER};
use crate::args::{integer, is};

/// How a moment is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

impl Unit {
    /// The option of SET and GETEX with this name.
    pub fn named(name: &[u8]) -> Option<Unit> {
        let units = [
            ("ex", Unit::Seconds),
            ("px", Unit::Milliseconds),
            ("exat", Unit::UnixSeconds),
            ("pxat", Unit::UnixMilliseconds),
        ];
        units.into_iter().find(|(word, _)| is(name, word)).map(|(_, unit)| unit)
    }

    fn in_milliseconds(self, number: i64) -> Option<i64> {
        match self {
            Unit::Seconds | Unit::UnixSeconds => number.checked_mul(1000),
            Unit::Milliseconds | Unit::UnixMilliseconds => Some(number),
        }
    }

    /// From when it counts.
    fn base(self, now: u64) -> i64 {
        match self {
            Unit::Seconds | Unit::Milliseconds => now as i64,
            Unit::UnixSeconds | Unit::UnixMilliseconds => 0,
        }
    }
}

/// An argument that tells when a value ends.
#[derive(Clone, Copy)]
pub struct Expire {
    pub unit: Unit,
    pub argument: usize,
}

impl Expire {
    /// The moment, which may have passed, but not before 1970.
    pub fn read(self, call: &Call<'_>, command: &str) -> Result<u64, String> {
        let number = integer(call.args.get(self.argument)).ok_or(NOT_AN_INTEGER)?;
        let positive = self.unit.in_milliseconds(number).filter(|&milliseconds| milliseconds > 0);
        let at = positive.and_then(|delay| delay.checked_add(self.unit.base(call.now)));
        at.map(|at| at as u64).ok_or_else(|| invalid(command))
    }
}

fn invalid(command: &str) -> String {
    format!("ERR invalid expire time in '{command}' command")
}

pub fn expire(call: &mut Call<'_>) {
    expire_in(call, Unit::Seconds, "expire");
}

pub fn pexpire(call: &mut Call<'_>) {
    expire_in(call, Unit::Milliseconds, "pexpire");
}

pub fn expireat(call: &mut Call<'_>) {
    expire_in(call, Unit::UnixSeconds, "expireat");
}

pub fn pexpireat(call: &mut Call<'_>) {
    expire_in(call, Unit::UnixMilliseconds, "pexpireat");
}

/// On which condition a key gets its end.
#[derive(Default)]
struct Condition {
    if_none: bool,
    if_some: bool,
    if_later: bool,
    if_earlier: bool,
}

impl Condition {
    fn read(call: &Call<'_>) -> Result<Condition, String> {
        let mut condition = Condition::default();
        for option in call.args.from(3) {
            match option {
                option if is(option, "nx") => condition.if_none = true,
                option if is(option, "xx") => condition.if_some = true,
                option if is(option, "gt") => condition.if_later = true,
                option if is(option, "lt") => condition.if_earlier = true,
                other => {
                    return Err(format!(
                        "ERR Unsupported option {}",
                        String::from_utf8_lossy(other)
                    ));
                }
            }
        }
        let Condition { if_none, if_some, if_later, if_earlier } = condition;
        if if_none && (if_some || if_later || if_earlier) {
            return Err(
                "ERR NX and XX, GT or LT options at the same time are not compatible".into()
            );
        }
        if if_later && if_earlier {
            return Err("ERR GT and LT options at the same time are not compatible".into());
        }
        Ok(condition)
    }

    /// `before` is 0 for a key that never ends.
    fn holds(&self, before: u64, at: i64) -> bool {
        let later = before != 0 && at > before as i64;
        let earlier = before == 0 || at < before as i64;
        !(self.if_none && before != 0
            || self.if_some && before == 0
            || self.if_later && !later
            || self.if_earlier && !earlier)
    }
}

fn expire_in(call: &mut Call<'_>, unit: Unit, name: &str) {
    let condition = match Condition::read(call) {
        Ok(condition) => condition,
        Err(error) => return call.reply.error(&error),
    };
    let Some(number) = integer(call.args.get(2)) else { return call.reply.error(NOT_AN_INTEGER) };
    let delay = unit.in_milliseconds(number);
    let Some(at) = delay.and_then(|delay| delay.checked_add(unit.base(call.now))) else {
        return call.reply.error(invalid(name));
    };
    let key = call.args.get(1);
    let changed = call.store.change(call.database, key, call.now, |entry| {
        let holds = condition.holds(entry.expires_at, at);
        // What has passed already is taken out below, not given an end.
        if holds && at > call.now as i64 {
            entry.expires_at = at as u64;
        }
        holds
    });
    if changed == Some(true) && at <= call.now as i64 {
        call.store.remove(call.database, key, call.now);
    }
    call.reply.integer(i64::from(changed == Some(true)));
}

pub fn ttl(call: &mut Call<'_>) {
    match time_left(call) {
        // To the nearest second.
        milliseconds @ 0.. => call.reply.integer((milliseconds + 500) / 1000),
        none => call.reply.integer(none),
    }
}

pub fn pttl(call: &mut Call<'_>) {
    let left = time_left(call);
    call.reply.integer(left);
}

/// In milliseconds; -1: it never ends, -2: it is not there.
fn time_left(call: &mut Call<'_>) -> i64 {
    match call.store.read(call.database, call.args.get(1), call.now) {
        None => -2,
        Some(entry) if entry.expires_at == 0 => -1,
        Some(entry) => entry.expires_at.saturating_sub(call.now) as i64,
    }
}

pub fn persist(call: &mut Call<'_>) {
    let persisted = call.store.change(call.database, call.args.get(1), call.now, |entry| {
        std::mem::take(&mut entry.expires_at) != 0
    });
    call.reply.integer(i64::from(persisted == Some(true)));
}
