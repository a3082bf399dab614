//! [`FrameConn`]: a connection as callbacks with frames see it, and [`FramedState`], what is kept
//! for it.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::{Codec, FrameHandler};
use crate::conn::Conn;
use crate::conn::id::ConnId;
use crate::error::EncodeError;
use crate::workers::{JobPanic, SpawnError};

type Item<'a, H> = <<H as FrameHandler>::Codec as Codec>::Item<'a>;

/// A connection with its codec, lent for the time of one callback.
///
/// It dereferences to [`Conn`], whose methods it has: addresses, closing, pausing, timers, peers.
/// [`Conn::write`] writes bytes past the codec.
///
/// ```
/// use tightloop::codec::LineCodec;
/// use tightloop::{Action, Conn, FrameConn, FrameHandler};
///
/// /// Answers each line, and ends on `quit`.
/// struct Lines(LineCodec);
///
/// impl FrameHandler for Lines {
///     type Codec = LineCodec;
///     type State = ();
///
///     fn codec(&mut self, _: &mut Conn<'_>) -> LineCodec {
///         self.0.clone()
///     }
///
///     fn on_open(&mut self, conn: &mut FrameConn<'_, Self>) {
///         let _ = conn.send(b"hello");
///     }
///
///     fn on_frame(&mut self, conn: &mut FrameConn<'_, Self>, _: &mut (), line: &[u8]) -> Action {
///         match conn.send(line) {
///             Ok(()) if line != b"quit" => Action::Continue,
///             _ => Action::Close,
///         }
///     }
/// }
/// ```
pub struct FrameConn<'a, H: FrameHandler> {
    conn: Conn<'a>,
    codec: &'a mut H::Codec,
}

impl<'a, H: FrameHandler> FrameConn<'a, H> {
    #[inline]
    pub(super) fn new(conn: &'a mut Conn<'_>, codec: &'a mut H::Codec) -> Self {
        FrameConn { conn: conn.reborrow(), codec }
    }

    /// Encodes `item` straight into the connection's output. After a close or
    /// [`shutdown_write`](Conn::shutdown_write) it is dropped.
    ///
    /// # Errors
    /// The codec's; nothing was written then.
    #[inline]
    pub fn send(&mut self, item: Item<'_, H>) -> Result<(), EncodeError> {
        match self.conn.writer() {
            Some(mut writer) => self.codec.encode(item, &mut writer),
            None => Ok(()),
        }
    }

    /// As [`send`](FrameConn::send), to another connection of the same loop, by this connection's
    /// codec. Whether there was such a connection.
    ///
    /// # Errors
    /// The codec's; nothing was written then.
    pub fn send_to_peer(&mut self, peer: ConnId, item: Item<'_, H>) -> Result<bool, EncodeError> {
        let Some(mut peer) = self.conn.peer(peer) else {
            return Ok(false);
        };
        match peer.writer() {
            Some(mut writer) => self.codec.encode(item, &mut writer).map(|()| true),
            None => Ok(false),
        }
    }

    /// The connection's codec. For frames that go to many connections, or are sent by other
    /// threads through a [`handle`](Conn::handle), use its
    /// [`encode_to_bytes`](Codec::encode_to_bytes).
    pub fn codec_mut(&mut self) -> &mut H::Codec {
        self.codec
    }

    /// Replaces the codec in mid-stream, and returns the old one. The next frame is decoded by the
    /// new codec, from the first byte that the old one did not consume; what was sent is sent.
    /// Where the old and the new one are of different types, the handler's codec is an enum such
    /// as [`AnyCodec`](super::AnyCodec).
    pub fn switch_codec(&mut self, codec: impl Into<H::Codec>) -> H::Codec {
        self.conn.offer_again();
        std::mem::replace(self.codec, codec.into())
    }

    /// Runs `job`, which may block and owns what it needs, on the worker pool; then `done` on this
    /// loop, if the connection still lives. See [`Conn::spawn`].
    ///
    /// Frames that follow are handed over in the meantime, so that answers may overtake each
    /// other: where that matters, [`pause_reading`](Conn::pause_reading) first, and
    /// [`resume_reading`](Conn::resume_reading) in `done`.
    ///
    /// # Errors
    /// As [`Conn::spawn`].
    pub fn spawn<R, J, D>(&mut self, job: J, done: D) -> Result<(), SpawnError<(J, D)>>
    where
        R: Send + 'static,
        J: FnOnce() -> R + Send + 'static,
        D: FnOnce(&mut FrameConn<'_, H>, &mut H::State, Result<R, JobPanic>) + Send + 'static,
    {
        self.conn.spawn_for(job, done, |done: D, conn, state: &mut FramedState<H>, result| {
            let (mut conn, state) = state.with(conn);
            done(&mut conn, state, result);
        })
    }
}

impl<'a, H: FrameHandler> Deref for FrameConn<'a, H> {
    type Target = Conn<'a>;

    fn deref(&self) -> &Conn<'a> {
        &self.conn
    }
}

impl<'a, H: FrameHandler> DerefMut for FrameConn<'a, H> {
    fn deref_mut(&mut self) -> &mut Conn<'a> {
        &mut self.conn
    }
}

impl<H: FrameHandler> fmt::Debug for FrameConn<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.conn.fmt(f)
    }
}

/// What [`Framed`](super::Framed) keeps for a connection: its codec, and the frame handler's state.
pub struct FramedState<H: FrameHandler> {
    pub(super) codec: H::Codec,
    pub(super) state: H::State,
    /// Input that the last call left over. When the peer has closed: of an unfinished frame.
    pub(super) left: usize,
    /// Whether the handler was told, if there was reason, that the stream ended within a frame.
    pub(super) is_end_told: bool,
}

impl<H: FrameHandler> FramedState<H> {
    /// The connection with its codec, and the frame handler's state: for jobs that reach
    /// connections by [`Context::conn`](crate::Context::conn) or
    /// [`for_each`](crate::Context::for_each).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tightloop::codec::LineCodec;
    /// use tightloop::{Action, Conn, Context, FrameConn, FrameHandler, Framed};
    ///
    /// struct Ticker;
    ///
    /// impl FrameHandler for Ticker {
    ///     type Codec = LineCodec;
    ///     type State = u64;
    /// #   fn codec(&mut self, _conn: &mut Conn<'_>) -> LineCodec { LineCodec::new(80).unwrap() }
    /// #   fn on_open(&mut self, _conn: &mut FrameConn<'_, Self>) -> u64 { 0 }
    /// #   fn on_frame(&mut self, _: &mut FrameConn<'_, Self>, _: &mut u64, _: &[u8]) -> Action {
    /// #       Action::Continue
    /// #   }
    ///     // ...
    ///     fn on_tick(&mut self, cx: &mut Context<'_, Framed<Self>>) -> Option<Duration> {
    ///         cx.for_each(|conn, framed| {
    ///             let (mut conn, ticks) = framed.with(conn);
    ///             *ticks += 1;
    ///             conn.send(ticks.to_string().as_bytes()).expect("a number is a line");
    ///         });
    ///         Some(Duration::from_secs(1))
    ///     }
    /// }
    /// ```
    pub fn with<'a>(&'a mut self, conn: &'a mut Conn<'_>) -> (FrameConn<'a, H>, &'a mut H::State) {
        (FrameConn::new(conn, &mut self.codec), &mut self.state)
    }
}

impl<H: FrameHandler> fmt::Debug for FramedState<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedState").field("left", &self.left).finish_non_exhaustive()
    }
}
