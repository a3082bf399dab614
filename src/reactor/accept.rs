//! New connections: from this loop's listeners, from the acceptor, or brought by the user.

use std::io;
use std::time::Duration;

use socket2::SockRef;

use crate::addr::Address;
use crate::conn::admission::{Refusal, Ticket};
use crate::conn::command::Command;
use crate::conn::core::{Timer, deadline};
use crate::conn::handle::Promise;
use crate::conn::origin::Attachment;
use crate::conn::outbox::Outbox;
use crate::conn::rare::Rare;
use crate::conn::state::{ConnCore, Direction, NO_LISTENER, Phase};
use crate::conn::timeouts::Timeouts;
use crate::driver::{Driver, Token};
use crate::handler::Handler;
use crate::options::ACCEPT_REST;
use crate::reactor::opening::end_of_opening;
use crate::reactor::{Placement, Reactor};
use crate::sys::socket::ACCEPTED_INHERITS_OPTIONS;
use crate::sys::udp;

/// A connection that has just been accepted or brought.
pub(super) struct Arrival<S> {
    pub(super) stream: S,
    pub(super) peer: Address,
    /// The number of its `listen`.
    pub(super) listener: u16,
    /// The driver's number of the socket that it came by; valid where this loop has accepted it.
    pub(super) socket: u32,
}

