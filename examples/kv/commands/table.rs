//! All commands, one a line, and the index by which a name is found without a comparison too many.

use super::{Command, Flags, Route, Run};
use super::{collections, expiry, keys, lists, numbers, server, session, strings};
use crate::server::Remote;

const READ: Flags = Flags::READ;
const FAST_READ: Flags = Flags::READ.with(Flags::FAST);
const LONG_READ: Flags = READ.with(Flags::LONG);
const FAST_LONG_READ: Flags = FAST_READ.with(Flags::LONG);
const WRITE: Flags = Flags::WRITE;
const FAST_WRITE: Flags = Flags::WRITE.with(Flags::FAST);
const GROW: Flags = Flags::WRITE.with(Flags::DENY_OOM);
const FAST_GROW: Flags = GROW.with(Flags::FAST);
const ADMIN: Flags = Flags::ADMIN;
const HELLO: Flags = Flags::NO_AUTH.with(Flags::FAST);
const PUBSUB: Flags = Flags::SUBSCRIBED;
const NONE: (i8, i8, i8) = (0, 0, 0);
const ONE: (i8, i8, i8) = (1, 1, 1);
const MANY: (i8, i8, i8) = (1, -1, 1);

type DataFn = fn(&mut super::Call<'_>);
type SessionFn = fn(&mut session::Session<'_, '_, '_>) -> session::Outcome;

const fn key(
    name: &'static str,
    arity: i8,
    run: DataFn,
    flags: Flags,
    group: &'static str,
) -> Command {
    Command { name, arity, run: Run::Data(run, Route::Key), flags, keys: ONE, group }
}

const fn data(
    name: &'static str,
    arity: i8,
    run: DataFn,
    flags: Flags,
    (route, keys): (Route, (i8, i8, i8)),
    group: &'static str,
) -> Command {
    Command { name, arity, run: Run::Data(run, route), flags, keys, group }
}

const fn session(name: &'static str, arity: i8, run: SessionFn, flags: Flags) -> Command {
    Command { name, arity, run: Run::Session(run), flags, keys: NONE, group: "connection" }
}

/// The places of the two most frequent ones.
pub const GET: u8 = 0;
pub const SET: u8 = 1;

/// All of them. The most frequent ones stand first: they are found first.
#[rustfmt::skip] // a table
pub static COMMANDS: &[Command] = &[
    key("get", 2, strings::get, FAST_READ, "string"),
    key("set", -3, strings::set, GROW, "string"),
    key("incr", 2, numbers::incr, FAST_GROW, "string"),
    key("decr", 2, numbers::decr, FAST_GROW, "string"),
    key("incrby", 3, numbers::incrby, FAST_GROW, "string"),
    key("decrby", 3, numbers::decrby, FAST_GROW, "string"),
    key("getdel", 2, strings::getdel, FAST_WRITE, "string"),
    key("getex", -2, strings::getex, FAST_WRITE, "string"),
    key("setnx", 3, strings::setnx, FAST_GROW, "string"),
    key("setex", 4, strings::setex, GROW, "string"),
    key("psetex", 4, strings::psetex, GROW, "string"),
    key("append", 3, strings::append, FAST_GROW, "string"),
    key("strlen", 2, strings::strlen, FAST_READ, "string"),
    data("mget", -2, strings::mget, FAST_LONG_READ, (Route::InOrder, MANY), "string"),
    data("mset", -3, strings::mset, GROW, (Route::Pairs, (1, -1, 2)), "string"),
    data("del", -2, keys::del, WRITE, (Route::Sum, MANY), "generic"),
    data("unlink", -2, keys::del, FAST_WRITE, (Route::Sum, MANY), "generic"),
    data("exists", -2, keys::exists, FAST_READ, (Route::Sum, MANY), "generic"),
    key("type", 2, keys::kind, FAST_READ, "generic"),
    data("keys", 2, keys::keys, LONG_READ, (Route::AllList, NONE), "generic"),
    data("scan", -2, keys::scan, LONG_READ, (Route::Cursor, NONE), "generic"),
    key("expire", -3, expiry::expire, FAST_WRITE, "generic"),
    key("pexpire", -3, expiry::pexpire, FAST_WRITE, "generic"),
    key("expireat", -3, expiry::expireat, FAST_WRITE, "generic"),
    key("pexpireat", -3, expiry::pexpireat, FAST_WRITE, "generic"),
    key("ttl", 2, expiry::ttl, FAST_READ, "generic"),
    key("pttl", 2, expiry::pttl, FAST_READ, "generic"),
    key("persist", 2, expiry::persist, FAST_WRITE, "generic"),
    key("hset", -4, collections::hset, FAST_GROW, "hash"),
    key("hget", 3, collections::hget, FAST_LONG_READ, "hash"),
    key("hdel", -3, collections::hdel, FAST_WRITE, "hash"),
    key("hgetall", 2, collections::hgetall, LONG_READ, "hash"),
    key("hlen", 2, collections::hlen, FAST_READ, "hash"),
    key("hexists", 3, collections::hexists, FAST_READ, "hash"),
    key("sadd", -3, collections::sadd, FAST_GROW, "set"),
    key("srem", -3, collections::srem, FAST_WRITE, "set"),
    key("smembers", 2, collections::smembers, LONG_READ, "set"),
    key("sismember", 3, collections::sismember, FAST_READ, "set"),
    key("scard", 2, collections::scard, FAST_READ, "set"),
    key("lpush", -3, lists::lpush, FAST_GROW, "list"),
    key("rpush", -3, lists::rpush, FAST_GROW, "list"),
    key("lpop", -2, lists::lpop, FAST_WRITE, "list"),
    key("rpop", -2, lists::rpop, FAST_WRITE, "list"),
    key("lrange", 4, lists::lrange, LONG_READ, "list"),
    key("llen", 2, lists::llen, FAST_READ, "list"),
    data("dbsize", 1, server::dbsize, FAST_READ, (Route::AllSum, NONE), "server"),
    data("flushdb", -1, server::flushdb, WRITE, (Route::AllOk, NONE), "server"),
    data("flushall", -1, server::flushall, WRITE, (Route::AllOk, NONE), "server"),
    data("info", -1, server::usage, READ, (Route::Info, NONE), "server"),
    session("ping", -1, session::ping, PUBSUB.with(Flags::FAST)),
    session("echo", 2, session::echo, Flags::FAST),
    session("hello", -1, session::hello, HELLO),
    session("auth", -2, session::auth, HELLO),
    session("select", 2, session::select, Flags::FAST),
    session("quit", -1, session::quit, HELLO.with(PUBSUB)),
    session("reset", 1, session::reset, HELLO.with(PUBSUB)),
    session("client", -2, session::client, Flags(0)),
    session("command", -1, server::command, Flags(0)),
    session("config", -2, server::config, ADMIN),
    session("subscribe", -2, session::subscribe, PUBSUB),
    session("unsubscribe", -1, session::unsubscribe, PUBSUB),
    Command { name: "publish", arity: 3, run: Run::Everywhere(Remote::Publish), flags: Flags::FAST, keys: NONE, group: "pubsub" },
];

/// Longest name that is looked up; there is none longer.
const MAX_NAME_BYTES: usize = 16;

/// Twice as many places as commands, or more.
const PLACES: usize = 256;

/// Finds commands by name, in whatever case.
pub struct Index {
    names: [u128; PLACES],
    commands: [u8; PLACES],
}

impl Index {
    pub fn new() -> Self {
        let mut index = Index { names: [0; PLACES], commands: [0; PLACES] };
        for (number, command) in COMMANDS.iter().enumerate() {
            let name = word(command.name.as_bytes()).unwrap_or_default();
            let mut place = place_of(name);
            while index.names[place] != 0 {
                place = (place + 1) % PLACES;
            }
            index.names[place] = name;
            index.commands[place] = number as u8;
        }
        index
    }

    /// The number of the command in [`COMMANDS`].
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let name = word(name)?;
        let mut place = place_of(name);
        loop {
            match self.names[place] {
                found if found == name => return Some(usize::from(self.commands[place])),
                // There are more places than names.
                0 => return None,
                _ => place = (place + 1) % PLACES,
            }
        }
    }
}

/// A name as a number, its letters in lower case. What is no letter is changed too, but into
/// nothing that a name has: those are letters only.
#[inline]
fn word(name: &[u8]) -> Option<u128> {
    const LOWER_CASE: u128 = u128::from_le_bytes([0x20; 16]);
    if let Ok(&[a, b, c]) = <&[u8; 3]>::try_from(name) {
        let letters = u32::from_le_bytes([a, b, c, 0]) | 0x0020_2020;
        return Some(u128::from(letters));
    }
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return None;
    }
    let mut bytes = [0; MAX_NAME_BYTES];
    bytes[..name.len()].copy_from_slice(name);
    let unused = 8 * (MAX_NAME_BYTES - name.len());
    Some(u128::from_le_bytes(bytes) | LOWER_CASE >> unused)
}

#[inline]
fn place_of(name: u128) -> usize {
    let folded = (name as u64) ^ ((name >> 64) as u64).rotate_left(29);
    (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_whatever_case_and_nothing_else() {
        let index = Index::new();
        assert_eq!((index.find(b"get"), index.find(b"set")), (Some(GET.into()), Some(SET.into())));
        for (number, command) in COMMANDS.iter().enumerate() {
            assert!(command.name.bytes().all(|byte| byte.is_ascii_lowercase()));
            assert_eq!(index.find(command.name.as_bytes()), Some(number));
            assert_eq!(index.find(command.name.to_uppercase().as_bytes()), Some(number));
        }
        for name in ["", "g", "gett", "ge", "GE\x14", "unsubscribeunsubscribe", "get\0", "\0\0\0"] {
            assert_eq!(index.find(name.as_bytes()), None, "{name:?}");
        }
    }
}
