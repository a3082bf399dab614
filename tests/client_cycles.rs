//! Outgoing connections that come and go, or never come, leave no memory and no descriptor behind.
//! Alone in its process, because it measures the process.

mod closures;
mod common;
mod outgoing;

use std::sync::Mutex;

use closures::{Script, TCP};
use outgoing::{Told, closed_port, reporter};
use tightloop::Connect;

/// Measuring is for one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Pages of memory and open descriptors.
fn held() -> (usize, usize) {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).expect("resident pages").parse().expect("a number");
    (pages, std::fs::read_dir("/proc/self/fd").expect("Linux").count())
}

fn cycles_leave_nothing(driver: common::Driver, cycles: usize) {
    let _alone = ALONE.lock();
    // A reset leaves no port waiting: there are fewer ports than cycles.
    let server = common::server(driver).listen(TCP).linger(std::time::Duration::ZERO);
    let server = common::start(server, |_| {
        Script::new().traffic(|conn, input| {
            input.take_all();
            conn.abort();
            tightloop::Action::Continue
        })
    });
    let url = common::address(&server, 0).to_string();
    let (told, events) = common::events();
    let client = common::client(driver).loops(2).start(move |_| reporter(&told)).unwrap();
    let (living, dead) = (url, closed_port().to_string());
    let cycle = |count: usize| {
        // Some are never there, some are given up at once, the rest is reset by the server.
        let url = if count % 3 == 1 { &dead } else { &living };
        let conn = client.connect(Connect::to(&url.parse().unwrap())).unwrap();
        if count % 3 == 2 {
            // It may have been reset already.
            let _ = conn.close();
        }
        while matches!(events.next(), Told::Opened { .. }) {}
    };
    (0..cycles / 10).for_each(cycle);
    let before = held();
    (0..cycles).for_each(cycle);
    common::eventually("descriptors are back", || held().1 <= before.1 + 2);
    let after = held();
    println!("{cycles} cycles: {} pages before, {} after", before.0, after.0);
    assert!(after.0 < before.0 + 512, "memory grew from {} to {} pages", before.0, after.0);
    client.stop();
    client.join().unwrap();
    common::stop(server);
}

every_driver! {
    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn three_thousand_outgoing_connections_leave_nothing(driver) {
        cycles_leave_nothing(driver, 3_000);
    }

    #[ignore = "takes a minute"]
    fn a_hundred_thousand_outgoing_connections_leave_nothing(driver) {
        cycles_leave_nothing(driver, 100_000);
    }
}
