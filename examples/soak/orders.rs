//! The handler with frames: each orders something of it, by its first byte.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use tightloop::codec::{Codec, LengthFieldCodec};
use tightloop::{Action, CloseReason, Conn, ConnHandle, FrameConn, FrameHandler, HandleError};

use crate::handlers::{Seen, Tally};
use crate::peer::bytes_from;

/// The longest frame, in bytes, with its length.
pub const MAX_FRAME: usize = 128 << 10;

/// How panics that are asked for begin.
pub const PANIC: &str = "soak: asked for";

/// The settings of both sides.
pub fn codec() -> LengthFieldCodec {
    LengthFieldCodec::builder().max_frame(MAX_FRAME).build().expect("settings that are accepted")
}

/// What the other threads are asked for.
pub enum Task {
    /// Write these bytes.
    Write(ConnHandle, Bytes),
    /// Write these bytes, then close.
    WriteAndClose(ConnHandle, Bytes),
    /// Have `on_wake` called.
    Wake(ConnHandle),
}

/// Starts a thread that does tasks, and answers its mailbox. It ends when all senders are gone.
pub fn start_thread(tally: &Arc<Tally>) -> Sender<Task> {
    let (sender, tasks) = channel();
    let tally = Arc::clone(tally);
    std::thread::spawn(move || work(&tally, &tasks));
    sender
}

fn work(tally: &Arc<Tally>, tasks: &Receiver<Task>) {
    for task in tasks {
        match task {
            Task::Write(conn, bytes) => write(tally, &conn, &bytes),
            Task::WriteAndClose(conn, bytes) => {
                write(tally, &conn, &bytes);
                // Refused only where it is closed already.
                let _ = conn.close();
            }
            Task::Wake(conn) => drop(conn.wake()),
        }
    }
}

/// Writes, waiting for room, and counts the call back.
fn write(tally: &Arc<Tally>, conn: &ConnHandle, bytes: &Bytes) {
    loop {
        let counted = Arc::clone(tally);
        let done = move |_| {
            counted.done.fetch_add(1, Relaxed);
        };
        match conn.write_then(bytes.clone(), done) {
            Ok(()) => {
                tally.writes.fetch_add(1, Relaxed);
                return;
            }
            Err(HandleError::Full) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => return,
        }
    }
}

/// Does what it is ordered.
pub struct Orders {
    pub tally: Arc<Tally>,
    pub threads: Vec<Sender<Task>>,
    pub codec: LengthFieldCodec,
    /// Connections so far.
    pub opened: usize,
}

pub struct State {
    seen: Seen,
    /// Answers for `on_timer`, and for `on_wake`.
    later: Vec<Vec<u8>>,
    woken: VecDeque<Vec<u8>>,
    panic_in_close: bool,
    /// The one that writes for this connection, so that its writes keep their order.
    thread: usize,
}

impl Orders {
    fn ask_thread(&self, state: &State, task: Task) -> Action {
        match self.threads[state.thread].send(task) {
            Ok(()) => Action::Continue,
            Err(_) => Action::Close,
        }
    }

    fn in_pool(conn: &mut FrameConn<'_, Self>, order: Vec<u8>) -> Action {
        let busy = order[..order.len().min(5)].to_vec();
        let job = move || {
            let millis = u64::from(order.get(4).copied().unwrap_or(0) % 4);
            std::thread::sleep(Duration::from_millis(millis));
            order
        };
        let spawned = conn.spawn(job, |conn, _, answer| match answer {
            Ok(answer) => drop(conn.send(&answer)),
            Err(_) => conn.abort(),
        });
        if spawned.is_err() {
            drop(conn.send(&[b"B", &busy[1..]].concat()));
        }
        Action::Continue
    }
}

impl FrameHandler for Orders {
    type Codec = LengthFieldCodec;
    type State = State;

    fn codec(&mut self, _: &mut Conn<'_>) -> LengthFieldCodec {
        self.codec.clone()
    }

    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) -> State {
        self.opened += 1;
        State {
            seen: Seen::new(&self.tally),
            later: Vec::new(),
            woken: VecDeque::new(),
            panic_in_close: false,
            thread: self.opened % self.threads.len(),
        }
    }

    fn on_frame(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        state: &mut State,
        frame: &[u8],
    ) -> Action {
        let number = frame.get(4).copied().unwrap_or(0);
        let encoded = |codec: &mut LengthFieldCodec| {
            codec.encode_to_bytes(frame).expect("what came in may go out")
        };
        match frame.first() {
            Some(b'E') => drop(conn.send(frame)),
            Some(b'W') => return Orders::in_pool(conn, frame.to_vec()),
            Some(b'T') => {
                let task = Task::Write(conn.handle(), encoded(&mut self.codec));
                return self.ask_thread(state, task);
            }
            Some(b'C') => {
                let task = Task::WriteAndClose(conn.handle(), encoded(&mut self.codec));
                return self.ask_thread(state, task);
            }
            Some(b'K') => {
                state.woken.push_back(frame.to_vec());
                return self.ask_thread(state, Task::Wake(conn.handle()));
            }
            Some(b'D') => {
                state.later.push(frame.to_vec());
                conn.set_timer(Duration::from_millis(u64::from(number % 16)));
            }
            Some(b'Q') => {
                let length = frame[1..].iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                conn.write_bytes(bytes_from(0, 0, length));
                return Action::Close;
            }
            Some(b'P') => panic!("{PANIC}"),
            Some(b'X') => {
                state.panic_in_close = true;
                return Action::Close;
            }
            Some(b'A') => conn.abort(),
            _ => return Action::Close,
        }
        Action::Continue
    }

    fn on_wake(&mut self, conn: &mut FrameConn<'_, Self>, state: &mut State) -> Action {
        match state.woken.pop_front() {
            Some(answer) => drop(conn.send(&answer)),
            None => return Action::Close,
        }
        Action::Continue
    }

    fn on_timer(&mut self, conn: &mut FrameConn<'_, Self>, state: &mut State) -> Action {
        for answer in std::mem::take(&mut state.later) {
            drop(conn.send(&answer));
        }
        Action::Continue
    }

    fn on_close(&mut self, _: &mut Conn<'_>, state: State, _: CloseReason) {
        state.seen.close();
        assert!(!state.panic_in_close, "{PANIC}");
    }
}
