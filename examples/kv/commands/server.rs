//! Commands about the server: how it is set up, what it holds, which commands it knows.

use std::fmt::Write;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use tightloop::Conn;

use super::session::{Outcome, REDIS_VERSION, Session, help};
use super::{COMMANDS, Call, Command, Index, SYNTAX};
use crate::args::{Args, is};
use crate::bytes_flag;
use crate::glob::Pattern;
use crate::reply::Reply;
use crate::server::{Kv, Remote};
use crate::shard::parse::{Parts, sums};

pub fn dbsize(call: &mut Call<'_>) {
    call.reply.integer(call.store.database(call.database).len() as i64);
}

pub fn flushdb(call: &mut Call<'_>) {
    if !may_flush(call.args) {
        return call.reply.error(SYNTAX);
    }
    call.store.clear(call.database);
    call.reply.ok();
}

pub fn flushall(call: &mut Call<'_>) {
    if !may_flush(call.args) {
        return call.reply.error(SYNTAX);
    }
    call.store.clear_all();
    call.reply.ok();
}

/// Both ways to flush are the same here.
fn may_flush(args: Args<'_>) -> bool {
    args.len() == 1 || (args.len() == 2 && (args.is(1, "sync") || args.is(1, "async")))
}

// ---- INFO ---------------------------------------------------------------------------------------

/// A shard's part of INFO: numbers that are added up.
pub fn usage(call: &mut Call<'_>) {
    let databases = call.store.databases();
    call.reply.array(2 + 2 * databases.len());
    call.reply.integer(call.store.memory() as i64);
    call.reply.integer(call.store.expired as i64);
    for table in databases {
        call.reply.integer(table.len() as i64);
        call.reply.integer(table.expiring as i64);
    }
}

/// What the connection's loop knows for INFO.
pub struct Usage {
    sections: Vec<String>,
    uptime_seconds: u64,
    loops: usize,
    maxmemory: usize,
    clients: usize,
    connections: u64,
    commands: u64,
}

impl Kv {
    pub fn usage(&self, conn: &Conn<'_>, args: Args<'_>) -> Usage {
        let sections = args.from(1).map(|name| String::from_utf8_lossy(name).to_lowercase());
        Usage {
            sections: sections.collect(),
            uptime_seconds: self.shared.started.elapsed().as_secs(),
            loops: self.loops,
            maxmemory: self.shared.maxmemory.load(Ordering::Relaxed),
            clients: conn.server().connections(),
            connections: self.shared.connections(),
            commands: self.commands(),
        }
    }
}

/// Puts INFO together.
pub fn info(usage: Usage, parts: &Parts, reply: &mut Reply) {
    let sums = sums(parts);
    let (memory, expired) = (sums.first().copied().unwrap_or(0), sums.get(1).copied().unwrap_or(0));
    let mut sections: Vec<(&str, String)> = Vec::new();
    let (seconds, days) = (usage.uptime_seconds, usage.uptime_seconds / 86_400);
    let mut server = format!("redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\n");
    let _ = write!(server, "server_name:tightloop-kv\r\nos:{}\r\n", std::env::consts::OS);
    let _ = write!(server, "arch_bits:{}\r\nprocess_id:{}\r\n", usize::BITS, std::process::id());
    let _ = write!(server, "uptime_in_seconds:{seconds}\r\nuptime_in_days:{days}\r\n");
    let _ = write!(server, "event_loops:{}\r\n", usage.loops);
    sections.push(("Server", server));
    sections.push(("Clients", format!("connected_clients:{}\r\n", usage.clients)));
    let mut text = format!("used_memory:{memory}\r\nused_memory_human:{}\r\n", human(memory));
    if let Some(resident) = resident() {
        let _ = write!(text, "used_memory_rss:{resident}\r\n");
    }
    let most = usage.maxmemory;
    let _ = write!(text, "maxmemory:{most}\r\nmaxmemory_human:{}\r\n", human(most as i64));
    text.push_str("maxmemory_policy:noeviction\r\n");
    sections.push(("Memory", text));
    let mut stats = format!("total_connections_received:{}\r\n", usage.connections);
    let _ = write!(stats, "total_commands_processed:{}\r\n", usage.commands);
    let _ = write!(stats, "expired_keys:{expired}\r\nevicted_keys:0\r\n");
    sections.push(("Stats", stats));
    sections.push(("Replication", "role:master\r\nconnected_slaves:0\r\n".to_owned()));
    let mut keyspace = String::new();
    for (number, pair) in sums.get(2..).unwrap_or_default().chunks_exact(2).enumerate() {
        if pair[0] > 0 {
            let _ =
                write!(keyspace, "db{number}:keys={},expires={},avg_ttl=0\r\n", pair[0], pair[1]);
        }
    }
    sections.push(("Keyspace", keyspace));
    let wanted = &usage.sections;
    let all = wanted.is_empty()
        || wanted.iter().any(|n| matches!(&**n, "all" | "default" | "everything"));
    sections.retain(|(name, _)| all || wanted.contains(&name.to_lowercase()));
    let sections = sections.iter().map(|(name, lines)| format!("# {name}\r\n{lines}"));
    reply.verbatim(&sections.collect::<Vec<_>>().join("\r\n"));
}

