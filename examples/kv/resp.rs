//! The RESP codec's reading half: commands out of the receive buffer, without a copy.
//!
//! A command is an array of bulk strings, `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, or a line of words as
//! somebody would type it. Its arguments are spans of the input. What is not whole yet is left in
//! the input; how far it was read is kept in a [`Partial`], so that a command that comes a byte at
//! a time costs no more than one that comes at once. Every length has a limit, and what breaks the
//! protocol is told in the words of Redis.

use crate::args::{Span, integer};

/// Most arguments of a command.
const MAX_ARGUMENTS: i64 = 1024 * 1024;

/// Longest argument: the `proto-max-bulk-len` of Redis.
const MAX_ARGUMENT_BYTES: i64 = 512 << 20;

/// Longest line: one that is typed, or one that tells a length.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Bytes of one command. It fits the spans, and the option `max_unconsumed_input` in `main.rs`.
pub const MAX_COMMAND_BYTES: usize = 1 << 30;

/// What somebody may send who has not told the password: enough to tell it.
const MAX_STRANGERS_ARGUMENTS: i64 = 10;
const MAX_STRANGERS_ARGUMENT_BYTES: i64 = 16 * 1024;

/// What reading came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A command of so many bytes. Its spans are relative to its beginning; no spans: nothing was
    /// asked, as by an empty line.
    Command(usize),
    /// As above, but the spans are relative to [`Parser::line`].
    Line(usize),
    /// The rest has not come yet.
    Incomplete,
    /// The protocol was broken; nobody knows where the next command begins.
    Broken(Vec<u8>),
}

/// How far an incomplete command was read. Only connections that have one keep it.
#[derive(Debug, Default)]
pub struct Partial {
    spans: Vec<Span>,
    /// Arguments still to come; `None` before their number is known.
    left: Option<u32>,
    /// Where to read on.
    position: usize,
    /// No use looking before there are so many bytes.
    needed: usize,
}

impl Partial {
    /// Bytes of memory it occupies.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.spans.capacity() * size_of::<Span>()
    }
}

/// What all connections of a loop use in turn.
#[derive(Default)]
pub struct Parser {
    /// The arguments of the command that was read last.
    pub spans: Vec<Span>,
    /// The words of a typed line, without quotes and escapes.
    pub line: Vec<u8>,
}

impl Parser {
    /// Reads the command at the beginning of `input`. `partial` is the connection's.
    #[inline]
    pub fn parse(
        &mut self,
        input: &[u8],
        partial: &mut Option<Box<Partial>>,
        is_stranger: bool,
    ) -> Parsed {
        if partial.is_none() {
            self.spans.clear();
            let mut reading = Reading { left: None, position: 0, needed: 0 };
            return match self.read(input, &mut reading, is_stranger) {
                Parsed::Incomplete => {
                    *partial = Some(self.keep(&reading));
                    Parsed::Incomplete
                }
                parsed => parsed,
            };
        }
        self.go_on(input, partial, is_stranger)
    }

    fn go_on(
        &mut self,
        input: &[u8],
        partial: &mut Option<Box<Partial>>,
        is_stranger: bool,
    ) -> Parsed {
        let Some(kept) = partial else { return Parsed::Incomplete };
        if input.len() < kept.needed {
            return Parsed::Incomplete;
        }
        self.spans = std::mem::take(&mut kept.spans);
        let mut reading = Reading { left: kept.left, position: kept.position, needed: 0 };
        let parsed = self.read(input, &mut reading, is_stranger);
        *partial = (parsed == Parsed::Incomplete).then(|| self.keep(&reading));
        parsed
    }

    fn keep(&mut self, reading: &Reading) -> Box<Partial> {
        let &Reading { left, position, needed } = reading;
        Box::new(Partial { spans: std::mem::take(&mut self.spans), left, position, needed })
    }

