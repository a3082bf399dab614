//! Whether a system does what it is measured for: every byte that comes back is compared. What is
//! fast because it is wrong has no place in a table.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use super::workload::Mode;

mod resp;

const PATIENCE: Duration = Duration::from_secs(10);
/// Loopback loses datagrams only when a buffer is full: one repetition is generous.
const DATAGRAM_ATTEMPTS: usize = 3;
const DATAGRAM_WAIT: Duration = Duration::from_millis(700);
/// More than the kernel takes for somebody who does not read, so that the server has to wait for us:
/// its buffers grow to some megabytes only for those who do.
const BULK_BYTES: usize = 8 * 1024 * 1024;
const BODY: &[u8] = b"Hello, World!";

/// Speaks to a server; the error says what it did wrong.
pub fn check(mode: Mode, address: SocketAddr) -> Result<(), String> {
    match mode {
        Mode::Echo => check_echo(address),
        Mode::Proxy => check_proxy(address),
        Mode::Resp => resp::check(&mut connect(address)?),
        Mode::Udp => check_udp(address),
        Mode::Http => check_http(address),
        Mode::Broadcast => check_broadcast(address),
    }
}

fn check_echo(address: SocketAddr) -> Result<(), String> {
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(connect(address)?);
    }
    for (round, size) in [1, 64, 65, 4096, 100_000].into_iter().enumerate() {
        let payloads: Vec<_> = (0..streams.len()).map(|n| noise(size, round * 8 + n)).collect();
        for (stream, payload) in streams.iter_mut().zip(&payloads) {
            let (first, second) = payload.split_at(size / 2);
            stream.write_all(first).map_err(|error| format!("echo of {size} B: {error}"))?;
            stream.write_all(second).map_err(|error| format!("echo of {size} B: {error}"))?;
        }
        for (stream, payload) in streams.iter_mut().zip(&payloads) {
            expect(stream, payload).map_err(|error| format!("echo of {size} B: {error}"))?;
        }
    }
    check_back_pressure(&mut streams[0])
}

/// Behind the proxy is an echo, which ends when its client has sent its end: both have to pass.
fn check_proxy(address: SocketAddr) -> Result<(), String> {
    check_echo(address)?;
    let mut stream = connect(address)?;
    let payload = noise(300_000, 7);
    let told = |error: io::Error| format!("a half-close: {error}");
    let mut writer = stream.try_clone().map_err(told)?;
    thread::scope(|scope| {
        let written = scope
            .spawn(|| writer.write_all(&payload).and_then(|()| writer.shutdown(Shutdown::Write)));
        let read = expect(&mut stream, &payload);
        if read.is_err() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        written.join().map_err(|_| "the writer panicked".to_owned())?.map_err(told)?;
        read.map_err(|error| format!("a half-close: {error}"))
    })?;
    match stream.read(&mut [0; 1]).map_err(told)? {
        0 => Ok(()),
        _ => Err("a half-close: more came than was sent".to_owned()),
    }
}

/// Sends more than fits anywhere before it reads the first byte: the server has to stop reading, and
/// may lose nothing by it.
fn check_back_pressure(stream: &mut TcpStream) -> Result<(), String> {
    let bulk = noise(BULK_BYTES, 99);
    let mut writer = stream.try_clone().map_err(|error| error.to_string())?;
    thread::scope(|scope| {
        let written = scope.spawn(|| writer.write_all(&bulk));
        thread::sleep(Duration::from_millis(50));
        let read = expect(stream, &bulk);
        if read.is_err() {
            // The writer would wait for a server that waits for nobody.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let written = written.join().map_err(|_| "the writer panicked".to_owned())?;
        read.map_err(|error| format!("a slow reader's echo: {error}"))?;
        written.map_err(|error| format!("a slow reader's echo: {error}"))
    })
}

fn check_udp(address: SocketAddr) -> Result<(), String> {
    let socket = UdpSocket::bind((address.ip(), 0)).map_err(|error| error.to_string())?;
    socket.connect(address).map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(DATAGRAM_WAIT)).map_err(|error| error.to_string())?;
    for (n, size) in [1, 64, 512, 1200, 1400].into_iter().enumerate() {
        let payload = noise(size, n);
        datagram(&socket, &payload).map_err(|error| format!("datagram of {size} B: {error}"))?;
    }
    // Many at once, of several sizes: each comes back once, whatever the order.
    let mut payloads: Vec<_> = (0..16).map(|n| noise(64 + n % 3 * 8, 100 + n)).collect();
    for payload in &payloads {
        socket.send(payload).map_err(|error| format!("datagrams at once: {error}"))?;
    }
    while !payloads.is_empty() {
        let mut buffer = [0; 2048];
        let count = socket
            .recv(&mut buffer)
            .map_err(|error| format!("{} of 16 datagrams at once: {error}", payloads.len()))?;
        let place = payloads.iter().position(|payload| payload == &buffer[..count]);
        payloads.swap_remove(place.ok_or("a datagram that nobody sent came back")?);
    }
    Ok(())
}

