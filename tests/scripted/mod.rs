//! A handler put together from closures, one for each callback that a test is about, and the
//! clients, gates and barriers that go with it.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unused_unit, reason = "the macro wants an answer of each callback")]

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tightloop::{
    Action, CloseReason, Conn, ConnHandle, ConnId, Context, Handler, Input, RunningServer,
};

use crate::common::DEADLINE;

type Call<S, R> = Box<dyn FnMut(&mut Conn<'_>, &mut S) -> R>;
type Traffic<S> = Box<dyn FnMut(&mut Conn<'_>, &mut S, &mut Input<'_>) -> Action>;
type PreWrite<S> = Box<dyn FnMut(&mut Conn<'_>, &mut S, usize)>;
type Close<S> = Box<dyn FnMut(&mut Conn<'_>, S, &CloseReason)>;
type Tick<S> = Box<dyn FnMut(&mut Context<'_, Script<S>>) -> Option<Duration>>;

/// What a script reports by itself.
#[derive(Debug)]
pub enum Event {
    Opened(ConnHandle),
    Closed(ConnId, CloseReason),
}

/// A handler of closures. Without any it drops all input and leaves the rest to the defaults.
pub struct Script<S: Default + 'static = ()> {
    open: Box<dyn FnMut(&mut Conn<'_>) -> S>,
    traffic: Traffic<S>,
    pre_write: PreWrite<S>,
    drain: Call<S, Action>,
    eof: Call<S, Action>,
    wake: Call<S, Action>,
    timer: Call<S, Action>,
    tick: Tick<S>,
    close: Close<S>,
    report: Option<Sender<Event>>,
}

impl<S: Default + 'static> Script<S> {
    pub fn new() -> Self {
        Script {
            open: Box::new(|_| S::default()),
            traffic: Box::new(|_, _, input| {
                input.take_all();
                Action::Continue
            }),
            pre_write: Box::new(|_, _, _| {}),
            drain: Box::new(|_, _| Action::Continue),
            eof: Box::new(|_, _| Action::Close),
            wake: Box::new(|_, _| Action::Continue),
            timer: Box::new(|_, _| Action::Continue),
            tick: Box::new(|_| None),
            close: Box::new(|_, _, _| {}),
            report: None,
        }
    }

    /// Reports each open and each close.
    pub fn report(mut self, to: &Sender<Event>) -> Self {
        self.report = Some(to.clone());
        self
    }

    pub fn open(mut self, call: impl FnMut(&mut Conn<'_>) -> S + 'static) -> Self {
        self.open = Box::new(call);
        self
    }

    pub fn traffic(
        mut self,
        call: impl FnMut(&mut Conn<'_>, &mut S, &mut Input<'_>) -> Action + 'static,
    ) -> Self {
        self.traffic = Box::new(call);
        self
    }

    pub fn pre_write(mut self, call: impl FnMut(&mut Conn<'_>, &mut S, usize) + 'static) -> Self {
        self.pre_write = Box::new(call);
        self
    }

    pub fn drain(mut self, call: impl FnMut(&mut Conn<'_>, &mut S) -> Action + 'static) -> Self {
        self.drain = Box::new(call);
        self
    }

    pub fn eof(mut self, call: impl FnMut(&mut Conn<'_>, &mut S) -> Action + 'static) -> Self {
        self.eof = Box::new(call);
        self
    }

    pub fn wake(mut self, call: impl FnMut(&mut Conn<'_>, &mut S) -> Action + 'static) -> Self {
        self.wake = Box::new(call);
        self
    }

    pub fn timer(mut self, call: impl FnMut(&mut Conn<'_>, &mut S) -> Action + 'static) -> Self {
        self.timer = Box::new(call);
        self
    }

    pub fn tick(
        mut self,
        call: impl FnMut(&mut Context<'_, Script<S>>) -> Option<Duration> + 'static,
    ) -> Self {
        self.tick = Box::new(call);
        self
    }

    pub fn close(mut self, call: impl FnMut(&mut Conn<'_>, S, &CloseReason) + 'static) -> Self {
        self.close = Box::new(call);
        self
    }

    fn tell(&self, event: Event) {
        if let Some(report) = &self.report {
            // A test that has seen enough no longer listens.
            let _ = report.send(event);
        }
    }
}

impl<S: Default + 'static> Handler for Script<S> {
    type State = S;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> S {
        let state = (self.open)(conn);
        if self.report.is_some() {
            // Asking for a handle makes one: not for those that did not ask.
            self.tell(Event::Opened(conn.handle()));
        }
        state
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, state: &mut S, input: &mut Input<'_>) -> Action {
        (self.traffic)(conn, state, input)
    }

    fn pre_write(&mut self, conn: &mut Conn<'_>, state: &mut S, pending: usize) {
        (self.pre_write)(conn, state, pending);
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, state: &mut S) -> Action {
        (self.drain)(conn, state)
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, state: &mut S) -> Action {
        (self.eof)(conn, state)
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, state: &mut S) -> Action {
        (self.wake)(conn, state)
    }

    fn on_timer(&mut self, conn: &mut Conn<'_>, state: &mut S) -> Action {
        (self.timer)(conn, state)
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        (self.tick)(cx)
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, state: S, reason: CloseReason) {
        (self.close)(conn, state, &reason);
        self.tell(Event::Closed(conn.id(), reason));
    }
}

/// The next report, which must be of an open.
pub fn opened(events: &crate::common::Events<Event>) -> ConnHandle {
    match events.next() {
        Event::Opened(handle) => handle,
        Event::Closed(id, reason) => panic!("{id:?} closed ({reason}) before the next open"),
    }
}

/// The next report, which must be of a close: whose, and the reason's name.
pub fn closed(events: &crate::common::Events<Event>) -> (ConnId, String) {
    match events.next() {
        Event::Closed(id, reason) => (id, name(&reason)),
        Event::Opened(handle) => panic!("{handle:?} opened before the close"),
    }
}

/// The reason's variant, without what is in it.
pub fn name(reason: &CloseReason) -> String {
    let text = format!("{reason:?}");
    text.split('(').next().unwrap_or_default().to_owned()
}

/// Holds a loop inside of a job until it is dropped.
pub struct Gate(#[allow(dead_code, reason = "its drop opens the gate")] Sender<()>);

/// Blocks the loop; returns when it stands still.
pub fn block<H: Handler>(server: &RunningServer<H>, index: usize) -> Gate {
    let (entered, standing) = channel();
    let (gate, opened) = channel::<()>();
    let job = move |_: &mut H, _: &mut Context<'_, H>| {
        let _ = entered.send(());
        let _ = opened.recv_timeout(DEADLINE);
    };
    server.loops()[index].execute(job).expect("the loop takes a job");
    standing.recv_timeout(DEADLINE).expect("the loop runs the job");
    Gate(gate)
}

/// Returns when the loop has finished what it had to do: two whole turns have gone by, so that
/// what the first one left to the second is done as well.
pub fn settle<H: Handler>(server: &RunningServer<H>, index: usize) {
    for _ in 0..3 {
        let (done, finished) = channel();
        let job = move |_: &mut H, _: &mut Context<'_, H>| {
            let _ = done.send(());
        };
        server.loops()[index].execute(job).expect("the loop takes a job");
        finished.recv_timeout(DEADLINE).expect("the loop runs the job");
    }
}

/// What the channel's next message is; none within the deadline fails the test.
pub fn next<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(DEADLINE).expect("it happens")
}

/// A client with a small receive buffer, so that a server soon finds it full.
pub fn connect_narrow(to: SocketAddr, receive_buffer: usize) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(receive_buffer).expect("a small buffer");
    socket.connect_timeout(&to.into(), DEADLINE).expect("the server accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).expect("a read timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("a write timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Closes with a reset.
pub fn reset(client: TcpStream) {
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("linger");
    drop(client);
}

/// How the stream ended, after whatever bytes there were: `Ok` in order, `Err` with a reset.
pub fn ending(stream: &mut impl Read) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let result = stream.read_to_end(&mut bytes).map(drop);
    if let Err(error) = &result {
        let timed_out = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        assert!(!timed_out, "the stream does not end");
    }
    (bytes, result)
}

/// A small random number generator: the same seed, the same run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}
