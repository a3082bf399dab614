//! Handshakes leave no memory and no descriptor behind, however they end. Alone in its process,
//! because it measures the process.

mod certificates;
mod closures;
mod common;
mod tls_client;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certificates::{Authority, BOTH};
use closures::Script;
use tls_client::{TLS, TLS12, client, exchange};

/// Measuring is for one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Pages of memory and open descriptors; `None` where they cannot be told.
fn held() -> Option<(usize, usize)> {
    // Wine shows Linux's /proc, of its own process.
    if cfg!(windows) {
        return None;
    }
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages = statm.split(' ').nth(1)?.parse().ok()?;
    Some((pages, std::fs::read_dir("/proc/self/fd").ok()?.count()))
}

fn handshakes_leave_nothing(driver: common::Driver, cycles: usize) {
    let _alone = ALONE.lock();
    let authority = Authority::new();
    let server = common::server(driver).listen(TLS).tls(authority.server(BOTH)).loops(2);
    let server = common::start(server, |_| Script::new());
    let (address, handle) = (common::address(&server, 0), server.handle());
    let configs = [Arc::new(authority.client(BOTH)), Arc::new(authority.client(TLS12))];
    let mut hello = tls_client::session(Arc::clone(&configs[0]), "localhost");
    let hello = tls_client::wire(&mut hello);
    let cycle = |count: usize| {
        // Half-way, not TLS at all, reset when it is open, and closed in order, by both versions.
        let mut stream = common::connect(address);
        match count % 8 {
            0 => stream.write_all(&hello).expect("it takes it"),
            1 => stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it takes it"),
            n => {
                let config = Arc::clone(&configs[n % 2]);
                let mut client = client(config, address);
                assert_eq!(exchange(&mut client, b"hello"), b"hello");
                if n > 4 {
                    tls_client::close(&mut client);
                    assert_eq!(common::read_to_end(&mut client), b"");
                }
                reset(&client.sock);
            }
        }
        // A reset leaves no port waiting: there are fewer ports than cycles.
        reset(&stream);
    };
    let settled = || {
        common::eventually("all are gone", || {
            let stats = handle.stats();
            let ended = stats.closed + stats.open_failures;
            handle.connections() == 0 && ended == stats.accepted && stats.pool_lent_buffers == 0
        });
        held()
    };
    // The caches of sessions are filled by this.
    (0..(cycles / 4).max(600)).for_each(cycle);
    let before = settled();
    (0..cycles).for_each(cycle);
    let after = settled();
    if let (Some((pages_before, descriptors_before)), Some((pages, _))) = (before, after) {
        println!("{cycles} cycles: {pages_before} pages before, {pages} after");
        assert!(pages < pages_before + 512, "memory grew from {pages_before} to {pages} pages");
        // Descriptors are closed just after the callbacks.
        common::eventually("descriptors are back", || {
            held().is_some_and(|(_, now)| now <= descriptors_before)
        });
    }
    assert!(handle.stats().handshakes > cycles as u64 / 2);
    common::stop(server);
}

fn reset(stream: &std::net::TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a linger");
}

every_driver! {
    fn hundreds_of_handshakes_leave_nothing(driver) {
        handshakes_leave_nothing(driver, 600);
    }

    #[ignore = "takes a minute"]
    fn ten_thousand_handshakes_leave_nothing(driver) {
        handshakes_leave_nothing(driver, 13_400);
    }
}
