//! Blocking work of connections: it runs on the pool, and its end comes back to the connection.

mod closures;
mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::current;

use closures::{Script, TCP, ended, joined};
use tightloop::{
    Action, Conn, Handler, Input, JobPanic, PanicPolicy, RunningServer, Server, SpawnError,
};

/// The name of the thread that ran the job.
type Outcome = Result<String, JobPanic>;

/// What a test may do to the jobs that wait for it.
struct Gate(std::sync::mpsc::Sender<()>);

/// Each byte of input starts a job, which waits for the test if the byte is `w`, panics if it is
/// `p`, and else only names its thread; the state counts the jobs that are done.
struct Jobs {
    wait: Arc<Mutex<std::sync::mpsc::Receiver<()>>>,
    started: std::sync::mpsc::Sender<u8>,
}

impl Handler for Jobs {
    type State = u8;

    fn on_open(&mut self, _: &mut Conn<'_>) -> u8 {
        0
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut u8, input: &mut Input<'_>) -> Action {
        for kind in input.take_all().iter().copied() {
            let (wait, started) = (Arc::clone(&self.wait), self.started.clone());
            let job = move || {
                started.send(kind).unwrap();
                match kind {
                    b'w' => drop(wait.lock().unwrap().recv_timeout(common::DEADLINE)),
                    b'p' => panic!("the job's own fault"),
                    _ => {}
                }
                current().name().unwrap().to_owned()
            };
            let here = current().id();
            let done = move |conn: &mut Conn<'_>, count: &mut u8, result: Outcome| {
                assert_eq!(current().id(), here, "on another thread than the loop's");
                *count += 1;
                let told: &str = match &result {
                    Ok(name) if name.starts_with("tl-worker-") => "done",
                    Ok(_) => "not on the pool",
                    Err(JobPanic { message, .. }) => message,
                };
                conn.write(format!("{count} {told}\n").as_bytes());
            };
            match conn.spawn(job, done) {
                Ok(()) => {}
                // Job and done are given back, and can still be used.
                Err(SpawnError::Full((job, _done))) => {
                    drop(job);
                    conn.write(b"full\n");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        Action::Continue
    }
}

/// A server of `Jobs`, what opens the gate, and what tells of jobs that have started.
fn jobs(server: Server) -> (RunningServer<Jobs>, Gate, common::Events<u8>) {
    let (open, wait) = channel();
    let wait = Arc::new(Mutex::new(wait));
    let (started, events) = common::events();
    let server = common::start(server.listen(TCP), move |_| Jobs {
        wait: Arc::clone(&wait),
        started: started.clone(),
    });
    (server, Gate(open), events)
}

/// Reads one line for each of `expected`.
fn expect(client: &mut TcpStream, expected: &[&str]) {
    for line in expected {
        let got = common::read(client, line.len() + 1);
        assert_eq!(String::from_utf8_lossy(&got), format!("{line}\n"));
    }
}

every_driver! {
    fn done_runs_on_the_connections_own_loop_with_its_state(driver) {
        let (server, _gate, _events) = jobs(common::server(driver).loops(3));
        let to = common::address(&server, 0);
        let mut clients: Vec<_> = (0..6).map(|_| common::connect(to)).collect();
        for round in 1..=3 {
            for client in &mut clients {
                client.write_all(b"x").unwrap();
            }
            for client in &mut clients {
                expect(client, &[&format!("{round} done")]);
            }
        }
        drop(clients);
        common::stop(server);
    }

    fn a_panic_of_the_job_arrives_as_its_result_and_harms_nothing(driver) {
        let (server, _gate, _events) = jobs(common::server(driver).worker_threads(1).worker_queue(16));
        let mut client = common::connect(common::address(&server, 0));
        for round in [1, 3] {
            client.write_all(b"p").unwrap();
            expect(&mut client, &[&format!("{round} the job's own fault")]);
            client.write_all(b"x").unwrap();
            expect(&mut client, &[&format!("{} done", round + 1)]);
        }
        // A job is counted after its end was sent on its way.
        common::eventually("both are counted", || server.workers().stats().panicked == 2);
        drop(client);
        common::stop(server);
    }

    fn a_full_pool_gives_job_and_done_back_and_takes_more_later(driver) {
        let (server, gate, events) = jobs(common::server(driver).worker_threads(1).worker_queue(2));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"w").unwrap();
        events.next();
        client.write_all(b"xxxx").unwrap();
        expect(&mut client, &["full", "full"]);
        assert_eq!(server.workers().stats().rejected, 2);
        gate.0.send(()).unwrap();
        expect(&mut client, &["1 done", "2 done", "3 done"]);
        client.write_all(b"x").unwrap();
        expect(&mut client, &["4 done"]);
        drop(client);
        common::stop(server);
    }

    fn loops_stay_free_while_jobs_block(driver) {
        let (server, gate, events) = jobs(common::server(driver).worker_threads(2).worker_queue(100));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"ww").unwrap();
        assert_eq!([events.next(), events.next()], *b"ww");
        // Both threads are taken; the loop is not.
        let (ran, free) = common::events();
        for n in 0..100 {
            let ran = ran.clone();
            server.loops()[0].execute(move |_, _| ran.send(n).unwrap()).unwrap();
            assert_eq!(free.next(), n);
        }
        for _ in 0..2 {
            gate.0.send(()).unwrap();
        }
        expect(&mut client, &["1 done", "2 done"]);
        drop(client);
        common::stop(server);
    }

