//! What the handler under test does of its own accord: writes in every way there is, pauses,
//! sets timers, connects, closes in every way there is, its own connection and others.

use std::io::{IoSlice, Write};
use std::time::Duration;

use bytes::Bytes;

use super::subject::Subject;
use crate::addr::Endpoint;
use crate::conn::Conn;
use crate::conn::context::Context;
use crate::conn::dial::Connect;
use crate::conn::id::ConnId;
use crate::driver::sim::{Network, address_of, written_byte};
use crate::handler::Action;

impl Network {
    /// Somebody has asked the server to stop, with this much patience.
    pub(crate) fn asks_stop(&mut self, patience: Duration) {
        self.note("stop", patience.as_millis() as usize, 0);
        let deadline = self.now + patience.as_micros() as u64;
        let ledger = &mut self.ledger;
        ledger.stop_asked.get_or_insert(self.now);
        ledger.stop_deadline = Some(ledger.stop_deadline.unwrap_or(deadline).min(deadline));
    }
}

impl Subject {
    /// A callback's own doing, and its answer.
    pub(super) fn act(&mut self, conn: &mut Conn<'_>, link: usize) -> Action {
        let (acts, ends) = (self.plan.acts, self.plan.ends);
        let (here, there, closes) = {
            let random = &mut self.network.borrow_mut().random;
            (random.chance(acts), random.chance(acts / 2), random.chance(ends))
        };
        if here {
            self.act_on(conn, link);
        }
        if there && let Some((other, link)) = self.any_link() {
            let flushes = self.network.borrow_mut().random.chance(300);
            if let Some(mut peer) = conn.peer(other) {
                self.act_on(&mut peer, link);
                if flushes {
                    peer.flush();
                }
            }
        }
        if !closes {
            return Action::Continue;
        }
        let mut network = self.network.borrow_mut();
        if network.random.chance(20) {
            let patience = conn.server().shared.options.stop_timeout;
            network.asks_stop(patience);
            return Action::Shutdown;
        }
        network.links[link].book.asked_close = true;
        Action::Close
    }

    fn any_link(&mut self) -> Option<(ConnId, usize)> {
        let pick = self.network.borrow_mut().random.below(self.links.len() as u64);
        self.links.iter().nth(pick as usize).map(|(id, link)| (*id, *link))
    }

    /// To be relayed to: now and then it is the same.
    pub(super) fn any_other_link(&mut self, link: usize) -> Option<(ConnId, usize)> {
        let mut other = self.any_link()?;
        for _ in 0..4 {
            if other.1 == link {
                other = self.any_link()?;
            }
        }
        Some(other)
    }

    /// One thing done to a connection, its own or another.
    pub(super) fn act_on(&mut self, conn: &mut Conn<'_>, link: usize) {
        let (ends, choice, wait) = {
            let random = &mut self.network.borrow_mut().random;
            (random.chance(self.plan.ends * 3), random.below(14), random.below(3_000))
        };
        if ends {
            return self.end(conn, link);
        }
        let wait = Duration::from_millis(wait);
        match choice {
            0..=4 => self.write_some(conn, link),
            5 => {
                conn.pause_reading();
                self.network.borrow_mut().links[link].book.paused = true;
                // Who pauses for ever waits for the server's stop.
                conn.set_timer(wait / 4);
            }
            6 => self.resume(conn, link),
            7 => conn.set_timer(Some(wait).filter(|wait| wait.as_millis() % 4 > 0)),
            8 => self.set_timeout(conn, link, wait),
            9 => drop(self.connect(conn)),
            10 | 11 => self.change_relay(conn, link),
            12 => conn.set_auto_pause(wait.as_millis().is_multiple_of(2)),
            _ => conn.flush(),
        }
    }

    /// Relays to another one, or no more.
    fn change_relay(&mut self, conn: &mut Conn<'_>, link: usize) {
        let choice = self.network.borrow_mut().random.below(10);
        if choice < 5 && self.relays.contains_key(&link) {
            // It goes on, for else little would be relayed.
        } else if choice < 7 {
            self.relays.remove(&link);
            self.network.borrow_mut().stops_relaying(link, conn.relayed() as usize);
            conn.stop_relaying();
        } else if let Some((other, to)) = self.any_other_link(link) {
            self.relay(conn, link, other, to);
        }
    }

    pub(super) fn relay(&mut self, conn: &mut Conn<'_>, link: usize, other: ConnId, to: usize) {
        let may = self.network.borrow().may_relay(link, to);
        if may && conn.relay_to(other) {
            self.relays.insert(link, other);
            self.network.borrow_mut().relays(link, to, conn.relayed() as usize);
        }
    }

    /// on_traffic is called: nothing is relayed, if it was, as there is nobody to relay to.
    pub(super) fn is_offered(&mut self, conn: &mut Conn<'_>, link: usize) {
        let mut network = self.network.borrow_mut();
        network.stops_relaying(link, conn.relayed() as usize);
        if self.relays.remove(&link).is_some_and(|other| conn.peer(other).is_some()) {
            network.fail(format!("link {link}: input is offered that is to be relayed"));
        }
    }

    /// Sets one of the timeouts, or none.
    fn set_timeout(&mut self, conn: &mut Conn<'_>, link: usize, wait: Duration) {
        let timeout = Some(wait).filter(|wait| wait.as_millis() % 4 == 0);
        let mut network = self.network.borrow_mut();
        let which = network.random.between(0, 2);
        // Below a millisecond is one.
        let millis = timeout.map_or(0, |t| (t.as_millis() as u64).max(1));
        network.links[link].book.timeouts[which] = millis;
        match which {
            0 => conn.set_idle_timeout(timeout),
            1 => conn.set_read_idle_timeout(timeout),
            _ => conn.set_write_idle_timeout(timeout),
        }
    }

