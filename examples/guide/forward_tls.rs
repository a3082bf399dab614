//! Chapter 8 of the guide (docs/guide): TLS in front of a server that has none.

use std::error::Error;
use std::sync::Arc;

use rustls::crypto::ring;
use tightloop::tls::TlsAcceptor;
use tightloop::{Action, CloseReason, Conn, ConnId, Direction, Endpoint, Handler, Input, Server};

/// Output that may wait for one side before the other side is not read from any more.
const HIGH: usize = 256 * 1024;
const LOW: usize = 64 * 1024;

struct Forward {
    back_end: Endpoint,
}

/// The other half of the pair; None where it could not even be asked for.
struct Side {
    other: Option<ConnId>,
}

impl Handler for Forward {
    type State = Side;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> Side {
        if conn.direction() == Direction::Outgoing {
            return Side { other: conn.initiator() };
        }
        if let Some(tls) = conn.tls() {
            println!("{}: {} {}", conn.peer_addr(), tls.version, tls.cipher_suite);
        }
        conn.set_auto_pause(false); // we pause by the other side's output, not by our own
        match conn.connect(&self.back_end) {
            Ok(id) => Side { other: Some(id) },
            Err(error) => {
                println!("{}: {error}", conn.peer_addr());
                conn.close();
                Side { other: None }
            }
        }
    }

    fn on_traffic(
        &mut self,
        conn: &mut Conn<'_>,
        side: &mut Side,
        input: &mut Input<'_>,
    ) -> Action {
        let Some(mut other) = side.other.and_then(|id| conn.peer(id)) else {
            return Action::Close;
        };
        if other.write(input.take_all()) > HIGH {
            conn.pause_reading();
        }
        Action::Continue
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>, side: &mut Side) -> Action {
        if let Some(mut other) = side.other.and_then(|id| conn.peer(id)) {
            other.resume_reading();
        }
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, side: Side, reason: CloseReason) {
        println!("{}: {reason}", conn.peer_addr());
        if let Some(mut other) = side.other.and_then(|id| conn.peer(id)) {
            other.close(); // what is written to it is delivered first
        }
    }

    fn on_open_failed(&mut self, conn: &mut Conn<'_>, reason: CloseReason) {
        println!("{}: {reason}", conn.peer_addr());
        if let Some(mut client) = conn.initiator().and_then(|id| conn.peer(id)) {
            client.close();
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, back_end, certificate, key] = &arguments[..] else {
        return Err("usage: guide_forward_tls LISTEN BACK_END CERTIFICATE KEY".into());
    };
    let back_end: Endpoint = back_end.parse()?;
    let provider = Arc::new(ring::default_provider());
    let acceptor = TlsAcceptor::from_pem_files(provider, certificate, key)?;

    let server = Server::new()
        .listen(listen)
        .tls(acceptor)
        .high_watermark(HIGH)
        .low_watermark(LOW)
        .start(move |_loop| Forward { back_end: back_end.clone() })?;
    println!("listening on {}", server.local_addrs()[0]);
    server.join()?;
    Ok(())
}
