//! [`LengthFieldCodec`]: frames with a length field in their header.

use bytes::BufMut;

use super::discard::Discard;
use super::{Codec, DEFAULT_MAX_FRAME, Decoded, LARGEST_LIMIT, check};
use crate::error::{DecodeError, EncodeError, Result};

/// The order of a length field's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum ByteOrder {
    /// The most significant byte first, as network protocols have it.
    #[default]
    Big,
    /// The least significant byte first.
    Little,
}

/// Frames with a length field in their header.
///
/// ```text
///   offset     width     what the length field counts
/// +--------+----------+-------------------------------+
/// | header |  length  | (more header, and) the body   |      frame = length + adjustment
/// +--------+----------+-------------------------------+              + offset + width
/// |<------- strip --->|<-------- Frame -------------->|
/// ```
///
/// | the protocol says | settings |
/// |---|---|
/// | the length is the body's | as it is: `adjustment` 0 |
/// | the length is the body's and the length field's own | [`length_includes_itself`] |
/// | the length is the whole frame's | `adjustment(-(offset + width))` |
/// | `k` bytes of header follow the length, which does not count them | `adjustment(k)` |
///
/// [`length_includes_itself`]: LengthFieldCodecBuilder::length_includes_itself
///
/// A frame over the limit is dropped as it comes in, never stored; decoding goes on behind it. A
/// negative or impossible length costs the header only, and decoding goes on behind that: where it
/// then finds itself, only the protocol can know, so closing is usually right.
///
/// What is encoded is the frame without its length field: the first `offset` bytes go in front of
/// the field, the others behind it.
///
/// ```
/// use tightloop::codec::{ByteOrder, Codec, LengthFieldCodec, Step};
///
/// let mut codec = LengthFieldCodec::builder()
///     .width(2)
///     .byte_order(ByteOrder::Little)
///     .length_includes_itself(true)
///     .max_frame(1024)
///     .build()?;
/// let decoded = codec.decode(b"\x07\0hello");
/// assert_eq!(decoded.consumed, 7);
/// assert!(matches!(decoded.step, Step::Frame(b"hello")));
/// # Ok::<(), tightloop::Error>(())
/// ```
#[doc(alias = "LengthFieldBasedFrameDecoder")]
#[doc(alias = "LengthFieldBasedFrameCodec")]
#[doc(alias = "LengthFieldPrepender")]
#[derive(Debug, Clone)]
pub struct LengthFieldCodec {
    offset: usize,
    /// Where the length field ends.
    end: usize,
    /// The frame's length is the field's number and this.
    base: i64,
    /// The numbers of the field that make a frame within the limits; none if `least > most`.
    least: i64,
    most: i64,
    /// Bits of eight bytes from the field's beginning that are not the field's.
    foreign_bits: u32,
    strip: usize,
    max_frame: usize,
    little: bool,
    fail_fast: bool,
    /// A length beyond 64 bits is taken as negative.
    wraps: bool,
    discard: Discard,
}

impl LengthFieldCodec {
    /// A big-endian length of `width` bytes that counts the body behind it, and is stripped;
    /// frames of at most 1 MiB.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) unless `width` is 1, 2, 3, 4 or 8.
    pub fn new(width: usize) -> Result<Self> {
        Self::builder().width(width).build()
    }

    /// All settings.
    pub fn builder() -> LengthFieldCodecBuilder {
        LengthFieldCodecBuilder {
            width: 4,
            byte_order: ByteOrder::Big,
            offset: 0,
            adjustment: 0,
            includes_itself: false,
            strip: None,
            max_frame: DEFAULT_MAX_FRAME,
            fail_fast: true,
            netty_compatible: false,
        }
    }

    fn width(&self) -> usize {
        self.end - self.offset
    }

    fn read(&self, field: &[u8]) -> u64 {
        let value = match *field {
            [a] => u64::from(a),
            [a, b] => u64::from(u16::from_be_bytes([a, b])),
            [a, b, c] => u64::from(u32::from_be_bytes([0, a, b, c])),
            [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => unreachable!("the builder refuses other widths"),
        };
        match self.little {
            true => value.swap_bytes() >> (64 - 8 * field.len()),
            false => value,
        }
    }

    /// Decodes whatever there is: no whole frame, as a rule.
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
        let Some(field) = input.get(self.offset..self.end) else {
            return Decoded::more();
        };
        let value = self.read(field);
        // A number beyond 63 bits is negative whatever is then added to it.
        let length = match i64::try_from(value) {
            Ok(value) => value.checked_add(self.base),
            Err(_) => None,
        };
        match length.map(usize::try_from) {
            Some(Ok(length)) if (self.end..=self.max_frame).contains(&length) => {
                match input.get(..length) {
                    None => Decoded::more(),
                    Some(frame) => match frame.get(self.strip..) {
                        Some(frame) => Decoded::frame(length, frame),
                        None => Decoded::error(length, CORRUPT_STRIP),
                    },
                }
            }
            _ => self.refuse(value, input.len()),
        }
    }

