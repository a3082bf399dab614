//! The checker's view from above: after each turn the loop's tables against the network's, and
//! when the loop has ended, that nothing is left.

use std::sync::PoisonError;

use super::{Sabotage, Simulation};
use crate::conn::state::Phase;

/// A stop may take this much longer than it was given: timers are to the millisecond.
const LEEWAY: u64 = 10_000;

impl Simulation {
    pub(super) fn check_turn(&mut self) {
        if self.network.borrow().sabotages(Sabotage::KeepBuffer) && self.turns == 3 {
            drop(self.reactor.core_mut().pool.take(1));
        }
        if let Err(rule) = self.reactor.check_between_turns() {
            self.network.borrow_mut().fail(rule);
        }
        self.note_relayed();
        self.check_streams();
        self.check_outcomes();
        self.check_budget();
        self.check_admission();
        let mut network = self.network.borrow_mut();
        if self.reactor.has_no_mail()
            && let Some(since) = network.ledger.mail_since.take()
            && network.now > since + LEEWAY
        {
            network.fail("mail of other threads has waited: nobody rang".to_owned());
        }
        let late = network.ledger.stop_deadline.is_some_and(|d| network.now > d + LEEWAY);
        if late && !self.reactor.is_stopped() {
            network.fail("the stop's deadline has passed".to_owned());
        }
    }

    /// What the loop says to have relayed is compared with what arrives.
    fn note_relayed(&mut self) {
        let mut network = self.network.borrow_mut();
        for (token, link) in self.reactor.driver().open_streams() {
            let conn = self.reactor.core().table.get(token);
            let extra = conn.and_then(|conn| conn.extra.as_ref());
            if let Some(relay) = extra.and_then(|extra| extra.relay.as_ref()) {
                network.has_relayed(link, relay.bytes as usize);
            }
        }
    }

    /// The loop and the driver agree about every stream.
    fn check_streams(&mut self) {
        let has_no_mail = self.reactor.has_no_mail();
        let low = self.reactor.core().options.low_watermark();
        let mut found = None;
        let core = self.reactor.core();
        let network = self.network.borrow();
        let mut open = 0;
        for (token, link) in self.reactor.driver().open_streams() {
            open += 1;
            let Some(conn) = core.table.get(token) else {
                found = Some((link, "the driver has a stream that the loop has forgotten"));
                continue;
            };
            let connection = &network.links[link];
            let book = &connection.book;
            let told_end = connection.fin_told || connection.reset_told;
            let connects = matches!(conn.phase, Phase::Connecting | Phase::Attempt);
            let rests = !conn.dirty && !connects;
            let pending = book.written + book.queued + book.relayed_in
                - book.taken_written
                - book.taken_queued
                - book.taken_relayed;
            let takes_all = conn.phase == Phase::Open && conn.takes_output() && has_no_mail;
            let waits = conn.send_blocked && matches!(conn.phase, Phase::Open | Phase::Closing);
            let rules = [
                (waits && !connection.blocked, "it waits for a Writable that will not come"),
                (rests && !told_end && conn.receiving != connection.receiving, "receiving"),
                (
                    rests && conn.phase == Phase::Open && book.paused && connection.receiving,
                    "it is paused, and the driver receives",
                ),
                (takes_all && conn.outbound.len() < pending, "output is lost"),
                (
                    takes_all && rests && book.owed_drain && conn.outbound.len() <= low,
                    "on_drain is forgotten",
                ),
                (takes_all && book.wakes_asked != book.wakes_told, "a wake is lost"),
                (
                    takes_all
                        && network.ledger.broadcasts.is_empty()
                        && conn.outbound.len() > pending,
                    "output comes from nowhere",
                ),
            ];
            let broken = rules.into_iter().find_map(|(broken, rule)| broken.then_some(rule));
            found = found.or(broken.map(|rule| (link, rule)));
        }
        let connecting = (0..core.table.bound()).filter_map(|index| core.table.token_at(index));
        let connecting = connecting.filter_map(|token| core.table.get(token));
        let connecting = connecting.filter(|conn| conn.phase == Phase::Connecting).count();
        if open > core.table.len() || open + connecting < core.table.len() {
            found = Some((open, "the loop has connections without a stream"));
        }
        drop(network);
        if let Some((link, rule)) = found {
            self.network.borrow_mut().fail(format!("link {link}: {rule}"));
        }
    }

