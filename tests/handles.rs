//! Handles that other threads hold: each call is carried out in order, or refused at once.

mod common;
mod scripted;

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use bytes::Bytes;
use scripted::{Script, block, closed, name, next, opened, settle};
use tightloop::{Action, CloseReason, ConnHandle, HandleError, PanicPolicy, Server};

fn tcp(driver: common::Driver) -> Server {
    common::server(driver).listen("tcp://127.0.0.1:0")
}

/// Writes with a callback and answers where its result comes, and how often it was called.
fn write_then(
    handle: &ConnHandle,
    bytes: impl Into<Bytes>,
) -> (Result<(), HandleError>, Receiver<Result<(), HandleError>>) {
    let (say, said) = channel();
    // The loop's thread may call it after the test has ended.
    let accepted = handle.write_then(bytes, move |result| {
        let _ = say.send(result);
    });
    (accepted, said)
}

/// Whether nothing more can come, because all senders are gone.
fn is_over<T>(said: &Receiver<T>) -> bool {
    matches!(said.recv_timeout(common::DEADLINE), Err(RecvTimeoutError::Disconnected))
}

/// The one result of an accepted write.
fn only<T>(said: &Receiver<T>) -> T {
    let result = next(said);
    // The callback is gone with its sender: it cannot be called again.
    assert!(is_over(said), "called twice");
    result
}

