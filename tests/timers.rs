//! Time: ticks, connections' timers and scheduled jobs come once, never early, and
//! whatever else goes on.

mod closures;
mod common;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use closures::{Script, TCP, be_busy, ended};
use tightloop::{Action, Context, RunningServer, Server};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs `job` on the server's first loop and answers what it sends back.
fn on_loop<T: Send + 'static>(
    server: &RunningServer<Script>,
    job: impl FnOnce(&mut Context<'_, Script>, std::sync::mpsc::Sender<T>) + Send + 'static,
) -> common::Events<T> {
    let (sender, events) = common::events();
    server.loops()[0].execute(move |_, cx| job(cx, sender)).unwrap();
    events
}

/// Each connection sets its timer by what it is told, a number of milliseconds in one byte, and
/// answers how late the timer fired after the call, in microseconds.
fn timing(server: Server) -> RunningServer<Script> {
    common::start(server, |_| {
        let set: Rc<RefCell<Option<(Instant, Duration)>>> = Rc::default();
        let asked = Rc::clone(&set);
        Script::new()
            .traffic(move |conn, input| {
                for millis in input.take_all() {
                    let delay = ms(u64::from(*millis));
                    *asked.borrow_mut() = Some((Instant::now(), delay));
                    conn.set_timer(delay);
                }
                Action::Continue
            })
            .timer(move |conn| {
                let (since, delay) = set.borrow_mut().take().expect("it was set, and fires once");
                let took = since.elapsed();
                conn.write(if took < delay { b"early" } else { b"fired" });
                Action::Continue
            })
    })
}

