//! Each timeout ends those who are silent in its own sense, and nobody else.

mod closures;
mod common;

use std::io::{Read, Write};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tightloop::{Action, CloseReason, Conn, Context, Handler, Input, Server};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What the handler does, by the first byte that it gets.
struct Peer {
    /// Written when a connection opens.
    greeting: bytes::Bytes,
    /// Sends a byte to everybody this often.
    pace: Option<Duration>,
    closed: Sender<CloseReason>,
}

impl Handler for Peer {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        conn.write_bytes(self.greeting.clone());
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        match input.take_all() {
            b"echo" => drop(conn.write(b"echo")),
            b"pause for 300 ms" => {
                conn.pause_reading();
                conn.set_timer(ms(300));
            }
            _ => {}
        }
        Action::Continue
    }

    fn on_timer(&mut self, conn: &mut Conn<'_>, _: &mut ()) -> Action {
        conn.write(b"resumed");
        conn.resume_reading();
        Action::Continue
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        cx.broadcast("x");
        self.pace
    }

    fn on_close(&mut self, _: &mut Conn<'_>, _: (), reason: CloseReason) {
        // A test that has seen enough no longer listens.
        let _ = self.closed.send(reason);
    }
}

struct Scene {
    server: tightloop::RunningServer<Peer>,
    closed: common::Events<CloseReason>,
}

impl Scene {
    fn new(server: Server, greeting: usize, pace: Option<Duration>) -> Scene {
        let (sender, closed) = common::events();
        let greeting = bytes::Bytes::from(common::pattern(greeting));
        let server = common::start(server.listen("tcp://127.0.0.1:0"), move |_| Peer {
            greeting: greeting.clone(),
            pace,
            closed: sender.clone(),
        });
        Scene { server, closed }
    }

    fn connect(&self) -> std::net::TcpStream {
        common::connect(common::address(&self.server, 0))
    }

    /// The one connection ends for this reason; answers nothing of the others.
    fn ends(self, expected: &str) {
        assert_eq!(format!("{:?}", self.closed.next()), expected);
        common::stop(self.server);
    }
}

/// Much, where the system tells of each byte that the peer has taken. Elsewhere it tells of room
/// only, and a slow reader makes that often enough in a small buffer only.
const SEND_BUFFER: usize =
    if cfg!(any(target_os = "linux", target_os = "android")) { 4 << 20 } else { 64 << 10 };

/// A client whose kernel holds little for it, so that the server's knows what it has taken.
fn slow_reader(to: std::net::SocketAddr) -> std::net::TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(&to.into()).unwrap();
    let client = std::net::TcpStream::from(socket);
    client.set_read_timeout(Some(common::DEADLINE)).unwrap();
    client
}

/// What a slow reader takes every 20 ms, so that it is the same in all however long it has.
fn a_little_of(time: Duration) -> usize {
    ((16 << 10) * 200 / time.as_millis() as usize).max(1)
}

