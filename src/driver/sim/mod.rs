//! A driver over a network in memory, with a virtual clock: no thread, no socket, no chance but a
//! seed's. One seed is one run, to the byte. It does to the loop whatever a network, a kernel and
//! a peer may do, and keeps a ledger of what the loop may answer (`ledger.rs`).
//!
//! ```text
//!   loop --- Driver ---> [Sim] ---> Network: links, wires, peers, agenda, clock
//!                          |             ^                |
//!                          +-- wait: ----+   what is due happens; then the clock
//!                              jumps to the next thing that will
//! ```
//!
//! What other threads do happens while the loop sleeps, on the same thread: a closure that the
//! simulation brings (`set_threads`).

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::addr::Address;
use crate::buf::outbound::Outbound;
use crate::driver::{
    Buffer, CloseMode, Driver, Event, Moved, Outgoing, Sent, Sockets, Token, Waker,
};
use crate::sys::route::Route;
use crate::sys::sockopt::SocketOptions;

mod clock;
mod datagram;
mod journal;
mod ledger;
mod limits;
mod link;
mod listener;
mod moving;
mod network;
mod peer;
mod random;
mod relays;
mod stream;
mod told;
mod weather;

pub use journal::Trace;
pub(crate) use ledger::{Book, Ledger, REASONS, broadcast_byte, queued_pattern};
pub(crate) use limits::Limits;
use listener::Backlog;
pub(crate) use network::{Item, Network, SharedNetwork, address_of, link_of};
pub(crate) use peer::written_byte;
pub(crate) use random::Random;
pub(crate) use stream::SimStream;
pub(crate) use told::PLANNED_PANIC;
pub(crate) use weather::{Sabotage, Weather};

/// Something that may have an event.
#[derive(Debug, Clone, Copy)]
enum Place {
    Stream(usize),
    Listener(usize),
    Datagram(usize),
}

/// The simulated driver.
pub(crate) struct Sim {
    network: SharedNetwork,
    /// Indices that are open, each with its generation and its link.
    streams: Vec<(Token, usize)>,
    woken: Arc<AtomicBool>,
    threads: Option<Box<dyn FnMut()>>,
    receive: Vec<u8>,
    /// The received buffer is with the loop.
    lent: bool,
    /// This turn's events are over, told or not.
    turn_over: bool,
    drifted: u64,
    waited_at: u64,
    turns_at_once: usize,
    entries: u64,
    idle_turns: usize,
    /// The last wait has let time pass.
    slept: bool,
}

impl Sim {
    pub(crate) fn new(network: SharedNetwork) -> Self {
        let receive = vec![0; network.borrow().weather.receive_buffer];
        Sim {
            network,
            streams: Vec::new(),
            woken: Arc::new(AtomicBool::new(false)),
            threads: None,
            receive,
            lent: false,
            turn_over: false,
            drifted: 0,
            waited_at: 0,
            turns_at_once: 0,
            entries: 0,
            idle_turns: 0,
            slept: false,
        }
    }

    /// What other threads do, called now and then while the loop sleeps.
    pub(crate) fn set_threads(&mut self, threads: Box<dyn FnMut()>) {
        self.threads = Some(threads);
    }

    /// Streams that the loop has not closed.
    pub(crate) fn open_streams(&self) -> impl Iterator<Item = (Token, usize)> + '_ {
        self.streams.iter().copied()
    }

    fn link(&self, token: Token) -> Option<usize> {
        self.streams.iter().find(|(open, _)| *open == token).map(|(_, link)| *link)
    }

    /// Lets everything that is due happen, other threads included.
    fn happen(&mut self) {
        while self.network.borrow_mut().run_due() {
            if let Some(threads) = &mut self.threads {
                threads();
            }
        }
    }

    /// The place with this number: streams come first, then listeners, then datagram sockets.
    fn place(&self, number: usize) -> Place {
        let listeners = self.network.borrow().listeners.len();
        match number.checked_sub(self.streams.len()) {
            None => Place::Stream(self.streams[number].1),
            Some(rest) if rest < listeners => Place::Listener(rest),
            Some(rest) => Place::Datagram(rest - listeners),
        }
    }

    fn places(&self) -> usize {
        let network = self.network.borrow();
        self.streams.len() + network.listeners.len() + network.datagram_sockets.len()
    }

    fn has_event(&self) -> bool {
        let network = self.network.borrow();
        let accepts = |backlog: &Backlog| !backlog.resting && !backlog.waiting.is_empty();
        network.sabotages(Sabotage::Spin)
            || self.woken.load(Ordering::Relaxed)
            || self.streams.iter().any(|(_, link)| network.links[*link].has_event())
            || network.listeners.iter().flatten().any(accepts)
            || (0..network.datagram_sockets.len()).any(|n| network.has_datagram_event(n))
    }

    fn place_event(&mut self, place: Place) -> Option<Event<SimStream>> {
        match place {
            Place::Stream(link) => self.stream_event(link),
            Place::Listener(number) => self.listener_event(number),
            Place::Datagram(socket) => {
                let event = self.network.borrow_mut().datagram_event(socket, &mut self.receive);
                self.lent = matches!(event, Some(Event::Datagram { .. }));
                event
            }
        }
    }
}

