//! A panic in a callback ends its connection, and nothing else.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use common::Events;
use tightloop::{
    Action, CloseReason, Conn, ConnHandle, Context, Error, HandleError, Handler, Input,
    PanicPolicy, RunningServer, Server,
};

/// Panics in one callback, on the connections of the first listener only. The others echo.
struct Bomb {
    at: &'static str,
    states: State,
    ticks: u32,
    events: Sender<Event>,
}

#[derive(Debug)]
enum Event {
    Opened(ConnHandle),
    Closed(String),
    Tick(u32),
    WriteDone(Result<(), HandleError>),
}

/// Every state holds one; whoever has the other end sees when all are gone.
type State = Arc<()>;

impl Bomb {
    fn pass(&self, at: &str, conn: &Conn<'_>) {
        assert!(self.at != at || conn.listener() == Some(1), "boom at {at}");
    }
}

impl Handler for Bomb {
    type State = State;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> State {
        self.pass("on_open", conn);
        if conn.listener() == Some(0) {
            conn.set_timer(Duration::from_millis(1));
            let _ = self.events.send(Event::Opened(conn.handle()));
        }
        Arc::clone(&self.states)
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut State, input: &mut Input<'_>) -> Action {
        let bytes = input.take_all();
        conn.write(bytes);
        self.pass("on_traffic", conn);
        match bytes {
            // More than the kernel takes.
            b"much" => drop(conn.write(&vec![7; 32 << 20])),
            b"spawn" => {
                let done = |_: &mut Conn<'_>, _: &mut State, _| panic!("boom at done");
                conn.spawn(|| (), done).expect("the pool has room");
            }
            b"connect" => {
                let nobody: tightloop::Endpoint = "tcp://127.0.0.1:1".parse().unwrap();
                conn.connect(&nobody).unwrap();
            }
            b"bye" => return Action::Close,
            _ => {}
        }
        Action::Continue
    }

    fn pre_write(&mut self, conn: &mut Conn<'_>, _: &mut State, _: usize) {
        self.pass("pre_write", conn);
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, _: &mut State) -> Action {
        self.pass("on_drain", conn);
        Action::Continue
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, _: &mut State) -> Action {
        self.pass("on_eof", conn);
        Action::Close
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, _: &mut State) -> Action {
        self.pass("on_wake", conn);
        Action::Continue
    }

    fn on_timer(&mut self, conn: &mut Conn<'_>, _: &mut State) -> Action {
        self.pass("on_timer", conn);
        Action::Continue
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        self.ticks += 1;
        assert!(self.at != "on_tick" || self.ticks != 2, "boom at on_tick");
        if self.at == "a scheduled job" && self.ticks == 1 {
            cx.schedule(Duration::ZERO, |_, _| panic!("boom at a scheduled job"));
        }
        // A test that has seen enough no longer listens.
        let _ = self.events.send(Event::Tick(self.ticks));
        (self.ticks < 4).then_some(Duration::from_millis(1))
    }

    fn on_open_failed(&mut self, _: &mut Conn<'_>, _: CloseReason) {
        panic!("boom at on_open_failed");
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, _: State, reason: CloseReason) {
        if conn.listener() == Some(0) {
            let _ = self.events.send(Event::Closed(format!("{reason:?}")));
        }
        self.pass("on_close", conn);
    }

    fn on_shutdown(&mut self, _: &mut Context<'_, Self>) {
        assert!(self.at != "on_shutdown", "boom at on_shutdown");
    }
}

/// A server with a bomb, and a connection that must not notice.
struct Scene {
    server: RunningServer<Bomb>,
    witness: TcpStream,
    events: Events<Event>,
    sender: Sender<Event>,
    states: State,
}

impl Scene {
    fn new(server: Server, at: &'static str) -> Scene {
        let (sender, events) = common::events();
        let (report, states) = (sender.clone(), State::default());
        let given = Arc::clone(&states);
        let server = server.listen("tcp://127.0.0.1:0").listen("tcp://127.0.0.1:0");
        let server = common::start(server.half_close(true), move |_| Bomb {
            at,
            states: Arc::clone(&given),
            ticks: 0,
            events: report.clone(),
        });
        let mut witness = common::connect(common::address(&server, 1));
        assert_eq!(common::exchange(&mut witness, b"before"), b"before");
        Scene { server, witness, events, sender, states }
    }

