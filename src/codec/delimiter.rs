//! [`DelimiterCodec`]: frames that end where a delimiter begins.

use std::sync::Arc;

use bytes::BufMut;

use super::search::{Delimiters, FirstDelimiter, NettyLineEnd};
use super::terminated::Terminated;
use super::{Codec, DEFAULT_MAX_FRAME, Decoded, LARGEST_LIMIT, check};
use crate::error::{EncodeError, Result};

/// Most delimiters that one codec takes: each is tried at each place where it may begin.
const MAX_DELIMITERS: usize = 64;

/// The longest delimiter, in bytes: so much is looked at again when it is cut apart.
const MAX_DELIMITER_LENGTH: usize = 1024;

/// Frames that end where a delimiter begins, the one that begins first.
///
/// Where several begin at one place the longest wins, however the input is cut. Of `"\r\n"` and
/// `"\r"` the second one ends a frame at once, and a `"\n"` that follows, also much later, belongs
/// to the same end. (With [`keep_delimiter`](DelimiterCodecBuilder::keep_delimiter), such a frame
/// waits for the next byte.) Delimiters are searched for from the left, and do not overlap. Empty
/// frames are frames.
///
/// What is encoded ends with the delimiter listed first, of those that cannot be mistaken for
/// another one: with `";;"` for the set of `";"` and `";;"`.
///
/// Clones share the delimiters: build the codec once, and clone it for each connection.
///
/// ```
/// use tightloop::codec::{Codec, DelimiterCodec, Step};
///
/// let mut codec = DelimiterCodec::builder([";", ";;"]).max_frame(4096).build()?;
/// let decoded = codec.decode(b"one;;two;");
/// assert!(matches!(decoded.step, Step::Frame(b"one")));
/// assert_eq!(decoded.consumed, 5);
/// # Ok::<(), tightloop::Error>(())
/// ```
#[doc(alias = "DelimiterBasedFrameDecoder")]
#[doc(alias = "DelimiterBasedFrameCodec")]
#[derive(Debug, Clone)]
pub struct DelimiterCodec {
    terminated: Terminated,
    delimiters: Arc<Delimiters>,
    /// What ends an encoded frame: the first listed one that cannot be mistaken for another.
    terminator: Arc<[u8]>,
    /// netty's special case: the set of LF and CR LF is searched for as lines are.
    as_lines: bool,
    /// The delimiter that ended the last frame, while it may turn out to be a longer one.
    open: Option<usize>,
}

impl DelimiterCodec {
    /// Frames of at most `max_frame` bytes, each ended by `delimiter`.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) for an empty delimiter, or one above 1 KiB; for a
    /// limit that is 0 or above 2 GiB.
    pub fn new(delimiter: impl AsRef<[u8]>, max_frame: usize) -> Result<Self> {
        Self::builder([delimiter]).max_frame(max_frame).build()
    }

    /// All settings. Frames are ended by any of `delimiters`.
    pub fn builder<D: AsRef<[u8]>>(
        delimiters: impl IntoIterator<Item = D>,
    ) -> DelimiterCodecBuilder {
        DelimiterCodecBuilder {
            delimiters: delimiters.into_iter().map(|d| d.as_ref().to_vec()).collect(),
            max_frame: DEFAULT_MAX_FRAME,
            keep_delimiter: false,
            fail_fast: true,
            netty_compatible: false,
        }
    }
}

impl DelimiterCodec {
    #[inline(always)]
    fn decode_frame<'a>(&mut self, input: &'a [u8]) -> Decoded<&'a [u8]> {
        let Self { terminated, delimiters, open, .. } = self;
        let is_silent = terminated.is_within_frame() && terminated.fail_fast;
        let is_kept = !terminated.strip;
        *open = None;
        terminated.decode(input, FirstDelimiter { delimiters, is_kept, is_silent, open })
    }
}

impl Codec for DelimiterCodec {
    type Frame<'a> = &'a [u8];
    type Item<'a> = &'a [u8];

