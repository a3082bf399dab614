//! Connections that come and go leave no memory and no descriptor behind. Alone in its process,
//! because it measures the process.

mod common;

use std::sync::Mutex;
use std::time::Duration;
use tightloop::{Action, Conn, Handler, Input};

struct Echo;

impl Handler for Echo {
    type State = Vec<u8>;

    fn on_open(&mut self, _: &mut Conn<'_>) -> Vec<u8> {
        vec![0; 1024]
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut Vec<u8>,
        input: &mut Input<'_>,
    ) -> Action {
        let bytes = input.take_all();
        conn.write(bytes);
        if bytes == b"bye" { Action::Close } else { Action::Continue }
    }
}

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

fn cycles_leave_nothing(driver: common::Driver, cycles: usize) {
    let _alone = ALONE.lock();
    let server = common::server(driver).listen("tcp://127.0.0.1:0").loops(2);
    let server = common::start(server, |_| Echo);
    let (address, handle) = (common::address(&server, 0), server.handle());
    let cycle = |count: usize| {
        let mut client = common::connect(address);
        let message: &[u8] = if count.is_multiple_of(8) { b"bye" } else { b"hello" };
        assert_eq!(common::exchange(&mut client, message), message);
        if count.is_multiple_of(8) {
            assert!(common::is_closed(&mut client));
        }
        // A reset leaves no port waiting: there are fewer ports than cycles.
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a linger");
    };
    (0..cycles / 10).for_each(cycle);
    common::eventually("all are gone", || handle.connections() == 0);
    let before = held();
    (0..cycles).for_each(cycle);
    common::eventually("all are gone again", || handle.connections() == 0);
    if let (Some((pages, descriptors)), Some((pages_before, descriptors_before))) = (held(), before)
    {
        println!(
            "{cycles} cycles: {pages_before} pages and {descriptors_before} descriptors before, \
             {pages} and {descriptors} after"
        );
        assert!(pages < pages_before + 512, "memory grew from {pages_before} to {pages} pages");
        // Descriptors are closed just after on_close.
        common::eventually("descriptors are back", || {
            held().is_some_and(|(_, now)| now <= descriptors_before)
        });
        assert!(descriptors < descriptors_before + 8);
    }
    common::stop(server);
}

every_driver! {
    fn five_thousand_cycles_leave_nothing(driver) {
        cycles_leave_nothing(driver, 5_000);
    }

    #[ignore = "takes a minute"]
    fn a_hundred_thousand_cycles_leave_nothing(driver) {
        cycles_leave_nothing(driver, 100_000);
    }
}
