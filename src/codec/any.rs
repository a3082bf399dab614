//! [`AnyCodec`]: one of the built-in codecs, chosen at run time.

use bytes::BufMut;

use super::{
    Codec, Decoded, DelimiterCodec, FixedLengthCodec, LengthFieldCodec, LineCodec,
    VarintLengthCodec,
};
use crate::error::EncodeError;

/// Any of the built-in codecs: for a framing that is configured, and for protocols that change
/// theirs in mid-stream, by [`FrameConn::switch_codec`](super::FrameConn::switch_codec).
///
/// ```
/// use tightloop::codec::{AnyCodec, Codec, LengthFieldCodec, LineCodec, Step};
///
/// let mut codec = AnyCodec::from(LineCodec::new(100)?);
/// let decoded = codec.decode(b"UPGRADE\n\0\x02hi");
/// assert!(matches!(decoded.step, Step::Frame(b"UPGRADE")));
/// codec = LengthFieldCodec::new(2)?.into();
/// assert!(matches!(codec.decode(b"\0\x02hi").step, Step::Frame(b"hi")));
/// # Ok::<(), tightloop::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AnyCodec {
    /// A length in front of each frame.
    LengthField(LengthFieldCodec),
    /// A length in as many bytes as it needs in front of each frame.
    VarintLength(VarintLengthCodec),
    /// Lines of text.
    Line(LineCodec),
    /// Delimiters of one's own behind each frame.
    Delimiter(DelimiterCodec),
    /// Frames of equal length.
    FixedLength(FixedLengthCodec),
}

macro_rules! each {
    ($self:ident, $codec:ident => $call:expr) => {
        match $self {
            AnyCodec::LengthField($codec) => $call,
            AnyCodec::VarintLength($codec) => $call,
            AnyCodec::Line($codec) => $call,
            AnyCodec::Delimiter($codec) => $call,
            AnyCodec::FixedLength($codec) => $call,
        }
    };
}

impl Codec for AnyCodec {
    type Frame<'a> = &'a [u8];
    type Item<'a> = &'a [u8];

    #[inline]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<&'a [u8]> {
        each!(self, codec => codec.decode(input))
    }

    fn encode<B: BufMut>(&mut self, item: &[u8], out: &mut B) -> Result<(), EncodeError> {
        each!(self, codec => codec.encode(item, out))
    }

    fn is_within_frame(&self) -> bool {
        each!(self, codec => codec.is_within_frame())
    }
}

impl From<LengthFieldCodec> for AnyCodec {
    fn from(codec: LengthFieldCodec) -> Self {
        AnyCodec::LengthField(codec)
    }
}

impl From<VarintLengthCodec> for AnyCodec {
    fn from(codec: VarintLengthCodec) -> Self {
        AnyCodec::VarintLength(codec)
    }
}

impl From<LineCodec> for AnyCodec {
    fn from(codec: LineCodec) -> Self {
        AnyCodec::Line(codec)
    }
}

impl From<DelimiterCodec> for AnyCodec {
    fn from(codec: DelimiterCodec) -> Self {
        AnyCodec::Delimiter(codec)
    }
}

impl From<FixedLengthCodec> for AnyCodec {
    fn from(codec: FixedLengthCodec) -> Self {
        AnyCodec::FixedLength(codec)
    }
}
