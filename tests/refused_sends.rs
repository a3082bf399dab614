//! Short output that the socket refuses, in part or whole, after the loop has gone on: the driver
//! has to learn of it without anything else happening, and to send the rest when there is room.
//! Each byte is checked.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tightloop::{Action, Conn, Handler, Input, RunningServer};

/// Bytes of one answer: short enough to leave together with others'.
const ANSWER: usize = 1000;

/// Answers each byte with the next piece of the pattern, but for one that has it hold the loop, so
/// that all that is sent meanwhile comes together.
struct Pieces {
    pattern: Vec<u8>,
    held: Sender<()>,
    go_on: Receiver<()>,
}

impl Handler for Pieces {
    type State = usize;

    fn on_open(&mut self, _: &mut Conn<'_>) -> usize {
        0
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, at: &mut usize, input: &mut Input<'_>) -> Action {
        for byte in input.take_all() {
            if *byte == b'h' {
                self.held.send(()).expect("the test listens");
                self.go_on.recv().expect("the test goes on");
                continue;
            }
            conn.write(&self.pattern[*at..*at + ANSWER]);
            *at += ANSWER;
        }
        Action::Continue
    }
}

/// The server, and what tells that it is held and has it go on.
fn server(driver: common::Driver) -> (RunningServer<Pieces>, common::Events<()>, Sender<()>) {
    let server = common::server(driver).socket_send_buffer(4 << 10);
    let (held, is_held) = common::events();
    let (go, go_on) = channel();
    let parts = Mutex::new(Some((held, go_on)));
    let server = common::start(server.listen("tcp://127.0.0.1:0"), move |_| {
        let (held, go_on) = parts.lock().expect("one").take().expect("one loop");
        Pieces { pattern: common::pattern(1 << 20), held, go_on }
    });
    (server, is_held, go)
}

/// A client whose own buffer is as small as it can be.
fn narrow(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2 << 10).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(common::DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Asks for one answer each, in a turn of its own.
fn ask(server: &RunningServer<Pieces>, clients: &mut [TcpStream]) {
    let before = server.handle().stats().bytes_in;
    for client in &mut *clients {
        client.write_all(b"?").unwrap();
    }
    common::eventually("the server has the questions", || {
        server.handle().stats().bytes_in - before == clients.len() as u64
    });
}

/// Answers after which the socket of a client that does not read is full.
fn answers_that_fill_a_socket(server: &RunningServer<Pieces>) -> usize {
    let mut client = [narrow(common::address(server, 0))];
    let mut asked = 0;
    while server.handle().stats().partial_writes == 0 {
        ask(server, &mut client);
        asked += 1;
        assert!(asked < 1000, "the socket takes everything");
    }
    asked
}

every_driver! {
    fn a_refused_send_is_made_good_though_nothing_else_happens(driver) {
        let (server, is_held, go) = server(driver);
        let full = answers_that_fill_a_socket(&server);
        let pattern = common::pattern(1 << 20);
        let mut holder = common::connect(common::address(&server, 0));
        // The last one is refused, in part or whole, for some of these; nothing comes behind it that
        // would wake the loop, until the clients read. The last ones are asked for together: behind
        // a turn with several events the driver waits in another way.
        for count in full.saturating_sub(4).max(1)..full + 4 {
            let mut clients = [(); 6].map(|()| narrow(common::address(&server, 0)));
            for _ in 1..count {
                ask(&server, &mut clients);
            }
            holder.write_all(b"h").unwrap();
            is_held.next();
            for client in &mut clients {
                client.write_all(b"?").unwrap();
            }
            go.send(()).unwrap();
            for client in &mut clients {
                let answer = common::read(client, count * ANSWER);
                assert!(answer == pattern[..count * ANSWER], "{count} answers, but not these");
            }
        }
        common::stop(server);
    }

    fn a_peer_that_stops_and_goes_on_gets_each_byte(driver) {
        let (server, _is_held, _go) = server(driver);
        let pattern = common::pattern(1 << 20);
        let mut clients: Vec<_> =
            (0..8).map(|_| (narrow(common::address(&server, 0)), 0)).collect();
        for round in 0..12 {
            for (place, (client, _)) in clients.iter_mut().enumerate() {
                client.write_all(&b"????????"[..1 + (place + round) % 8]).unwrap();
            }
            // Each reads a part of what it is owed, and some nothing for a while.
            for (place, (client, read)) in clients.iter_mut().enumerate() {
                if (place + round) % 3 == 0 {
                    let part = common::read(client, 700);
                    assert!(part == pattern[*read..*read + 700], "client {place}, round {round}");
                    *read += 700;
                }
            }
        }
        for (place, (client, read)) in clients.iter_mut().enumerate() {
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let owed: usize = (0..12).map(|round| 1 + (place + round) % 8).sum::<usize>() * ANSWER;
            let rest = common::read_to_end(client);
            assert!(rest == pattern[*read..owed], "client {place}: {} bytes", rest.len());
        }
        common::stop(server);
    }

    fn a_send_that_fails_ends_its_own_connection_only(driver) {
        let (server, _is_held, _go) = server(driver);
        let mut witness = common::connect(common::address(&server, 0));
        let pattern = common::pattern(1 << 20);
        for round in 0..50 {
            let mut client = narrow(common::address(&server, 0));
            client.write_all(&[b'?'; 40][..1 + round % 40]).unwrap();
            // Behind some of the answers, or before all of them.
            if round % 2 == 0 {
                client.read_exact(&mut [0; 100]).unwrap();
            }
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            witness.write_all(b"?").unwrap();
            let at = round * ANSWER;
            assert!(common::read(&mut witness, ANSWER) == pattern[at..at + ANSWER], "{round}");
        }
        common::eventually("they are gone", || server.handle().connections() == 1);
        common::stop(server);
    }
}
