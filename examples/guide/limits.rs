//! Chapter 5 of the guide (docs/guide): answers as large as a client wants, to clients as slow as
//! they want, in little memory.

use std::time::Duration;

use tightloop::codec::LineCodec;
use tightloop::{Action, CloseReason, Conn, FrameConn, FrameHandler, Framed, Server, WhenFull};

/// Pending output at which a connection counts as full, and at which it has drained.
const HIGH: usize = 256 * 1024;
const LOW: usize = 64 * 1024;

/// What the answers are made of.
static CHUNK: [u8; 16 * 1024] = [b'x'; 16 * 1024];

struct Sender {
    codec: LineCodec,
}

impl FrameHandler for Sender {
    type Codec = LineCodec;
    type State = u64; // bytes that the client still has to get

    fn codec(&mut self, _: &mut Conn<'_>) -> LineCodec {
        self.codec.clone()
    }

    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) -> u64 {
        0
    }

    fn on_frame(&mut self, conn: &mut FrameConn<'_, Self>, left: &mut u64, line: &[u8]) -> Action {
        let number = str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok());
        let Some(bytes) = number else {
            conn.write(b"how many bytes?\n");
            return Action::Continue;
        };
        *left = left.saturating_add(bytes);
        fill(conn, left);
        Action::Continue
    }

    fn on_drain(&mut self, conn: &mut FrameConn<'_, Self>, left: &mut u64) -> Action {
        fill(conn, left);
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, left: u64, reason: CloseReason) {
        println!("{}: {reason}, {left} bytes not written", conn.peer_addr());
    }
}

/// Writes until the connection is full or nothing is left. `on_drain` comes only to a connection
/// that was full, so it is not enough to stop just below.
fn fill(conn: &mut Conn<'_>, left: &mut u64) {
    while *left > 0 && conn.pending() <= HIGH {
        let length = (*left).min(CHUNK.len() as u64);
        conn.write_bytes(&CHUNK[..length as usize]);
        *left -= length;
    }
}

fn main() -> tightloop::Result<()> {
    let url = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:9000".to_owned());
    let codec = LineCodec::new(20)?;

    let server = Server::new()
        .listen(url)
        .watermarks(HIGH, LOW)
        .max_unconsumed_input(64 * 1024)
        .max_connections(1000, WhenFull::Wait)
        .max_connections_per_ip(100)
        .memory_budget(64 << 20)
        .first_byte_timeout(Duration::from_secs(2))
        .idle_timeout(Duration::from_secs(60))
        .write_stall_timeout(Duration::from_secs(5))
        .start(move |_loop| Framed::new(Sender { codec: codec.clone() }))?;
    println!("listening on {}", server.local_addrs()[0]);
    server.join()
}
