//! Listening sockets. Accepts wait in the kernel (`accepts.rs`); each brings one connection with its
//! peer's address. Where the kernel takes no such accepts, a poll tells of connections, and calls
//! fetch them.
//!
//! ```text
//!   resting:  no new accepts. What those in the kernel still bring is held, as if in the backlog.
//!   ending:   those in the kernel are cancelled. Whom they have brought is told, or, where the
//!             listener rested, closed as the backlog is. The entry goes behind the last.
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::{CancelBuilder, Fd};
use socket2::SockAddr;

use crate::addr::Address;
use crate::driver::Event;
use crate::driver::uring::Uring;
use crate::driver::uring::accepts::Accepts;
use crate::driver::uring::queue::Place;
use crate::driver::uring::ring::{Completion, Ring, Wait};
use crate::driver::uring::settle::{cancel, poll};
use crate::driver::uring::tag::{Kind, Tag, next_epoch};
use crate::sys::socket::{Listener, Stream, address_of, is_about_one_connection};

/// How connections are fetched.
enum Way {
    /// By accepts in the kernel.
    Accepts(Accepts),
    /// By calls, when a poll says so.
    Calls,
}

pub(super) struct ListenerEntry {
    /// `None` once it is closed, while accepts that were cancelled are still to be told.
    socket: Option<Listener>,
    is_unix: bool,
    /// Of its operations' tags.
    epoch: u32,
    way: Way,
    queued: bool,
    /// Nobody wants connections now.
    resting: bool,
    ending: bool,
    /// Accepted, and not told yet.
    held: VecDeque<(Stream, Address)>,
}

impl ListenerEntry {
    fn new(socket: Listener) -> Self {
        let way = match Accepts::new() {
            Ok(accepts) => Way::Accepts(accepts),
            Err(error) => {
                log::debug!("connections are accepted by calls: {error}");
                Way::Calls
            }
        };
        ListenerEntry {
            is_unix: matches!(socket, Listener::Unix { .. }),
            socket: Some(socket),
            epoch: 0,
            way,
            queued: false,
            resting: false,
            ending: false,
            held: VecDeque::new(),
        }
    }

    fn fd(&self) -> Option<RawFd> {
        self.socket.as_ref().map(|socket| socket.as_socket().as_raw_fd())
    }

    /// There may be something to be told, or to be done.
    fn note(&mut self, number: u32, queue: &mut VecDeque<Place>) {
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

    /// Nothing of it is in the kernel or still to be told.
    fn is_over(&self) -> bool {
        let armed = matches!(&self.way, Way::Accepts(accepts) if accepts.are_armed());
        self.ending && !armed && self.held.is_empty()
    }

    /// Has the kernel look for connections.
    fn begin(&mut self, number: u32, ring: &mut Ring) -> io::Result<()> {
        let Some(fd) = self.fd() else { return Ok(()) };
        match &mut self.way {
            Way::Accepts(accepts) => accepts.arm(ring, fd, number, self.epoch),
            Way::Calls => {
                self.epoch = next_epoch(self.epoch);
                let tag = Tag::new(Kind::Listener, number, self.epoch);
                poll(ring, fd, libc::POLLIN as u32, tag, true)
            }
        }
    }

    /// The next connection, by a call: non-blocking and close-on-exec.
    fn accept(&self) -> io::Result<(Stream, SockAddr)> {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let fd = self.fd().ok_or(io::ErrorKind::WouldBlock)?;
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
        Ok((self.stream(accepted), peer))
    }

    fn stream(&self, accepted: OwnedFd) -> Stream {
        if self.is_unix { Stream::Unix(accepted.into()) } else { Stream::Tcp(accepted.into()) }
    }

    /// An accept in the kernel has ended with this: keeps the connection, if there is one. An error
    /// is the listener's.
    fn ended(&mut self, completion: &Completion) -> io::Result<()> {
        let accepted = unopened(completion);
        let Way::Accepts(accepts) = &mut self.way else { return Ok(()) };
        let peer = accepts.ended(completion.tag);
        if let Some(accepted) = accepted {
            let peer = peer.ok_or(io::ErrorKind::InvalidData.into()).and_then(|p| address_of(&p));
            match peer {
                // Closed as the backlog is with its listener: it was never let in.
                Ok(_) if self.ending && self.resting => {}
                Ok(peer) => self.held.push_back((self.stream(accepted), peer)),
                Err(error) => log::warn!("a connection was refused: {error}"),
            }
            return Ok(());
        }
        let error = io::Error::from_raw_os_error(completion.error().unwrap_or_default());
        match error.raw_os_error() {
            Some(libc::ECANCELED) => Ok(()),
            // A kernel that does not know this kind of accept; a listener that is broken says so
            // again when it is called.
            Some(libc::EINVAL | libc::EOPNOTSUPP) => {
                accepts.refused = true;
                if !accepts.are_armed() {
                    log::debug!("connections are accepted by calls: {error}");
                    self.way = Way::Calls;
                }
                Ok(())
            }
            _ if is_about_one_connection(&error) => Ok(()),
            _ => Err(error),
        }
    }
}

/// The connection that an accept in the kernel has brought. A completion is asked once.
fn unopened(completion: &Completion) -> Option<OwnedFd> {
    let is_accept = completion.tag.kind() == Some(Kind::Accept) && completion.result >= 0;
    // SAFETY: a new descriptor, which the kernel has told of here only.
    is_accept.then(|| unsafe { OwnedFd::from_raw_fd(completion.result) })
}

impl Uring {
    pub(super) fn add_listener(&mut self, number: u32, socket: Listener) -> io::Result<()> {
        let index = number as usize;
        if self.listeners.len() <= index {
            self.listeners.resize_with(index + 1, || None);
        }
        let entry = self.listeners[index].insert(ListenerEntry::new(socket));
        entry.begin(number, &mut self.ring)
    }

