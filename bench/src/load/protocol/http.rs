//! HTTP/1.1: GET with keep-alive. Replies have a Content-Length, or chunks, or no body.

use std::fmt::Write;

use tightloop::{Conn, Input};

use super::super::payload::{Wrong, difference};
use super::super::plan::Plan;
use super::{Place, Protocol, Replies};

/// Most bytes of a head, or of a line between chunks.
const MAX_HEAD: usize = 64 << 10;
const MAX_LINE: usize = 1 << 10;
const MAX_HEADERS: usize = 96;

/// Requests that are written at a time.
const BATCH: usize = 64;

/// The same request each time.
pub struct Http {
    /// Several times the request.
    requests: Vec<u8>,
    request_length: usize,
    body: Option<Vec<u8>>,
    /// The last head and what it says: most are the same as the one before.
    last: (Vec<u8>, Head),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    body: Body,
    closes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunks,
    /// A reply before the reply: 100 Continue.
    None,
}

/// How far a reply is.
#[derive(Debug, Default)]
pub struct Progress {
    stage: Stage,
    closes: bool,
    /// Bytes of the body that have come.
    body: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Head,
    /// So many bytes of the body are to come.
    Body(u64),
    ChunkSize,
    /// So many bytes of the chunk are to come.
    Chunk(u64),
    ChunkEnd,
    Trailer,
}

impl Http {
    pub fn new(plan: &Plan) -> Self {
        let target = &plan.target;
        let mut request = format!("GET {} HTTP/1.1\r\n", target.path);
        let is_host = |header: &String| header.to_ascii_lowercase().starts_with("host:");
        if !plan.headers.iter().any(is_host) {
            let _ = write!(request, "Host: {}\r\n", target.authority);
        }
        for header in &plan.headers {
            let _ = write!(request, "{}\r\n", header.trim());
        }
        request.push_str("\r\n");
        let body = plan.expect_body.as_ref().map(|body| body.clone().into_bytes());
        let none = Head { body: Body::None, closes: false };
        let requests = request.repeat(plan.pipeline.min(BATCH)).into_bytes();
        Http { requests, request_length: request.len(), body, last: (Vec::new(), none) }
    }

    /// Reads a head; `None` if it is not whole.
    fn head(&mut self, input: &mut Input<'_>) -> Result<Option<Head>, Wrong> {
        let (last, head) = &self.last;
        if !last.is_empty() && input.as_slice().starts_with(last) {
            input.consume(last.len());
            return Ok(Some(*head));
        }
        let Some((length, head)) = parse(input.as_slice())? else {
            return Ok(None);
        };
        let bytes = input.take(length).unwrap_or_default(); // it was parsed from there
        if matches!(head.body, Body::Length(length) if self.is_wrong_length(length)) {
            let Body::Length(length) = head.body else { return Ok(Some(head)) };
            return wrong(format!("a body of {length} bytes, which is not --expect-body"));
        }
        self.last.0.clear();
        self.last.0.extend_from_slice(bytes);
        self.last.1 = head;
        Ok(Some(head))
    }

    fn is_wrong_length(&self, length: u64) -> bool {
        self.body.as_ref().is_some_and(|body| body.len() as u64 != length)
    }

    /// Checks a piece of the body that begins at `at`.
    fn check(&self, at: usize, got: &[u8]) -> Result<(), Wrong> {
        let Some(body) = &self.body else { return Ok(()) };
        let expected = body.get(at..at + got.len());
        if expected == Some(got) {
            return Ok(());
        }
        Err(difference(at as u64, expected.unwrap_or(&body[at.min(body.len())..]), got))
    }

    /// The end of a reply.
    fn end(&self, progress: &mut Progress) -> Result<Replies, Wrong> {
        let Progress { closes, body, .. } = std::mem::take(progress);
        if self.is_wrong_length(body as u64) {
            return wrong(format!("a body of {body} bytes, which is not --expect-body"));
        }
        Ok(Replies { whole: 1, is_last: closes })
    }

