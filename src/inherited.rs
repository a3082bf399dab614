//! Sockets that a process was started with ([`Inherited`]): by its predecessor, as
//! [`Successor`](crate::Successor) does it, or by systemd.

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use crate::addr::{Address, Endpoint};
use crate::error::{Error, Result};
use crate::listen_socket::ListenSocket;
use crate::sys::inherit;
use crate::sys::socket::PathClaim;

/// By which a predecessor says what it hands over. The first line is the descriptor that is to be
/// told when the successor serves; each further one is a socket:
/// `LISTENER DESCRIPTOR IDENTITY FILE NAME`, where FILE is `-` or `DEVICE:INODE` of a Unix path.
pub(crate) const VARIABLE: &str = "TIGHTLOOP_LISTENERS";

/// By which systemd says so.
pub(crate) const SYSTEMD: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// The number of the first socket that systemd gives: SD_LISTEN_FDS_START.
const SYSTEMD_FIRST: RawFd = 3;

/// Sockets that this process was given when it was started.
///
/// [`Server::inherit`](crate::Server::inherit) listens on those that fit its URLs, and a service
/// that was given none binds as ever, so one and the same program may be started by hand, by
/// systemd and by its predecessor:
///
/// ```no_run
/// # use tightloop::{Action, Conn, Handler, Input};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     type State = ();
/// #     fn on_open(&mut self, _: &mut Conn<'_>) {}
/// #     fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
/// #         conn.write(input.take_all());
/// #         Action::Continue
/// #     }
/// # }
/// use tightloop::{Inherited, Server};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let mut inherited = Inherited::take()?;
///     let server = Server::new().inherit(&mut inherited).listen("tcp://:9000");
///     let server = server.start(|_loop| Echo)?;
///     // The predecessor, if there is one, can go now. Where it was killed, this one serves on.
///     if let Err(error) = inherited.ready() {
///         eprintln!("the predecessor has gone: {error}");
///     }
///     server.join()?;
///     Ok(())
/// }
/// ```
///
/// On Unix systems. Any thread may use it.
#[derive(Default)]
pub struct Inherited {
    sockets: Vec<InheritedSocket>,
    predecessor: Option<UnixStream>,
    /// The paths of the predecessor's Unix sockets, which are its own until this process is ready: if
    /// this one fails before, the other serves on.
    paths: Vec<Arc<PathClaim>>,
}

/// One of them.
pub(crate) struct InheritedSocket {
    pub(crate) socket: ListenSocket,
    name: String,
    pub(crate) address: Address,
    /// Nobody has served on it: it has joined no multicast group.
    pub(crate) is_new: bool,
    /// Sockets of one listener have the same number.
    listener: usize,
    /// The path that it is to remove when it is closed in the end.
    pub(crate) path: Option<Arc<PathClaim>>,
}

impl Inherited {
    /// Takes what the process was started with: from a predecessor
    /// ([`ServerHandle::start_successor`](crate::ServerHandle::start_successor)), or else from
    /// systemd (`LISTEN_FDS`, where `LISTEN_PID` is this process, and `LISTEN_FDNAMES`). That can be
    /// nothing, as in a process started by hand.
    ///
    /// To be called once, at the beginning: what was taken is not there a second time. Children do
    /// not inherit what was taken.
    ///
    /// # Errors
    /// [`Error::Listen`], if the variables cannot be understood, or name what is not there, is no
    /// socket to listen on, was taken before, or, by its identity, is not what was handed over: as in
    /// a process that was started by a successor and got the variable `TIGHTLOOP_LISTENERS` from it.
    /// Where a server starts other servers, it removes that variable from their environment
    /// (`Command::env_remove`).
    pub fn take() -> Result<Inherited> {
        if let Some(told) = env::var_os(VARIABLE) {
            let told = told.to_str().ok_or_else(|| invalid("it is no UTF-8"));
            return told.and_then(from_predecessor).map_err(|error| failed(VARIABLE, error));
        }
        let values = SYSTEMD.map(|name| env::var(name).ok());
        let values = values.each_ref().map(|value| value.as_deref());
        from_systemd(values, std::process::id()).map_err(|error| failed(SYSTEMD[0], error))
    }

    /// Whether a predecessor has started this process, and waits for [`ready`](Inherited::ready).
    pub fn is_successor(&self) -> bool {
        self.predecessor.is_some()
    }