    fn listener_mut(&mut self, number: u32) -> Option<&mut ListenerEntry> {
        self.listeners.get_mut(number as usize)?.as_mut()
    }

    /// Closes a listener now: another one may want its port.
    pub(super) fn remove_listener(&mut self, number: u32) {
        let Self { listeners, ring, .. } = self;
        let Some(Some(entry)) = listeners.get_mut(number as usize) else { return };
        let Some(fd) = entry.fd() else { return };
        entry.ending = true;
        if entry.resting {
            entry.held.clear();
        }
        let cancelled = match entry.way {
            Way::Accepts(_) => cancel_accepts(ring, fd, number),
            Way::Calls => cancel(ring, Tag::new(Kind::Listener, number, entry.epoch)),
        };
        let ended = cancelled.and_then(|()| ring.enter(Wait::No));
        // An entry that has not left yet may name the descriptor.
        if ring.unsubmitted() == 0 {
            entry.socket = None;
        }
        self.sends_have_left();
        self.forget_listener(number);
        if let Err(error) = ended {
            log::warn!("a listener's port is free only when its loop has ended: {error}");
        }
    }

    /// Lets go of a listener that has ended.
    fn forget_listener(&mut self, number: u32) {
        if let Some(entry) = self.listeners.get_mut(number as usize) {
            entry.take_if(|entry| entry.is_over());
        }
    }

    /// An accept in the kernel has ended.
    pub(super) fn accept_ended(&mut self, completion: Completion) -> Option<Event> {
        let number = Accepts::listener_of(completion.tag);
        let Self { listeners, ring, queue, .. } = self;
        let Some(Some(entry)) = listeners.get_mut(number as usize) else {
            debug_assert!(false, "a listener is kept as long as it has accepts");
            drop(unopened(&completion));
            return None;
        };
        let ended = entry.ended(&completion);
        if entry.ending {
            return self.listener_event(number);
        }
        if entry.resting {
            return None;
        }
        if let Err(error) = ended {
            entry.resting = true;
            return Some(Event::AcceptFailed { listener: number, error });
        }
        let is_queued = entry.queued;
        if let Err(error) = entry.begin(number, ring) {
            log::debug!("a listener has to wait: {error}");
            entry.note(number, queue);
        }
        // Now, if it is not to be in its turn: it came before what came behind it.
        if is_queued { None } else { self.told(number) }
    }

    /// A poll has told of connections.
    pub(super) fn may_accept(&mut self, completion: Completion) -> Option<Event> {
        let number = completion.tag.index();
        let Self { listeners, ring, .. } = self;
        let entry = listeners.get_mut(number as usize).and_then(Option::as_mut);
        let entry = entry.filter(|entry| entry.epoch == completion.tag.epoch() && !entry.ending)?;
        let is_queued = entry.queued;
        if !completion.has_more()
            && let Err(error) = entry.begin(number, ring)
        {
            log::error!("a listener accepts nothing any more: {error}");
        }
        if is_queued { None } else { self.listener_event(number) }
    }

    /// What a listener holds.
    fn told(&mut self, number: u32) -> Option<Event> {
        let entry = self.listener_mut(number)?;
        let (stream, peer) = entry.held.pop_front()?;
        Some(Event::Accepted { listener: number, stream, peer })
    }

    /// What the listener at the queue's head has for the reactor, if anything.
    pub(super) fn listener_event(&mut self, number: u32) -> Option<Event> {
        let Self { listeners, ring, queue, .. } = self;
        let entry = listeners.get_mut(number as usize)?.as_mut()?;
        entry.queued = false;
        if entry.resting && !entry.ending {
            return None;
        }
        if let Way::Calls = entry.way {
            return self.accept_by_call(number);
        }
        if !entry.ending
            && let Err(error) = entry.begin(number, ring)
        {
            entry.resting = true;
            return Some(Event::AcceptFailed { listener: number, error });
        }
        if entry.held.len() > 1 {
            entry.note(number, queue);
        }
        let event = self.told(number);
        self.forget_listener(number);
        event
    }

