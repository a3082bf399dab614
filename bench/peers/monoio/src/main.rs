//! The peer monoio: a task for each connection on its io_uring driver, as its own echo example
//! does it; a buffer begins small and grows with what a connection sends at once.

#[path = "../../common/peer.rs"]
mod peer;

use std::io;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::udp::UdpSocket;
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

use crate::peer::{Arguments, FIRST_BYTES, Program, READ_BYTES, fatal};

const PROGRAM: Program = Program {
    name: "monoio",
    version: env!("PEER_VERSION"),
    modes: &["echo", "udp"],
    takes_threads: true,
};
/// Entries of the ring: the default of the runtime, which its benchmark leaves too.
const ENTRIES: u32 = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

fn main() {
    let arguments = peer::arguments(&PROGRAM);
    if arguments.mode == "udp" {
        let open = |a: &Arguments| peer::datagram_socket(a, false);
        peer::on_threads(&arguments, open, |socket| block_on(serve_datagrams(socket)));
    } else {
        let open = |a: &Arguments| peer::listener(a, false);
        peer::on_threads(&arguments, open, |listener| block_on(serve_streams(listener)));
    }
}

/// Without an interrupt for each completion: a tenth less than with the runtime's own flags.
fn block_on(work: impl Future<Output = ()>) {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_coop_taskrun().setup_taskrun_flag();
    let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES);
    let built = builder.uring_builder(ring).build();
    let mut runtime = built.unwrap_or_else(|error| fatal("io_uring", error));
    runtime.block_on(work);
}

async fn serve_streams(listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).unwrap_or_else(|e| fatal("listener", e));
    loop {
        match listener.accept().await {
            // What a client does wrong ends its task and nothing else.
            Ok((stream, _)) => drop(monoio::spawn(echo(stream))),
            // No descriptors: the timer of the runtime is not worth its cost for this.
            Err(_) => std::thread::sleep(ACCEPT_PAUSE),
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(FIRST_BYTES);
    loop {
        let (received, filled) = stream.read(buffer).await;
        let length = received?;
        if length == 0 {
            return Ok(());
        }
        let (sent, done) = stream.write_all(filled).await;
        sent?;
        let was_full = length == done.capacity() && length < READ_BYTES;
        buffer = if was_full { Vec::with_capacity(length * 2) } else { done };
        buffer.clear();
    }
}

async fn serve_datagrams(socket: std::net::UdpSocket) {
    let socket = UdpSocket::from_std(socket).unwrap_or_else(|error| fatal("socket", error));
    let mut buffer = Vec::with_capacity(READ_BYTES);
    loop {
        let (received, filled) = socket.recv_from(buffer).await;
        buffer = filled;
        // A datagram that cannot be received or sent is lost, as datagrams may be.
        if let Ok((_, sender)) = received {
            (_, buffer) = socket.send_to(buffer, sender).await;
        }
        buffer.clear();
    }
}
