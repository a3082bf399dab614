//! The FIN behind output that a full socket, or a kernel without memory, has not taken yet. It
//! leaves when that has, and `wait` looks after it: to whom it matters, the reactor, has gone on and
//! waits for the peer's.

use std::io;
use std::net::Shutdown;

use crate::driver::Token;
use crate::driver::uring::Uring;
use crate::driver::uring::stream::StreamEntry;

impl Uring {
    /// Ends the output of a stream, behind what was sent.
    pub(super) fn shut_stream(&mut self, token: Token) -> io::Result<()> {
        let has_left = self.commit_stream(token)?;
        let entry = self.stream_mut(token).ok_or(io::ErrorKind::NotConnected)?;
        if !has_left {
            entry.extra_mut().shuts_later = true;
            self.changed(token.index);
            return Ok(());
        }
        match &entry.socket {
            Some(socket) => socket.as_socket().shutdown(Shutdown::Write),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Has the FIN of a stream leave that had to wait for its output.
    pub(super) fn shut_later(&mut self, index: u32) {
        let round = self.round();
        if let Some(entry) = self.streams.get_mut(index)
            && let Err(error) = entry.shut(round)
        {
            log::debug!("a FIN has to wait: {error}");
            self.changed(index);
        }
    }
}

impl StreamEntry {
    /// Whether a FIN is due, that had to wait for what was to be sent before it.
    pub(super) fn is_fin_due(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.shuts_later && extra.unsent.is_empty())
    }

    /// Sends that FIN, unless something staged is still to leave.
    pub(super) fn shut(&mut self, round: u32) -> io::Result<()> {
        if self.staged_in == round {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.extra_mut().shuts_later = false;
        self.tidy();
        let Some(socket) = &self.socket else { return Ok(()) };
        if let Err(error) = socket.as_socket().shutdown(Shutdown::Write) {
            log::debug!("the end of the output could not be told: {error}");
        }
        Ok(())
    }
}
