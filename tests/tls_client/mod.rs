//! Clients of rustls over blocking sockets, whole ones and such that hand out their bytes one by
//! one.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::certificates::Versions;
use crate::common;

/// A URL with TLS on a port of its own.
pub const TLS: &str = "tls://127.0.0.1:0";

pub const TLS12: Versions = &[&rustls::version::TLS12];
pub const TLS13: Versions = &[&rustls::version::TLS13];

/// A client, and the stream under it.
pub type Client<S = TcpStream> = StreamOwned<ClientConnection, S>;

/// A client of `localhost` whose handshake is done with its first read or write.
pub fn client(config: impl Into<Arc<ClientConfig>>, to: SocketAddr) -> Client {
    over(config, "localhost", common::connect(to))
}

/// A client over a stream that is there already.
pub fn over<S: Read + Write>(
    config: impl Into<Arc<ClientConfig>>,
    name: &str,
    stream: S,
) -> Client<S> {
    StreamOwned::new(session(config, name), stream)
}

/// A session without a stream.
pub fn session(config: impl Into<Arc<ClientConfig>>, name: &str) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    ClientConnection::new(config.into(), name).expect("a session")
}

/// Does the handshake and nothing else.
pub fn shake<S: Read + Write>(client: &mut Client<S>) {
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock).expect("the handshake");
    }
    client.flush().expect("its last part");
}

/// Sends the close_notify.
pub fn close<S: Read + Write>(client: &mut Client<S>) {
    client.conn.send_close_notify();
    client.flush().expect("the close_notify leaves");
}

/// Sends, and reads the same number of bytes back.
pub fn exchange<S: Read + Write>(client: &mut Client<S>, message: &[u8]) -> Vec<u8> {
    client.write_all(message).expect("the message leaves");
    client.flush().expect("all of it");
    common::read(client, message.len())
}

/// What a session has to send now.
pub fn wire(session: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).expect("into memory");
    }
    bytes
}

/// Reads what the server says into the session until `done`, and answers nothing.
pub fn listen_until(
    session: &mut ClientConnection,
    stream: &mut TcpStream,
    mut done: impl FnMut(&mut ClientConnection) -> bool,
) {
    while !done(session) {
        assert!(session.read_tls(stream).expect("the server speaks") > 0, "it has closed");
        session.process_new_packets().expect("it speaks TLS");
    }
}
