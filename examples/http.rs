//! HTTP/1.1 with keep-alive and pipelining, on the parser httparse: a protocol in one handler.
//!
//! Bytes that are not a whole request head are left in the input, and are offered again when more
//! arrive; the state remembers how far the end of the head was looked for, so that no byte is
//! searched twice. Every whole request is answered in order, into the output buffer, which
//! leaves in one system call when the callback returns. The Date header is made once a second by
//! `on_tick`.
//!
//! What it does not do, it refuses in the way of RFC 9112: bodies are skipped, up to 1 MiB, and a
//! body with a Transfer-Encoding is answered with 501.
//!
//! ```text
//! cargo run --release --example http
//! curl -i localhost:8080/json
//! ```

mod common;
#[path = "common/tls.rs"]
mod tls;

use std::io::Write;
use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Parser;
use httparse::Header;
use tightloop::{Action, Conn, Context, Handler, Input};

const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_BODY_BYTES: usize = 1024 * 1024;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// HTTP/1.1: GET / and /plaintext answer Hello, World!, GET /json the same as JSON
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: common::Args,

    #[command(flatten)]
    tls: tls::Args,

    /// How long a client may take to send its first byte, and then each request
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    request_timeout_ms: u64,
}

// ---- answers ----------------------------------------------------------------------------------

struct Answer {
    status: &'static str,
    /// Header lines that belong to this answer only.
    headers: &'static str,
    body: &'static str,
}

const TEXT: &str = "Content-Type: text/plain\r\n";
const JSON: &str = "Content-Type: application/json\r\n";
const TEXT_AND_ALLOW: &str = "Content-Type: text/plain\r\nAllow: GET, HEAD\r\n";

const HELLO: Answer = Answer::new("200 OK", TEXT, "Hello, World!");
const HELLO_JSON: Answer = Answer::new("200 OK", JSON, r#"{"message":"Hello, World!"}"#);
const BAD_REQUEST: Answer = Answer::new("400 Bad Request", TEXT, "bad request\n");
const NOT_FOUND: Answer = Answer::new("404 Not Found", TEXT, "not found\n");
const BAD_METHOD: Answer =
    Answer::new("405 Method Not Allowed", TEXT_AND_ALLOW, "only GET and HEAD\n");
const TOO_SLOW: Answer = Answer::new("408 Request Timeout", TEXT, "the request is too slow\n");
const BODY_TOO_LONG: Answer = Answer::new("413 Content Too Large", TEXT, "the body is too long\n");
const HEAD_TOO_LONG: Answer =
    Answer::new("431 Request Header Fields Too Large", TEXT, "the head is too long\n");
const NOT_IMPLEMENTED: Answer =
    Answer::new("501 Not Implemented", TEXT, "no transfer encodings here\n");

impl Answer {
    const fn new(status: &'static str, headers: &'static str, body: &'static str) -> Self {
        Answer { status, headers, body }
    }
}

/// What happens to the connection after an answer, and how the peer is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Persistence {
    /// HTTP/1.1 stays open, and need not say so.
    Stays,
    /// HTTP/1.0 stays open if both sides say so.
    StaysAsAsked,
    Closes,
}

impl Persistence {
    fn header(self) -> &'static str {
        match self {
            Persistence::Stays => "",
            Persistence::StaysAsAsked => "Connection: keep-alive\r\n",
            Persistence::Closes => "Connection: close\r\n",
        }
    }
}

// ---- requests ---------------------------------------------------------------------------------

/// A request, as far as this server cares.
struct Request {
    answer: Answer,
    /// HEAD gets the headers of the answer, its Content-Length too, but not the body.
    is_head: bool,
    persistence: Persistence,
    body_length: usize,
    expects_continue: bool,
}

/// The length of the head at the start of `bytes`, with the empty line that ends it, if it is
/// there. The first `scanned` bytes were looked at before. As httparse does, it takes LF for CRLF.
fn head_length(bytes: &[u8], scanned: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', &bytes[scanned..])
        .map(|offset| scanned + offset)
        .find(|&at| bytes[..at].ends_with(b"\n") || bytes[..at].ends_with(b"\n\r"))
        .map(|at| at + 1)
}

/// Reads a whole head. The error is an answer too: the last one, because after a request that was
/// not understood nobody knows where the next one begins.
fn read_head(head: &[u8]) -> Result<Request, Answer> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut headers) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HEAD_TOO_LONG),
        Ok(httparse::Status::Partial) | Err(_) => return Err(BAD_REQUEST),
    }
    let (method, target) = (parsed.method.unwrap_or(""), parsed.path.unwrap_or(""));
    let is_http_1_0 = parsed.version == Some(0);
    Ok(Request {
        answer: route(method, target),
        is_head: method == "HEAD",
        persistence: match is_http_1_0 {
            _ if lists(parsed.headers, "connection", "close") => Persistence::Closes,
            false => Persistence::Stays,
            true if lists(parsed.headers, "connection", "keep-alive") => Persistence::StaysAsAsked,
            true => Persistence::Closes,
        },
        body_length: body_length(parsed.headers)?,
        expects_continue: !is_http_1_0 && lists(parsed.headers, "expect", "100-continue"),
    })
}

fn route(method: &str, target: &str) -> Answer {
    let path = target.split('?').next();
    let answer = match path {
        Some("/" | "/plaintext") => HELLO,
        Some("/json") => HELLO_JSON,
        _ => return NOT_FOUND,
    };
    if matches!(method, "GET" | "HEAD") { answer } else { BAD_METHOD }
}

