//! [`FixedLengthCodec`]: frames of one length.

use bytes::BufMut;

use super::{Codec, Decoded, LARGEST_LIMIT, check};
use crate::error::{EncodeError, Result};

/// Frames that all have the same number of bytes.
///
/// ```
/// use tightloop::codec::{Codec, FixedLengthCodec, Step};
///
/// let mut codec = FixedLengthCodec::new(3)?;
/// assert!(matches!(codec.decode(b"abcdef").step, Step::Frame(b"abc")));
/// assert!(codec.encode_to_bytes(b"four").is_err());
/// # Ok::<(), tightloop::Error>(())
/// ```
#[doc(alias = "FixedLengthFrameDecoder")]
#[doc(alias = "FixedLengthFrameCodec")]
#[derive(Debug, Clone)]
pub struct FixedLengthCodec {
    frame_length: usize,
}

impl FixedLengthCodec {
    /// Frames of `frame_length` bytes.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) for a length that is 0 or above 2 GiB.
    pub fn new(frame_length: usize) -> Result<Self> {
        check((1..=LARGEST_LIMIT).contains(&frame_length), "frame_length", || {
            format!("must be between 1 and {LARGEST_LIMIT} bytes, not {frame_length}")
        })?;
        Ok(FixedLengthCodec { frame_length })
    }
}

impl Codec for FixedLengthCodec {
    type Frame<'a> = &'a [u8];
    type Item<'a> = &'a [u8];

    #[inline(always)]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<&'a [u8]> {
        match input.get(..self.frame_length) {
            Some(frame) => Decoded::frame(self.frame_length, frame),
            None => Decoded::more(),
        }
    }

    #[inline]
    fn encode<B: BufMut>(
        &mut self,
        item: &[u8],
        out: &mut B,
    ) -> std::result::Result<(), EncodeError> {
        if item.len() != self.frame_length {
            let (length, expected) = (item.len(), self.frame_length);
            return Err(EncodeError::WrongLength { length, expected });
        }
        out.put_slice(item);
        Ok(())
    }
}
