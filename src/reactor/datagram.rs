//! Outgoing datagrams: sent at once, or queued, within a bound, while the socket is full.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::driver::Driver;
use crate::handler::Handler;
use crate::reactor::Reactor;

/// Bytes that wait for one full socket, at most. Older datagrams are worth more than newer ones
/// to a peer that is being answered in order; what does not fit is dropped, as on the way.
const MAX_QUEUED_BYTES: usize = 1 << 20;

/// Datagrams that wait for one socket.
#[derive(Default)]
pub(super) struct DatagramQueue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The driver will tell when the socket takes more.
    blocked: bool,
}

struct Waiting {
    to: SocketAddr,
    from: Option<IpAddr>,
    payload: Bytes,
}

impl<D: Driver, H: Handler> Reactor<D, H> {
    /// Sends what a callback has written.
    pub(super) fn send_datagrams(&mut self) {
        let mut outgoing = std::mem::take(&mut self.core.datagrams);
        let mut bytes = std::mem::take(&mut self.core.datagram_bytes);
        for datagram in outgoing.drain(..) {
            let payload = &bytes[datagram.start..datagram.end];
            self.send_datagram(datagram.socket, datagram.to, datagram.from, payload);
        }
        bytes.clear();
        self.core.datagrams = outgoing;
        self.core.datagram_bytes = bytes;
    }

    pub(super) fn send_datagram(
        &mut self,
        socket: u32,
        to: SocketAddr,
        from: Option<IpAddr>,
        payload: &[u8],
    ) {
        let metrics = &self.core.shared.metrics;
        let Some(queue) = self.datagram_queues.get_mut(socket as usize) else { return };
        if !queue.blocked {
            match self.driver.send_datagram(socket, payload, to, from) {
                Ok(()) => return metrics.datagrams_out.add(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => queue.blocked = true,
                Err(error) => {
                    metrics.datagrams_dropped.add(1);
                    return log::debug!("a datagram to {to} was refused: {error}");
                }
            }
        }
        if queue.bytes + payload.len() > MAX_QUEUED_BYTES {
            return metrics.datagrams_dropped.add(1);
        }
        queue.bytes += payload.len();
        queue.waiting.push_back(Waiting { to, from, payload: Bytes::copy_from_slice(payload) });
    }

    /// The socket takes datagrams again.
    pub(super) fn flush_datagrams(&mut self, socket: u32) {
        let metrics = &self.core.shared.metrics;
        let Some(queue) = self.datagram_queues.get_mut(socket as usize) else { return };
        queue.blocked = false;
        while let Some(first) = queue.waiting.front() {
            match self.driver.send_datagram(socket, &first.payload, first.to, first.from) {
                Ok(()) => metrics.datagrams_out.add(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    queue.blocked = true;
                    return;
                }
                Err(_) => metrics.datagrams_dropped.add(1),
            }
            queue.bytes -= first.payload.len();
            queue.waiting.pop_front();
        }
    }
}