    #[inline]
    fn read(&mut self, input: &[u8], reading: &mut Reading, is_stranger: bool) -> Parsed {
        if reading.left.is_none() {
            match input.first() {
                None => return reading.wait(1),
                Some(b'*') => {}
                Some(_) => return self.read_line(input, reading),
            }
            let (count, next) = match length_line(input, 1) {
                Ok(line) => line,
                Err(Unread::Cut) => return reading.wait_for_line(input, "mbulk count"),
                Err(Unread::Wrong) => return broken("invalid multibulk length"),
            };
            if count > MAX_ARGUMENTS {
                return broken("invalid multibulk length");
            }
            if count > MAX_STRANGERS_ARGUMENTS && is_stranger {
                return broken("unauthenticated multibulk length");
            }
            if count <= 0 {
                return Parsed::Command(next);
            }
            reading.left = Some(count as u32);
            reading.position = next;
        }
        self.read_arguments(input, reading, is_stranger)
    }

    #[inline]
    fn read_arguments(&mut self, input: &[u8], reading: &mut Reading, stranger: bool) -> Parsed {
        let mut left = reading.left.unwrap_or_default();
        let mut at = reading.position;
        while left > 0 {
            let (start, end) = match argument(input, at, stranger) {
                Ok(place) => place,
                Err(unread) => {
                    reading.left = Some(left);
                    reading.position = at;
                    return reading.stop(input, unread);
                }
            };
            self.spans.push(Span { start: start as u32, end: end as u32 });
            at = end + 2;
            left -= 1;
        }
        Parsed::Command(at)
    }

    /// A command that somebody has typed.
    fn read_line(&mut self, input: &[u8], reading: &mut Reading) -> Parsed {
        let Some(length) = memchr::memchr(b'\n', &input[reading.position..]) else {
            if input.len() > MAX_LINE_BYTES {
                return broken("too big inline request");
            }
            reading.position = input.len();
            return reading.wait(input.len() + 1);
        };
        let end = reading.position + length;
        let text = &input[..end];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.line.clear();
        self.spans.clear();
        if !split_words(text, &mut self.line, &mut self.spans) {
            return broken("unbalanced quotes in request");
        }
        Parsed::Line(end + 1)
    }
}

/// Where in its command the parser is.
struct Reading {
    left: Option<u32>,
    position: usize,
    needed: usize,
}

/// Why an argument was not read.
enum Stop {
    /// Its length is cut.
    LineCut,
    /// There have to be so many bytes.
    Needs(usize),
    Broken(Parsed),
}

impl Reading {
    fn wait(&mut self, needed: usize) -> Parsed {
        self.needed = needed;
        Parsed::Incomplete
    }

    /// Waits for the end of a line that tells a length, unless it is too long for that.
    fn wait_for_line(&mut self, input: &[u8], what: &str) -> Parsed {
        if input.len() - self.position > MAX_LINE_BYTES {
            return broken(&format!("too big {what} string"));
        }
        self.wait(input.len() + 1)
    }

    #[cold]
    fn stop(&mut self, input: &[u8], stop: Stop) -> Parsed {
        match stop {
            Stop::LineCut => self.wait_for_line(input, "bulk count"),
            Stop::Needs(bytes) if bytes > MAX_COMMAND_BYTES => broken("too big command"),
            Stop::Needs(bytes) => self.wait(bytes),
            Stop::Broken(parsed) => parsed,
        }
    }
}

#[cold]
fn broken(what: &str) -> Parsed {
    Parsed::Broken(format!("ERR Protocol error: {what}").into_bytes())
}