    #[inline(always)]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<&'a [u8]> {
        if self.as_lines {
            return self.terminated.decode(input, NettyLineEnd);
        }
        match self.open.map_or(Some(0), |open| self.delimiters.continuation(open, input)) {
            Some(0) => self.decode_frame(input),
            Some(length) => self.decode_frame(&input[length..]).after(length),
            None => Decoded::more(),
        }
    }

    fn encode<B: BufMut>(
        &mut self,
        item: &[u8],
        out: &mut B,
    ) -> std::result::Result<(), EncodeError> {
        if item.len() > self.terminated.max_frame {
            let (length, limit) = (item.len() as u64, self.terminated.max_frame as u64);
            return Err(EncodeError::TooLong { length, limit });
        }
        if let Some(at) = self.delimiters.find_within(item, &self.terminator) {
            return Err(EncodeError::ContainsDelimiter { at });
        }
        out.put_slice(item);
        out.put_slice(&self.terminator);
        Ok(())
    }

    fn is_within_frame(&self) -> bool {
        self.terminated.is_within_frame()
    }
}

/// The settings of a [`DelimiterCodec`].
#[derive(Debug, Clone)]
#[must_use]
pub struct DelimiterCodecBuilder {
    delimiters: Vec<Vec<u8>>,
    max_frame: usize,
    keep_delimiter: bool,
    fail_fast: bool,
    netty_compatible: bool,
}

impl DelimiterCodecBuilder {
    /// The limit of a frame, in bytes, never counting its delimiter. Default:
    /// [`DEFAULT_MAX_FRAME`].
    #[doc(alias = "maxFrameLength")]
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Whether frames include their delimiter. Default: no.
    #[doc(alias = "stripDelimiter")]
    pub fn keep_delimiter(mut self, yes: bool) -> Self {
        self.keep_delimiter = yes;
        self
    }

    /// Whether a frame over the limit is an error as soon as that is certain (the default), or
    /// when its delimiter has come.
    pub fn fail_fast(mut self, yes: bool) -> Self {
        self.fail_fast = yes;
        self
    }

    /// Does as netty 4 does: the delimiter listed first wins where several begin at one place; one
    /// that is there wins over a longer one that is cut apart; and of a frame that is dropped,
    /// the beginning of a delimiter at the end of what has come is dropped too. What comes out
    /// depends on how the input is cut. Default: no.
    pub fn netty_compatible(mut self, yes: bool) -> Self {
        self.netty_compatible = yes;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option), naming the setting and what is wrong with it.
    pub fn build(self) -> Result<DelimiterCodec> {
        let list = self.delimiters;
        check((1..=MAX_DELIMITERS).contains(&list.len()), "delimiters", || {
            format!("must be between 1 and {MAX_DELIMITERS}, not {}", list.len())
        })?;
        for delimiter in &list {
            check((1..=MAX_DELIMITER_LENGTH).contains(&delimiter.len()), "delimiters", || {
                let length = delimiter.len();
                format!("must have between 1 and {MAX_DELIMITER_LENGTH} bytes each, not {length}")
            })?;
        }
        check((1..=LARGEST_LIMIT).contains(&self.max_frame), "max_frame", || {
            format!("must be between 1 and {LARGEST_LIMIT} bytes, not {}", self.max_frame)
        })?;
        let is_lines = list.len() == 2
            && [&b"\n"[..], b"\r\n"].iter().all(|end| list.iter().any(|d| d == end));
        let as_lines = self.netty_compatible && is_lines;
        let is_unmistakable = |delimiter: &&Vec<u8>| match self.netty_compatible {
            // Another one within it would be found first where it is cut apart.
            true => {
                as_lines
                    || !list
                        .iter()
                        .any(|d| d != *delimiter && memchr::memmem::find(delimiter, d).is_some())
            }
            // Together with the next frame it could be read as a longer one.
            false => !list.iter().any(|d| d.len() > delimiter.len() && d.starts_with(delimiter)),
        };
        let terminator =
            list.iter().find(is_unmistakable).map_or(Arc::default(), |d| Arc::from(&d[..]));
        let strip = !self.keep_delimiter;
        Ok(DelimiterCodec {
            terminated: Terminated::new(self.max_frame, strip, self.fail_fast),
            delimiters: Arc::new(match self.netty_compatible {
                true => Delimiters::first_listed(list),
                false => Delimiters::longest_first(list),
            }),
            terminator,
            as_lines,
            open: None,
        })
    }
}