fn body_length(headers: &[Header<'_>]) -> Result<usize, Answer> {
    let mut lengths = values(headers, "content-length");
    let length = lengths.next();
    let is_encoded = values(headers, "transfer-encoding").next().is_some();
    match length {
        // Two parties could disagree about where the next request begins: that is an attack.
        Some(_) if is_encoded => Err(BAD_REQUEST),
        Some(length) if lengths.any(|other| other != length) => Err(BAD_REQUEST),
        Some(length) if length.is_empty() || !length.iter().all(u8::is_ascii_digit) => {
            Err(BAD_REQUEST)
        }
        // Digits only, so that what cannot be parsed is too large.
        Some(length) => match str::from_utf8(length).map(str::parse) {
            Ok(Ok(length)) if length <= MAX_BODY_BYTES => Ok(length),
            _ => Err(BODY_TOO_LONG),
        },
        None if is_encoded => Err(NOT_IMPLEMENTED),
        None => Ok(0),
    }
}

/// The values of all headers of that name.
fn values<'a>(headers: &'a [Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| header.value)
}

/// Whether a header whose value is a list, such as `Connection: keep-alive, Upgrade`, has `token`.
fn lists(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    values(headers, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

// ---- the server -------------------------------------------------------------------------------

struct Http {
    /// The header lines of every answer, made anew each second.
    common_headers: String,
    request_timeout: Duration,
}

/// Where a connection is between two callbacks.
#[derive(Default)]
struct Progress {
    /// Bytes of the unfinished head in which no end was found.
    scanned: usize,
    /// Bytes that are still to come of the body of the last request.
    body_left: usize,
    /// The timer runs for a request that is not whole yet.
    timed: bool,
}

impl Progress {
    /// A request has to be whole in time, however its bytes trickle in: the idle timeout alone
    /// would let a client keep its place by a byte a minute.
    fn time_request(
        &mut self,
        conn: &mut Conn<'_>,
        is_partial: bool,
        is_new: bool,
        limit: Duration,
    ) {
        if is_partial && (is_new || !self.timed) {
            conn.set_timer(limit);
        } else if !is_partial && self.timed {
            conn.set_timer(None);
        }
        self.timed = is_partial;
    }
}

impl Http {
    fn new(request_timeout: Duration) -> Self {
        let date = httpdate::fmt_http_date(SystemTime::now());
        let common_headers = format!("Server: tightloop\r\nDate: {date}\r\n");
        Http { common_headers, request_timeout }
    }

    fn write_answer(&self, out: &mut impl Write, answer: &Answer, end: Persistence, is_head: bool) {
        let Answer { status, headers, body } = answer;
        let (common, connection, length) = (&self.common_headers, end.header(), body.len());
        let body = if is_head { "" } else { body };
        // Writing into the output buffer never fails.
        let _ = write!(
            out,
            "HTTP/1.1 {status}\r\n{common}{headers}{connection}Content-Length: {length}\r\n\r\n{body}"
        );
    }
}

impl Handler for Http {
    type State = Progress;

    fn on_open(&mut self, _: &mut Conn<'_>) -> Progress {
        Progress::default()
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        progress: &mut Progress,
        input: &mut Input<'_>,
    ) -> Action {
        let Some(mut out) = conn.writer() else {
            return Action::Continue; // it is closing already
        };
        let mut is_new = false;
        loop {
            progress.body_left -= input.consume(progress.body_left);
            let unread = input.as_slice();
            let request = match head_length(unread, progress.scanned) {
                Some(length) if length <= MAX_HEAD_BYTES => {
                    input.consume(length);
                    read_head(&unread[..length])
                }
                None if unread.len() <= MAX_HEAD_BYTES => {
                    progress.scanned = unread.len();
                    let is_partial = progress.scanned > 0 || progress.body_left > 0;
                    progress.time_request(conn, is_partial, is_new, self.request_timeout);
                    return Action::Continue;
                }
                _ => Err(HEAD_TOO_LONG),
            };
            let request = match request {
                Ok(request) => request,
                Err(answer) => {
                    self.write_answer(&mut out, &answer, Persistence::Closes, false);
                    return Action::Close;
                }
            };
            if request.expects_continue {
                let _ = out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            self.write_answer(&mut out, &request.answer, request.persistence, request.is_head);
            if request.persistence == Persistence::Closes {
                return Action::Close;
            }
            progress.scanned = 0;
            progress.body_left = request.body_length;
            is_new = true;
        }
    }

    fn on_timer(&mut self, conn: &mut Conn<'_>, _: &mut Progress) -> Action {
        if let Some(mut out) = conn.writer() {
            self.write_answer(&mut out, &TOO_SLOW, Persistence::Closes, false);
        }
        Action::Close
    }

    fn on_tick(&mut self, _: &mut Context<'_, Self>) -> Option<Duration> {
        *self = Http::new(self.request_timeout);
        Some(Duration::from_secs(1))
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let patience = Duration::from_millis(flags.request_timeout_ms);
    let server = common::server(&flags.common, &["tcp://:8080"])
        .idle_timeout(IDLE_TIMEOUT)
        .first_byte_timeout(patience);
    match tls::apply(server, &flags.tls, &flags.common) {
        Ok(server) => common::serve(server, move |_loop| Http::new(patience)),
        Err(error) => common::exit_code(Err(error)),
    }
}
