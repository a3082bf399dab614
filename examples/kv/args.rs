//! A command's arguments: stretches of the receive buffer, and how numbers in them are read.

/// Where an argument lies, in bytes from the beginning of its command. Commands are shorter than
/// 4 GiB: see the limits in `resp.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

/// The arguments of one command, its name the first of them. Lent, and cheap to copy.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// `spans` lie within `bytes`.
    pub fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Args { bytes, spans }
    }

    /// How many there are, with the name.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The argument at `index`. What the arity of the command does not promise is asked for by
    /// [`find`](Args::find); here it would be empty.
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        self.find(index).unwrap_or_default()
    }

    #[inline]
    pub fn find(&self, index: usize) -> Option<&'a [u8]> {
        let span = self.spans.get(index)?;
        self.bytes.get(span.start as usize..span.end as usize)
    }

    /// The arguments from `index` on.
    pub fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let Args { bytes, spans } = *self;
        let spans = spans.get(index..).unwrap_or_default();
        spans.iter().map(|span| &bytes[span.start as usize..span.end as usize])
    }

    /// Bytes of all arguments together.
    pub fn size(&self) -> usize {
        self.spans.iter().map(|span| (span.end - span.start) as usize).sum()
    }

    /// Whether an argument is this word, in whatever case; `word` is in lower case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        is(self.get(index), word)
    }
}

/// Whether `bytes` are this word, in whatever case.
pub fn is(bytes: &[u8], word: &str) -> bool {
    bytes.eq_ignore_ascii_case(word.as_bytes())
}

/// Reads a number exactly as Redis does: no plus, no zeros in front, no blanks, nothing behind.
#[inline]
pub fn integer(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value = 0_u64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // At most 19 digits: less than 10^19, which fits.
        value = value * 10 + u64::from(digit);
    }
    if negative {
        (value <= 1 << 63).then(|| (value as i64).wrapping_neg())
    } else {
        i64::try_from(value).ok()
    }
}

/// A cursor, read as C's `strtoul` reads it: a sign is allowed, and nothing is zero.
pub fn cursor(bytes: &[u8]) -> Option<u64> {
    let (negative, digits) = match bytes {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if negative { number.wrapping_neg() } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_strictly_as_redis_reads_them() {
        for value in [0, 1, -1, 9, 10, 1234567890, i64::MAX, i64::MIN] {
            assert_eq!(integer(value.to_string().as_bytes()), Some(value));
        }
        let refused = ["", "-", "+1", "01", "-0", " 1", "1 ", "1a", "9223372036854775808"];
        for text in refused.into_iter().chain(["-9223372036854775809", "99999999999999999999"]) {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_argument_that_is_not_there_is_empty() {
        let spans = [Span { start: 0, end: 3 }, Span { start: 4, end: 5 }];
        let args = Args::new(b"GET k", &spans);
        assert_eq!((args.len(), args.get(1), args.get(2)), (2, &b"k"[..], &b""[..]));
        assert!(args.is(0, "get") && args.find(2).is_none() && args.size() == 4);
        assert_eq!(args.from(1).collect::<Vec<_>>(), [b"k"]);
    }
}
