//! The handler: from requests to answers, one after the other on each connection.
//!
//! ```text
//!            +--> a page, or a whole body --> answer --+
//!  head -----+                                         +--> head ...
//!            +--> Receiving ----> answer --------------+
//!            +--> Sending (input waits until the peer has taken it) --+
//! ```
//!
//! A request is answered when it is whole, so a body that turns out to be malformed has no answer
//! before its refusal, and the order of answers is that of requests.

use std::time::Duration;

use tightloop::{Action, Conn, Context, Handler, Input};

use crate::answers::Answers;
use crate::codec::{BodyReader, Framing, Head, HeadReader, Method, Persistence, Refusal};
use crate::held::{Collected, Held};
use crate::routes::{Route, route};
use crate::sending::Sending;

/// Output that may wait for a client before it is read from no more, and before long answers go on.
pub const HIGH_WATERMARK: usize = 256 << 10;
pub const LOW_WATERMARK: usize = 64 << 10;

/// What has to be taken in the time that the client has for it.
const ANSWER_STRETCH_BYTES: usize = 1 << 20;

const TOO_SLOW: Refusal =
    Refusal { status: "408 Request Timeout", reason: "the request is too slow" };

/// What a client may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    /// For each [`ANSWER_STRETCH_BYTES`], and for what is less.
    pub answer_timeout: Duration,
    /// Of one connection.
    pub requests: u32,
    pub body_bytes: u64,
}

pub struct Http {
    limits: Limits,
    answers: Answers,
    held: Held,
}

/// A connection between two callbacks.
#[derive(Default)]
pub struct Connection {
    reader: HeadReader,
    requests: u32,
    /// What the timer runs for.
    awaits: Awaits,
    /// What it will run for when the peer has taken the output.
    awaits_then: Awaits,
    /// A HEAD request is begun, and neither answered nor in `receiving`.
    begun_head: bool,
    /// The request whose body is coming. Never together with `sending`.
    receiving: Option<Box<Receiving>>,
    /// The answer that goes on, or ends, when the peer has taken some; reading is paused meanwhile.
    sending: Option<Sending>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// The first byte of a request, or nothing of the peer's.
    #[default]
    Nothing,
    Head,
    Body,
    /// That output is taken: there is more than the high watermark, and no input is read.
    Drain,
}

/// A request whose body is coming.
struct Receiving {
    route: Route,
    persistence: Persistence,
    is_head: bool,
    body: BodyReader,
    collected: Collected,
}

/// What comes next on a connection.
enum Step {
    Request,
    /// The peer has to send more.
    Input,
    /// It has to take something first.
    Output,
    Close,
}

impl Http {
    pub fn new(limits: Limits) -> Self {
        Http { limits, answers: Answers::new(), held: Held::default() }
    }

    /// Answers what is whole in the input and needs no more than a page: nearly all requests.
    #[inline]
    fn next_requests(
        &self,
        conn: &mut Conn<'_>,
        state: &mut Connection,
        input: &mut Input<'_>,
    ) -> Result<Step, Refusal> {
        let Some(mut out) = conn.writer() else {
            return Ok(Step::Output); // it is closing already
        };
        loop {
            let Some(head) = state.reader.read(input.as_slice())? else {
                return Ok(Step::Input);
            };
            input.consume(head.length);
            state.requests += 1;
            // Behind CONNECT a client may have sent what is meant for somebody else.
            let is_connect = head.method == Method::Connect;
            let end = match state.requests < self.limits.requests && !is_connect {
                true => head.persistence,
                false => Persistence::Closes,
            };
            let route = route(head.method, head.path);
            let Route::Page(page) = route else {
                return self.begin(conn, state, input, &head, route, end);
            };
            if head.framing != Framing::Length(0) && !is_connect {
                return self.begin(conn, state, input, &head, route, end);
            }
            self.answers.write_page(&mut out, page, end, head.method == Method::Head);
            if end == Persistence::Closes {
                return Ok(Step::Close);
            }
            if out.written() > HIGH_WATERMARK {
                return Ok(Step::Output);
            }
        }
    }

