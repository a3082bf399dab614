//! Turns of a whole loop over the scripted driver.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::MESSAGE;
use super::scripted::{Peers, Scripted};
use crate::conn::Conn;
use crate::conn::admission::Admission;
use crate::conn::id::ConnId;
use crate::conn::input::Input;
use crate::control::{LoopShared, ServerHandle, ServerShared};
use crate::error::CloseReason;
use crate::handler::{Action, Handler};
use crate::listen_socket::Listening;
use crate::options::Options;
use crate::reactor::{Parts, Placement, Reactor};
use crate::sync::mailbox::Mailbox;
use crate::workers::{WorkerOptions, WorkerPool};

/// Connections of the case with many.
const MANY: usize = 50;

/// Receivers of a broadcast.
const RECEIVERS: usize = 1000;

pub(super) fn echo_50(messages: usize) {
    echo(MANY, messages);
}

pub(super) fn echo_1(messages: usize) {
    echo(1, messages);
}

fn echo(connections: usize, messages: usize) {
    let driver = Scripted::new(Peers::Ask, connections, MESSAGE.to_vec());
    let bytes = messages * MESSAGE.len();
    turn_until(driver, Echo, |driver| driver.bytes_sent >= bytes);
}

pub(super) fn relay(messages: usize) {
    let driver = Scripted::new(Peers::Ask, MANY, MESSAGE.to_vec());
    let bytes = messages * MESSAGE.len();
    turn_until(driver, Tunnel::default(), |driver| driver.bytes_sent >= bytes);
}

pub(super) fn churn(connections: usize) {
    let driver = Scripted::new(Peers::ComeAndGo, MANY, MESSAGE.to_vec());
    let bytes = connections * MESSAGE.len();
    turn_until(driver, Echo, |driver| driver.bytes_sent >= bytes);
}

pub(super) fn broadcast(deliveries: usize) {
    let message = MESSAGE.repeat(2);
    let bytes = deliveries * message.len();
    let driver = Scripted::new(Peers::OneAsks, RECEIVERS, message);
    turn_until(driver, Broadcast::default(), |driver| driver.bytes_sent >= bytes);
}

/// Turns a loop until the driver has had enough.
fn turn_until<H: Handler>(driver: Scripted, handler: H, is_done: impl Fn(&Scripted) -> bool) {
    let options = Arc::new(Options::default());
    let shared = Arc::new(LoopShared::new(0, options.mailbox_capacity));
    let server = ServerShared {
        loops: vec![Arc::clone(&shared)],
        acceptor: None,
        addresses: Vec::new(),
        options: Arc::clone(&options),
        tls_client: None,
        stopping: AtomicBool::new(false),
        admission: Admission::new(&options, Instant::now()),
        balancer: OnceLock::new(),
        listening: Listening::default(),
    };
    let parts = Parts {
        shared,
        server: ServerHandle { shared: Arc::new(server) },
        jobs: Arc::new(Mailbox::new(options.mailbox_capacity)),
        loops: Arc::default(),
        options,
        // Nothing is given to it: it starts no thread.
        workers: WorkerPool::new(WorkerOptions::default()),
        listeners: vec![(0, ())],
        datagram_sockets: Vec::new(),
        placement: Placement::Here,
        policies: Arc::default(),
    };
    // The driver refuses no listener, and no turn of it fails.
    let Ok(mut reactor) = Reactor::new(driver, handler, parts) else { return };
    reactor.start();
    while !is_done(reactor.driver()) && reactor.turn().is_ok() {}
}

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, (): &mut (), input: &mut Input<'_>) -> Action {
        conn.write(input.take_all());
        Action::Continue
    }
}

/// What one of a pair sends goes to the other.
#[derive(Default)]
struct Tunnel {
    alone: Option<ConnId>,
}

impl Handler for Tunnel {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        let id = conn.id();
        let Some(other) = self.alone.take() else {
            self.alone = Some(id);
            return;
        };
        let both = conn.relay_to(other);
        if !(both && conn.peer(other).is_some_and(|mut other| other.relay_to(id))) {
            conn.abort();
        }
    }

    fn on_traffic(&mut self, _: &mut Conn<'_>, (): &mut (), _: &mut Input<'_>) -> Action {
        Action::Close
    }
}

/// What any connection sends goes to all of them.
#[derive(Default)]
struct Broadcast {
    all: Vec<ConnId>,
}

impl Handler for Broadcast {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        self.all.push(conn.id());
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, (): &mut (), input: &mut Input<'_>) -> Action {
        let message = input.take_all();
        for &id in &self.all {
            if let Some(mut peer) = conn.peer(id) {
                peer.write(message);
            }
        }
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, (): (), _: CloseReason) {
        let gone = conn.id();
        self.all.retain(|&id| id != gone);
    }
}
