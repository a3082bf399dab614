//! A pipe through which the kernel moves bytes from one socket to another, without copying them into
//! the process.

use std::io;

use socket2::SockRef;

/// A pipe, empty at first.
#[derive(Debug)]
pub(crate) struct Pipe(ends::Ends);

impl Pipe {
    /// A pipe; an error of kind `Unsupported` where the system does not move bytes like this, or where
    /// the process would be killed by a SIGPIPE when a target has gone: `splice` knows no MSG_NOSIGNAL.
    pub(crate) fn new() -> io::Result<Self> {
        ends::Ends::new().map(Pipe)
    }

    /// Fills the pipe with what has arrived on a socket, `most` bytes at most. None are the end of
    /// the stream; a pipe that is full, and a socket without bytes, answer `WouldBlock`.
    pub(crate) fn fill(&self, from: &SockRef<'_>, most: usize) -> io::Result<usize> {
        self.0.fill(from, most)
    }

    /// Sends at most `most` bytes of what is in the pipe.
    pub(crate) fn drain(&self, to: &SockRef<'_>, most: usize) -> io::Result<usize> {
        self.0.drain(to, most)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod ends {
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

    use socket2::SockRef;

    #[derive(Debug)]
    pub(super) struct Ends {
        read: OwnedFd,
        write: OwnedFd,
    }

    impl Ends {
        pub(super) fn new() -> io::Result<Self> {
            if is_killed_by_sigpipe() {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let mut ends: [RawFd; 2] = [-1; 2];
            // SAFETY: pipe2 writes two descriptors to a place that has room for two.
            if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the system has just made this descriptor, and nobody else has it.
            let read = unsafe { OwnedFd::from_raw_fd(ends[0]) };
            // SAFETY: as the one before.
            let write = unsafe { OwnedFd::from_raw_fd(ends[1]) };
            Ok(Ends { read, write })
        }

        pub(super) fn fill(&self, from: &SockRef<'_>, most: usize) -> io::Result<usize> {
            splice(from.as_raw_fd(), self.write.as_raw_fd(), most)
        }

        pub(super) fn drain(&self, to: &SockRef<'_>, most: usize) -> io::Result<usize> {
            splice(self.read.as_raw_fd(), to.as_raw_fd(), most)
        }
    }

    /// Programs in Rust ignore the signal from the start, unless they change that or are but a library
    /// in a process of another language.
    fn is_killed_by_sigpipe() -> bool {
        // SAFETY: for a C structure of integers and addresses all zeros are a value.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: nothing is set, and sigaction writes to a place of its own type.
        let result = unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut action) };
        result == 0 && action.sa_sigaction == libc::SIG_DFL
    }

    fn splice(from: RawFd, to: RawFd, most: usize) -> io::Result<usize> {
        const FLAGS: libc::c_uint = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
        let nowhere = std::ptr::null_mut();
        loop {
            // SAFETY: neither descriptor is a file with a place to read or write at, and no place is
            // given; both are open as long as they are borrowed.
            let moved = unsafe { libc::splice(from, nowhere, to, nowhere, most, FLAGS) };
            match usize::try_from(moved) {
                Ok(moved) => return Ok(moved),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod ends {
    use std::convert::Infallible;
    use std::io;

    use socket2::SockRef;

    #[derive(Debug)]
    pub(super) struct Ends(Infallible);

    impl Ends {
        pub(super) fn new() -> io::Result<Self> {
            Err(crate::sys::unsupported("moving bytes through a pipe"))
        }

        pub(super) fn fill(&self, _: &SockRef<'_>, _: usize) -> io::Result<usize> {
            match self.0 {}
        }

        pub(super) fn drain(&self, _: &SockRef<'_>, _: usize) -> io::Result<usize> {
            match self.0 {}
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_go_from_one_socket_to_another_and_the_end_is_told() {
        let ((mut near, source), (target, mut far)) = (pair(), pair());
        source.set_nonblocking(true).unwrap();
        let pipe = Pipe::new().unwrap();
        let (source, target) = (SockRef::from(&source), SockRef::from(&target));
        let nothing = pipe.fill(&source, 100).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        near.write_all(b"through the pipe").unwrap();
        drop(near);
        // What was sent to this host is there, also before its end is known.
        let moved = pipe.fill(&source, 7).unwrap();
        assert_eq!(moved, 7, "no more than asked for");
        assert_eq!(pipe.drain(&target, 3).unwrap(), 3);
        assert_eq!(pipe.drain(&target, 100).unwrap(), 4);
        assert_eq!(pipe.drain(&target, 100).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(pipe.fill(&source, 100).unwrap(), 9);
        assert_eq!(pipe.drain(&target, 9).unwrap(), 9);
        let mut whole = [0; 16];
        far.read_exact(&mut whole).unwrap();
        assert_eq!(&whole, b"through the pipe");
        let end = loop {
            match pipe.fill(&source, 100) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::yield_now();
                }
                result => break result,
            }
        };
        assert_eq!(end.unwrap(), 0);
    }
}
