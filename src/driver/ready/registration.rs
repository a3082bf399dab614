//! A stream's registration with the poller: under its token, and later perhaps under another one.

use std::io;

use crate::driver::Token;
use crate::driver::ready::socket::ReadyStream;
use crate::driver::ready::stream::{self, StreamEntry, requeue};
use crate::driver::ready::{Place, Ready};
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
}
