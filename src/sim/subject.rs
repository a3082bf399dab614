//! The handler under test: on each connection in another way, and never in the same way twice.
//! Whatever it is told and whatever it does goes into the ledger first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::plan::Plan;
use crate::conn::Conn;
use crate::conn::context::Context;
use crate::conn::datagram::Datagram;
use crate::conn::handle::ConnHandle;
use crate::conn::id::ConnId;
use crate::conn::input::Input;
use crate::driver::sim::{PLANNED_PANIC, Sabotage, SharedNetwork, link_of};
use crate::error::CloseReason;
use crate::handler::{Action, Handler};

/// Handles that the other threads have, each with its link.
pub(crate) type Handles = Rc<RefCell<Vec<(usize, ConnHandle)>>>;

/// How much of its input a connection consumes in one call.
#[derive(Debug, Clone, Copy)]
enum Appetite {
    All,
    UpTo(usize),
    /// Whole frames of this length only.
    Frames(usize),
    Never,
}

/// What it does with what it consumes.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Echo,
    Amplify(usize),
    Nothing,
    /// Hands it to another connection.
    Forward(Option<ConnId>),
}

/// What the subject keeps for each connection.
pub(crate) struct State {
    pub(crate) link: usize,
    appetite: Appetite,
    answer: Answer,
}

pub(crate) struct Subject {
    pub(crate) network: SharedNetwork,
    pub(crate) plan: Plan,
    pub(crate) handles: Handles,
    /// Every connection that was opened or asked for and has not ended.
    pub(crate) links: BTreeMap<ConnId, usize>,
    pub(crate) connects_left: usize,
    pub(crate) jobs_run: usize,
    /// Where the input of a link goes.
    pub(crate) relays: BTreeMap<usize, ConnId>,
    /// Bytes that each link may still write of its own accord.
    pub(crate) budgets: BTreeMap<usize, usize>,
}

impl Subject {
    pub(crate) fn new(network: SharedNetwork, plan: Plan, handles: Handles) -> Self {
        let connects_left = plan.connects;
        Subject {
            network,
            plan,
            handles,
            links: BTreeMap::new(),
            connects_left,
            jobs_run: 0,
            relays: BTreeMap::new(),
            budgets: BTreeMap::new(),
        }
    }

    fn called(&mut self, state: &State, what: &'static str) {
        let mut network = self.network.borrow_mut();
        network.calls(state.link, what);
        if network.random.chance(self.plan.panics) {
            network.links[state.link].book.panicked = true;
            network.ledger.panics += 1;
            network.note("panics", state.link, 0);
            drop(network);
            panic!("{PLANNED_PANIC}");
        }
    }

    fn state_by_chance(&mut self, link: usize, conn: &mut Conn<'_>) -> State {
        let (appetite, answer) = {
            let random = &mut self.network.borrow_mut().random;
            let appetite = match random.below(8) {
                _ if random.chance(self.plan.never) => Appetite::Never,
                0 | 1 => Appetite::UpTo(random.size(2_000)),
                2 => Appetite::Frames(random.size(3_000)),
                _ => Appetite::All,
            };
            let answer = match random.below(8) {
                0 => Answer::Nothing,
                1 => Answer::Amplify(random.between(2, 10)),
                2 | 3 => Answer::Forward(None),
                _ => Answer::Echo,
            };
            (appetite, answer)
        };
        let answer = match answer {
            Answer::Forward(_) => {
                let initiator = conn.initiator();
                Answer::Forward(initiator.or_else(|| self.connect(conn)))
            }
            answer => answer,
        };
        let relayed = self.network.borrow().links[link].peer.kind.is_some();
        if relayed {
            // What nobody writes but he who relays must not be written otherwise.
            self.relay_at_once(conn, link, answer);
            return State { link, appetite, answer: Answer::Nothing };
        }
        State { link, appetite, answer }
    }

    /// Relays to whom it would otherwise forward to, or to anybody.
    fn relay_at_once(&mut self, conn: &mut Conn<'_>, link: usize, answer: Answer) {
        let other = match answer {
            Answer::Forward(other) => other.and_then(|id| Some((id, *self.links.get(&id)?))),
            Answer::Nothing => None,
            _ => self.any_other_link(link),
        };
        if let Some((other, to)) = other {
            self.relay(conn, link, other, to);
        }
    }

    /// Consumes some of the input and answers it.
    fn consume(&mut self, conn: &mut Conn<'_>, state: &mut State, input: &mut Input<'_>) {
        let there = input.len();
        let wanted = match state.appetite {
            Appetite::All => there,
            // Not byte by byte through a megabyte.
            Appetite::UpTo(most) => {
                let most = most.max(there / 50);
                self.network.borrow_mut().random.size(most).min(there)
            }
            Appetite::Frames(length) => there - there % length,
            Appetite::Never => 0,
        };
        let Some(bytes) = input.take(wanted) else { return };
        self.network.borrow_mut().links[state.link].book.consumed += wanted;
        match state.answer {
            Answer::Echo => self.write(conn, state.link, bytes),
            Answer::Amplify(times) => {
                for _ in 0..times {
                    self.write(conn, state.link, bytes);
                }
            }
            Answer::Nothing | Answer::Forward(None) => {}
            Answer::Forward(Some(other)) => {
                let link = self.links.get(&other).copied();
                if let (Some(mut peer), Some(link)) = (conn.peer(other), link) {
                    self.write(&mut peer, link, bytes);
                }
            }
        }
    }

