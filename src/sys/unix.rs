//! Unix sockets: a path that is left over from a dead server is taken, and nothing else is.
//!
//! The file of a Unix socket outlives its server, so that a restart finds the address "in use".
//! Removing the file before each bind would take the path from a living server, or delete whatever
//! a wrong configuration points at. So the file is removed only if it is a socket (not a link to
//! one) and a connect is refused, which the kernel says when nobody listens.
//! Two servers that start in the same instant on one left-over path can still take it from each
//! other: the system offers no way to look and remove in one step.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::socket::{Listener, Stream, backlog, connect_socket};
use super::sockopt::{ListenOptions, SocketOptions};

/// Listens on `path`, and takes over a path that a dead server left behind.
///
/// # Errors
/// `AddrInUse` if somebody listens there or it is no socket.
pub(crate) fn bind_unix(path: &Path, options: &ListenOptions) -> io::Result<Listener> {
    let socket = open()?;
    options.socket.apply(SockRef::from(&socket), false)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path, &address) => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        outcome => outcome?,
    }
    let path = Some(UnixPathGuard(Arc::new(PathClaim::new(path)?)));
    socket.listen(backlog(options))?;
    Ok(Listener::Unix { path, socket: socket.into() })
}

/// Starts to connect to the socket at `path`. A full backlog is an error (`WouldBlock`) at once:
/// the kernel does not go on with such a connect in the background.
pub(super) fn start_connect(path: &Path, options: &SocketOptions) -> io::Result<Stream> {
    let socket = open()?;
    options.apply(SockRef::from(&socket), false)?;
    connect_socket(&socket, &SockAddr::unix(path)?)?;
    Ok(Stream::Unix(socket.into()))
}

/// The path in `address`; `None` if it has none, or an abstract name.
pub(super) fn path_of(address: &SockAddr) -> Option<Arc<Path>> {
    address.as_pathname().filter(|path| !path.as_os_str().is_empty()).map(Arc::from)
}

/// The path of a Unix socket that was bound, and the file that was there then.
#[derive(Debug)]
pub(crate) struct PathClaim {
    /// Absolute, so that a change of the working directory does not matter.
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Somebody else removes it: another process, which serves on the socket too.
    is_others: AtomicBool,
}

impl PathClaim {
    fn new(path: &Path) -> io::Result<PathClaim> {
        let path = std::path::absolute(path)?;
        let metadata = fs::symlink_metadata(&path)?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        Ok(PathClaim { path, device, inode, is_others: AtomicBool::new(false) })
    }

    /// From another process, which has had it from [`file`](PathClaim::file), and whose path it is
    /// until that one [gives it up](PathClaim::give_up) and this one [takes it](PathClaim::take).
    pub(crate) fn inherited(path: &Path, file: (u64, u64)) -> io::Result<Arc<PathClaim>> {
        let (path, (device, inode)) = (std::path::absolute(path)?, file);
        Ok(Arc::new(PathClaim { path, device, inode, is_others: AtomicBool::new(true) }))
    }

    /// Device and inode of the file.
    pub(crate) fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// The path stays when the listener is closed: the socket lives on elsewhere.
    pub(crate) fn give_up(&self) {
        self.is_others.store(true, Ordering::Release);
    }

    /// The path goes when the listener is closed.
    pub(crate) fn take(&self) {
        self.is_others.store(false, Ordering::Release);
    }

    fn is_still_ours(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|metadata| {
            metadata.file_type().is_socket()
                && metadata.dev() == self.device
                && metadata.ino() == self.inode
        })
    }
}

/// Removes the path of a Unix socket when dropped, if the file there is still the one that was
/// bound, and it is nobody else's. Drop it before the listener is closed: only while the
/// socket lives can no other file have been given its inode number.
#[derive(Debug)]
pub(crate) struct UnixPathGuard(Arc<PathClaim>);

impl UnixPathGuard {
    pub(crate) fn of(claim: Arc<PathClaim>) -> UnixPathGuard {
        UnixPathGuard(claim)
    }

    pub(crate) fn claim(&self) -> Arc<PathClaim> {
        Arc::clone(&self.0)
    }
}

impl Drop for UnixPathGuard {
    fn drop(&mut self) {
        if !self.0.is_others.load(Ordering::Acquire)
            && self.0.is_still_ours()
            && let Err(error) = fs::remove_file(&self.0.path)
        {
            log::warn!("the socket file {} stays behind: {error}", self.0.path.display());
        }
    }
}

/// Whether the file at `path` is a socket that nobody listens on. When in doubt it is not.
fn is_left_over(path: &Path, address: &SockAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    // Non-blocking, since a living server with a full backlog would let the probe wait.
    is_socket
        && open().is_ok_and(|probe| {
            let outcome = probe.connect(address);
            outcome.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        })
}

fn open() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
