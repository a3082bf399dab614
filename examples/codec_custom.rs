//! A protocol of one's own: magic, version, type, length, body. Answers with the next type.
mod common;

use bytes::BufMut;
use clap::{Args, Command, FromArgMatches};
use tightloop::codec::{Codec, Decoded};
use tightloop::{Action, Conn, DecodeError, EncodeError, FrameConn, FrameHandler, Framed};

const MAGIC_AND_VERSION: [u8; 3] = *b"TL\x01";
const MAX_BODY: usize = 64 * 1024;
type Message<'a> = (u8, &'a [u8]); // type and body

struct Protocol;
impl Codec for Protocol {
    type Frame<'a> = Message<'a>;
    type Item<'a> = Message<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<Message<'a>> {
        let Some((header, rest)) = input.split_first_chunk::<8>() else { return Decoded::more() };
        let &[.., kind, a, b, c, d] = header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !header.starts_with(&MAGIC_AND_VERSION) || length > MAX_BODY {
            return Decoded::error(0, DecodeError::Corrupt { reason: "not this protocol" });
        }
        rest.get(..length).map_or(Decoded::more(), |body| Decoded::frame(8 + length, (kind, body)))
    }

    fn encode<B: BufMut>(&mut self, item: Message, out: &mut B) -> Result<(), EncodeError> {
        if item.1.len() > MAX_BODY {
            return Err(EncodeError::other("the body is too long"));
        }
        out.put_slice(&MAGIC_AND_VERSION);
        out.put_u8(item.0);
        out.put_u32(item.1.len() as u32);
        out.put_slice(item.1);
        Ok(())
    }
}

struct Answers;
impl FrameHandler for Answers {
    type Codec = Protocol;
    type State = ();

    fn codec(&mut self, _: &mut Conn<'_>) -> Protocol {
        Protocol
    }
    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) {}
    fn on_frame(&mut self, conn: &mut FrameConn<Self>, _: &mut (), message: Message) -> Action {
        let answer = conn.send((message.0.wrapping_add(1), message.1));
        answer.map_or(Action::Close, |()| Action::Continue)
    }
}

fn main() -> std::process::ExitCode {
    let matches = common::Args::augment_args(Command::new("codec_custom")).get_matches();
    let args = common::Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    common::serve(common::server(&args, &["tcp://:9000"]), |_loop| Framed::new(Answers))
}
