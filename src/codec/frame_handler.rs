//! [`FrameHandler`]: the contract with users of frames.

use std::time::Duration;

use super::{Codec, FrameConn, Framed};
use crate::conn::Conn;
use crate::conn::context::Context;
use crate::conn::datagram::Datagram;
use crate::control::ServerHandle;
use crate::error::{CloseReason, DecodeError};
use crate::handler::Action;

/// A protocol in frames: [`Handler`](crate::Handler) with [`on_frame`](FrameHandler::on_frame) in place of
/// `on_traffic`, and a codec for each connection. [`Framed`] makes a handler of it.
///
/// The methods that are not explained here are those of [`Handler`](crate::Handler).
pub trait FrameHandler: Sized + 'static {
    /// Finds the frames. A connection has one of its own.
    type Codec: Codec + 'static;

    /// What is kept for each connection, beside its codec.
    type State: 'static;

    /// Makes the codec of a connection that is opening, before [`on_open`](FrameHandler::on_open).
    /// Settings are best checked once, before the server starts: keep a codec in the handler, and
    /// clone it.
    fn codec(&mut self, conn: &mut Conn<'_>) -> Self::Codec;

    /// See [`Handler::on_open`](crate::Handler::on_open).
    fn on_open(&mut self, conn: &mut FrameConn<'_, Self>) -> Self::State;

    /// A frame, lent for the time of the call. All frames that have come are handed over one
    /// behind the other, until the handler closes or pauses reading, or its pending output is
    /// above the high watermark; the others then wait.
    #[doc(alias = "React")]
    fn on_frame(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        state: &mut Self::State,
        frame: <Self::Codec as Codec>::Frame<'_>,
    ) -> Action;

    /// What the peer sent is no frame. `Err`, the default, closes the connection with
    /// [`CloseReason::Codec`], when what was written has been delivered. `Ok` goes on behind the
    /// bad frame: the codec has dropped it, or drops it as it comes in.
    ///
    /// # Errors
    /// The error, to close with it as the reason.
    ///
    /// ```
    /// use tightloop::codec::LineCodec;
    /// use tightloop::{Action, Conn, DecodeError, FrameConn, FrameHandler};
    ///
    /// struct Shell;
    ///
    /// impl FrameHandler for Shell {
    ///     type Codec = LineCodec;
    ///     type State = ();
    ///
    ///     fn codec(&mut self, _conn: &mut Conn<'_>) -> LineCodec {
    ///         LineCodec::new(80).expect("a limit that is accepted")
    ///     }
    ///     fn on_open(&mut self, _conn: &mut FrameConn<'_, Self>) {}
    ///     fn on_frame(&mut self, _: &mut FrameConn<'_, Self>, _: &mut (), _: &[u8]) -> Action {
    ///         Action::Continue
    ///     }
    ///     fn on_frame_error(
    ///         &mut self,
    ///         conn: &mut FrameConn<'_, Self>,
    ///         _state: &mut (),
    ///         error: DecodeError,
    ///     ) -> Result<Action, DecodeError> {
    ///         match error {
    ///             DecodeError::TooLong { .. } => {
    ///                 conn.write(b"line too long, ignored\n");
    ///                 Ok(Action::Continue)
    ///             }
    ///             error => Err(error),
    ///         }
    ///     }
    /// }
    /// ```
    fn on_frame_error(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        state: &mut Self::State,
        error: DecodeError,
    ) -> Result<Action, DecodeError> {
        let _ = (conn, state);
        Err(error)
    }

    /// See [`Handler::on_boot`](crate::Handler::on_boot).
    fn on_boot(&mut self, server: &ServerHandle) -> Action {
        let _ = server;
        Action::Continue
    }

    /// See [`Handler::on_datagram`](crate::Handler::on_datagram). Datagrams do not go through the codec.
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        let _ = datagram;
        Action::Continue
    }

    /// See [`Handler::pre_write`](crate::Handler::pre_write).
    fn pre_write(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        state: &mut Self::State,
        pending: usize,
    ) {
        let _ = (conn, state, pending);
    }

    /// See [`Handler::on_drain`](crate::Handler::on_drain).
    fn on_drain(&mut self, conn: &mut FrameConn<'_, Self>, state: &mut Self::State) -> Action {
        let _ = (conn, state);
        Action::Continue
    }

    /// See [`Handler::on_eof`](crate::Handler::on_eof). Where the stream ends within a frame,
    /// [`on_frame_error`](FrameHandler::on_frame_error) is called before, with
    /// [`DecodeError::Incomplete`], and this only if that answers `Ok`.
    fn on_eof(&mut self, conn: &mut FrameConn<'_, Self>, state: &mut Self::State) -> Action {
        let _ = (conn, state);
        Action::Close
    }

    /// See [`Handler::on_wake`](crate::Handler::on_wake).
    fn on_wake(&mut self, conn: &mut FrameConn<'_, Self>, state: &mut Self::State) -> Action {
        let _ = (conn, state);
        Action::Continue
    }

    /// See [`Handler::on_secured`](crate::Handler::on_secured).
    fn on_secured(&mut self, conn: &mut FrameConn<'_, Self>, state: &mut Self::State) -> Action {
        let _ = (conn, state);
        Action::Continue
    }

    /// See [`Handler::on_timer`](crate::Handler::on_timer).
    fn on_timer(&mut self, conn: &mut FrameConn<'_, Self>, state: &mut Self::State) -> Action {
        let _ = (conn, state);
        Action::Continue
    }

    /// See [`Handler::on_tick`](crate::Handler::on_tick). Connections come with their
    /// [`FramedState`](super::FramedState), which leads to [`FrameConn`] and the state.
    fn on_tick(&mut self, cx: &mut Context<'_, Framed<Self>>) -> Option<Duration> {
        let _ = cx;
        None
    }

    /// See [`Handler::on_close`](crate::Handler::on_close). A peer that closes within a frame is told as
    /// [`CloseReason::Codec`] with [`DecodeError::Incomplete`].
    fn on_close(&mut self, conn: &mut Conn<'_>, state: Self::State, reason: CloseReason) {
        let _ = (conn, state, reason);
    }

    /// See [`Handler::on_open_failed`](crate::Handler::on_open_failed).
    fn on_open_failed(&mut self, conn: &mut Conn<'_>, reason: CloseReason) {
        let _ = (conn, reason);
    }

    /// See [`Handler::on_shutdown`](crate::Handler::on_shutdown).
    fn on_shutdown(&mut self, cx: &mut Context<'_, Framed<Self>>) {
        let _ = cx;
    }
}