    fn accept_by_call(&mut self, number: u32) -> Option<Event> {
        let entry = self.listeners.get_mut(number as usize)?.as_mut()?;
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

    /// Closes the connection of an accept that nobody will be told of.
    pub(super) fn refuse_unopened(completion: &Completion) {
        drop(unopened(completion));
    }
}

/// Cancels all accepts of a listener; nothing else is in the kernel for its descriptor.
fn cancel_accepts(ring: &mut Ring, fd: RawFd, number: u32) -> io::Result<()> {
    let all = CancelBuilder::fd(Fd(fd)).all();
    let entry = opcode::AsyncCancel2::new(all).build().flags(Flags::SKIP_SUCCESS);
    // Not the name by which the driver's end is told.
    let name = Tag::new(Kind::Cancel, number, 1);
    // SAFETY: it points to nothing.
    unsafe { ring.push(&entry.user_data(name.0)) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::driver::Driver;

    /// A driver, where this system has io_uring, with a listener.
    fn listening() -> Option<(Uring, std::net::SocketAddr)> {
        let mut driver = Uring::new(64 << 10, 64 << 10, (64, 256)).ok()?;
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        driver.listen(0, Listener::Tcp(socket)).unwrap();
        Some((driver, address))
    }

    fn next(driver: &mut Uring) -> Option<Event> {
        for _ in 0..100 {
            driver.wait(Some(Duration::from_millis(10))).unwrap();
            while let Some(event) = driver.next_event() {
                if !matches!(event, Event::Woken) {
                    return Some(event);
                }
            }
        }
        None
    }

    fn assert_accepts(driver: &mut Uring, client: &TcpStream) {
        let Some(Event::Accepted { listener: 0, stream, peer }) = next(driver) else {
            panic!("nobody was accepted");
        };
        assert_eq!(peer, Address::from(client.local_addr().unwrap()));
        let flags = |command| {
            // SAFETY: takes numbers only.
            unsafe { libc::fcntl(stream.as_socket().as_raw_fd(), command) }
        };
        assert_ne!(flags(libc::F_GETFL) & libc::O_NONBLOCK, 0);
        assert_ne!(flags(libc::F_GETFD) & libc::FD_CLOEXEC, 0);
    }

    #[test]
    fn a_kernel_that_refuses_accepts_is_asked_by_calls() {
        let Some((mut driver, address)) = listening() else { return };
        let entry = driver.listeners[0].as_mut().unwrap();
        let Way::Accepts(accepts) = &mut entry.way else { panic!("it accepts by calls") };
        // As if the kernel had said EINVAL to the first: the others end, and none is begun anew.
        accepts.refused = true;
        cancel_accepts(&mut driver.ring, entry.fd().unwrap(), 0).unwrap();
        driver.wait(Some(Duration::ZERO)).unwrap();
        while let Some(mut completion) = driver.ring.next() {
            completion.result = -libc::EINVAL;
            assert!(driver.accept_ended(completion).is_none());
        }
        assert!(matches!(driver.listeners[0].as_ref().unwrap().way, Way::Calls));
        for _ in 0..3 {
            let client = TcpStream::connect(address).unwrap();
            assert_accepts(&mut driver, &client);
        }
    }

    #[test]
    fn a_listener_that_rests_tells_of_nobody_until_it_goes_on() {
        let Some((mut driver, address)) = listening() else { return };
        driver.rest_listener(0);
        let clients: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
        driver.wait(Some(Duration::ZERO)).unwrap();
        assert!(driver.next_event().is_none());
        driver.resume_accepting(0);
        for client in &clients {
            assert_accepts(&mut driver, client);
        }
    }

    #[test]
    fn a_listener_that_closes_tells_of_those_it_has_accepted_and_frees_its_port() {
        let Some((mut driver, address)) = listening() else { return };
        driver.wait(Some(Duration::ZERO)).unwrap();
        let client = TcpStream::connect(address).unwrap();
        driver.ring.enter(Wait::No).unwrap();
        driver.close_listener(0);
        TcpListener::bind(address).unwrap();
        assert_accepts(&mut driver, &client);
        assert!(driver.next_event().is_none() && driver.listeners[0].is_none());
    }

    #[test]
    fn whoever_was_accepted_and_not_told_of_is_closed_with_the_driver() {
        let Some((mut driver, address)) = listening() else { return };
        driver.wait(Some(Duration::ZERO)).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        driver.ring.enter(Wait::No).unwrap();
        drop(driver);
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let closed = std::io::Read::read(&mut client, &mut [0; 1]);
        assert!(closed.is_ok_and(|length| length == 0), "it was left open");
    }
}
