//! Connected datagram sockets, which are streams of pieces for the drivers: they too receive and
//! send many datagrams a call, with the same memory.
//!
//! What was received for one that then stops receiving is kept apart, so that it holds up nobody
//! else's memory. It is counted by no limit, so it must be little: who stops often, as a handler
//! that is slower than its peer does, receives one message at a time, and so does who is new.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::{DATAGRAMS_PER_TURN, DatagramSocket, Datagrams, Memory, Owner};
use crate::buf::outbound::Outbound;
use crate::driver::{Buffer, Event, MOST_PIECES, Token};
use crate::sys::udp::Abilities;

/// Chunks of output that one call sends from.
const SLICES: usize = 32;

/// What is known of one socket, from its first datagram on.
pub(super) struct Connected {
    abilities: Abilities,
    /// Received, and not told when the reactor wanted no more. `None` is one that was cut.
    held: VecDeque<Option<Box<[u8]>>>,
    /// It is new, or has stopped receiving since it last received: it may do so again.
    may_stop: bool,
}

impl Memory {
    /// The datagram that is taken now, kept apart.
    fn keep(&mut self, abilities: &Abilities) -> Option<Option<Box<[u8]>>> {
        let arrived = self.inbox.next(abilities)?;
        let bytes = || Box::from(self.inbox.bytes(arrived.start, arrived.received.length));
        Some((!arrived.received.truncated).then(bytes))
    }
}

impl<S: DatagramSocket> Datagrams<S> {
    /// What is known of a connected socket, and the memory that all share.
    fn connected<'a, C: DatagramSocket>(
        (connected, memory): (&'a mut super::ConnectedSockets, &'a mut Option<Box<Memory>>),
        longest: usize,
        index: u32,
        socket: &C,
    ) -> io::Result<(&'a mut Connected, &'a mut Memory)> {
        let memory = memory.get_or_insert_with(|| Memory::new(longest));
        let place = match connected.entry(index) {
            std::collections::hash_map::Entry::Occupied(place) => place.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let inbox = &memory.inbox;
                let abilities = socket.attempt(|s| Abilities::of_connected(s, inbox))?;
                place.insert(Connected { abilities, held: VecDeque::new(), may_stop: true })
            }
        };
        Ok((place, memory))
    }

    /// Receives what waits in a connected socket, and answers the first of it; the others follow in
    /// a row. `Ok(None)`: the memory holds somebody else's, and this one has to wait for its turn.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing; any other is about the socket's peer.
    pub(crate) fn receive_pieces<C: DatagramSocket>(
        &mut self,
        token: Token,
        socket: &C,
        longest: usize,
    ) -> io::Result<Option<Event>> {
        let Self { connected, memory, .. } = self;
        let (place, memory) = Self::connected((connected, memory), longest, token.index, socket)?;
        if !memory.inbox.is_empty() && self.owner != Owner::Stream(token) {
            // Also where something is held: who owns what lies there must stay known.
            return Ok(None);
        }
        if memory.inbox.is_empty() && place.held.is_empty() {
            loop {
                let received = socket.attempt(|s| match place.may_stop {
                    true => memory.inbox.receive_one(s, &place.abilities),
                    false => memory.inbox.receive(s, &place.abilities),
                });
                match received {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    received => break received.map(|_| ())?,
                };
            }
            place.may_stop = false;
        }
        self.owner = Owner::Stream(token);
        self.in_a_row = DATAGRAMS_PER_TURN;
        Ok(self.next_piece(token))
    }

    /// The next datagram of the row, where that is a connected socket's.
    pub(super) fn next_piece(&mut self, token: Token) -> Option<Event> {
        let memory = self.memory.as_mut()?;
        let place = self.connected.get_mut(&token.index)?;
        let is_held = !place.held.is_empty();
        let event = match place.held.pop_front() {
            Some(Some(bytes)) => {
                let buffer = Buffer { length: bytes.len() };
                self.told = Some(bytes);
                Some(Event::Received { token, buffer })
            }
            Some(None) => Some(Event::PieceTruncated),
            None => memory.inbox.next(&place.abilities).map(|arrived| {
                (self.lent, self.told) = (arrived.start, None);
                match arrived.received.truncated {
                    true => Event::PieceTruncated,
                    false => {
                        let buffer = Buffer { length: arrived.received.length };
                        Event::Received { token, buffer }
                    }
                }
            }),
        };
        // Behind what was held the memory may be another's.
        let is_over = place.held.is_empty() && (is_held || memory.inbox.is_empty());
        self.in_a_row = if is_over { 0 } else { self.in_a_row - 1 };
        event
    }

    /// Nobody wants a connected socket's datagrams now: those that were received wait apart.
    pub(crate) fn hold_pieces(&mut self, token: Token) {
        let Some(place) = self.connected.get_mut(&token.index) else { return };
        place.may_stop = true;
        if self.owner != Owner::Stream(token) {
            return;
        }
        if let Some(memory) = self.memory.as_mut() {
            while let Some(kept) = memory.keep(&place.abilities) {
                place.held.push_back(kept);
            }
        }
        self.end_row();
    }

    /// A connected socket is gone, and what was received for it.
    pub(crate) fn forget_pieces(&mut self, token: Token) {
        self.connected.remove(&token.index);
        if self.owner == Owner::Stream(token) {
            if let Some(memory) = &mut self.memory {
                memory.inbox.clear();
            }
            self.end_row();
        }
    }

    /// How many wait apart.
    #[cfg(test)]
    pub(super) fn held(&self, token: Token) -> usize {
        self.connected.get(&token.index).map_or(0, |place| place.held.len())
    }

    fn end_row(&mut self) {
        (self.owner, self.in_a_row) = (Owner::Nobody, 0);
    }

    /// Sends the first of the datagrams that lie in `output` and have these lengths; answers how
    /// many.
    ///
    /// # Errors
    /// Is about the first one, and nothing was sent: `WouldBlock` if there is no room.
    pub(crate) fn send_pieces<C: DatagramSocket>(
        &mut self,
        token: Token,
        socket: &C,
        longest: usize,
        output: &Outbound,
        lengths: &[usize],
    ) -> io::Result<usize> {
        let Self { connected, memory, .. } = self;
        let (place, memory) = Self::connected((connected, memory), longest, token.index, socket)?;
        let lengths = &lengths[..lengths.len().min(MOST_PIECES)];
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = output.first_slices(lengths.iter().sum(), &mut slices);
        let slices = &slices[..filled];
        socket.attempt(|s| memory.sender.send_connected(s, &mut place.abilities, slices, lengths))
    }
}
