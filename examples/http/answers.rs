//! Answers as bytes. What is the same for every client is made once a second, for its Date, and then
//! only copied.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::codec::{Persistence, Refusal};

/// The answers that do not depend on the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Hello,
    Json,
    NotFound,
    BadMethod,
    EchoBadMethod,
    Options,
    EchoOptions,
    UnknownMethod,
}

const TEXT: &str = "Content-Type: text/plain\r\n";
const JSON: &str = "Content-Type: application/json\r\n";
const PAGES_ALLOW: &str = "Content-Type: text/plain\r\nAllow: GET, HEAD, OPTIONS\r\n";
const ECHO_ALLOWS: &str = "Content-Type: text/plain\r\nAllow: POST, OPTIONS\r\n";

/// Status, headers and body of each page, in the order of [`Page`].
#[rustfmt::skip] // a table
const PAGES: [(Page, &str, &str, &str); 8] = [
    (Page::Hello, "200 OK", TEXT, "Hello, World!"),
    (Page::Json, "200 OK", JSON, r#"{"message":"Hello, World!"}"#),
    (Page::NotFound, "404 Not Found", TEXT, "not found\n"),
    (Page::BadMethod, "405 Method Not Allowed", PAGES_ALLOW, "only GET and HEAD\n"),
    (Page::EchoBadMethod, "405 Method Not Allowed", ECHO_ALLOWS, "only POST\n"),
    (Page::Options, "200 OK", PAGES_ALLOW, ""),
    (Page::EchoOptions, "200 OK", ECHO_ALLOWS, ""),
    (Page::UnknownMethod, "501 Not Implemented", TEXT, "no such method here\n"),
];

/// All answers of a loop, with the Date of this second.
pub struct Answers {
    /// The header lines of every answer.
    common: String,
    pages: [Rendered; PAGES.len()],
}

/// A page as bytes: its header lines, the empty line, its body.
struct Rendered {
    bytes: Vec<u8>,
    /// Where the empty line is, before which a Connection header has its place.
    headers_end: usize,
}

impl Answers {
    /// With the Date of now.
    pub fn new() -> Self {
        let date = httpdate::fmt_http_date(SystemTime::now());
        // No Server: it helps nobody but those who look for one with a known weakness.
        let common = format!("Date: {date}\r\n");
        let pages =
            PAGES.map(|(_, status, headers, body)| Rendered::new(&common, status, headers, body));
        Answers { common, pages }
    }

    /// How long they are right.
    pub fn valid_for() -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Never early: the timer's millisecond may be cut off.
        Duration::from_millis(1_001 - u64::from(now.subsec_millis()))
    }

    /// Answers with a page. HEAD gets its headers, the Content-Length too, but not the body.
    #[inline]
    pub fn write_page(&self, out: &mut impl Write, page: Page, end: Persistence, is_head: bool) {
        let page = &self.pages[page as usize];
        // Writing into the output buffer never fails.
        let _ = match (end, is_head) {
            (Persistence::Stays, false) => out.write_all(&page.bytes),
            _ => page.write_otherwise(out, end, is_head),
        };
    }

    /// The head of an answer of so many bytes that are nobody's text.
    pub fn write_head(&self, out: &mut impl Write, length: u64, end: Persistence) {
        let (common, connection) = (&self.common, connection(end));
        let _ = write!(
            out,
            "HTTP/1.1 200 OK\r\n{common}Content-Type: application/octet-stream\r\n\
             Content-Length: {length}\r\n{connection}\r\n"
        );
    }

    /// The last answer on a connection: why there is no other.
    #[cold]
    pub fn write_refusal(&self, out: &mut impl Write, refusal: &Refusal, is_head: bool) {
        let body = format!("{}\n", refusal.reason);
        let page = Rendered::new(&self.common, refusal.status, TEXT, &body);
        let _ = page.write_otherwise(out, Persistence::Closes, is_head);
    }
}

impl Rendered {
    fn new(common: &str, status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{common}{headers}Content-Length: {length}\r\n");
        let headers_end = head.len();
        Rendered { bytes: [&head, "\r\n", body].concat().into_bytes(), headers_end }
    }

    #[cold]
    fn write_otherwise(
        &self,
        out: &mut impl Write,
        end: Persistence,
        is_head: bool,
    ) -> std::io::Result<()> {
        let (headers, rest) = self.bytes.split_at(self.headers_end);
        out.write_all(headers)?;
        out.write_all(connection(end).as_bytes())?;
        out.write_all(if is_head { b"\r\n" } else { rest })
    }
}

fn connection(end: Persistence) -> &'static str {
    match end {
        Persistence::Stays => "",
        Persistence::StaysAsAsked => "Connection: keep-alive\r\n",
        Persistence::Closes => "Connection: close\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::PAGES;

    #[test]
    fn each_page_is_in_its_place() {
        for (index, page) in PAGES.iter().enumerate() {
            assert_eq!(page.0 as usize, index);
        }
    }
}
