//! Clients of rustls over blocking sockets, whole ones and such that hand out their bytes one by
//! one.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

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
        let length = common::uninterrupted(|| session.read_tls(stream));
        assert!(length.expect("the server speaks") > 0, "it has closed");
        session.process_new_packets().expect("it speaks TLS");
    }
}

/// Sends everything and, at the same time, hands what is answered to `seen`, until that says that
/// it was the last.
pub fn duplex(client: Client, message: Vec<u8>, mut seen: impl FnMut(&[u8]) -> bool) -> Client {
    let (session, mut stream) = client.into_parts();
    let mut sink = stream.try_clone().expect("a second handle");
    let session = Arc::new(Mutex::new(session));
    let writer = thread::spawn({
        let session = Arc::clone(&session);
        move || {
            for part in message.chunks(60_000) {
                let bytes = {
                    let mut session = session.lock().expect("nobody panics");
                    session.writer().write_all(part).expect("into memory");
                    wire(&mut session)
                };
                sink.write_all(&bytes).expect("the server reads");
            }
        }
    });
    let (mut received, mut plain) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut goes_on = true;
    while goes_on {
        let count = common::uninterrupted(|| stream.read(&mut received));
        let count = count.expect("the server answers");
        assert!(count > 0, "it has closed");
        let mut answer = Vec::new();
        {
            let mut session = session.lock().expect("nobody panics");
            let mut rest = &received[..count];
            while !rest.is_empty() {
                session.read_tls(&mut rest).expect("from memory");
                session.process_new_packets().expect("it speaks TLS");
                while let Ok(count @ 1..) = session.reader().read(&mut plain) {
                    answer.extend_from_slice(&plain[..count]);
                }
            }
        }
        // The writer goes on meanwhile.
        goes_on = answer.is_empty() || seen(&answer);
    }
    writer.join().expect("everything was sent");
    let session = Arc::into_inner(session).expect("the writer is gone");
    StreamOwned::new(session.into_inner().expect("nobody panics"), stream)
}
