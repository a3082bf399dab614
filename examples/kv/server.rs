//! The handler: commands out of the input, replies into the output, and time that passes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tightloop::{Action, CloseReason, Conn, Context, Handler, Input, LoopInfo};

use crate::args::Args;
use crate::client::Client;
use crate::commands::session::{Outcome, Session};
use crate::commands::{COMMANDS, Flags, GET, Index, Route, Run, SET, refusal};
use crate::pubsub::Channels;
use crate::reply::Reply;
use crate::resp::{Parsed, Parser};
use crate::run::{self, Desk};
use crate::shard::Batch;
use crate::shared::Shared;
use crate::store::Store;

/// Replies that are gathered before they are written though the callback goes on.
pub const GATHERED_BYTES: usize = 64 * 1024;

/// Pending output above which a client gets no more answers until it has taken some: the high
/// watermark in `main.rs`.
pub const HIGH_WATERMARK: usize = 1 << 20;

/// How often keys that have ended are looked for, and how soon again where there were many.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
const SWEEP_AGAIN: Duration = Duration::from_millis(2);

/// Entries that are looked at each time: less than a millisecond.
const SWEEP_ENTRIES: usize = 8192;

/// What every loop is asked for, with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    Publish,
    ClientList,
    ResetStatistics,
}

/// One loop's part of the server.
pub struct Kv {
    pub shared: Arc<Shared>,
    pub index: usize,
    pub loops: usize,
    pub store: Store,
    pub channels: Channels,
    /// Replies of the running callback.
    pub reply: Reply,
    /// Milliseconds of Unix time, as of this turn of the loop.
    pub now: u64,
    /// This shard's part of the memory; 0 is no limit.
    pub memory_limit: usize,
    /// What the running callback asks of each loop.
    pub outgoing: Vec<Batch>,
    parser: Parser,
    names: Index,
    clock: (Instant, u64),
    /// Those that `shared` has not been told.
    commands: u64,
}

/// Whether the next command may follow.
enum Next {
    Go,
    /// When some replies have come.
    Wait,
    Close,
}

impl Kv {
    pub fn new(shared: Arc<Shared>, info: LoopInfo) -> Self {
        Kv {
            index: info.index,
            loops: info.loop_count,
            store: Store::new(shared.databases, shared.seed.clone()),
            channels: Channels::default(),
            reply: Reply::default(),
            now: 0,
            memory_limit: 0,
            outgoing: (0..info.loop_count).map(|_| Batch::default()).collect(),
            parser: Parser::default(),
            names: Index::new(),
            clock: read_clock(),
            commands: 0,
            shared,
        }
    }

