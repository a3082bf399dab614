//! Frames behind a length of four bytes, big-endian: each comes back as it came.
//!
//! ```text
//! cargo run --release --example codec_server
//! cargo run --release --example codec_client
//! ```

mod common;

use std::process::ExitCode;

use clap::Parser;
use tightloop::codec::LengthFieldCodec;
use tightloop::{Action, CloseReason, Conn, FrameConn, FrameHandler, Framed};

/// Sends frames back: a length of four bytes, big-endian, and so many bytes
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: common::Args,

    /// The limit of a frame, in bytes, with its length
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    max_frame: usize,
}

struct Echo {
    /// The settings, checked once; each connection gets a copy.
    codec: LengthFieldCodec,
}

impl FrameHandler for Echo {
    type Codec = LengthFieldCodec;
    type State = ();

    fn codec(&mut self, _: &mut Conn<'_>) -> LengthFieldCodec {
        self.codec.clone()
    }

    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) {}

    fn on_frame(&mut self, conn: &mut FrameConn<'_, Self>, _: &mut (), frame: &[u8]) -> Action {
        match conn.send(frame) {
            Ok(()) => Action::Continue,
            Err(_) => Action::Close, // what was short enough to come in is to go out
        }
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, _: (), reason: CloseReason) {
        // A peer that sends no frames, or leaves within one.
        if let CloseReason::Codec(error) = reason {
            eprintln!("{}: {error}", conn.peer_addr());
        }
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let codec = match LengthFieldCodec::builder().max_frame(flags.max_frame).build() {
        Ok(codec) => codec,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let server = common::server(&flags.common, &["tcp://:9000"]);
    common::serve(server, move |_loop| Framed::new(Echo { codec: codec.clone() }))
}
