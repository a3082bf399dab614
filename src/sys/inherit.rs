//! Descriptors that outlive an exec: given to a child that is about to be started, taken by it.
//!
//! Everything that std and this library open is closed on exec. What a child is to have loses that
//! mark in the child alone, between fork and exec: in the parent another thread could start a
//! child of its own at that moment, which would then hold the sockets too.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Standard input, output and error are below; they are nobody's to be taken.
const FIRST: RawFd = 3;

/// The children of `command` inherit `descriptors`, under the numbers that they have here. They are
/// closed here when the command is dropped.
pub(crate) fn give(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let keep = move || descriptors.iter().try_for_each(|fd| set_flags(fd.as_raw_fd(), 0));
    // SAFETY: between fork and exec it makes system calls only, which take no lock and no memory.
    unsafe { command.pre_exec(keep) };
}

/// Takes the descriptor with this number, which the process was started with. From then on it is
/// closed on exec.
///
/// # Errors
/// `NotFound` if there is none; `AlreadyExists` if it was not inherited, or was taken before.
pub(crate) fn take(number: RawFd) -> io::Result<OwnedFd> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: a number goes in, whatever it names, and a number comes out.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if number < FIRST || flags < 0 {
        let message = format!("there is no descriptor {number} to be inherited");
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    if flags & libc::FD_CLOEXEC != 0 {
        let message = format!("descriptor {number} was not inherited, or has been taken already");
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    set_flags(number, libc::FD_CLOEXEC)?;
    // SAFETY: without the mark it has come through an exec: nobody in this process has made it, and
    // nobody else takes it from here, as it has the mark now.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn set_flags(number: RawFd, flags: i32) -> io::Result<()> {
    // SAFETY: numbers go in, and no memory is touched.
    let done = unsafe { libc::fcntl(number, libc::F_SETFD, flags) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What tells a socket from all others that are open: its inode number.
pub(crate) fn identity(socket: &OwnedFd) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::File::from(socket.try_clone()?);
    Ok(file.metadata()?.ino())
}

/// The clock that systemd compares moments by, in microseconds: that of the system's start.
pub(crate) fn monotonic_microseconds() -> io::Result<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to a timespec that is ours.
    if unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // Neither is ever negative.
    Ok(now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000)
}
