//! HTTP/1.1 with keep-alive and pipelining: any GET is answered by `Hello, World!`.
//!
//! Requests are read by the codec of the example `http`, as strictly as there: what is measured is a
//! parser that a server can have. Whole requests are answered in order, into the output buffer, which
//! leaves in one system call when the callback returns. What is not a whole request stays in the input
//! and is offered again.

use std::io::Write;

use tightloop::{Action, Conn, Handler, Input};

#[allow(dead_code, unused_imports, reason = "no request here has a body")]
#[path = "../../../../examples/http/codec/mod.rs"]
mod codec;

use codec::{Framing, HeadReader, Method, Persistence};

const HELLO: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
const HELLO_AND_STAY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
    Connection: keep-alive\r\nContent-Length: 13\r\n\r\nHello, World!";
const HELLO_AND_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
    Connection: close\r\nContent-Length: 13\r\n\r\nHello, World!";
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const BAD_METHOD: &[u8] = b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n\
    Connection: close\r\nContent-Length: 0\r\n\r\n";

/// Output that may wait for a client before the rest of its requests waits too.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

pub struct Http;

impl Handler for Http {
    type State = HeadReader;

    fn on_open(&mut self, _conn: &mut Conn<'_>) -> HeadReader {
        HeadReader::default()
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        reader: &mut HeadReader,
        input: &mut Input<'_>,
    ) -> Action {
        let Some(mut out) = conn.writer() else {
            return Action::Continue; // it is closing already
        };
        // The framework offers the rest when the client has taken some.
        while out.written() <= MAX_OUTPUT_BYTES {
            let head = match reader.read(input.as_slice()) {
                Ok(Some(head)) => head,
                Ok(None) => break,
                Err(_) => return end(&mut out, BAD_REQUEST),
            };
            input.consume(head.length);
            match (head.method, head.framing, head.persistence) {
                (Method::Get, Framing::Length(0), Persistence::Stays) => {
                    // Writing into the output buffer never fails.
                    let _ = out.write_all(HELLO);
                }
                (Method::Get, Framing::Length(0), Persistence::StaysAsAsked) => {
                    let _ = out.write_all(HELLO_AND_STAY);
                }
                (Method::Get, Framing::Length(0), Persistence::Closes) => {
                    return end(&mut out, HELLO_AND_CLOSE);
                }
                // Where the next request begins would depend on a body, which no GET needs.
                (Method::Get, _, _) => return end(&mut out, BAD_REQUEST),
                _ => return end(&mut out, BAD_METHOD),
            }
        }
        Action::Continue
    }
}

fn end(out: &mut impl Write, answer: &[u8]) -> Action {
    let _ = out.write_all(answer);
    Action::Close
}
