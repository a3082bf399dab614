//! What tests of outgoing connections share: a handler that reports, and peers that answer nobody.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use tightloop::{CloseReason, ConnId, Connect, Direction, RunningServer, Server};

use crate::closures::Script;
use crate::common;

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

/// A port on which nobody listens.
pub fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A listener that answers nobody any more: connecting to it takes for ever.
pub struct Deaf {
    listener: TcpListener,
    /// Those that fill its backlog.
    waiting: Vec<TcpStream>,
}

impl Deaf {
    pub fn new() -> Self {
        let kind = socket2::Type::STREAM;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let to = listener.local_addr().unwrap();
        let patience = Duration::from_millis(100);
        let waiting = std::iter::from_fn(|| TcpStream::connect_timeout(&to, patience).ok());
        let waiting: Vec<_> = waiting.take(50).collect();
        assert!(waiting.len() < 50, "it takes everybody");
        Deaf { listener, waiting }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub fn url(&self) -> String {
        format!("tcp://{}", self.address())
    }

    /// The sockets that try to connect to it.
    pub fn callers(&self) -> usize {
        callers(&[self.address()])
    }

    /// Hears from now on; answers the listener.
    pub fn heal(self) -> TcpListener {
        for _ in &self.waiting {
            self.listener.accept().unwrap();
        }
        self.listener
    }
}

/// The sockets of this system that have asked one of `addresses` and have no answer.
pub fn callers(addresses: &[SocketAddr]) -> usize {
    const SYN_SENT: &str = "02";
    let in_table = |address: &SocketAddr| {
        let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let asked: Vec<_> = addresses.iter().map(in_table).collect();
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let rows = table.lines().map(|row| row.split_whitespace().skip(2).collect::<Vec<_>>());
    rows.filter(|row| row[1] == SYN_SENT && asked.iter().any(|asked| row[0] == asked)).count()
}
