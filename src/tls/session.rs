//! A TLS session by rustls, through its buffered interface: the one file that knows how that works.

use std::io::{self, BufRead, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, ServerConfig,
    ServerConnection,
};

use crate::error::TlsError;
use crate::tls::{Session, TlsInfo, TlsVersion};

/// A session of either side.
pub(super) struct RustlsSession {
    connection: Connection,
    /// The name that a server's certificate was checked for.
    server_name: Option<String>,
    peer_has_closed: bool,
}

/// A session of the side that was connected to.
pub(super) fn server(config: Arc<ServerConfig>) -> Result<Box<dyn Session>, TlsError> {
    let connection = ServerConnection::new(config).map_err(TlsError::new)?;
    Ok(new(connection.into(), None))
}

/// A session of the side that connects.
pub(super) fn client(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Box<dyn Session>, TlsError> {
    let server_name = name.to_str().into_owned();
    let connection = ClientConnection::new(config, name).map_err(TlsError::new)?;
    Ok(new(connection.into(), Some(server_name)))
}

fn new(mut connection: Connection, server_name: Option<String>) -> Box<dyn Session> {
    // The reactor bounds what is encrypted at a time.
    connection.set_buffer_limit(None);
    Box::new(RustlsSession { connection, server_name, peer_has_closed: false })
}

impl Session for RustlsSession {
    fn read(&mut self, wire: &[u8]) -> Result<usize, TlsError> {
        let mut rest = wire;
        self.connection.read_tls(&mut rest).map_err(TlsError::new)?;
        let state = self.connection.process_new_packets().map_err(TlsError::new)?;
        self.peer_has_closed |= state.peer_has_closed();
        Ok(wire.len() - rest.len())
    }

    fn plaintext(&mut self) -> &[u8] {
        // An error says that there is none now, or none any more.
        self.connection.reader().into_first_chunk().unwrap_or(&[])
    }

    fn consume(&mut self, count: usize) {
        self.connection.reader().consume(count);
    }

    fn write(&mut self, plaintext: &[u8]) -> usize {
        // Writing to memory without a limit.
        self.connection.writer().write(plaintext).unwrap_or(0)
    }

    fn close(&mut self) {
        self.connection.send_close_notify();
    }

    fn has_wire(&self) -> bool {
        self.connection.wants_write()
    }

    fn take_wire(&mut self, out: &mut dyn io::Write) {
        while self.connection.wants_write() {
            if !self.connection.write_tls(out).is_ok_and(|count| count > 0) {
                break;
            }
        }
    }

    fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    fn peer_has_closed(&self) -> bool {
        self.peer_has_closed
    }

    fn info(&self) -> TlsInfo {
        let connection = &self.connection;
        let asked_for = match connection {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => self.server_name.clone(),
        };
        let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
        let certificates = connection.peer_certificates().unwrap_or_default();
        TlsInfo {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
                _ => TlsVersion::Tls13,
            },
            cipher_suite: suite.map_or_else(String::new, |suite| format!("{suite:?}")),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name: asked_for,
            peer_certificates: certificates.iter().map(|der| der.to_vec()).collect(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}