fn datagram(socket: &UdpSocket, payload: &[u8]) -> Result<(), String> {
    let mut buffer = [0; 2048];
    for _ in 0..DATAGRAM_ATTEMPTS {
        socket.send(payload).map_err(|error| error.to_string())?;
        match socket.recv(&mut buffer) {
            Ok(count) if buffer[..count] == *payload => return Ok(()),
            Ok(_) => return Err("wrong bytes".to_owned()),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("no answer".to_owned())
}

fn check_http(address: SocketAddr) -> Result<(), String> {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    let mut stream = connect(address)?;
    let mut answers = Answers::default();
    for pipelined in [1, 1, 16, 3] {
        let requests = REQUEST.repeat(pipelined);
        stream.write_all(&requests).map_err(|error| error.to_string())?;
        for _ in 0..pipelined {
            answers.expect_hello(&mut stream)?;
        }
    }
    for piece in REQUEST.chunks(20) {
        stream.write_all(piece).map_err(|error| error.to_string())?;
        thread::sleep(Duration::from_millis(2));
    }
    answers.expect_hello(&mut stream).map_err(|error| format!("a request in pieces: {error}"))?;
    if answers.buffer.is_empty() { Ok(()) } else { Err("more answers than requests".to_owned()) }
}

/// Received and not yet compared.
#[derive(Default)]
struct Answers {
    buffer: Vec<u8>,
}

impl Answers {
    fn expect_hello(&mut self, stream: &mut TcpStream) -> Result<(), String> {
        let head_length = loop {
            let end = self.buffer.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(at) = end {
                break at + 4;
            }
            if self.buffer.len() > 16 * 1024 {
                return Err("an answer whose head does not end".to_owned());
            }
            self.receive(stream)?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_length]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().unwrap_or("");
        if !status.starts_with("HTTP/1.1 200") {
            return Err(format!("answered {status:?}"));
        }
        let value_of = |name: &str| {
            let mut headers = head.lines().filter_map(|line| line.split_once(':'));
            let found = headers.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map_or("", |(_, value)| value.trim()).to_ascii_lowercase()
        };
        if !value_of("content-type").starts_with("text/plain") {
            return Err(format!("Content-Type {:?}", value_of("content-type")));
        }
        if value_of("content-length") != BODY.len().to_string() {
            return Err(format!("Content-Length {:?}", value_of("content-length")));
        }
        while self.buffer.len() < head_length + BODY.len() {
            self.receive(stream)?;
        }
        let whole: Vec<u8> = self.buffer.drain(..head_length + BODY.len()).collect();
        if whole[head_length..] == *BODY { Ok(()) } else { Err("a wrong body".to_owned()) }
    }

    fn receive(&mut self, stream: &mut TcpStream) -> Result<(), String> {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => Err("closed the connection".to_owned()),
            Ok(count) => {
                self.buffer.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) => Err(told(&error)),
        }
    }
}

/// Each connection sends first when it joins: whoever was read from has been accepted, so from then
/// on it is known who has to get what.
fn check_broadcast(address: SocketAddr) -> Result<(), String> {
    let mut streams: Vec<TcpStream> = Vec::new();
    for joined in 0..4 {
        streams.push(connect(address)?);
        broadcast_once(&mut streams, joined, 128, joined)?;
    }
    for (round, size) in [1, 128, 128, 4096, 60_000, 128].into_iter().enumerate() {
        let sender = round % streams.len();
        broadcast_once(&mut streams, sender, size, 50 + round)?;
    }
    // Whoever leaves is missed by nobody.
    drop(streams.remove(1));
    broadcast_once(&mut streams, 0, 128, 90)
}

fn broadcast_once(
    streams: &mut [TcpStream],
    sender: usize,
    size: usize,
    seed: usize,
) -> Result<(), String> {
    let payload = noise(size, seed);
    let error_of = |error: String| format!("broadcast of {size} B: {error}");
    streams[sender].write_all(&payload).map_err(|error| error_of(told(&error)))?;
    for stream in streams {
        expect(stream, &payload).map_err(error_of)?;
    }
    Ok(())
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .map_err(|error| format!("cannot be connected to: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    Ok(stream)
}

fn expect(stream: &mut TcpStream, payload: &[u8]) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = vec![0; 64 * 1024];
    let mut done = 0;
    while done < payload.len() {
        let wanted = buffer.len().min(payload.len() - done);
        let count = match stream.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(format!("closed after {done} of {} B", payload.len())),
            Ok(count) => count,
            Err(error) => {
                return Err(format!("after {done} of {} B: {}", payload.len(), told(&error)));
            }
        };
        if buffer[..count] != payload[done..done + count] {
            return Err(format!("wrong bytes after {done} of {} B", payload.len()));
        }
        done += count;
        if Instant::now() > deadline && done < payload.len() {
            return Err(format!("only {done} of {} B within {PATIENCE:?}", payload.len()));
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn told(error: &io::Error) -> String {
    if is_timeout(error) { format!("no answer within {PATIENCE:?}") } else { error.to_string() }
}

/// Bytes without a period, so that what is lost, doubled or moved shows.
fn noise(size: usize, seed: usize) -> Vec<u8> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
