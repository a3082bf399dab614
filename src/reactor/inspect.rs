//! For simulations: what must hold between two turns, whatever has happened.

use crate::conn::core::{Core, Timer};
use crate::conn::outbox::Outbox;
use crate::conn::rare::Rare;
use crate::conn::state::{ConnCore, Phase};
use crate::conn::timeouts::Silence;
use crate::driver::{Driver, Token};
use crate::handler::Handler;
use crate::reactor::Reactor;

/// Watches are to the millisecond, and counted from one moment or other of a turn.
const LEEWAY: i32 = 5;

impl<D: Driver, H: Handler> Reactor<D, H> {
    pub(crate) fn driver(&self) -> &D {
        &self.driver
    }

    pub(crate) fn handler(&self) -> &H {
        &self.handler
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    pub(crate) fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Whether everything that other threads have asked for is carried out.
    pub(crate) fn has_no_mail(&self) -> bool {
        self.commands.is_empty() && self.core.shared.commands.is_empty() && self.jobs.is_empty()
    }

    /// Whether something ends a listener's rest.
    pub(crate) fn will_accept_again(&self, listener: u32) -> bool {
        let waits = self.waiting.iter().any(|waiting| u32::from(waiting.listener) == listener);
        let is_rest = |timer: &Timer| matches!(timer, Timer::AcceptRest(l) if *l == listener);
        (waits && self.looks_for_places) || self.core.wheel.count(is_rest) > 0
    }

    /// Checks every connection, and that memory and timers are those of the connections. What it
    /// answers is the rule that is broken.
    pub(crate) fn check_between_turns(&self) -> Result<(), String> {
        let core = &self.core;
        let (mut buffers, mut timers, mut held) = (0, 0, 0);
        for index in 0..core.table.bound() {
            let Some(token) = core.table.token_at(index) else { continue };
            let Some(conn) = core.table.get(token) else { continue };
            buffers += usize::from(!conn.inbound.is_empty()) + conn.outbound.owned_chunks();
            held += conn.inbound.held() + conn.outbound.held();
            timers += usize::from(conn.timer.is_some()) + usize::from(conn.watch.is_some());
            if let Some(rule) = self.broken_rule(token, conn) {
                return Err(format!("slot {index}, {:?}: {rule}", conn.phase));
            }
        }
        if core.pool.lent() != buffers {
            return Err(format!("{} buffers are lent, {buffers} in use", core.pool.lent()));
        }
        if core.pool.held() != held {
            return Err(format!("{} bytes count as held, {held} are", core.pool.held()));
        }
        let unsent = |outbox: &Outbox| !outbox.is_empty() && !outbox.is_blocked();
        if core.outboxes.iter().any(unsent) {
            return Err("a datagram was not sent in the turn that wrote it".to_owned());
        }
        // It walks all timers there have ever been: not in each turn.
        if !self.core.shared.metrics.turns.get().is_multiple_of(16) {
            return Ok(());
        }
        let armed = core.wheel.count(|timer| matches!(timer, Timer::Conn(_) | Timer::Watch(_)));
        if armed != timers {
            return Err(format!("{armed} timers of connections are armed, {timers} known"));
        }
        Ok(())
    }

    fn broken_rule(&self, token: Token, conn: &ConnCore) -> Option<&'static str> {
        let listed = self.core.dirty.contains(&token);
        if conn.dirty != listed {
            return Some("marked to be attended to without being on the list, or the reverse");
        }
        let rests = !listed && !self.core.urgent.contains(&token);
        if let Some(rule) = self.broken_relay(token, conn, rests) {
            return Some(rule);
        }
        if conn.held_back && !(self.minds_budget && self.held_back.contains(&token)) {
            return Some("it is held back for ever");
        }
        match conn.phase {
            Phase::Open if rests => self.forgotten(conn),
            Phase::Open => None,
            Phase::Connecting => {
                let planned = self.core.connects.contains(&token);
                (!planned && conn.watch.is_none()).then_some("it may connect for ever")
            }
            Phase::Attempt => {
                let connection = conn.extra.as_ref().and_then(|extra| extra.attempt_for);
                let connection = connection.and_then(|token| self.core.table.get(token));
                let dial = connection.and_then(|conn| conn.extra.as_ref()?.dial.as_ref());
                let is_known = dial.is_some_and(|dial| dial.others.contains(&token));
                (!is_known).then_some("an attempt for nobody")
            }
            Phase::Opening => conn.watch.is_none().then_some("it may open for ever"),
            // A pipe's content may be on its way yet.
            Phase::Closing if conn.outbound.is_empty() && !conn.send_blocked => {
                Some("all is delivered, but not closed")
            }
            Phase::Closing if rests && !conn.send_blocked => Some("its last output is forgotten"),
            Phase::Closing => conn.watch.is_none().then_some("it may deliver for ever"),
            Phase::Lingering if !conn.inbound.is_empty() || !conn.outbound.is_empty() => {
                Some("it keeps memory")
            }
            Phase::Lingering => conn.watch.is_none().then_some("it may linger for ever"),
            Phase::Free => Some("it is in the table"),
        }
    }

