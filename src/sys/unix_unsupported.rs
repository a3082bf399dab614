//! Unix sockets where the standard library has none: each call is an `Unsupported` error, so that
//! the callers need no `cfg`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use socket2::SockAddr;

use super::socket::{Listener, Stream};
use super::sockopt::{ListenOptions, SocketOptions};

/// There is no path to be claimed.
#[derive(Debug)]
pub(crate) enum PathClaim {}

impl PathClaim {
    pub(crate) fn give_up(&self) {
        match *self {}
    }
}

pub(crate) fn bind_unix(_path: &Path, _options: &ListenOptions) -> io::Result<Listener> {
    Err(unsupported())
}

pub(super) fn start_connect(_path: &Path, _options: &SocketOptions) -> io::Result<Stream> {
    Err(unsupported())
}

pub(super) fn path_of(_address: &SockAddr) -> Option<Arc<Path>> {
    None
}

fn unsupported() -> io::Error {
    crate::sys::unsupported("Unix sockets")
}
