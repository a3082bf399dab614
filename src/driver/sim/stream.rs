//! The server's sockets of a simulated network: opened, received from, sent to, closed.

use std::io::{self, IoSlice};
use std::rc::Rc;

use super::link::{Connecting, Segment, Stage};
use super::network::{Item, Network, SharedNetwork};
use super::weather::Sabotage;
use super::{Sim, Token};
use crate::buf::outbound::Outbound;
use crate::driver::{Buffer, CloseMode, Event, Sent};
use crate::sys::socket::Stream;

/// Slices that one send looks at, as with a real socket.
const SLICES_PER_SEND: usize = 64;

/// A stream that the driver has not got yet; it closes when it is dropped.
pub(crate) struct SimStream {
    /// `None` for a real socket, which has no place in this network.
    held: Option<(SharedNetwork, usize)>,
}

impl SimStream {
    pub(super) fn hold(network: &SharedNetwork, link: usize) -> Self {
        network.borrow_mut().links[link].stage = Stage::Held;
        SimStream { held: Some((Rc::clone(network), link)) }
    }

    fn take(mut self) -> io::Result<usize> {
        match self.held.take() {
            Some((_, link)) => Ok(link),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

impl From<Stream> for SimStream {
    fn from(_: Stream) -> Self {
        SimStream { held: None }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        if let Some((network, link)) = self.held.take() {
            network.borrow_mut().drop_stream(link);
        }
    }
}

impl Sim {
    /// Sends from a receive buffer, which must not have been recycled.
    pub(super) fn send_from(&self, token: Token, bytes: &[u8]) -> io::Result<Sent> {
        let link = self.link(token).ok_or(io::ErrorKind::NotConnected)?;
        let mut network = self.network.borrow_mut();
        if !self.lent {
            network.fail("output lies in a buffer that was recycled".to_owned());
        }
        network.take_slices(link, &[IoSlice::new(bytes)], usize::MAX)
    }

    pub(super) fn open_stream(
        &mut self,
        token: Token,
        stream: SimStream,
        connecting: Option<Connecting>,
    ) -> io::Result<()> {
        let fails = {
            let mut network = self.network.borrow_mut();
            let fails = network.weather.open_error;
            network.random.chance(fails)
        };
        if fails {
            if let Some((network, link)) = &stream.held {
                network.borrow_mut().links[*link].no_memory = true;
            }
            // The stream is dropped, and so closed.
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let link = stream.take()?;
        let mut network = self.network.borrow_mut();
        if self.streams.iter().any(|(open, _)| open.index == token.index) {
            network.fail(format!("slot {} is used again while it is open", token.index));
        }
        network.note("open", link, token.index as usize);
        network.note("generation", link, token.generation as usize);
        let connection = &mut network.links[link];
        connection.stage = Stage::Open(token);
        connection.connecting = connecting;
        connection.receiving = connecting.is_none();
        self.streams.push((token, link));
        Ok(())
    }

    pub(super) fn connect_stream(&mut self, token: Token, stream: SimStream) -> io::Result<()> {
        self.open_stream(token, stream, Some(Connecting::GoesOn))?;
        let Some(link) = self.streams.last().map(|(_, link)| *link) else { return Ok(()) };
        let mut network = self.network.borrow_mut();
        let unanswered = network.weather.unanswered;
        if !network.random.chance(unanswered) {
            let delay = network.weather.delay;
            let after = network.random.below(2 * delay + 1);
            network.schedule(after, Item::Connected { link });
        }
        Ok(())
    }

    /// What has connected gets the name of the connection that it is for.
    pub(super) fn rename_stream(&mut self, from: Token, to: Token) -> io::Result<()> {
        let mut network = self.network.borrow_mut();
        if self.streams.iter().any(|(open, _)| open.index == to.index) {
            network.fail(format!("slot {} is renamed to while it is open", to.index));
        }
        let entry = self.streams.iter_mut().find(|(open, _)| *open == from);
        let Some((token, link)) = entry else { return Err(io::ErrorKind::NotConnected.into()) };
        *token = to;
        network.note("renamed", *link, to.index as usize);
        network.links[*link].stage = Stage::Open(to);
        Ok(())
    }

    pub(super) fn stream_event(&mut self, link: usize) -> Option<Event<SimStream>> {
        let mut network = self.network.borrow_mut();
        let network = &mut *network;
        let forgets = network.sabotages(Sabotage::ForgetWritable);
        let ignores_pause = network.sabotages(Sabotage::IgnorePause);
        let connection = &mut network.links[link];
        let Stage::Open(token) = connection.stage else { return None };
        if let Some(connecting) = connection.connecting {
            let result = match connecting {
                Connecting::GoesOn => return None,
                Connecting::Done => Ok(()),
                Connecting::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
            };
            connection.connecting = None;
            connection.receiving = result.is_ok();
            network.note("connected", link, usize::from(result.is_ok()));
            return Some(Event::Connected { token, result });
        }
        let is_gone = connection.reset_arrived || connection.broken;
        if connection.blocked && (connection.room_down() > 0 || is_gone) {
            if !connection.pipe.is_empty() {
                return network.go_on_with_pipe(link, token);
            }
            connection.blocked = false;
            network.note("writable", link, 0);
            return (!forgets).then_some(Event::Writable { token });
        }
        if connection.is_movable() {
            network.note("movable", link, 0);
            return Some(Event::Movable { token });
        }
        if (connection.receiving || ignores_pause) && !connection.arrived.is_empty() {
            let length = network.receive(link, &mut self.receive);
            self.lent = true;
            return Some(Event::Received { token, buffer: Buffer { length } });
        }
        if connection.dead && connection.receiving {
            return Some(network.tell_death(link, token));
        }
        let ended = connection.fin_arrived && !connection.reset_arrived;
        if connection.receiving && ended && !connection.fin_told {
            connection.fin_told = true;
            connection.receiving = false;
            network.note("ended", link, 0);
            return Some(Event::Ended { token });
        }
        if connection.reset_arrived && !connection.reset_told {
            connection.reset_told = true;
            connection.receiving = false;
            network.note("failed", link, 0);
            let error = io::ErrorKind::ConnectionReset.into();
            return Some(Event::Failed { token, error });
        }
        None
    }
}

impl Network {
    fn receive(&mut self, link: usize, into: &mut [u8]) -> usize {
        let short = self.random.chance(self.weather.short);
        let drops = self.sabotages(Sabotage::DropReceivedByte);
        let there = self.links[link].arrived.len().min(into.len());
        let length = if short { self.random.size(there) } else { there };
        for (to, byte) in into.iter_mut().zip(self.links[link].arrived.drain(..length)) {
            *to = byte;
        }
        self.note("received", link, length);
        self.delivers(link, length);
        // A peer that waits for room has it now.
        self.wake_peer(link);
        if drops && length > 1 { length - 1 } else { length }
    }

    /// A send has found the connection broken: what was received is told first, and then its end,
    /// as an error or not, for the send may have taken the error.
    fn tell_death(&mut self, link: usize, token: Token) -> Event<SimStream> {
        let connection = &mut self.links[link];
        connection.receiving = false;
        connection.dead = false;
        connection.reset_told = true;
        let ended = self.random.chance(500);
        self.note("dead", link, usize::from(ended));
        if ended {
            return Event::Ended { token };
        }
        Event::Failed { token, error: io::ErrorKind::ConnectionReset.into() }
    }

    /// The socket takes what it takes of the loop's output.
    pub(super) fn take_output(
        &mut self,
        link: usize,
        output: &Outbound,
        limit: usize,
    ) -> io::Result<Sent> {
        let mut slices = [IoSlice::new(&[]); SLICES_PER_SEND];
        let filled = output.slices(&mut slices);
        self.take_slices(link, &slices[..filled], limit)
    }

    fn take_slices(
        &mut self,
        link: usize,
        output: &[IoSlice<'_>],
        limit: usize,
    ) -> io::Result<Sent> {
        let length: usize = output.iter().map(|slice| slice.len()).sum();
        let connection = &mut self.links[link];
        let fault = if connection.blocked {
            "it is blocked"
        } else if connection.shut {
            "FIN was sent"
        } else if connection.connecting.is_some() {
            "it is not connected"
        } else if length == 0 {
            "there is nothing to send"
        } else {
            ""
        };
        if !fault.is_empty() {
            self.fail(format!("link {link}: send is called though {fault}"));
        }
        if let Some(error) = self.broken_send(link) {
            return Err(error);
        }
        let room = self.links[link].room_down();
        if room == 0 || self.random.chance(self.weather.blocked) {
            self.links[link].blocked = true;
            self.note("blocked", link, room);
            return Ok(Sent { bytes: 0, blocked: true });
        }
        let most = length.min(limit).min(room);
        let short = self.random.chance(self.weather.short);
        let most = if short { self.random.size(most) } else { most };
        let mut bytes = Vec::with_capacity(most);
        for slice in output {
            bytes.extend_from_slice(&slice[..slice.len().min(most - bytes.len())]);
        }
        let taken = bytes.len();
        self.note("sent", link, taken);
        self.takes(link, &bytes);
        if self.sabotages(Sabotage::LoseSentByte) && taken > 3 {
            bytes.pop();
        }
        self.send_down(link, Segment::Bytes(bytes));
        let told = taken - usize::from(self.sabotages(Sabotage::SendByteTwice) && taken > 3);
        Ok(Sent { bytes: told, blocked: false })
    }

    /// Why a send fails now, if it does.
    pub(super) fn broken_send(&mut self, link: usize) -> Option<io::Error> {
        let connection = &mut self.links[link];
        let kinds = if connection.reset_arrived {
            connection.reset_told = true;
            [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe]
        } else if connection.broken || self.random.chance(self.weather.send_error) {
            self.links[link].broken = true;
            [io::ErrorKind::HostUnreachable, io::ErrorKind::OutOfMemory]
        } else {
            return None;
        };
        self.links[link].dead = true;
        self.note("send fails", link, usize::from(self.links[link].broken));
        Some(self.random.pick(&kinds).into())
    }

    pub(super) fn shut(&mut self, link: usize) -> io::Result<()> {
        if !self.links[link].pipe.is_empty() {
            self.fail(format!("link {link}: FIN is asked for before what it owes was sent"));
        }
        let connection = &mut self.links[link];
        if connection.reset_arrived {
            connection.reset_told = true;
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !std::mem::replace(&mut connection.shut, true) {
            self.note("FIN to peer", link, 0);
            self.send_down(link, Segment::Fin);
        }
        Ok(())
    }

    pub(super) fn close_stream(&mut self, link: usize, mode: CloseMode) {
        self.note("close", link, usize::from(mode == CloseMode::Abort));
        self.releases(link);
        let connection = &mut self.links[link];
        let connected = connection.connecting.is_none();
        let unread = !connection.arrived.is_empty();
        connection.stage = Stage::Closed;
        connection.pipe.clear();
        if connection.reset_arrived {
            return;
        }
        if mode == CloseMode::Abort || unread {
            self.reset_down(link);
        } else if connected && !std::mem::replace(&mut connection.shut, true) {
            self.send_down(link, Segment::Fin);
        }
    }

    /// A stream that nobody wants is closed.
    pub(super) fn drop_stream(&mut self, link: usize) {
        self.note("dropped", link, 0);
        if self.links[link].stage == Stage::Held && !self.links[link].outgoing {
            self.is_refused(link);
        }
        self.links[link].stage = Stage::Closed;
        self.reset_down(link);
    }
}

impl Drop for Sim {
    /// The sockets of a loop that has ended are closed.
    fn drop(&mut self) {
        let network = Rc::clone(&self.network);
        for (_, link) in self.streams.drain(..) {
            network.borrow_mut().close_stream(link, CloseMode::Orderly);
        }
    }
}
