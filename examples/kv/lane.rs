//! Replies in the order of the commands, where some come from other loops.
//!
//! A connection has a lane only while something is on its way. Each command that another loop has a
//! part in gets a slot; what is answered meanwhile gets one behind it. Replies leave from the front.

use std::collections::VecDeque;

use crate::commands;
use crate::reply::Reply;
use crate::server::HIGH_WATERMARK;
use crate::shard::parse::{self, Parts};

/// Most commands of a connection that are on their way. With them, and not with the queues
/// of the loops, it is bounded what a client can have the server do for it. What their replies hold
/// is bounded by the high watermark, and by [`fill`](Lane::fill).
const MAX_SLOTS: usize = 128;

/// What a connection waits for.
#[derive(Default)]
pub struct Lane {
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first: u64,
    /// INVARIANT: the bytes of all replies in the slots.
    held: usize,
    /// Nothing more may be asked for before all of this has left.
    filled: bool,
    /// Reading is paused until something has come.
    pub paused: bool,
}

enum Slot {
    Ready(Reply),
    Waiting(Gather),
}

/// A command in parts, one a shard.
pub struct Gather {
    parts: Vec<Option<Reply>>,
    missing: usize,
    finish: Finish,
    resp3: bool,
}

/// How the parts become one reply.
pub enum Finish {
    /// There is one only.
    Single,
    Sum,
    Ok,
    List,
    /// The part that has the element, for each in turn.
    InOrder(Vec<usize>),
    /// Text behind text.
    Text,
    /// With what the connection's loop knows of the server.
    Info(Box<commands::Usage>),
}

impl Lane {
    /// Whether nothing more may be asked for now.
    pub fn is_full(&self) -> bool {
        self.filled || self.slots.len() >= MAX_SLOTS || self.held > HIGH_WATERMARK
    }