    /// The time of this turn, and the limits of the moment.
    #[inline]
    pub fn begin(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.clock.0);
        self.now = self.clock.1 + passed.as_millis() as u64;
        let limit = self.shared.maxmemory.load(Ordering::Relaxed);
        self.memory_limit = if limit == 0 { 0 } else { (limit / self.loops).max(1) };
    }

    /// Commands that were carried out: on this loop to the last, on the others until a moment ago.
    pub fn commands(&self) -> u64 {
        self.shared.commands.load(Ordering::Relaxed) + self.commands
    }

    /// Writes a reply that is made here: behind those that are waited for.
    pub fn tell(&mut self, client: &mut Client, write: impl FnOnce(&mut Reply)) {
        match &mut client.lane {
            None => write(&mut self.reply),
            Some(lane) => lane.ready(client.resp3, write),
        }
    }

    /// One command.
    #[inline]
    fn command(&mut self, conn: &mut Conn<'_>, client: &mut Client, args: Args<'_>) -> Next {
        let number = match self.names.find(args.get(0)) {
            Some(number) if COMMANDS[number].takes(args.len()) => number,
            found => return self.refuse(client, found, args),
        };
        let command = &COMMANDS[number];
        if !client.authenticated && !command.flags.has(Flags::NO_AUTH) {
            self.tell(client, |to| to.error("NOAUTH Authentication required."));
            return Next::Go;
        }
        if client.subscriptions > 0 && client.is_listener() && !command.flags.has(Flags::SUBSCRIBED)
        {
            let allowed =
                "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed";
            let error = format!("ERR Can't execute '{}': {allowed} in this context", command.name);
            self.tell(client, |to| to.error(&error));
            return Next::Go;
        }
        if client.lane.is_some() && matches!(command.run, Run::Session(_)) {
            return Next::Wait;
        }
        client.last_command = number as u8;
        self.commands += 1;
        match command.run {
            Run::Data(_, Route::Info) if self.loops == 1 && client.lane.is_none() => {
                self.finish_alone(conn, number, args, client);
                Next::Go
            }
            Run::Data(run, _) if self.loops == 1 && client.lane.is_none() => {
                if self.memory_limit != 0 {
                    let mut reply = std::mem::take(&mut self.reply);
                    self.run_data(number, client.database as usize, args, &mut reply);
                    self.reply = reply;
                    return Next::Go;
                }
                let Kv { store, reply, now, .. } = self;
                let database = client.database as usize;
                run(&mut crate::commands::Call {
                    args,
                    database,
                    now: *now,
                    store,
                    reply,
                    shard: (0, 1),
                });
                Next::Go
            }
            Run::Data(_, route) => {
                self.route(conn, client, number, route, args);
                Next::Go
            }
            Run::Everywhere(remote) => self.ask_everywhere(conn, client, remote, args),
            Run::Session(run) => match run(&mut Session { kv: self, conn, client, args }) {
                Outcome::Done => Next::Go,
                Outcome::Everywhere(remote) => self.ask_everywhere(conn, client, remote, args),
                Outcome::Close => Next::Close,
            },
        }
    }

    fn ask_everywhere(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        remote: Remote,
        args: Args<'_>,
    ) -> Next {
        if remote == Remote::Publish && self.loops == 1 && client.lane.is_none() {
            let own = Some((conn.id(), &mut self.reply));
            let count = self.channels.publish(conn, own, args.get(1), args.get(2));
            self.reply.integer(count as i64);
        } else {
            self.everywhere(client, remote, args);
        }
        Next::Go
    }

    /// A command that there is not, or with the wrong number of arguments.
    #[cold]
    fn refuse(&mut self, client: &mut Client, found: Option<usize>, args: Args<'_>) -> Next {
        let error = match found.map(|number| &COMMANDS[number]) {
            Some(command) => command.wrong_arity().into_bytes(),
            None => refusal::unknown(args),
        };
        self.tell(client, |to| to.error(error));
        Next::Go
    }

    /// The commands in the input, as far as they are whole and may be carried out; answers how
    /// many bytes they were, and whether more may follow.
    #[inline]
    fn carry_out(
        &mut self,
        parser: &mut Parser,
        conn: &mut Conn<'_>,
        client: &mut Client,
        bytes: &[u8],
    ) -> (usize, Next) {
        let mut at = 0;
        let mut may_be_quick = self.may_be_quick(client);
        while at < bytes.len() {
            let here = &bytes[at..];
            if may_be_quick && let Some(length) = self.run_quick(client, here) {
                at += length;
                if self.must_rest(conn) {
                    return (at, Next::Go);
                }
                continue;
            }
            let parsed = parser.parse(here, &mut client.partial, !client.authenticated);
            let (length, args) = match &parsed {
                Parsed::Command(length) => (*length, Args::new(here, &parser.spans)),
                Parsed::Line(length) => (*length, Args::new(&parser.line, &parser.spans)),
                Parsed::Incomplete => return (at, Next::Go),
                Parsed::Broken(_) if client.lane.is_some() => return (at, Next::Wait),
                Parsed::Broken(error) => {
                    self.reply.error(error);
                    return (bytes.len(), Next::Close);
                }
            };
            if args.len() > 0 {
                match self.command(conn, client, args) {
                    Next::Go => {}
                    Next::Wait => return (at, Next::Wait),
                    Next::Close => return (at + length, Next::Close),
                }
            }
            at += length;
            may_be_quick = self.may_be_quick(client);
            if let Some(lane) = &client.lane {
                if lane.is_full() {
                    return (at, Next::Wait);
                }
                if self.must_send() && !self.send_batches(conn.id()) {
                    return (at, Next::Close);
                }
            }
            if self.must_rest(conn) {
                return (at, Next::Go);
            }
        }
        (at, Next::Go)
    }

    /// Whether GET and SET need no look at anything but the table.
    fn may_be_quick(&self, client: &Client) -> bool {
        let is_alone = self.loops == 1 && self.memory_limit == 0;
        is_alone && client.has_free_hand()
    }

    /// Carries out the GETs and SETs at the beginning of the input; answers how many bytes they
    /// were.
    #[inline]
    fn run_quick(&mut self, client: &mut Client, input: &[u8]) -> Option<usize> {
        let Kv { store, reply, now, .. } = self;
        let database = client.database as usize;
        let mut desk = Desk { store, reply, database, now: *now };
        let done = run::carry_out(&mut desk, input, GATHERED_BYTES)?;
        self.commands += done.commands;
        client.last_command = if done.is_set { SET } else { GET };
        Some(done.bytes)
    }

    /// Writes the replies where they are many; answers whether the client has to take some before
    /// it gets more.
    #[inline]
    fn must_rest(&mut self, conn: &mut Conn<'_>) -> bool {
        if self.reply.len() <= GATHERED_BYTES {
            return false;
        }
        self.reply.write_to(conn);
        conn.pending() > HIGH_WATERMARK
    }

    /// What another loop, or a connection of this one, asks of all.
    pub fn serve_remote(
        &mut self,
        cx: &mut Context<'_, Kv>,
        remote: Remote,
        args: Args<'_>,
        reply: &mut Reply,
    ) {
        match remote {
            Remote::Publish => {
                let count = self.channels.publish(cx, None, args.get(1), args.get(2));
                reply.integer(count as i64);
            }
            Remote::ClientList => {
                let mut text = String::new();
                let seconds = self.shared.started.elapsed().as_secs();
                cx.for_each(|conn, client| {
                    text.push_str(&crate::commands::session::describe(conn, client, seconds));
                });
                reply.bulk(text.as_bytes());
            }
            Remote::ResetStatistics => {
                // By each of them: until then a loop may have told its commands of before.
                self.shared.commands.store(0, Ordering::Relaxed);
                (self.commands, self.store.expired) = (0, 0);
                reply.ok();
            }
        }
    }
}

