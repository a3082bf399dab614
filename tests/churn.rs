//! Thousands of short connections leave nothing behind. Alone in its process, because it counts
//! the process's descriptors.

mod common;
mod scripted;

use std::io::Write;
use std::sync::Mutex;

use scripted::{Script, reset};
use tightloop::Action;

/// Counting is for one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Open descriptors of this process; `None` where they cannot be counted.
fn descriptors() -> Option<usize> {
    // Wine shows Linux's /proc, of its own process.
    if cfg!(windows) {
        return None;
    }
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

every_driver! {
    fn two_thousand_short_connections_leave_no_descriptor_and_no_connection(driver) {
        let _alone = ALONE.lock();
        let server = common::server(driver).listen("tcp://127.0.0.1:0").loops(2);
        let server = common::start(server, |_| Script::<()>::new().traffic(|conn, (), input| {
            let bytes = input.take_all();
            conn.write(bytes);
            if bytes.contains(&b'c') { Action::Close } else { Action::Continue }
        }));
        let address = common::address(&server, 0);
        drop(common::connect(address));
        common::eventually("the first is gone", || server.handle().stats().closed == 1);
        let before = descriptors();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for n in 0..500 {
                        let mut client = common::connect(address);
                        match (n + thread) % 5 {
                            0 => drop(client),
                            1 => {
                                client.write_all(b"x").unwrap();
                                reset(client);
                            }
                            2 => {
                                client.write_all(b"close").unwrap();
                                assert_eq!(common::read_to_end(&mut client), b"close");
                            }
                            3 => assert_eq!(common::exchange(&mut client, b"hello"), b"hello"),
                            _ => client.write_all(b"never read").unwrap(),
                        }
                    }
                });
            }
        });
        let watch = server.handle();
        common::eventually("all are closed", || match watch.stats() {
            // Windows does not hand out, nor count, a connection that has been reset.
            stats if cfg!(windows) => stats.accepted == stats.closed,
            stats => stats.closed == 2_001,
        });
        let stats = watch.stats();
        assert_eq!((stats.accepted, stats.opened), (stats.closed, stats.closed));
        assert_eq!(watch.connections(), 0);
        // Descriptors are closed just after on_close.
        common::eventually("descriptors are back", || descriptors() <= before);
        common::stop(server);
    }
}
