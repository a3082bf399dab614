//! The head of a request, read line by line as the lines come: any head, and all that is refused.

use super::fields::{Fields, Framing, Persistence};
use super::line::{Line, line_end, token_length};
use super::plain::read_plain;
use super::refusal::Refusal;
use super::target::path_start;

/// Of a request line, with its CRLF. RFC 9112 recommends at least 8,000 bytes.
pub(super) const MAX_LINE_BYTES: usize = 8 * 1024;
/// Of a whole head; cookies are the longest that clients send, 4 KiB each.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Empty lines before a request: some clients send one behind a body.
const MAX_EMPTY_LINES: u8 = 4;

/// What is asked to be done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Options,
    Connect,
    /// Known to HTTP: PUT, DELETE, PATCH, TRACE.
    Other,
    /// Of which HTTP knows nothing.
    Unknown,
}

/// A request, but for its body.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Bytes of the head: behind them the body begins.
    pub length: usize,
    pub method: Method,
    /// Where in the bytes the path and the query are; `*` and `host:port` are one too.
    pub path: &'a [u8],
    pub framing: Framing,
    pub persistence: Persistence,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// Reads heads, one after the other. Between two calls it keeps places and what the lines have said so
/// far, so that no line is read twice, however the bytes trickle in. Only at its first sight a head
/// is tried by `plain.rs` before.
#[derive(Debug, Default)]
pub struct HeadReader {
    reading: Reading,
}

impl HeadReader {
    /// Whether a request has begun in `length` bytes that were read and are not a whole head. Empty
    /// lines do not count.
    pub fn has_begun(&self, length: usize) -> bool {
        self.reading.has_request_line || length > self.reading.line
    }

    /// Whether the request that is being read, or was refused, wants an answer without a body.
    pub fn is_head(&self) -> bool {
        self.reading.has_request_line && self.reading.method == Method::Head
    }

    /// Reads on. `bytes` are all that have come since the end of the last head and its body. `None`:
    /// the head is not whole.
    #[inline]
    pub fn read<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Head<'a>>, Refusal> {
        if self.reading.scanned == 0
            && let Some(head) = read_plain(bytes)
        {
            return Ok(Some(head));
        }
        self.read_lines(bytes)
    }

    #[inline(never)]
    fn read_lines<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Head<'a>>, Refusal> {
        // A value of its own: it stays in registers, and most heads come whole.
        let mut reading = std::mem::take(&mut self.reading);
        let head = reading.read(bytes);
        if !matches!(head, Ok(Some(_))) {
            self.reading = reading;
        }
        head
    }
}

/// How far a head is read.
///
/// INVARIANT: `line <= scanned`, and both lie within the bytes of the last call.
#[derive(Debug, Default, Clone, Copy)]
struct Reading {
    /// Where the line begins that is to be read.
    line: usize,
    /// Before this place it does not end.
    scanned: usize,
    empty_lines: u8,
    has_request_line: bool,
    /// Valid with `has_request_line`, as are those below it.
    method: Method,
    is_http_1_0: bool,
    /// Where the path begins and ends.
    path: (usize, usize),
    fields: Fields,
}

