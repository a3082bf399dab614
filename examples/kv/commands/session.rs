//! Commands about the connection itself: who it is, what it speaks, what it listens to.

use std::fmt::Write;

use tightloop::Conn;

use super::{COMMANDS, NOT_AN_INTEGER, SYNTAX};
use crate::args::{Args, integer, is};
use crate::client::Client;
use crate::reply::Reply;
use crate::server::{Kv, Remote};

/// What a command on the connection works with.
pub struct Session<'s, 'c, 'a> {
    pub kv: &'s mut Kv,
    pub conn: &'s mut Conn<'c>,
    pub client: &'s mut Client,
    pub args: Args<'a>,
}

/// What follows it.
pub enum Outcome {
    Done,
    /// The reply comes from all loops.
    Everywhere(Remote),
    Close,
}

/// The version of Redis whose behaviour this server follows; some clients ask before they trust.
pub const REDIS_VERSION: &str = "7.0.15";

const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the \
    default user. Are you sure your configuration is correct?";
const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

impl Session<'_, '_, '_> {
    pub fn reply(&mut self) -> &mut Reply {
        &mut self.kv.reply
    }

    fn ok(&mut self) -> Outcome {
        self.reply().ok();
        Outcome::Done
    }

    pub fn error(&mut self, text: &str) -> Outcome {
        self.reply().error(text);
        Outcome::Done
    }

    pub fn wrong_arity(&mut self, name: &str) -> Outcome {
        self.error(&format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// For a subcommand that there is not.
    pub fn unknown_subcommand(&mut self, parent: &str) -> Outcome {
        let name = self.args.get(1);
        let name = String::from_utf8_lossy(&name[..name.len().min(128)]).into_owned();
        self.error(&format!("ERR unknown subcommand '{name}'. Try {parent} HELP."))
    }

    /// Takes a password; the error if it is wrong.
    fn log_in(&mut self, user: &[u8], password: &[u8]) -> Result<(), &'static str> {
        if user != b"default" || !self.kv.shared.admits(Some(password)) {
            return Err(WRONG_PASSWORD);
        }
        self.client.authenticated = true;
        Ok(())
    }

    fn speak(&mut self, resp3: bool) {
        self.client.resp3 = resp3;
        self.kv.reply.resp3 = resp3;
        self.kv.channels.protocol_changed(self.client, self.conn.id());
    }

    /// The version, name and password that HELLO tells.
    fn read_hello(&mut self) -> Result<(), String> {
        let args = self.args;
        let mut resp3 = self.client.resp3;
        if let Some(version) = args.find(1) {
            resp3 = match integer(version) {
                Some(2) => false,
                Some(3) => true,
                Some(_) => return Err("NOPROTO unsupported protocol version".into()),
                None => return Err("ERR Protocol version is not an integer or out of range".into()),
            };
        }
        let (mut at, mut name, mut login) = (2, None, None);
        while at < args.len() {
            let left = args.len() - at - 1;
            match args.get(at) {
                option if is(option, "auth") && left >= 2 => {
                    login = Some((args.get(at + 1), args.get(at + 2)));
                    at += 3;
                }
                option if is(option, "setname") && left >= 1 => {
                    name = Some(args.get(at + 1));
                    check_name(args.get(at + 1))?;
                    at += 2;
                }
                option => {
                    let option = String::from_utf8_lossy(option);
                    return Err(format!("ERR Syntax error in HELLO option '{option}'"));
                }
            }
        }
        if let Some((user, password)) = login {
            self.log_in(user, password)?;
        }
        if !self.client.authenticated {
            return Err("NOAUTH HELLO must be called with the client already authenticated, \
                otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate \
                the client and select the RESP protocol version at the same time"
                .into());
        }
        if let Some(name) = name {
            self.client.details_mut().name = name.to_vec();
        }
        self.speak(resp3);
        Ok(())
    }
}

/// Names are shown in lists: they may not break them.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    match name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        true => Ok(()),
        false => Err("ERR Client names cannot contain spaces, newlines or special characters."),
    }
}

pub fn ping(session: &mut Session<'_, '_, '_>) -> Outcome {
    if session.args.len() > 2 {
        return session.wrong_arity("ping");
    }
    let (message, is_listener) = (session.args.find(1), session.client.is_listener());
    let reply = session.reply();
    if is_listener {
        reply.array(2);
        reply.bulk(b"pong");
        reply.bulk(message.unwrap_or_default());
    } else if let Some(message) = message {
        reply.bulk(message);
    } else {
        reply.raw(b"+PONG\r\n");
    }
    Outcome::Done
}

