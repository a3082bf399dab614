//! Framing: where one message ends and the next begins.
//!
//! A [`Codec`] turns bytes into frames and back. It does no I/O and knows no clock: bytes are its
//! arguments. [`Framed`] runs one codec a connection and calls a [`FrameHandler`].
//!
//! | codec | a frame is |
//! |---|---|
//! | [`LengthFieldCodec`] | a length field of 1, 2, 3, 4 or 8 bytes, somewhere in a header, and what it counts |
//! | [`VarintLengthCodec`] | a protobuf varint and so many bytes |
//! | [`LineCodec`] | the bytes before LF or CRLF, or before CRLF only |
//! | [`DelimiterCodec`] | the bytes before one of several delimiters |
//! | [`FixedLengthCodec`] | always the same number of bytes |
//! | [`AnyCodec`] | any of the above, chosen at run time |
//!
//! All of them lend their frames out of the input, look at each byte once however the input is
//! cut, and find the same frames and errors whichever way it is cut. Each has a limit, and no
//! setting takes it away; a bad setting is refused when the codec is built.
//!
//! ```
//! use tightloop::codec::{Codec, LineCodec, Step};
//!
//! let mut codec = LineCodec::builder().max_frame(80).build()?;
//! let mut input: &[u8] = b"one\r\ntwo\nthr";
//! let mut lines = Vec::new();
//! loop {
//!     let decoded = codec.decode(input);
//!     input = &input[decoded.consumed..];
//!     match decoded.step {
//!         Step::Frame(line) => lines.push(line),
//!         Step::More => break,
//!         Step::Error(error) => panic!("{error}"),
//!     }
//! }
//! assert_eq!(lines, [&b"one"[..], b"two"]);
//! assert_eq!(input, b"thr"); // stays where it is until more has come
//! # Ok::<(), tightloop::Error>(())
//! ```

use bytes::{BufMut, Bytes, BytesMut};

pub use crate::error::{DecodeError, EncodeError};
pub use any::AnyCodec;
pub use delimiter::{DelimiterCodec, DelimiterCodecBuilder};
pub use fixed_length::FixedLengthCodec;
pub use frame_conn::{FrameConn, FramedState};
pub use frame_handler::FrameHandler;
pub use framed::Framed;
pub use length_field::{ByteOrder, LengthFieldCodec, LengthFieldCodecBuilder};
pub use line::{LineCodec, LineCodecBuilder, LineEnding};
#[cfg(feature = "tokio-util")]
pub use tokio::TokioCodec;
pub use varint::{VarintLengthCodec, VarintLengthCodecBuilder};

mod any;
mod delimiter;
mod discard;
mod fixed_length;
mod frame_conn;
mod frame_handler;
mod framed;
mod length_field;
mod line;
mod search;
mod terminated;
#[cfg(feature = "tokio-util")]
mod tokio;
mod varint;

#[cfg(test)]
mod tests;

/// The limit of a codec for which none was set, in bytes: 1 MiB, far more than most protocols
/// send in one frame, and what ten thousand connections at a time can still be granted.
pub const DEFAULT_MAX_FRAME: usize = 1 << 20;

/// The highest limit that a codec accepts, in bytes: 2 GiB less one.
const LARGEST_LIMIT: usize = i32::MAX as usize;

/// Finds frames in bytes, and puts them into bytes. One value serves one connection: it remembers
/// where in the input it is.
///
/// A codec of one's own implements [`decode`](Codec::decode) and [`encode`](Codec::encode);
/// `examples/codec_custom.rs` shows one that has a header with several fields; this one has a byte that
/// tells the length:
///
/// ```
/// use bytes::BufMut;
/// use tightloop::codec::{Codec, Decoded};
/// use tightloop::EncodeError;
///
/// struct Short;
///
/// impl Codec for Short {
///     type Frame<'a> = &'a [u8];
///     type Item<'a> = &'a [u8];
///
///     fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<&'a [u8]> {
///         let end = 1 + usize::from(input[0]);
///         match input.get(1..end) {
///             Some(frame) => Decoded::frame(end, frame),
///             None => Decoded::more(),
///         }
///     }
///
///     fn encode<B: BufMut>(&mut self, item: &[u8], out: &mut B) -> Result<(), EncodeError> {
///         let too_long = EncodeError::TooLong { length: item.len() as u64, limit: 255 };
///         out.put_u8(u8::try_from(item.len()).map_err(|_| too_long)?);
///         out.put_slice(item);
///         Ok(())
///     }
/// }
///
/// let bytes = Short.encode_to_bytes(b"hi")?;
/// assert_eq!(bytes, &b"\x02hi"[..]);
/// assert_eq!(Short.decode(&bytes).consumed, 3);
/// # Ok::<(), EncodeError>(())
/// ```
#[doc(alias = "ICodec")]
pub trait Codec {
    /// What is decoded: borrowed from the input, so that nothing is copied.
    type Frame<'a>;

