//! [`VarintLengthCodec`]: frames behind a protobuf varint.

use bytes::BufMut;

use super::discard::Discard;
use super::{Codec, DEFAULT_MAX_FRAME, Decoded, LARGEST_LIMIT, check};
use crate::error::{DecodeError, EncodeError, Result};

/// The most bytes of a varint: 10 times 7 bits are the first to hold 64.
const MAX_VARINT: usize = 10;

/// Frames behind their length as a protobuf varint: seven bits a byte, the lowest first, the
/// eighth set in all bytes but the last. What protobuf's `writeDelimitedTo` writes.
///
/// A varint need not be the shortest one, as in protobuf. One of more than 10 bytes or 64 bits is
/// corrupt; decoding goes on behind it. A frame over the limit is dropped as it comes in.
///
/// ```
/// use tightloop::codec::{Codec, Step, VarintLengthCodec};
///
/// let mut codec = VarintLengthCodec::new(4096)?;
/// assert!(matches!(codec.decode(b"\x05hello").step, Step::Frame(b"hello")));
/// assert_eq!(codec.encode_to_bytes(&[7; 300])?[..3], [0xac, 0x02, 7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "ProtobufVarint32FrameDecoder")]
#[doc(alias = "ProtobufVarint32LengthFieldPrepender")]
#[derive(Debug, Clone)]
pub struct VarintLengthCodec {
    max_frame: usize,
    fail_fast: bool,
    discard: Discard,
}

/// A number at the beginning of some bytes.
enum Varint {
    Value {
        value: u64,
        length: usize,
    },
    Unfinished,
    /// Corrupt, and behind so many bytes it is over.
    Corrupt(usize),
}

impl VarintLengthCodec {
    /// Frames of at most `max_frame` bytes behind their length.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) for a limit above 2 GiB.
    pub fn new(max_frame: usize) -> Result<Self> {
        Self::builder().max_frame(max_frame).build()
    }

    /// All settings.
    pub fn builder() -> VarintLengthCodecBuilder {
        VarintLengthCodecBuilder { max_frame: DEFAULT_MAX_FRAME, fail_fast: true }
    }

    /// Decodes whatever there is.
    #[inline(never)]
    fn decode_other<'a>(&mut self, input: &'a [u8]) -> Decoded<&'a [u8]> {
        if !self.discard.is_active() {
            return self.decode_frame(input);
        }
        match self.discard.go_on(input.len(), self.max_frame) {
            Ok(dropped) => self.decode_frame(&input[dropped..]).after(dropped),
            Err(decoded) => decoded,
        }
    }

    /// Decodes where a frame begins.
    fn decode_frame<'a>(&mut self, input: &'a [u8]) -> Decoded<&'a [u8]> {
        let (value, header) = match read(input) {
            Varint::Value { value, length } => (value, length),
            Varint::Unfinished => return Decoded::more(),
            Varint::Corrupt(length) => return Decoded::error(length, CORRUPT_VARINT),
        };
        let body = &input[header..];
        match usize::try_from(value) {
            Ok(length) if length <= self.max_frame => match body.get(..length) {
                Some(frame) => Decoded::frame(header + length, frame),
                None => Decoded::more(),
            },
            _ => {
                self.discard.begin(value, body.len(), self.max_frame, self.fail_fast).after(header)
            }
        }
    }
}

const CORRUPT_VARINT: DecodeError =
    DecodeError::Corrupt { reason: "the length is a varint of more than 64 bits" };

fn read(input: &[u8]) -> Varint {
    let mut value = 0;
    for (index, &byte) in input.iter().enumerate().take(MAX_VARINT) {
        let bits = u64::from(byte & 0x7f);
        value |= bits << (7 * index);
        if byte < 0x80 {
            let is_lossy = index == MAX_VARINT - 1 && bits > 1;
            let length = index + 1;
            return if is_lossy {
                Varint::Corrupt(length)
            } else {
                Varint::Value { value, length }
            };
        }
    }
    if input.len() < MAX_VARINT { Varint::Unfinished } else { Varint::Corrupt(MAX_VARINT) }
}

impl Codec for VarintLengthCodec {
    type Frame<'a> = &'a [u8];
    type Item<'a> = &'a [u8];

    // Always inline: what is returned through memory costs more than what is done here.
    #[inline(always)]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<&'a [u8]> {
        // Most frames are short.
        if !self.discard.is_active()
            && let Some((&byte @ 0..0x80, body)) = input.split_first()
            && usize::from(byte) <= self.max_frame
            && let Some(frame) = body.get(..usize::from(byte))
        {
            return Decoded::frame(1 + frame.len(), frame);
        }
        self.decode_other(input)
    }

    #[inline]
    fn encode<B: BufMut>(
        &mut self,
        item: &[u8],
        out: &mut B,
    ) -> std::result::Result<(), EncodeError> {
        if item.len() > self.max_frame {
            let (length, limit) = (item.len() as u64, self.max_frame as u64);
            return Err(EncodeError::TooLong { length, limit });
        }
        let mut header = [0; MAX_VARINT];
        let mut rest = item.len() as u64;
        let mut length = 0;
        while rest >= 0x80 {
            header[length] = rest as u8 | 0x80;
            rest >>= 7;
            length += 1;
        }
        header[length] = rest as u8;
        out.put_slice(&header[..=length]);
        out.put_slice(item);
        Ok(())
    }

    fn is_within_frame(&self) -> bool {
        self.discard.is_active()
    }
}

/// The settings of a [`VarintLengthCodec`].
#[derive(Debug, Clone)]
#[must_use]
pub struct VarintLengthCodecBuilder {
    max_frame: usize,
    fail_fast: bool,
}

impl VarintLengthCodecBuilder {
    /// The limit of a frame, in bytes, without its length. Default: [`DEFAULT_MAX_FRAME`].
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Whether a frame over the limit is an error as soon as its length is known (the default),
    /// or when its last byte has come.
    pub fn fail_fast(mut self, yes: bool) -> Self {
        self.fail_fast = yes;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option), naming the setting and what is wrong with it.
    pub fn build(self) -> Result<VarintLengthCodec> {
        check(self.max_frame <= LARGEST_LIMIT, "max_frame", || {
            format!("must be at most {LARGEST_LIMIT} bytes, not {}", self.max_frame)
        })?;
        let Self { max_frame, fail_fast } = self;
        Ok(VarintLengthCodec { max_frame, fail_fast, discard: Discard::default() })
    }
}
