//! The checker's view of the memory budget, which is a brake: above it, whoever holds much is not
//! read from, until all together hold well below it.

use std::collections::BTreeMap;

use super::Simulation;
use crate::conn::core::Core;
use crate::conn::state::Phase;
use crate::driver::Token;
use crate::driver::sim::Network;

/// Who holds less is not held back.
const SMALL: usize = 4096;

/// What the last turn left.
#[derive(Default)]
pub(super) struct BudgetWatch {
    was_over: bool,
    /// The loop has held well below the budget and somebody back.
    was_stuck: bool,
    connections: usize,
    /// What was ever freed: sent, consumed, closed.
    freed: usize,
    /// The largest share of one connection since the budget was last kept.
    share: usize,
    /// Of those that are held back, the input that is kept and what was ever consumed.
    held_back: BTreeMap<(u32, u32), (usize, usize)>,
    delivered: BTreeMap<usize, usize>,
}

type Streams = Vec<(Token, usize)>;

impl Simulation {
    pub(super) fn check_budget(&mut self) {
        let Some(budget) = self.reactor.core().options.memory_budget else { return };
        let streams: Streams = self.reactor.driver().open_streams().collect();
        let mut network = self.network.borrow_mut();
        let watch = &mut self.budget;
        let core = self.reactor.core();
        let rule = watch
            .reading(core, &network, &streams)
            .or_else(|| watch.sum(core, budget))
            .or_else(|| watch.marking(core, &network, &streams, budget))
            .or_else(|| watch.letting_go(core, budget));
        if let Some(rule) = rule {
            network.fail(format!("memory budget: {rule}"));
        }
        watch.remember(core, &network, &streams, budget);
    }
}

fn freed(network: &Network) -> usize {
    let consumed: usize = network.links.iter().map(|link| link.book.consumed).sum();
    network.ledger.taken + consumed + network.ledger.closed
}

fn key(token: Token) -> (u32, u32) {
    (token.index, token.generation)
}

impl BudgetWatch {
    /// Whoever is held back is not read from.
    fn reading(&self, core: &Core, network: &Network, streams: &Streams) -> Option<String> {
        streams.iter().find_map(|&(token, link)| {
            let conn = core.table.get(token)?;
            if !conn.held_back || conn.phase != Phase::Open || conn.dirty {
                return None;
            }
            // One that has nothing left for a moment is let go, and may be held back anew.
            let has_grown = self.held_back.get(&key(token)).is_some_and(|&(kept, consumed)| {
                let same = consumed == network.links[link].book.consumed;
                kept > 0 && same && conn.inbound.len() > kept
            });
            if network.links[link].receiving || has_grown {
                return Some(format!("link {link} is held back, and read from"));
            }
            None
        })
    }

    /// The brake holds: each connection that is above its share when the budget is used up
    /// brings in one buffer more, the others what is up to their share.
    fn sum(&self, core: &Core, budget: usize) -> Option<String> {
        let (mut input, mut connections) = (0, 0);
        for index in 0..core.table.bound() {
            if let Some(conn) = core.table.token_at(index).and_then(|token| core.table.get(token)) {
                input += conn.inbound.len();
                connections += 1;
            }
        }
        let each = SMALL + 2 * core.options.receive_buffer + self.share;
        let most = budget + connections * each;
        (input > most).then(|| format!("{input} bytes of input are kept, at most {most} may be"))
    }

    /// Whoever has received while the budget was used up, and holds more than others, is held back.
    fn marking(
        &self,
        core: &Core,
        network: &Network,
        streams: &Streams,
        budget: usize,
    ) -> Option<String> {
        let held = core.pool.held();
        if held <= budget || freed(network) != self.freed {
            return None;
        }
        let most = (held / self.connections.min(core.table.len()).max(1)).max(SMALL);
        streams.iter().find_map(|&(token, link)| {
            let conn = core.table.get(token)?;
            let has_received =
                self.delivered.get(&link) != Some(&network.links[link].book.delivered);
            let holds = conn.inbound.len() + conn.outbound.len();
            // It was over when this one was looked at: before the turn, or by this one alone.
            let was_over = self.was_over || conn.inbound.len() > budget;
            let is_due = was_over && has_received && holds > most;
            // One that waits to be attended to is looked at then.
            let rests = conn.phase == Phase::Open && !conn.dirty;
            (rests && is_due && !conn.held_back)
                .then(|| format!("link {link} holds {holds} bytes, and is not held back"))
        })
    }

    /// Nobody is held back for nothing.
    fn letting_go(&mut self, core: &Core, budget: usize) -> Option<String> {
        let is_low = core.pool.held() <= budget / 4 * 3;
        let mut conns = (0..core.table.bound())
            .filter_map(|index| core.table.get(core.table.token_at(index)?))
            .filter(|conn| conn.phase == Phase::Open);
        let is_stuck = is_low && conns.any(|conn| conn.held_back);
        let was_stuck = std::mem::replace(&mut self.was_stuck, is_stuck);
        // What the end of a turn frees is seen by the next one's.
        (is_stuck && was_stuck).then(|| "somebody is held back for nothing".to_owned())
    }

    fn remember(&mut self, core: &Core, network: &Network, streams: &Streams, budget: usize) {
        let held = core.pool.held();
        self.was_over = held > budget;
        self.connections = core.table.len();
        self.freed = freed(network);
        let share = held / self.connections.max(1);
        self.share = if self.was_over { self.share.max(share) } else { share };
        self.held_back.clear();
        self.delivered.clear();
        for &(token, link) in streams {
            self.delivered.insert(link, network.links[link].book.delivered);
            if let Some(conn) = core.table.get(token).filter(|conn| conn.held_back) {
                let consumed = network.links[link].book.consumed;
                self.held_back.insert(key(token), (conn.inbound.len(), consumed));
            }
        }
    }
}
