//! [`LineCodec`]: lines of text.

use bytes::BufMut;

use super::search::{LineEnd, NettyLineEnd, StrictLineEnd};
use super::terminated::Terminated;
use super::{Codec, Decoded, LARGEST_LIMIT, check};
use crate::error::{EncodeError, Result};

/// The limit of a line for which none was set, in bytes: 8 KiB, what HTTP servers grant a header
/// line.
const DEFAULT_MAX_LINE: usize = 8 * 1024;

/// What an encoded line ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_enums, reason = "what lines may end in; others are delimiters")]
pub enum LineEnding {
    /// LF.
    #[default]
    Lf,
    /// CR LF.
    CrLf,
}

impl LineEnding {
    fn as_bytes(self) -> &'static [u8] {
        match self {
            LineEnding::Lf => b"\n",
            LineEnding::CrLf => b"\r\n",
        }
    }
}

/// Lines, each ended by LF or CR LF.
///
/// Only LF ends a line, and one CR directly before it belongs to the end. Any other CR, and bytes
/// of any other value, are content. Empty lines are frames.
///
/// For protocols that mean CR LF use [`strict_crlf`](LineCodecBuilder::strict_crlf): where one
/// party ends a line at a lone LF and another does not, messages can be smuggled past one of them.
///
/// ```
/// use tightloop::codec::{Codec, LineCodec, Step};
///
/// let mut codec = LineCodec::builder().max_frame(512).strict_crlf(true).build()?;
/// let decoded = codec.decode(b"one\ntwo\r\n");
/// assert!(matches!(decoded.step, Step::Frame(b"one\ntwo")));
/// # Ok::<(), tightloop::Error>(())
/// ```
#[doc(alias = "LineBasedFrameDecoder")]
#[doc(alias = "LineBasedFrameCodec")]
#[derive(Debug, Clone)]
pub struct LineCodec {
    terminated: Terminated,
    mode: Mode,
    ending: LineEnding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Lenient,
    Strict,
    Netty,
}

impl LineCodec {
    /// Lines of at most `max_frame` bytes without their end; what is encoded ends with LF.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) for a limit above 2 GiB.
    pub fn new(max_frame: usize) -> Result<Self> {
        Self::builder().max_frame(max_frame).build()
    }

    /// All settings.
    pub fn builder() -> LineCodecBuilder {
        LineCodecBuilder {
            max_frame: DEFAULT_MAX_LINE,
            keep_ending: false,
            fail_fast: true,
            strict_crlf: false,
            ending: None,
            netty_compatible: false,
        }
    }

    /// Where in `item` a receiver would see a line's end too early.
    fn end_within(&self, item: &[u8]) -> Option<usize> {
        match self.mode {
            Mode::Strict => memchr::memmem::find(item, b"\r\n"),
            Mode::Lenient | Mode::Netty => memchr::memchr(b'\n', item).or_else(|| {
                // The CR would be taken for a part of the end.
                let is_lost = self.ending == LineEnding::Lf && item.ends_with(b"\r");
                is_lost.then(|| item.len() - 1)
            }),
        }
    }
}

impl Codec for LineCodec {
    type Frame<'a> = &'a [u8];
    type Item<'a> = &'a [u8];

    #[inline(always)]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<&'a [u8]> {
        match self.mode {
            Mode::Lenient => self.terminated.decode(input, LineEnd),
            Mode::Strict => self.terminated.decode(input, StrictLineEnd),
            Mode::Netty => self.terminated.decode(input, NettyLineEnd),
        }
    }

    #[inline]
    fn encode<B: BufMut>(
        &mut self,
        item: &[u8],
        out: &mut B,
    ) -> std::result::Result<(), EncodeError> {
        if item.len() > self.terminated.max_frame {
            let (length, limit) = (item.len() as u64, self.terminated.max_frame as u64);
            return Err(EncodeError::TooLong { length, limit });
        }
        if let Some(at) = self.end_within(item) {
            return Err(EncodeError::ContainsDelimiter { at });
        }
        out.put_slice(item);
        out.put_slice(self.ending.as_bytes());
        Ok(())
    }

    fn is_within_frame(&self) -> bool {
        self.terminated.is_within_frame()
    }
}

/// The settings of a [`LineCodec`].
#[derive(Debug, Clone)]
#[must_use]
pub struct LineCodecBuilder {
    max_frame: usize,
    keep_ending: bool,
    fail_fast: bool,
    strict_crlf: bool,
    ending: Option<LineEnding>,
    netty_compatible: bool,
}

impl LineCodecBuilder {
    /// The limit of a line, in bytes, never counting its end. Default: 8 KiB. 0 lets only empty
    /// lines pass.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Whether frames include the line's end as it came. Default: no.
    #[doc(alias = "stripDelimiter")]
    pub fn keep_ending(mut self, yes: bool) -> Self {
        self.keep_ending = yes;
        self
    }

    /// Whether a line over the limit is an error as soon as that is certain (the default), or when
    /// its end has come.
    pub fn fail_fast(mut self, yes: bool) -> Self {
        self.fail_fast = yes;
        self
    }

    /// Whether only CR LF ends a line. Default: no, a lone LF does too.
    pub fn strict_crlf(mut self, yes: bool) -> Self {
        self.strict_crlf = yes;
        self
    }

    /// What encoded lines end with. Default: LF, or CR LF where the codec is strict.
    pub fn ending(mut self, ending: LineEnding) -> Self {
        self.ending = Some(ending);
        self
    }

    /// Counts a CR at the end of what has come as content, as netty 4 does: a line that has just
    /// the limit's length passes or fails by how its end is cut. Default: no.
    pub fn netty_compatible(mut self, yes: bool) -> Self {
        self.netty_compatible = yes;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option), naming the setting and what is wrong with it.
    pub fn build(self) -> Result<LineCodec> {
        check(self.max_frame <= LARGEST_LIMIT, "max_frame", || {
            format!("must be at most {LARGEST_LIMIT} bytes, not {}", self.max_frame)
        })?;
        check(!(self.strict_crlf && self.netty_compatible), "netty_compatible", || {
            "netty's line decoder has no strict mode".to_owned()
        })?;
        let is_unreadable = self.strict_crlf && self.ending == Some(LineEnding::Lf);
        check(!is_unreadable, "ending", || {
            "a strict codec does not take LF for the end of a line".to_owned()
        })?;
        let default_ending = if self.strict_crlf { LineEnding::CrLf } else { LineEnding::Lf };
        Ok(LineCodec {
            terminated: Terminated::new(self.max_frame, !self.keep_ending, self.fail_fast),
            mode: match (self.strict_crlf, self.netty_compatible) {
                (true, _) => Mode::Strict,
                (false, true) => Mode::Netty,
                (false, false) => Mode::Lenient,
            },
            ending: self.ending.unwrap_or(default_ending),
        })
    }
}