every_driver! {
    fn who_only_listens_is_read_idle(driver) {
        let server = common::server(driver).read_idle_timeout(ms(200));
        let scene = Scene::new(server, 0, Some(ms(20)));
        let start = Instant::now();
        let got = common::read_to_end(&mut scene.connect());
        assert!(start.elapsed() >= ms(190), "after {:?}", start.elapsed());
        assert!(!got.is_empty(), "it was sent something all the while");
        scene.ends("ReadIdleTimeout");
    }

    fn what_is_written_in_the_turn_of_a_timeout_arrives_and_the_end_is_in_order(driver) {
        let server = common::server(driver).read_idle_timeout(ms(100));
        let scene = Scene::new(server, 0, Some(ms(20)));
        let mut client = scene.connect();
        client.write_all(b"echo").unwrap();
        while common::read(&mut client, 1) != b"o" {}
        // Of a tick: the turn in which something came is over.
        assert_eq!(common::read(&mut client, 1), b"x");
        // Behind this both are due: what everybody is sent, and the timeout.
        let hold = |_: &mut Peer, _: &mut Context<'_, Peer>| closures::be_busy(ms(200));
        scene.server.loops()[0].execute(hold).unwrap();
        assert_eq!(common::read_to_end(&mut client).last(), Some(&b'x'));
        scene.ends("ReadIdleTimeout");
    }

    fn who_is_only_listened_to_is_write_idle(driver) {
        let scene = Scene::new(common::server(driver).write_idle_timeout(ms(200)), 0, None);
        let start = Instant::now();
        let mut client = scene.connect();
        client.set_read_timeout(Some(ms(20))).unwrap();
        while !common::is_closed(&mut client) {
            assert!(start.elapsed() < common::DEADLINE);
            // It may be closed meanwhile.
            let _ = client.write_all(b"-");
        }
        assert!(start.elapsed() >= ms(190), "after {:?}", start.elapsed());
        scene.ends("WriteIdleTimeout");
    }

    fn who_never_says_anything_is_sent_away_and_who_does_may_be_silent_then(driver) {
        // Whoever speaks has to have spoken by then.
        common::patiently(ms(200), |time| {
            let server = common::server(driver).first_byte_timeout(time);
            let scene = Scene::new(server, 5, None);
            let (mut mute, mut speaks) = (scene.connect(), scene.connect());
            speaks.write_all(b"-").unwrap();
            assert_eq!(common::read_to_end(&mut mute).len(), 5);
            let mut third = scene.connect();
            assert_eq!(common::read_to_end(&mut third).len(), 5);
            // Twice the timeout is over.
            common::read(&mut speaks, 5);
            assert_eq!(common::exchange(&mut speaks, b"echo"), b"echo");
            assert!(matches!(scene.closed.next(), CloseReason::FirstByteTimeout));
            scene.ends("FirstByteTimeout");
        });
    }

    fn a_peer_is_not_read_idle_while_the_handler_does_not_read(driver) {
        let server = common::server(driver).read_idle_timeout(ms(200));
        let scene = Scene::new(server, 0, None);
        let mut client = scene.connect();
        let start = Instant::now();
        client.write_all(b"pause for 300 ms").unwrap();
        assert_eq!(common::read(&mut client, 7), b"resumed");
        assert!(common::is_closed(&mut client));
        assert!(start.elapsed() >= ms(490), "after {:?}", start.elapsed());
        scene.ends("ReadIdleTimeout");
    }

    fn output_that_the_peer_does_not_take_stalls(driver) {
        let server = common::server(driver).write_stall_timeout(ms(200));
        let scene = Scene::new(server, 32 << 20, None);
        let mut client = scene.connect();
        assert!(matches!(scene.closed.next(), CloseReason::WriteStalled));
        let mut got = Vec::new();
        client.read_to_end(&mut got).expect_err("a truncated stream ended as if it were whole");
        common::stop(scene.server);
    }

    fn output_stalls_in_little_more_than_its_time(driver) {
        common::at_best(|| {
            let scene = Scene::new(common::server(driver).write_stall_timeout(ms(400)), 32 << 20, None);
            let begin = Instant::now();
            let client = scene.connect();
            assert!(matches!(scene.closed.next(), CloseReason::WriteStalled));
            let time = begin.elapsed();
            assert!((ms(400)..ms(700)).contains(&time), "{time:?}");
            drop(client);
            common::stop(scene.server);
        });
    }

    fn output_that_a_peer_takes_slowly_does_not_stall(driver) {
        // The reader itself must not be silent for as long.
        common::patiently(ms(200), |time| {
            let server = common::server(driver).write_stall_timeout(time).idle_timeout(time);
            let server = server.socket_send_buffer(SEND_BUFFER);
            let scene = Scene::new(server, 16 << 20, None);
            let clock = Scene::new(common::server(driver), 0, Some(ms(20)));
            let mut tick = clock.connect();
            let mut client = slow_reader(common::address(&scene.server, 0));
            let start = Instant::now();
            // Less in all than the socket wants free before it reports room.
            while start.elapsed() < 5 * time {
                common::read(&mut tick, 1);
                common::read(&mut client, a_little_of(time));
            }
            assert!(scene.closed.drain().is_empty(), "a slow reader was taken for a dead one");
            drop((tick, client));
            common::stop(clock.server);
            common::stop(scene.server);
        });
    }

    fn a_closing_connection_waits_for_a_slow_reader(driver) {
        common::patiently(ms(300), |time| {
            struct Farewell(bytes::Bytes);
            impl Handler for Farewell {
                type State = ();
                fn on_open(&mut self, conn: &mut Conn<'_>) {
                    conn.write_bytes(self.0.clone());
                    conn.close();
                }
                fn on_traffic(&mut self, _: &mut Conn<'_>, _: &mut (), _: &mut Input<'_>) -> Action {
                    Action::Continue
                }
            }
            let server = common::server(driver).close_timeout(time).socket_send_buffer(SEND_BUFFER);
            let farewell = bytes::Bytes::from(common::pattern(16 << 20));
            let given = farewell.clone();
            let server = server.listen("tcp://127.0.0.1:0");
            let server = common::start(server, move |_| Farewell(given.clone()));
            let clock = Scene::new(common::server(driver), 0, Some(ms(20)));
            let mut tick = clock.connect();
            let mut client = slow_reader(common::address(&server, 0));
            let start = Instant::now();
            let mut got = Vec::new();
            while start.elapsed() < 4 * time {
                common::read(&mut tick, 1);
                got.extend(common::read(&mut client, a_little_of(time)));
            }
            got.extend(common::read_to_end(&mut client));
            assert!(got == farewell, "{} bytes came", got.len());
            drop(tick);
            common::stop(clock.server);
            common::stop(server);
        });
    }
}
