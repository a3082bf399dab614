//! Several loops: each has the keys whose hash says so. A command travels to the loop that has its
//! key, all that a callback has for a loop in one closure, and so do the replies on the way back.
//!
//! ```text
//!  on_traffic --> Batch --execute--> serve, on the keys' loop
//!                                      |
//!  lane <-- answered <-----execute-- replies
//! ```
//!
//! Closures of one loop to another keep their order. So what a client asks is done in its order on
//! each shard, and a client alone sees no difference to one loop. What others see of a command with
//! keys on several shards is not done at one moment.

pub mod parse;

use std::ops::Range;

use tightloop::{Conn, ConnId, Context};

use crate::args::{Args, Span};
use crate::client::Client;
use crate::commands::{COMMANDS, Call, Flags, OUT_OF_MEMORY, Route, Run, keys};
use crate::lane::{Finish, finish_at_once};
use crate::reply::Reply;
use crate::server::{Kv, Remote};
use crate::store::shard_of;

/// Bytes of arguments at which a batch leaves though the callback goes on.
const BATCH_BYTES: usize = 64 * 1024;

/// What a callback asks of another loop.
#[derive(Default)]
pub struct Batch {
    requests: Vec<Request>,
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

struct Request {
    sequence: u64,
    part: usize,
    work: Work,
    database: usize,
    resp3: bool,
    /// Among the batch's spans.
    args: Range<usize>,
}

#[derive(Clone, Copy)]
enum Work {
    /// The number of a command on data.
    Command(usize),
    Everywhere(Remote),
}

/// Replies that go back: the number of the slot, the part, the reply.
type Answers = Vec<(u64, usize, Reply)>;

/// Where the replies belong.
struct Asked {
    sequence: u64,
    part: usize,
    database: usize,
    resp3: bool,
}

impl Batch {
    fn push<'a>(&mut self, asked: Asked, work: Work, args: impl Iterator<Item = &'a [u8]>) {
        let Asked { sequence, part, database, resp3 } = asked;
        let first = self.spans.len();
        for arg in args {
            let start = self.bytes.len() as u32;
            self.bytes.extend_from_slice(arg);
            self.spans.push(Span { start, end: self.bytes.len() as u32 });
        }
        let args = first..self.spans.len();
        self.requests.push(Request { sequence, part, work, database, resp3, args });
    }
}

/// The arguments of each shard, as places in the command.
fn places_by_shard(kv: &Kv, args: Args<'_>, step: usize) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut places = vec![Vec::new(); kv.loops];
    let mut order = Vec::new();
    for at in (1..args.len()).step_by(step) {
        let shard = shard_of(&kv.shared.seed, args.get(at), kv.loops);
        places[shard].extend(at..at + step);
        order.push(shard);
    }
    (places, order)
}

impl Kv {
    /// Carries a command on data out, or sends it where that is done.
    pub fn route(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        number: usize,
        route: Route,
        args: Args<'_>,
    ) {
        let loops = self.loops;
        let shard = match route {
            Route::Key => shard_of(&self.shared.seed, args.get(1), loops),
            Route::Cursor => keys::shard_of_cursor(args.get(1), loops),
            _ => return self.spread(conn, client, number, route, args),
        };
        self.send_whole(client, number, shard, args);
    }

    fn send_whole(&mut self, client: &mut Client, number: usize, shard: usize, args: Args<'_>) {
        let resp3 = client.resp3;
        if shard == self.index {
            let mut reply = Reply::new(resp3);
            self.run_data(number, client.database as usize, args, &mut reply);
            return self.tell(client, |to| to.append(reply));
        }
        let sequence = client.lane_mut().push(1, Finish::Single, resp3);
        let database = client.database as usize;
        let asked = Asked { sequence, part: 0, database, resp3 };
        self.outgoing[shard].push(asked, Work::Command(number), args.from(0));
        fill_if_long(client, COMMANDS[number].flags, args);
    }

    /// A command with parts.
    fn spread(
        &mut self,
        conn: &mut Conn<'_>,
        client: &mut Client,
        number: usize,
        route: Route,
        args: Args<'_>,
    ) {
        let all = |kv: &Kv| vec![(1..args.len()).collect(); kv.loops];
        let (places, finish) = match route {
            // An error: whoever carries it out says so.
            Route::Pairs if args.len().is_multiple_of(2) => {
                return self.send_whole(client, number, self.index, args);
            }
            Route::Pairs => (places_by_shard(self, args, 2).0, Finish::Ok),
            Route::Sum => (places_by_shard(self, args, 1).0, Finish::Sum),
            Route::InOrder => {
                let (places, order) = places_by_shard(self, args, 1);
                (places, Finish::InOrder(order))
            }
            Route::AllSum => (all(self), Finish::Sum),
            Route::AllOk => (all(self), Finish::Ok),
            Route::AllList => (all(self), Finish::List),
            Route::Info => (all(self), Finish::Info(Box::new(self.usage(conn, args)))),
            Route::Key | Route::Cursor => return,
        };
        let to_all = !matches!(route, Route::Pairs | Route::Sum | Route::InOrder);
        let (database, resp3) = (client.database as usize, client.resp3);
        let sequence = client.lane_mut().push(self.loops, finish, resp3);
        for (shard, places) in places.into_iter().enumerate() {
            let asked = Asked { sequence, part: shard, database, resp3 };
            if places.is_empty() && !to_all {
                // Nothing is there of what was asked for: no part may be missing.
                client.lane_mut().answer(sequence, shard, nothing(route, resp3));
                continue;
            }
            let mut batch = Batch::default();
            let to = if shard == self.index { &mut batch } else { &mut self.outgoing[shard] };
            let part = places.iter().map(|&at| args.get(at));
            to.push(asked, Work::Command(number), std::iter::once(args.get(0)).chain(part));
            if shard == self.index {
                let mut reply = Reply::new(resp3);
                let args = Args::new(&batch.bytes, &batch.spans);
                self.run_data(number, database, args, &mut reply);
                client.lane_mut().answer(sequence, shard, reply);
            }
        }
        fill_if_long(client, COMMANDS[number].flags, args);
        // With one loop, or where all keys were here, it is done already.
        client.drain_lane(&mut self.reply);
    }

