//! Chapter 6 of the guide (docs/guide): a server that asks its clients whether they live, and tells
//! at each tick how many do.

use std::time::Duration;

use tightloop::codec::LineCodec;
use tightloop::{Action, CloseReason, Conn, Context, FrameConn, FrameHandler, Framed, Server};

/// Pings that may stay without an answer.
const MAX_MISSED: u32 = 3;

struct Heartbeat {
    codec: LineCodec,
    interval: Duration,
}

/// Pings since the client's last word.
struct Missed(u32);

impl FrameHandler for Heartbeat {
    type Codec = LineCodec;
    type State = Missed;

    fn codec(&mut self, _: &mut Conn<'_>) -> LineCodec {
        self.codec.clone()
    }

    fn on_open(&mut self, conn: &mut FrameConn<'_, Self>) -> Missed {
        conn.set_timer(self.interval);
        Missed(0)
    }

    fn on_frame(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        missed: &mut Missed,
        line: &[u8],
    ) -> Action {
        missed.0 = 0;
        if line == b"quit" {
            conn.write(b"bye\n");
            return Action::Close;
        }
        Action::Continue
    }

    fn on_timer(&mut self, conn: &mut FrameConn<'_, Self>, missed: &mut Missed) -> Action {
        if missed.0 == MAX_MISSED {
            conn.write(b"you seem to be gone\n");
            return Action::Close;
        }
        missed.0 += 1;
        conn.write(b"ping\n");
        conn.set_timer(self.interval); // a timer is due once
        Action::Continue
    }

    fn on_tick(&mut self, cx: &mut Context<'_, Framed<Self>>) -> Option<Duration> {
        let (mut well, mut silent) = (0, 0);
        cx.for_each(|conn, framed| {
            let (_, missed) = framed.with(conn);
            if missed.0 <= 1 { well += 1 } else { silent += 1 }
        });
        println!("{well} well, {silent} silent");
        Some(self.interval * 4)
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, _: Missed, reason: CloseReason) {
        println!("{}: {reason}", conn.peer_addr());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or("tcp://127.0.0.1:9000".to_owned());
    let interval_ms = arguments.next().unwrap_or("1000".to_owned()).parse()?;
    let interval = Duration::from_millis(interval_ms);
    let codec = LineCodec::new(80)?;

    let server = Server::new()
        .listen(url)
        .start(move |_loop| Framed::new(Heartbeat { codec: codec.clone(), interval }))?;
    println!("listening on {}", server.local_addrs()[0]);
    server.join()?;
    Ok(())
}