    /// The limits on who may come in are kept, by the network's count and the loop's own.
    fn check_admission(&mut self) {
        let mut network = self.network.borrow_mut();
        network.check_limits();
        let admission = &self.reactor.core().server.shared.admission;
        if admission.is_counting() && admission.open() != network.accepted_and_open(None) {
            network.fail("the places of connections are counted wrong".to_owned());
        }
        for number in 0..network.listeners.len() {
            let rests = network.listeners[number].as_ref().is_some_and(|backlog| backlog.resting);
            if rests && !self.reactor.will_accept_again(number as u32) {
                network.fail(format!("listener {number} rests for ever"));
            }
        }
    }

    /// Writes whose end somebody wanted to know.
    fn check_outcomes(&mut self) {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut network = self.network.borrow_mut();
        for outcome in &outcomes[self.outcomes_seen..] {
            let link = &network.links[outcome.link];
            let book = &link.book;
            let ended = book.is_ending()
                || book.handle_closed
                || book.shut_write
                || link.fin_told
                || link.reset_told
                || link.broken
                || network.ledger.stop_asked.is_some()
                || self.is_to_end(outcome.link);
            if outcome.sent && book.taken_queued < outcome.end {
                network.fail("a write is said to be sent, and is not".to_owned());
            } else if !outcome.sent && !ended {
                network.fail("a write is said to be lost, and nobody closed".to_owned());
            }
        }
        self.outcomes_seen = outcomes.len();
    }

    /// A limit was passed, and on_close waits for one of the next turns.
    fn is_to_end(&self, link: usize) -> bool {
        let mut streams = self.reactor.driver().open_streams();
        let token = streams.find(|(_, other)| *other == link).map(|(token, _)| token);
        let conn = token.and_then(|token| self.reactor.core().table.get(token));
        conn.is_some_and(|conn| conn.is_ending() && conn.dirty)
    }

    /// The loop has ended: everything is closed, given back and told.
    pub(super) fn check_stopped(&mut self) {
        self.check_outcomes();
        let core = self.reactor.core();
        let mut network = self.network.borrow_mut();
        let asked = self.asked.get();
        let metrics = &self.shared.metrics;
        let ledger = &network.ledger;
        let outcome_of = |book: &crate::driver::sim::Book| book.opened + book.connect_failed;
        let connects = network.links.iter().filter(|link| link.outgoing);
        let connects: usize = connects.map(|link| outcome_of(&link.book)).sum();
        let sockets = network.datagram_sockets.len();
        let unsent = (0..sockets).any(|socket| {
            network.unsent_replies(socket) > 0 && !network.is_datagram_blocked(socket)
        });
        let rules = [
            (core.table.len() > 0, "connections are left"),
            (core.pool.lent() > 0, "buffers are left"),
            (core.pool.held() > 0, "memory is held"),
            (core.server.shared.admission.open() > 0, "places are left taken"),
            (self.reactor.driver().open_streams().next().is_some(), "streams are left"),
            (network.listeners.iter().any(Option::is_some), "listeners are left"),
            (ledger.opened != ledger.closed, "not every on_open has its on_close"),
            (ledger.shutdowns != 1, "on_shutdown came not once"),
            (ledger.connects != connects, "a connect has no outcome"),
            (self.reactor.handler().jobs_run != asked.jobs, "jobs were lost"),
            (self.outcomes_seen != asked.outcomes, "outcomes of writes were lost"),
            (metrics.panics.get() != ledger.panics as u64, "a panic was not meant"),
            (unsent, "answers to datagrams were lost"),
            (metrics.accepted.get() != network.limits.accepted as u64, "accepted is counted wrong"),
            (metrics.opened.get() != ledger.opened as u64, "opened is counted wrong"),
            (metrics.closed.get() != ledger.closed as u64, "closed is counted wrong"),
            (metrics.bytes_in.get() != ledger.delivered as u64, "bytes_in is counted wrong"),
            (metrics.bytes_out.get() != ledger.taken as u64, "bytes_out is counted wrong"),
        ];
        let broken = rules.into_iter().find_map(|(broken, rule)| broken.then_some(rule));
        if let Some(rule) = broken {
            network.fail(format!("at the end: {rule}"));
        }
    }
}
