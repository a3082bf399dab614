//! What can go wrong, said as values: [`Error`] when a server is set up or ends, [`CloseReason`]
//! when a connection ends, [`HandleError`] when another thread speaks to something that is gone.
//!
//! What a peer causes is a [`CloseReason`], never an `Error`: no peer can end a server.

use std::fmt;
use std::io;

use crate::addr::AddressError;
use crate::proxy_protocol::ProxyError;

pub use framing::{DecodeError, EncodeError};

mod framing;

/// The result of setting up or running a server.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a server could not start, or why it ended other than by being asked to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A listening address could not be understood.
    Address(AddressError),
    /// A listening address was understood, but could not be bound.
    Listen {
        /// The address as it was given.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// An option has a value that cannot be meant.
    Option {
        /// The option's name, as the method of the builder is called.
        name: &'static str,
        /// What is wrong with the value.
        reason: String,
    },
    /// A socket that exists already could not be made a connection.
    Adopt {
        /// The system's reason; `NotConnected` for one without a peer.
        source: io::Error,
    },
    /// The server is stopping: what was asked for is not begun any more.
    Stopped,
    /// Too much is queued for the loop (option `mailbox_capacity`): try again later.
    Full,
    /// Something that this platform, or this build, does not have.
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// An event loop could not be set up: its thread, its poller or its wake-up.
    LoopStart {
        /// The loop's index.
        index: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// An event loop ended because the system refused to wait for events.
    LoopFailed {
        /// The loop's index.
        index: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// An event loop's thread ended by a panic: of the factory, of `on_boot`, of a callback where
    /// the option `panic_policy` says so, or of the framework. The other loops were stopped in order.
    LoopPanicked {
        /// The loop's index.
        index: usize,
        /// The panic's message.
        message: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Address(error) => error.fmt(f),
            Error::Listen { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Error::Option { name, reason } => write!(f, "option {name}: {reason}"),
            Error::Adopt { source } => write!(f, "cannot adopt the socket: {source}"),
            Error::Stopped => f.write_str("the server is stopping"),
            Error::Full => f.write_str("too much is queued already"),
            Error::Unsupported { what } => write!(f, "not supported here: {what}"),
            Error::LoopStart { index, source } => {
                write!(f, "event loop {index} could not start: {source}")
            }
            Error::LoopFailed { index, source } => {
                write!(f, "event loop {index} failed: {source}")
            }
            Error::LoopPanicked { index, message } => {
                write!(f, "event loop {index} panicked: {message}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Address(error) => Some(error),
            Error::Listen { source, .. }
            | Error::Adopt { source }
            | Error::LoopStart { source, .. }
            | Error::LoopFailed { source, .. } => Some(source),
            Error::Option { .. }
            | Error::Stopped
            | Error::Full
            | Error::Unsupported { .. }
            | Error::LoopPanicked { .. } => None,
        }
    }
}

impl From<AddressError> for Error {
    fn from(error: AddressError) -> Self {
        Error::Address(error)
    }
}

/// Why a connection ended, as `on_close` is told.
///
/// It tells who ended the connection: ourselves, the peer, a limit or the server's stop. None of
/// these is an error of the server, and none is logged by the framework above `debug`; but a
/// panic is both.
///
/// ```
/// use tightloop::CloseReason;
///
/// /// Whether an operator has to know.
/// fn is_ours(reason: &CloseReason) -> bool {
///     matches!(reason, CloseReason::Failed(_) | CloseReason::HandlerPanicked(_))
/// }
///
/// assert!(!is_ours(&CloseReason::PeerClosed));
/// assert_eq!(CloseReason::IdleTimeout.to_string(), "idle for too long");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The handler closed it (`Action::Close`, `Conn::close`, `ConnHandle::close`). What was
    /// written before was handed to the socket.
    Local,
    /// The handler aborted it (`Conn::abort`): pending output was dropped, the peer gets a reset.
    Aborted,
    /// The peer closed its side in order (FIN). What was still pending was handed to the socket.
    PeerClosed,
    /// The peer reset the connection, or vanished while there was output for it; on a datagram
    /// connection, its port is closed.
    PeerReset(io::Error),
    /// The system reported another error on the socket.
    Failed(io::Error),
    /// An outgoing connection could not be made: its name does not resolve, or none of its addresses
    /// answered. With the error of the last attempt; `TimedOut` when the connect timeout was over,
    /// `ResourceBusy` when the worker pool takes no more names to be looked up.
    ConnectFailed(io::Error),
    /// What has to come before the first byte (a TLS handshake, a PROXY header) took longer than
    /// the option `handshake_timeout`.
    HandshakeTimeout,
    /// What the peer sent before anything else is no header of the PROXY protocol that may be
    /// believed.
    ProxyHeader(ProxyError),
    /// The TLS session failed: no common ground in the handshake, a certificate that is not trusted,
    /// bytes that are no TLS, an alert of the peer. Wherever possible the peer was sent an alert.
    Tls(TlsError),
    /// The peer closed its side without the close_notify of TLS: what was received before may be
    /// only a part of what was sent.
    Truncated,
    /// Nothing was received and nothing sent for the connection's idle timeout.
    IdleTimeout,
    /// Nothing was received for the connection's read idle timeout.
    ReadIdleTimeout,
    /// Nothing was sent for the connection's write idle timeout.
    WriteIdleTimeout,
    /// The peer has sent nothing at all for the option `first_byte_timeout`.
    FirstByteTimeout,
    /// The peer took none of the pending output for the option `write_stall_timeout`.
    WriteStalled,
    /// The pending output passed the option `max_pending_output`.
    OutputLimit,
    /// The input that the handler left unconsumed passed the option `max_unconsumed_input`.
    InputLimit,
    /// The bytes received are no frames of the connection's codec, or the stream ended within one
    /// ([`DecodeError::Incomplete`]). What was written before was handed to the socket.
    Codec(DecodeError),
    /// Closing, the peer took none of the pending output for the option `close_timeout`.
    CloseTimeout,
    /// A callback of this connection panicked; the panic's message. What was written and not yet
    /// sent is dropped: it may be half an answer. See the option `panic_policy`.
    HandlerPanicked(String),
    /// The server stopped. What was written before was handed to the socket, or the stop's
    /// deadline passed.
    ServerStopped,
}

impl CloseReason {
    /// The reason for an error of the system: a reset by the peer, or a failure of another kind.
    pub(crate) fn from_io(error: io::Error) -> Self {
        match error.kind() {
            // A connected datagram socket is told so when the peer's port is closed.
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            // What shutdown says where a reset has come that nobody was told of yet.
            | io::ErrorKind::NotConnected
            | io::ErrorKind::TimedOut => CloseReason::PeerReset(error),
            _ => CloseReason::Failed(error),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Local => f.write_str("closed by the handler"),
            CloseReason::Aborted => f.write_str("aborted by the handler"),
            CloseReason::PeerClosed => f.write_str("closed by the peer"),
            CloseReason::PeerReset(error) => write!(f, "reset by the peer: {error}"),
            CloseReason::Failed(error) => write!(f, "failed: {error}"),
            CloseReason::ConnectFailed(error) => write!(f, "could not connect: {error}"),
            CloseReason::HandshakeTimeout => f.write_str("the handshake took too long"),
            CloseReason::ProxyHeader(error) => write!(f, "PROXY header: {error}"),
            CloseReason::Tls(error) => write!(f, "TLS: {error}"),
            CloseReason::Truncated => f.write_str("cut off by the peer, without a close_notify"),
            CloseReason::IdleTimeout => f.write_str("idle for too long"),
            CloseReason::ReadIdleTimeout => f.write_str("nothing received for too long"),
            CloseReason::WriteIdleTimeout => f.write_str("nothing sent for too long"),
            CloseReason::FirstByteTimeout => f.write_str("the peer never said anything"),
            CloseReason::WriteStalled => f.write_str("the peer took no output for too long"),
            CloseReason::OutputLimit => f.write_str("too much pending output"),
            CloseReason::InputLimit => f.write_str("too much unconsumed input"),
            CloseReason::Codec(error) => write!(f, "not a frame: {error}"),
            CloseReason::CloseTimeout => f.write_str("the peer did not take the last output"),
            CloseReason::HandlerPanicked(message) => write!(f, "a callback panicked: {message}"),
            CloseReason::ServerStopped => f.write_str("the server stopped"),
        }
    }
}

/// Why a TLS session failed. What the TLS library says of it is the [`source`](std::error::Error::source).
#[derive(Debug)]
pub struct TlsError(Box<dyn std::error::Error + Send + Sync>);

impl TlsError {
    pub(crate) fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        TlsError(error.into())
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

/// Why a call from another thread could not be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// The connection is closed, or its server has stopped. Final.
    Closed,
    /// The loop's mailbox is full (option `mailbox_capacity`), or the connection's pending output
    /// would pass `max_pending_output`. Try again later, or drop the peer.
    Full,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HandleError::Closed => "the connection or its server is closed",
            HandleError::Full => "too much is queued already",
        })
    }
}

impl std::error::Error for HandleError {}

impl From<HandleError> for io::Error {
    fn from(error: HandleError) -> Self {
        let kind = match error {
            HandleError::Closed => io::ErrorKind::NotConnected,
            HandleError::Full => io::ErrorKind::WouldBlock,
        };
        io::Error::new(kind, error)
    }
}
