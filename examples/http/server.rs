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

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tightloop::{Action, Conn, Context, Handler, Input};

use crate::answers::Answers;
use crate::codec::{BodyReader, Framing, Head, HeadReader, Method, Persistence, Refusal};
use crate::routes::{Route, route};

/// Output that may wait for a client before it is read from no more, and before long answers go on.
pub const HIGH_WATERMARK: usize = 256 << 10;
pub const LOW_WATERMARK: usize = 64 << 10;

/// What all unfinished bodies of a loop may hold; the limit of one body alone would allow every
/// connection so much.
const MAX_HELD_BYTES: usize = 256 << 20;

/// What `/bytes/N` is made of, as often as it takes: each byte tells its place.
static BLOCK: [u8; 251 * 256] = block();

const fn block() -> [u8; 251 * 256] {
    let mut block = [0; 251 * 256];
    let mut at = 0;
    while at < block.len() {
        block[at] = (at % 251) as u8;
        at += 1;
    }
    block
}

const TOO_SLOW: Refusal =
    Refusal { status: "408 Request Timeout", reason: "the request is too slow" };
const TOO_MUCH: Refusal =
    Refusal { status: "503 Service Unavailable", reason: "too many bodies at a time" };

/// What a client may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    /// Of one connection.
    pub requests: u32,
    pub body_bytes: u64,
}

pub struct Http {
    limits: Limits,
    answers: Answers,
    /// Bytes of all bodies that are being received.
    held: Rc<Cell<usize>>,
}

/// A connection between two callbacks.
#[derive(Default)]
pub struct Connection {
    reader: HeadReader,
    requests: u32,
    /// What the timer runs for.
    awaits: Awaits,
    /// A HEAD request is begun, and neither answered nor in `receiving`.
    begun_head: bool,
    /// The request whose body is coming. Never together with `sending`.
    receiving: Option<Box<Receiving>>,
    /// The answer that goes on when the peer has taken some; reading is paused meanwhile.
    sending: Option<Sending>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// The first byte of a request, or nothing of the peer's.
    #[default]
    Nothing,
    Head,
    Body,
}

/// A request whose body is coming.
struct Receiving {
    route: Route,
    persistence: Persistence,
    is_head: bool,
    body: BodyReader,
    collected: Collected,
}

/// A long answer: so many bytes are still to be written.
struct Sending {
    left: u64,
    persistence: Persistence,
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
        Http { limits, answers: Answers::new(), held: Rc::default() }
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
        let collected = Collected { bytes: Vec::new(), held: Rc::clone(&self.held) };
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
        let Receiving { route, persistence, is_head, mut collected, .. } = request;
        match route {
            Route::Page(page) => self.answers.write_page(&mut out, page, persistence, is_head),
            Route::Echo if collected.bytes.is_empty() => {
                self.answers.write_head(&mut out, last.len() as u64, persistence);
                conn.write(last);
            }
            Route::Echo => {
                let body = collected.take();
                self.answers.write_head(&mut out, body.len() as u64, persistence);
                conn.write_bytes(body);
            }
            Route::Bytes(length) => {
                self.answers.write_head(&mut out, length, persistence);
                let mut sending = Sending { left: if is_head { 0 } else { length }, persistence };
                if !sending.go_on(conn) {
                    conn.pause_reading();
                    state.sending = Some(sending);
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

    /// A request has to be whole in time, however its bytes trickle in: the idle timeout alone would
    /// let a client keep its place by a byte a minute.
    fn time(&self, conn: &mut Conn<'_>, state: &mut Connection, awaits: Awaits, is_new: bool) {
        let limit = match awaits {
            Awaits::Nothing => None,
            Awaits::Head => Some(self.limits.head_timeout),
            Awaits::Body => Some(self.limits.body_timeout),
        };
        if awaits != state.awaits || (is_new && limit.is_some()) {
            conn.set_timer(limit);
        }
        state.awaits = awaits;
    }

    fn refuse(&self, conn: &mut Conn<'_>, state: &Connection, refusal: &Refusal) -> Action {
        let is_head = match &state.receiving {
            Some(request) => request.is_head,
            None => state.begun_head || state.reader.is_head(),
        };
        if let Some(mut out) = conn.writer() {
            self.answers.write_refusal(&mut out, refusal, is_head);
        }
        Action::Close
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
            if self.body.is_done() && self.collected.bytes.is_empty() {
                return Ok(Some(piece));
            }
            self.collected.add(piece)?;
        }
        Ok(Some(&[]))
    }
}

/// The body so far. What it holds counts until it is dropped or taken.
struct Collected {
    bytes: Vec<u8>,
    /// Of all connections of the loop.
    held: Rc<Cell<usize>>,
}

impl Collected {
    fn add(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let held = self.held.get() + piece.len();
        if held > MAX_HELD_BYTES {
            return Err(TOO_MUCH);
        }
        self.held.set(held);
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    fn take(&mut self) -> Bytes {
        self.held.set(self.held.get() - self.bytes.len());
        std::mem::take(&mut self.bytes).into()
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        self.take();
    }
}

impl Sending {
    /// Writes until enough waits for the peer, and answers whether that was the end.
    fn go_on(&mut self, conn: &mut Conn<'_>) -> bool {
        let block = Bytes::from_static(&BLOCK);
        while self.left > 0 {
            let length = self.left.min(block.len() as u64);
            self.left -= length;
            if conn.write_bytes(block.slice(..length as usize)) > HIGH_WATERMARK {
                break;
            }
        }
        self.left == 0
    }
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
            let awaits = match step {
                Ok(Step::Request) => continue,
                Ok(Step::Close) => return Action::Close,
                Err(refusal) => return self.refuse(conn, state, &refusal),
                Ok(Step::Input) if state.receiving.is_some() => Awaits::Body,
                Ok(Step::Input) if state.reader.has_begun(input.len()) => Awaits::Head,
                // What a client does not take in time is the framework's business.
                Ok(Step::Input | Step::Output) => Awaits::Nothing,
            };
            self.time(conn, state, awaits, state.requests != before);
            return Action::Continue;
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, state: &mut Connection) -> Action {
        let Some(sending) = &mut state.sending else { return Action::Continue };
        if !sending.go_on(conn) {
            return Action::Continue;
        }
        let closes = sending.persistence == Persistence::Closes;
        state.sending = None;
        conn.resume_reading();
        if closes { Action::Close } else { Action::Continue }
    }

    fn on_timer(&mut self, conn: &mut Conn<'_>, state: &mut Connection) -> Action {
        self.refuse(conn, state, &TOO_SLOW)
    }

    fn on_tick(&mut self, _: &mut Context<'_, Self>) -> Option<Duration> {
        self.answers = Answers::new();
        Some(Answers::valid_for())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bodies_hold_is_bounded_and_given_back() {
        let held = Rc::new(Cell::new(MAX_HELD_BYTES - 10));
        let collected = || Collected { bytes: Vec::new(), held: Rc::clone(&held) };
        let (mut one, mut other) = (collected(), collected());
        assert_eq!(one.add(b"12345"), Ok(()));
        assert_eq!(other.add(b"123456"), Err(TOO_MUCH));
        assert_eq!(other.add(b"12345"), Ok(()));
        assert_eq!(one.add(b"1"), Err(TOO_MUCH));
        assert_eq!(&one.take()[..], b"12345");
        assert_eq!(held.get(), MAX_HELD_BYTES - 5);
        drop((one, other));
        assert_eq!(held.get(), MAX_HELD_BYTES - 10);
    }
}