    /// What is wrong with a length, and how much of the input it costs.
    #[cold]
    fn refuse<'a>(&mut self, value: u64, available: usize) -> Decoded<&'a [u8]> {
        let Ok(value) = i64::try_from(value) else {
            let length = value as i64;
            return Decoded::error(self.end, DecodeError::NegativeLength { length });
        };
        let length = i128::from(value) + i128::from(self.base);
        let is_negative = length < self.end as i128 || (self.wraps && length > i64::MAX as i128);
        if is_negative {
            return Decoded::error(self.end, CORRUPT_LENGTH);
        }
        // Two numbers of 63 bits at most: their sum has 64.
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.discard.begin(length, available, self.max_frame, self.fail_fast)
    }
}

const CORRUPT_LENGTH: DecodeError =
    DecodeError::Corrupt { reason: "the length is less than what the header takes" };

const CORRUPT_STRIP: DecodeError =
    DecodeError::Corrupt { reason: "the frame is shorter than what is stripped of it" };

impl Codec for LengthFieldCodec {
    type Frame<'a> = &'a [u8];
    type Item<'a> = &'a [u8];

    // Always inline: what is returned through memory costs more than what is done here.
    #[inline(always)]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<&'a [u8]> {
        // Nearly always the field and what is behind it are eight bytes: then one load will do.
        if !self.discard.is_active()
            && let Some(bytes) = input.get(self.offset..).and_then(|rest| rest.first_chunk())
        {
            let value = match self.little {
                true => u64::from_le_bytes(*bytes) << self.foreign_bits >> self.foreign_bits,
                false => u64::from_be_bytes(*bytes) >> self.foreign_bits,
            } as i64;
            let length = value.wrapping_add(self.base) as usize;
            if value >= self.least
                && value <= self.most
                && let Some(frame) = input.get(self.strip..length)
            {
                return Decoded::frame(length, frame);
            }
        }
        self.decode_other(input)
    }

    #[inline]
    fn encode<B: BufMut>(
        &mut self,
        item: &[u8],
        out: &mut B,
    ) -> std::result::Result<(), EncodeError> {
        let width = self.width();
        let too_short = |least: i128| EncodeError::TooShort {
            length: item.len(),
            least: u64::try_from(least).unwrap_or(u64::MAX),
        };
        let length = item.len() as i128 + width as i128;
        if item.len() < self.offset || length < self.strip as i128 {
            let least = self.offset.max(self.strip.saturating_sub(width));
            return Err(too_short(least as i128));
        }
        if length > self.max_frame as i128 {
            let (length, limit) = (length as u64, self.max_frame as u64);
            return Err(EncodeError::TooLong { length, limit });
        }
        let value = length - i128::from(self.base);
        let largest = largest_value(width);
        let Ok(value) = u64::try_from(value) else {
            return Err(too_short(i128::from(self.base) - width as i128));
        };
        if value > largest {
            return Err(EncodeError::TooLong { length: value, limit: largest });
        }
        let (header, body) = item.split_at(self.offset);
        out.put_slice(header);
        match self.little {
            true => out.put_slice(&value.to_le_bytes()[..width]),
            false => out.put_slice(&value.to_be_bytes()[8 - width..]),
        }
        out.put_slice(body);
        Ok(())
    }

    fn is_within_frame(&self) -> bool {
        self.discard.is_active()
    }
}

/// The largest number that a field holds; the widest is signed.
fn largest_value(width: usize) -> u64 {
    match width {
        8 => i64::MAX as u64,
        width => (1 << (8 * width)) - 1,
    }
}

/// The settings of a [`LengthFieldCodec`]; see there for the picture.
#[derive(Debug, Clone)]
#[must_use]
pub struct LengthFieldCodecBuilder {
    width: usize,
    byte_order: ByteOrder,
    offset: usize,
    adjustment: i64,
    includes_itself: bool,
    strip: Option<usize>,
    max_frame: usize,
    fail_fast: bool,
    netty_compatible: bool,
}