impl Reading {
    #[inline(always)] // Once a request.
    fn read<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Head<'a>>, Refusal> {
        while !self.has_request_line {
            check_first_byte(bytes.get(self.line))?;
            let limit = self.line + MAX_LINE_BYTES;
            let Some(line) = self.line(bytes, limit, Refusal::line_too_long())? else {
                return Ok(None);
            };
            match line.is_empty() {
                false => self.request_line(line)?,
                true => self.empty_line()?,
            }
            self.next_line(line);
        }
        const TOO_LONG: Refusal = Refusal::head_too_long("the head is too long");
        loop {
            let Some(line) = self.line(bytes, MAX_HEAD_BYTES, TOO_LONG)? else {
                return Ok(None);
            };
            if line.is_empty() {
                return self.finish(bytes).map(Some);
            }
            self.fields.take(line)?;
            self.next_line(line);
        }
    }

    /// The line that is to be read, if it is whole. Nothing behind the limit is looked at, whether it
    /// has come yet or not.
    #[inline(always)] // Once a line.
    fn line<'a>(
        &mut self,
        bytes: &'a [u8],
        limit: usize,
        too_long: Refusal,
    ) -> Result<Option<&'a [u8]>, Refusal> {
        let window = bytes.get(..limit).unwrap_or(bytes);
        match line_end(window, self.scanned)? {
            Line::EndsAt(end) => Ok(Some(&window[self.line..end])),
            Line::Partial(_) if window.len() == limit => Err(too_long),
            Line::Partial(scanned) => {
                self.scanned = scanned;
                Ok(None)
            }
        }
    }

    #[inline]
    fn next_line(&mut self, line: &[u8]) {
        self.line += line.len() + 2;
        self.scanned = self.line;
    }

    #[cold]
    fn empty_line(&mut self) -> Result<(), Refusal> {
        self.empty_lines += 1;
        match self.empty_lines <= MAX_EMPTY_LINES {
            true => Ok(()),
            false => Err(Refusal::bad("nothing but empty lines")),
        }
    }

    /// `METHOD TARGET HTTP/1.1`, with one space each.
    #[inline(always)] // Once a request.
    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        const MALFORMED: Refusal = Refusal::bad("the request line is malformed");
        let (method, length) = first_method(line);
        let (before, version) = line.split_last_chunk::<8>().ok_or(MALFORMED)?;
        let target = match before.get(length..) {
            Some([b' ', target @ .., b' ']) if !target.is_empty() => target,
            _ => return Err(MALFORMED),
        };
        self.is_http_1_0 = match u64::from_le_bytes(*version) {
            HTTP_1_1 => false,
            HTTP_1_0 => true,
            _ => return Err(other_version(version).unwrap_or(MALFORMED)),
        };
        let start = self.line + length + 1;
        self.path = (start + path_start(method, target)?, start + target.len());
        self.method = method;
        self.has_request_line = true;
        Ok(())
    }

    /// What only all lines together tell.
    #[inline(always)] // Once a request.
    fn finish<'a>(&mut self, bytes: &'a [u8]) -> Result<Head<'a>, Refusal> {
        let (fields, is_http_1_0) = (&self.fields, self.is_http_1_0);
        Ok(Head {
            length: self.line + 2,
            method: self.method,
            path: &bytes[self.path.0..self.path.1],
            framing: fields.framing(is_http_1_0)?,
            persistence: fields.persistence(is_http_1_0),
            expects_continue: fields.expects_continue(is_http_1_0),
        })
    }
}

const HTTP_1_1: u64 = u64::from_le_bytes(*b"HTTP/1.1");
const HTTP_1_0: u64 = u64::from_le_bytes(*b"HTTP/1.0");

#[cold]
fn other_version(version: &[u8; 8]) -> Option<Refusal> {
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Some(Refusal::version()),
        _ => None,
    }
}

/// The method that a line begins with, and its length; 0 if it begins with none.
fn first_method(line: &[u8]) -> (Method, usize) {
    let length = token_length(line);
    let method = match &line[..length] {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        b"OPTIONS" => Method::Options,
        b"CONNECT" => Method::Connect,
        b"PUT" | b"DELETE" | b"PATCH" | b"TRACE" => Method::Other,
        _ => Method::Unknown,
    };
    (method, length)
}

/// What is no HTTP at all, such as a TLS handshake, is known by its first byte, and may have no lines.
#[inline]
fn check_first_byte(byte: Option<&u8>) -> Result<(), Refusal> {
    match byte {
        None | Some(b'A'..=b'Z' | b'\r' | b'\n') => Ok(()),
        Some(byte) if token_length(&[*byte]) == 1 => Ok(()),
        Some(_) => Err(Refusal::bad("this is no request")),
    }
}
