//! The header fields that decide where a request ends and what becomes of its connection.

use super::refusal::Refusal;
use super::target::check_host;

/// What the header lines read so far say.
#[derive(Debug, Default, Clone, Copy)]
pub struct Fields {
    pub count: u8,
    pub has_host: bool,
    pub closes: bool,
    pub keeps_alive: bool,
    pub expects_continue: bool,
    expects_other: bool,
    coding: Coding,
    /// Another transfer coding than chunked is before it or without it.
    has_unknown_coding: bool,
    length: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    Unknown,
    Chunked,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length; no body is one of length 0.
    Length(u64),
    Chunked,
}

impl Fields {
    /// Takes a header. Names that mean nothing here are told apart by their length alone.
    #[inline]
    pub fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value),
            6 if name.eq_ignore_ascii_case(b"expect") => self.expect(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            _ => Ok(()),
        }
    }

    #[inline]
    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.has_host, true) {
            return Err(Refusal::bad("more than one Host"));
        }
        check_host(value)
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for item in items(value) {
            match item.eq_ignore_ascii_case(b"100-continue") {
                true => self.expects_continue = true,
                // Whether it is one at all is known when the version is: HTTP/1.0 has none.
                false => self.expects_other = true,
            }
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for item in items(value) {
            self.closes |= item.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= item.eq_ignore_ascii_case(b"keep-alive");
        }
        Ok(())
    }

    /// Digits and nothing else: `+1`, `1_0`, `0x1` and `1, 1` are lengths to some and none to others.
    /// Nor is there a second one, even if it says the same.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::bad("the Content-Length is no number"));
        }
        let digit = |length: u64, byte: &u8| {
            length.saturating_mul(10).saturating_add(u64::from(byte - b'0'))
        };
        // What does not fit is above every limit.
        match self.length.replace(value.iter().fold(0, digit)) {
            None => Ok(()),
            Some(_) => Err(Refusal::bad("more than one Content-Length")),
        }
    }

    /// Several lines are one list. Behind chunked nothing can come, as nobody could tell where it ends.
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for item in items(value) {
            self.coding = match self.coding {
                Coding::Chunked => return Err(Refusal::bad("chunked is not the last coding")),
                _ if item.eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
                _ if item.is_empty() => return Err(Refusal::bad("an empty transfer coding")),
                _ => {
                    self.has_unknown_coding = true;
                    Coding::Unknown
                }
            };
        }
        Ok(())
    }

    /// When all lines are read: where the body ends.
    #[inline]
    pub fn framing(&self, is_http_1_0: bool) -> Result<Framing, Refusal> {
        if self.coding == Coding::None {
            return Ok(Framing::Length(self.length.unwrap_or(0)));
        }
        self.encoded(is_http_1_0)
    }

    #[cold]
    fn encoded(&self, is_http_1_0: bool) -> Result<Framing, Refusal> {
        match self.coding {
            _ if self.length.is_some() => {
                Err(Refusal::bad("both Content-Length and Transfer-Encoding"))
            }
            _ if is_http_1_0 => Err(Refusal::bad("a Transfer-Encoding in HTTP/1.0")),
            _ if self.has_unknown_coding => Err(Refusal::unknown_coding()),
            _ => Ok(Framing::Chunked),
        }
    }

    /// When all lines are read: whether there is something in Expect that is not known.
    #[inline]
    pub fn check_expectation(&self, is_http_1_0: bool) -> Result<(), Refusal> {
        match self.expects_other && !is_http_1_0 {
            false => Ok(()),
            true => Err(Refusal::expectation()),
        }
    }
}

/// The items of a value that is a list.
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
