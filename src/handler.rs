//! The contract with the user: [`Handler`], what its callbacks answer ([`Action`]), and what its
//! factory is told ([`LoopInfo`]).

use std::time::Duration;

use crate::conn::Conn;
use crate::conn::context::Context;
use crate::conn::datagram::Datagram;
use crate::conn::input::Input;
use crate::control::ServerHandle;
use crate::error::{CloseReason, DecodeError};
use crate::options::driver::{Driver, DriverFallback};

/// What the loop does after a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "adapters around a handler have to know all")]
pub enum Action {
    /// Go on.
    #[default]
    #[doc(alias = "None")]
    Continue,
    /// Deliver what was written, then close this connection. Input that was not consumed is
    /// dropped, and the handler gets no more of it.
    Close,
    /// Stop the whole server, as [`ServerHandle::stop`] does: what was written is delivered.
    Shutdown,
}

/// What a handler's factory is told about the loop it makes a handler for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopInfo {
    /// The loop's index, from 0.
    pub index: usize,
    /// How many loops the server has.
    pub loop_count: usize,
    /// How the loop speaks to the kernel: never `Auto`, but what came of it.
    pub driver: Driver,
    /// Why that is not what would have been preferred.
    pub fallback: Option<DriverFallback>,
}

/// A protocol: what happens when connections open, bytes arrive, timers fire.
///
/// Each event loop has one value of its own, made by the factory given to
/// [`Server::run`](crate::Server::run), and calls it from its own thread only: a handler needs no
/// lock and may be `!Send`. While a callback runs, the loop's other connections wait: work that
/// blocks goes to [`Conn::spawn`].
///
/// Whatever a callback writes is sent when it returns; nothing re-enters the handler.
///
/// ```
/// use tightloop::{Action, Conn, Handler, Input};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     type State = ();
///
///     fn on_open(&mut self, _conn: &mut Conn<'_>) {}
///
///     fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
///         conn.write(input.take_all());
///         Action::Continue
///     }
/// }
/// ```
#[doc(alias = "EventHandler")]
#[doc(alias = "EventServer")]
#[doc(alias = "BuiltinEventEngine")]
pub trait Handler: Sized + 'static {
    /// What is kept for each connection: made by [`on_open`](Handler::on_open), lent to every
    /// callback, given back by [`on_close`](Handler::on_close).
    #[doc(alias = "Context")]
    #[doc(alias = "SetContext")]
    type State: 'static;

    /// Once a loop, on its thread, when it is ready to serve and before its first event.
    /// [`Action::Shutdown`] refuses: the server ends without having served, and `run` returns
    /// `Ok`. `Close` means nothing here.
    #[doc(alias = "OnInitComplete")]
    #[doc(alias = "OnBoot")]
    fn on_boot(&mut self, server: &ServerHandle) -> Action {
        let _ = server;
        Action::Continue
    }

    /// A connection was accepted, connected or adopted. Makes its state. May write (a greeting
    /// leaves when the callback returns), [`close`](Conn::close) it, or
    /// [`stop the server`](Conn::stop_server).
    #[doc(alias = "OnOpened")]
    #[doc(alias = "OnOpen")]
    fn on_open(&mut self, conn: &mut Conn<'_>) -> Self::State;

    /// There are bytes. What is not consumed is kept and offered again: at once, as long as a
    /// call consumed something and bytes remain, and otherwise, in front of the new bytes, when
    /// more arrive. A handler can so take one message a call, or all of them in a loop.
    #[doc(alias = "React")]
    #[doc(alias = "OnTraffic")]
    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        state: &mut Self::State,
        input: &mut Input<'_>,
    ) -> Action;

    /// A UDP packet arrived, whole. `Close` means nothing here.
    #[doc(alias = "React")]
    #[doc(alias = "OnTraffic")]
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>) -> Action {
        let _ = datagram;
        Action::Continue
    }

    /// `pending` bytes (more than zero) are about to be given to the socket: called before every
    /// write to it. What is written here leaves together with them.
    #[doc(alias = "PreWrite")]
    fn pre_write(&mut self, conn: &mut Conn<'_>, state: &mut Self::State, pending: usize) {
        let _ = (conn, state, pending);
    }

    /// Pending output fell to the low watermark after having passed the high one: it is time to
    /// write again. At most once a turn of the loop. Not where the output is gone because the peer
    /// takes no more: then `on_close` is near.
    fn on_drain(&mut self, conn: &mut Conn<'_>, state: &mut Self::State) -> Action {
        let _ = (conn, state);
        Action::Continue
    }

    /// The peer closed its sending side (FIN); no more input will come. Called only where the
    /// option [`half_close`](crate::Server::half_close) is on: without it, the connection closes
    /// once what is pending is delivered. Unconsumed input was offered before. The answer
    /// `Continue` keeps the connection open for writing; `Close` goes along with the peer, and is
    /// told to `on_close` as [`CloseReason::PeerClosed`].
    fn on_eof(&mut self, conn: &mut Conn<'_>, state: &mut Self::State) -> Action {
        let _ = (conn, state);
        Action::Close
    }

    /// The TLS handshake that `Conn::start_tls` (feature `tls`) began is done; what was written since
    /// is sent now, encrypted. Not called for listeners and endpoints with `tls://`,
    /// whose handshake is done before [`on_open`](Handler::on_open).
    fn on_secured(&mut self, conn: &mut Conn<'_>, state: &mut Self::State) -> Action {
        let _ = (conn, state);
        Action::Continue
    }

    /// Somebody called [`ConnHandle::wake`](crate::ConnHandle::wake) for this connection. Wakes
    /// are not merged: one call each.
    #[doc(alias = "Wake")]
    fn on_wake(&mut self, conn: &mut Conn<'_>, state: &mut Self::State) -> Action {
        let _ = (conn, state);
        Action::Continue
    }

    /// The connection's timer, set by [`Conn::set_timer`], is due.
    fn on_timer(&mut self, conn: &mut Conn<'_>, state: &mut Self::State) -> Action {
        let _ = (conn, state);
        Action::Continue
    }

    /// Called on every loop right at start, after [`on_boot`](Handler::on_boot), and then after
    /// each delay that it returns, counted from the end of the call. `None` ends the ticking.
    #[doc(alias = "WithTicker")]
    #[doc(alias = "Tick")]
    #[doc(alias = "OnTick")]
    fn on_tick(&mut self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        let _ = cx;
        None
    }

    /// The connection has ended, for whatever reason: exactly once for each
    /// [`on_open`](Handler::on_open). Addresses and identity are still readable; what is written
    /// here goes nowhere. The state is the handler's again.
    #[doc(alias = "OnClosed")]
    #[doc(alias = "OnClose")]
    fn on_close(&mut self, conn: &mut Conn<'_>, state: Self::State, reason: CloseReason) {
        let _ = (conn, state, reason);
    }

    /// For [`Framed`](crate::Framed): asked before `on_close` where the peer has closed in order, as
    /// the reason that is counted is the one that is told.
    #[doc(hidden)]
    fn unfinished_frame(&mut self, state: &mut Self::State) -> Option<DecodeError> {
        let _ = state;
        None
    }

    /// A connection ended before it was open: one asked for by [`Conn::connect`] or
    /// [`Context::connect`] could not be made ([`CloseReason::ConnectFailed`]), or the TLS handshake
    /// or PROXY header that has to come first failed, in either
    /// [`direction`](Conn::direction). There was no `on_open` for it, so there is no `on_close`.
    /// `conn` tells its identity, the peer's address (the last one tried) and the
    /// [`initiator`](Conn::initiator).
    #[doc(alias = "RegisteredResult")]
    fn on_open_failed(&mut self, conn: &mut Conn<'_>, reason: CloseReason) {
        let _ = (conn, reason);
    }

    /// The loop is about to end: every connection has had its `on_close`.
    #[doc(alias = "OnShutdown")]
    fn on_shutdown(&mut self, cx: &mut Context<'_, Self>) {
        let _ = cx;
    }
}