    fn the_pool_grows_on_demand_up_to_its_bound(driver) {
        let (server, gate, events) = jobs(common::server(driver).worker_threads(3).worker_queue(100));
        assert_eq!(server.workers().stats().threads, 0);
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"wwwww").unwrap();
        for _ in 0..3 {
            events.next();
        }
        let stats = server.workers().stats();
        assert_eq!((stats.threads, stats.idle), (3, 0));
        for _ in 0..5 {
            gate.0.send(()).unwrap();
        }
        expect(&mut client, &["1 done", "2 done", "3 done", "4 done", "5 done"]);
        assert_eq!(server.workers().stats().threads, 3);
        drop(client);
        common::stop(server);
    }

    fn done_is_not_called_for_a_connection_that_is_gone_nor_for_its_successor(driver) {
        let (server, gate, events) = jobs(common::server(driver));
        let to = common::address(&server, 0);
        let mut gone = common::connect(to);
        gone.write_all(b"www").unwrap();
        for _ in 0..3 {
            events.next();
        }
        socket2::SockRef::from(&gone).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(gone);
        common::eventually("it is gone", || server.handle().connections() == 0);
        let mut successor = common::connect(to);
        for _ in 0..3 {
            gate.0.send(()).unwrap();
        }
        common::eventually("the jobs are over", || server.workers().stats().completed == 3);
        successor.write_all(b"x").unwrap();
        expect(&mut successor, &["1 done"]);
        drop(successor);
        common::stop(server);
    }

    fn a_job_that_outlives_its_server_is_harmless(driver) {
        let (server, gate, events) = jobs(common::server(driver));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"w").unwrap();
        events.next();
        let workers = server.workers().clone();
        server.stop();
        assert!(common::read_to_end(&mut client).is_empty());
        drop(client);
        let took = ended(server);
        assert!(took < common::DEADLINE / 2, "the end waited for it: {took:?}");
        gate.0.send(()).unwrap();
        assert!(workers.join(common::DEADLINE), "the job's thread does not end");
        assert_eq!(workers.stats().completed, 1);
    }

    fn a_job_that_is_nearly_done_is_waited_for(driver) {
        // It has a second to end.
        common::at_best(|| {
            let (server, gate, events) = jobs(common::server(driver));
            let mut client = common::connect(common::address(&server, 0));
            client.write_all(b"w").unwrap();
            events.next();
            let workers = server.workers().clone();
            server.stop();
            drop(client);
            gate.0.send(()).unwrap();
            ended(server);
            assert_eq!((workers.stats().threads, workers.stats().completed), (0, 1));
        });
    }

    fn a_state_of_another_type_panics_and_says_so(driver) {
        let server = common::server(driver).panic_policy(PanicPolicy::StopServer).listen(TCP);
        let server = common::start(server, |_| {
            Script::new().traffic(|conn, _| {
                // The state of a Script is `()`.
                let _ = conn.spawn(|| (), |_: &mut Conn<'_>, _: &mut u32, _| unreachable!());
                Action::Continue
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"x").unwrap();
        let error = joined(server).0.expect_err("the wrong type");
        assert!(error.to_string().contains("not this handler's State"), "{error}");
    }

    fn a_job_spawned_by_on_open_finds_its_connection(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| {
            Script::new().open(|conn| {
                let done = |conn: &mut Conn<'_>, _: &mut (), result| {
                    conn.write(if result == Ok(7) { b"seven" } else { b"wrong" });
                    conn.close();
                };
                assert!(conn.spawn(|| 7, done).is_ok());
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        assert_eq!(common::read_to_end(&mut client), b"seven");
        drop(client);
        common::stop(server);
    }

    fn a_panic_in_done_is_a_panic_of_the_loop(driver) {
        let server = common::server(driver).panic_policy(PanicPolicy::StopServer).listen(TCP);
        let server = common::start(server, |_| {
            Script::new().open(|conn| {
                let done = |_: &mut Conn<'_>, _: &mut (), _| panic!("not done");
                assert!(conn.spawn(|| (), done).is_ok());
            })
        });
        let mut client = common::connect(common::address(&server, 0));
        assert!(common::is_closed(&mut client));
        let error = joined(server).0.expect_err("a panic on the loop");
        assert!(error.to_string().contains("not done"), "{error}");
    }
}
