//! Listening sockets. A poll tells of connections, and they are accepted one an event: the call
//! brings the peer's address with it, which a multishot accept does not, and a listener that rests
//! has taken nothing that nobody wants yet.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use socket2::SockAddr;

use crate::driver::Event;
use crate::driver::uring::Uring;
use crate::driver::uring::queue::Place;
use crate::driver::uring::settle::{cancel, poll};
use crate::driver::uring::tag::{Kind, Tag, next_epoch};
use crate::sys::socket::{Listener, Stream, address_of, is_about_one_connection};

pub(super) struct ListenerEntry {
    socket: Listener,
    epoch: u32,
    queued: bool,
    /// What comes waits in the backlog.
    resting: bool,
}

impl ListenerEntry {
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) fn is_queued(&self) -> bool {
        self.queued
    }

    /// There may be a connection.
    pub(super) fn note(&mut self, number: u32, queue: &mut VecDeque<Place>) {
        if !self.queued && !self.resting {
            self.queued = true;
            queue.push_back(Place::Listener(number));
        }
    }

    pub(super) fn begin_rest(&mut self) {
        self.resting = true;
    }

    /// The rest is over: there may be connections that came meanwhile.
    pub(super) fn end_rest(&mut self, number: u32, queue: &mut VecDeque<Place>) {
        self.resting = false;
        self.note(number, queue);
    }

    /// The next connection, non-blocking and close-on-exec.
    fn accept(&self) -> io::Result<(Stream, SockAddr)> {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let fd = self.socket.as_socket().as_raw_fd();
        // SAFETY: what the call writes to storage and length is what a SockAddr is made of.
        let (accepted, peer) = unsafe {
            SockAddr::try_init(|storage, length| {
                // SAFETY: the storage has the length that is said, and the descriptor is open.
                let accepted = libc::accept4(fd, storage.cast(), length, flags);
                if accepted < 0 { Err(io::Error::last_os_error()) } else { Ok(accepted) }
            })
        }?;
        // SAFETY: a new descriptor that nobody else owns.
        let accepted = unsafe { OwnedFd::from_raw_fd(accepted) };
        Ok(match self.socket {
            Listener::Tcp(_) => (Stream::Tcp(accepted.into()), peer),
            Listener::Unix { .. } => (Stream::Unix(accepted.into()), peer),
        })
    }
}

impl Uring {
    pub(super) fn add_listener(&mut self, number: u32, socket: Listener) -> io::Result<()> {
        let index = number as usize;
        if self.listeners.len() <= index {
            self.listeners.resize_with(index + 1, || None);
        }
        let entry = ListenerEntry { socket, epoch: 0, queued: false, resting: false };
        self.listeners[index] = Some(entry);
        self.watch_listener(number);
        Ok(())
    }

    /// Begins the poll, at first or where it has ended.
    pub(super) fn watch_listener(&mut self, number: u32) {
        let Some(Some(entry)) = self.listeners.get_mut(number as usize) else { return };
        entry.epoch = next_epoch(entry.epoch);
        let fd = entry.socket.as_socket().as_raw_fd();
        let tag = Tag::new(Kind::Listener, number, entry.epoch);
        if let Err(error) = poll(&mut self.ring, fd, libc::POLLIN as u32, tag, true) {
            log::error!("a listener accepts nothing any more: {error}");
        }
    }

    /// Closes a listener now: another one may want its port.
    pub(super) fn remove_listener(&mut self, number: u32) {
        let Some(entry) = self.listeners.get_mut(number as usize).and_then(Option::take) else {
            return;
        };
        let tag = Tag::new(Kind::Listener, number, entry.epoch);
        let cancelled = cancel(&mut self.ring, tag);
        let ended = cancelled.and_then(|()| self.ring.enter(super::Wait::No));
        self.sends_have_left();
        if let Err(error) = ended {
            log::warn!("a listener's port is free only when its loop has ended: {error}");
        }
    }

    pub(super) fn listener_event(&mut self, number: u32) -> Option<Event> {
        let entry = self.listeners.get_mut(number as usize)?.as_mut()?;
        entry.queued = false;
        if entry.resting {
            return None;
        }
        loop {
            match entry.accept().and_then(|(stream, peer)| Ok((stream, address_of(&peer)?))) {
                Ok((stream, peer)) => {
                    entry.note(number, &mut self.queue);
                    return Some(Event::Accepted { listener: number, stream, peer });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    entry.resting = true;
                    return Some(Event::AcceptFailed { listener: number, error });
                }
            }
        }
    }
}