fn human(bytes: i64) -> String {
    let units = [(1_i64 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.2}{name}", bytes as f64 / unit as f64),
        None => format!("{bytes}B"),
    }
}

/// Bytes of the process that are in memory, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

// ---- CONFIG -------------------------------------------------------------------------------------

/// Settings that cannot be changed, and a few that clients ask for.
const FIXED: [(&str, &str); 6] = [
    ("appendonly", "no"),
    ("maxmemory-policy", "noeviction"),
    ("proto-max-bulk-len", "536870912"),
    ("save", ""),
    ("timeout", "0"),
    ("io-threads", "1"),
];

pub fn config(session: &mut Session<'_, '_, '_>) -> Outcome {
    let args = session.args;
    match args.get(1) {
        name if is(name, "get") && args.len() >= 3 => config_get(session),
        name if is(name, "set") && args.len() >= 4 && args.len().is_multiple_of(2) => {
            config_set(session)
        }
        name if is(name, "resetstat") && args.len() == 2 => {
            let shared = &session.kv.shared;
            let connections = shared.last_client.load(Ordering::Relaxed);
            shared.connections_before.store(connections, Ordering::Relaxed);
            Outcome::Everywhere(Remote::ResetStatistics)
        }
        name if is(name, "rewrite") && args.len() == 2 => {
            session.error("ERR The server is running without a config file")
        }
        name if is(name, "help") => help(session, "CONFIG", &["get", "set", "resetstat"]),
        name if is(name, "get") => session.wrong_arity("config|get"),
        name if is(name, "set") => session.wrong_arity("config|set"),
        _ => session.unknown_subcommand("CONFIG"),
    }
}

fn config_get(session: &mut Session<'_, '_, '_>) -> Outcome {
    let shared = &session.kv.shared;
    let password = shared.password.read().unwrap_or_else(PoisonError::into_inner).clone();
    let mut settings: Vec<(&str, Vec<u8>)> = vec![
        ("databases", shared.databases.to_string().into_bytes()),
        ("maxmemory", shared.maxmemory.load(Ordering::Relaxed).to_string().into_bytes()),
        ("requirepass", password.unwrap_or_default()),
    ];
    settings.extend(FIXED.map(|(name, value)| (name, value.as_bytes().to_vec())));
    let patterns: Vec<_> = session.args.from(2).map(<[u8]>::to_ascii_lowercase).collect();
    let patterns: Vec<_> = patterns.iter().map(|pattern| Pattern::new(pattern)).collect();
    settings.retain(|(name, _)| patterns.iter().any(|p| p.matches(name.as_bytes())));
    session.reply().map(settings.len());
    for (name, value) in settings {
        session.reply().bulk(name.as_bytes());
        session.reply().bulk(&value);
    }
    Outcome::Done
}

