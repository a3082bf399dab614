//! Connected datagram sockets: that several datagrams come and leave together shows neither in what
//! a small receive buffer is told, nor where a handler wants its output sent at once.

mod closures;
mod common;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use closures::Script;
use common::{datagram_peer, receive_datagram};
use tightloop::{Action, Connect, Context, RunningServer};

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
        let peer = datagram_peer();
        let address = peer.local_addr().unwrap();
        let handle = server.handle().connect(to(address)).unwrap();
        let own = own.next();
        handle.write("a request").unwrap();
        assert_eq!(receive_datagram(&peer), b"a request");
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

    fn what_is_flushed_between_two_that_came_together_leaves_at_once(driver) {
        let (opened, own) = common::events();
        let (told, events) = common::events();
        let (go_on, wait) = channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let server = common::start(common::server(driver), move |_| {
            let (opened, told, wait) = (opened.clone(), told.clone(), Arc::clone(&wait));
            let ids = Rc::new(RefCell::new(Vec::new()));
            let others = Rc::clone(&ids);
            Script::new()
                .open(move |conn| {
                    ids.borrow_mut().push(conn.id());
                    opened.send(conn.local_addr().unwrap().socket_addr().unwrap()).unwrap();
                })
                .traffic(move |conn, input| {
                    let bytes = input.take_all();
                    if bytes == b"two" {
                        let _ = wait.lock().unwrap().recv_timeout(2 * common::DEADLINE);
                    }
                    conn.write(bytes);
                    conn.flush();
                    let own = conn.id();
                    for id in others.borrow().iter().filter(|id| **id != own) {
                        let mut other = conn.peer(*id).unwrap();
                        other.write(bytes);
                        other.flush();
                    }
                    told.send(()).unwrap();
                    Action::Continue
                })
        });
        let peers = [datagram_peer(), datagram_peer()];
        let [asked, _] = [0, 1].map(|n| {
            server.handle().connect(to(peers[n].local_addr().unwrap())).unwrap();
            own.next()
        });
        // Only behind the first message are several received together.
        peers[0].send_to(b"zero", asked).unwrap();
        peers.iter().for_each(|peer| assert_eq!(receive_datagram(peer), b"zero"));
        events.next();
        together(&server, || {
            peers[0].send_to(b"one", asked).unwrap();
            peers[0].send_to(b"two", asked).unwrap();
        });
        events.next();
        for peer in &peers {
            assert_eq!(receive_datagram(peer), b"one");
        }
        assert!(events.drain().is_empty(), "the second one's callback has not returned");
        go_on.send(()).unwrap();
        peers.iter().for_each(|peer| assert_eq!(receive_datagram(peer), b"two"));
        common::stop(server);
    }
}
