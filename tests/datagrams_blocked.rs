//! A datagram socket that takes no more: what waits for it is sent later, in order, once, and up
//! to a bound. The loopback interface is too fast for that, so the tests run in a network
//! namespace of their own, whose loopback interface is slow. Where the system does not let them
//! have one, they say so and do nothing: the simulated network blocks sockets too.
#![cfg(target_os = "linux")]

mod closures;
mod common;
mod packets;

use std::process::Command;

use closures::{Script, test_path};
use common::Driver;
use packets::{UDP, client, counted, number_of, numbered, receive};
use tightloop::{Action, RunningServer};

/// Exit code of a shell that could not slow the interface down.
const NO_NAMESPACE: i32 = 77;

/// True in a process whose loopback interface moves 50 Mbit/s; in the test's own process it starts
/// that other one and fails if it does.
fn on_a_slow_interface(driver: Driver, test: &str) -> bool {
    let path = test_path(driver, test);
    if std::env::var_os("TIGHTLOOP_SLOW").is_some_and(|slow| *slow == *path) {
        return true;
    }
    let script = format!(
        "{{ ip link set lo up && tc qdisc add dev lo root tbf rate 50mbit burst 100kb limit 50mb; }} \
         || exit {NO_NAMESPACE}; exec \"$0\" --exact {path} --nocapture --test-threads=1"
    );
    let program = std::env::current_exe().expect("the test's own program");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", &script])
        .arg(program)
        .env("TIGHTLOOP_SLOW", &path)
        .output();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output {
        Ok(output) if text(&output.stdout).contains("running 1 test") => {
            let whole = text(&output.stdout) + &text(&output.stderr);
            assert!(output.status.success() && whole.contains("1 passed"), "{whole}");
        }
        Ok(output) => eprintln!("skipped: no slow interface here: {}", text(&output.stderr)),
        Err(error) => eprintln!("skipped: no slow interface here: {error}"),
    }
    false
}

/// A server that answers with so many datagrams of 1,000 bytes, and each also to whoever has
/// asked before.
fn answering(driver: Driver, count: u32) -> RunningServer<Script> {
    common::start(common::server(driver).listen(UDP), move |_| {
        let mut before = None;
        Script::new().datagram(move |datagram| {
            let peer = datagram.peer_addr();
            let Some(before) = before.replace(peer) else { return Action::Continue };
            for number in 0..count {
                datagram.reply(&numbered(number, 1_000));
                datagram.send_to(before, &numbered(number, 1_000 - number as usize % 2));
            }
            Action::Continue
        })
    })
}

every_driver! {
    fn what_waits_for_a_full_socket_is_sent_once_and_in_order(driver) {
        // To each of two: more in all than the server's socket holds, and no more than a client's.
        const EACH: u32 = 150;
        if !on_a_slow_interface(driver, "what_waits_for_a_full_socket_is_sent_once_and_in_order") {
            return;
        }
        // Whether the socket is full can be seen only until all has left.
        common::at_best(|| {
            let server = answering(driver, EACH);
            let clients = [client("127.0.0.1:0"), client("127.0.0.1:0")];
            for client in &clients {
                // Room for all that it gets, however late it reads them.
                socket2::SockRef::from(client).set_recv_buffer_size(1 << 20).unwrap();
                client.send_to(b"go", common::address(&server, 0)).unwrap();
            }
            assert_eq!(number_of(&receive(&clients[0]).0), 0);
            assert!(server.handle().stats().datagrams_out < 2 * u64::from(EACH), "the socket was never full");
            for number in 0..EACH {
                let size = 1_000 - number as usize % 2;
                if number > 0 {
                    assert!(receive(&clients[0]).0 == numbered(number, size), "{number}");
                }
                assert!(receive(&clients[1]).0 == numbered(number, 1_000), "{number}");
            }
            assert!(clients.iter().all(packets::has_nothing));
            counted(&server, "all", |stats| stats.datagrams_out == 2 * u64::from(EACH));
            assert_eq!(server.handle().stats().datagrams_dropped, 0);
            common::stop(server);
        });
    }

    fn what_a_full_socket_has_no_room_for_is_dropped_and_counted(driver) {
        if !on_a_slow_interface(driver, "what_a_full_socket_has_no_room_for_is_dropped_and_counted") {
            return;
        }
        let server = answering(driver, 2_000);
        let clients = [client("127.0.0.1:0"), client("127.0.0.1:0")];
        for client in &clients {
            client.send_to(b"go", common::address(&server, 0)).unwrap();
        }
        counted(&server, "all have been sent or dropped", |stats| {
            stats.datagrams_out + stats.datagrams_dropped == 4_000
        });
        let stats = server.handle().stats();
        assert!((500..3_500).contains(&stats.datagrams_dropped), "{}", stats.datagrams_dropped);
        // The oldest were kept, and they are in order; the client's own buffer may have lost some.
        for client in &clients {
            assert_eq!(number_of(&receive(client).0), 0);
            client.set_nonblocking(true).unwrap();
            let (mut last, mut buffer) = (0, [0; 1_000]);
            while let Ok(length) = client.recv(&mut buffer) {
                let number = number_of(&buffer[..length]);
                assert!(number > last, "{number} after {last}");
                last = number;
            }
            assert!(last > 10, "{last}");
        }
        common::stop(server);
    }
}
