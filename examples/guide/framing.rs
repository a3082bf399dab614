//! Chapter 2 of the guide (docs/guide): a calculator for lines, once with lines cut by hand and once
//! with a codec.

use tightloop::codec::LineCodec;
use tightloop::{
    Action, Conn, DecodeError, FrameConn, FrameHandler, Framed, Handler, Input, Server,
};

/// The longest line that is waited for.
const MAX_LINE: usize = 80;

/// What to answer to a line such as `6 * 7`.
fn answer(line: &[u8]) -> String {
    calculate(line).map_or("what?".to_owned(), |number| number.to_string())
}

fn calculate(line: &[u8]) -> Option<i64> {
    let words: Vec<&str> = str::from_utf8(line).ok()?.split_whitespace().collect();
    let [left, operator, right] = words[..] else { return None };
    let (left, right): (i64, i64) = (left.parse().ok()?, right.parse().ok()?);
    match operator {
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "/" => left.checked_div(right),
        _ => None,
    }
}

struct ByHand;

impl Handler for ByHand {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        while let Some(end) = input.as_slice().iter().position(|&byte| byte == b'\n') {
            let line = &input.as_slice()[..end];
            input.consume(end + 1);
            conn.write(format!("{}\n", answer(line)).as_bytes());
        }
        if input.len() > MAX_LINE {
            return Action::Close; // a line without an end: stop collecting it
        }
        Action::Continue // what is left is offered again, in front of what comes next
    }
}

struct WithCodec {
    codec: LineCodec,
}

impl FrameHandler for WithCodec {
    type Codec = LineCodec;
    type State = ();

    fn codec(&mut self, _: &mut Conn<'_>) -> LineCodec {
        self.codec.clone()
    }

    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) {}

    fn on_frame(&mut self, conn: &mut FrameConn<'_, Self>, _: &mut (), line: &[u8]) -> Action {
        match conn.send(answer(line).as_bytes()) {
            Ok(()) => Action::Continue,
            Err(_) => Action::Close, // only for an answer that is no line, which ours never is
        }
    }

    fn on_frame_error(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        _: &mut (),
        error: DecodeError,
    ) -> Result<Action, DecodeError> {
        match error {
            DecodeError::TooLong { .. } => {
                conn.write(b"that line is too long\n");
                Ok(Action::Continue) // the codec drops the rest of the line and goes on behind it
            }
            error => Err(error), // closes the connection, with the error as the reason
        }
    }
}

fn main() -> tightloop::Result<()> {
    let mut urls = std::env::args().skip(1);
    let by_hand = urls.next().unwrap_or("tcp://127.0.0.1:9000".to_owned());
    let with_codec = urls.next().unwrap_or("tcp://127.0.0.1:9001".to_owned());

    let by_hand = Server::new().listen(by_hand).start(|_loop| ByHand)?;
    println!("by hand: listening on {}", by_hand.local_addrs()[0]);

    let codec = LineCodec::new(MAX_LINE)?;
    let with_codec = Server::new()
        .listen(with_codec)
        .start(move |_loop| Framed::new(WithCodec { codec: codec.clone() }))?;
    println!("with a codec: listening on {}", with_codec.local_addrs()[0]);

    by_hand.join()?;
    with_codec.join()
}
