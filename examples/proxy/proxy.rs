//! The handler: pairs are made when clients come, and bytes, ends and pauses pass between their
//! two sides.

use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tightloop::proxy_protocol::ProxyHeader;
use tightloop::{Action, Address, CloseReason, Conn, ConnId, Direction, Handler, Input};

use crate::balance::Upstreams;
use crate::health;
use crate::options::{Flags, ProxyProtocol};
use crate::pair::{Pair, Role, Side};

/// What all loops share.
pub struct Shared {
    pub upstreams: Arc<Upstreams>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    high_watermark: usize,
    proxy_protocol: Option<ProxyProtocol>,
    verbose: bool,
}

impl Shared {
    pub fn new(flags: &Flags) -> Self {
        let upstreams = Upstreams::new(&flags.upstream, flags.balance, flags.down_for);
        Shared {
            upstreams: Arc::new(upstreams),
            connect_timeout: flags.connect_timeout,
            idle_timeout: flags.idle_timeout,
            high_watermark: flags.buffer,
            proxy_protocol: flags.proxy_protocol,
            verbose: flags.verbose,
        }
    }

    fn log(&self, line: impl FnOnce() -> String) {
        if self.verbose {
            // Nobody has to read it: a closed standard error is no reason not to serve.
            let _ = writeln!(std::io::stderr().lock(), "{}", line());
        }
    }
}

/// One loop's part of the proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    /// Connections to upstreams that are being made, and have no state of their own yet.
    attempts: HashMap<ConnId, Attempt>,
}

/// A client's search for an upstream.
struct Attempt {
    pair: Rc<Pair>,
    tried: Vec<usize>,
    timed_out: bool,
}

impl Proxy {
    pub fn new(shared: Arc<Shared>) -> Self {
        Proxy { shared, attempts: HashMap::new() }
    }

    /// A client has come. It is not read from until there is somebody to read for.
    fn accepted(&mut self, client: &mut Conn<'_>) -> Side {
        client.pause_reading();
        let pair = Pair::new(client);
        let attempt = Attempt { pair: Rc::clone(&pair), tried: Vec::new(), timed_out: false };
        self.try_next(client, attempt);
        Side { role: Role::Client, pair }
    }

    /// Connects to the next upstream for this client, or gives up.
    fn try_next(&mut self, client: &mut Conn<'_>, mut attempt: Attempt) {
        let pair = &attempt.pair;
        let upstreams = &self.shared.upstreams;
        let picked = upstreams.pick(&client.peer_addr(), &attempt.tried, client.now());
        let Some(lease) = picked else {
            pair.end(|| "no upstream answers".to_owned());
            return client.abort();
        };
        match client.connect(&lease.endpoint) {
            Ok(upstream) => {
                attempt.tried.push(lease.index);
                attempt.timed_out = false;
                pair.upstream.set(Some(upstream));
                pair.lease.replace(Some(lease));
                client.set_timer(self.shared.connect_timeout);
                self.attempts.insert(upstream, attempt);
            }
            Err(error) => {
                pair.end(|| error.to_string());
                client.abort();
            }
        }
    }

    /// An upstream has answered: from now on bytes flow.
    fn connected(&mut self, upstream: &mut Conn<'_>) -> Side {
        // It was put there when the connect began, by its only caller.
        let attempt = self.attempts.remove(&upstream.id()).expect("an attempt of ours");
        let pair = attempt.pair;
        pair.connected.set(true);
        if let Some(lease) = &*pair.lease.borrow() {
            lease.health.succeeded();
            lease.connected.fetch_add(1, Ordering::Relaxed);
        }
        match upstream.peer(pair.client) {
            Some(mut client) => {
                client.set_timer(self.shared.idle_timeout);
                client.resume_reading();
                let addresses = (client.peer_addr(), client.local_addr().ok());
                if let Some(header) = self.header(addresses) {
                    upstream.write(&header);
                }
            }
            None => upstream.abort(),
        }
        Side { role: Role::Upstream, pair }
    }

