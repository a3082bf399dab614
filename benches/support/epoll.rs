//! As much of epoll as the bare server and the client need.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub const READABLE: u32 = libc::EPOLLIN as u32;
pub const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// Events taken from the kernel at once.
const BATCH: usize = 256;

/// A level-triggered epoll and its last events.
pub struct Epoll {
    fd: OwnedFd,
    events: [libc::epoll_event; BATCH],
}

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: takes a flag, returns a descriptor or -1.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, events: [libc::epoll_event { events: 0, u64: 0 }; BATCH] })
    }

    pub fn add(&self, fd: RawFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest, token)
    }

    pub fn modify(&self, fd: RawFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, token)
    }

    fn control(&self, operation: i32, fd: RawFd, interest: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token };
        // SAFETY: `event` is valid during the call; a wrong descriptor is an error.
        checked(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) })?;
        Ok(())
    }

    /// Waits for events, and returns how many `event` has.
    pub fn wait(&mut self, timeout_ms: i32) -> io::Result<usize> {
        let (fd, events) = (self.fd.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: `events` has room for BATCH events.
        let count = checked(unsafe { libc::epoll_wait(fd, events, BATCH as i32, timeout_ms) });
        match count {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            count => Ok(count? as usize),
        }
    }

    /// Readiness and token of one of the last events.
    pub fn event(&self, index: usize) -> (u32, u64) {
        let event = self.events[index];
        (event.events, event.u64)
    }
}

/// Accepts without waiting, in one system call.
pub fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (no_address, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null pointers ask for no address; the listener is open.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), no_address, no_length, flags) };
    let fd = checked(fd)?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { TcpStream::from_raw_fd(fd) })
}

/// Sets TCP_NODELAY on a listener: the connections it accepts inherit it.
pub fn set_listener_no_delay(listener: &TcpListener) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (value, length) = ((&raw const on).cast(), size_of_val(&on) as libc::socklen_t);
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
    // SAFETY: `value` points to `length` bytes of an int, valid during the call.
    let result = unsafe { libc::setsockopt(listener.as_raw_fd(), level, option, value, length) };
    checked(result).map(drop)
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
