//! Connections that the program has made elsewhere: [`Adopt`], and how a server takes one.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use socket2::Socket;

use crate::addr::Address;
use crate::conn::command::Command;
use crate::conn::handle::{ConnHandle, Promise};
use crate::conn::origin::Attachment;
use crate::conn::state::Direction;
use crate::control::{LoopShared, ServerHandle};
use crate::error::{Error, HandleError, Result};
use crate::sys::foreign;

/// A connected socket that a program has got elsewhere, and the loop that it is to be a connection
/// of: for [`ServerHandle::adopt`] and [`ClientHandle::adopt`](crate::ClientHandle::adopt).
///
/// A `TcpStream`, a `UnixStream`, a `UdpSocket` that is connected, a `socket2::Socket` or, on Unix,
/// an `OwnedFd` that is one of these. On a UDP socket each message is a datagram, as
/// [`Connect::to`](crate::Connect::to) says. A socket that blocks does so no longer; as that is a
/// property of the socket, duplicates of it that are kept elsewhere see it too.
///
/// ```no_run
/// use std::net::TcpStream;
/// use tightloop::{Adopt, ServerHandle};
///
/// fn bring(server: &ServerHandle) -> Result<(), Box<dyn std::error::Error>> {
///     let stream = TcpStream::connect("192.0.2.1:9000")?; // or by whatever other way
///     let conn = server.adopt(Adopt::new(stream).on_loop(0).attach("the first"))?;
///     conn.write("hello")?;
///     Ok(())
/// }
/// ```
#[must_use = "it is adopted when it is given to adopt"]
#[doc(alias = "NewNetConnContext")]
pub struct Adopt<S> {
    socket: S,
    place: Place,
    direction: Option<Direction>,
    attachment: Option<Attachment>,
}

/// The loop that gets it.
enum Place {
    Fewest,
    Balanced,
    Loop(usize),
}

impl<S: Into<Socket> + From<Socket>> Adopt<S> {
    /// This socket, for the loop that has the fewest connections.
    pub fn new(socket: S) -> Self {
        Adopt { socket, place: Place::Fewest, direction: None, attachment: None }
    }

    /// For the loop with this index, as [`Conn::loop_index`](crate::Conn::loop_index) tells: beside the
    /// connection that a callback runs for, or with what the loop's handler has.
    pub fn on_loop(mut self, index: usize) -> Self {
        self.place = Place::Loop(index);
        self
    }

    /// For the loop that the server's [`balance`](crate::Server::balance) chooses. Handles ask a
    /// balancer of their own, made like the acceptor's, on the calling thread; a panic of it is the
    /// caller's.
    pub fn balanced(mut self) -> Self {
        self.place = Place::Balanced;
        self
    }

    /// What [`Conn::direction`](crate::Conn::direction) says of it. Default: incoming on a server,
    /// outgoing on a client. [`auto_pause`](crate::Server::auto_pause) is for incoming ones.
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = Some(direction);
        self
    }

    /// Gives this value along, for [`Conn::attachment`](crate::Conn::attachment) in `on_open`.
    #[doc(alias = "EnrollContext")]
    #[doc(alias = "NewContext")]
    pub fn attach<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.attachment = Some(Arc::new(value));
        self
    }
}

impl<S: fmt::Debug> fmt::Debug for Adopt<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adopt").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Why a socket was not adopted, and the socket, as it was given.
#[derive(Debug)]
#[non_exhaustive]
pub struct AdoptError<S> {
    /// The reason.
    pub error: Error,
    /// The socket; only that it does not block is new, where the server stopped in that very moment.
    pub socket: S,
}

impl<S> fmt::Display for AdoptError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<S: fmt::Debug> std::error::Error for AdoptError<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<S> From<AdoptError<S>> for Error {
    /// Drops the socket, which closes it.
    fn from(refused: AdoptError<S>) -> Self {
        refused.error
    }
}

impl ServerHandle {
    /// Makes a socket that was connected elsewhere a connection of a loop, and answers its handle,
    /// whose [`id`](ConnHandle::id) tells which one it is. There `on_open` is called for it, the options
    /// of the server hold for it, and what comes is offered as to any other. Limits on how many are
    /// accepted do not hold, and it is plaintext until `Conn::start_tls`. From any thread, also from a callback, whose loop may take it itself.
    ///
    /// Where the loop refuses it later ([`on_connection_socket`](crate::Server::on_connection_socket)) or is
    /// stopped before it has taken it, the socket is closed, `on_open` is never called, and the handle says that
    /// it is [closed](ConnHandle::is_open).
    ///
    /// # Errors
    /// Each gives the socket back. [`Error::Stopped`] when the server is stopping or has stopped; [`Error::Option`] for
    /// a loop that there is not; [`Error::Unsupported`] for what is no stream and no UDP socket;
    /// [`Error::Adopt`] with the system's reason, `NotConnected` above all.
    #[doc(alias = "Register")]
    #[doc(alias = "Enroll")]
    #[doc(alias = "EnrollContext")]
    pub fn adopt<S>(&self, adopt: Adopt<S>) -> Result<ConnHandle, AdoptError<S>>
    where
        S: Into<Socket> + From<Socket>,
    {
        self.adopt_as(adopt, Direction::Incoming)
    }