    /// What tells the upstream who the client is, and where it wanted to go.
    fn header(&self, (client, listener): (Address, Option<Address>)) -> Option<Vec<u8>> {
        let header = match (self.shared.proxy_protocol?, listener) {
            (ProxyProtocol::V1, Some(listener)) => ProxyHeader::v1(client, listener),
            (ProxyProtocol::V1, None) => ProxyHeader::v1_unknown(),
            (ProxyProtocol::V2, Some(listener)) => ProxyHeader::v2(client, listener),
            (ProxyProtocol::V2, None) => ProxyHeader::v2_unspecified(),
        };
        // Only a path that is too long has no header of its own.
        header.encode().or_else(|_| ProxyHeader::v2_unspecified().encode()).ok()
    }

    /// One of the two is gone. The last one reports.
    fn leave(&self, pair: Rc<Pair>) {
        if let Some(pair) = Rc::into_inner(pair) {
            pair.settle_accounts();
            self.shared.log(|| pair.to_string());
        }
    }
}

impl Handler for Proxy {
    type State = Side;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> Side {
        match conn.direction() {
            Direction::Incoming => self.accepted(conn),
            Direction::Outgoing => self.connected(conn),
        }
    }

    fn on_open_failed(&mut self, conn: &mut Conn<'_>, reason: CloseReason) {
        let Some(attempt) = self.attempts.remove(&conn.id()) else {
            // A client's handshake: nothing was begun for it.
            return self.shared.log(|| format!("{}: {reason}", conn.peer_addr()));
        };
        if let Some(lease) = &*attempt.pair.lease.borrow()
            && (attempt.timed_out || health::is_fault(&reason))
        {
            lease.health.failed(conn.now());
            lease.failed.fetch_add(1, Ordering::Relaxed);
            let why = if attempt.timed_out { "no answer".to_owned() } else { reason.to_string() };
            self.shared.log(|| format!("{}: {why}", lease.endpoint));
        }
        match conn.peer(attempt.pair.client) {
            Some(mut client) if matches!(reason, CloseReason::ServerStopped) => client.close(),
            Some(mut client) => self.try_next(&mut client, attempt),
            None => self.leave(attempt.pair),
        }
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        side: &mut Side,
        input: &mut Input<'_>,
    ) -> Action {
        let bytes = input.take_all();
        // When the other side is gone, this one is already told to go too.
        let Some(mut other) = side.other().and_then(|id| conn.peer(id)) else {
            return Action::Continue;
        };
        let pending = other.write(bytes);
        side.count(bytes.len());
        if pending > self.shared.high_watermark {
            conn.pause_reading();
        }
        Action::Continue
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, side: &mut Side) -> Action {
        if let Some(mut other) = side.other().and_then(|id| conn.peer(id)) {
            other.resume_reading();
        }
        Action::Continue
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, side: &mut Side) -> Action {
        side.sent_its_end();
        match side.other().and_then(|id| conn.peer(id)) {
            Some(mut other) => {
                other.shutdown_write();
                Action::Continue
            }
            None => Action::Close,
        }
    }

    /// Only clients have a timer: first for their upstream's answer, then for silence.
    fn on_timer(&mut self, conn: &mut Conn<'_>, side: &mut Side) -> Action {
        let idle = conn.idle_for();
        let Some(mut upstream) = side.other().and_then(|id| conn.peer(id)) else {
            return Action::Continue;
        };
        if let Some(attempt) = self.attempts.get_mut(&upstream.id()) {
            attempt.timed_out = true;
            upstream.abort(); // on_open_failed tries the next one
            return Action::Continue;
        }
        // One side may be silent because the other is at work.
        let idle = idle.min(upstream.idle_for());
        let left = self.shared.idle_timeout.saturating_sub(idle);
        if left.is_zero() {
            side.pair.end(|| "idle for too long".to_owned());
            return Action::Close;
        }
        conn.set_timer(left);
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, side: Side, reason: CloseReason) {
        side.ended(&reason);
        if let Some(mut other) = side.other().and_then(|id| conn.peer(id)) {
            match reason {
                // Both of its directions have ended in order, and so have the other's.
                CloseReason::PeerClosed => other.shutdown_write(),
                CloseReason::Local | CloseReason::ServerStopped => other.close(),
                // What has passed may be only a part: the other side must not take it for all.
                _ => other.abort(),
            }
        }
        self.leave(side.pair);
    }
}