    /// The names of the sockets that are left: the URL on which the predecessor listens, or what the
    /// systemd unit says (`FileDescriptorName=`, by default the name of the unit).
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sockets.iter().map(|socket| &*socket.name)
    }

    /// Takes out the sockets with this name, for [`Server::listen_on`](crate::Server::listen_on).
    pub fn take_named(&mut self, name: &str) -> Vec<ListenSocket> {
        self.extract(|socket| socket.name == name).into_iter().map(|found| found.socket).collect()
    }

    /// Tells the predecessor that this process serves now, and that the paths of Unix sockets are its
    /// own. Without a predecessor it does nothing; a second time neither.
    ///
    /// To be called as soon as the server has started: from the start on this one accepts too, and
    /// whom it has accepted is lost if the predecessor loses its patience and ends it. What may take
    /// long or fail comes before the start.
    ///
    /// # Errors
    /// The system's: `BrokenPipe` if the predecessor waits no longer. It has died then, as one that
    /// gives its successor up ends it first (or it serves on, where it made the process one of its
    /// children by [`Successor::into_child`](crate::Successor::into_child)). This process may go on
    /// all the same, and had better: there may be nobody else.
    pub fn ready(&mut self) -> io::Result<()> {
        self.paths.drain(..).for_each(|path| path.take());
        self.predecessor.take().map_or(Ok(()), |mut predecessor| predecessor.write_all(&[READY]))
    }

    /// All that is left.
    pub(crate) fn take_sockets(&mut self) -> Inherited {
        Inherited { sockets: std::mem::take(&mut self.sockets), ..Inherited::default() }
    }

    /// Takes out the sockets of the listener that had this URL, or else those with its address. A
    /// name of a host is looked up.
    pub(crate) fn for_endpoint(&mut self, endpoint: &Endpoint) -> io::Result<Vec<InheritedSocket>> {
        let name = endpoint.to_string();
        if let Some(found) = self.sockets.iter().find(|socket| socket.name == name) {
            let listener = found.listener;
            return Ok(self.extract(|socket| socket.listener == listener));
        }
        if self.sockets.is_empty() {
            return Ok(Vec::new());
        }
        let addresses = match endpoint.unix_path() {
            Some(path) => vec![Address::Unix(Some(std::path::absolute(path)?.into()))],
            None => endpoint.resolve()?.into_iter().map(Address::from).collect(),
        };
        let is_datagram = endpoint.is_datagram();
        for address in addresses {
            let found = self.extract(|socket| {
                socket.address == address
                    && matches!(socket.socket, ListenSocket::Udp(_)) == is_datagram
            });
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    fn extract(
        &mut self,
        mut is_meant: impl FnMut(&InheritedSocket) -> bool,
    ) -> Vec<InheritedSocket> {
        let all = std::mem::take(&mut self.sockets).into_iter();
        let (found, left) = all.partition(|socket| is_meant(socket));
        self.sockets = left;
        found
    }
}

/// What a successor sends.
pub(crate) const READY: u8 = b'R';

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited")
            .field("names", &self.names().collect::<Vec<_>>())
            .field("is_successor", &self.is_successor())
            .finish_non_exhaustive()
    }
}

fn failed(variable: &str, source: io::Error) -> Error {
    Error::Listen { address: format!("the inherited sockets ({variable})"), source }
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

fn from_predecessor(told: &str) -> io::Result<Inherited> {
    // Not `lines`, which would take a carriage return from the end of a name.
    let mut lines = told.split('\n');
    let number = |text: Option<&str>| {
        let number = text.and_then(|text| text.parse::<u64>().ok());
        number.ok_or_else(|| invalid(format!("it cannot be understood: {told:?}")))
    };
    let descriptor = |text| {
        let number = number(text)?;
        RawFd::try_from(number).map_err(|_| invalid(format!("{number} is no descriptor")))
    };
    let predecessor = UnixStream::from(inherit::take(descriptor(lines.next())?)?);
    let mut inherited = Inherited { predecessor: Some(predecessor), ..Inherited::default() };
    for line in lines {
        let mut words = line.splitn(5, ' ');
        let listener = number(words.next())? as usize;
        let fd = descriptor(words.next())?;
        let identity = number(words.next())?;
        let file = words.next().unwrap_or("");
        let name = words.next().unwrap_or("").to_owned();
        let owned = inherit::take(fd)?;
        if inherit::identity(&owned)? != identity {
            return Err(invalid(format!("descriptor {fd} is not what was handed over")));
        }
        let socket = named(fd, &name, owned.try_into())?;
        let address = socket.local_addr()?;
        let path = match (file.split_once(':'), name.strip_prefix("unix://")) {
            (Some((device, inode)), Some(path)) => {
                let file = (number(Some(device))?, number(Some(inode))?);
                Some(PathClaim::inherited(Path::new(path), file)?)
            }
            _ => None,
        };
        inherited.paths.extend(path.clone());
        let address = absolute(address);
        inherited.sockets.push(InheritedSocket {
            socket,
            name,
            address,
            is_new: false,
            listener,
            path,
        });
    }
    Ok(inherited)
}

fn from_systemd([count, pid, names]: [Option<&str>; 3], own: u32) -> io::Result<Inherited> {
    let mut inherited = Inherited::default();
    // The variables of another process are nobody's business: a service may start children.
    let is_ours = pid.and_then(|pid| pid.parse().ok()).is_some_and(|pid: u32| pid == own);
    let Some(count) = count.filter(|_| is_ours) else { return Ok(inherited) };
    let count = count.parse::<u32>().ok().and_then(|count| RawFd::try_from(count).ok());
    let end = count.and_then(|count| SYSTEMD_FIRST.checked_add(count));
    let end = end.ok_or_else(|| invalid("it is no number of sockets"))?;
    let mut names = names.unwrap_or("").split(':');
    for fd in SYSTEMD_FIRST..end {
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
        let socket = named(fd, &name, inherit::take(fd)?.try_into())?;
        let address = absolute(socket.local_addr()?);
        let listener = inherited.sockets.len();
        inherited.sockets.push(InheritedSocket {
            socket,
            name,
            address,
            is_new: true,
            listener,
            path: None,
        });
    }
    Ok(inherited)
}

/// The same error, with the descriptor.
fn named(fd: RawFd, name: &str, socket: io::Result<ListenSocket>) -> io::Result<ListenSocket> {
    socket.map_err(|error| {
        io::Error::new(error.kind(), format!("descriptor {fd} ({name}) cannot be used: {error}"))
    })
}

/// A Unix address with an absolute path, as far as the working directory is that of its `bind`.
fn absolute(address: Address) -> Address {
    let path = address.path().and_then(|path| std::path::absolute(path).ok());
    path.map_or(address, |path| Address::Unix(Some(path.into())))
}

#[cfg(test)]
mod tests;