    /// As [`adopt`](ServerHandle::adopt) for the loop that has the fewest. A stream that is refused is
    /// closed.
    ///
    /// # Errors
    /// The system's, for a stream that is not connected; `NotConnected` too if the server has
    /// stopped, with [`HandleError::Closed`] as its source.
    #[doc(alias = "Register")]
    #[doc(alias = "Enroll")]
    pub fn adopt_tcp(&self, stream: TcpStream) -> io::Result<ConnHandle> {
        in_short(self.adopt(Adopt::new(stream)))
    }

    /// As [`adopt_tcp`](ServerHandle::adopt_tcp), for a Unix stream.
    ///
    /// # Errors
    /// As for [`adopt_tcp`](ServerHandle::adopt_tcp).
    #[cfg(unix)]
    #[doc(alias = "Enroll")]
    pub fn adopt_unix(&self, stream: std::os::unix::net::UnixStream) -> io::Result<ConnHandle> {
        in_short(self.adopt(Adopt::new(stream)))
    }

    /// As [`adopt_tcp`](ServerHandle::adopt_tcp), for a UDP socket that is connected. One that is
    /// not is for [`Server::listen_on_udp`](crate::Server::listen_on_udp).
    ///
    /// # Errors
    /// As for [`adopt_tcp`](ServerHandle::adopt_tcp).
    #[doc(alias = "Enroll")]
    pub fn adopt_udp(&self, socket: UdpSocket) -> io::Result<ConnHandle> {
        in_short(self.adopt(Adopt::new(socket)))
    }

    pub(crate) fn adopt_as<S>(
        &self,
        adopt: Adopt<S>,
        default: Direction,
    ) -> Result<ConnHandle, AdoptError<S>>
    where
        S: Into<Socket> + From<Socket>,
    {
        let Adopt { socket, place, direction, attachment } = adopt;
        let socket = socket.into();
        let refused = |error, socket: Socket| AdoptError { error, socket: S::from(socket) };
        if self.is_stopping() {
            return Err(refused(Error::Stopped, socket));
        }
        let peer = match foreign::check(&socket) {
            Ok(peer) => peer,
            Err(source) => return Err(refused(adoption_failed(source), socket)),
        };
        let owner = match self.place(&place, &peer) {
            Ok(owner) => owner,
            Err(error) => return Err(refused(error, socket)),
        };
        let stream = match foreign::take(socket, &peer) {
            Ok(stream) => stream,
            Err((source, socket)) => return Err(refused(Error::Adopt { source }, socket)),
        };
        let (promise, handle) = Promise::new(owner, self.shared.options.max_pending_output);
        let direction = direction.unwrap_or(default);
        let command = Command::Adopt { stream, peer, direction, promise, attachment };
        match owner.send_reserved(command) {
            Err(Command::Adopt { stream, .. }) => {
                Err(refused(Error::Stopped, foreign::give_back(stream)))
            }
            _ => Ok(handle),
        }
    }

    fn place(&self, place: &Place, peer: &Address) -> Result<&Arc<LoopShared>> {
        let loops = &self.shared.loops;
        let index = match *place {
            Place::Fewest => (0..loops.len()).min_by_key(|index| loops[*index].load()),
            Place::Loop(index) => Some(index),
            Place::Balanced => {
                let balancer = &self.shared.balancer;
                let balancer =
                    balancer.get_or_init(|| Mutex::new((self.shared.options.balancer)()));
                let loads: Vec<usize> = loops.iter().map(|shared| shared.load()).collect();
                // One that has panicked is asked again, as the acceptor's is.
                let mut balancer = balancer.lock().unwrap_or_else(PoisonError::into_inner);
                Some(balancer.pick(peer, &loads) % loops.len().max(1))
            }
        };
        index.and_then(|index| loops.get(index)).ok_or_else(|| Error::Option {
            name: "on_loop",
            reason: format!("must be below {}, the number of loops", loops.len()),
        })
    }
}

/// What an I/O error of the checks means.
fn adoption_failed(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::Unsupported => Error::Unsupported { what: source.to_string() },
        _ => Error::Adopt { source },
    }
}

/// For the short forms, which answer an I/O error and close the socket.
pub(crate) fn in_short<S>(adopted: Result<ConnHandle, AdoptError<S>>) -> io::Result<ConnHandle> {
    adopted.map_err(|refused| match refused.error {
        Error::Stopped => HandleError::Closed.into(),
        Error::Adopt { source } => source,
        other => io::Error::other(other),
    })
}