    /// Who rests for the connection that its input goes to is known there, is not read from, and is
    /// woken when there is room. `rests`: nobody is going to attend to the connection.
    fn broken_relay(&self, token: Token, conn: &ConnCore, rests: bool) -> Option<&'static str> {
        let resting = |conn: &ConnCore| {
            let relay = conn.extra.as_ref().and_then(|extra| extra.relay.as_ref());
            relay.map_or(Vec::new(), |relay| relay.resting.clone())
        };
        let table = &self.core.table;
        if conn.rare.has(Rare::RELAY_RESTS) {
            let target = conn.relays_to().and_then(|to| table.get(to));
            let times = target.map_or(0, |target| {
                resting(target).into_iter().filter(|resting| *resting == token).count()
            });
            if times != 1 {
                return Some("it rests for one that does not know it, or knows it twice");
            }
        }
        let who = resting(conn);
        let is_known = |source: &Token| {
            table.get(*source).is_some_and(|source| {
                source.rare.has(Rare::RELAY_RESTS) && source.relays_to() == Some(token)
            })
        };
        if !who.iter().all(is_known) {
            return Some("it is to wake one that does not rest for it");
        }
        let has_room =
            !conn.send_blocked && conn.outbound.len() <= self.core.options.low_watermark();
        (rests && has_room && !who.is_empty()).then_some("others rest for it, and it has room")
    }

    /// What an open connection that nobody is going to attend to would wait for in vain.
    fn forgotten(&self, conn: &ConnCore) -> Option<&'static str> {
        let options = &self.core.options;
        let pending = conn.outbound.len();
        let takes_input = conn.takes_input();
        let done = pending == 0;
        let shuts = conn.want_shutdown_write && done;
        // Signed: a watch that is due and not looked at yet lies in the past.
        let watched_in = conn.watch_due.wrapping_sub(self.core.now_ms) as i32;
        let watched_too_late = match conn.silence(self.core.now_ms, self.core.patience) {
            Silence::For(rest) => conn.watch.is_none() || watched_in > rest as i32 + LEEWAY,
            Silence::TooLong(_) => conn.watch.is_none() || watched_in > LEEWAY,
            Silence::Allowed => false,
        };
        // While it is paused, one received buffer more may have come.
        let more = if takes_input { 0 } else { options.receive_buffer };
        let kept_at_most = options.max_unconsumed_input.saturating_add(more);
        [
            (conn.is_ending(), "its end is forgotten"),
            (!done && !conn.send_blocked, "its output is forgotten"),
            (conn.wants_receiving() != conn.receiving, "the driver receives, or does not"),
            (conn.want_drain, "on_drain is forgotten"),
            (conn.want_offer && takes_input, "leftover input is forgotten"),
            (conn.want_eof && takes_input, "the peer's FIN is forgotten"),
            (shuts && !conn.write_shut && !conn.send_blocked, "its FIN is forgotten"),
            (conn.write_shut && conn.eof && !conn.want_eof, "both have closed, and it is open"),
            (conn.above_high && pending <= options.low_watermark(), "it waits for a drain"),
            (
                conn.auto_paused && pending <= options.low_watermark(),
                "its reading rests for nothing",
            ),
            (
                conn.pauses_itself(options.high_watermark) && !conn.auto_paused,
                "its reading does not rest",
            ),
            (pending > options.max_pending_output, "too much output is pending"),
            (conn.inbound.len() > kept_at_most, "too much input is kept"),
            (watched_too_late, "a timeout of it is forgotten"),
        ]
        .into_iter()
        .find_map(|(broken, rule)| broken.then_some(rule))
    }
}
