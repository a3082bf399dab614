//! A process that takes over from another one, by an exec: nobody is lost, and one that fails
//! changes nothing. `ci/hot_restart.py` does the same with the example, under more load.
#![cfg(unix)]

mod closures;
mod common;
mod handing;

use std::io::{self, ErrorKind, Read};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use closures::{Directory, TCP, test_path};
use common::Echo;
use handing::{Clients, answers, ask, echo, on_all, release_and_stop, ways};
use tightloop::{Inherited, ServerHandle, Successor};

every_driver! {
    fn a_process_takes_over_from_another_one_under_load(driver) {
        if let Ok(role) = std::env::var("HANDOVER_ROLE") {
            return succeed(driver, &role);
        }
        for (n, way) in ways(driver).into_iter().enumerate() {
            let directory = Directory::new();
            let (server, path) = on_all(way, &directory);
            let old = common::start(server, |_| echo());
            let (tcp, udp) = (common::address(&old, 0), common::address(&old, 2));
            let clients = Clients::start(tcp, &path, udp);
            clients.are_served(20);
            let role = format!("{n} {}", path.display());
            let mut new = successor(&old.handle(), driver, &role);
            new.wait_until_ready(common::DEADLINE).unwrap();
            new.wait_until_ready(Duration::ZERO).unwrap();
            clients.are_served(20);
            release_and_stop(old);
            assert!(path.exists(), "the path was handed over");
            clients.are_served(20);
            clients.stop();
            assert!(answers(udp));
            // It stops in order when its standard input ends.
            let mut child = new.into_child().unwrap();
            drop(child.stdin.take());
            assert!(child.wait().unwrap().success());
            assert!(!path.exists(), "whoever stops last removes the path");
        }
    }

    fn a_successor_that_fails_changes_nothing(driver) {
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let server = common::start(common::server(driver).listen(TCP).listen(url), |_| Echo);
        let handle = server.handle();
        let mut ends = handle.start_successor(Command::new("false")).unwrap();
        let error = ends.wait_until_ready(common::DEADLINE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
        let mut hangs = Command::new("sleep");
        hangs.arg("1000");
        let mut hangs = handle.start_successor(hangs).unwrap();
        let error = hangs.wait_until_ready(Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(hangs.into_child().is_none(), "it was ended and waited for");
        let missing = handle.start_successor(Command::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        ask(common::connect(common::address(&server, 0))).unwrap();
        ask(UnixStream::connect(&path).unwrap()).unwrap();
        let to = common::address(&server, 0);
        common::stop(server);
        assert!(!path.exists());
        // A child of another test may have it until its own program begins.
        common::eventually("nobody has the listener", || TcpListener::bind(to).is_ok());
    }

    fn a_successor_that_cannot_serve_leaves_the_paths(driver) {
        if let Ok(role) = std::env::var("HANDOVER_ROLE") {
            let mut inherited = Inherited::take().unwrap();
            let server = common::server(driver).inherit(&mut inherited).listen(TCP);
            let server = server.listen(role);
            // Started, but ended before it could say so; or not started, as the last URL fails.
            match server.listen(std::env::var("LAST").unwrap()).start(|_| Echo) {
                Ok(server) => common::stop(server),
                Err(error) => assert!(matches!(error, tightloop::Error::Listen { .. })),
            }
            return;
        }
        let directory = Directory::new();
        let (path, url) = directory.socket("socket");
        let server = common::server(driver).listen(TCP).listen(&*url);
        let server = common::start(server, |_| Echo);
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let busy = format!("tcp://{}", busy.local_addr().unwrap());
        for last in [TCP, &*busy] {
            let test = "a_successor_that_cannot_serve_leaves_the_paths";
            let mut command = again(driver, test, &url);
            command.env("LAST", last);
            let mut new = server.handle().start_successor(command).unwrap();
            let error = new.wait_until_ready(common::DEADLINE).unwrap_err();
            assert!(error.to_string().contains("exit status: 0"), "{error}");
            ask(UnixStream::connect(&path).unwrap()).unwrap();
        }
        common::stop(server);
        assert!(!path.exists(), "it is the last one");
    }

    fn how_a_successor_ends_is_told(driver) {
        let test = "how_a_successor_ends_is_told";
        if std::env::var_os("HANDOVER_ROLE").is_some() {
            drop(Inherited::take().unwrap());
            // sleep-ok: it closes everything a while before it ends, as programs do that say what is wrong.
            std::thread::sleep(Duration::from_millis(100));
            std::process::exit(7);
        }
        let server = common::start(common::server(driver).listen(TCP), |_| Echo);
        let mut new = server.handle().start_successor(again(driver, test, "")).unwrap();
        let error = new.wait_until_ready(Duration::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(error.to_string().contains("exit status: 7"), "{error}");
        common::stop(server);
    }
}

/// Starts the calling test once more, in a process that takes over.
fn successor(old: &ServerHandle, driver: common::Driver, role: &str) -> Successor {
    let test = "a_process_takes_over_from_another_one_under_load";
    old.start_successor(again(driver, test, role)).unwrap()
}

/// Another process of the same test.
fn again(driver: common::Driver, test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &test_path(driver, test), "--nocapture", "--test-threads=1"]);
    command.env("HANDOVER_ROLE", role).stdin(Stdio::piped()).stdout(Stdio::null());
    command
}

/// The life of that process.
fn succeed(driver: common::Driver, role: &str) {
    let (n, path) = role.split_once(' ').unwrap();
    let mut inherited = Inherited::take().unwrap();
    assert!(inherited.is_successor());
    assert!(Inherited::take().is_err(), "nothing is taken twice");
    let way = ways(driver).into_iter().nth(n.parse().unwrap()).unwrap();
    let server = way.inherit(&mut inherited);
    let server = server.listen(TCP).listen(format!("unix://{path}")).listen("udp://127.0.0.1:0");
    let server = common::start(server, |_| echo());
    assert_eq!(inherited.names().count(), 0);
    inherited.ready().unwrap();
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let handle = server.handle();
    common::stop(server);
    assert!(handle.stats().opened > 0, "clients came here");
}