    /// Takes up to `left` bytes of a body or chunk; answers how many are still to come.
    fn body(
        &self,
        progress: &mut Progress,
        left: u64,
        input: &mut Input<'_>,
    ) -> Result<u64, Wrong> {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let got = input.take(count).unwrap_or_default(); // there are so many
        self.check(progress.body, got)?;
        progress.body += count;
        Ok(left - count as u64)
    }
}

impl Protocol for Http {
    type Progress = Progress;

    #[inline]
    fn write(&mut self, conn: &mut Conn<'_>, _: Place, count: usize) {
        let mut left = count * self.request_length;
        while left > 0 {
            let length = left.min(self.requests.len());
            conn.write(&self.requests[..length]);
            left -= length;
        }
    }

    fn read(
        &mut self,
        progress: &mut Progress,
        _: Place,
        _: usize,
        input: &mut Input<'_>,
    ) -> Result<Replies, Wrong> {
        loop {
            match progress.stage {
                Stage::Head => {
                    let Some(head) = self.head(input)? else { return Ok(Replies::NONE) };
                    progress.closes |= head.closes;
                    progress.stage = match head.body {
                        Body::Length(length) => Stage::Body(length),
                        Body::Chunks => Stage::ChunkSize,
                        Body::None => Stage::Head,
                    };
                }
                Stage::Body(left) => {
                    let left = self.body(progress, left, input)?;
                    if left == 0 {
                        return self.end(progress);
                    }
                    progress.stage = Stage::Body(left);
                    return Ok(Replies::NONE);
                }
                Stage::Chunk(left) => {
                    let left = self.body(progress, left, input)?;
                    progress.stage = if left == 0 { Stage::ChunkEnd } else { Stage::Chunk(left) };
                    if left > 0 {
                        return Ok(Replies::NONE);
                    }
                }
                Stage::ChunkSize | Stage::ChunkEnd | Stage::Trailer => {
                    let Some(line) = line(input)? else { return Ok(Replies::NONE) };
                    if progress.stage == Stage::Trailer && line.is_empty() {
                        return self.end(progress);
                    }
                    progress.stage = behind_line(progress.stage, line)?;
                }
            }
            if input.is_empty() && !matches!(progress.stage, Stage::Body(0)) {
                return Ok(Replies::NONE);
            }
        }
    }
}

fn wrong<T>(what: String) -> Result<T, Wrong> {
    Err(Wrong { what })
}

/// A line without its end; `None` if it is not whole.
fn line<'a>(input: &mut Input<'a>) -> Result<Option<&'a [u8]>, Wrong> {
    let bytes = input.as_slice();
    let searched = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = searched.windows(2).position(|pair| pair == b"\r\n") else {
        if bytes.len() >= MAX_LINE {
            return wrong(format!("a line of more than {MAX_LINE} bytes between chunks"));
        }
        return Ok(None);
    };
    input.consume(end + 2);
    Ok(Some(&bytes[..end]))
}

/// What comes behind a line between chunks.
fn behind_line(stage: Stage, line: &[u8]) -> Result<Stage, Wrong> {
    match stage {
        Stage::ChunkEnd if line.is_empty() => Ok(Stage::ChunkSize),
        Stage::ChunkEnd => wrong("a chunk that is longer than it says".to_owned()),
        Stage::ChunkSize => {
            let digits = line.split(|byte| *byte == b';').next().unwrap_or(line);
            let size = std::str::from_utf8(digits).ok().map(str::trim);
            match size.and_then(|size| u64::from_str_radix(size, 16).ok()) {
                Some(0) => Ok(Stage::Trailer),
                Some(size) => Ok(Stage::Chunk(size)),
                None => wrong(format!("{:?} is no size of a chunk", String::from_utf8_lossy(line))),
            }
        }
        stage => Ok(stage),
    }
}