/// Where the argument that begins at `at` lies.
#[inline]
fn argument(input: &[u8], at: usize, is_stranger: bool) -> Result<(usize, usize), Stop> {
    // Most are shorter than ten bytes, or than a hundred: their lengths are read without a loop.
    let (length, start) = match input.get(at..at + 5) {
        Some(&[b'$', a @ b'0'..=b'9', b'\r', _, _]) => (usize::from(a - b'0'), at + 4),
        Some(&[b'$', a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', _]) => {
            (usize::from(a - b'0') * 10 + usize::from(b - b'0'), at + 5)
        }
        _ => argument_slowly(input, at, is_stranger)?,
    };
    let end = start + length;
    if end + 2 > input.len() { Err(Stop::Needs(end + 2)) } else { Ok((start, end)) }
}

#[cold]
fn argument_slowly(input: &[u8], at: usize, is_stranger: bool) -> Result<(usize, usize), Stop> {
    // As Redis, which looks at the line before its first byte.
    let line = length_line(input, at + 1);
    if matches!(line, Err(Unread::Cut)) {
        return Err(Stop::LineCut);
    }
    let first = input.get(at).copied().unwrap_or_default();
    if first != b'$' {
        let error = [b"ERR Protocol error: expected '$', got '", &[first][..], b"'"].concat();
        return Err(Stop::Broken(Parsed::Broken(error)));
    }
    match line {
        Ok((length @ 0..=MAX_ARGUMENT_BYTES, start)) => {
            if is_stranger && length > MAX_STRANGERS_ARGUMENT_BYTES {
                return Err(Stop::Broken(broken("unauthenticated bulk length")));
            }
            Ok((length as usize, start))
        }
        _ => Err(Stop::Broken(broken("invalid bulk length"))),
    }
}

/// Why there is no length.
enum Unread {
    Cut,
    Wrong,
}

/// The number from `at` to the end of its line, and where the next line begins.
#[inline]
fn length_line(input: &[u8], at: usize) -> Result<(i64, usize), Unread> {
    if let Some(&[digit @ b'1'..=b'9', b'\r', _]) = input.get(at..at + 3) {
        return Ok((i64::from(digit - b'0'), at + 3));
    }
    let rest = input.get(at..).ok_or(Unread::Cut)?;
    let length = memchr::memchr(b'\r', rest).ok_or(Unread::Cut)?;
    let next = at + length + 2;
    if next > input.len() {
        return Err(Unread::Cut);
    }
    integer(&rest[..length]).map(|number| (number, next)).ok_or(Unread::Wrong)
}

/// Splits a line as a shell would: words with "double quotes", in which there are escapes, and
/// 'single quotes'. Answers whether the quotes are balanced.
fn split_words(mut text: &[u8], words: &mut Vec<u8>, spans: &mut Vec<Span>) -> bool {
    loop {
        text = text.trim_ascii_start();
        if text.is_empty() {
            return true;
        }
        let start = words.len();
        while let Some((&byte, rest)) = text.split_first() {
            if byte.is_ascii_whitespace() || byte == 0 {
                break;
            }
            text = rest;
            let balanced = match byte {
                b'"' | b'\'' => quoted(byte, &mut text, words),
                byte => {
                    words.push(byte);
                    true
                }
            };
            if !balanced {
                return false;
            }
        }
        spans.push(Span { start: start as u32, end: words.len() as u32 });
        if text.first() == Some(&0) {
            // For Redis the line ends here.
            return true;
        }
    }
}

/// Takes what stands in quotes, and the closing one, which a blank or the end has to follow.
fn quoted(quote: u8, text: &mut &[u8], words: &mut Vec<u8>) -> bool {
    while let Some((&byte, rest)) = text.split_first() {
        *text = rest;
        match (byte, *text) {
            (b'\\', [b'x', high, low, rest @ ..])
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                words.push(hex(*high) * 16 + hex(*low));
                *text = rest;
            }
            (b'\\', [escaped, rest @ ..]) if quote == b'"' => {
                words.push(unescaped(*escaped));
                *text = rest;
            }
            (b'\\', [b'\'', rest @ ..]) if quote == b'\'' => {
                words.push(b'\'');
                *text = rest;
            }
            (byte, _) if byte == quote => return text.first().is_none_or(u8::is_ascii_whitespace),
            _ => words.push(byte),
        }
    }
    false
}

fn unescaped(letter: u8) -> u8 {
    match letter {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).map_or(0, |value| value as u8)
}

#[cfg(test)]
#[path = "resp_tests.rs"]
mod tests;