    /// Asks all loops, this one too: what a callback may not touch, a job of its loop may.
    pub fn everywhere(&mut self, client: &mut Client, remote: Remote, args: Args<'_>) {
        let (resp3, database) = (client.resp3, client.database as usize);
        let finish = match remote {
            Remote::Publish => Finish::Sum,
            Remote::ClientList => Finish::Text,
            Remote::ResetStatistics => Finish::Ok,
        };
        let sequence = client.lane_mut().push(self.loops, finish, resp3);
        for (part, batch) in self.outgoing.iter_mut().enumerate() {
            let asked = Asked { sequence, part, database, resp3 };
            batch.push(asked, Work::Everywhere(remote), args.from(0));
        }
        let flags = if remote == Remote::ClientList { Flags::LONG } else { Flags(0) };
        fill_if_long(client, flags, args);
    }

    /// Carries a command on data out.
    #[inline]
    pub fn run_data(&mut self, number: usize, database: usize, args: Args<'_>, reply: &mut Reply) {
        let command = &COMMANDS[number];
        let Run::Data(run, _) = command.run else { return };
        if self.memory_limit != 0 && command.flags.has(Flags::DENY_OOM) && self.is_full(args) {
            return reply.error(OUT_OF_MEMORY);
        }
        let (now, shard) = (self.now, (self.index, self.loops));
        run(&mut Call { args, database, now, store: &mut self.store, reply, shard });
    }

    /// Whether what these arguments bring does not fit any more.
    #[cold]
    fn is_full(&self, args: Args<'_>) -> bool {
        self.store.memory() + args.size() > self.memory_limit
    }

    /// One reply for a command that has but one part, as there is one loop.
    pub fn finish_alone(
        &mut self,
        conn: &Conn<'_>,
        number: usize,
        args: Args<'_>,
        client: &Client,
    ) {
        let mut part = Reply::new(client.resp3);
        self.run_data(number, client.database as usize, args, &mut part);
        let finish = Finish::Info(Box::new(self.usage(conn, args)));
        let reply = finish_at_once(vec![part], finish, client.resp3);
        self.reply.append(reply);
    }

    // ---- between the loops --------------------------------------------------------------

    /// Whether a batch should leave now.
    pub fn must_send(&self) -> bool {
        self.outgoing.iter().any(|batch| batch.bytes.len() > BATCH_BYTES)
    }

    /// Sends what the callback has for other loops; false: the server stops, and nobody answers.
    pub fn send_batches(&mut self, id: ConnId) -> bool {
        let origin = self.index;
        let mut sent = true;
        for (to, batch) in self.outgoing.iter_mut().enumerate() {
            if batch.requests.is_empty() {
                continue;
            }
            let batch = std::mem::take(batch);
            let handle = &self.shared.loops()[to];
            sent &= handle.execute(move |kv, cx| kv.serve(cx, batch, origin, id)).is_ok();
        }
        sent
    }

    /// Does what another loop asks for.
    fn serve(&mut self, cx: &mut Context<'_, Kv>, batch: Batch, origin: usize, id: ConnId) {
        self.begin(cx.now());
        let mut answers: Answers = Vec::with_capacity(batch.requests.len());
        for request in batch.requests {
            let args = Args::new(&batch.bytes, &batch.spans[request.args]);
            let mut reply = Reply::new(request.resp3);
            match request.work {
                Work::Command(number) => self.run_data(number, request.database, args, &mut reply),
                Work::Everywhere(remote) => self.serve_remote(cx, remote, args, &mut reply),
            }
            answers.push((request.sequence, request.part, reply));
        }
        if origin == self.index {
            return self.answered(cx, id, answers);
        }
        // A loop that has ended has no connection any more that could wait.
        let _ = self.shared.loops()[origin].execute(move |kv, cx| kv.answered(cx, id, answers));
    }

    /// Replies have come back.
    fn answered(&mut self, cx: &mut Context<'_, Kv>, id: ConnId, answers: Answers) {
        let Some((mut conn, client)) = cx.conn(id) else { return };
        let Some(lane) = &mut client.lane else { return };
        for (sequence, part, reply) in answers {
            lane.answer(sequence, part, reply);
        }
        let paused = lane.paused;
        let mut reply = Reply::new(client.resp3);
        client.drain_lane(&mut reply);
        reply.write_to(&mut conn);
        if client.lane.is_some() {
            return;
        }
        if client.closing {
            conn.close();
        } else if paused {
            conn.resume_reading();
        }
    }
}

/// Lets nothing follow a command on its way whose reply may be long, or whose arguments are.
fn fill_if_long(client: &mut Client, flags: Flags, args: Args<'_>) {
    if flags.has(Flags::LONG) || args.size() > BATCH_BYTES {
        client.lane_mut().fill();
    }
}

/// The part of a shard that has none of the keys.
fn nothing(route: Route, resp3: bool) -> Reply {
    let mut reply = Reply::new(resp3);
    match route {
        Route::Sum => reply.integer(0),
        Route::InOrder => reply.array(0),
        _ => reply.ok(),
    }
    reply
}