every_driver! {
    fn a_write_arrives_and_its_callback_is_called_once_on_the_loop(driver) {
        let (report, events) = common::events();
        let server = common::start(tcp(driver), move |_| Script::<()>::new().report(&report));
        let mut client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        let (say, thread) = channel();
        handle
            .write_then("hello", move |result| {
                say.send((result, std::thread::current().name().map(str::to_owned))).unwrap();
            })
            .unwrap();
        assert_eq!(common::read(&mut client, 5), b"hello");
        assert_eq!(only(&thread), (Ok(()), Some("tl-loop-0".to_owned())));
        let (accepted, said) = write_then(&handle, Bytes::new());
        assert_eq!((accepted, only(&said)), (Ok(()), Ok(())), "nothing is soon written");
        common::stop(server);
    }

    fn callbacks_come_in_order_and_not_before_the_socket_took_their_bytes(driver) {
        const SIZE: usize = 3 << 20;
        let (report, events) = common::events();
        let server = common::start(tcp(driver), move |_| Script::<()>::new().report(&report));
        let mut client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        let (say, said) = channel();
        let whole = Bytes::from(common::pattern(SIZE));
        for n in 0..8 {
            let say = say.clone();
            let done = move |result: Result<(), HandleError>| say.send((n, result)).unwrap();
            handle.write_then(whole.clone(), done).unwrap();
        }
        common::eventually("it blocks", || server.handle().stats().partial_writes > 0);
        settle(&server, 0);
        let taken = server.handle().stats().bytes_out as usize;
        let done = said.try_iter().count();
        assert!(done <= taken / SIZE && done < 8, "{done} callbacks for {taken} bytes");
        for _ in 0..8 {
            assert!(common::read(&mut client, SIZE) == whole);
        }
        for n in done..8 {
            assert_eq!(next(&said), (n, Ok(())));
        }
        drop(say);
        assert!(is_over(&said), "a ninth");
        common::stop(server);
    }

    fn the_callback_of_a_write_that_cannot_be_delivered_gets_the_error(driver) {
        let (report, events) = common::events();
        let server = common::start(tcp(driver), move |_| {
            Script::<()>::new().report(&report).wake(|conn, ()| {
                conn.abort();
                Action::Continue
            })
        });
        let client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        // More than the kernel takes while the client does not read.
        let (accepted, said) = write_then(&handle, common::pattern(20 << 20));
        assert_eq!(accepted, Ok(()));
        common::eventually("it blocks", || server.handle().stats().partial_writes > 0);
        let (behind, said_behind) = write_then(&handle, "behind it");
        assert_eq!(behind, Ok(()));
        handle.wake().unwrap();
        assert_eq!(only(&said), Err(HandleError::Closed));
        assert_eq!(only(&said_behind), Err(HandleError::Closed));
        assert_eq!(closed(&events).1, "Aborted");
        // gnet #465: the callback was never called when the connection was closed already.
        let (late, never) = write_then(&handle, "late");
        assert_eq!(late, Err(HandleError::Closed));
        assert!(is_over(&never), "refused, and called all the same");
        drop(client);
        common::stop(server);
    }

    fn a_write_behind_a_close_is_refused_by_its_callback(driver) {
        let (report, events) = common::events();
        let server = common::start(tcp(driver), move |_| Script::<()>::new().report(&report));
        let mut client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        let gate = block(&server, 0);
        let (before, said_before) = write_then(&handle, "before");
        handle.close().unwrap();
        handle.close().unwrap();
        let (behind, said_behind) = write_then(&handle, "behind");
        drop(gate);
        assert_eq!((before, behind), (Ok(()), Ok(())));
        assert_eq!(only(&said_before), Ok(()));
        assert_eq!(only(&said_behind), Err(HandleError::Closed));
        assert_eq!(common::read_to_end(&mut client), b"before");
        assert_eq!(closed(&events).1, "Local");
        common::stop(server);
    }

    fn what_is_queued_while_the_server_stops_is_answered(driver) {
        let (report, events) = common::events();
        let server = common::start(tcp(driver), move |_| Script::<()>::new().report(&report));
        let mut client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        let gate = block(&server, 0);
        let (before, said_before) = write_then(&handle, "before");
        server.stop();
        let (after, said_after) = write_then(&handle, "after");
        drop(gate);
        assert_eq!(before, Ok(()));
        assert_eq!(only(&said_before), Ok(()));
        assert_eq!(common::read_to_end(&mut client), b"before");
        if after.is_ok() {
            assert_eq!(only(&said_after), Err(HandleError::Closed));
        }
        drop(client);
        server.join().unwrap();
        assert_eq!(closed(&events).1, "ServerStopped");
    }

    fn a_thread_that_writes_until_the_server_is_gone_gets_one_answer_for_each_write(driver) {
        let answers = Arc::new(AtomicUsize::new(0));
        for _ in 0..4 {
            let (report, events) = common::events();
            let server = common::start(tcp(driver), move |_| Script::<()>::new().report(&report));
            let client = common::connect(common::address(&server, 0));
            let handle = opened(&events);
            let counted = answers.clone();
            let writer = std::thread::spawn(move || {
                let mut accepted = 0;
                loop {
                    let counted = counted.clone();
                    match handle.write_then("x", move |_| {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }) {
                        Ok(()) => accepted += 1,
                        Err(HandleError::Closed) => return accepted,
                        Err(_) => std::thread::yield_now(),
                    }
                }
            });
            let reader = std::thread::spawn(move || scripted::ending(&mut &client));
            common::eventually("it writes", || server.handle().stats().bytes_out > 1_000);
            common::stop(server);
            let accepted: usize = writer.join().unwrap();
            assert_eq!(answers.swap(0, Ordering::SeqCst), accepted);
            assert!(reader.join().unwrap().0.len() <= accepted);
        }
    }

    fn handles_of_a_server_that_has_stopped_answer_closed(driver) {
        let (report, events) = common::events();
        let server = common::start(tcp(driver).loops(2), move |_| {
            Script::<()>::new().report(&report)
        });
        let _client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        let (server_handle, loops) = (server.handle(), server.loops().to_vec());
        common::stop(server);
        for _ in 0..2 {
            assert_eq!(handle.write("late"), Err(HandleError::Closed));
            assert_eq!(write_then(&handle, "late").0, Err(HandleError::Closed));
            assert_eq!(handle.wake(), Err(HandleError::Closed));
            assert_eq!(handle.close(), Err(HandleError::Closed));
            assert_eq!(server_handle.broadcast("late"), Err(HandleError::Closed));
            for a_loop in &loops {
                let refused = a_loop.execute(|_, _| panic!("run by a loop that has ended"));
                assert_eq!(refused, Err(HandleError::Closed));
            }
            server_handle.stop();
        }
        assert!(server_handle.is_stopping() && !handle.is_open());
        assert_eq!(server_handle.connections(), 0);
    }

    fn after_a_handlers_panic_nobody_waits_for_an_answer(driver) {
        let (report, events) = common::events();
        let server = common::start(tcp(driver).panic_policy(PanicPolicy::StopServer), move |_| {
            let report = report.clone();
            Script::<()>::new().report(&report).wake(|_, ()| panic!("on purpose"))
        });
        let _client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        let (accepted, waiting) = write_then(&handle, common::pattern(20 << 20));
        assert_eq!(accepted, Ok(()));
        common::eventually("it blocks", || server.handle().stats().partial_writes > 0);
        let a_loop = server.loops()[0].clone();
        let gate = block(&server, 0);
        handle.wake().unwrap();
        let (accepted, queued) = write_then(&handle, "in the same batch");
        assert_eq!(accepted, Ok(()));
        drop(gate);
        assert!(server.join().is_err());
        assert_eq!(only(&waiting), Err(HandleError::Closed));
        assert_eq!(only(&queued), Err(HandleError::Closed));
        assert_eq!(handle.write("late"), Err(HandleError::Closed));
        assert_eq!(a_loop.execute(|_, _| {}), Err(HandleError::Closed));
    }

    fn each_wake_is_one_call_and_a_close_behind_it_still_counts(driver) {
        let (report, events) = common::events();
        let (say, said) = channel();
        let server = common::start(tcp(driver), move |_| {
            let say = say.clone();
            Script::<()>::new().report(&report).wake(move |_, ()| {
                say.send(()).unwrap();
                Action::Continue
            })
        });
        let _client = common::connect(common::address(&server, 0));
        let handle = opened(&events);
        let gate = block(&server, 0);
        for _ in 0..100 {
            handle.wake().unwrap();
        }
        handle.close().unwrap();
        handle.wake().unwrap();
        drop(gate);
        assert_eq!(closed(&events).1, "Local");
        assert_eq!(said.try_iter().count(), 100);
        common::stop(server);
    }

    fn a_write_from_the_loops_own_callback_arrives_behind_what_the_callback_writes(driver) {
        let server = common::start(tcp(driver), |_| Script::<()>::new().traffic(|conn, (), input| {
            input.take_all();
            let handle = conn.handle();
            handle.write("by the handle").unwrap();
            conn.write(b"first, ");
            Action::Continue
        }));
        let mut client = common::connect(common::address(&server, 0));
        for _ in 0..3 {
            client.write_all(b"?").unwrap();
            assert_eq!(common::read(&mut client, 20), b"first, by the handle");
        }
        common::stop(server);
    }

    fn a_job_runs_with_the_handler_though_the_handler_is_not_send(driver) {
        struct Counter(Rc<Cell<usize>>, usize);
        impl tightloop::Handler for Counter {
            type State = Rc<Cell<usize>>;
            fn on_open(&mut self, _: &mut tightloop::Conn<'_>) -> Self::State {
                self.0.clone()
            }
            fn on_traffic(
                &mut self,
                conn: &mut tightloop::Conn<'_>,
                state: &mut Self::State,
                input: &mut tightloop::Input<'_>,
            ) -> Action {
                input.take_all();
                conn.write(&[state.get() as u8]);
                Action::Continue
            }
            fn on_close(&mut self, _: &mut tightloop::Conn<'_>, _: Self::State, why: CloseReason) {
                assert_eq!(name(&why), "ServerStopped");
            }
        }
        let server = tcp(driver).loops(3);
        let server = common::start(server, |info| Counter(Rc::default(), info.index));
        let (say, said) = channel();
        let loops = server.loops().to_vec();
        let sender = std::thread::spawn(move || {
            for (index, a_loop) in loops.iter().enumerate() {
                assert_eq!(a_loop.index(), index);
                let say = say.clone();
                let job = move |handler: &mut Counter, cx: &mut tightloop::Context<'_, Counter>| {
                    handler.0.set(40 + index);
                    say.send((handler.1, cx.loop_index())).unwrap();
                };
                a_loop.execute(job).unwrap();
            }
        });
        sender.join().unwrap();
        let mut ran: Vec<_> = (0..3).map(|_| next(&said)).collect();
        ran.sort_unstable();
        assert_eq!(ran, [(0, 0), (1, 1), (2, 2)]);
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"?").unwrap();
        assert!((40..43).contains(&common::read(&mut client, 1)[0]));
        common::stop(server);
    }
}