every_driver! {
    fn on_tick_comes_at_once_and_then_after_each_delay_on_every_loop(driver) {
        common::at_best(|| {
            let (tick, events) = common::events();
            let start = Instant::now();
            let server = common::start(common::server(driver).loops(3), move |info| {
                let tick = tick.clone();
                let mut calls = 0;
                Script::new().tick(move |cx| {
                    assert_eq!(cx.loop_index(), info.index);
                    tick.send((info.index, calls, Instant::now())).unwrap();
                    calls += 1;
                    (calls < 5).then_some(ms(10))
                })
            });
            let mut times = vec![Vec::new(); 3];
            for _ in 0..15 {
                let (index, call, at) = events.next();
                assert_eq!(call, times[index].len());
                times[index].push(at);
            }
            for times in &times {
                assert!(times[0] - start < ms(1_000), "the first one waits");
                assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= ms(10)), "early");
            }
            common::stop(server);
            assert!(events.drain().is_empty(), "None did not end the ticks");
        });
    }

    fn twenty_five_ticks_of_ten_milliseconds_take_a_quarter_of_a_second(driver) {
        common::at_best(|| {
            let start = Instant::now();
            let server = common::start(common::server(driver), |_| {
                let mut ticks = 0;
                Script::new().tick(move |cx| {
                    ticks += 1;
                    if ticks > 25 {
                        cx.stop_server();
                    }
                    Some(ms(10))
                })
            });
            ended(server);
            let took = start.elapsed();
            assert!((ms(250)..ms(2_000)).contains(&took), "took {took:?}");
        });
    }

    fn a_tick_without_delay_leaves_room_for_connections(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            Script::new().tick(|_| Some(Duration::ZERO))
        });
        let mut client = common::connect(common::address(&server, 0));
        for _ in 0..50 {
            assert_eq!(common::exchange(&mut client, b"here"), b"here");
        }
        drop(client);
        common::stop(server);
    }

    fn a_connections_timer_fires_once_and_never_early(driver) {
        let server = timing(common::server(driver).listen(TCP));
        let mut client = common::connect(common::address(&server, 0));
        for delay in [0, 1, 2, 3, 10, 63, 64, 65, 130, 200] {
            client.write_all(&[delay]).unwrap();
            assert_eq!(common::read(&mut client, 5), b"fired", "{delay} ms");
        }
        drop(client);
        common::stop(server);
    }

    fn a_timer_that_is_set_late_in_a_long_callback_is_not_early(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            let set: Rc<RefCell<Option<Instant>>> = Rc::default();
            let since = Rc::clone(&set);
            Script::new()
                .traffic(move |conn, input| {
                    input.take_all();
                    be_busy(ms(60));
                    *set.borrow_mut() = Some(Instant::now());
                    conn.set_timer(ms(40));
                    Action::Continue
                })
                .timer(move |conn| {
                    let took = since.borrow().unwrap().elapsed();
                    conn.write(if took < ms(40) { b"early" } else { b"fired" });
                    Action::Continue
                })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"x").unwrap();
        assert_eq!(common::read(&mut client, 5), b"fired");
        drop(client);
        common::stop(server);
    }

    fn setting_a_timer_again_replaces_it_and_none_cancels_it(driver) {
        let (fired, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let fired = fired.clone();
            Script::new()
                .open(|conn| {
                    conn.set_timer(ms(5));
                    conn.set_timer(None);
                    conn.set_timer(ms(10_000_000));
                    conn.set_timer(ms(30));
                })
                .timer(move |conn| {
                    fired.send(conn.id()).unwrap();
                    conn.set_timer(ms(5));
                    conn.set_timer(None);
                    Action::Continue
                })
                .traffic(|conn, input| {
                    conn.set_timer(None);
                    conn.write(input.take_all());
                    Action::Continue
                })
        });
        let mut silent = common::connect(common::address(&server, 0));
        let first = events.next();
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::exchange(&mut client, b"cancel"), b"cancel");
        // Any timer that were left would fire before this one.
        let later = on_loop(&server, |cx, done| cx.schedule(ms(60), move |_, _| done.send(()).unwrap()));
        later.next();
        let told = events.drain();
        assert!(!told.contains(&first), "the cancelled timer fired");
        assert!(told.len() <= 1, "{told:?}");
        assert_eq!(common::exchange(&mut silent, b"bye"), b"bye");
        drop((silent, client));
        common::stop(server);
    }

    fn a_timer_fires_while_its_connection_and_others_are_busy(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            Script::new()
                .open(|conn| conn.set_timer(ms(50)))
                .timer(|_| Action::Close)
                .traffic(|conn, input| {
                    conn.write(input.take_all());
                    Action::Continue
                })
        });
        let to = common::address(&server, 0);
        let start = Instant::now();
        let clients: Vec<_> = (0..4).map(|_| common::connect(to)).collect();
        for mut client in clients {
            let mut rounds = 0;
            let message = [0; 1000];
            let mut back = [0; 1000];
            while client.write_all(&message).is_ok() && client.read_exact(&mut back).is_ok() {
                rounds += 1;
                assert!(start.elapsed() < common::DEADLINE, "the timer never fired");
            }
            assert!(start.elapsed() >= ms(50), "closed early, after {rounds} rounds");
        }
        common::stop(server);
    }

    fn the_timer_of_a_closed_connection_never_fires_for_its_successor(driver) {
        // Each has to be closed before its timer is due.
        common::patiently(ms(40), |time| {
            let (fired, events) = common::events();
            let server = common::start(common::server(driver).listen(TCP), move |_| {
                let fired = fired.clone();
                Script::new()
                    .traffic(move |conn, input| {
                        match input.take_all() {
                            b"set" => conn.set_timer(time),
                            _ => conn.close(),
                        }
                        conn.write(b"ok");
                        Action::Continue
                    })
                    .timer(move |conn| {
                        fired.send(conn.id()).unwrap();
                        Action::Continue
                    })
                    // It goes nowhere, and must not reach the slot's next connection either.
                    .close(move |conn, _| conn.set_timer(time))
            });
            let to = common::address(&server, 0);
            for _ in 0..20 {
                let mut client = common::connect(to);
                client.write_all(b"set").unwrap();
                assert_eq!(common::read(&mut client, 2), b"ok");
            }
            common::eventually("all are closed", || server.handle().connections() == 0);
            let successors: Vec<_> = (0..20).map(|_| common::connect(to)).collect();
            common::eventually("all are open", || server.handle().connections() == 20);
            let later = on_loop(&server, move |cx, done| cx.schedule(2 * time, move |_, _| done.send(()).unwrap()));
            later.next();
            let told = events.drain();
            assert!(told.is_empty(), "{told:?}");
            drop(successors);
            common::stop(server);
        });
    }

    fn a_scheduled_job_runs_with_handler_and_loop_and_never_early(driver) {
        common::at_best(|| {
            let server = common::start(common::server(driver), |_| Script::new());
            let done = on_loop(&server, |cx, done| {
                for delay in [ms(100), ms(0), ms(30), ms(1), Duration::from_micros(1500), ms(64)] {
                    let (done, since) = (done.clone(), Instant::now());
                    cx.schedule(delay, move |handler, cx| {
                        assert_eq!(cx.loop_index(), 0);
                        *handler = Script::new();
                        done.send((delay, since.elapsed())).unwrap();
                    });
                }
            });
            let told: Vec<_> = (0..6).map(|_| done.next()).collect();
            assert!(told.iter().all(|(delay, took)| took >= delay), "early: {told:?}");
            assert!(told.is_sorted_by_key(|(delay, _)| *delay), "out of order: {told:?}");
            common::stop(server);
        });
    }

    fn a_job_that_is_scheduled_late_in_a_long_callback_is_not_early(driver) {
        let server = common::start(common::server(driver), |_| Script::new());
        let done = on_loop(&server, |cx, done| {
            be_busy(ms(60));
            let since = Instant::now();
            cx.schedule(ms(40), move |_, _| done.send(since.elapsed()).unwrap());
        });
        let took = done.next();
        assert!(took >= ms(40), "after {took:?}");
        common::stop(server);
    }

    fn delays_without_end_are_no_trouble(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            Script::new()
                .open(|conn| {
                    conn.set_timer(Duration::MAX);
                    conn.set_idle_timeout(Duration::MAX);
                })
                .timer(|_| unreachable!())
                .tick(|cx| {
                    cx.schedule(Duration::MAX, |_, _| unreachable!());
                    Some(Duration::MAX)
                })
        });
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::exchange(&mut client, b"here"), b"here");
        drop(client);
        server.stop_within(Duration::MAX);
        ended(server);
    }

    fn a_hundred_thousand_jobs_run_and_hold_nobody_up(driver) {
        const COUNT: u32 = 100_000;
        let ran = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&ran);
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let seen = Arc::clone(&seen);
            Script::new().traffic(move |conn, input| {
                input.take_all();
                conn.write(&seen.load(Ordering::SeqCst).to_le_bytes());
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        let (go, wait) = channel::<()>();
        let (count, wait) = (Arc::clone(&ran), Arc::new(Mutex::new(wait)));
        let done = on_loop(&server, move |cx, done| {
            for number in 0..COUNT {
                let (count, done, wait) = (Arc::clone(&count), done.clone(), Arc::clone(&wait));
                cx.schedule(ms(20), move |_, _| {
                    if number == 0 {
                        done.send(()).unwrap();
                        wait.lock().unwrap().recv_timeout(common::DEADLINE).unwrap();
                    }
                    if count.fetch_add(1, Ordering::SeqCst) + 1 == COUNT {
                        done.send(()).unwrap();
                    }
                });
            }
        });
        // All are due or about to be, and the first one waits until this client has asked.
        done.next();
        client.write_all(b"how many?").unwrap();
        go.send(()).unwrap();
        let answer = common::read(&mut client, 4).try_into().unwrap();
        let between = u32::from_le_bytes(answer);
        assert!((1..COUNT).contains(&between), "answered after {between}");
        done.next();
        drop(client);
        common::stop(server);
    }
}
