//! [`TokioCodec`]: the codecs written for `tokio_util` as codecs of tightloop.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

use bytes::{BufMut, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::{Codec, Decoded};
use crate::error::{DecodeError, EncodeError};

/// A `tokio_util::codec::Decoder` and `Encoder<I>` as a [`Codec`]. Needs the feature `tokio-util`.
///
/// Such codecs own their input and their frames, so bytes are copied: once in, once out. Their
/// limits are their own; what they leave undecoded is limited by the option
/// [`max_unconsumed_input`](crate::Server::max_unconsumed_input). `decode_eof` is not called: what
/// the stream ends within is [`DecodeError::Incomplete`].
///
/// ```
/// use tightloop::codec::{Codec, Step, TokioCodec};
/// use tokio_util::codec::LinesCodec;
///
/// let mut codec = TokioCodec::<_, String>::new(LinesCodec::new_with_max_length(80));
/// let decoded = codec.decode(b"one\ntwo");
/// assert_eq!(decoded.consumed, 4);
/// assert!(matches!(decoded.step, Step::Frame(line) if line == "one"));
/// ```
pub struct TokioCodec<C: Decoder, I> {
    codec: C,
    /// A copy of the unconsumed input, without what the codec has taken of it already.
    buffer: BytesMut,
    /// How much of the unconsumed input was copied: `buffer.len()` and what the codec has taken.
    copied: usize,
    /// What the codec yielded from nothing but what it had taken before.
    ahead: Option<Result<C::Item, C::Error>>,
    item: PhantomData<fn(I)>,
}

impl<C: Decoder + Encoder<I>, I> TokioCodec<C, I> {
    /// A codec that decodes and encodes by `codec`.
    pub fn new(codec: C) -> Self {
        TokioCodec { codec, buffer: BytesMut::new(), copied: 0, ahead: None, item: PhantomData }
    }

    /// The codec itself.
    pub fn get_mut(&mut self) -> &mut C {
        &mut self.codec
    }
}

impl<C, I> Codec for TokioCodec<C, I>
where
    C: Decoder + Encoder<I>,
    <C as Decoder>::Error: Into<Box<dyn Error + Send + Sync>>,
    <C as Encoder<I>>::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Frame<'a> = C::Item;
    type Item<'a> = I;

    fn decode(&mut self, input: &[u8]) -> Decoded<C::Item> {
        if let Some(new) = input.get(self.copied..) {
            self.buffer.extend_from_slice(new);
            self.copied = input.len();
        }
        let result = match self.ahead.take() {
            Some(result) => result.map(Some),
            None => self.codec.decode(&mut self.buffer),
        };
        // A codec may yield several frames from what it has taken. To be asked for them it must
        // leave some input, so the last byte is given back only when there are no more.
        if self.buffer.is_empty() && matches!(result, Ok(Some(_))) {
            self.ahead = self.codec.decode(&mut self.buffer).transpose();
        }
        let taken = self.copied.saturating_sub(self.buffer.len());
        let consumed = taken.saturating_sub(usize::from(self.ahead.is_some()));
        self.copied -= consumed;
        if self.copied == 0 {
            // An idle connection holds no memory.
            self.buffer = BytesMut::new();
        }
        match result {
            Ok(Some(frame)) => Decoded::frame(consumed, frame),
            Ok(None) => Decoded::discard(consumed),
            Err(error) => Decoded::error(consumed, DecodeError::other(error)),
        }
    }

    fn encode<B: BufMut>(&mut self, item: I, out: &mut B) -> Result<(), EncodeError> {
        let mut encoded = BytesMut::new();
        self.codec.encode(item, &mut encoded).map_err(EncodeError::other)?;
        out.put_slice(&encoded);
        Ok(())
    }
}

impl<C: Decoder, I> fmt::Debug for TokioCodec<C, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioCodec").field("copied", &self.copied).finish_non_exhaustive()
    }
}