pub fn echo(session: &mut Session<'_, '_, '_>) -> Outcome {
    let message = session.args.get(1);
    session.reply().bulk(message);
    Outcome::Done
}

pub fn quit(session: &mut Session<'_, '_, '_>) -> Outcome {
    session.reply().ok();
    Outcome::Close
}

/// As if it had just come.
pub fn reset(session: &mut Session<'_, '_, '_>) -> Outcome {
    session.kv.channels.unsubscribe_all(session.client, session.conn.id());
    session.speak(false);
    session.client.database = 0;
    session.client.authenticated = session.kv.shared.admits(None);
    session.client.details = None;
    session.reply().status("RESET");
    Outcome::Done
}

pub fn hello(session: &mut Session<'_, '_, '_>) -> Outcome {
    if let Err(error) = session.read_hello() {
        return session.error(&error);
    }
    let (id, resp3) = (session.client.id, session.client.resp3);
    let reply = session.reply();
    reply.map(7);
    let texts = [("server", "redis"), ("version", REDIS_VERSION)];
    for (key, value) in texts {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(id as i64);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Outcome::Done
}

pub fn auth(session: &mut Session<'_, '_, '_>) -> Outcome {
    let args = session.args;
    let (user, password) = match args.len() {
        2 if session.kv.shared.admits(None) => return session.error(NO_PASSWORD),
        2 => (&b"default"[..], args.get(1)),
        3 => (args.get(1), args.get(2)),
        _ => return session.error(SYNTAX),
    };
    match session.log_in(user, password) {
        Ok(()) => session.ok(),
        Err(error) => session.error(error),
    }
}

pub fn select(session: &mut Session<'_, '_, '_>) -> Outcome {
    match integer(session.args.get(1)) {
        None => session.error(NOT_AN_INTEGER),
        Some(number) => match u32::try_from(number) {
            Ok(number) if (number as usize) < session.kv.shared.databases => {
                session.client.database = number;
                session.ok()
            }
            _ => session.error("ERR DB index is out of range"),
        },
    }
}

// ---- CLIENT -------------------------------------------------------------------------------------

/// The subcommands of CLIENT, and how many arguments they take, both names included.
const CLIENT: [(&str, i8); 10] = [
    ("id", 2),
    ("setname", 3),
    ("getname", 2),
    ("setinfo", 4),
    ("list", -2),
    ("info", 2),
    ("no-evict", 3),
    ("no-touch", 3),
    ("reply", 3),
    ("help", 2),
];

pub fn client(session: &mut Session<'_, '_, '_>) -> Outcome {
    let args = session.args;
    let Some(&(name, arity)) = CLIENT.iter().find(|(name, _)| args.is(1, name)) else {
        return session.unknown_subcommand("CLIENT");
    };
    let least = usize::from(arity.unsigned_abs());
    if args.len() < least || (arity > 0 && args.len() > least) {
        return session.wrong_arity(&format!("client|{name}"));
    }
    match name {
        "id" => {
            let id = session.client.id;
            session.reply().integer(id as i64);
            Outcome::Done
        }
        "setname" => match check_name(args.get(2)) {
            Ok(()) => {
                session.client.details_mut().name = args.get(2).to_vec();
                session.ok()
            }
            Err(error) => session.error(error),
        },
        "getname" => {
            match session.client.details.as_ref().filter(|details| !details.name.is_empty()) {
                Some(details) => session.kv.reply.bulk(&details.name),
                None => session.kv.reply.null(),
            }
            Outcome::Done
        }
        "setinfo" => set_info(session),
        "list" if args.len() == 2 || (args.len() == 4 && args.is(2, "type")) => {
            let normal = args.len() == 2 || args.is(3, "normal");
            if normal { Outcome::Everywhere(Remote::ClientList) } else { session.error(SYNTAX) }
        }
        "info" => {
            let seconds = session.kv.shared.started.elapsed().as_secs();
            let line = describe(session.conn, session.client, seconds);
            session.reply().verbatim(&line);
            Outcome::Done
        }
        // There is no eviction; and no touching, as nothing is sorted by its use.
        "no-evict" | "no-touch" if args.is(2, "on") || args.is(2, "off") => session.ok(),
        "reply" if args.is(2, "on") => session.ok(),
        "help" => help(session, "CLIENT", &CLIENT.map(|(name, _)| name)),
        _ => session.error(SYNTAX),
    }
}

pub fn help(session: &mut Session<'_, '_, '_>, parent: &str, names: &[&str]) -> Outcome {
    let reply = session.reply();
    reply.array(names.len() + 1);
    reply.status(&format!("{parent} <subcommand> [<arg> [value] ...]. Subcommands are:"));
    names.iter().for_each(|name| reply.status(&name.to_uppercase()));
    Outcome::Done
}

fn set_info(session: &mut Session<'_, '_, '_>) -> Outcome {
    let (args, value) = (session.args, session.args.get(3));
    if check_name(value).is_err() {
        return session.error(
            "ERR lib-name and lib-ver cannot contain spaces, newlines or special characters.",
        );
    }
    let details = session.client.details_mut();
    match args.get(2) {
        name if is(name, "lib-name") => details.library = value.to_vec(),
        name if is(name, "lib-ver") => details.library_version = value.to_vec(),
        name => {
            let name = String::from_utf8_lossy(name);
            return session.error(&format!("ERR Unrecognized option '{name}'"));
        }
    }
    session.ok()
}

/// The line of CLIENT LIST.
pub fn describe(conn: &Conn<'_>, client: &Client, seconds: u64) -> String {
    let text = |bytes: Option<&Vec<u8>>| {
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    };
    let details = client.details.as_deref();
    let local = conn.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let mut line = format!("id={} addr={} laddr={local} fd=-1", client.id, conn.peer_addr());
    let name = text(details.map(|details| &details.name));
    let age = seconds.saturating_sub(u64::from(client.opened_at));
    let idle = conn.idle_for().as_secs();
    let flags = if client.subscriptions > 0 { 'P' } else { 'N' };
    let last = COMMANDS.get(usize::from(client.last_command)).map_or("NULL", |last| last.name);
    let partial = client.partial.as_ref().map_or(0, |partial| partial.memory());
    let unread = client.unread as usize;
    let memory = size_of::<Client>() + partial + unread + conn.pending();
    let library = text(details.map(|details| &details.library));
    let version = text(details.map(|details| &details.library_version));
    let (database, listens) = (client.database, client.subscriptions);
    let (pending, resp) = (conn.pending(), if client.resp3 { 3 } else { 2 });
    // All that Redis tells, as clients look for it; writing to a string does not fail.
    let _ = writeln!(
        line,
        " name={name} age={age} idle={idle} flags={flags} db={database} sub={listens} psub=0 ssub=0 \
         multi=-1 qbuf={unread} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={pending} oll=0 \
         omem=0 tot-mem={memory} events=r cmd={last} user=default redir=-1 resp={resp} \
         lib-name={library} lib-ver={version}",
    );
    line
}

// ---- channels -----------------------------------------------------------------------------------

pub fn subscribe(session: &mut Session<'_, '_, '_>) -> Outcome {
    let id = session.conn.id();
    for channel in session.args.from(1) {
        session.kv.channels.subscribe(session.client, id, channel);
        tell_subscription(session, b"subscribe", Some(channel));
    }
    Outcome::Done
}

pub fn unsubscribe(session: &mut Session<'_, '_, '_>) -> Outcome {
    let id = session.conn.id();
    for channel in session.args.from(1) {
        session.kv.channels.unsubscribe(session.client, id, channel);
        tell_subscription(session, b"unsubscribe", Some(channel));
    }
    if session.args.len() == 1 {
        let channels = session.client.details.iter().flat_map(|details| &details.channels);
        let channels: Vec<_> = channels.cloned().collect();
        for channel in &channels {
            session.kv.channels.unsubscribe(session.client, id, channel);
            tell_subscription(session, b"unsubscribe", Some(channel));
        }
        if channels.is_empty() {
            tell_subscription(session, b"unsubscribe", None);
        }
    }
    Outcome::Done
}

fn tell_subscription(session: &mut Session<'_, '_, '_>, what: &[u8], channel: Option<&[u8]>) {
    let count = session.client.subscriptions;
    let reply = session.reply();
    reply.push(3);
    reply.bulk(what);
    match channel {
        Some(channel) => reply.bulk(channel),
        None => reply.null(),
    }
    reply.integer(i64::from(count));
}
