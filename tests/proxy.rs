//! A small proxy: each client's bytes go to a back end and back, over TCP and Unix sockets.

mod closures;
mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::time::Duration;

#[cfg(unix)]
use closures::Directory;
use closures::TCP;
use tightloop::{
    Action, CloseReason, Conn, ConnId, Direction, Endpoint, Handler, Input, RunningServer, Server,
};

/// Forwards between each connection and the one it made, or was made for.
struct Proxy {
    to: Endpoint,
}

impl Handler for Proxy {
    /// The other side.
    type State = ConnId;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> ConnId {
        if conn.direction() == Direction::Incoming {
            return conn.connect(&self.to).expect("a stream endpoint");
        }
        let client = conn.initiator().expect("a client asked for it");
        if conn.peer(client).is_none() {
            conn.close();
        }
        client
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        other: &mut ConnId,
        input: &mut Input<'_>,
    ) -> Action {
        let Some(mut other) = conn.peer(*other) else {
            return Action::Close;
        };
        let pending = other.write(input.take_all());
        if pending > 256 << 10 {
            conn.pause_reading();
        }
        Action::Continue
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, other: &mut ConnId) -> Action {
        if let Some(mut other) = conn.peer(*other) {
            other.resume_reading();
        }
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, other: ConnId, _: CloseReason) {
        if let Some(mut other) = conn.peer(other) {
            other.close();
        }
    }

    fn on_open_failed(&mut self, conn: &mut Conn<'_>, _: CloseReason) {
        let client = conn.initiator().expect("a client asked for it");
        if let Some(mut client) = conn.peer(client) {
            client.write(b"no back end");
            client.close();
        }
    }
}

fn proxy(server: Server, to: &str) -> RunningServer<Proxy> {
    let to: Endpoint = to.parse().unwrap();
    let server = server.high_watermark(256 << 10).low_watermark(64 << 10).listen(TCP);
    common::start(server, move |_| Proxy { to: to.clone() })
}

/// Sends back what comes, on a thread for each connection, until the peer has sent its end.
fn echo_back_end(mut stream: impl Read + Write + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    });
}

/// Ten clients send a mebibyte each and must get it back.
fn check(server: &RunningServer<Proxy>) {
    let to = common::address(server, 0);
    let message = common::pattern(1 << 20);
    let clients: Vec<_> = (0..10)
        .map(|_| {
            let client = common::connect(to);
            let writer = common::write_in_background(&client, message.clone(), false);
            (client, writer)
        })
        .collect();
    for (mut client, writer) in clients {
        assert!(common::read(&mut client, message.len()) == message, "the bytes differ");
        writer.join().unwrap().unwrap();
    }
    common::eventually("all are closed", || server.handle().connections() == 0);
    let stats = server.handle().stats();
    assert_eq!((stats.opened, stats.closed), (20, 20));
}

every_driver! {
    fn a_mebibyte_passes_both_ways_to_a_tcp_back_end(driver) {
        let back_end = TcpListener::bind("127.0.0.1:0").unwrap();
        for host in ["127.0.0.1", "localhost"] {
            let to = format!("tcp://{host}:{}", back_end.local_addr().unwrap().port());
            let listener = back_end.try_clone().unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming().take(10) {
                    echo_back_end(stream.unwrap());
                }
            });
            let server = proxy(common::server(driver).loops(2), &to);
            check(&server);
            common::stop(server);
        }
    }

    fn more_than_all_buffers_hold_passes_both_ways_at_once(driver) {
        let back_end = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = back_end.local_addr().unwrap().to_string();
        let socket = socket2::SockRef::from(&back_end);
        socket.set_send_buffer_size(32 << 10).unwrap();
        socket.set_recv_buffer_size(32 << 10).unwrap();
        std::thread::spawn(move || echo_back_end(back_end.accept().unwrap().0));
        let server = common::server(driver).socket_send_buffer(32 << 10);
        let server = proxy(server.socket_receive_buffer(32 << 10), &to);
        let mut client = common::connect(common::address(&server, 0));
        let message = common::pattern(8 << 20);
        // Reading all the time, the client is not to blame for any delay.
        let writer = common::write_in_background(&client, message.clone(), false);
        assert!(common::read(&mut client, message.len()) == message, "the bytes differ");
        writer.join().unwrap().unwrap();
        drop(client);
        common::stop(server);
    }

    #[cfg(unix)]
    fn a_mebibyte_passes_both_ways_to_a_unix_back_end(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("back-end");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(10) {
                echo_back_end(stream.unwrap());
            }
        });
        let server = proxy(common::server(driver), &url);
        check(&server);
        common::stop(server);
    }

    fn the_end_of_the_back_end_reaches_the_client_after_its_last_bytes(driver) {
        let back_end = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = proxy(common::server(driver), &back_end.local_addr().unwrap().to_string());
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"request").unwrap();
        let (mut outgoing, _) = back_end.accept().unwrap();
        assert_eq!(common::read(&mut outgoing, 7), b"request");
        let answer = common::pattern(3 << 20);
        let writer = common::write_in_background(&outgoing, answer.clone(), true);
        assert!(common::read_to_end(&mut client) == answer, "the answer is cut");
        writer.join().unwrap().unwrap();
        drop((client, outgoing));
        common::stop(server);
    }

    fn without_a_back_end_the_client_is_told(driver) {
        let closed = common::closed_port();
        let server = proxy(common::server(driver).loops(2), &closed.to_string());
        for _ in 0..10 {
            let mut client = common::connect(common::address(&server, 0));
            assert_eq!(common::read_to_end(&mut client), b"no back end");
        }
        let stats = server.handle().stats();
        assert_eq!(stats.opened, 10);
        common::stop(server);
    }

    fn a_client_that_leaves_while_its_back_end_is_connected_leaves_nothing(driver) {
        let back_end = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = proxy(common::server(driver), &back_end.local_addr().unwrap().to_string());
        for round in 0..100 {
            let client = common::connect(common::address(&server, 0));
            if cfg!(windows) {
                // Which hands out no connection that has been reset before.
                let accepted = || server.handle().stats().accepted;
                common::eventually("it is accepted", || accepted() == round + 1);
            }
            if round % 2 == 0 {
                socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(client);
            let (mut outgoing, _) = back_end.accept().unwrap();
            outgoing.set_read_timeout(Some(common::DEADLINE)).unwrap();
            assert!(common::is_closed(&mut outgoing));
            // It may have been reset already.
            let _ = outgoing.shutdown(Shutdown::Both);
        }
        common::eventually("all are closed", || server.handle().connections() == 0);
        let (count, events) = common::events();
        common::eventually("no slot is taken", || {
            let count = count.clone();
            let job = move |_: &mut Proxy, cx: &mut tightloop::Context<'_, Proxy>| {
                count.send(cx.connections()).unwrap();
            };
            server.loops()[0].execute(job).unwrap();
            events.next() == 0
        });
        common::stop(server);
    }
}
