//! Starts that do not come off: refusals, panics, and what is left of them, which is nothing; and
//! panics later on.

mod closures;
mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use closures::{Script, TCP, alone, ended, joined, wait_for_the_end_of_threads};
use tightloop::{Action, CloseReason, Error, HandleError, PanicPolicy, RunningServer, Server};

/// A port that is free now.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Counts the connections that are opened.
fn counting(opened: &Arc<AtomicUsize>) -> Script {
    let opened = Arc::clone(opened);
    Script::new().open(move |_| {
        opened.fetch_add(1, Ordering::SeqCst);
    })
}

/// Two loops; the one that serves the client on which "panic" is said panics, and is told to end
/// the server.
fn that_panics(server: Server) -> (RunningServer<Script>, common::Events<String>) {
    let (closed, events) = common::events();
    let server = common::start(
        server.panic_policy(PanicPolicy::StopServer).loops(2).listen(TCP),
        move |_| {
            let (closed, done) = (closed.clone(), closed.clone());
            Script::new()
                .traffic(move |conn, input| {
                    match input.take_all() {
                        b"panic" => panic!("the handler's own fault"),
                        b"much" => {
                            let done = done.clone();
                            let told = move |result| done.send(format!("{result:?}")).unwrap();
                            conn.handle().write_then(common::pattern(32 << 20), told).unwrap();
                        }
                        other => {
                            conn.write(other);
                        }
                    }
                    Action::Continue
                })
                .close(move |_, reason| closed.send(reason.to_string()).unwrap())
        },
    );
    (server, events)
}

/// A server that a panic of the handler ends.
fn stopping(driver: common::Driver) -> Server {
    common::server(driver).panic_policy(PanicPolicy::StopServer)
}

