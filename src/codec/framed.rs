//! [`Framed`]: a [`Handler`] out of a [`FrameHandler`] and its codecs.

use std::time::Duration;

use super::{Codec, FrameConn, FrameHandler, FramedState, Step};
use crate::conn::Conn;
use crate::conn::context::Context;
use crate::conn::datagram::Datagram;
use crate::conn::input::Input;
use crate::control::ServerHandle;
use crate::error::{CloseReason, DecodeError};
use crate::handler::{Action, Handler};

/// Runs a [`FrameHandler`]: decodes what each connection receives, and hands over the frames.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use tightloop::codec::LengthFieldCodec;
/// use tightloop::{Action, Conn, FrameConn, FrameHandler, Framed, Server};
///
/// /// Sends each frame back.
/// struct Echo(LengthFieldCodec);
///
/// impl FrameHandler for Echo {
///     type Codec = LengthFieldCodec;
///     type State = ();
///
///     fn codec(&mut self, _conn: &mut Conn<'_>) -> LengthFieldCodec {
///         self.0.clone()
///     }
///
///     fn on_open(&mut self, _conn: &mut FrameConn<'_, Self>) {}
///
///     fn on_frame(&mut self, conn: &mut FrameConn<'_, Self>, _: &mut (), frame: &[u8]) -> Action {
///         match conn.send(frame) {
///             Ok(()) => Action::Continue,
///             Err(_) => Action::Close,
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let codec = LengthFieldCodec::new(4)?;
/// let server =
///     Server::new().listen("tcp://127.0.0.1:0").start(move |_| Framed::new(Echo(codec.clone())))?;
///
/// let mut client = TcpStream::connect(server.local_addrs()[0].socket_addr().unwrap())?;
/// client.write_all(b"\0\0\0\x05hello\0\0\0\x05world")?;
/// let mut answer = [0; 18];
/// client.read_exact(&mut answer)?;
/// assert_eq!(&answer, b"\0\0\0\x05hello\0\0\0\x05world");
///
/// server.stop();
/// server.join()?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "WithCodec")]
#[derive(Debug, Clone, Default)]
pub struct Framed<H> {
    handler: H,
}

impl<H: FrameHandler> Framed<H> {
    /// A handler that hands frames to `handler`.
    pub fn new(handler: H) -> Self {
        Framed { handler }
    }

    /// The frame handler: for jobs from other threads, which are given the `Framed`.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Tells of what is no frame. Answers what to do, and whether the connection is closed.
    #[cold]
    fn refuse(
        &mut self,
        conn: &mut Conn<'_>,
        framed: &mut FramedState<H>,
        error: DecodeError,
    ) -> Option<Action> {
        let (mut frame_conn, state) = framed.with(conn);
        match self.handler.on_frame_error(&mut frame_conn, state, error) {
            Ok(action) => Some(action),
            Err(error) => {
                conn.close_for(CloseReason::Codec(error));
                None
            }
        }
    }

    #[inline]
    fn decode_all(
        &mut self,
        conn: &mut Conn<'_>,
        framed: &mut FramedState<H>,
        input: &mut Input<'_>,
    ) -> Action {
        let mut is_stuck = false;
        while !input.is_empty() {
            let decoded = framed.codec.decode(input.as_slice());
            input.consume(decoded.consumed);
            let action = match decoded.step {
                Step::More => return Action::Continue,
                Step::Frame(frame) => {
                    is_stuck = false;
                    let (mut conn, state) = framed.with(conn);
                    self.handler.on_frame(&mut conn, state, frame)
                }
                Step::Error(error) => {
                    let was_stuck = is_stuck;
                    is_stuck = decoded.consumed == 0;
                    if is_stuck && was_stuck {
                        conn.close_for(CloseReason::Codec(error));
                        return Action::Continue;
                    }
                    match self.refuse(conn, framed, error) {
                        Some(action) => action,
                        None => return Action::Continue,
                    }
                }
            };
            if action != Action::Continue || (!input.is_empty() && !conn.may_go_on()) {
                return action;
            }
        }
        Action::Continue
    }

    /// The error of a stream that ends now, if it ends within a frame; told once.
    fn unfinished(framed: &mut FramedState<H>) -> Option<DecodeError> {
        let buffered = framed.left;
        let is_within = buffered > 0 || framed.codec.is_within_frame();
        let is_news = !std::mem::replace(&mut framed.is_end_told, true);
        (is_within && is_news).then_some(DecodeError::Incomplete { buffered })
    }
}

impl<H: FrameHandler> Handler for Framed<H> {
    type State = FramedState<H>;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> FramedState<H> {
        let mut codec = self.handler.codec(conn);
        let state = self.handler.on_open(&mut FrameConn::new(conn, &mut codec));
        FramedState { codec, state, left: 0, is_end_told: false }
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        framed: &mut FramedState<H>,
        input: &mut Input<'_>,
    ) -> Action {
        let action = self.decode_all(conn, framed, input);
        framed.left = input.len();
        action
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, framed: &mut FramedState<H>) -> Action {
        if let Some(error) = Self::unfinished(framed) {
            match self.refuse(conn, framed, error) {
                Some(Action::Continue) => {}
                Some(action) => return action,
                None => return Action::Continue,
            }
        }
        let (mut conn, state) = framed.with(conn);
        self.handler.on_eof(&mut conn, state)
    }

    fn unfinished_frame(&mut self, framed: &mut FramedState<H>) -> Option<DecodeError> {
        Self::unfinished(framed)
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, framed: FramedState<H>, reason: CloseReason) {
        self.handler.on_close(conn, framed.state, reason);
    }

    fn on_boot(&mut self, server: &ServerHandle) -> Action {
        self.handler.on_boot(server)
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        self.handler.on_datagram(datagram)
    }

    fn pre_write(&mut self, conn: &mut Conn<'_>, framed: &mut FramedState<H>, pending: usize) {
        let (mut conn, state) = framed.with(conn);
        self.handler.pre_write(&mut conn, state, pending);
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, framed: &mut FramedState<H>) -> Action {
        let (mut conn, state) = framed.with(conn);
        self.handler.on_drain(&mut conn, state)
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, framed: &mut FramedState<H>) -> Action {
        let (mut conn, state) = framed.with(conn);
        self.handler.on_wake(&mut conn, state)
    }

    fn on_secured(&mut self, conn: &mut Conn<'_>, framed: &mut FramedState<H>) -> Action {
        let (mut conn, state) = framed.with(conn);
        self.handler.on_secured(&mut conn, state)
    }

    fn on_timer(&mut self, conn: &mut Conn<'_>, framed: &mut FramedState<H>) -> Action {
        let (mut conn, state) = framed.with(conn);
        self.handler.on_timer(&mut conn, state)
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        self.handler.on_tick(cx)
    }

    fn on_open_failed(&mut self, conn: &mut Conn<'_>, reason: CloseReason) {
        self.handler.on_open_failed(conn, reason);
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_, Self>) {
        self.handler.on_shutdown(cx);
    }
}
