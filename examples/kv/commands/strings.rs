//! Commands on strings.

use super::expiry::{Expire, Unit};
use super::{Call, SYNTAX, WRONG_TYPE};
use crate::args::Args;
use crate::reply::Reply;
use crate::store::Store;
use crate::table::Entry;
use crate::value::{Kind, Value};

/// Longest string that APPEND makes: the `proto-max-bulk-len` of Redis.
const MAX_STRING_BYTES: usize = 512 << 20;

pub fn get(call: &mut Call<'_>) {
    let key = call.args.get(1);
    match call.store.read(call.database, key, call.now) {
        None => call.reply.null(),
        Some(entry) if entry.value.is_unshared() => {
            share(call);
            tell(call.store, call.database, key, call.now, call.reply);
        }
        Some(entry) => tell_entry(entry, call.reply),
    }
}

/// Before a long string is told: copies for many replies on their way would have no bound.
#[cold]
fn share(call: &mut Call<'_>) {
    let key = call.args.get(1);
    call.store.change(call.database, key, call.now, |entry| entry.value.share());
}

/// GET, wherever it comes from.
#[inline]
pub fn tell(store: &mut Store, database: usize, key: &[u8], now: u64, reply: &mut Reply) {
    match store.read(database, key, now) {
        None => reply.null(),
        Some(entry) => tell_entry(entry, reply),
    }
}

#[inline]
pub fn tell_entry(entry: &Entry, reply: &mut Reply) {
    if !entry.value.tell(reply) {
        reply.error(WRONG_TYPE);
    }
}

pub fn set(call: &mut Call<'_>) {
    if call.args.len() > 3 {
        return set_with_options(call);
    }
    put(call.store, call.database, call.args.get(1), call.args.get(2), call.now);
    call.reply.ok();
}

/// SET without options, wherever it comes from.
#[inline]
pub fn put(store: &mut Store, database: usize, key: &[u8], value: &[u8], now: u64) {
    if store.change(database, key, now, |entry| put_entry(entry, value)).is_none() {
        store.insert(database, key, Value::string(value), 0);
    }
}

#[inline]
pub fn put_entry(entry: &mut Entry, value: &[u8]) {
    entry.value.set_string(value);
    entry.expires_at = 0;
}

/// When a string that is set ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Never,
    AsBefore,
    At(u64),
}

/// Sets the key, whatever it was before.
fn put_with_end(call: &mut Call<'_>, value: &[u8], ends: Ends) {
    let change = |entry: &mut Entry| {
        entry.value.set_string(value);
        match ends {
            Ends::Never => entry.expires_at = 0,
            Ends::AsBefore => {}
            Ends::At(at) => entry.expires_at = at,
        }
    };
    let key = call.args.get(1);
    if call.store.change(call.database, key, call.now, change).is_none() {
        let at = if let Ends::At(at) = ends { at } else { 0 };
        call.store.insert(call.database, key, Value::string(value), at);
    }
}

/// The options of SET and GETEX.
#[derive(Default)]
struct Options {
    only_new: bool,
    only_old: bool,
    get: bool,
    keep: bool,
    persist: bool,
    expire: Option<Expire>,
}

impl Options {
    /// Reads the arguments from `first` on; `None`: a syntax error.
    fn read(args: Args<'_>, first: usize, is_set: bool) -> Option<Options> {
        let mut options = Options::default();
        let mut at = first;
        while at < args.len() {
            let timeless = !options.keep && !options.persist && options.expire.is_none();
            if is_set && args.is(at, "nx") && !options.only_old {
                options.only_new = true;
            } else if is_set && args.is(at, "xx") && !options.only_new {
                options.only_old = true;
            } else if is_set && args.is(at, "get") {
                options.get = true;
            } else if is_set
                && args.is(at, "keepttl")
                && !options.persist
                && options.expire.is_none()
            {
                options.keep = true;
            } else if !is_set && args.is(at, "persist") && !options.keep && options.expire.is_none()
            {
                options.persist = true;
            } else {
                let unit = Unit::named(args.get(at))?;
                // The same unit twice is allowed: the last one counts.
                let again = options.expire.is_some_and(|expire| expire.unit == unit);
                if at + 1 >= args.len() || !(timeless || again) {
                    return None;
                }
                at += 1;
                options.expire = Some(Expire { unit, argument: at });
            }
            at += 1;
        }
        Some(options)
    }
}