    /// Lets nothing follow what was pushed last: nobody knows how long its reply will be.
    pub fn fill(&mut self) {
        self.filled = true;
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes a place for a command that is on its way, and answers its number.
    pub fn push(&mut self, parts: usize, finish: Finish, resp3: bool) -> u64 {
        let parts: Vec<_> = (0..parts).map(|_| None).collect();
        let missing = parts.len();
        self.slots.push_back(Slot::Waiting(Gather { parts, missing, finish, resp3 }));
        self.first + self.slots.len() as u64 - 1
    }

    /// Writes a reply that is there already, behind all that is waited for.
    pub fn ready(&mut self, resp3: bool, write: impl FnOnce(&mut Reply)) {
        if !matches!(self.slots.back(), Some(Slot::Ready(_))) {
            self.slots.push_back(Slot::Ready(Reply::new(resp3)));
        }
        if let Some(Slot::Ready(reply)) = self.slots.back_mut() {
            reply.resp3 = resp3;
            let before = reply.len();
            write(reply);
            self.held += reply.len() - before;
        }
    }

    /// Something has come.
    pub fn answer(&mut self, sequence: u64, part: usize, reply: Reply) {
        let place = usize::try_from(sequence.wrapping_sub(self.first)).ok();
        let slot = place.and_then(|place| self.slots.get_mut(place));
        let Some(Slot::Waiting(gather)) = slot else { return };
        if let Some(empty @ None) = gather.parts.get_mut(part) {
            self.held += reply.len();
            *empty = Some(reply);
            gather.missing -= 1;
        }
    }

    /// Moves what nothing has to be waited for behind `out`.
    pub fn drain(&mut self, out: &mut Reply) {
        let is_ready = |slot: &Slot| match slot {
            Slot::Ready(_) => true,
            Slot::Waiting(gather) => gather.missing == 0,
        };
        while self.slots.front().is_some_and(is_ready) {
            let Some(slot) = self.slots.pop_front() else { return };
            self.first += 1;
            self.held -= slot.held();
            match slot {
                Slot::Ready(reply) => out.append(reply),
                Slot::Waiting(gather) => out.append(gather.finish()),
            }
        }
    }
}

impl Slot {
    fn held(&self) -> usize {
        match self {
            Slot::Ready(reply) => reply.len(),
            Slot::Waiting(gather) => gather.parts.iter().flatten().map(Reply::len).sum(),
        }
    }
}

impl Gather {
    /// All parts are there.
    fn finish(self) -> Reply {
        let mut parts: Vec<Reply> = self.parts.into_iter().flatten().collect();
        let mut reply = Reply::new(self.resp3);
        if matches!(self.finish, Finish::Single) {
            return parts.pop().unwrap_or(reply);
        }
        let parts: Parts = parts.into_iter().map(Reply::into_bytes).collect();
        if let Some(error) = parts.iter().find(|part| part.starts_with(b"-")) {
            reply.raw(error);
            return reply;
        }
        match self.finish {
            Finish::Single | Finish::Ok => reply.ok(),
            Finish::Sum => reply.integer(parse::sum(&parts)),
            Finish::List => parse::concatenate(&parts, &mut reply),
            Finish::InOrder(order) => parse::in_order(&parts, &order, &mut reply),
            Finish::Text => reply.verbatim(&parse::text(&parts)),
            Finish::Info(usage) => commands::info(*usage, &parts, &mut reply),
        }
        reply
    }
}

/// One reply out of those of all shards, for a command that waits for nothing.
pub fn finish_at_once(parts: Vec<Reply>, finish: Finish, resp3: bool) -> Reply {
    let parts = parts.into_iter().map(Some).collect();
    Gather { parts, missing: 0, finish, resp3 }.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Reply {
        let mut reply = Reply::new(false);
        reply.raw(text.as_bytes());
        reply
    }

    fn drained(lane: &mut Lane) -> String {
        let mut out = Reply::new(false);
        lane.drain(&mut out);
        String::from_utf8(out.into_bytes()).expect("text")
    }

    #[test]
    fn replies_leave_in_the_order_of_the_commands() {
        let mut lane = Lane::default();
        let first = lane.push(1, Finish::Single, false);
        lane.ready(false, |reply| reply.raw(b"+2\r\n"));
        lane.ready(false, |reply| reply.raw(b"+3\r\n"));
        let fourth = lane.push(2, Finish::Sum, false);
        lane.answer(fourth, 1, reply(":4\r\n"));
        assert_eq!(drained(&mut lane), "");
        lane.answer(first, 0, reply("+1\r\n"));
        assert_eq!(drained(&mut lane), "+1\r\n+2\r\n+3\r\n");
        let fifth = lane.push(1, Finish::Single, false);
        lane.answer(fifth, 0, reply("+5\r\n"));
        lane.answer(fifth, 0, reply("+twice\r\n"));
        lane.answer(fourth, 0, reply(":6\r\n"));
        assert_eq!(drained(&mut lane), ":10\r\n+5\r\n");
        assert!(lane.is_empty());
    }

    #[test]
    fn what_replies_hold_is_bounded_and_counted() {
        let mut lane = Lane::default();
        let first = lane.push(1, Finish::Single, false);
        lane.ready(false, |reply| reply.bulk(&vec![b'x'; HIGH_WATERMARK / 2]));
        assert!(!lane.is_full());
        lane.ready(false, |reply| reply.bulk(&vec![b'x'; HIGH_WATERMARK / 2]));
        assert!(lane.is_full(), "in one slot");
        lane.answer(first, 0, reply("+1\r\n"));
        lane.drain(&mut Reply::new(false));
        assert!(lane.is_empty() && !lane.is_full());
        let second = lane.push(2, Finish::List, false);
        lane.answer(second, 0, reply(&format!("*1\r\n+{}\r\n", "x".repeat(HIGH_WATERMARK))));
        assert!(lane.is_full(), "what has come of a part counts");
        lane.answer(second, 1, reply("*0\r\n"));
        lane.drain(&mut Reply::new(false));
        assert_eq!((lane.held, lane.is_full()), (0, false));
        lane.push(1, Finish::Single, false);
        lane.fill();
        assert!(lane.is_full(), "whatever it holds");
    }

    #[test]
    fn parts_are_put_together() {
        let parts = |texts: [&str; 2]| texts.into_iter().map(reply).collect::<Vec<_>>();
        let finish = |texts, finish| {
            let bytes = finish_at_once(parts(texts), finish, false).into_bytes();
            String::from_utf8(bytes).expect("text")
        };
        assert_eq!(finish(["+OK\r\n", "+OK\r\n"], Finish::Ok), "+OK\r\n");
        assert_eq!(finish(["+OK\r\n", "-OOM x\r\n"], Finish::Ok), "-OOM x\r\n");
        let lists = ["*1\r\n$1\r\na\r\n", "*2\r\n$1\r\nb\r\n$-1\r\n"];
        let expected = "*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n";
        assert_eq!(finish(lists, Finish::List), expected);
        let expected = "*3\r\n$1\r\nb\r\n$1\r\na\r\n$-1\r\n";
        assert_eq!(finish(lists, Finish::InOrder(vec![1, 0, 1])), expected);
    }
}
