//! `Conn::relay_to` in a process that a SIGPIPE would end: a target that goes is no more than that.
#![cfg(unix)]

mod closures;
mod common;
mod relays;
mod scripted;

use std::net::Shutdown;

use closures::TCP;
use relays::{HIGH, LOW, MIB, teller, with_conn};
use scripted::{connect_narrow, reset, settle};

/// As in a process whose `main` is not Rust's.
#[allow(unsafe_code, reason = "std does not undo what it does to the signal at the start")]
fn have_sigpipe_kill() {
    // SAFETY: no handler is set; and the process is this test's alone.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    assert_ne!(before, libc::SIG_ERR);
}

every_driver! {
    fn a_target_that_goes_does_not_kill_the_process(driver) {
        if !closures::alone(driver, "a_target_that_goes_does_not_kill_the_process") {
            return;
        }
        have_sigpipe_kill();
        let server = common::server(driver).listen(TCP).half_close(true);
        let (server, ids, _traffic) = teller(server.high_watermark(HIGH).low_watermark(LOW));
        let to = common::address(&server, 0);
        for _ in 0..10 {
            let source = common::connect(to);
            let source_id = ids.next();
            let target = connect_narrow(to, 32 << 10);
            let target_id = ids.next();
            let pauses = server.handle().stats().pauses;
            assert!(with_conn(&server, source_id, move |conn| conn.relay_to(target_id)));
            let writer = common::write_in_background(&source, vec![1; 16 * MIB], false);
            common::eventually("it rests", || server.handle().stats().pauses > pauses);
            // A reset behind an end is told as a broken pipe.
            target.shutdown(Shutdown::Write).unwrap();
            settle(&server, 0);
            reset(target);
            writer.join().unwrap().unwrap();
        }
        common::stop(server);
    }
}
