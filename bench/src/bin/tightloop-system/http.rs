//! HTTP/1.1 with keep-alive and pipelining: any GET is answered by `Hello, World!`.
//!
//! Whole requests are answered in order, into the output buffer, which leaves in one system call
//! when the callback returns. What is not a whole request stays in the input and is offered again.

use std::mem::MaybeUninit;

use httparse::{Header, Request, Status};
use tightloop::{Action, Conn, Handler, Input};

const MAX_HEADERS: usize = 32;
const MAX_HEAD_BYTES: usize = 16 * 1024;

const HELLO: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
const HELLO_AND_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
    Connection: close\r\nContent-Length: 13\r\n\r\nHello, World!";
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const BAD_METHOD: &[u8] = b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n\
    Connection: close\r\nContent-Length: 0\r\n\r\n";

pub struct Http;

impl Handler for Http {
    type State = ();

    fn on_open(&mut self, _conn: &mut Conn<'_>) {}

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        _state: &mut (),
        input: &mut Input<'_>,
    ) -> Action {
        loop {
            match next_request(input.as_slice()) {
                Parsed::Partial => return Action::Continue,
                Parsed::Get { length, keep_alive: true } => {
                    input.consume(length);
                    conn.write(HELLO);
                }
                Parsed::Get { keep_alive: false, .. } => return end(conn, HELLO_AND_CLOSE),
                Parsed::OtherMethod => return end(conn, BAD_METHOD),
                Parsed::Invalid => return end(conn, BAD_REQUEST),
            }
        }
    }
}

fn end(conn: &mut Conn<'_>, answer: &[u8]) -> Action {
    conn.write(answer);
    Action::Close
}

enum Parsed {
    Partial,
    Get { length: usize, keep_alive: bool },
    OtherMethod,
    Invalid,
}

fn next_request(bytes: &[u8]) -> Parsed {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() <= MAX_HEAD_BYTES => return Parsed::Partial,
        Ok(Status::Partial) | Err(_) => return Parsed::Invalid,
    };
    if request.method != Some("GET") {
        return Parsed::OtherMethod;
    }
    let mut keep_alive = request.version == Some(1);
    for header in request.headers.iter() {
        if is_named(header, "connection") {
            keep_alive = connection_stays(header.value, keep_alive);
        } else if is_named(header, "transfer-encoding") || has_body(header) {
            // Where the next request begins would depend on a body, which no GET needs.
            return Parsed::Invalid;
        }
    }
    Parsed::Get { length, keep_alive }
}

fn is_named(header: &Header<'_>, name: &str) -> bool {
    header.name.len() == name.len() && header.name.eq_ignore_ascii_case(name)
}

fn has_body(header: &Header<'_>) -> bool {
    is_named(header, "content-length") && header.value != b"0"
}

fn connection_stays(value: &[u8], by_version: bool) -> bool {
    let items = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    items.fold(by_version, |stays, item| {
        (stays || item.eq_ignore_ascii_case(b"keep-alive")) && !item.eq_ignore_ascii_case(b"close")
    })
}
