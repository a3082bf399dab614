//! What a platform does not have is refused at set-up, by an error that names option and platform;
//! what every platform has is not. Each test is for whatever system it runs on.

mod common;

use std::time::Duration;

use common::Echo;
use tightloop::{Error, Keepalive, Server};

const TCP: &str = "tcp://127.0.0.1:0";

const IS_LINUX: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The server starts exactly where the platform has what it asks for; elsewhere the error names
/// that, and the platform.
fn check(server: Server, is_there: bool, name: &str) {
    match server.start(|_| Echo) {
        Ok(running) => {
            assert!(is_there, "{name} was taken, and cannot have been meant");
            common::stop(running);
        }
        Err(Error::Unsupported { what }) => {
            assert!(!is_there, "{name} is there, and was refused: {what}");
            assert!(what.contains(name) && what.contains(std::env::consts::OS), "{what}");
        }
        Err(other) => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_socket_for_each_loop_is_there_where_the_kernel_spreads_connections() {
    check(Server::new().listen(TCP).reuse_port(true), common::SPREADS, "reuse_port");
    check(
        Server::new().listen("udp://127.0.0.1:0").reuse_port(true),
        common::SPREADS,
        "reuse_port",
    );
}

#[test]
fn pinned_loops_are_there_where_a_thread_can_be_pinned() {
    check(Server::new().listen(TCP).loops(2).pin_loops(true), IS_LINUX, "pin_loops");
}

#[test]
fn unix_sockets_are_there_where_std_has_them() {
    let path = std::env::temp_dir().join(format!("tl-limits-{}", std::process::id()));
    let url = format!("unix://{}", path.display());
    check(Server::new().listen(url), cfg!(unix), "Unix sockets");
}

#[test]
fn an_idle_time_alone_is_a_keepalive_everywhere() {
    let idle = Keepalive::new(Duration::from_secs(60));
    check(Server::new().listen(TCP).keepalive(idle), true, "keepalive");
}

#[test]
fn the_times_of_keepalive_are_there_but_on_openbsd() {
    let times = Keepalive::new(Duration::from_secs(60)).interval(Duration::from_secs(10));
    check(
        Server::new().listen(TCP).keepalive(times),
        cfg!(not(target_os = "openbsd")),
        "keepalive",
    );
}

/// Windows has it since 10, version 1703: there it may be taken, or refused by name.
#[test]
fn a_count_of_keepalive_is_taken_or_refused_by_name() {
    let count = Keepalive::new(Duration::from_secs(60)).count(3);
    let server = Server::new().listen(TCP).keepalive(count);
    if !cfg!(windows) {
        return check(server, cfg!(not(target_os = "openbsd")), "keepalive");
    }
    match server.start(|_| Echo) {
        Ok(running) => common::stop(running),
        Err(Error::Unsupported { what }) => {
            assert!(what.contains("keepalive") && what.contains("windows"), "{what}");
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_scope_by_name_is_there_where_interfaces_have_names() {
    let refused = Server::new().listen("tcp://[fe80::1%no-such-interface]:0").start(|_| Echo);
    let error = refused.expect_err("there is no such interface").to_string();
    assert!(error.contains("no-such-interface"), "{error}");
    assert!(cfg!(unix) || error.contains(std::env::consts::OS), "{error}");
}

/// Two sockets on one port would be two servers that take each other's clients.
#[test]
fn a_port_is_nobody_elses_however_the_platform_reuses_addresses() {
    let first = common::start(Server::new().listen(TCP), |_| Echo);
    let taken = format!("tcp://{}", common::address(&first, 0));
    match Server::new().listen(taken).start(|_| Echo) {
        Err(Error::Listen { source, .. }) => {
            assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("{:?}", other.err()),
    }
    common::stop(first);
}