/// An instant and its Unix time in milliseconds.
fn read_clock() -> (Instant, u64) {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Instant::now(), unix.as_millis() as u64)
}

impl Handler for Kv {
    type State = Client;

    fn on_open(&mut self, _conn: &mut Conn<'_>) -> Client {
        let id = self.shared.last_client.fetch_add(1, Ordering::Relaxed) + 1;
        let seconds = self.shared.started.elapsed().as_secs() as u32;
        Client::new(id, seconds, self.shared.admits(None))
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        input: &mut Input<'_>,
    ) -> Action {
        if client.lane.as_ref().is_some_and(|lane| lane.paused) {
            return Action::Continue;
        }
        self.begin(conn.now());
        self.reply.resp3 = client.resp3;
        let mut parser = std::mem::take(&mut self.parser);
        let (consumed, next) = self.carry_out(&mut parser, conn, client, input.as_slice());
        self.parser = parser;
        input.consume(consumed);
        client.unread = input.len() as u32; // at most MAX_COMMAND_BYTES
        if !self.reply.is_empty() {
            self.reply.write_to(conn);
        }
        let sent = client.lane.is_none() || self.send_batches(conn.id());
        match next {
            Next::Go if sent => Action::Continue,
            Next::Wait if sent => {
                client.lane_mut().paused = true;
                conn.pause_reading();
                Action::Continue
            }
            _ => Action::Close,
        }
    }

    fn on_eof(&mut self, _conn: &mut Conn<'_>, client: &mut Client) -> Action {
        client.closing = client.lane.is_some();
        if client.closing { Action::Continue } else { Action::Close }
    }

    fn on_tick(&mut self, _cx: &mut Context<'_, Self>) -> Option<Duration> {
        // Read again, as somebody may have set the clock.
        self.clock = read_clock();
        self.begin(self.clock.0);
        self.shared.commands.fetch_add(std::mem::take(&mut self.commands), Ordering::Relaxed);
        let again = self.store.sweep(self.now, SWEEP_ENTRIES);
        Some(if again { SWEEP_AGAIN } else { SWEEP_EVERY })
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, mut client: Client, _reason: CloseReason) {
        if client.subscriptions > 0 {
            self.channels.unsubscribe_all(&mut client, conn.id());
        }
    }
}
