//! Input for a server with `Framed`, over a socket: what its handler is told is what the codec
//! finds by itself, and the server lives on.
#![no_main]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use support::Event;
use tightloop::codec::{AnyCodec, VarintLengthCodec};
use tightloop::{
    Action, Conn, DecodeError, FrameConn, FrameHandler, Framed, RunningServer, Server,
};

/// Reads the settings of its codec in a first frame, and answers each further event.
struct Teller;

impl FrameHandler for Teller {
    type Codec = AnyCodec;
    /// Whether the settings were read.
    type State = bool;

    fn codec(&mut self, _: &mut Conn<'_>) -> AnyCodec {
        VarintLengthCodec::new(1 << 20).expect("a limit").into()
    }

    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) -> bool {
        false
    }

    fn on_frame(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        ready: &mut bool,
        frame: &[u8],
    ) -> Action {
        match *ready {
            true => tell(conn, Event::Frame(frame)),
            false => {
                let Some(codec) = codec(frame) else { return Action::Close };
                conn.switch_codec(codec);
                *ready = true;
            }
        }
        Action::Continue
    }

    fn on_frame_error(
        &mut self,
        conn: &mut FrameConn<'_, Self>,
        _: &mut bool,
        error: DecodeError,
    ) -> Result<Action, DecodeError> {
        tell(
            conn,
            match error {
                DecodeError::TooLong { .. } => Event::TooLong,
                DecodeError::NegativeLength { .. } => Event::Negative,
                DecodeError::Corrupt { .. } => Event::Corrupt,
                error => return Err(error),
            },
        );
        Ok(Action::Continue)
    }
}

/// Past the codec, so that it is told what could not be sent.
fn tell(conn: &mut FrameConn<'_, Teller>, event: Event<'_>) {
    conn.write(format!("{event:?}\n").as_bytes());
}

fn codec(settings: &[u8]) -> Option<AnyCodec> {
    let mut settings = support::Settings(settings);
    let (codec, cuts_are_equal) = match settings.byte() % 5 {
        0 => support::length_field(&mut settings),
        1 => support::varint(&mut settings),
        2 => support::line(&mut settings),
        3 => support::delimiter(&mut settings),
        _ => support::fixed_length(&mut settings),
    }?;
    cuts_are_equal.then_some(codec)
}

/// One server for all runs.
fn address() -> SocketAddr {
    static SERVER: OnceLock<Mutex<RunningServer<Framed<Teller>>>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let server = Server::new().listen("tcp://127.0.0.1:0").receive_buffer(1024);
        Mutex::new(server.start(|_| Framed::new(Teller)).expect("the server starts"))
    });
    let server = server.lock().expect("no run panicked");
    server.local_addrs()[0].socket_addr().expect("an IP listener")
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((settings, input)) = data.split_at_checked(24) else { return };
    let Some(codec) = codec(settings) else { return };
    let expected = support::decode(codec, input, |_| input.len());
    let expected: String = expected.iter().map(|event| format!("{event:?}\n")).collect();

    let mut sent = vec![settings.len() as u8];
    sent.extend_from_slice(data);
    let mut client = TcpStream::connect(address()).expect("the server lives");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    // In two pieces; the answers to at most 4 KiB fit the socket's buffers.
    let (first, second) = sent.split_at(sent.len() / 2);
    client.write_all(first).expect("the first piece leaves");
    client.write_all(second).expect("the second piece leaves");
    client.shutdown(Shutdown::Write).expect("the end is told");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the server answers and closes");
    assert_eq!(answer, expected);
});