fn set_with_options(call: &mut Call<'_>) {
    let Some(options) = Options::read(call.args, 3, true) else { return call.reply.error(SYNTAX) };
    let ends = match options.expire.map(|expire| expire.read(call, "set")) {
        None if options.keep => Ends::AsBefore,
        None => Ends::Never,
        Some(Ok(at)) => Ends::At(at),
        Some(Err(error)) => return call.reply.error(&error),
    };
    let key = call.args.get(1);
    if options.get {
        share(call);
    }
    let old = call.store.read(call.database, key, call.now);
    let is_old = old.is_some();
    if options.get {
        match old {
            None => call.reply.null(),
            Some(entry) if entry.value.tell(call.reply) => {}
            Some(_) => return call.reply.error(WRONG_TYPE),
        }
    }
    if (options.only_new && is_old) || (options.only_old && !is_old) {
        if !options.get {
            call.reply.null();
        }
        return;
    }
    put_with_end(call, call.args.get(2), ends);
    if !options.get {
        call.reply.ok();
    }
}

pub fn setnx(call: &mut Call<'_>) {
    let is_old = call.store.read(call.database, call.args.get(1), call.now).is_some();
    if !is_old {
        put(call.store, call.database, call.args.get(1), call.args.get(2), call.now);
    }
    call.reply.integer(i64::from(!is_old));
}

pub fn setex(call: &mut Call<'_>) {
    set_for(call, Unit::Seconds, "setex");
}

pub fn psetex(call: &mut Call<'_>) {
    set_for(call, Unit::Milliseconds, "psetex");
}

fn set_for(call: &mut Call<'_>, unit: Unit, name: &str) {
    match (Expire { unit, argument: 2 }).read(call, name) {
        Ok(at) => {
            put_with_end(call, call.args.get(3), Ends::At(at));
            call.reply.ok();
        }
        Err(error) => call.reply.error(&error),
    }
}

pub fn getdel(call: &mut Call<'_>) {
    let key = call.args.get(1);
    match call.store.read(call.database, key, call.now) {
        None => call.reply.null(),
        Some(entry) if entry.value.tell(call.reply) => {
            call.store.remove(call.database, key, call.now);
        }
        Some(_) => call.reply.error(WRONG_TYPE),
    }
}

pub fn getex(call: &mut Call<'_>) {
    let Some(options) = Options::read(call.args, 2, false) else { return call.reply.error(SYNTAX) };
    let key = call.args.get(1);
    match call.store.read(call.database, key, call.now).map(|entry| entry.value.kind()) {
        None => return call.reply.null(),
        Some(Kind::String) => {}
        Some(_) => return call.reply.error(WRONG_TYPE),
    }
    let at = match options.expire.map(|expire| expire.read(call, "getex")) {
        None if options.persist => Some(0),
        None => None,
        Some(Ok(at)) => Some(at),
        Some(Err(error)) => return call.reply.error(&error),
    };
    let Call { store, reply, .. } = call;
    store.change(call.database, key, call.now, |entry| {
        entry.value.share();
        entry.value.tell(reply);
        // What has passed already is taken out below, not given an end.
        if let Some(at) = at.filter(|&at| at == 0 || at > call.now) {
            entry.expires_at = at;
        }
    });
    // It goes at once: DBSIZE does not count it.
    if at.is_some_and(|at| at != 0 && at <= call.now) {
        call.store.remove(call.database, key, call.now);
    }
}

pub fn append(call: &mut Call<'_>) {
    let (key, more) = (call.args.get(1), call.args.get(2));
    let appended = call.store.change(call.database, key, call.now, |entry| {
        let length = entry.value.as_string().map(<[u8]>::len);
        if length.is_some_and(|length| length + more.len() > MAX_STRING_BYTES) {
            return Err("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        }
        entry.value.append(more).ok_or(WRONG_TYPE)
    });
    match appended {
        Some(Ok(length)) => call.reply.integer(length as i64),
        Some(Err(error)) => call.reply.error(error),
        None => {
            call.store.insert(call.database, key, Value::string(more), 0);
            call.reply.integer(more.len() as i64);
        }
    }
}

pub fn strlen(call: &mut Call<'_>) {
    let entry = call.store.read(call.database, call.args.get(1), call.now);
    match entry.map(|entry| entry.value.as_string().map(<[u8]>::len)) {
        None => call.reply.integer(0),
        Some(Some(length)) => call.reply.integer(length as i64),
        Some(None) => call.reply.error(WRONG_TYPE),
    }
}

pub fn mget(call: &mut Call<'_>) {
    call.reply.array(call.args.len() - 1);
    for key in call.args.from(1) {
        match call.store.read(call.database, key, call.now) {
            Some(entry) if entry.value.tell(call.reply) => {}
            _ => call.reply.null(),
        }
    }
}

pub fn mset(call: &mut Call<'_>) {
    if call.args.len().is_multiple_of(2) {
        return call.reply.error("ERR wrong number of arguments for 'mset' command");
    }
    for at in (1..call.args.len()).step_by(2) {
        put(call.store, call.database, call.args.get(at), call.args.get(at + 1), call.now);
    }
    call.reply.ok();
}
