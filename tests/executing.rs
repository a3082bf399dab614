//! Closures that run on a chosen loop: from anywhere, in order, and never lost in silence.

mod closures;
mod common;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use closures::{Script, TCP, joined};
use tightloop::{
    Action, CloseReason, Conn, Context, Error, HandleError, Handler, Input, LoopHandle, PanicPolicy,
};

/// Has a number, and the loops as `on_tick` tells them.
struct Counter {
    index: usize,
    count: u64,
    loops: Vec<LoopHandle<Counter>>,
}

impl Handler for Counter {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    /// Has every loop count, and then tell its number.
    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        for _ in 0..input.take_all().len() {
            for event_loop in &self.loops {
                let answer = conn.handle();
                let job = move |counter: &mut Counter, cx: &mut Context<'_, Counter>| {
                    assert_eq!((cx.loop_index(), cx.loops().len()), (counter.index, 3));
                    counter.count += 1;
                    answer.write(format!("{}:{} ", counter.index, counter.count)).unwrap();
                };
                event_loop.execute(job).unwrap();
            }
        }
        Action::Continue
    }

    fn on_close(&mut self, _: &mut Conn<'_>, _: (), _: CloseReason) {}

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        self.loops = cx.loops().to_vec();
        None
    }
}

/// Whether the other end was dropped without a word.
fn was_dropped<T>(said: &Receiver<T>) -> bool {
    matches!(said.recv_timeout(common::DEADLINE), Err(RecvTimeoutError::Disconnected))
}

every_driver! {
    fn a_callback_has_every_loop_run_something_with_that_loops_handler(driver) {
        let server = common::server(driver).loops(3).listen(TCP);
        let server = common::start(server, |info| {
            Counter { index: info.index, count: 0, loops: Vec::new() }
        });
        let mut client = common::connect(common::address(&server, 0));
        // The handlers know the loops once they have ticked.
        let knows = |event_loop: &LoopHandle<Counter>| {
            let (say, said) = channel();
            event_loop.execute(move |counter, _| say.send(counter.loops.len()).unwrap()).unwrap();
            said.recv_timeout(common::DEADLINE).unwrap() == 3
        };
        common::eventually("all know", || server.loops().iter().all(knows));
        std::io::Write::write_all(&mut client, b"xx").unwrap();
        let text = String::from_utf8(common::read(&mut client, 6 * 4)).unwrap();
        let mut words: Vec<_> = text.split_whitespace().collect();
        words.sort();
        assert_eq!(words, ["0:1", "0:2", "1:1", "1:2", "2:1", "2:2"]);
        common::stop(server);
    }

    fn jobs_run_before_on_shutdown_and_none_after_it(driver) {
        let (told, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let (close, shutdown) = (told.clone(), told.clone());
            Script::new()
                .close(move |conn, _| {
                    close.send("closed").unwrap();
                    assert!(conn.server().is_stopping());
                })
                .shutdown(move |cx| {
                    let refused = cx.loops()[0].execute(|_, _| unreachable!());
                    assert_eq!(refused, Err(HandleError::Closed));
                    shutdown.send("shut down").unwrap();
                })
        });
        let client = common::connect(common::address(&server, 0));
        common::eventually("it is open", || server.handle().connections() == 1);
        let (say, said) = common::events();
        let (go, wait) = channel::<()>();
        server.loops()[0].execute(move |_, _| {
            let _ = wait.recv();
        }).unwrap();
        server.stop();
        // The loop is held: these come when it has been told to stop.
        for n in 0..100 {
            let say = say.clone();
            server.loops()[0].execute(move |_, _| say.send(n).unwrap()).unwrap();
        }
        drop(go);
        assert_eq!((events.next(), events.next()), ("closed", "shut down"));
        assert_eq!(said.drain(), (0..100).collect::<Vec<_>>());
        joined(server).0.unwrap();
        drop(client);
    }

    fn jobs_of_a_loop_that_panicked_are_dropped_and_whoever_waits_learns_it(driver) {
        let server = common::server(driver).panic_policy(PanicPolicy::StopServer);
        let server = common::start(server, |_| Script::new());
        let event_loop = server.loops()[0].clone();
        let (go, wait) = channel::<()>();
        event_loop.execute(move |_, _| {
            let _ = wait.recv();
        }).unwrap();
        // In one batch with the one behind it, or not: neither is lost in silence.
        event_loop.execute(|_, _| panic!("a job of the test")).unwrap();
        let (say, said) = channel::<()>();
        event_loop.execute(move |_, _| say.send(()).unwrap()).unwrap();
        drop(go);
        match joined(server).0 {
            Err(Error::LoopPanicked { index: 0, message }) => {
                assert_eq!(message, "a job of the test");
            }
            other => panic!("{other:?}"),
        }
        assert!(was_dropped(&said), "a job of a dead loop has run, or waits");
        let (say, said) = channel::<()>();
        let refused = event_loop.execute(move |_, _| say.send(()).unwrap());
        assert_eq!(refused, Err(HandleError::Closed));
        assert!(was_dropped(&said), "a refused job is kept");
    }
}
