//! What tests of outgoing connections share: a handler that reports, and peers that answer nobody.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tightloop::{CloseReason, ConnId, Connect, Direction, RunningServer, Server, SockRef};

use crate::closures::Script;
use crate::common;
#[allow(unused_imports, reason = "each test file uses its own part")]
pub use crate::common::closed_port;

/// What a test is told of connections.
#[derive(Debug)]
pub enum Told {
    Opened { id: ConnId, initiator: Option<ConnId>, direction: Direction, peer: String },
    Failed { id: ConnId, initiator: Option<ConnId>, reason: CloseReason },
    Closed(ConnId),
}

/// A handler that reports on its connections, and greets on those that it made.
pub fn reporter(told: &std::sync::mpsc::Sender<Told>) -> Script {
    let (open, failed, close) = (told.clone(), told.clone(), told.clone());
    Script::new()
        .open(move |conn| {
            let (id, initiator) = (conn.id(), conn.initiator());
            let (direction, peer) = (conn.direction(), conn.peer_addr().to_string());
            if direction == Direction::Outgoing {
                conn.write(b"greeting");
            }
            open.send(Told::Opened { id, initiator, direction, peer }).unwrap();
        })
        .failed(move |conn, reason| {
            let (id, initiator) = (conn.id(), conn.initiator());
            failed.send(Told::Failed { id, initiator, reason }).unwrap();
        })
        .close(move |conn, _| close.send(Told::Closed(conn.id())).unwrap())
}

pub fn reporting_attempts(
    server: Server,
) -> (RunningServer<Script>, common::Events<Told>, Attempts) {
    let attempts = Attempts::default();
    let (server, events) = reporting(server.on_connection_socket(attempts.hook()));
    (server, events, attempts)
}

/// A server that reports.
pub fn reporting(server: Server) -> (RunningServer<Script>, common::Events<Told>) {
    let (told, events) = common::events();
    (common::start(server, move |_| reporter(&told)), events)
}

/// Has the first loop connect to `to`; answers the connection's identity.
pub fn connect(server: &RunningServer<Script>, to: &str) -> ConnId {
    connect_as(server, Connect::to(&to.parse().unwrap()))
}

/// The same, as told.
pub fn connect_as(server: &RunningServer<Script>, to: Connect) -> ConnId {
    let (asked, events) = common::events();
    let job = move |_: &mut Script, cx: &mut tightloop::Context<'_, Script>| {
        let id = cx.connect(to.clone()).unwrap();
        assert!(cx.conn(id).is_none(), "it is not open yet");
        asked.send(id).unwrap();
    };
    server.loops()[0].execute(job).unwrap();
    events.next()
}

/// The failure of a connection, which must be the next thing that is told.
pub fn failure(events: &common::Events<Told>, of: ConnId) -> CloseReason {
    match events.next() {
        Told::Failed { id, initiator: None, reason } if id == of => reason,
        other => panic!("{other:?}"),
    }
}

/// A listener that answers nobody any more: connecting to it takes for ever.
pub struct Deaf {
    listener: TcpListener,
    /// Those that fill its backlog.
    waiting: Vec<Socket>,
}

impl Deaf {
    pub fn new() -> Self {
        let stream = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let socket = stream();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let to = listener.local_addr().unwrap();
        let patience = Duration::from_millis(100);
        let (mut waiting, mut in_vain) = (Vec::new(), 0);
        // Two in a row, as a machine that stands still lets one connect too late.
        while in_vain < 2 {
            let client = stream();
            let in_time = client.connect_timeout(&to.into(), patience).is_ok();
            if in_time || client.peer_addr().is_ok() {
                waiting.push(client);
                in_vain = 0;
            } else {
                in_vain += 1;
            }
            assert!(waiting.len() < 50, "it takes everybody");
        }
        Deaf { listener, waiting }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub fn url(&self) -> String {
        format!("tcp://{}", self.address())
    }

    /// Hears from now on; answers the listener.
    pub fn heal(self) -> TcpListener {
        for _ in &self.waiting {
            self.listener.accept().unwrap();
        }
        self.listener
    }
}

/// The sockets of a server's or client's connections, as its socket hook saw them.
#[derive(Clone, Default)]
pub struct Attempts(Arc<Mutex<Vec<PathBuf>>>);

impl Attempts {
    /// For `on_connection_socket`, which is called for each socket that begins to connect.
    pub fn hook(&self) -> impl Fn(&SockRef<'_>) -> io::Result<()> + Send + Sync + 'static {
        let seen = Arc::clone(&self.0);
        move |socket| {
            seen.lock().unwrap().push(name_of(socket)?);
            Ok(())
        }
    }

    /// Sockets that have begun to connect.
    pub fn begun(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Whether as many of them are not closed; `true` also where the system does not tell.
    pub fn living_are(&self, count: usize) -> bool {
        let Some(open) = open_sockets() else { return true };
        self.0.lock().unwrap().iter().filter(|socket| open.contains(socket)).count() == count
    }
}

/// By what name a socket that is open can be found again.
#[cfg(target_os = "linux")]
fn name_of(socket: &SockRef<'_>) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd()))
}

/// Other systems give it none: their sockets are only counted.
#[cfg(not(target_os = "linux"))]
fn name_of(_: &SockRef<'_>) -> io::Result<PathBuf> {
    Ok(PathBuf::new())
}

/// The names of all files that are open, where the system tells.
fn open_sockets() -> Option<Vec<PathBuf>> {
    // Wine shows Linux's /proc, of its own process.
    if cfg!(not(target_os = "linux")) {
        return None;
    }
    let descriptors = std::fs::read_dir("/proc/self/fd").ok()?;
    // One may be closed in between.
    Some(descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect())
}