    fn victim(&self) -> TcpStream {
        common::connect(common::address(&self.server, 0))
    }

    fn wait_for<R>(&self, mut choose: impl FnMut(Event) -> Option<R>) -> R {
        loop {
            if let Some(found) = choose(self.events.next()) {
                return found;
            }
        }
    }

    fn opened(&self) -> ConnHandle {
        self.wait_for(|event| match event {
            Event::Opened(handle) => Some(handle),
            _ => None,
        })
    }

    fn closed(&self) -> String {
        self.wait_for(|event| match event {
            Event::Closed(reason) => Some(reason),
            _ => None,
        })
    }

    /// The server has counted the panics, serves on, and ends in order.
    fn survives(mut self, panics: u64) {
        let handle = self.server.handle();
        common::eventually("the panic is counted", || handle.stats().panics == panics);
        common::eventually("only the witness is left", || handle.connections() == 1);
        assert_eq!(common::exchange(&mut self.witness, b"after"), b"after");
        // The test has one, the handler, and the witness.
        common::eventually("no state leaks", || Arc::strong_count(&self.states) == 3);
        common::stop_after_panics(self.server, panics);
        assert_eq!(handle.connections(), 0);
    }
}

/// Panics in the callback `at` after `trigger`; the connection is closed with the panic's message.
fn closes_its_connection(
    driver: common::Driver,
    at: &'static str,
    trigger: impl FnOnce(&mut TcpStream, &ConnHandle),
) {
    let server = common::server(driver).high_watermark(64 << 10).low_watermark(16 << 10);
    let scene = Scene::new(server, at);
    let mut victim = scene.victim();
    let handle = scene.opened();
    trigger(&mut victim, &handle);
    assert_eq!(scene.closed(), format!("HandlerPanicked(\"boom at {at}\")"));
    assert!(!handle.is_open());
    common::eventually("the peer is told", || common::is_closed(&mut victim));
    scene.survives(1);
}