every_driver! {
    fn shutdown_from_on_boot_ends_run_with_ok(driver) {
        let opened = Arc::default();
        let count = Arc::clone(&opened);
        let server = common::server(driver).loops(3).listen(TCP).start(move |info| {
            counting(&count).boot(move |_| match info.index {
                1 => Action::Shutdown,
                _ => Action::Continue,
            })
        });
        ended(server.unwrap());
        assert_eq!(opened.load(Ordering::SeqCst), 0);
    }

    fn a_server_that_refused_at_on_boot_serves_not_even_those_who_wait_already(driver) {
        let opened = Arc::default();
        let count = Arc::clone(&opened);
        let server = common::server(driver).listen(TCP).start(move |_| {
            counting(&count).boot(|server| {
                let mut client = common::connect(server.local_addrs()[0].socket_addr().unwrap());
                client.write_all(b"anybody there?").unwrap();
                std::mem::forget(client);
                Action::Shutdown
            })
        });
        server.unwrap().join().unwrap();
        assert_eq!(opened.load(Ordering::SeqCst), 0, "on_open of a server that refused to serve");
    }

    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn a_panic_of_the_factory_fails_the_start_and_leaves_nothing(driver) {
        if !alone(driver, "a_panic_of_the_factory_fails_the_start_and_leaves_nothing") {
            return;
        }
        let to = free_port();
        let server = common::server(driver).loops(3).listen(format!("tcp://{to}"));
        let started = server.start(|info| {
            assert!(info.index != 1, "no handler for loop 1");
            Script::new()
        });
        let error = started.expect_err("the factory panicked");
        assert!(matches!(error, Error::LoopPanicked { index: 1, .. }), "{error}");
        assert!(error.to_string().contains("no handler for loop 1"), "{error}");
        wait_for_the_end_of_threads();
        TcpListener::bind(to).expect("the port is free at once");
    }

    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn a_panic_in_on_boot_fails_the_start_and_leaves_nothing(driver) {
        if !alone(driver, "a_panic_in_on_boot_fails_the_start_and_leaves_nothing") {
            return;
        }
        let to = free_port();
        let server = common::server(driver).loops(2).listen(format!("tcp://{to}"));
        let started = server.start(|info| {
            Script::new().boot(move |_| {
                assert!(info.index != 1, "loop 1 cannot boot");
                Action::Continue
            })
        });
        let error = started.expect_err("on_boot panicked");
        assert!(matches!(error, Error::LoopPanicked { index: 1, .. }), "{error}");
        wait_for_the_end_of_threads();
        TcpListener::bind(to).expect("the port is free at once");
    }

    fn a_panic_of_the_handler_ends_the_server_and_is_told_by_join(driver) {
        let (server, events) = that_panics(stopping(driver));
        let to = common::address(&server, 0);
        let mut clients: Vec<TcpStream> = (0..10).map(|_| common::connect(to)).collect();
        for client in &mut clients {
            assert_eq!(common::exchange(client, b"here"), b"here");
        }
        clients[0].write_all(b"panic").unwrap();
        for client in &mut clients {
            assert!(common::is_closed(client));
        }
        let (outcome, _) = joined(server);
        let error = outcome.expect_err("a handler panicked");
        assert!(matches!(error, Error::LoopPanicked { index: 0, .. }), "{error}");
        assert!(error.to_string().contains("the handler's own fault"), "{error}");
        // The five of the other loop were told of in order.
        let stopped = CloseReason::ServerStopped.to_string();
        let told = events.drain();
        let others = told.iter().filter(|reason| **reason == stopped).count();
        assert!(others >= 5, "{told:?}");
    }

    fn a_loop_that_panicked_takes_no_more_jobs(driver) {
        let (server, _) = that_panics(stopping(driver));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"panic").unwrap();
        assert!(common::is_closed(&mut client));
        let loops = server.loops().to_vec();
        joined(server).0.expect_err("a handler panicked");
        for event_loop in loops {
            let answer = event_loop.execute(|_, _| unreachable!());
            assert_eq!(answer, Err(HandleError::Closed), "loop {}", event_loop.index());
        }
    }

    fn a_handle_to_a_connection_of_a_loop_that_panicked_is_not_open(driver) {
        let (give, events) = common::events();
        let server = common::start(stopping(driver).listen(TCP), move |_| {
            let give = give.clone();
            Script::new()
                .open(move |conn| give.send(conn.handle()).unwrap())
                .traffic(|_, _| panic!("the handler's own fault"))
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"x").unwrap();
        joined(server).0.expect_err("a handler panicked");
        let handle = events.next();
        assert_eq!(handle.write("x"), Err(HandleError::Closed));
        assert!(!handle.is_open());
    }

    fn a_write_that_waits_on_a_loop_that_panics_is_told_so(driver) {
        let (server, events) = that_panics(stopping(driver));
        let to = common::address(&server, 0);
        let mut slow = common::connect(to);
        slow.write_all(b"much").unwrap();
        common::read(&mut slow, 1);
        // Round robin: the third client is on the first one's loop.
        let _other = common::connect(to);
        let mut third = common::connect(to);
        third.write_all(b"panic").unwrap();
        joined(server).0.expect_err("a handler panicked");
        let told = events.drain();
        assert!(told.iter().any(|t| t.contains("Err(Closed)")), "done was never called: {told:?}");
    }

    fn a_panic_of_the_balancer_ends_the_server_in_order(driver) {
        struct Broken;
        impl tightloop::Balancer for Broken {
            fn pick(&mut self, _: &tightloop::Address, _: &[usize]) -> usize {
                panic!("no loop is good enough")
            }
        }
        let server = stopping(driver).loops(2).balancer(|| Broken).listen(TCP);
        let server = common::start(server, |_| Script::new());
        let mut client = common::connect(common::address(&server, 0));
        assert!(common::is_closed(&mut client));
        let error = joined(server).0.expect_err("the balancer panicked");
        assert!(error.to_string().contains("no loop is good enough"), "{error}");
    }
}