    /// A request that has a body or a long answer.
    #[inline(never)]
    fn begin(
        &self,
        conn: &mut Conn<'_>,
        state: &mut Connection,
        input: &mut Input<'_>,
        head: &Head<'_>,
        route: Route,
        persistence: Persistence,
    ) -> Result<Step, Refusal> {
        let is_head = head.method == Method::Head;
        // Until it is known that it is not refused.
        state.begun_head = is_head;
        let body = BodyReader::new(head.framing, self.limits.body_bytes)?;
        let collected = Collected::new(&self.held);
        let mut request = Receiving { route, persistence, is_head, body, collected };
        if head.expects_continue && !request.body.is_done() {
            if route != Route::Echo {
                // Nobody wants the body, and whether it is sent all the same is not known.
                request.persistence = Persistence::Closes;
                state.begun_head = false;
                return Ok(self.answer(conn, state, request, &[]));
            }
            conn.write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let received = request.receive(input)?;
        state.begun_head = false;
        match received {
            Some(last) => Ok(self.answer(conn, state, request, last)),
            None => {
                state.receiving = Some(Box::new(request));
                Ok(Step::Input)
            }
        }
    }

    /// Goes on with the request whose body is coming.
    #[inline(never)]
    fn go_on(
        &self,
        conn: &mut Conn<'_>,
        state: &mut Connection,
        input: &mut Input<'_>,
    ) -> Result<Step, Refusal> {
        let last = match &mut state.receiving {
            Some(request) => request.receive(input)?,
            None => None,
        };
        match (last, state.receiving.take()) {
            (Some(last), Some(request)) => Ok(self.answer(conn, state, *request, last)),
            (_, unfinished) => {
                state.receiving = unfinished;
                Ok(Step::Input)
            }
        }
    }

    /// Answers a request that is whole; `last` is what was not collected of its body.
    fn answer(
        &self,
        conn: &mut Conn<'_>,
        state: &mut Connection,
        request: Receiving,
        last: &[u8],
    ) -> Step {
        let Some(mut out) = conn.writer() else { return Step::Output };
        let Receiving { route, persistence, is_head, collected, .. } = request;
        match route {
            Route::Page(page) => self.answers.write_page(&mut out, page, persistence, is_head),
            Route::Echo if collected.is_empty() => {
                self.answers.write_head(&mut out, last.len() as u64, persistence);
                conn.write(last);
            }
            Route::Echo => {
                self.answers.write_head(&mut out, collected.len() as u64, persistence);
                for piece in collected.into_pieces() {
                    conn.write_bytes(piece);
                }
            }
            Route::Bytes(length) => {
                self.answers.write_head(&mut out, length, persistence);
                let mut sending = Sending { left: if is_head { 0 } else { length }, persistence };
                if !sending.go_on(conn) {
                    wait_for_drain(conn, state, sending);
                    return Step::Output;
                }
            }
        }
        match persistence {
            Persistence::Closes => Step::Close,
            _ if conn.pending() > HIGH_WATERMARK => Step::Output,
            _ => Step::Request,
        }
    }

    /// A request has to be whole in time, and much output taken, however the bytes trickle: the idle
    /// timeout alone would let a client keep its place by a byte a minute.
    fn time(&self, conn: &mut Conn<'_>, state: &mut Connection, awaits: Awaits, is_new: bool) {
        let limit = match awaits {
            Awaits::Nothing => None,
            Awaits::Head => Some(self.limits.head_timeout),
            Awaits::Body => Some(self.limits.body_timeout),
            Awaits::Drain => {
                let stretches = 1 + conn.pending() / ANSWER_STRETCH_BYTES;
                let stretches = u32::try_from(stretches).unwrap_or(u32::MAX);
                Some(self.limits.answer_timeout.saturating_mul(stretches))
            }
        };
        if awaits != state.awaits || (is_new && limit.is_some()) {
            conn.set_timer(limit);
        }
        state.awaits = awaits;
    }

    fn refuse(&self, conn: &mut Conn<'_>, state: &Connection, refusal: &Refusal) -> Step {
        let is_head = match &state.receiving {
            Some(request) => request.is_head,
            None => state.begun_head || state.reader.is_head(),
        };
        if let Some(mut out) = conn.writer() {
            self.answers.write_refusal(&mut out, refusal, is_head);
        }
        Step::Close
    }
}

impl Receiving {
    /// Reads on. `None`: more is to come. Of a body that has come as one piece, just that is the last
    /// piece, and nothing is copied.
    fn receive<'a>(&mut self, input: &mut Input<'a>) -> Result<Option<&'a [u8]>, Refusal> {
        while !self.body.is_done() {
            let (taken, piece) = self.body.read(input.as_slice())?;
            if taken == 0 {
                return Ok(None);
            }
            input.consume(taken);
            if self.route != Route::Echo {
                continue;
            }
            if self.body.is_done() && self.collected.is_empty() {
                return Ok(Some(piece));
            }
            self.collected.add(piece)?;
        }
        Ok(Some(&[]))
    }
}