every_driver! {
    fn on_traffic_that_panics_closes_its_connection(driver) {
        closes_its_connection(driver, "on_traffic", |victim, _| victim.write_all(b"x").unwrap());
    }

    fn pre_write_that_panics_closes_its_connection(driver) {
        closes_its_connection(driver, "pre_write", |victim, _| victim.write_all(b"x").unwrap());
    }

    fn on_drain_that_panics_closes_its_connection(driver) {
        closes_its_connection(driver, "on_drain", |victim, _| {
            victim.write_all(b"much").unwrap();
            // What is left at the low mark is lost with the connection.
            let mut victim = victim.try_clone().unwrap();
            std::thread::spawn(move || std::io::copy(&mut victim, &mut std::io::sink()));
        });
    }

    fn on_eof_that_panics_closes_its_connection(driver) {
        closes_its_connection(driver, "on_eof", |victim, _| {
            victim.shutdown(std::net::Shutdown::Write).unwrap();
        });
    }

    fn on_wake_that_panics_closes_its_connection(driver) {
        closes_its_connection(driver, "on_wake", |_, handle| handle.wake().unwrap());
    }

    fn on_timer_that_panics_closes_its_connection(driver) {
        closes_its_connection(driver, "on_timer", |_, _| {});
    }

    fn the_answer_of_a_spawned_job_that_panics_closes_its_connection(driver) {
        closes_its_connection(driver, "done", |victim, _| victim.write_all(b"spawn").unwrap());
    }

    fn a_write_callback_that_panics_closes_its_connection(driver) {
        closes_its_connection(driver, "written", |_, handle| {
            handle.write_then("hello", |_| panic!("boom at written")).unwrap();
        });
    }

    fn whoever_waits_for_output_of_a_connection_that_panicked_is_told_once(driver) {
        let scene = Scene::new(common::server(driver), "on_wake");
        let mut victim = scene.victim();
        let handle = scene.opened();
        let report = scene.sender.clone();
        let much = vec![7; 32 << 20];
        handle
            .write_then(much, move |result| report.send(Event::WriteDone(result)).unwrap())
            .unwrap();
        handle.wake().unwrap();
        let result = scene.wait_for(|event| match event {
            Event::WriteDone(result) => Some(result),
            _ => None,
        });
        assert_eq!(result, Err(HandleError::Closed));
        assert_eq!(scene.closed(), "HandlerPanicked(\"boom at on_wake\")");
        std::io::copy(&mut victim, &mut std::io::sink()).expect_err("the output is cut off");
        scene.survives(1);
    }

    fn on_open_that_panics_closes_its_connection_without_on_close(driver) {
        let scene = Scene::new(common::server(driver), "on_open");
        for _ in 0..3 {
            assert!(common::is_closed(&mut scene.victim()));
        }
        common::eventually("counted", || scene.server.handle().stats().panics == 3);
        let closes = scene.events.drain().into_iter().filter(|e| matches!(e, Event::Closed(_)));
        assert_eq!(closes.count(), 0);
        scene.survives(3);
    }

    fn on_close_that_panics_is_not_called_again(driver) {
        let scene = Scene::new(common::server(driver), "on_close");
        let mut victim = scene.victim();
        victim.write_all(b"bye").unwrap();
        assert_eq!(common::read_to_end(&mut victim), b"bye");
        assert_eq!(scene.closed(), "Local");
        drop(victim);
        common::eventually("counted", || scene.server.handle().stats().panics == 1);
        let closes = scene.events.drain().into_iter().filter(|e| matches!(e, Event::Closed(_)));
        assert_eq!(closes.count(), 0);
        scene.survives(1);
    }

    fn on_close_that_panics_over_a_panic_is_the_end_of_it(driver) {
        let scene = Scene::new(common::server(driver), "on_close");
        let mut victim = scene.victim();
        victim.write_all(b"spawn").unwrap();
        assert_eq!(scene.closed(), "HandlerPanicked(\"boom at done\")");
        scene.survives(2);
    }

    fn on_open_failed_that_panics_harms_nobody(driver) {
        let scene = Scene::new(common::server(driver), "nowhere");
        let mut victim = scene.victim();
        assert_eq!(common::exchange(&mut victim, b"connect"), b"connect");
        common::eventually("counted", || scene.server.handle().stats().panics == 1);
        assert_eq!(common::exchange(&mut victim, b"well?"), b"well?");
        drop(victim);
        scene.survives(1);
    }

    fn on_tick_that_panics_ticks_on_at_its_pace(driver) {
        let scene = Scene::new(common::server(driver), "on_tick");
        for expected in [1, 3, 4] {
            let tick = scene.wait_for(|event| match event {
                Event::Tick(count) => Some(count),
                _ => None,
            });
            assert_eq!(tick, expected);
        }
        scene.survives(1);
    }

    fn jobs_that_panic_harm_nobody(driver) {
        let scene = Scene::new(common::server(driver), "a scheduled job");
        common::eventually("the scheduled one", || scene.server.handle().stats().panics == 1);
        scene.server.loops()[0].execute(|_, _| panic!("boom at a job")).unwrap();
        scene.survives(2);
    }

    fn on_shutdown_that_panics_is_counted_and_the_server_ends_in_order(driver) {
        let scene = Scene::new(common::server(driver), "on_shutdown");
        common::stop_after_panics(scene.server, 1);
    }

    fn a_thousand_panics_leave_nothing_behind(driver) {
        let scene = Scene::new(common::server(driver), "on_traffic");
        for _ in 0..1_000 {
            let mut victim = scene.victim();
            victim.write_all(b"x").unwrap();
            assert!(common::is_closed(&mut victim));
        }
        scene.survives(1_000);
    }

    fn a_server_that_is_told_to_stops_at_the_first_panic(driver) {
        let server = common::server(driver).panic_policy(PanicPolicy::StopServer);
        let mut scene = Scene::new(server, "on_traffic");
        scene.victim().write_all(b"x").unwrap();
        assert!(common::is_closed(&mut scene.witness));
        let error = scene.server.join().expect_err("a handler panicked");
        assert!(matches!(error, Error::LoopPanicked { index: 0, .. }), "{error}");
        assert!(error.to_string().contains("boom at on_traffic"), "{error}");
    }
}
