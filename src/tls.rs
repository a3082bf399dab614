//! TLS below the handler: what a session is (`Session`), and what a handler may learn of it
//! ([`TlsInfo`]). Pure: bytes of the socket in, plaintext out, and the other way round. Nothing
//! here knows sockets, and only `tls/session.rs` knows the library that does the work.
//!
//! The sessions of a loop live beside its connections, as their states do; `reactor/secure.rs`
//! stands them between the driver and the handler. Whoever speaks plaintext pays one branch.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::error::TlsError;

#[cfg(feature = "tls")]
mod config;
#[cfg(feature = "tls")]
mod session;

#[cfg(feature = "tls")]
pub use config::{
    PemError, StartTls, TlsAcceptor, TlsConnector, certificates_from_pem_file,
    private_key_from_pem_file,
};
/// The version whose types the functions of this library take and give.
#[cfg(feature = "tls")]
pub use rustls;

/// One TLS session, of either side. An error is final; the alert that tells the peer of it is
/// then among what `take_wire` gives.
pub(crate) trait Session {
    /// Takes bytes from the socket, at least one unless the peer's end came before them, and
    /// works on what is complete.
    fn read(&mut self, wire: &[u8]) -> Result<usize, TlsError>;

    /// The next stretch of what was decrypted; empty when there is none.
    fn plaintext(&mut self) -> &[u8];

    /// Drops the first `count` bytes of `plaintext`.
    fn consume(&mut self, count: usize);

    /// Encrypts, and answers how many bytes were taken. Not while handshaking.
    fn write(&mut self, plaintext: &[u8]) -> usize;

    /// Makes the close_notify: nothing is written behind it.
    fn close(&mut self);

    /// Whether there is something for the socket.
    fn has_wire(&self) -> bool;

    /// Moves all that is for the socket into `out`, which never refuses.
    fn take_wire(&mut self, out: &mut dyn io::Write);

    fn is_handshaking(&self) -> bool;

    /// The peer's close_notify was read.
    fn peer_has_closed(&self) -> bool;

    /// What was agreed on; valid once the handshake is done.
    fn info(&self) -> TlsInfo;
}

/// Makes the session of one connection.
pub(crate) type MakeSession = Arc<dyn Fn() -> Result<Box<dyn Session>, TlsError> + Send + Sync>;

/// The same for the side that connects, given the host of the endpoint.
pub(crate) type MakeNamedSession =
    Arc<dyn Fn(Option<&str>) -> Result<Box<dyn Session>, TlsError> + Send + Sync>;

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsVersion::Tls12 => "TLSv1.2",
            TlsVersion::Tls13 => "TLSv1.3",
        })
    }
}

/// What a TLS handshake has agreed on; see [`Conn::tls`](crate::Conn::tls).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The protocol version.
    pub version: TlsVersion,
    /// The cipher suite by its name in the IANA registry, as `TLS13_AES_256_GCM_SHA384`.
    pub cipher_suite: String,
    /// The application protocol that was agreed on (ALPN, RFC 7301), if any.
    pub alpn: Option<Vec<u8>>,
    /// The host name that the client asked for (SNI, RFC 6066), if any; on a client, the name that
    /// the server's certificate was checked for.
    pub server_name: Option<String>,
    /// The peer's certificates in DER, its own first; empty where it was not asked for any, or has
    /// none.
    pub peer_certificates: Vec<Vec<u8>>,
    /// An earlier session was resumed: no certificate was exchanged.
    pub resumed: bool,
}