    /// Ends a connection in one of the ways.
    fn end(&mut self, conn: &mut Conn<'_>, link: usize) {
        let mut network = self.network.borrow_mut();
        let choice = network.random.below(7);
        network.note("ends it", link, choice as usize);
        let book = &mut network.links[link].book;
        match choice {
            0 | 1 => {
                book.asked_close = true;
                conn.close();
            }
            2 | 3 => {
                book.asked_abort = true;
                conn.abort();
            }
            _ => {
                book.shut_write = true;
                conn.shutdown_write();
            }
        }
    }

    pub(super) fn resume(&mut self, conn: &mut Conn<'_>, link: usize) {
        conn.resume_reading();
        self.network.borrow_mut().links[link].book.paused = false;
    }

    /// Asks for an outgoing connection, if there may be more of them.
    pub(super) fn connect(&mut self, conn: &mut Conn<'_>) -> Option<ConnId> {
        let (link, connect) = self.next_connect()?;
        // While the server stops there are none.
        let id = conn.connect(connect).ok()?;
        self.connecting(id, link);
        Some(id)
    }

    fn connecting(&mut self, id: ConnId, link: usize) {
        self.links.insert(id, link);
        let mut network = self.network.borrow_mut();
        network.ledger.connects += 1;
        network.note("asks to connect", link, 0);
    }

    /// Where to connect to next: to one address or several. The link is that of the first.
    fn next_connect(&mut self) -> Option<(usize, Connect)> {
        self.connects_left = self.connects_left.checked_sub(1)?;
        let mut network = self.network.borrow_mut();
        let link = network.reserve();
        let more = network.random.below(6).saturating_sub(2);
        let others: Vec<usize> = (0..more).map(|_| network.reserve()).collect();
        let endpoint: Endpoint = format!("tcp://{}", address_of(link)).parse().ok()?;
        let mut connect = Connect::to(&endpoint);
        if !others.is_empty() {
            connect = connect.addresses([link].into_iter().chain(others).map(address_of));
        }
        let timeout = network.random.below(1_000);
        if timeout > 0 && network.random.chance(300) {
            connect = connect.timeout(Duration::from_millis(timeout));
        }
        Some((link, connect))
    }

    pub(super) fn write_some(&mut self, conn: &mut Conn<'_>, link: usize) {
        let window = self.network.borrow().links[link].window;
        let budget = self.plan.budget.min(window.saturating_mul(300));
        let budget = self.budgets.entry(link).or_insert(budget);
        let bytes: Vec<u8> = {
            let random = &mut self.network.borrow_mut().random;
            let length = random.size(self.plan.write).min(*budget);
            let first = random.below(128) as usize;
            (first..first + length).map(|n| written_byte(n ^ (n >> 6))).collect()
        };
        *budget -= bytes.len();
        self.write(conn, link, &bytes);
    }

    /// Writes in one of the ways. It is taken as a whole, or not at all by a connection that ends.
    pub(super) fn write(&mut self, conn: &mut Conn<'_>, link: usize, bytes: &[u8]) {
        let before = conn.pending();
        let choice = self.network.borrow_mut().random.below(5);
        match choice {
            0 => drop(conn.write_bytes(Bytes::copy_from_slice(bytes))),
            1 => {
                let (first, second) = bytes.split_at(bytes.len() / 3);
                conn.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]);
            }
            2 => {
                if let Some(mut writer) = conn.writer()
                    && writer.write_all(bytes).is_err()
                {
                    self.network.borrow_mut().fail("a writer fails".to_owned());
                }
            }
            _ => drop(conn.write(bytes)),
        }
        let grown = conn.pending() - before;
        let mut network = self.network.borrow_mut();
        if grown == bytes.len() {
            network.writes(link, bytes);
        } else if grown != 0 {
            let length = bytes.len();
            network.fail(format!("link {link}: of {length} bytes written {grown} were taken"));
        }
    }

    /// What ticks and jobs do, with all connections in reach.
    pub(super) fn act_on_all(&mut self, cx: &mut Context<'_, Self>) {
        let acts = self.plan.acts;
        cx.for_each(|conn, state| {
            let (acts, resumes) = {
                let random = &mut self.network.borrow_mut().random;
                (random.chance(acts / 4), random.chance(300))
            };
            if resumes {
                self.resume(conn, state.link);
            }
            if acts {
                self.act_on(conn, state.link);
            }
        });
        let (broadcasts, schedules, connects, wait) = {
            let random = &mut self.network.borrow_mut().random;
            (random.chance(100), random.chance(100), random.chance(100), random.below(2_000))
        };
        if broadcasts {
            self.broadcast(cx);
        }
        if schedules {
            let wait = Duration::from_millis(wait);
            cx.schedule(wait, |subject, cx| subject.act_on_all(cx));
        }
        if connects
            && let Some((link, connect)) = self.next_connect()
            && let Ok(id) = cx.connect(connect)
        {
            self.connecting(id, link);
        }
    }

    /// Writes to all that are open; who takes it is seen by what is pending.
    fn broadcast(&mut self, cx: &mut Context<'_, Self>) {
        let bytes = Bytes::from_static(&[0x6a; 600]);
        let mut before = Vec::new();
        cx.for_each(|conn, state| before.push((state.link, conn.pending())));
        cx.broadcast(bytes.clone());
        let mut before = before.into_iter();
        cx.for_each(|conn, state| {
            let grown = before.next().filter(|(link, _)| *link == state.link);
            if grown.is_some_and(|(_, pending)| conn.pending() == pending + bytes.len()) {
                self.network.borrow_mut().writes(state.link, &bytes);
            }
        });
    }
}
