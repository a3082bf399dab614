//! The doors to the handler. Each borrows what a callback may touch, calls it, and afterwards
//! carries out what it asked of the loop itself (stop, send datagrams).

use crate::conn::Conn;
use crate::conn::context::Context;
use crate::conn::core::Core;
use crate::conn::datagram::Datagram;
use crate::conn::input::Input;
use crate::driver::{Buffer, Driver, Sockets, Token};
use crate::handler::{Action, Handler};
use crate::reactor::Reactor;
use std::net::SocketAddr;

/// What came of offering input to the handler.
pub(super) struct Fed {
    pub(super) consumed: usize,
    pub(super) action: Action,
}

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Calls back with a connection and its state, if it has one.
    pub(super) fn with_state<R>(
        &mut self,
        token: Token,
        call: impl FnOnce(&mut H, &mut Conn<'_>, &mut H::State) -> R,
    ) -> Option<R> {
        self.core.table.get(token)?;
        let state = self.states.get_mut(token.index)?.as_mut()?;
        self.core.current = Some(token.index);
        let mut conn = Conn::new(&mut self.core, &self.driver, token);
        let result = call(&mut self.handler, &mut conn, state);
        self.core.current = None;
        self.after_callback();
        Some(result)
    }

    /// Calls back with a connection that has no state: on_open, on_close, on_connect_failed.
    pub(super) fn with_conn<R>(
        &mut self,
        token: Token,
        call: impl FnOnce(&mut H, &mut Conn<'_>) -> R,
    ) -> R {
        self.core.current = Some(token.index);
        let mut conn = Conn::new(&mut self.core, &self.driver, token);
        let result = call(&mut self.handler, &mut conn);
        self.core.current = None;
        self.after_callback();
        result
    }

    /// Calls back with the loop's context.
    pub(super) fn with_context<R>(
        &mut self,
        call: impl FnOnce(&mut H, &mut Context<'_, H>) -> R,
    ) -> R {
        let Self { driver, handler, core, states, local_jobs, .. } = self;
        let result = call(handler, &mut Context::new(core, &*driver, states, local_jobs));
        self.after_callback();
        result
    }

    pub(super) fn with_datagram(
        &mut self,
        socket: u32,
        buffer: &Buffer,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Action {
        let payload = self.driver.bytes(buffer);
        let mut datagram = Datagram::new(&mut self.core, socket, payload, peer, local);
        let action = self.handler.on_datagram(&mut datagram);
        self.after_callback();
        action
    }

    /// Offers the bytes of a receive buffer where they lie.
    pub(super) fn feed_buffer(&mut self, token: Token, buffer: &Buffer) -> Fed {
        let Self { driver, handler, core, states, .. } = self;
        let bytes = driver.bytes(buffer);
        let Some(state) = states.get_mut(token.index).and_then(Option::as_mut) else {
            return Fed { consumed: bytes.len(), action: Action::Continue };
        };
        let fed = feed(handler, core, &*driver, token, state, bytes);
        self.after_callback();
        fed
    }

    /// Offers bytes that lie outside of the driver.
    pub(super) fn feed_bytes(&mut self, token: Token, bytes: &[u8]) -> Fed {
        let Self { driver, handler, core, states, .. } = self;
        let Some(state) = states.get_mut(token.index).and_then(Option::as_mut) else {
            return Fed { consumed: bytes.len(), action: Action::Continue };
        };
        let fed = feed(handler, core, &*driver, token, state, bytes);
        self.after_callback();
        fed
    }

    /// What callbacks ask for that is not about their own connection. Nothing in here calls
    /// back, so it cannot recurse; what could is left to the turn.
    #[inline]
    fn after_callback(&mut self) {
        if !self.core.datagrams.is_empty() {
            self.send_datagrams();
        }
        if self.core.stop_requested {
            self.core.stop_requested = false;
            self.core.server.stop();
        }
    }
}

/// Calls on_traffic as long as it consumes something and may have more.
fn feed<H: Handler>(
    handler: &mut H,
    core: &mut Core,
    sockets: &dyn Sockets,
    token: Token,
    state: &mut H::State,
    bytes: &[u8],
) -> Fed {
    core.current = Some(token.index);
    let mut input = Input::new(bytes);
    let action = loop {
        let before = input.len();
        let mut conn = Conn::new(core, sockets, token);
        let action = handler.on_traffic(&mut conn, state, &mut input);
        if action != Action::Continue || input.is_empty() || input.len() == before {
            break action;
        }
        if !core.may_go_on(token) {
            break action;
        }
    };
    core.current = None;
    Fed { consumed: input.consumed(), action }
}
