//! Sends "hello" and "world" as frames behind a length of four bytes, big-endian, and prints the
//! frames that come back.
//!
//! It works with any server of that framing. The codecs need no event loop: this client has a
//! blocking socket of the standard library.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use clap::Parser;
use tightloop::codec::{Codec, LengthFieldCodec, Step};

/// Sends frames and prints what returns
#[derive(Parser)]
struct Flags {
    /// The server, such as tcp://127.0.0.1:9000
    #[arg(long, value_name = "URL", default_value = "tcp://127.0.0.1:9000")]
    connect: String,

    /// What to send, each as a frame
    #[arg(value_name = "TEXT", default_values = ["hello", "world"])]
    texts: Vec<String>,

    /// How long to wait for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    let address = flags.connect.strip_prefix("tcp://").unwrap_or(&flags.connect);
    let mut server = TcpStream::connect(address)?;
    server.set_read_timeout(Some(Duration::from_secs(flags.timeout.max(1))))?;

    let mut codec = LengthFieldCodec::new(4)?;
    let mut output = Vec::new();
    for text in &flags.texts {
        codec.encode(text.as_bytes(), &mut output)?;
    }
    server.write_all(&output)?;

    let mut awaited = flags.texts.len();
    let mut input = Vec::new();
    while awaited > 0 {
        let mut received = [0; 4096];
        match server.read(&mut received)? {
            0 => return Err(format!("the server closed, {awaited} frames are missing").into()),
            length => input.extend_from_slice(&received[..length]),
        }
        while !input.is_empty() {
            let decoded = codec.decode(&input);
            match decoded.step {
                Step::More => break,
                Step::Frame(frame) => println!("{}", String::from_utf8_lossy(frame)),
                Step::Error(error) => return Err(error.into()),
            }
            input.drain(..decoded.consumed);
            awaited = awaited.saturating_sub(1);
        }
    }
    Ok(())
}
