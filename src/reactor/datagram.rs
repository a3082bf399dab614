//! Datagrams: each that arrives goes to the handler, and what is to be sent is gathered in the
//! sockets' outboxes and leaves together.

use std::io;
use std::net::SocketAddr;

use crate::driver::{Buffer, Driver};
use crate::handler::{Action, Handler};
use crate::reactor::Reactor;

impl<D: Driver, H: Handler> Reactor<D, H> {
    pub(super) fn datagram_arrived(
        &mut self,
        socket: u32,
        buffer: Buffer,
        peer: SocketAddr,
        local: SocketAddr,
    ) {
        self.core.shared.metrics.datagrams_in.add(1);
        let action = self.with_datagram(socket, &buffer, peer, local);
        self.driver.recycle(buffer);
        if action == Action::Shutdown {
            self.core.server.stop();
        }
        self.send_if_full(socket);
    }

    /// Does not wait for more where enough has been gathered.
    #[inline]
    pub(super) fn send_if_full(&mut self, socket: u32) {
        if self.core.outboxes.get(socket as usize).is_some_and(|outbox| outbox.is_full()) {
            self.send_gathered();
        }
    }

    /// Sends what has been gathered: once there are no further datagrams to be told of, so before
    /// any other event, and at the end of whatever else has written some. Also when a panic ends the
    /// loop: that is not the fault of those who were answered before it.
    #[inline]
    pub(crate) fn send_gathered(&mut self) {
        while let Some(socket) = self.core.gathered.pop() {
            self.send_datagrams(socket);
        }
    }

    /// The socket takes datagrams again.
    pub(super) fn flush_datagrams(&mut self, socket: u32) {
        if let Some(outbox) = self.core.outboxes.get_mut(socket as usize) {
            outbox.unblock();
            self.send_datagrams(socket);
        }
    }

    fn send_datagrams(&mut self, socket: u32) {
        let metrics = &self.core.shared.metrics;
        let Some(outbox) = self.core.outboxes.get_mut(socket as usize) else { return };
        if outbox.is_blocked() {
            return;
        }
        let mut done = 0;
        loop {
            let (bytes, datagrams) = outbox.behind(done);
            let Some(first) = datagrams.first() else { break };
            let to = first.to;
            match self.driver.send_datagrams(socket, bytes, datagrams) {
                Ok(sent) => {
                    debug_assert!((1..=datagrams.len()).contains(&sent));
                    metrics.datagrams_out.add(sent as u64);
                    done += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let dropped = outbox.block_behind(done);
                    return metrics.datagrams_dropped.add(dropped as u64);
                }
                Err(error) => {
                    metrics.datagrams_dropped.add(1);
                    log::debug!("a datagram to {to} was refused: {error}");
                    done += 1;
                }
            }
        }
        outbox.clear();
    }
}
