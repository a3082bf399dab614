//! [`Terminated`]: what lines and delimited frames have in common. Where a terminator is, a
//! search tells; here is what follows from it.

use super::Decoded;
use crate::error::DecodeError;

/// What a search for a terminator found.
pub(super) enum Found {
    /// A terminator from `content` to `end`.
    At { content: usize, end: usize },
    /// None yet.
    Unfinished {
        /// Bytes that belong to the frame whatever comes; those behind may begin a terminator.
        content: usize,
        /// Where to search on when more has come; not before `content` unless all is content.
        resume: usize,
    },
}

/// A search for terminators. A trait, since closures are not always inlined.
pub(super) trait Search {
    /// Searches `input` from `from`, below which no terminator begins.
    fn find(&mut self, input: &[u8], from: usize) -> Found;

    /// The frame that was being dropped is over; what is searched from now on is another.
    fn dropping_ended(&mut self) {}
}

/// The limits of frames with a terminator, and how far one connection has got.
#[derive(Debug, Clone)]
pub(super) struct Terminated {
    pub(super) max_frame: usize,
    pub(super) strip: bool,
    pub(super) fail_fast: bool,
    /// Up to here no terminator begins in the unconsumed input.
    scanned: usize,
    /// A frame over the limit is being dropped, and these are its bytes so far.
    dropped: Option<u64>,
}

impl Terminated {
    pub(super) fn new(max_frame: usize, strip: bool, fail_fast: bool) -> Self {
        Terminated { max_frame, strip, fail_fast, scanned: 0, dropped: None }
    }

    pub(super) fn is_within_frame(&self) -> bool {
        self.dropped.is_some()
    }

    // Always inline: what is returned through memory costs more than what is done here.
    #[inline(always)]
    pub(super) fn decode<'a>(
        &mut self,
        input: &'a [u8],
        mut search: impl Search,
    ) -> Decoded<&'a [u8]> {
        let found = search.find(input, self.scanned);
        if self.dropped.is_none()
            && let Found::At { content, end } = found
            && content <= self.max_frame
        {
            self.scanned = 0;
            return Decoded::frame(end, &input[..if self.strip { content } else { end }]);
        }
        self.decode_other(input, found, search)
    }

    /// Anything but a whole frame.
    #[inline(never)]
    fn decode_other<'a>(
        &mut self,
        input: &'a [u8],
        found: Found,
        mut search: impl Search,
    ) -> Decoded<&'a [u8]> {
        if self.dropped.is_none() {
            return self.frame(input, found);
        }
        match self.drop_frame(found) {
            Ok(end) => {
                let input = &input[end..];
                search.dropping_ended();
                let found = search.find(input, 0);
                self.frame(input, found).after(end)
            }
            Err(decoded) => decoded,
        }
    }

    fn frame<'a>(&mut self, input: &'a [u8], found: Found) -> Decoded<&'a [u8]> {
        match found {
            Found::At { content, end } if content <= self.max_frame => {
                self.scanned = 0;
                Decoded::frame(end, &input[..if self.strip { content } else { end }])
            }
            Found::At { content, end } => {
                self.scanned = 0;
                Decoded::error(end, self.too_long(content as u64))
            }
            Found::Unfinished { content, resume } if content <= self.max_frame => {
                self.scanned = resume;
                Decoded::more()
            }
            Found::Unfinished { content, resume } => self.begin_dropping(content, resume),
        }
    }

    fn begin_dropping<'a>(&mut self, content: usize, resume: usize) -> Decoded<&'a [u8]> {
        self.dropped = Some(content as u64);
        self.scanned = resume.saturating_sub(content);
        match self.fail_fast {
            true => Decoded::error(content, self.too_long(content as u64)),
            false => Decoded::discard(content),
        }
    }

    /// Drops more of a frame over the limit. `Ok`: it ended at this place, and there is no more to
    /// tell.
    fn drop_frame<'a>(&mut self, found: Found) -> Result<usize, Decoded<&'a [u8]>> {
        let so_far = self.dropped.take().unwrap_or(0);
        match found {
            Found::At { content, end } => {
                self.scanned = 0;
                match self.fail_fast {
                    true => Ok(end),
                    false => {
                        let length = so_far.saturating_add(content as u64);
                        Err(Decoded::error(end, self.too_long(length)))
                    }
                }
            }
            Found::Unfinished { content, resume } => {
                self.dropped = Some(so_far.saturating_add(content as u64));
                self.scanned = resume.saturating_sub(content);
                Err(Decoded::discard(content))
            }
        }
    }

    fn too_long(&self, length: u64) -> DecodeError {
        DecodeError::TooLong { length, limit: self.max_frame }
    }
}
