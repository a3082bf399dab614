//! Connected datagram sockets: that several datagrams come and leave together does not show in what a
//! small receive buffer is told.

mod closures;
mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::channel;

use closures::Script;
use tightloop::{Action, Connect, Context, RunningServer};

fn peer() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(common::DEADLINE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let length = socket.recv(&mut bytes).expect("a datagram comes");
    bytes.truncate(length);
    bytes
}

fn to(address: SocketAddr) -> Connect {
    Connect::to(&format!("udp://{address}").parse().unwrap())
}

/// Runs `while_blocked` while the loop does nothing, so that what comes meanwhile comes together.
fn together(server: &RunningServer<Script>, while_blocked: impl FnOnce()) {
    let (blocked, events) = common::events();
    let (free, wait) = channel::<()>();
    let block = move |_: &mut Script, _: &mut Context<'_, Script>| {
        blocked.send(()).unwrap();
        let _ = wait.recv();
    };
    server.loops()[0].execute(block).unwrap();
    events.next();
    while_blocked();
    drop(free);
}

every_driver! {
    fn a_joined_burst_is_told_one_by_one_into_a_small_receive_buffer(driver) {
        // Together they are more than the buffer holds, and many times what one has.
        let (count, size) = (30, 1_200);
        let (told, events) = common::events();
        let (opened, own) = common::events();
        let server = common::server(driver).receive_buffer(16 << 10);
        let server = common::start(server, move |_| {
            let (told, opened) = (told.clone(), opened.clone());
            Script::new()
                .open(move |conn| {
                    opened.send(conn.local_addr().unwrap().socket_addr().unwrap()).unwrap();
                })
                .traffic(move |_, input| {
                    told.send(input.take_all().to_vec()).unwrap();
                    Action::Continue
                })
        });
        let peer = peer();
        let address = peer.local_addr().unwrap();
        let handle = server.handle().connect(to(address)).unwrap();
        let own = own.next();
        handle.write("a request").unwrap();
        assert_eq!(receive(&peer), b"a request");
        drop(peer);
        let sender = common::start(common::server(driver), move |_| {
            Script::new().wake(move |conn| {
                (0..count).for_each(|number| _ = conn.write(&vec![number; size]));
                Action::Continue
            })
        });
        let sending = sender.handle().connect(to(own).local_addr(address)).unwrap();
        common::eventually("it is open", || sender.handle().connections() == 1);
        together(&server, || {
            sending.wake().unwrap();
            let sent = || sender.handle().stats().datagrams_out;
            common::eventually("all are sent", || sent() == u64::from(count));
        });
        for number in 0..count {
            assert_eq!(events.next(), vec![number; size]);
        }
        assert_eq!(server.handle().stats().datagrams_truncated, 0);
        common::stop(sender);
        common::stop(server);
    }
}
