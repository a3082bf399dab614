//! The commands: their table, how a name is looked up, and what a command on data is lent.

mod collections;
mod expiry;
pub mod keys;
mod lists;
mod numbers;
pub mod refusal;
mod server;
pub mod session;
pub mod strings;
mod table;

use crate::args::Args;
use crate::reply::Reply;
use crate::server::Remote;
use crate::store::Store;

pub use server::{Usage, info};
pub use table::{COMMANDS, GET, Index, SET};

pub const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub const SYNTAX: &str = "ERR syntax error";
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// What a command on data works with. It runs on the loop that has the key.
pub struct Call<'a> {
    pub args: Args<'a>,
    pub database: usize,
    /// Milliseconds of Unix time.
    pub now: u64,
    pub store: &'a mut Store,
    pub reply: &'a mut Reply,
    /// Which of the loops this is, of how many.
    pub shard: (usize, usize),
}

/// Who carries a command out.
#[derive(Clone, Copy)]
pub enum Run {
    /// The shard that has the data.
    Data(fn(&mut Call<'_>), Route),
    /// The connection's loop, when all that was asked before is answered.
    Session(fn(&mut session::Session<'_, '_, '_>) -> session::Outcome),
    /// Every loop, with its connections.
    Everywhere(Remote),
}

/// Which shards a command on data goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// That of the key, the first argument.
    Key,
    /// Those of the keys, all arguments; the numbers that come back are added up.
    Sum,
    /// Those of the keys, all arguments; what comes back is put in their order.
    InOrder,
    /// Those of the keys, every other argument; a failure is told, if there was one.
    Pairs,
    /// All; the numbers are added up.
    AllSum,
    /// All; a failure is told, if there was one.
    AllOk,
    /// All; the lists are put together.
    AllList,
    /// All; what they tell is put together by [`info`].
    Info,
    /// The one that the cursor tells.
    Cursor,
}

/// What everybody may know about a command.
pub struct Command {
    /// In lower case.
    pub name: &'static str,
    /// Arguments with the name; if negative, at least so many.
    pub arity: i8,
    pub run: Run,
    pub flags: Flags,
    /// First key, last key and the step between them; zeros without keys.
    pub keys: (i8, i8, i8),
    pub group: &'static str,
}

/// What a command does, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    pub const READ: Flags = Flags(1);
    pub const WRITE: Flags = Flags(2);
    /// Refused when the memory is used up.
    pub const DENY_OOM: Flags = Flags(4);
    pub const FAST: Flags = Flags(8);
    /// For those who have not told the password yet.
    pub const NO_AUTH: Flags = Flags(16);
    /// For RESP2 clients that have subscribed.
    pub const SUBSCRIBED: Flags = Flags(32);
    pub const ADMIN: Flags = Flags(64);
    /// The reply may be long, and the same again however often it is asked for: another loop's is
    /// waited for. No flag of Redis, and not told.
    pub const LONG: Flags = Flags(128);

    pub const fn with(self, more: Flags) -> Flags {
        Flags(self.0 | more.0)
    }

    #[inline]
    pub fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    /// The names that COMMAND INFO tells.
    pub fn names(self) -> Vec<&'static str> {
        let names = ["readonly", "write", "denyoom", "fast", "no_auth", "pubsub", "admin"];
        (0..7).filter(|bit| self.0 & (1 << bit) != 0).map(|bit| names[bit]).collect()
    }
}

impl Command {
    #[inline]
    pub fn takes(&self, arguments: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { arguments >= arity } else { arguments == arity }
    }

    pub fn wrong_arity(&self) -> String {
        format!("ERR wrong number of arguments for '{}' command", self.name)
    }
}
