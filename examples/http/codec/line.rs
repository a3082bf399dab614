//! Lines and the characters in them. One search finds the end of a line and whatever must not be in
//! it: both are control characters, eight bytes are looked at together.

use super::refusal::Refusal;

/// What is at the start of a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Its end: the place of its CRLF.
    EndsAt(usize),
    /// It is not whole; the next search may begin here.
    Partial(usize),
}

/// Looks for the end of a line, from `from` on. Only CRLF ends a line: one that takes a bare LF or CR
/// for an end, behind one that does not, sees other headers.
#[inline]
pub fn line_end(bytes: &[u8], from: usize) -> Result<Line, Refusal> {
    let mut at = from;
    loop {
        match bytes.get(at..).and_then(first_control) {
            None => return Ok(Line::Partial(bytes.len())),
            Some(offset) => at += offset,
        }
        return match &bytes[at..] {
            [b'\r', b'\n', ..] => Ok(Line::EndsAt(at)),
            [b'\r'] => Ok(Line::Partial(at)),
            [b'\r', ..] => Err(Refusal::bad("a CR without LF")),
            [b'\n', ..] => Err(Refusal::bad("an LF without CR")),
            // The one control character that may stand in a value.
            [b'\t', ..] => {
                at += 1;
                continue;
            }
            _ => Err(Refusal::bad("a control character")),
        };
    }
}

/// The place of the first control character.
#[inline]
fn first_control(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = controls(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let control = rest.iter().position(|byte| byte.is_ascii_control());
    control.map(|offset| words.len() * 8 + offset)
}

/// The highest bit of each byte that is a control character, exact up to the first one: a borrow
/// may mark others behind it.
#[inline]
fn controls(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let delete = word ^ (ONES * 0x7f);
    let is_delete = delete.wrapping_sub(ONES) & !delete;
    (below_space | is_delete) & (ONES << 7)
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const HOST: u8 = 4;
const DIGIT: u8 = 8;

/// What each character may be part of.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let is_word = (byte as u8).is_ascii_alphanumeric();
        // RFC 9110, 5.6.2.
        if is_word || contains(b"!#$%&'*+-.^_`|~", byte as u8) {
            classes[byte] |= TOKEN;
        }
        // Not only those of RFC 3986: browsers and curl send some others as they are. A fragment is
        // never sent.
        if byte as u8 != b'#' {
            classes[byte] |= TARGET;
        }
        // A registered name or an IPv4 address; the comma would be the mark of a joined list.
        if is_word || contains(b"-._~%!$&'()*+;=", byte as u8) {
            classes[byte] |= HOST;
        }
        if (byte as u8).is_ascii_digit() {
            classes[byte] |= DIGIT;
        }
        byte += 1;
    }
    classes
}

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

/// How many bytes at the start could be a token: a method, the name of a header.
#[inline]
pub fn token_length(bytes: &[u8]) -> usize {
    class_length::<TOKEN>(bytes)
}

/// How many bytes at the start may stand in a request target.
#[inline]
pub fn target_length(bytes: &[u8]) -> usize {
    class_length::<TARGET>(bytes)
}

/// How many bytes at the start may stand in the name of a host.
#[inline]
pub fn host_length(bytes: &[u8]) -> usize {
    class_length::<HOST>(bytes)
}

/// How many bytes at the start are digits.
#[inline]
pub fn digits_length(bytes: &[u8]) -> usize {
    class_length::<DIGIT>(bytes)
}

/// Eight bytes have no loop of their own: most of what it costs would be counting.
#[inline]
fn class_length<const CLASS: u8>(bytes: &[u8]) -> usize {
    let is_other = |byte: &u8| CLASSES[usize::from(*byte)] & CLASS == 0;
    let (groups, rest) = bytes.as_chunks::<8>();
    for (index, group) in groups.iter().enumerate() {
        if let Some(offset) = group.iter().position(is_other) {
            return index * 8 + offset;
        }
    }
    groups.len() * 8 + rest.iter().position(is_other).unwrap_or(rest.len())
}

/// Checks a header line, which may not be empty, and answers where its name ends.
#[inline]
pub fn name_length(line: &[u8]) -> Result<usize, Refusal> {
    let length = token_length(line);
    match (length, line.get(length)) {
        (1.., Some(b':')) => Ok(length),
        (0, Some(b' ' | b'\t')) => Err(Refusal::bad("a folded header line")),
        (0, Some(b':')) => Err(Refusal::bad("a header without a name")),
        (_, Some(b' ' | b'\t')) => Err(Refusal::bad("white space in the name of a header")),
        (_, Some(_)) => Err(Refusal::bad("a header's name has a character that no name has")),
        (_, None) => Err(Refusal::bad("a header line without a colon")),
    }
}
