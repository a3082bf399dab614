//! GET and SET in the form in which client libraries write them: read without a loop over the
//! arguments, and without looking the name up. Whatever looks different is left to `resp.rs`.
//!
//! The first 16 bytes tell it all: which of the two it is, and how long the key.

/// `*2\r\n$3\r\nget\r\n$`, and two bytes of the key's length, which are masked out.
const GET: u128 = u128::from_le_bytes(*b"*2\r\n$3\r\nget\r\n$\0\0");
const SET: u128 = u128::from_le_bytes(*b"*3\r\n$3\r\nset\r\n$\0\0");
const HEAD: u128 =
    u128::from_le_bytes(*b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");

/// What makes the letters lower case, and changes nothing else.
const LETTERS: u128 = u128::from_le_bytes(*b"\0\0\0\0\0\0\0\0   \0\0\0\0\0");

/// Where the head ends: behind the dollar of the key's length.
const HEAD_BYTES: usize = 14;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    Get(&'a [u8]),
    Set(&'a [u8], &'a [u8]),
}

impl<'a> Command<'a> {
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Command::Get(key) | Command::Set(key, _) => key,
        }
    }
}

/// The command at the beginning of the input, if it is one of the two and whole, and its length.
#[inline]
pub fn read(input: &[u8]) -> Option<(Command<'_>, usize)> {
    let head = u128::from_le_bytes(*input.first_chunk::<16>()?);
    let name = (head & HEAD) | LETTERS;
    if name != GET && name != SET {
        return None;
    }
    let (key, next) = argument(input, HEAD_BYTES)?;
    if name == GET {
        return Some((Command::Get(key), next));
    }
    if input.get(next) != Some(&b'$') {
        return None;
    }
    let (value, next) = argument(input, next + 1)?;
    Some((Command::Set(key, value), next))
}

/// An argument of less than a thousand bytes whose length begins at `at`, and what follows it.
#[inline]
fn argument(input: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let digit = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    let (length, start) = match *input.get(at..)?.first_chunk::<4>()? {
        [a, b'\r', ..] if digit(a) < 10 => (digit(a), at + 3),
        [a @ b'1'..=b'9', b, b'\r', _] if digit(b) < 10 => (digit(a) * 10 + digit(b), at + 4),
        [a @ b'1'..=b'9', b, c, b'\r'] if digit(b) < 10 && digit(c) < 10 => {
            (digit(a) * 100 + digit(b) * 10 + digit(c), at + 5)
        }
        _ => return None,
    };
    let (end, next) = (start + length, start + length + 2);
    if next > input.len() {
        return None;
    }
    Some((&input[start..end], next))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::args::Args;
    use crate::resp::{Parsed, Parser};

    pub(crate) fn encoded(words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    #[test]
    fn it_reads_what_the_parser_reads_or_nothing() {
        let long = vec![b'x'; 1200];
        for length in [0, 1, 9, 10, 22, 99, 100, 999, 1000, 1200] {
            for name in [&b"GET"[..], b"get", b"GeT", b"SET", b"set", b"DEL", b"GETX"] {
                for words in [vec![name, &long[..length]], vec![name, b"k", &long[..length]]] {
                    let mut bytes = encoded(&words);
                    let whole = bytes.len();
                    bytes.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
                    let quick = read(&bytes);
                    let is_meant = match words.len() {
                        2 => name.eq_ignore_ascii_case(b"get"),
                        _ => name.eq_ignore_ascii_case(b"set"),
                    };
                    assert_eq!(quick.is_some(), is_meant && length < 1000, "{name:?} {length}");
                    let Some((command, read_bytes)) = quick else { continue };
                    let mut parser = Parser::default();
                    assert_eq!(parser.parse(&bytes, &mut None, false), Parsed::Command(read_bytes));
                    let args = Args::new(&bytes, &parser.spans);
                    match command {
                        Command::Get(key) => assert_eq!((key, 2), (args.get(1), args.len())),
                        Command::Set(key, value) => {
                            assert_eq!((key, value, 3), (args.get(1), args.get(2), args.len()));
                        }
                    }
                    for cut in 0..whole {
                        assert_eq!(read(&bytes[..cut]), None);
                    }
                }
            }
        }
    }

    #[test]
    fn what_the_parser_refuses_it_does_not_read() {
        let wrong: [&[u8]; 6] = [
            b"*2\r\n$3\r\nGET\r\n$01\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$-1\r\nk\r\n....",
            b"*2\r\n$3\r\nGET\r\n:1\r\nk\r\n....",
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n:1\r\nv\r\n",
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$ 1\r\nv\r\n",
            b"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$1\r\nv\r\n",
        ];
        for input in wrong {
            assert_eq!(read(input), None);
        }
    }
}
