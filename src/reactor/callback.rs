//! The doors to the handler. Each borrows what a callback may touch, calls it, and afterwards
//! carries out what it asked of the loop itself.

use crate::conn::Conn;
use crate::conn::context::{Context, States};
use crate::conn::core::Core;
use crate::conn::datagram::Datagram;
use crate::conn::input::Input;
use crate::driver::{Buffer, Driver, Sockets, Token};
use crate::handler::{Action, Handler};
use crate::reactor::Reactor;
use crate::reactor::guard::{self, Panicked};
use std::net::SocketAddr;
use std::time::Instant;

/// What came of offering input to the handler.
pub(super) struct Fed {
    pub(super) consumed: usize,
    pub(super) action: Action,
}

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Calls back with a connection and its state, if it has one. `None` also when the callback
    /// panicked; the connection is marked then.
    #[inline]
    pub(super) fn with_state<R>(
        &mut self,
        name: &'static str,
        token: Token,
        code: impl FnOnce(&mut H, &mut Conn<'_>, &mut H::State) -> R,
    ) -> Option<R> {
        self.core.table.get(token)?;
        self.with_state_of_living(name, token, None, code)
    }

    /// The same for a connection that is known to be there. Some of its output may lie in a receive
    /// buffer.
    #[inline]
    pub(super) fn with_state_of_living<R>(
        &mut self,
        name: &'static str,
        token: Token,
        buffer: Option<&Buffer>,
        code: impl FnOnce(&mut H, &mut Conn<'_>, &mut H::State) -> R,
    ) -> Option<R> {
        let begun = self.callback_begins();
        let state = self.states.get_mut(token.index)?.as_mut()?;
        self.core.current = Some(token.index);
        let received = buffer.map_or(&[][..], |buffer| self.driver.bytes(buffer));
        let mut conn = Conn::lent(&mut self.core, &self.driver, token, received);
        let result = guard::call(|| code(&mut self.handler, &mut conn, state));
        self.core.current = None;
        let answer = self.callback_ended(name, Some(token), begun, result);
        self.after_callback();
        answer
    }

    /// Calls back with a connection that has no state: on_open, on_close, on_open_failed.
    pub(super) fn with_conn<R>(
        &mut self,
        name: &'static str,
        token: Token,
        code: impl FnOnce(&mut H, &mut Conn<'_>) -> R,
    ) -> Option<R> {
        let begun = self.callback_begins();
        self.core.current = Some(token.index);
        let mut conn = Conn::new(&mut self.core, &self.driver, token);
        let result = guard::call(|| code(&mut self.handler, &mut conn));
        self.core.current = None;
        let answer = self.callback_ended(name, Some(token), begun, result);
        self.after_callback();
        answer
    }

    /// Calls back with the loop's context.
    pub(super) fn with_context<R>(
        &mut self,
        name: &'static str,
        code: impl FnOnce(&mut H, &mut Context<'_, H>) -> R,
    ) -> Option<R> {
        let begun = self.callback_begins();
        let Self { driver, handler, core, states, local_jobs, loops, .. } = self;
        let mut context = Context::new(core, &*driver, states, local_jobs, loops);
        let result = guard::call(|| code(handler, &mut context));
        let answer = self.callback_ended(name, None, begun, result);
        self.after_callback();
        answer
    }

    /// Calls user code that sees nothing of the loop; a panic ends the connection, if one is named.
    pub(super) fn with_nothing<R>(
        &mut self,
        name: &'static str,
        token: Option<Token>,
        code: impl FnOnce() -> R,
    ) -> Option<R> {
        let begun = self.callback_begins();
        let result = guard::call(code);
        self.callback_ended(name, token, begun, result)
    }

    pub(super) fn with_datagram(
        &mut self,
        socket: u32,
        buffer: &Buffer,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Action {
        let begun = self.callback_begins();
        let payload = self.driver.bytes(buffer);
        let mut datagram = Datagram::new(&mut self.core, socket, payload, peer, local);
        let result = guard::call(|| self.handler.on_datagram(&mut datagram));
        let action = self.callback_ended("on_datagram", None, begun, result);
        self.after_callback();
        action.unwrap_or(Action::Continue)
    }

    /// Offers the bytes of a receive buffer where they lie.
    #[inline(always)] // Once a message.
    pub(super) fn feed_buffer(&mut self, token: Token, buffer: &Buffer) -> Fed {
        debug_assert!(self.core.lent.is_none(), "a stretch has outlived its buffer");
        let begun = self.callback_begins();
        let Self { driver, handler, core, states, .. } = self;
        let bytes = driver.bytes(buffer);
        let result = feed(handler, core, &*driver, token, states, bytes, bytes);
        self.fed(token, begun, result, buffer.length)
    }

    /// Offers the next stretch that a connection's session has decrypted, where it lies.
    #[inline(never)]
    pub(super) fn feed_plaintext(&mut self, token: Token) -> Fed {
        let begun = self.callback_begins();
        let Self { driver, handler, core, states, sessions, .. } = self;
        let session = sessions.get_mut(token.index).and_then(Option::as_mut);
        let bytes = session.map_or(&[][..], |secured| secured.plaintext());
        let result = feed(handler, core, &*driver, token, states, bytes, &[]);
        let offered = bytes.len();
        self.fed(token, begun, result, offered)
    }

    /// Offers bytes that lie outside of the driver.
    #[inline(never)]
    pub(super) fn feed_bytes(&mut self, token: Token, bytes: &[u8]) -> Fed {
        let begun = self.callback_begins();
        let Self { driver, handler, core, states, .. } = self;
        let result = feed(handler, core, &*driver, token, states, bytes, &[]);
        self.fed(token, begun, result, bytes.len())
    }

    /// Input that a handler panicked over counts as consumed: nobody will be offered it again.
    #[inline]
    fn fed(
        &mut self,
        token: Token,
        begun: Option<Instant>,
        result: Result<Fed, Panicked>,
        offered: usize,
    ) -> Fed {
        self.core.current = None;
        let fed = self.callback_ended("on_traffic", Some(token), begun, result);
        self.after_callback();
        fed.unwrap_or(Fed { consumed: offered, action: Action::Continue })
    }

    /// What callbacks ask for that is not about their own connection. Nothing in here calls
    /// back, so it cannot recurse; what could is left to the turn.
    #[inline]
    fn after_callback(&mut self) {
        if self.core.stop_requested {
            self.core.stop_requested = false;
            self.core.server.stop();
        }
    }
}

/// Calls on_traffic as long as it consumes something and may have more. `received` is the receive
/// buffer, if that is where the bytes lie.
#[inline(always)] // Once a message.
fn feed<H: Handler>(
    handler: &mut H,
    core: &mut Core,
    sockets: &dyn Sockets,
    token: Token,
    states: &mut States<H::State>,
    bytes: &[u8],
    received: &[u8],
) -> Result<Fed, Panicked> {
    let Some(state) = states.get_mut(token.index).and_then(Option::as_mut) else {
        return Ok(Fed { consumed: bytes.len(), action: Action::Continue });
    };
    core.current = Some(token.index);
    guard::call(|| {
        let mut input = Input::new(bytes);
        loop {
            let before = input.len();
            let mut conn = Conn::lent(core, sockets, token, received);
            let action = handler.on_traffic(&mut conn, state, &mut input);
            let done = action != Action::Continue || input.is_empty() || input.len() == before;
            if done || !core.may_go_on(token) {
                break Fed { consumed: input.consumed(), action };
            }
        }
    })
}
