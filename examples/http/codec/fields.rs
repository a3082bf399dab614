//! The header fields that decide where a request ends and what becomes of its connection.

use super::line::name_length;
use super::refusal::Refusal;
use super::target::check_host;

/// What the header lines read so far say.
#[derive(Debug, Default, Clone, Copy)]
pub struct Fields {
    count: u8,
    /// Of the constants below.
    said: u8,
    coding: Coding,
    length: Option<u64>,
}

const HOST: u8 = 1;
const CLOSE: u8 = 2;
const KEEP_ALIVE: u8 = 4;
const CONTINUE: u8 = 8;
const OTHER_EXPECTATION: u8 = 16;

/// Browsers send some twenty.
const MAX_FIELDS: u8 = 100;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    /// Not chunked, or not yet.
    Other,
    Chunked,
    OtherThenChunked,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length; no body is one of length 0.
    Length(u64),
    Chunked,
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

impl Fields {
    /// Takes a header line, which is not empty.
    #[inline]
    pub fn take(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.count()?;
        let length = name_length(line)?;
        let (name, value) = (&line[..length], &line[length + 1..]);
        // Names that mean nothing here are told apart by their length alone.
        match length {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.only_host()?;
                check_host(value.trim_ascii())?;
            }
            6 if name.eq_ignore_ascii_case(b"expect") => self.said |= expect(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.said |= connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.coding = self.coding.and(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the line of a Host that is known to be one.
    #[inline]
    pub fn take_host(&mut self) -> Result<(), Refusal> {
        self.count()?;
        self.only_host()
    }

    #[inline]
    fn count(&mut self) -> Result<(), Refusal> {
        if self.count == MAX_FIELDS {
            return Err(Refusal::head_too_long("too many headers"));
        }
        self.count += 1;
        Ok(())
    }

    #[inline]
    fn only_host(&mut self) -> Result<(), Refusal> {
        if self.said & HOST != 0 {
            return Err(Refusal::bad("more than one Host"));
        }
        self.said |= HOST;
        Ok(())
    }

    /// Nor may there be a second one that says the same.
    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        match self.length.replace(content_length(value)?) {
            None => Ok(()),
            Some(_) => Err(Refusal::bad("more than one Content-Length")),
        }
    }

    /// When all lines are read: where the body ends.
    #[inline]
    pub fn framing(&self, is_http_1_0: bool) -> Result<Framing, Refusal> {
        if self.said & HOST == 0 && !is_http_1_0 {
            return Err(Refusal::bad("no Host"));
        }
        if self.coding != Coding::None {
            return self.encoded(is_http_1_0);
        }
        match self.said & OTHER_EXPECTATION != 0 && !is_http_1_0 {
            false => Ok(Framing::Length(self.length.unwrap_or(0))),
            true => Err(Refusal::expectation()),
        }
    }

    #[cold]
    fn encoded(self, is_http_1_0: bool) -> Result<Framing, Refusal> {
        match self.coding {
            _ if self.length.is_some() => {
                Err(Refusal::bad("both Content-Length and Transfer-Encoding"))
            }
            _ if is_http_1_0 => Err(Refusal::bad("a Transfer-Encoding in HTTP/1.0")),
            Coding::Chunked if self.said & OTHER_EXPECTATION != 0 => Err(Refusal::expectation()),
            Coding::Chunked => Ok(Framing::Chunked),
            _ => Err(Refusal::unknown_coding()),
        }
    }

    #[inline]
    pub fn persistence(&self, is_http_1_0: bool) -> Persistence {
        match (self.said & CLOSE, is_http_1_0) {
            (0, false) => Persistence::Stays,
            (0, true) if self.said & KEEP_ALIVE != 0 => Persistence::StaysAsAsked,
            _ => Persistence::Closes,
        }
    }

    #[inline]
    pub fn expects_continue(&self, is_http_1_0: bool) -> bool {
        self.said & CONTINUE != 0 && !is_http_1_0
    }
}

/// Whether there is another one than that which is known counts when the version is known: HTTP/1.0
/// has none.
#[inline(never)]
fn expect(value: &[u8]) -> u8 {
    items(value).fold(0, |said, item| match item.eq_ignore_ascii_case(b"100-continue") {
        true => said | CONTINUE,
        false => said | OTHER_EXPECTATION,
    })
}

#[inline(never)]
fn connection(value: &[u8]) -> u8 {
    items(value).fold(0, |said, item| match item {
        _ if item.eq_ignore_ascii_case(b"close") => said | CLOSE,
        _ if item.eq_ignore_ascii_case(b"keep-alive") => said | KEEP_ALIVE,
        _ => said,
    })
}

/// Digits and nothing else: `+1`, `1_0`, `0x1` and `1, 1` are lengths to some and none to others.
#[inline(never)]
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    let value = value.trim_ascii();
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::bad("the Content-Length is no number"));
    }
    let digit =
        |length: u64, byte: &u8| length.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    // What does not fit is above every limit.
    Ok(value.iter().fold(0, digit))
}

impl Coding {
    /// Several lines are one list. Behind chunked nothing can come, as nobody could tell where it ends.
    #[inline(never)]
    fn and(self, value: &[u8]) -> Result<Coding, Refusal> {
        items(value).try_fold(self, |coding, item| {
            let is_chunked = item.eq_ignore_ascii_case(b"chunked");
            match coding {
                Coding::Chunked | Coding::OtherThenChunked => {
                    Err(Refusal::bad("chunked is not the last coding"))
                }
                _ if item.is_empty() => Err(Refusal::bad("an empty transfer coding")),
                Coding::None if is_chunked => Ok(Coding::Chunked),
                Coding::Other if is_chunked => Ok(Coding::OtherThenChunked),
                Coding::None | Coding::Other => Ok(Coding::Other),
            }
        })
    }
}

/// The items of a value that is a list.
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