    /// What is encoded.
    type Item<'a>;

    /// Looks for the next frame at the beginning of `input`, which is not empty.
    ///
    /// The caller then takes [`consumed`](Decoded::consumed) bytes off the input, and calls again
    /// at once unless the answer was [`Step::More`]. After that answer it calls when more has
    /// come, with the bytes that were not consumed and the new ones behind them: a codec may
    /// remember how far it has looked.
    ///
    /// - A codec that has something left to yield leaves at least one byte unconsumed.
    /// - `More` may consume, when bytes are to be dropped; what it leaves is offered again.
    /// - After an error decoding goes on behind what it consumed. Two errors in a row that consume
    ///   nothing end the connection.
    /// - It allocates no more than its limit, and never panics, whatever the input.
    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<Self::Frame<'a>>;

    /// Appends `item` as a frame to `out`, for instance a [`Writer`](crate::Writer).
    ///
    /// # Errors
    /// What the peer would not decode to the same item is refused, before the first byte is
    /// written.
    fn encode<B: BufMut>(&mut self, item: Self::Item<'_>, out: &mut B) -> Result<(), EncodeError>;

    /// Whether bytes of a frame that has not ended yet were consumed: they are being dropped. The
    /// end of the stream is then within a frame though no input is left over.
    fn is_within_frame(&self) -> bool {
        false
    }

    /// Encodes once what is then sent many times, or from another thread, by
    /// [`ConnHandle::write`](crate::ConnHandle::write) or
    /// [`ServerHandle::broadcast`](crate::ServerHandle::broadcast), which share the bytes.
    ///
    /// ```
    /// use tightloop::codec::{Codec, LengthFieldCodec};
    ///
    /// let frame = LengthFieldCodec::new(4)?.encode_to_bytes(b"hello")?;
    /// assert_eq!(frame, &b"\0\0\0\x05hello"[..]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`encode`](Codec::encode).
    fn encode_to_bytes(&mut self, item: Self::Item<'_>) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::new();
        self.encode(item, &mut out)?;
        Ok(out.freeze())
    }
}

/// What [`Codec::decode`] found.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_structs,
    reason = "the whole contract of decode: a codec may take it apart"
)]
pub struct Decoded<F> {
    /// How many bytes of the input are done with.
    pub consumed: usize,
    /// What they were.
    pub step: Step<F>,
}

/// One step of decoding.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the whole contract of decode")]
pub enum Step<F> {
    /// A frame.
    Frame(F),
    /// Nothing can be told before more bytes have come.
    More,
    /// No frame. Decoding goes on behind what was consumed.
    Error(DecodeError),
}

impl<F> Decoded<F> {
    /// A frame that took `consumed` bytes of the input, its header included.
    #[inline]
    pub fn frame(consumed: usize, frame: F) -> Self {
        Decoded { consumed, step: Step::Frame(frame) }
    }

    /// More bytes are needed, and none of these is dropped.
    #[inline]
    pub fn more() -> Self {
        Decoded { consumed: 0, step: Step::More }
    }

    /// More bytes are needed, and the first `consumed` of these are dropped.
    #[inline]
    pub fn discard(consumed: usize) -> Self {
        Decoded { consumed, step: Step::More }
    }

    /// `error`, to be followed by decoding what is behind the first `consumed` bytes.
    #[inline]
    pub fn error(consumed: usize, error: DecodeError) -> Self {
        Decoded { consumed, step: Step::Error(error) }
    }

    /// The same, found `dropped` bytes further on in the input.
    #[inline]
    fn after(mut self, dropped: usize) -> Self {
        self.consumed += dropped;
        self
    }
}

/// Refuses a setting unless it `holds`.
fn check(
    holds: bool,
    name: &'static str,
    reason: impl FnOnce() -> String,
) -> crate::error::Result<()> {
    match holds {
        true => Ok(()),
        false => Err(crate::error::Error::Option { name, reason: reason() }),
    }
}
