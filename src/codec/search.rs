//! Searches for terminators: line ends, and sets of delimiters.

use super::terminated::{Found, Search};

/// Bytes that are searched in place: calling `memchr` costs about as much as looking at so many.
const SEARCHED_IN_PLACE: usize = 128;

/// The place of the first `byte`. As `memchr`, but faster where that is near.
#[inline(always)]
fn find_byte(byte: u8, input: &[u8]) -> Option<usize> {
    let (blocks, _) = input.as_chunks::<16>();
    let near = &blocks[..blocks.len().min(SEARCHED_IN_PLACE / 16)];
    for (index, block) in near.iter().enumerate() {
        // Without an early exit: one comparison of 16 bytes.
        if block.iter().fold(false, |found, other| found | (*other == byte)) {
            // A byte is zero where the block has `byte`; the lowest one borrows from no other.
            let zero = u128::from_le_bytes(*block) ^ u128::from_le_bytes([byte; 16]);
            let borrowed = zero.wrapping_sub(u128::from_le_bytes([1; 16]));
            let high_bits = borrowed & !zero & u128::from_le_bytes([0x80; 16]);
            return Some(16 * index + high_bits.trailing_zeros() as usize / 8);
        }
    }
    let searched = 16 * near.len();
    memchr::memchr(byte, &input[searched..]).map(|at| searched + at)
}

/// The first LF, and one CR directly before it.
pub(super) struct LineEnd;

impl Search for LineEnd {
    #[inline(always)]
    fn find(&mut self, input: &[u8], from: usize) -> Found {
        match find_byte(b'\n', &input[from..]) {
            Some(at) => {
                let line_feed = from + at;
                let has_cr = input[..line_feed].ends_with(b"\r");
                Found::At { content: line_feed - usize::from(has_cr), end: line_feed + 1 }
            }
            None => Found::Unfinished { content: before_open_end(input), resume: input.len() },
        }
    }
}

/// As [`LineEnd`], counting a CR at the end of the input as content, as netty does: it depends on
/// how the input is cut.
pub(super) struct NettyLineEnd;

impl Search for NettyLineEnd {
    #[inline]
    fn find(&mut self, input: &[u8], from: usize) -> Found {
        match LineEnd.find(input, from) {
            Found::Unfinished { resume, .. } => Found::Unfinished { content: input.len(), resume },
            found => found,
        }
    }
}

/// The first CR LF. A CR or an LF alone is content.
pub(super) struct StrictLineEnd;

impl Search for StrictLineEnd {
    #[inline(always)]
    fn find(&mut self, input: &[u8], from: usize) -> Found {
        let mut from = from;
        while let Some(at) = find_byte(b'\n', &input[from..]) {
            let line_feed = from + at;
            if input[..line_feed].ends_with(b"\r") {
                return Found::At { content: line_feed - 1, end: line_feed + 1 };
            }
            from = line_feed + 1;
        }
        Found::Unfinished { content: before_open_end(input), resume: input.len() }
    }
}

/// The length without a CR at the end, whose LF may follow.
fn before_open_end(input: &[u8]) -> usize {
    input.len() - usize::from(input.ends_with(b"\r"))
}

/// The first of a set of delimiters.
pub(super) struct FirstDelimiter<'a> {
    pub(super) delimiters: &'a Delimiters,
    /// Whether the delimiter is part of the frame, and so must be known whole.
    pub(super) is_kept: bool,
    /// Whether it silently ends a frame that is dropped: it must be known whole, too, since what
    /// follows it is looked at in the same call.
    pub(super) is_silent: bool,
    pub(super) open: &'a mut Option<usize>,
}

impl Search for FirstDelimiter<'_> {
    #[inline]
    fn find(&mut self, input: &[u8], from: usize) -> Found {
        self.delimiters.find(input, from, self.is_kept || self.is_silent, self.open)
    }

    fn dropping_ended(&mut self) {
        self.is_silent = false;
    }
}

/// A set of delimiters, none of them empty.
#[derive(Debug)]
pub(super) struct Delimiters {
    /// In the order in which they are tried where several begin at one place.
    list: Vec<Vec<u8>>,
    /// The bytes with which they begin, each once.
    first_bytes: Vec<u8>,
    /// The longest one's length.
    longest: usize,
    /// Whether one counts only if none which began before it, or at the same place and is longer,
    /// may still be coming.
    waits: bool,
}

