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

#[derive(Default)]
struct Client {
    /// Bytes that it still has to get.
    left: u64,
    /// It asks for nothing more.
    eof: bool,
}

impl FrameHandler for Sender {
    type Codec = LineCodec;
    type State = Client;

    fn codec(&mut self, _: &mut Conn<'_>) -> LineCodec {
        self.codec.clone()
    }

    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) -> Client {
        Client::default()
    }

    fn on_frame(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        client: &mut Client,
        line: &[u8],
    ) -> Action {
        let number = str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok());
        let Some(bytes) = number else {
            conn.write(b"how many bytes?\n");
            return Action::Continue;
        };
        client.left = client.left.saturating_add(bytes);
        fill(conn, client)
    }

    fn on_drain(&mut self, conn: &mut FrameConn<'_, Self>, client: &mut Client) -> Action {
        fill(conn, client)
    }

    fn on_eof(&mut self, conn: &mut FrameConn<'_, Self>, client: &mut Client) -> Action {
        client.eof = true;
        fill(conn, client)
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, client: Client, reason: CloseReason) {
        println!("{}: {reason}, {} bytes not written", conn.peer_addr(), client.left);
    }
}

/// Writes what is left, but no more than brings the pending output just above the high watermark.
fn fill(conn: &mut Conn<'_>, client: &mut Client) -> Action {
    let mut room = (HIGH + CHUNK.len()).saturating_sub(conn.pending());
    while room > 0 && client.left > 0 {
        let length = client.left.min(CHUNK.len().min(room) as u64) as usize;
        conn.write_bytes(&CHUNK[..length]);
        room -= length;
        client.left -= length as u64;
    }
    if client.eof && client.left == 0 { Action::Close } else { Action::Continue }
}

fn main() -> tightloop::Result<()> {
    let url = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:9000".to_owned());
    let codec = LineCodec::new(20)?;

    let server = Server::new()
        .listen(url)
        .half_close(true)
        .high_watermark(HIGH)
        .low_watermark(LOW)
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