fn config_set(session: &mut Session<'_, '_, '_>) -> Outcome {
    let args = session.args;
    let mut changes = Vec::new();
    for at in (2..args.len()).step_by(2) {
        let name = String::from_utf8_lossy(args.get(at)).to_lowercase();
        let failed = format!("ERR CONFIG SET failed (possibly related to argument '{name}')");
        match &*name {
            "maxmemory" => {
                match std::str::from_utf8(args.get(at + 1)).ok().map(bytes_flag::parse) {
                    Some(Ok(bytes)) => changes.push(Change::Maxmemory(bytes)),
                    _ => {
                        let error = format!("{failed} - argument must be a memory value");
                        return session.error(&error);
                    }
                }
            }
            "requirepass" => changes.push(Change::Password(args.get(at + 1).to_vec())),
            "databases" => return session.error(&format!("{failed} - can't set immutable config")),
            name if FIXED.iter().any(|(fixed, _)| *fixed == name) => {
                let same = FIXED
                    .iter()
                    .any(|fixed| *fixed == (name, &String::from_utf8_lossy(args.get(at + 1))));
                if !same {
                    return session.error(&format!("{failed} - can't set immutable config"));
                }
            }
            name => {
                let what = "Unknown option or number of arguments for CONFIG SET";
                return session.error(&format!("ERR {what} - '{name}'"));
            }
        }
    }
    let shared = &session.kv.shared;
    for change in changes {
        match change {
            Change::Maxmemory(bytes) => shared.maxmemory.store(bytes, Ordering::Relaxed),
            Change::Password(password) => {
                let mut place = shared.password.write().unwrap_or_else(PoisonError::into_inner);
                *place = (!password.is_empty()).then_some(password);
            }
        }
    }
    session.kv.begin(session.conn.now());
    session.reply().ok();
    Outcome::Done
}

enum Change {
    Maxmemory(usize),
    Password(Vec<u8>),
}

// ---- COMMAND ------------------------------------------------------------------------------------

pub fn command(session: &mut Session<'_, '_, '_>) -> Outcome {
    let args = session.args;
    let index = Index::new();
    let named = |name: &[u8]| index.find(name).map(|number| &COMMANDS[number]);
    match args.find(1) {
        None => {
            session.reply().array(COMMANDS.len());
            COMMANDS.iter().for_each(|command| tell_command(command, session.reply()));
        }
        Some(name) if is(name, "count") && args.len() == 2 => {
            session.reply().integer(COMMANDS.len() as i64);
        }
        Some(name) if is(name, "list") && args.len() == 2 => {
            session.reply().array(COMMANDS.len());
            COMMANDS.iter().for_each(|command| session.reply().bulk(command.name.as_bytes()));
        }
        Some(name) if is(name, "info") => {
            let all = args.len() == 2;
            session.reply().array(if all { COMMANDS.len() } else { args.len() - 2 });
            if all {
                COMMANDS.iter().for_each(|command| tell_command(command, session.reply()));
            }
            for name in args.from(2) {
                match named(name) {
                    Some(command) => tell_command(command, session.reply()),
                    None => session.reply().null_array(),
                }
            }
        }
        Some(name) if is(name, "docs") => {
            let commands: Vec<&Command> = match args.len() {
                2 => COMMANDS.iter().collect(),
                _ => args.from(2).filter_map(named).collect(),
            };
            session.reply().map(commands.len());
            commands.iter().for_each(|command| tell_docs(command, session.reply()));
        }
        Some(name) if is(name, "help") => {
            return help(session, "COMMAND", &["count", "docs", "info", "list"]);
        }
        Some(_) => return session.unknown_subcommand("COMMAND"),
    }
    Outcome::Done
}

fn tell_command(command: &Command, reply: &mut Reply) {
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(command.arity.into());
    let flags = command.flags.names();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.status(flag));
    let (first, last, step) = command.keys;
    for number in [first, last, step] {
        reply.integer(number.into());
    }
    reply.set(1);
    reply.status(&format!("@{}", command.group));
    // Tips, key specifications and subcommands: none.
    (0..3).for_each(|_| reply.array(0));
}

fn tell_docs(command: &Command, reply: &mut Reply) {
    reply.bulk(command.name.as_bytes());
    reply.map(3);
    let summary = format!("as in Redis; takes {} arguments", arguments(command.arity));
    let texts = [("summary", &*summary), ("since", "1.0.0"), ("group", command.group)];
    for (name, text) in texts {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
}

fn arguments(arity: i8) -> String {
    let others = arity.unsigned_abs() - 1;
    if arity < 0 { format!("at least {others}") } else { others.to_string() }
}