impl Delimiters {
    /// The longest wins where several begin at one place, however the input is cut.
    pub(super) fn longest_first(mut list: Vec<Vec<u8>>) -> Self {
        list.sort_by_key(|delimiter| std::cmp::Reverse(delimiter.len()));
        Self::new(list, true)
    }

    /// The first listed wins where several begin at one place, and one that is there wins over one
    /// that may be coming, as netty has it: it depends on how the input is cut.
    pub(super) fn first_listed(list: Vec<Vec<u8>>) -> Self {
        Self::new(list, false)
    }

    fn new(list: Vec<Vec<u8>>, waits: bool) -> Self {
        let mut first_bytes: Vec<u8> = list.iter().filter_map(|d| d.first().copied()).collect();
        first_bytes.sort_unstable();
        first_bytes.dedup();
        let longest = list.iter().map(Vec::len).max().unwrap_or(0);
        Delimiters { list, first_bytes, longest, waits }
    }

    /// The delimiter that begins first. `open` gets its place in the list where it may turn out to
    /// be the beginning of a longer one; `must_wait` waits for that to be known instead.
    pub(super) fn find(
        &self,
        input: &[u8],
        from: usize,
        must_wait: bool,
        open: &mut Option<usize>,
    ) -> Found {
        let mut from = from;
        while let Some(at) = self.next_candidate(&input[from..]) {
            let content = from + at;
            let rest = &input[content..];
            let mut may_be_longer = false;
            for (index, delimiter) in self.list.iter().enumerate() {
                if rest.starts_with(delimiter) {
                    *open = may_be_longer.then_some(index);
                    return Found::At { content, end: content + delimiter.len() };
                }
                may_be_longer |= self.waits && delimiter.starts_with(rest);
                if may_be_longer && must_wait {
                    break;
                }
            }
            if may_be_longer {
                return Found::Unfinished { content, resume: content };
            }
            from = content + 1;
        }
        match self.waits {
            true => Found::Unfinished { content: input.len(), resume: input.len() },
            // What was cut apart is found when its end has come.
            false => Found::Unfinished {
                content: input.len(),
                resume: input.len().saturating_sub(self.longest - 1),
            },
        }
    }

    /// How many bytes of `input` make a longer delimiter of the one before it; `None` when that
    /// cannot be told yet.
    #[cold]
    pub(super) fn continuation(&self, before: usize, input: &[u8]) -> Option<usize> {
        // The longer ones come first.
        let (longer, rest) = self.list.split_at(before);
        let short = rest.first()?;
        for tail in longer.iter().filter_map(|delimiter| delimiter.strip_prefix(&short[..])) {
            if input.starts_with(tail) {
                return Some(tail.len());
            }
            if tail.starts_with(input) {
                return None;
            }
        }
        Some(0)
    }

    /// Where in `item`, followed by `terminator`, a receiver would see a delimiter too early.
    pub(super) fn find_within(&self, item: &[u8], terminator: &[u8]) -> Option<usize> {
        let mut from = 0;
        loop {
            let at = from + self.next_candidate(&item[from..])?;
            let rest = &item[at..];
            let is_found = |delimiter: &Vec<u8>| match delimiter.strip_prefix(rest) {
                // It would go on in the terminator, or in what follows that.
                Some(tail) => terminator.starts_with(tail) || tail.starts_with(terminator),
                None => rest.starts_with(delimiter),
            };
            if self.list.iter().any(is_found) {
                return Some(at);
            }
            from = at + 1;
        }
    }

    /// The place of the next byte with which a delimiter may begin.
    #[inline]
    fn next_candidate(&self, input: &[u8]) -> Option<usize> {
        match *self.first_bytes {
            [a] => find_byte(a, input),
            [a, b] => memchr::memchr2(a, b, input),
            [a, b, c] => memchr::memchr3(a, b, c, input),
            _ => input.iter().position(|byte| self.first_bytes.contains(byte)),
        }
    }
}
