//! Chapter 3 of the guide (docs/guide): a chat room whose members live on different event loops.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tightloop::codec::LineCodec;
use tightloop::{Action, CloseReason, Conn, Context, FrameConn, FrameHandler, Framed, Server};

/// The longest line, and so the longest name.
const MAX_LINE: usize = 200;

/// One event loop's part of the room.
struct Room {
    codec: LineCodec,
    /// Lines that this loop has passed on. Nobody else can see the number, so it is a plain one.
    lines: u64,
    /// Members on all loops.
    members: Arc<AtomicUsize>,
}

/// What is kept for a connection.
struct Member {
    /// None until the first line, which is the name.
    name: Option<String>,
}

impl FrameHandler for Room {
    type Codec = LineCodec;
    type State = Member;

    fn codec(&mut self, _: &mut Conn<'_>) -> LineCodec {
        self.codec.clone()
    }

    fn on_open(&mut self, conn: &mut FrameConn<'_, Self>) -> Member {
        conn.write(b"your name?\n");
        Member { name: None }
    }

    fn on_frame(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        member: &mut Member,
        line: &[u8],
    ) -> Action {
        let text = String::from_utf8_lossy(line);
        match &member.name {
            None => {
                let members = self.members.fetch_add(1, Ordering::Relaxed) + 1;
                say(
                    conn,
                    format!("{text} is here ({members} now), on loop {}\n", conn.loop_index()),
                );
                member.name = Some(text.into_owned());
            }
            Some(name) => {
                self.lines += 1;
                say(conn, format!("{name}: {text}\n"));
            }
        }
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, member: Member, _: CloseReason) {
        if let Some(name) = member.name {
            let members = self.members.fetch_sub(1, Ordering::Relaxed) - 1;
            say(conn, format!("{name} is gone ({members} left)\n"));
        }
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_, Framed<Self>>) {
        println!("loop {} has passed on {} lines", cx.loop_index(), self.lines);
    }
}

/// Sends a line to every connection, whichever loop it lives on.
fn say(conn: &Conn<'_>, line: String) {
    if let Err(error) = conn.server().broadcast(line) {
        println!("not everybody was told: {error}");
    }
}

fn main() -> tightloop::Result<()> {
    let url = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:9000".to_owned());
    let codec = LineCodec::new(MAX_LINE)?;
    let members = Arc::new(AtomicUsize::new(0));

    let server = Server::new().loops(2).listen(url).start(move |_loop| {
        Framed::new(Room { codec: codec.clone(), lines: 0, members: Arc::clone(&members) })
    })?;
    println!("listening on {}", server.local_addrs()[0]);

    println!("press Enter to stop");
    let _ = std::io::stdin().read_line(&mut String::new());
    server.stop();
    server.join()
}