    /// The other threads may have this one.
    fn hand_out(&mut self, conn: &mut Conn<'_>, link: usize) {
        if self.plan.handles && self.network.borrow_mut().random.chance(500) {
            self.handles.borrow_mut().push((link, conn.handle()));
        }
    }
}

impl Handler for Subject {
    type State = State;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> State {
        let known = self.links.get(&conn.id()).copied();
        // Every address in this network is a link's.
        let link = link_of(&conn.peer_addr()).or(known).unwrap_or_default();
        if let Some(asked) = known.filter(|asked| *asked != link) {
            self.network.borrow_mut().moves(asked, link);
        }
        self.links.insert(conn.id(), link);
        self.network.borrow_mut().opens(link);
        self.hand_out(conn, link);
        let state = self.state_by_chance(link, conn);
        let action = self.act(conn, link);
        match action {
            Action::Continue => {}
            Action::Close => conn.close(),
            Action::Shutdown => conn.stop_server(),
        }
        state
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        state: &mut State,
        input: &mut Input<'_>,
    ) -> Action {
        self.called(state, "on_traffic");
        self.is_offered(conn, state.link);
        self.network.borrow_mut().offers(state.link, input.as_slice());
        self.consume(conn, state, input);
        self.act(conn, state.link)
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        let (payload, peer) = (datagram.payload(), datagram.peer_addr());
        let mut network = self.network.borrow_mut();
        network.sees_datagram(0, payload, peer);
        if network.random.chance(700) {
            network.replies(0, peer, payload);
            drop(network);
            datagram.reply(payload);
        }
        Action::Continue
    }

    fn pre_write(&mut self, conn: &mut Conn<'_>, state: &mut State, pending: usize) {
        self.called(state, "pre_write");
        if pending == 0 {
            self.network.borrow_mut().fail("pre_write with nothing pending".to_owned());
        }
        let writes = {
            let mut network = self.network.borrow_mut();
            let peak = &mut network.links[state.link].book.peak;
            *peak = pending.max(*peak);
            network.random.chance(self.plan.acts / 20)
        };
        if writes {
            self.write_some(conn, state.link);
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, state: &mut State) -> Action {
        self.called(state, "on_drain");
        self.network.borrow_mut().drains(state.link, conn.pending());
        self.act(conn, state.link)
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, state: &mut State) -> Action {
        self.called(state, "on_eof");
        self.network.borrow_mut().has_relayed(state.link, conn.relayed() as usize);
        let stays = {
            let mut network = self.network.borrow_mut();
            let half_close = network.ledger.half_close;
            let again = std::mem::replace(&mut network.links[state.link].book.eof_told, true);
            if again || !half_close {
                network.fail("on_eof is not due".to_owned());
            }
            network.ends_input(state.link);
            network.random.chance(400)
        };
        match self.act(conn, state.link) {
            Action::Continue if stays => Action::Continue,
            Action::Continue | Action::Close => {
                self.network.borrow_mut().links[state.link].book.asked_close = true;
                Action::Close
            }
            Action::Shutdown => Action::Shutdown,
        }
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, state: &mut State) -> Action {
        self.called(state, "on_wake");
        let told = {
            let book = &mut self.network.borrow_mut().links[state.link].book;
            book.wakes_told += 1;
            book.wakes_told <= book.wakes_asked
        };
        if !told {
            self.network.borrow_mut().fail("on_wake without a wake".to_owned());
        }
        self.resume(conn, state.link);
        self.act(conn, state.link)
    }

    fn on_timer(&mut self, conn: &mut Conn<'_>, state: &mut State) -> Action {
        self.called(state, "on_timer");
        if self.network.borrow_mut().random.chance(700) {
            self.resume(conn, state.link);
        }
        self.act(conn, state.link)
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        self.network.borrow_mut().note("on_tick", 0, 0);
        self.act_on_all(cx);
        let wait = self.network.borrow_mut().random.below(300);
        self.plan.ticks.then(|| Duration::from_millis(wait))
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, state: State, reason: CloseReason) {
        self.links.remove(&conn.id());
        self.relays.remove(&state.link);
        self.network.borrow_mut().stops_relaying(state.link, conn.relayed() as usize);
        let forgets = self.network.borrow().sabotages(Sabotage::ForgetClose);
        let twice = self.network.borrow().sabotages(Sabotage::CloseTwice);
        for _ in 0..(1 + usize::from(twice)) * usize::from(!forgets) {
            self.network.borrow_mut().closes(state.link, &reason);
        }
        // What is written now goes nowhere, and what is asked for has no effect.
        if conn.write(b"late") != 0 {
            self.network.borrow_mut().fail("on_close can write".to_owned());
        }
        conn.set_timer(Duration::from_millis(1));
        conn.close();
        conn.resume_reading();
        let others: Vec<ConnId> = self.links.keys().copied().take(3).collect();
        for other in others {
            let link = self.links[&other];
            if let Some(mut peer) = conn.peer(other) {
                self.act_on(&mut peer, link);
            }
        }
    }

    fn on_open_failed(&mut self, conn: &mut Conn<'_>, reason: CloseReason) {
        let link = self.links.remove(&conn.id());
        let mut network = self.network.borrow_mut();
        let Some(link) = link else {
            return network.fail("a connect failed that was not asked for".to_owned());
        };
        network.fails_to_open(link, &reason);
    }

    fn on_shutdown(&mut self, _: &mut Context<'_, Self>) {
        let mut network = self.network.borrow_mut();
        network.note("on_shutdown", 0, 0);
        network.ledger.shutdowns += 1;
        if network.ledger.opened != network.ledger.closed {
            network.fail("on_shutdown comes before the last on_close".to_owned());
        }
    }
}
