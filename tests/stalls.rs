//! Callbacks that hold their loop for too long are counted and named.

mod common;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tightloop::{Action, Conn, Handler, Input};

/// What the framework has logged as a warning.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// One test at a time has the warnings.
static ALONE: Mutex<()> = Mutex::new(());

struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            WARNINGS.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

const THRESHOLD: Duration = Duration::from_millis(500);

/// Echoes, and blocks first when it is asked to.
struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        if input.as_slice() == b"block" {
            // sleep-ok: blocking is what the test is about.
            std::thread::sleep(THRESHOLD + Duration::from_millis(1));
        }
        conn.write(input.take_all());
        Action::Continue
    }
}

every_driver! {
    fn a_callback_that_takes_too_long_is_counted_and_named(driver) {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // Another driver's test may have set it.
        let _ = log::set_logger(&Warnings);
        log::set_max_level(log::LevelFilter::Warn);
        // A machine that stands still holds up other callbacks too.
        common::at_best(|| {
            WARNINGS.lock().unwrap().clear();
            let server = common::server(driver).stall_threshold(THRESHOLD);
            let server = common::start(server.listen("tcp://127.0.0.1:0"), |_| Echo);
            let mut client = common::connect(common::address(&server, 0));
            common::exchange(&mut client, b"quick");
            assert_eq!(server.handle().stats().stalls, 0);
            common::exchange(&mut client, b"block");
            assert_eq!(server.handle().stats().stalls, 1);
            let warnings = std::mem::take(&mut *WARNINGS.lock().unwrap());
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].starts_with("on_traffic took "), "{warnings:?}");
            common::stop(server);
        });
    }
}
