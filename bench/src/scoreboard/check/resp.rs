//! Whether a server answers as Redis does, in what is measured: GET and SET, also pipelined.

use std::io::Write;
use std::net::TcpStream;

use super::{expect, noise};

const SIZES: [usize; 5] = [1, 3, 64, 4_096, 100_000];
const PIPELINED: usize = 16;

pub fn check(stream: &mut TcpStream) -> Result<(), String> {
    exchange(stream, "PING", &command(&[b"PING"]), b"+PONG\r\n")?;
    let missing = command(&[b"GET", b"there is no such key"]);
    exchange(stream, "GET of nothing", &missing, b"$-1\r\n")?;
    for (seed, size) in SIZES.into_iter().enumerate() {
        let what = format!("a value of {size} B");
        let (key, value) = (format!("key:{size}"), noise(size, seed));
        let set = command(&[b"SET", key.as_bytes(), &value]);
        exchange(stream, &what, &set, b"+OK\r\n")?;
        let get = command(&[b"GET", key.as_bytes()]);
        exchange(stream, &what, &get, &bulk(&value))?;
    }
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for n in 0..PIPELINED {
        let (key, value) = (format!("pipelined:{}", n % 4), noise(3, n));
        requests.extend(command(&[b"SET", key.as_bytes(), &value]));
        requests.extend(command(&[b"GET", key.as_bytes()]));
        replies.extend_from_slice(b"+OK\r\n");
        replies.extend(bulk(&value));
    }
    exchange(stream, "pipelined", &requests, &replies)?;
    for piece in requests.chunks(7) {
        stream.write_all(piece).map_err(|error| error.to_string())?;
    }
    expect(stream, &replies).map_err(|error| format!("commands in pieces: {error}"))
}

fn exchange(
    stream: &mut TcpStream,
    what: &str,
    request: &[u8],
    reply: &[u8],
) -> Result<(), String> {
    stream.write_all(request).map_err(|error| format!("{what}: {error}"))?;
    expect(stream, reply).map_err(|error| format!("{what}: {error}"))
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| bytes.extend(bulk(word)));
    bytes
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