/// Has the answer go on when the peer has taken what is written.
fn wait_for_drain(conn: &mut Conn<'_>, state: &mut Connection, sending: Sending) {
    conn.pause_reading();
    state.sending = Some(sending);
}

impl Handler for Http {
    type State = Connection;

    fn on_open(&mut self, _: &mut Conn<'_>) -> Connection {
        Connection::default()
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        state: &mut Connection,
        input: &mut Input<'_>,
    ) -> Action {
        let before = state.requests;
        loop {
            let step = match state.receiving {
                None => self.next_requests(conn, state, input),
                Some(_) => self.go_on(conn, state, input),
            };
            let step = step.unwrap_or_else(|refusal| self.refuse(conn, state, &refusal));
            let is_much = conn.pending() > HIGH_WATERMARK;
            let awaits = match step {
                Step::Request => continue,
                // While it closes, it could be taken in any time.
                Step::Close if is_much => {
                    let persistence = Persistence::Closes;
                    wait_for_drain(conn, state, Sending { left: 0, persistence });
                    Awaits::Nothing
                }
                Step::Close => return Action::Close,
                Step::Input if state.receiving.is_some() => Awaits::Body,
                Step::Input if state.reader.has_begun(input.len()) => Awaits::Head,
                Step::Input | Step::Output => Awaits::Nothing,
            };
            state.awaits_then = awaits;
            // What the client sends now is not read, so it cannot be late.
            let awaits = if is_much { Awaits::Drain } else { awaits };
            self.time(conn, state, awaits, state.requests != before);
            return Action::Continue;
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, state: &mut Connection) -> Action {
        let Some(sending) = &mut state.sending else {
            // It may have been much again since.
            let awaits = state.awaits_then;
            if conn.pending() <= HIGH_WATERMARK {
                self.time(conn, state, awaits, true);
            }
            return Action::Continue;
        };
        if !sending.go_on(conn) {
            self.time(conn, state, Awaits::Drain, true);
            return Action::Continue;
        }
        let closes = sending.persistence == Persistence::Closes;
        state.sending = None;
        conn.resume_reading();
        self.time(conn, state, Awaits::Nothing, true);
        if closes { Action::Close } else { Action::Continue }
    }

    fn on_timer(&mut self, conn: &mut Conn<'_>, state: &mut Connection) -> Action {
        if state.awaits != Awaits::Drain {
            self.refuse(conn, state, &TOO_SLOW);
            return Action::Close;
        }
        if state.sending.is_some() || conn.pending() > LOW_WATERMARK {
            conn.abort(); // It has half an answer.
        } else {
            let awaits = state.awaits_then;
            self.time(conn, state, awaits, true);
        }
        Action::Continue
    }

    fn on_tick(&mut self, _: &mut Context<'_, Self>) -> Option<Duration> {
        self.answers = Answers::new();
        Some(Answers::valid_for())
    }
}