/// What is known of a socket that another thread has brought.
pub(super) struct Brought {
    pub(super) direction: Direction,
    pub(super) datagrams: bool,
    pub(super) promise: Promise,
    pub(super) attachment: Option<Attachment>,
}

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Listens, and receives datagrams.
    pub(super) fn open_sockets(
        &mut self,
        listeners: Vec<(u16, D::Listener)>,
        datagram_sockets: Vec<D::DatagramSocket>,
    ) -> io::Result<()> {
        for (number, listener) in listeners {
            let socket = self.listen_numbers.len() as u32;
            self.driver.listen(socket, listener)?;
            self.listeners.push(socket);
            self.listen_numbers.push(number);
        }
        for socket in datagram_sockets {
            self.driver.open_datagram(self.core.outboxes.len() as u32, socket)?;
            self.core.outboxes.push(Outbox::default());
        }
        Ok(())
    }

    pub(super) fn accepted(&mut self, listener: u32, stream: D::Stream, peer: Address) {
        self.core.shared.metrics.accepted.add(1);
        self.accept_failure_logged = false;
        if let Some(rest) = self.core.server.shared.admission.rest_after_accept(self.core.now) {
            self.rest(listener, rest);
        }
        let number = self.listen_numbers.get(listener as usize).copied().unwrap_or(NO_LISTENER);
        let arrival = Arrival { stream, peer, listener: number, socket: listener };
        if let Some(arrival) = self.admit(arrival) {
            let is_open = self.listeners.contains(&listener);
            if !is_open && !self.core.server.shared.listening.is_released() {
                // The driver had accepted it before its listener was closed: like those who waited
                // then it was never let in, and dropping it closes it.
                return;
            }
            self.core.shared.metrics.full_waits.add(1);
            if is_open {
                self.driver.rest_listener(listener);
            }
            self.waiting.push(arrival);
            self.note_held();
            self.look_for_places_later();
        }
    }

    /// Lets a connection in, or closes it, as the limits say. One that has to wait comes back.
    fn admit(&mut self, arrival: Arrival<D::Stream>) -> Option<Arrival<D::Stream>> {
        let metrics = &self.core.shared.metrics;
        match self.core.server.shared.admission.enter(&arrival.peer) {
            Ok(ticket) => self.place(arrival, ticket),
            Err(Refusal::Wait) => return Some(arrival),
            // Dropping the stream closes it.
            Err(Refusal::Full) => metrics.refused_full.add(1),
            Err(Refusal::Address) => metrics.refused_per_ip.add(1),
        }
        None
    }

    /// Whoever gives a place back tells so. Only one that came free just before it could be known
    /// that somebody waits has to be looked for.
    fn look_for_places_later(&mut self) {
        if !self.looks_for_places {
            self.looks_for_places = true;
            self.core.wheel.insert(deadline(self.core.now, ACCEPT_REST), Timer::Admit);
        }
    }

    pub(super) fn look_for_places(&mut self) {
        self.looks_for_places = false;
        self.admit_waiting();
        if !self.waiting.is_empty() {
            self.look_for_places_later();
        }
    }

    /// Lets in those that wait, as far as there are places now.
    pub(super) fn admit_waiting(&mut self) {
        for arrival in std::mem::take(&mut self.waiting) {
            let listener = arrival.socket;
            match self.admit(arrival) {
                Some(arrival) => self.waiting.push(arrival),
                None => self.resume(listener),
            }
        }
    }

    /// The time of a listener's rest is over.
    pub(super) fn rest_is_over(&mut self, listener: u32) {
        if let Some(place) = self.resting.iter().position(|resting| *resting == listener) {
            self.resting.swap_remove(place);
        }
        self.resume(listener);
    }

    /// A listener accepts again, unless a connection of it waits for a place, or it rests for
    /// another reason.
    fn resume(&mut self, listener: u32) {
        let waits = self.waiting.iter().any(|waiting| waiting.socket == listener);
        if !waits && !self.resting.contains(&listener) && !self.core.stopping {
            self.driver.resume_accepting(listener);
        }
    }

    fn rest(&mut self, listener: u32, rest: Duration) {
        self.core.shared.metrics.accept_rests.add(1);
        self.driver.rest_listener(listener);
        self.rest_for(listener, rest);
    }

    fn rest_for(&mut self, listener: u32, rest: Duration) {
        self.resting.push(listener);
        self.core.wheel.insert(deadline(self.core.now, rest), Timer::AcceptRest(listener));
    }

    /// A counted connection is gone; whoever waits for its place is told, on whatever loop.
    pub(super) fn give_back(&mut self, ticket: Ticket) {
        drop(ticket);
        let shared = &self.core.server.shared;
        if shared.admission.take_waiting() {
            for other in shared.loops.iter().chain(&shared.acceptor) {
                // A loop that has ended has nobody waiting.
                drop(other.send_reserved(Command::Admit));
            }
        }
    }

    /// Gives a connection to its loop.
    fn place(&mut self, arrival: Arrival<D::Stream>, ticket: Option<Ticket>) {
        let socket_of = match &self.placement {
            Placement::Here => {
                if let Some(token) = self.adopt(arrival, ticket) {
                    self.begin_opening(token);
                }
                return;
            }
            Placement::Balanced { socket_of, .. } => *socket_of,
        };
        let Some(index) = self.pick_loop(&arrival.peer) else { return };
        let chosen = &self.core.server.shared.loops[index];
        chosen.handed.add(1);
        let Arrival { stream, peer, listener, .. } = arrival;
        let stream = socket_of(stream);
        // A loop that has ended serves nobody: the stream is closed by dropping it.
        drop(chosen.send_reserved(Command::Accepted { stream, peer, listener, ticket }));
    }

    /// Asks the balancer; `None` when that panicked, which ends the connection.
    fn pick_loop(&mut self, peer: &Address) -> Option<usize> {
        let loops = self.core.server.shared.loops.len();
        let loads: Vec<usize> = self.core.server.shared.loops.iter().map(|l| l.load()).collect();
        let mut placement = std::mem::replace(&mut self.placement, Placement::Here);
        let picked = self.with_nothing("the balancer", None, || match &mut placement {
            Placement::Here => 0,
            Placement::Balanced { balancer, .. } => balancer.pick(peer, &loads),
        });
        self.placement = placement;
        Some(picked? % loops)
    }

    /// The system has no descriptors or no memory left. That passes; a server lives on.
    pub(super) fn accept_failed(&mut self, listener: u32, error: &io::Error) {
        self.core.shared.metrics.accept_failures.add(1);
        if !self.accept_failure_logged {
            self.accept_failure_logged = true;
            log::warn!("cannot accept connections, trying again every {ACCEPT_REST:?}: {error}");
        }
        self.rest_for(listener, ACCEPT_REST);
    }

    /// Makes an accepted stream a connection of this loop, which is to be opened.
    pub(super) fn adopt(
        &mut self,
        arrival: Arrival<D::Stream>,
        ticket: Option<Ticket>,
    ) -> Option<Token> {
        let is_tcp = matches!(arrival.peer, Address::Ip(_));
        let all_options = !(ACCEPTED_INHERITS_OPTIONS && is_tcp);
        let token = self.place_here(arrival, is_tcp, all_options)?;
        if let Some(conn) = self.core.table.get_mut(token) {
            conn.auto_pause = self.core.options.auto_pause;
        }
        if ticket.is_some() {
            self.tickets.ensure(token.index);
            if let Some(place) = self.tickets.get_mut(token.index) {
                *place = ticket;
            }
        }
        Some(token)
    }

    /// The same for a socket that another thread has brought. Without a connection the promise is
    /// broken.
    pub(super) fn adopt_promised(&mut self, arrival: Arrival<D::Stream>, brought: Brought) {
        let Brought { direction, datagrams, promise, attachment } = brought;
        if datagrams
            && !self.core.options.connected_datagrams().lone_datagrams
            && let Some(socket) = D::unopened_socket(&arrival.stream)
        {
            udp::join(&socket);
        }
        let is_tcp = !datagrams && matches!(arrival.peer, Address::Ip(_));
        let Some(token) = self.place_here(arrival, is_tcp, true) else { return };
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let outgoing = direction == Direction::Outgoing;
        conn.rare.set(Rare::OUTGOING, outgoing);
        conn.datagrams = datagrams;
        conn.auto_pause = self.core.options.auto_pause && !outgoing;
        let extra = conn.extra_mut();
        extra.shared = Some(promise.keep(token));
        extra.promise = Some(promise);
        extra.attachment = attachment;
        self.begin_opening(token);
    }

    fn place_here(
        &mut self,
        arrival: Arrival<D::Stream>,
        is_tcp: bool,
        all_options: bool,
    ) -> Option<Token> {
        let Arrival { stream, peer, listener, .. } = arrival;
        if self.core.stopping {
            return None;
        }
        if let Err(error) = self.prepare(&stream, is_tcp, all_options) {
            log::warn!("a connection from {peer} was refused: {error}");
            return None;
        }
        let mut conn = ConnCore::new(peer, Phase::Opening);
        conn.listener = listener;
        let Some(token) = self.core.table.insert(conn) else {
            log::warn!("a connection was refused: this loop's table is full");
            return None;
        };
        self.note_held();
        if let Err(error) = self.driver.open(token, stream) {
            self.core.table.remove(token);
            log::warn!("a connection was refused: {error}");
            return None;
        }
        Some(token)
    }

    /// Sets the options of a new connection's socket.
    pub(super) fn prepare(
        &mut self,
        stream: &D::Stream,
        is_tcp: bool,
        all: bool,
    ) -> io::Result<()> {
        let Some(socket) = D::unopened_socket(stream) else { return Ok(()) };
        let options = &self.core.options;
        if all {
            options.listen.socket.apply(SockRef::from(&*socket), is_tcp)?;
        }
        let Some(hook) = options.connection_hook.clone() else { return Ok(()) };
        let called = self.with_nothing("the connections' socket hook", None, || hook(&socket));
        called.unwrap_or_else(|| Err(io::Error::other("the socket hook panicked")))
    }

    /// Arms what was set while the connection was being made, or what the server's options say.
    fn start_timers(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let timer_was_due = conn.rare.set(Rare::TIMER_WAS_DUE, false);
        let options = Timeouts::of(&self.core.options);
        self.core.set_timeouts(token, |own| *own = own.or(options));
        if timer_was_due {
            self.core.set_timer(token, self.core.now, Some(Duration::ZERO));
        }
    }

    /// Calls on_open for a connection that the driver has opened.
    pub(super) fn opened(&mut self, token: Token) {
        self.core.shared.metrics.opened.add(1);
        self.states.ensure(token.index);
        self.start_timers(token);
        let mut has_attachment = false;
        if let Some(conn) = self.core.table.get_mut(token)
            && let Some(extra) = &mut conn.extra
        {
            // It counts as open now.
            extra.promise = None;
            end_of_opening(extra, &self.core.shared);
            has_attachment = extra.attachment.is_some();
            // Without one a connection takes the shortest ways.
            conn.extra.take_if(|extra| extra.is_empty());
        }
        let state = self.with_conn("on_open", token, |handler, conn| handler.on_open(conn));
        if let Some(place) = self.states.get_mut(token.index) {
            *place = state;
        }
        if has_attachment {
            self.drop_attachment(token);
        }
        self.settle(token);
    }

    /// It was for on_open alone.
    #[cold]
    fn drop_attachment(&mut self, token: Token) {
        let Some(conn) = self.core.table.get_mut(token) else { return };
        let Some(extra) = &mut conn.extra else { return };
        if extra.attachment.take().is_some() {
            conn.extra.take_if(|extra| extra.is_empty());
        }
    }
}
