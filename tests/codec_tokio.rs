//! Codecs of `tokio_util` as codecs of tightloop: alone, and over real sockets.

mod common;

use std::io::Write;

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;
use tightloop::codec::{Codec, Step, TokioCodec};
use tightloop::{Action, Conn, DecodeError, FrameConn, FrameHandler, Framed};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec, LinesCodec};

/// Yields as many frames as a byte says, all from that byte.
struct Burst(u8);

impl Decoder for Burst {
    type Item = u8;
    type Error = std::io::Error;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<u8>, Self::Error> {
        if self.0 == 0 && !input.is_empty() {
            self.0 = input.get_u8();
        }
        if self.0 == 0 {
            return Ok(None);
        }
        self.0 -= 1;
        Ok(Some(self.0))
    }
}

impl Encoder<()> for Burst {
    type Error = std::io::Error;

    fn encode(&mut self, (): (), _: &mut BytesMut) -> Result<(), Self::Error> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// The frames of the chunks; an error is `None`.
fn decode<C, F>(mut codec: C, chunks: &[&[u8]]) -> Vec<Option<F>>
where
    C: for<'a> Codec<Frame<'a> = F>,
{
    let (mut found, mut unconsumed) = (Vec::new(), Vec::new());
    for chunk in chunks {
        unconsumed.extend_from_slice(chunk);
        while !unconsumed.is_empty() {
            let decoded = codec.decode(&unconsumed);
            unconsumed.drain(..decoded.consumed);
            match decoded.step {
                Step::Frame(frame) => found.push(Some(frame)),
                Step::Error(_) => found.push(None),
                Step::More => break,
            }
        }
    }
    found
}

#[test]
fn several_frames_from_one_stretch_of_input_all_come_out() {
    let codec = || TokioCodec::<_, ()>::new(Burst(0));
    let frames: Vec<u8> = decode(codec(), &[b"\x03\x01\x02"]).into_iter().flatten().collect();
    assert_eq!(frames, [2, 1, 0, 0, 1, 0]);
    let frames: Vec<u8> = decode(codec(), &[b"\x03", b"\x01"]).into_iter().flatten().collect();
    assert_eq!(frames, [2, 1, 0, 0]);
    assert!(codec().encode_to_bytes(()).is_err());
}

#[test]
fn an_error_is_told_and_decoding_goes_on() {
    let codec = TokioCodec::<_, String>::new(LinesCodec::new_with_max_length(4));
    let lines = decode(codec, &[b"one\ntoo lo", b"ng\ntwo\n"]);
    assert_eq!(lines, [Some("one".to_owned()), None, Some("two".to_owned())]);
}

proptest! {
    #[test]
    fn cuts_make_no_difference(input in prop::collection::vec(0_u8..4, 0..80), size in 1_usize..9) {
        let codec = || {
            let inner = LengthDelimitedCodec::builder().length_field_length(1).new_codec();
            TokioCodec::<_, Bytes>::new(inner)
        };
        let chunks: Vec<&[u8]> = input.chunks(size).collect();
        prop_assert_eq!(decode(codec(), &chunks), decode(codec(), &[&input]));
    }
}

struct Echo;

impl FrameHandler for Echo {
    type Codec = TokioCodec<LinesCodec, String>;
    type State = ();

    fn codec(&mut self, _: &mut Conn<'_>) -> Self::Codec {
        TokioCodec::new(LinesCodec::new_with_max_length(8))
    }

    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) {}

    fn on_frame(&mut self, conn: &mut FrameConn<'_, Self>, _: &mut (), line: String) -> Action {
        conn.send(line.to_uppercase()).unwrap();
        Action::Continue
    }

    fn on_frame_error(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        _: &mut (),
        error: DecodeError,
    ) -> Result<Action, DecodeError> {
        conn.send(error.to_string()).unwrap();
        Err(error)
    }
}

every_driver! {
    fn a_server_speaks_through_a_codec_of_tokio(driver) {
        let server = common::server(driver).listen("tcp://127.0.0.1:0");
        let server = common::start(server, |_| Framed::new(Echo));
        let mut client = common::connect(common::address(&server, 0));
        client.write_all(b"one\ntw").unwrap();
        assert_eq!(common::read(&mut client, 4), b"ONE\n");
        client.write_all(b"o\nfar too long\n").unwrap();
        assert_eq!(common::read_to_end(&mut client), b"TWO\nmax line length exceeded\n");
        common::stop(server);
    }
}
