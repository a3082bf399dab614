//! A stream's registration with the poller: under its token, later perhaps under another one, and
//! to its end.

use std::io;
use std::time::Duration;

use crate::driver::ready::socket::ReadyStream;
use crate::driver::ready::stream::{self, StreamEntry, requeue};
use crate::driver::ready::{Place, Ready};
use crate::driver::{CloseMode, Token};
use crate::sys::socket::Stream;

impl Ready {
    pub(super) fn adopt(
        &mut self,
        token: Token,
        stream: Stream,
        connecting: bool,
    ) -> io::Result<()> {
        self.streams.ensure(token.index);
        let mut socket = ReadyStream::from(stream);
        self.poll.registry().register(
            socket.source(),
            Place::Stream(token.index).pack(token.generation),
            stream::INTEREST,
        )?;
        let Some(entry) = self.streams.get_mut(token.index) else {
            return Ok(());
        };
        // The index may still stand in the queue from its last use: harmless, and not twice.
        let queued = entry.queued;
        *entry = StreamEntry::new(socket, token.generation, connecting);
        entry.queued = queued;
        Ok(())
    }

    pub(super) fn rename_stream(&mut self, from: Token, to: Token) -> io::Result<()> {
        let Some(old) = self.stream_mut(from) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        // Its place in the queue stays with the old index: harmless there.
        let queued = old.queued;
        let mut entry = std::mem::take(old);
        old.queued = queued;
        if let Some(socket) = &mut entry.socket {
            let name = Place::Stream(to.index).pack(to.generation);
            self.poll.registry().reregister(socket.source(), name, stream::INTEREST)?;
        }
        entry.generation = to.generation;
        self.streams.ensure(to.index);
        let Some(place) = self.streams.get_mut(to.index) else { return Ok(()) };
        entry.queued = place.queued;
        *place = entry;
        requeue(place, to.index, &mut self.queue);
        Ok(())
    }

    pub(super) fn close_stream(&mut self, token: Token, mode: CloseMode) {
        let Some(entry) = self.stream_mut(token) else { return };
        let Some(socket) = entry.socket.take() else { return };
        if std::mem::take(&mut entry.owes) {
            self.pipes.forget(token.index);
        }
        if socket.udp().is_some() {
            self.datagrams.forget_pieces(token);
        }
        if mode == CloseMode::Abort
            && let Err(error) = socket.as_socket().set_linger(Some(Duration::ZERO))
        {
            // A Unix socket has no reset; one that is gone already needs none.
            log::debug!("closing without a reset: {error}");
        }
        // Closing the descriptor ends its registration.
        drop(socket);
    }
}