impl LengthFieldCodecBuilder {
    /// The length field's bytes: 1, 2, 3, 4 or 8. Default: 4. The number in it is unsigned, but
    /// in 8 bytes, where it is signed.
    #[doc(alias = "lengthFieldLength")]
    pub fn width(mut self, bytes: usize) -> Self {
        self.width = bytes;
        self
    }

    /// The order of the length field's bytes. Default: big-endian.
    pub fn byte_order(mut self, order: ByteOrder) -> Self {
        self.byte_order = order;
        self
    }

    /// Bytes of header in front of the length field. Default: 0.
    #[doc(alias = "lengthFieldOffset")]
    pub fn offset(mut self, bytes: usize) -> Self {
        self.offset = bytes;
        self
    }

    /// What has to be added to the number in the field to get the bytes behind the field. May be
    /// negative. Default: 0.
    #[doc(alias = "lengthAdjustment")]
    pub fn adjustment(mut self, bytes: i64) -> Self {
        self.adjustment = bytes;
        self
    }

    /// Whether the number in the field counts the field's own bytes too. Default: no.
    #[doc(alias = "lengthIncludesLengthFieldLength")]
    pub fn length_includes_itself(mut self, yes: bool) -> Self {
        self.includes_itself = yes;
        self
    }

    /// Bytes to take off the front of each frame. Default: everything up to the end of the length
    /// field. 0 keeps the header.
    #[doc(alias = "initialBytesToStrip")]
    pub fn strip(mut self, bytes: usize) -> Self {
        self.strip = Some(bytes);
        self
    }

    /// The limit of a frame, in bytes, with its header, also where that is stripped. Default:
    /// [`DEFAULT_MAX_FRAME`]. A frame has to fit the option
    /// [`max_unconsumed_input`](crate::Server::max_unconsumed_input) as well.
    #[doc(alias = "maxFrameLength")]
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

    /// Computes with the overflows of netty 4: a length beyond 64 bits is corrupt instead of too
    /// long. `docs/codecs.md` lists the differences. Default: no.
    pub fn netty_compatible(mut self, yes: bool) -> Self {
        self.netty_compatible = yes;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option), naming the setting and what is wrong with it.
    pub fn build(self) -> Result<LengthFieldCodec> {
        let Self { width, offset, max_frame, .. } = self;
        check(matches!(width, 1..=4 | 8), "width", || {
            format!("must be 1, 2, 3, 4 or 8 bytes, not {width}")
        })?;
        check((1..=LARGEST_LIMIT).contains(&max_frame), "max_frame", || {
            format!("must be between 1 and {LARGEST_LIMIT} bytes, not {max_frame}")
        })?;
        let end = offset.checked_add(width).filter(|end| *end <= max_frame);
        check(end.is_some(), "offset", || {
            format!("a length field behind {offset} bytes does not fit max_frame, {max_frame}")
        })?;
        let end = end.unwrap_or(max_frame);
        let strip = self.strip.unwrap_or(end);
        check(strip <= max_frame, "strip", || {
            format!("{strip} bytes are more than a frame can have, {max_frame}")
        })?;
        let own = if self.includes_itself { width as i64 } else { 0 };
        // `end` and `own` are at most 31 bits.
        let base = self.adjustment.checked_sub(own).and_then(|sum| sum.checked_add(end as i64));
        check(base.is_some(), "adjustment", || {
            format!("{} is beyond what 64 bits can compute with", self.adjustment)
        })?;
        let base = match (base.unwrap_or(0), self.netty_compatible) {
            (base, true) => i64::from(base as i32),
            (base, false) => base,
        };
        // Where the sum leaves 64 bits, no number is a whole frame.
        let (least, most) = match (end as i64).checked_sub(base) {
            Some(least) => (least.max(0), (max_frame as i64).saturating_sub(base)),
            None => (1, 0),
        };
        Ok(LengthFieldCodec {
            offset,
            end,
            base,
            least,
            most,
            foreign_bits: 64 - 8 * width as u32,
            strip,
            max_frame,
            little: self.byte_order == ByteOrder::Little,
            fail_fast: self.fail_fast,
            wraps: self.netty_compatible,
            discard: Discard::default(),
        })
    }
}
