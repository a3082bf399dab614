//! Bytes that the simulated kernel moves from one stream to another: through a pipe, which keeps what
//! the other's socket does not take.

use std::io;

use super::link::Segment;
use super::network::Network;
use super::weather::Sabotage;
use super::{Sim, Token};
use crate::driver::{Event, Moved};

use super::stream::SimStream;

/// What a pipe holds.
const PIPE: usize = 64 << 10;

impl Sim {
    pub(super) fn move_between(&mut self, from: Token, to: Token, limit: usize) -> Moved {
        match (self.link(from), self.link(to)) {
            (Some(from), Some(to)) => self.network.borrow_mut().move_bytes(from, to, limit),
            _ => Moved::Unable,
        }
    }
}

impl Network {
    fn move_bytes(&mut self, from: usize, to: usize, limit: usize) -> Moved {
        let (source, target) = (&self.links[from], &self.links[to]);
        let fault = if !source.moving || !source.receiving {
            "it was not asked for"
        } else if target.blocked {
            "the other is blocked"
        } else if target.shut || target.connecting.is_some() {
            "the other cannot send"
        } else {
            ""
        };
        if !fault.is_empty() {
            self.fail(format!("link {from}: bytes are moved to link {to} though {fault}"));
        }
        self.links[from].may_have_more = false;
        if self.random.chance(self.weather.unmovable) {
            self.note("cannot move", from, to);
            return Moved::Unable;
        }
        if self.links[from].arrived.is_empty() {
            return self.nothing_to_move(from);
        }
        let there = self.links[from].arrived.len().min(limit).min(PIPE);
        let length =
            if self.random.chance(self.weather.short) { self.random.size(there) } else { there };
        let bytes: Vec<u8> = self.links[from].arrived.drain(..length).collect();
        self.links[from].may_have_more = true;
        self.note("moved", from, length);
        self.delivers(from, length);
        self.wake_peer(from);
        self.takes(to, &bytes);
        match self.broken_send(to) {
            Some(error) => Moved::Refused { bytes: length, error },
            None => self.empty_pipe(to, bytes),
        }
    }

    fn nothing_to_move(&mut self, from: usize) -> Moved {
        let source = &mut self.links[from];
        if source.reset_arrived && !source.reset_told {
            (source.reset_told, source.receiving) = (true, false);
            self.note("a move finds a reset", from, 0);
            return Moved::Failed(io::ErrorKind::ConnectionReset.into());
        }
        let is_over = source.dead || source.fin_arrived;
        self.note("nothing to move", from, usize::from(is_over));
        if is_over { Moved::Unable } else { Moved::Nothing }
    }

    /// What was moved goes on as far as the socket takes it now; it is blocked if that is not all.
    fn empty_pipe(&mut self, to: usize, bytes: Vec<u8>) -> Moved {
        let length = bytes.len();
        self.links[to].pipe = bytes.into();
        self.send_from_pipe(to);
        let blocked = !self.links[to].pipe.is_empty();
        self.links[to].blocked = blocked;
        if self.sabotages(Sabotage::LosePipe) {
            self.links[to].pipe.clear();
        }
        Moved::Bytes { bytes: length, blocked }
    }

    fn send_from_pipe(&mut self, to: usize) {
        let is_blocked = self.random.chance(self.weather.blocked);
        let most = self.links[to].room_down().min(self.links[to].pipe.len());
        if is_blocked || most == 0 {
            return;
        }
        let short = self.random.chance(self.weather.short);
        let length = if short { self.random.size(most) } else { most };
        let bytes: Vec<u8> = self.links[to].pipe.drain(..length).collect();
        self.note("sent from the pipe", to, length);
        self.send_down(to, Segment::Bytes(bytes));
    }

    /// A socket that owes a pipe's content takes more.
    pub(super) fn go_on_with_pipe(
        &mut self,
        link: usize,
        token: Token,
    ) -> Option<Event<SimStream>> {
        if let Some(error) = self.broken_send(link) {
            self.links[link].pipe.clear();
            self.links[link].blocked = false;
            return Some(Event::SendFailed { token, error });
        }
        self.send_from_pipe(link);
        if !self.links[link].pipe.is_empty() {
            return None;
        }
        self.links[link].blocked = false;
        self.note("the pipe is empty", link, 0);
        (!self.sabotages(Sabotage::ForgetWritable)).then_some(Event::Writable { token })
    }
}
