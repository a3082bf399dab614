//! What other threads do to the server under test, while its loop sleeps: everything that handles
//! allow, from the same thread, so that a seed stays a run.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use super::plan::Plan;
use super::subject::{Handles, Subject};
use crate::conn::handle::LoopHandle;
use crate::control::ServerHandle;
use crate::driver::sim::{Item, SharedNetwork, broadcast_byte, queued_pattern};

/// A first byte tells a broadcast for as long as there are no more of them.
const BROADCASTS: usize = 60;

/// What became of a write whose end somebody wanted to know.
pub(super) struct Outcome {
    pub(super) link: usize,
    /// The last of its bytes, counted from the link's first.
    pub(super) end: usize,
    pub(super) sent: bool,
}

pub(super) struct Threads {
    pub(super) network: SharedNetwork,
    pub(super) plan: Plan,
    pub(super) handles: Handles,
    pub(super) server: ServerHandle,
    pub(super) event_loop: LoopHandle<Subject>,
    pub(super) asked: Rc<std::cell::Cell<Asked>>,
    pub(super) outcomes: Arc<Mutex<Vec<Outcome>>>,
}

/// How much was asked for and accepted.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Asked {
    pub(super) outcomes: usize,
    pub(super) jobs: usize,
}

impl Threads {
    /// One visit.
    pub(super) fn act(&mut self) {
        let times = {
            let mut network = self.network.borrow_mut();
            let (now, pause) = (network.now, self.plan.threads);
            let after = 1 + network.random.below(pause);
            network.schedule(after, Item::Threads);
            if now >= self.plan.lifetime && network.ledger.stop_asked.is_none() {
                network.asks_stop(self.plan.stop_within);
                drop(network);
                return self.server.stop_within(self.plan.stop_within);
            }
            network.random.between(1, 3)
        };
        let jobs = self.asked.get().jobs;
        for _ in 0..times {
            self.act_once();
        }
        if self.asked.get().jobs > jobs || !self.server.shared.loops[0].commands.is_empty() {
            let mut network = self.network.borrow_mut();
            let now = network.now;
            network.ledger.mail_since.get_or_insert(now);
        }
    }

    fn act_once(&mut self) {
        let choice = self.network.borrow_mut().random.below(10);
        match choice {
            0 => self.run_job(),
            1 if self.plan.broadcasts => self.broadcast(),
            _ => self.use_handle(),
        }
    }

    fn run_job(&mut self) {
        let accepted = self.event_loop.execute(|subject, cx| {
            subject.jobs_run += 1;
            subject.network.borrow_mut().note("job", 0, 0);
            subject.act_on_all(cx);
        });
        let mut asked = self.asked.get();
        asked.jobs += usize::from(accepted.is_ok());
        self.asked.set(asked);
    }

    fn broadcast(&mut self) {
        let (number, length) = {
            let mut network = self.network.borrow_mut();
            let most = network.weather.window.min(2_000);
            let length = network.random.size(most);
            network.ledger.broadcasts.push(length);
            (network.ledger.broadcasts.len() - 1, length)
        };
        let sent = number < BROADCASTS
            && self.server.broadcast(vec![broadcast_byte(number); length]).is_ok();
        if !sent {
            self.network.borrow_mut().ledger.broadcasts.pop();
        }
    }

    fn use_handle(&mut self) {
        let handles = self.handles.borrow();
        let mut network = self.network.borrow_mut();
        let pick = network.random.below(handles.len() as u64) as usize;
        let Some((link, handle)) = handles.get(pick) else { return };
        let choice = network.random.below(60);
        let most = self.plan.write.min(100_000).min(network.links[*link].window * 30);
        let length = network.random.size(most);
        network.note("thread", *link, choice as usize);
        let book = &mut network.links[*link].book;
        let places = book.queued..book.queued + length;
        let end = places.end;
        let bytes = |link: usize| -> Vec<u8> {
            places.clone().map(|place| queued_pattern(link, place)).collect()
        };
        let mut asked = self.asked.get();
        match choice {
            0 => {
                if handle.close().is_ok() {
                    book.handle_closed = true;
                }
            }
            1..=12 => book.wakes_asked += usize::from(handle.wake().is_ok()),
            13..=30 => {
                let (link, outcomes) = (*link, Arc::clone(&self.outcomes));
                let sent = handle.write_then(bytes(link), move |result| {
                    let outcome = Outcome { link, end, sent: result.is_ok() };
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                });
                if sent.is_ok() {
                    book.queued = end;
                    asked.outcomes += 1;
                }
            }
            _ => {
                if handle.write(bytes(*link)).is_ok() {
                    book.queued = end;
                }
            }
        }
        self.asked.set(asked);
    }
}