/// The length of the head that `bytes` begin with, and what it says; `None` if it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Head)>, Wrong> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) => {
            return wrong(format!("a head of more than {MAX_HEAD} bytes"));
        }
        Err(error) => return wrong(format!("not HTTP: {error}: {}", beginning(bytes))),
    };
    // A response that was parsed has a code and a version.
    let (code, version) = (response.code.unwrap_or(0), response.version.unwrap_or(1));
    if (100..200).contains(&code) {
        return Ok(Some((length, Head { body: Body::None, closes: false })));
    }
    if !(200..300).contains(&code) {
        return wrong(format!("status {code} {}", response.reason.unwrap_or("")));
    }
    let mut head = Head { body: Body::None, closes: version == 0 };
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or("").trim();
        if header.name.eq_ignore_ascii_case("content-length") && head.body != Body::Chunks {
            let Ok(length) = value.parse() else {
                return wrong(format!("Content-Length: {value}"));
            };
            head.body = Body::Length(length);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return wrong(format!("Transfer-Encoding: {value}"));
            }
            head.body = Body::Chunks;
        } else if header.name.eq_ignore_ascii_case("connection") {
            let mut options = value.split(',').map(str::trim);
            head.closes = match options.next() {
                Some(option) if option.eq_ignore_ascii_case("close") => true,
                Some(option) if option.eq_ignore_ascii_case("keep-alive") => false,
                _ => head.closes,
            };
        }
    }
    if code == 204 {
        head.body = Body::Length(0);
    }
    if head.body == Body::None {
        return wrong("a reply without Content-Length and without chunks".to_owned());
    }
    Ok(Some((length, head)))
}

fn beginning(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(32)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Replies = Replies { whole: 1, is_last: true };
    const NOBODY: Place = Place { connection: 0, sequence: 0 };

    fn http(body: Option<&str>) -> Http {
        let none = Head { body: Body::None, closes: false };
        Http {
            requests: Vec::new(),
            request_length: 0,
            body: body.map(|b| b.into()),
            last: (Vec::new(), none),
        }
    }

    /// Reads `text` in pieces of `piece` bytes, as a connection would offer them.
    fn read(http: &mut Http, text: &str, piece: usize) -> Result<Vec<Replies>, Wrong> {
        let mut progress = Progress::default();
        let (mut replies, mut kept) = (Vec::new(), Vec::new());
        for bytes in text.as_bytes().chunks(piece) {
            kept.extend_from_slice(bytes);
            let mut input = Input::new(&kept);
            while !input.is_empty() {
                match http.read(&mut progress, NOBODY, 1, &mut input)? {
                    Replies::NONE => break,
                    read => replies.push(read),
                }
            }
            let consumed = input.consumed();
            kept.drain(..consumed);
        }
        assert!(kept.is_empty(), "left over: {}", String::from_utf8_lossy(&kept));
        Ok(replies)
    }

    #[test]
    fn replies_are_read_in_pieces_of_any_size() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
                    HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
                    HTTP/1.1 100 Continue\r\n\r\n\
                    HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nA: b\r\n\r\n\
                    HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
        for piece in 1..text.len() {
            let replies = read(&mut http(Some("hello")), text, piece);
            let expected = [Replies::ONE, Replies::ONE, Replies::ONE, LAST];
            assert_eq!(replies.as_deref(), Ok(&expected[..]), "pieces of {piece}");
        }
    }

    #[test]
    fn an_empty_body_ends_with_the_head() {
        let text = "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(read(&mut http(None), text, 7), Ok(vec![Replies::ONE, Replies::ONE]));
    }

    #[test]
    fn what_is_no_good_reply_is_told() {
        let cases = [
            ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "status 503 Busy"),
            ("SSH-2.0-OpenSSH\r\n", "not HTTP"),
            ("HTTP/1.1 200 OK\r\n\r\n", "without Content-Length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "Content-Length: x"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no size of a chunk"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhallo", "at byte 1"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell", "not --expect-body"),
        ];
        for (text, what) in cases {
            let error = read(&mut http(Some("hello")), text, 1000).unwrap_err();
            assert!(error.what.contains(what), "{text}: {}", error.what);
        }
    }
}
