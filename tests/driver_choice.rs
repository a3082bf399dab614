//! Which driver a loop gets: what was asked for, or what can be had, and that it is told.

mod common;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
mod refusing;

use std::sync::mpsc::channel;

#[cfg(not(all(target_os = "linux", feature = "io-uring")))]
use tightloop::Error;
use tightloop::{Driver, LoopInfo, Server};

use common::Echo;

/// What the factory of a loop over this driver is told; the loop then serves a message.
fn told(driver: Driver) -> tightloop::Result<LoopInfo> {
    let (sender, receiver) = channel();
    let server = Server::new().driver(driver).auto_prefers(Driver::IoUring);
    let server = server.listen("tcp://127.0.0.1:0").start(move |info| {
        // Nobody listens only where the test has failed.
        let _ = sender.send(info);
        Echo
    })?;
    let mut client = common::connect(common::address(&server, 0));
    assert_eq!(common::exchange(&mut client, b"over whatever"), b"over whatever");
    common::stop(server);
    Ok(receiver.try_recv().expect("the factory was called"))
}

#[test]
fn poll_can_be_had_everywhere() {
    let info = told(Driver::Poll).unwrap();
    assert_eq!((info.driver, info.fallback), (Driver::Poll, None));
}

#[test]
fn auto_serves_and_tells_what_it_has_chosen() {
    let info = told(Driver::Auto).unwrap();
    assert_ne!(info.driver, Driver::Auto);
    assert!(info.driver == Driver::Poll || info.fallback.is_none(), "{info:?}");
}

#[test]
#[cfg(not(all(target_os = "linux", feature = "io-uring")))]
fn io_uring_is_refused_where_it_is_not_built() {
    let error = told(Driver::IoUring).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    let text = error.to_string().replace('_', "-");
    assert!(text.contains("io-uring"), "{text}");
    assert!(cfg!(target_os = "linux") || text.contains(std::env::consts::OS), "{text}");
}

#[cfg(all(target_os = "linux", feature = "io-uring"))]
mod uring {
    use std::sync::Mutex;

    use super::*;
    use crate::refusing::Refused;

    #[test]
    fn io_uring_is_what_was_asked_for() {
        if common::can_be_had(common::Driver::Uring) {
            let info = told(Driver::IoUring).unwrap();
            assert_eq!((info.driver, info.fallback), (Driver::IoUring, None));
        }
    }

    #[test]
    fn auto_takes_io_uring_where_it_is_preferred_and_can_be_had() {
        if common::can_be_had(common::Driver::Uring) {
            let info = told(Driver::Auto).unwrap();
            assert_eq!((info.driver, info.fallback), (Driver::IoUring, None));
        }
    }

    /// A container's seccomp profile and io_uring_disabled, a kernel without it, and one that has no
    /// memory for a ring.
    #[test]
    fn a_system_that_refuses_io_uring_is_an_error_to_who_insists_and_none_to_auto() {
        for code in [libc::EPERM, libc::ENOSYS, libc::ENOMEM] {
            let refused = std::thread::spawn(move || {
                refuse_rings(code);
                let error = told(Driver::IoUring).unwrap_err();
                let source = std::error::Error::source(&error).expect("a source").to_string();
                assert!(source.contains("io_uring_setup"), "{source}");
                let info = told(Driver::Auto).unwrap();
                let reason = info.fallback.expect("a reason").to_string();
                assert_eq!(info.driver, Driver::Poll);
                assert!(reason.contains("io_uring_setup"), "{reason}");
            });
            refused.join().unwrap();
        }
    }

    /// What was logged at the level info.
    struct Lines(Mutex<Vec<String>>);

    static LINES: Lines = Lines(Mutex::new(Vec::new()));

    impl log::Log for Lines {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.level() == log::Level::Info
        }

        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                self.0.lock().unwrap().push(record.args().to_string());
            }
        }

        fn flush(&self) {}
    }

    #[test]
    fn why_the_loops_do_without_io_uring_is_logged_once_for_all_of_them() {
        log::set_logger(&LINES).unwrap();
        log::set_max_level(log::LevelFilter::Info);
        let refused = std::thread::spawn(|| {
            refuse_rings(libc::EUSERS); // No other test's.
            let server = Server::new().loops(3).auto_prefers(Driver::IoUring);
            let server = server.listen("tcp://127.0.0.1:0");
            common::stop(server.start(|_| Echo).unwrap());
        });
        refused.join().unwrap();
        let reason = std::io::Error::from_raw_os_error(libc::EUSERS).to_string();
        let lines = LINES.0.lock().unwrap();
        let told: Vec<_> = lines.iter().filter(|line| line.contains(&reason)).collect();
        assert_eq!(told.len(), 1, "{lines:?}");
        assert!(told[0].contains("io_uring_setup"), "{told:?}");
    }

    /// From now on io_uring_setup fails with this error, on this thread and those that it starts.
    fn refuse_rings(code: i32) {
        Refused { call: libc::SYS_io_uring_setup, third: None }.with(code);
    }
}