impl Sockets for Sim {
    fn socket(&self, _: Token) -> Option<SockRef<'_>> {
        None
    }

    fn now(&self) -> Instant {
        self.network.borrow().instant()
    }

    fn local_address(&self, token: Token) -> io::Result<Address> {
        match self.link(token) {
            Some(_) => Ok(Address::Ip(address_of(0))),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn unsent(&self, token: Token) -> usize {
        self.link(token).map_or(0, |link| self.network.borrow().links[link].pipe.len())
    }
}

impl Driver for Sim {
    type Stream = SimStream;
    type Listener = ();
    type DatagramSocket = ();

    fn unopened_socket(_: &SimStream) -> Option<SockRef<'_>> {
        None
    }

    fn waker(&self) -> Waker {
        let woken = Arc::clone(&self.woken);
        let lost = self.network.borrow().sabotages(Sabotage::LoseWake);
        Arc::new(move || woken.store(!lost, Ordering::Relaxed))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.count_turns();
        (self.turn_over, self.drifted) = (false, 0);
        let now = self.network.borrow().now;
        // Rounded up, as every system does: a sleep is not too short.
        let limit = timeout.map(|timeout| now + timeout.as_nanos().div_ceil(1_000) as u64);
        self.happen();
        while !self.has_event() && self.network.borrow().now < limit.unwrap_or(u64::MAX) {
            self.slept = true;
            if !self.skip_time(limit) {
                break;
            }
            self.happen();
        }
        self.happen();
        Ok(())
    }

    fn next_event(&mut self) -> Option<Event<SimStream>> {
        if self.lent {
            let rule = "an event is asked for before the last buffer was recycled";
            self.network.borrow_mut().fail(rule.to_owned());
        }
        self.drift();
        if self.woken.swap(false, Ordering::Relaxed) {
            self.network.borrow_mut().note("woken", 0, 0);
            return Some(Event::Woken);
        }
        let places = self.places();
        let first = {
            let mut network = self.network.borrow_mut();
            let early_end = network.weather.early_end;
            self.turn_over |= network.random.chance(early_end);
            network.random.below(places as u64) as usize
        };
        if self.turn_over {
            return None;
        }
        (0..places).find_map(|number| self.place_event(self.place((first + number) % places)))
    }

    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        &self.receive[..buffer.length]
    }

    fn recycle(&mut self, _: Buffer) {
        self.lent = false;
    }

    fn listen(&mut self, _: u32, (): ()) -> io::Result<()> {
        self.network.borrow_mut().listeners.push(Some(Default::default()));
        Ok(())
    }

    fn rest_listener(&mut self, number: u32) {
        self.network.borrow_mut().rest_listener(number as usize, true);
    }

    fn resume_accepting(&mut self, number: u32) {
        self.network.borrow_mut().rest_listener(number as usize, false);
    }

    fn close_listener(&mut self, number: u32, _lives_on: bool) {
        self.network.borrow_mut().close_listener(number as usize);
    }

    fn open(&mut self, token: Token, stream: SimStream) -> io::Result<()> {
        self.open_stream(token, stream, None)
    }

    fn start_connect(
        &mut self,
        address: &Address,
        _: &Route,
        _: &SocketOptions,
    ) -> io::Result<SimStream> {
        let mut network = self.network.borrow_mut();
        let error = network.weather.connect_error;
        if network.random.chance(error) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let link = link_of(address).filter(|link| *link < network.links.len());
        drop(network);
        let link = link.ok_or(io::ErrorKind::NotFound)?;
        Ok(SimStream::hold(&self.network, link))
    }

    fn connect(&mut self, token: Token, stream: SimStream) -> io::Result<()> {
        self.connect_stream(token, stream)
    }

    fn rename(&mut self, from: Token, to: Token) -> io::Result<()> {
        self.rename_stream(from, to)
    }

    fn may_have_more(&self, token: Token) -> bool {
        self.link(token).is_some_and(|link| self.network.borrow().links[link].has_event())
    }

    fn set_receiving(&mut self, token: Token, on: bool) {
        if let Some(link) = self.link(token) {
            let mut network = self.network.borrow_mut();
            network.note("receiving", link, usize::from(on));
            network.links[link].receiving = on;
        }
    }

    fn send(&mut self, token: Token, output: &Outbound, limit: usize) -> io::Result<Sent> {
        let link = self.link(token).ok_or(io::ErrorKind::NotConnected)?;
        self.network.borrow_mut().take_output(link, output, limit)
    }

    fn send_received(
        &mut self,
        token: Token,
        buffer: &Buffer,
        stretch: Range<usize>,
    ) -> io::Result<Sent> {
        self.send_from(token, &self.bytes(buffer)[stretch])
    }

    fn commit(&mut self, token: Token) -> io::Result<bool> {
        Ok(self.unsent(token) == 0)
    }

    fn set_moving(&mut self, token: Token, on: bool) {
        if let Some(link) = self.link(token) {
            let mut network = self.network.borrow_mut();
            network.note("moving", link, usize::from(on));
            network.links[link].moving = on;
        }
    }

    fn move_bytes(&mut self, from: Token, to: Token, limit: usize) -> Moved {
        self.move_between(from, to, limit)
    }

    fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        let link = self.link(token).ok_or(io::ErrorKind::NotConnected)?;
        self.network.borrow_mut().shut(link)
    }

    fn close(&mut self, token: Token, mode: CloseMode) {
        let Some(link) = self.link(token) else { return };
        self.streams.retain(|(open, _)| *open != token);
        self.network.borrow_mut().close_stream(link, mode);
    }

    fn open_datagram(&mut self, _: u32, (): ()) -> io::Result<()> {
        self.network.borrow_mut().datagram_sockets.push(Default::default());
        Ok(())
    }

    fn send_datagrams(
        &mut self,
        number: u32,
        bytes: &[u8],
        datagrams: &mut [Outgoing],
    ) -> io::Result<usize> {
        self.network.borrow_mut().take_datagrams(number as usize, bytes, datagrams)
    }
}
