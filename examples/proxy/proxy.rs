//! The handler: pairs are made when clients come; their bytes are relayed, and their ends pass from
//! one side to the other.

use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tightloop::proxy_protocol::ProxyHeader;
use tightloop::{Action, CloseReason, Conn, ConnId, Connect, Direction, Handler, Input};

use crate::balance::Upstreams;
use crate::health;
use crate::options::{Flags, ProxyProtocol};
use crate::pair::{Pair, Role, Side};

/// How soon upstreams without a place in their backlog are tried again.
const BUSY_RETRY: Duration = Duration::from_millis(10);

/// What all loops share.
pub struct Shared {
    pub upstreams: Arc<Upstreams>,
    connect_timeout: Duration,
    idle_timeout: Duration,
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
    /// The searches of clients that have no upstream yet, by the client.
    searches: HashMap<ConnId, Search>,
}

/// A client's search for an upstream: one connection after the other is tried, which have no state
/// of their own before they are open.
struct Search {
    pair: Rc<Pair>,
    began: Instant,
    tried: Vec<usize>,
    /// One of those tried is alive, but has no place in its backlog.
    found_busy: bool,
    last_failure: String,
}

impl Proxy {
    pub fn new(shared: Arc<Shared>) -> Self {
        Proxy { shared, searches: HashMap::new() }
    }

    /// A client has come. It is not read from until there is somebody to read for.
    fn accepted(&mut self, client: &mut Conn<'_>) -> Side {
        client.pause_reading();
        let pair = Pair::new(client);
        let search = Search {
            pair: Rc::clone(&pair),
            began: client.now(),
            tried: Vec::new(),
            found_busy: false,
            last_failure: String::new(),
        };
        self.try_next(client, search);
        Side { role: Role::Client, pair }
    }

    /// Connects to the next upstream for this client, or gives up.
    fn try_next(&mut self, client: &mut Conn<'_>, mut search: Search) {
        let (upstreams, pair) = (&self.shared.upstreams, &search.pair);
        let picked = upstreams.pick(&client.peer_addr(), &search.tried, client.now());
        let Some(lease) = picked else {
            return self.none_is_left(client, search);
        };
        let mut connect = Connect::to(&lease.endpoint).timeout(self.shared.connect_timeout);
        if let Some(header) = self.header(client) {
            connect = connect.proxy_header(header);
        }
        match client.connect(connect) {
            Ok(upstream) => {
                search.tried.push(lease.index);
                pair.upstream.set(Some(upstream));
                pair.lease.replace(Some(lease));
                self.searches.insert(client.id(), search);
            }
            Err(error) => {
                pair.end(|| error.to_string());
                client.abort();
            }
        }
    }

    /// Every upstream was tried. Where one was only busy, all are tried again soon.
    fn none_is_left(&mut self, client: &mut Conn<'_>, mut search: Search) {
        let took = client.now().saturating_duration_since(search.began);
        if search.found_busy && took < self.shared.connect_timeout {
            search.tried.clear();
            search.found_busy = false;
            search.pair.upstream.set(None);
            client.set_timer(BUSY_RETRY);
            self.searches.insert(client.id(), search);
        } else {
            search.pair.end(|| format!("no upstream: {}", search.last_failure));
            client.abort();
        }
    }

    /// An upstream has answered: from now on bytes flow.
    fn connected(&mut self, upstream: &mut Conn<'_>) -> Side {
        // Only clients ask for connections, and their search is over when one is open.
        let client = upstream.initiator().expect("a client asked for it");
        let search = self.searches.remove(&client).expect("the client searches");
        let pair = search.pair;
        if let Some(lease) = &*pair.lease.borrow() {
            lease.health.succeeded();
            lease.connected.fetch_add(1, Ordering::Relaxed);
        }
        let id = upstream.id();
        let relays_back = upstream.relay_to(client);
        let mut relays = false;
        if let Some(mut client) = upstream.peer(client) {
            client.set_timer(self.shared.idle_timeout);
            relays = client.relay_to(id);
            client.resume_reading();
        }
        if !(relays && relays_back) {
            upstream.abort();
        }
        Side { role: Role::Upstream, pair }
    }

    /// Notes how the upstream of a failed connection is to be treated from now on.
    fn judge(&self, search: &mut Search, conn: &Conn<'_>, reason: &CloseReason) {
        let lease = search.pair.lease.borrow();
        let Some(lease) = &*lease else { return };
        search.last_failure = format!("{}: {reason}", lease.endpoint);
        if !health::is_fault(reason) {
            search.found_busy |= health::is_busy(reason);
            return lease.health.was_given_up(conn.now());
        }
        lease.health.failed(conn.now());
        lease.failed.fetch_add(1, Ordering::Relaxed);
        self.shared.log(|| search.last_failure.clone());
    }

    /// What tells the upstream who the client is, and where it wanted to go.
    fn header(&self, client: &Conn<'_>) -> Option<ProxyHeader> {
        let version = self.shared.proxy_protocol?;
        // Another proxy may know better than the socket where the client wanted to go.
        let told = client.proxy_header().and_then(|header| header.destination().cloned());
        let source = client.peer_addr();
        let destination = told.or_else(|| client.local_addr().ok())?;
        Some(match version {
            ProxyProtocol::V1 => ProxyHeader::v1(source, destination),
            ProxyProtocol::V2 => ProxyHeader::v2(source, destination),
        })
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
        let Some(client) = conn.initiator() else {
            // A client's own handshake: nothing was begun for it.
            return self.shared.log(|| format!("{}: {reason}", conn.peer_addr()));
        };
        let Some(mut search) = self.searches.remove(&client) else { return };
        self.judge(&mut search, conn, &reason);
        match conn.peer(client) {
            Some(mut client) if matches!(reason, CloseReason::ServerStopped) => client.close(),
            Some(mut client) => return self.try_next(&mut client, search),
            None => {}
        }
        self.leave(search.pair);
    }

    /// All is relayed, as long as there is another side. When it is gone, this one is already told to
    /// go too.
    fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut Side, input: &mut Input<'_>) -> Action {
        input.take_all();
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

    /// Only clients have a timer: for a search that had to wait, and then for silence.
    fn on_timer(&mut self, client: &mut Conn<'_>, side: &mut Side) -> Action {
        if let Some(search) = self.searches.remove(&client.id()) {
            self.try_next(client, search);
            return Action::Continue;
        }
        // One side may be silent because the other is at work.
        let client_idle = client.idle_for();
        let upstream = side.other().and_then(|id| client.peer(id));
        let Some(upstream_idle) = upstream.map(|upstream| upstream.idle_for()) else {
            return Action::Continue; // it is ending, and takes the client with it
        };
        let left = self.shared.idle_timeout.saturating_sub(client_idle.min(upstream_idle));
        if left.is_zero() {
            side.pair.end(|| "idle for too long".to_owned());
            return Action::Close;
        }
        client.set_timer(left);
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, side: Side, reason: CloseReason) {
        side.count(conn.relayed());
        side.ended(&reason);
        if side.pair.upstream.get().is_none() {
            self.searches.remove(&conn.id());
        }
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
