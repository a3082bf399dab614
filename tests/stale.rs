//! A closed connection whose place is taken by a new one: whatever still names the old one never
//! reaches the new one (gnet #621: data went to the wrong client).

mod common;
mod scripted;

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::Duration;

use scripted::{Event, Script, block, closed, next, opened, settle};
use tightloop::{Action, Conn, HandleError, RunningServer};

/// Two connections, one after the other, in the same place: their first handle, the second
/// client and its handle. The first one was accepted, and is gone.
fn successor(
    server: &RunningServer<Script>,
    events: &common::Events<Event>,
) -> (tightloop::ConnHandle, std::net::TcpStream, tightloop::ConnHandle) {
    let first = common::connect(common::address(server, 0));
    let old = opened(events);
    drop(first);
    assert_eq!(closed(events).0, old.id().unwrap());
    let second = common::connect(common::address(server, 0));
    let new = opened(events);
    assert_same_place(&old, &new);
    (old, second, new)
}

/// The identities differ in the generation only: without that, the test would try nothing.
fn assert_same_place(old: &tightloop::ConnHandle, new: &tightloop::ConnHandle) {
    assert_ne!(old.id(), new.id());
    let place = |handle: &tightloop::ConnHandle| {
        let text = handle.id().unwrap().to_string();
        text.rsplit_once('.').map(|(place, _generation)| place.to_owned())
    };
    assert_eq!(place(old), place(new), "the place is not used again");
}

every_driver! {
    fn a_handle_to_the_old_one_answers_closed(driver) {
        let (report, events) = common::events();
        let (say, said) = channel();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let say = say.clone();
            Script::new().report(&report).wake(move |_, ()| {
                say.send(()).unwrap();
                Action::Continue
            })
        });
        let (old, mut client, new) = successor(&server, &events);
        assert_eq!(old.write("not for you"), Err(HandleError::Closed));
        let late = old.write_then("not for you", |_| panic!("refused, and called all the same"));
        assert_eq!(late, Err(HandleError::Closed));
        assert_eq!(old.wake(), Err(HandleError::Closed));
        assert_eq!(old.close(), Err(HandleError::Closed));
        assert!(!old.is_open() && new.is_open());
        new.write("for you").unwrap();
        assert_eq!(common::read(&mut client, 7), b"for you");
        settle(&server, 0);
        assert!(said.try_recv().is_err());
        drop(client);
        assert_eq!(closed(&events), (new.id().unwrap(), "PeerClosed".to_owned()));
        common::stop(server);
    }

    fn commands_that_were_queued_for_the_old_one_do_not_reach_the_new_one(driver) {
        let (report, events) = common::events();
        let (say, said) = channel();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            Script::<()>::new().report(&report).wake(|_, ()| panic!("woke the wrong one"))
        });
        for _ in 0..20 {
            let first = common::connect(common::address(&server, 0));
            let old = opened(&events);
            // What the loop has yet to hear of earlier events would come first.
            settle(&server, 0);
            let gate = block(&server, 0);
            // The old one's end and the new one are seen before the commands are.
            drop(first);
            let mut second = common::connect(common::address(&server, 0));
            old.write("not for you").unwrap();
            let say = say.clone();
            old.write_then("not for you", move |result| say.send(result).unwrap()).unwrap();
            old.wake().unwrap();
            old.close().unwrap();
            drop(gate);
            assert_eq!(next(&said), Err(HandleError::Closed));
            assert_eq!(closed(&events).0, old.id().unwrap());
            let new = opened(&events);
            assert_same_place(&old, &new);
            new.write("for you").unwrap();
            assert_eq!(common::read(&mut second, 7), b"for you");
            new.close().unwrap();
            assert_eq!(common::read_to_end(&mut second), b"");
            drop(second);
            assert_eq!(closed(&events), (new.id().unwrap(), "Local".to_owned()));
            settle(&server, 0);
        }
        common::stop(server);
    }

    fn peer_and_context_do_not_find_the_old_one(driver) {
        let (report, events) = common::events();
        let (say, said) = channel();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let (first, say) = (Rc::new(Cell::new(None)), say.clone());
            let known = first.clone();
            Script::new()
                .report(&report)
                .open(move |conn| first.set(first.get().or(Some(conn.id()))))
                .traffic(move |conn, (), input| {
                    input.take_all();
                    let own = conn.id();
                    assert!(conn.peer(own).is_some());
                    say.send(conn.peer(known.get().unwrap()).is_some()).unwrap();
                    Action::Continue
                })
        });
        let (old, mut client, new) = successor(&server, &events);
        client.write_all(b"?").unwrap();
        assert!(!next(&said), "peer finds a connection that is gone");
        let (old, new) = (old.id().unwrap(), new.id().unwrap());
        let (say, said) = channel();
        let job = move |_: &mut Script, cx: &mut tightloop::Context<'_, Script>| {
            say.send((cx.conn(old).is_some(), cx.conn(new).is_some())).unwrap();
        };
        server.loops()[0].execute(job).unwrap();
        assert_eq!(next(&said), (false, true));
        common::stop(server);
    }

    fn timers_of_the_old_one_do_not_strike_the_new_one(driver) {
        // The first one has to be gone before its timer is due.
        common::patiently(Duration::from_millis(60), |time| {
            let (report, events) = common::events();
            let (say, said) = channel();
            let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
                let (say, mut count) = (say.clone(), 0);
                Script::new()
                    .report(&report)
                    .open(move |conn| {
                        count += 1;
                        let delay = if count == 1 { time } else { 3 * time };
                        conn.set_timer(delay);
                        if count == 1 {
                            conn.set_idle_timeout(delay);
                        }
                    })
                    .timer(move |conn, ()| {
                        say.send(conn.id()).unwrap();
                        Action::Continue
                    })
            });
            let (_, _client, new) = successor(&server, &events);
            assert_eq!(next(&said), new.id().unwrap());
            assert!(said.try_recv().is_err(), "one timer, one call");
            assert!(new.is_open(), "closed by the old one's idle timeout");
            common::stop(server);
        });
    }

    fn the_end_of_a_job_of_the_old_one_does_not_reach_the_new_one(driver) {
        let (report, events) = common::events();
        let (finish, may_finish) = channel::<()>();
        let may_finish = std::sync::Arc::new(std::sync::Mutex::new(Some(may_finish)));
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), move |_| {
            let may_finish = may_finish.clone();
            Script::new().report(&report).open(move |conn| {
                let Some(gate) = may_finish.lock().unwrap().take() else { return };
                let done = |conn: &mut Conn<'_>, (): &mut (), _| {
                    conn.write(b"not for you");
                };
                conn.spawn(move || gate.recv(), done).expect("the pool takes a job");
            })
        });
        let (_, mut client, new) = successor(&server, &events);
        finish.send(()).unwrap();
        common::eventually("the job is done", || server.workers().stats().completed == 1);
        settle(&server, 0);
        new.write("for you").unwrap();
        assert_eq!(common::read(&mut client, 7), b"for you");
        common::stop(server);
    }
}
