//! A tunnel, a handler that only tells, and what else the tests of relaying share.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Sender;

use socket2::SockRef;
use tightloop::{
    Action, CloseReason, Conn, ConnId, Context, Endpoint, Handler, Input, RunningServer, Server,
};

use crate::closures::TCP;
use crate::common::{self, Driver, Events};
use crate::scripted::connect_narrow;

pub const MIB: usize = 1 << 20;
pub const HIGH: usize = 256 << 10;
pub const LOW: usize = 64 << 10;

/// What a tunnel tells of itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// on_traffic was called, with so many bytes.
    Traffic(usize),
    /// A connection has ended, after so many bytes were relayed from it.
    Closed(u64),
}

/// Relays each client to an upstream and back.
pub struct Tunnel {
    upstream: Endpoint,
    told: Sender<Told>,
}

impl Handler for Tunnel {
    /// The other side.
    type State = Option<ConnId>;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> Option<ConnId> {
        let Some(client) = conn.initiator() else {
            let upstream = conn.connect(&self.upstream).expect("an endpoint");
            // It is connecting, which is early, but not too early.
            assert!(conn.relay_to(upstream));
            return Some(upstream);
        };
        assert!(conn.relay_to(client));
        Some(client)
    }

    fn on_traffic(
        &mut self,
        _: &mut Conn<'_>,
        _: &mut Option<ConnId>,
        input: &mut Input<'_>,
    ) -> Action {
        let _ = self.told.send(Told::Traffic(input.take_all().len()));
        Action::Continue
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, other: &mut Option<ConnId>) -> Action {
        match other.and_then(|id| conn.peer(id)) {
            Some(mut other) => other.shutdown_write(),
            None => return Action::Close,
        }
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, other: Option<ConnId>, reason: CloseReason) {
        let _ = self.told.send(Told::Closed(conn.relayed()));
        if let Some(mut other) = other.and_then(|id| conn.peer(id)) {
            match reason {
                CloseReason::PeerClosed => other.shutdown_write(),
                _ => other.abort(),
            }
        }
    }
}

/// A tunnel to whoever listens there.
pub fn tunnel_to(server: Server, upstream: String) -> (RunningServer<Tunnel>, Events<Told>) {
    let upstream: Endpoint = upstream.parse().unwrap();
    let (told, events) = common::events();
    let server = server.half_close(true).auto_pause(false).high_watermark(HIGH).low_watermark(LOW);
    let server =
        common::start(server, move |_| Tunnel { upstream: upstream.clone(), told: told.clone() });
    (server, events)
}

/// A tunnel to this listener, and a client and a server of it with small buffers.
pub fn narrow_ends(driver: Driver) -> (RunningServer<Tunnel>, Events<Told>, TcpStream, TcpStream) {
    let (listener, url) = listener();
    SockRef::from(&listener).set_recv_buffer_size(32 << 10).unwrap();
    let server = common::server(driver).listen(TCP).socket_send_buffer(32 << 10);
    let (server, events) = tunnel_to(server.socket_receive_buffer(32 << 10), url);
    let client = connect_narrow(common::address(&server, 0), 32 << 10);
    let upstream = accept(&listener);
    (server, events, client, upstream)
}

pub fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, url)
}

pub fn accept(listener: &TcpListener) -> TcpStream {
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(common::DEADLINE)).unwrap();
    stream.set_write_timeout(Some(common::DEADLINE)).unwrap();
    stream
}

/// Two clients of this server, and their ids.
pub fn two(to: SocketAddr, ids: &Events<ConnId>) -> [(TcpStream, ConnId); 2] {
    [(); 2].map(|()| (common::connect(to), ids.next()))
}

/// Tells the id of each connection, and what on_traffic is called with.
pub struct Teller {
    ids: Sender<ConnId>,
    traffic: Sender<Vec<u8>>,
}

impl Handler for Teller {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        self.ids.send(conn.id()).unwrap();
    }

    fn on_traffic(&mut self, _: &mut Conn<'_>, (): &mut (), input: &mut Input<'_>) -> Action {
        self.traffic.send(input.take_all().to_vec()).unwrap();
        Action::Continue
    }
}

pub fn teller(server: Server) -> (RunningServer<Teller>, Events<ConnId>, Events<Vec<u8>>) {
    let (ids, ids_told) = common::events();
    let (traffic, traffic_told) = common::events();
    let server =
        common::start(server, move |_| Teller { ids: ids.clone(), traffic: traffic.clone() });
    (server, ids_told, traffic_told)
}

/// Does something with a connection on its loop, and answers what came of it.
pub fn with_conn<H: Handler, R: Send + 'static>(
    server: &RunningServer<H>,
    id: ConnId,
    act: impl FnOnce(&mut Conn<'_>) -> R + Send + 'static,
) -> R {
    let (answer, answered) = common::events();
    let job = move |_: &mut H, cx: &mut Context<'_, H>| {
        let (mut conn, _) = cx.conn(id).expect("it is open");
        answer.send(act(&mut conn)).unwrap();
    };
    server.loops()[id.loop_index()].execute(job).expect("the loop takes a job");
    answered.next()
}
