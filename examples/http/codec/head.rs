//! The head of a request, read line by line as the lines come.

use super::fields::{Fields, Framing};
use super::line::{Line, line_end, name_length, token_length};
use super::refusal::Refusal;
use super::target::path_start;

/// Of a request line, with its CRLF. RFC 9112 recommends at least 8,000 bytes.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// Of a whole head; cookies are the longest that clients send, 4 KiB each.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Browsers send some twenty.
const MAX_FIELDS: u8 = 100;
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

/// What becomes of the connection behind the answer, and how the peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1 stays open, and need not say so.
    Stays,
    /// HTTP/1.0 stays open if both sides say so.
    StaysAsAsked,
    Closes,
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
/// far, so that no line is read twice, however the bytes trickle in.
///
/// INVARIANT: `line <= scanned`, and both lie within the bytes of the last call.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Where the line begins that is to be read.
    line: usize,
    /// Before this place it does not end.
    scanned: usize,
    empty_lines: u8,
    /// Valid while `has_request_line`, as are those below it.
    method: Method,
    is_http_1_0: bool,
    has_request_line: bool,
    /// Where the path begins and ends.
    path: (usize, usize),
    fields: Fields,
}

impl HeadReader {
    /// Whether a request has begun in `length` bytes that were read and are not a whole head. Empty
    /// lines do not count.
    pub fn has_begun(&self, length: usize) -> bool {
        self.has_request_line || length > self.line
    }

    /// Whether the request that is being read, or was refused, wants an answer without a body.
    pub fn is_head(&self) -> bool {
        self.has_request_line && self.method == Method::Head
    }

    /// Reads on. `bytes` are all that have come since the end of the last head and its body. `None`:
    /// the head is not whole.
    #[inline]
    pub fn read<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Head<'a>>, Refusal> {
        loop {
            if !self.has_request_line {
                check_first_byte(bytes.get(self.line))?;
            }
            let limit = match self.has_request_line {
                true => MAX_HEAD_BYTES,
                false => self.line + MAX_LINE_BYTES,
            };
            // Nothing behind the limit is looked at, whether it has come yet or not.
            let window = bytes.get(..limit).unwrap_or(bytes);
            let end = match line_end(window, self.scanned)? {
                Line::EndsAt(end) => end,
                Line::Partial(_) if window.len() == limit => return Err(self.too_long()),
                Line::Partial(scanned) => {
                    self.scanned = scanned;
                    return Ok(None);
                }
            };
            let line = &window[self.line..end];
            match (line.is_empty(), self.has_request_line) {
                (false, true) => self.field(line)?,
                (false, false) => self.request_line(line)?,
                (true, true) => return self.finish(bytes, end + 2).map(Some),
                (true, false) => self.empty_line()?,
            }
            self.line = end + 2;
            self.scanned = self.line;
        }
    }

    #[cold]
    fn too_long(&self) -> Refusal {
        match self.has_request_line {
            true => Refusal::head_too_long("the head is too long"),
            false => Refusal::line_too_long(),
        }
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
    #[inline]
    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        const MALFORMED: Refusal = Refusal::bad("the request line is malformed");
        let method_length = token_length(line);
        let (before, version) = line.split_last_chunk::<9>().ok_or(MALFORMED)?;
        let target = match before.get(method_length..) {
            Some([b' ', target @ ..]) if !target.is_empty() => target,
            _ => return Err(MALFORMED),
        };
        self.is_http_1_0 = match version {
            b" HTTP/1.1" => false,
            b" HTTP/1.0" => true,
            [b' ', b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(Refusal::version());
            }
            _ => return Err(MALFORMED),
        };
        self.method = match &line[..method_length] {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"OPTIONS" => Method::Options,
            b"CONNECT" => Method::Connect,
            b"PUT" | b"DELETE" | b"PATCH" | b"TRACE" => Method::Other,
            _ => Method::Unknown,
        };
        self.has_request_line = true;
        let start = self.line + method_length + 1;
        self.path = (start + path_start(self.method, target)?, start + target.len());
        Ok(())
    }

    #[inline]
    fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if self.fields.count == MAX_FIELDS {
            return Err(Refusal::head_too_long("too many headers"));
        }
        self.fields.count += 1;
        let length = name_length(line)?;
        self.fields.take(&line[..length], line[length + 1..].trim_ascii())
    }

    /// What only all lines together tell.
    #[inline]
    fn finish<'a>(&mut self, bytes: &'a [u8], length: usize) -> Result<Head<'a>, Refusal> {
        let (fields, is_http_1_0) = (&self.fields, self.is_http_1_0);
        if !fields.has_host && !is_http_1_0 {
            return Err(Refusal::bad("no Host"));
        }
        let framing = fields.framing(is_http_1_0)?;
        fields.check_expectation(is_http_1_0)?;
        let persistence = match is_http_1_0 {
            _ if fields.closes => Persistence::Closes,
            false => Persistence::Stays,
            true if fields.keeps_alive => Persistence::StaysAsAsked,
            true => Persistence::Closes,
        };
        let head = Head {
            length,
            method: self.method,
            path: &bytes[self.path.0..self.path.1],
            framing,
            persistence,
            expects_continue: fields.expects_continue && !is_http_1_0,
        };
        *self = HeadReader::default();
        Ok(head)
    }
}

/// What is no HTTP at all, such as a TLS handshake, is known by its first byte, and may have no lines.
#[inline]
fn check_first_byte(byte: Option<&u8>) -> Result<(), Refusal> {
    match byte {
        Some(byte) if !matches!(byte, b'\r' | b'\n') && token_length(&[*byte]) == 0 => {
            Err(Refusal::bad("this is no request"))
        }
        _ => Ok(()),
    }
}
