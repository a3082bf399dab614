//! A client's thread: one scenario after the other, chosen by its random numbers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::peer::{Peer, Random, To};
use crate::scenarios::{SCENARIOS, Scenario};

/// Where the servers are.
#[derive(Default)]
pub struct Town {
    pub streams: HashMap<String, Vec<To>>,
    pub datagrams: Vec<SocketAddr>,
}

/// What the clients have done and found.
#[derive(Default)]
pub struct Findings {
    pub scenarios: AtomicU64,
    /// Bytes that came back and were right.
    pub verified: AtomicU64,
    /// Panics and broken frames that the server must have counted.
    pub panics: AtomicU64,
    pub broken_frames: AtomicU64,
    /// Connections that a full server did not serve.
    pub turned_away: AtomicU64,
    pub datagrams_lost: AtomicU64,
    pub failures: Mutex<Vec<String>>,
    /// How often each scenario went well.
    pub by_name: Mutex<HashMap<&'static str, u64>>,
}

impl Findings {
    pub fn fail(&self, failure: String) {
        eprintln!("FAILURE {failure}");
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
    }

    fn went_well(&self, name: &'static str) {
        self.scenarios.fetch_add(1, Relaxed);
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        *by_name.entry(name).or_default() += 1;
    }
}

/// What all clients share.
#[derive(Default)]
pub struct Clients {
    pub town: Town,
    pub findings: Findings,
    /// Held by whoever is in a scenario; the rests take it alone.
    pub gate: RwLock<()>,
    /// Held by the one client that uses up the descriptors.
    pub crowd: Mutex<()>,
    pub is_over: AtomicBool,
    /// The name of the one scenario to run, if not all.
    pub only: Option<String>,
}

/// One run of a scenario.
pub struct Visit<'a> {
    pub random: Random,
    pub town: &'a Town,
    pub findings: &'a Findings,
    pub crowd: &'a Mutex<()>,
}

impl Visit<'_> {
    /// Connects to the server of this name, over any of its sockets, with buffers of any size.
    pub fn connect(&mut self, server: &str) -> Result<Peer, String> {
        let addresses = self.town.streams.get(server).ok_or("no such server")?;
        let to = &addresses[self.random.below(addresses.len() as u64) as usize];
        let peer = Peer::connect(to).map_err(|error| format!("connecting: {error}"))?;
        if self.random.one_in(4) {
            // Refused sizes are no matter.
            let (receive, send) = (self.random.size(64 << 10), self.random.size(64 << 10));
            // Not smaller: the loopback's packets do not fit, and TCP then crawls.
            let _ = peer.socket().set_recv_buffer_size(receive.max(16 << 10));
            let _ = peer.socket().set_send_buffer_size(send.max(4 << 10));
        }
        Ok(peer)
    }

    pub fn verified(&self, bytes: usize) {
        self.findings.verified.fetch_add(bytes as u64, Relaxed);
    }

    /// A moment of up to so many milliseconds.
    pub fn dawdle(&mut self, most: u64) {
        std::thread::sleep(Duration::from_millis(self.random.below(most + 1)));
    }
}

/// Runs scenarios until it is over.
pub fn run(clients: &Clients, seed: u64, pause: u64) {
    let mut random = Random(seed);
    let is_wanted =
        |scenario: &&Scenario| clients.only.as_ref().is_none_or(|only| only == scenario.name);
    let wanted = || SCENARIOS.iter().filter(is_wanted);
    let weights: u64 = wanted().map(|scenario| scenario.weight).sum::<u64>().max(1);
    while !clients.is_over.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(random.below(pause + 1)));
        let mut chosen = random.below(weights);
        let scenario = wanted().find(|scenario| {
            let found = chosen < scenario.weight;
            chosen = chosen.wrapping_sub(scenario.weight);
            found
        });
        let Some(scenario) = scenario else { continue };
        let seed = random.next();
        let _in_scenario = clients.gate.read().unwrap_or_else(PoisonError::into_inner);
        let mut visit = Visit {
            random: Random(seed),
            town: &clients.town,
            findings: &clients.findings,
            crowd: &clients.crowd,
        };
        match (scenario.run)(&mut visit) {
            Ok(()) => clients.findings.went_well(scenario.name),
            Err(error) => {
                clients.findings.fail(format!("{} (seed {seed}): {error}", scenario.name));
            }
        }
    }
}
