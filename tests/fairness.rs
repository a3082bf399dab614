//! Whoever has much to do gives way: a connection whose bytes arrive meanwhile is served after a
//! bounded number of others' events, counted in events and not in time.

mod closures;
mod common;

use std::io::Write;
use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use closures::{Script, TCP};
use tightloop::{Action, RunningServer};

/// Events of others after which a connection that has become readable must have been served.
const BOUND: usize = 128;

/// The loop's end of a conversation with the test: at the first event of the busy source the
/// loop waits until the test has written to the other connection; later events are counted.
#[derive(Clone)]
struct Busy {
    events: usize,
    tell: Sender<()>,
    go: Arc<Mutex<Receiver<()>>>,
}

impl Busy {
    fn event(&mut self) {
        self.events += 1;
        if self.events == 1 {
            self.tell.send(()).unwrap();
            self.go.lock().unwrap().recv_timeout(common::DEADLINE).unwrap();
        }
    }
}

/// The test's end.
struct Other {
    told: common::Events<()>,
    go: Sender<()>,
}

fn busy() -> (Busy, Other) {
    let (tell, told) = common::events();
    let (go, wait) = channel();
    (Busy { events: 0, tell, go: Arc::new(Mutex::new(wait)) }, Other { told, go })
}

/// Holds the loop up while the test prepares what makes it busy.
fn hold(server: &RunningServer<Script>) -> Sender<()> {
    let (held, events) = common::events();
    let (free, wait) = channel::<()>();
    let job = move |_: &mut Script, _: &mut tightloop::Context<'_, Script>| {
        held.send(()).unwrap();
        let _ = wait.recv();
    };
    server.loops()[0].execute(job).unwrap();
    events.next();
    free
}

/// Serves `busy` on whatever source, and answers a client that asks by "?" how many events of the
/// source came before. `source` adds the source's callback.
fn serve(
    server: tightloop::Server,
    busy: Busy,
    source: impl Fn(Script, Arc<Mutex<Busy>>) -> Script + Send + Sync + 'static,
) -> RunningServer<Script> {
    let busy = Arc::new(Mutex::new(busy));
    common::start(server, move |_| {
        let (asked, counted) = (Arc::clone(&busy), Arc::clone(&busy));
        let script = Script::new().traffic(move |conn, input| {
            let bytes = input.take_all();
            match bytes {
                b"?" => {
                    let before = asked.lock().unwrap().events as u64;
                    conn.write(&before.to_le_bytes());
                }
                _ => asked.lock().unwrap().event(),
            }
            Action::Continue
        });
        source(script, counted)
    })
}

/// Asks while the loop is in the first event of its busy source; how many came before the answer.
fn ask(client: &mut std::net::TcpStream, free: Sender<()>, other: &Other) -> usize {
    drop(free);
    other.told.next();
    client.write_all(b"?").unwrap();
    other.go.send(()).unwrap();
    u64::from_le_bytes(common::read(client, 8).try_into().unwrap()) as usize
}

every_driver! {
    fn a_storm_of_connections_gives_way_to_those_that_are_open(driver) {
        let (busy, other) = busy();
        let server = serve(common::server(driver).listen(TCP), busy, |script, busy| {
            let mut first = true;
            script.open(move |_| {
                // The connection that asks later is no part of the storm.
                if !std::mem::take(&mut first) {
                    busy.lock().unwrap().event();
                }
            })
        });
        let to = common::address(&server, 0);
        let mut client = common::connect(to);
        common::eventually("it is open", || server.handle().connections() == 1);
        let free = hold(&server);
        let storm: Vec<_> = (0..900).map(|_| common::connect(to)).collect();
        let before = ask(&mut client, free, &other);
        assert!(before <= BOUND, "served after {before} connections");
        common::eventually("all are accepted", || server.handle().connections() == 901);
        drop((client, storm));
        common::stop(server);
    }

    fn a_connection_that_never_runs_dry_gives_way_to_others(driver) {
        let (busy, other) = busy();
        let server = common::server(driver).receive_buffer(1024).socket_receive_buffer(4 << 20);
        let server = serve(server.listen(TCP), busy, |script, _| script);
        let to = common::address(&server, 0);
        let (mut client, mut flood) = (common::connect(to), common::connect(to));
        common::eventually("both are open", || server.handle().connections() == 2);
        let free = hold(&server);
        flood.set_nonblocking(true).unwrap();
        let (much, mut sent) = (vec![0; 2 << 20], 0);
        // The kernel may take it in parts.
        common::eventually("more fits than one receive takes", || {
            sent += flood.write(&much).unwrap_or(0);
            sent > 512 << 10
        });
        let before = ask(&mut client, free, &other);
        assert!(before <= BOUND, "served after {before} receives");
        drop((client, flood));
        common::stop(server);
    }

    fn a_flood_of_datagrams_gives_way_to_connections(driver) {
        let (busy, other) = busy();
        let server = common::server(driver).socket_receive_buffer(4 << 20).listen(TCP);
        let server = serve(server.listen("udp://127.0.0.1:0"), busy, |script, busy| {
            script.datagram(move |_| {
                busy.lock().unwrap().event();
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        common::eventually("it is open", || server.handle().connections() == 1);
        let free = hold(&server);
        let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..1_000 {
            flood.send_to(b"x", common::address(&server, 1)).unwrap();
        }
        let before = ask(&mut client, free, &other);
        assert!(before <= BOUND, "served after {before} datagrams");
        drop(client);
        // The kernel's buffer, where it is small, has dropped some.
        common::eventually("many arrive", || server.handle().stats().datagrams_in > 200);
        common::stop(server);
    }
}
