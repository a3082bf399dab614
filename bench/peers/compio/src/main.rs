//! The peer compio: a task for each connection on its io_uring driver; a buffer begins small and
//! grows with what a connection sends at once.

#[path = "../../common/peer.rs"]
mod peer;

use std::io;
use std::time::Duration;

use compio::BufResult;
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream, UdpSocket};
use compio::runtime::Runtime;

use crate::peer::{Arguments, FIRST_BYTES, Program, READ_BYTES, fatal};

const PROGRAM: Program = Program {
    name: "compio",
    version: env!("PEER_VERSION"),
    modes: &["echo", "udp"],
    takes_threads: true,
};
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

/// The flags that the documentation of ProactorBuilder recommends for a runtime of one thread.
fn block_on(work: impl Future<Output = ()>) {
    let mut proactor = ProactorBuilder::new();
    proactor.single_issuer(true).coop_taskrun(true).taskrun_flag(true);
    let built = Runtime::builder().with_proactor(proactor).build();
    let runtime = built.unwrap_or_else(|error| fatal("io_uring", error));
    runtime.block_on(work);
}

async fn serve_streams(listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).unwrap_or_else(|e| fatal("listener", e));
    loop {
        match listener.accept().await {
            // What a client does wrong ends its task and nothing else.
            Ok((stream, _)) => compio::runtime::spawn(echo(stream)).detach(),
            Err(_) => std::thread::sleep(ACCEPT_PAUSE),
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(FIRST_BYTES);
    loop {
        let BufResult(received, filled) = stream.read(buffer).await;
        let length = received?;
        if length == 0 {
            return Ok(());
        }
        let BufResult(sent, done) = stream.write_all(filled).await;
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
        let BufResult(received, filled) = socket.recv_from(buffer).await;
        buffer = filled;
        // A datagram that cannot be received or sent is lost, as datagrams may be.
        if let Ok((_, sender)) = received {
            BufResult(_, buffer) = socket.send_to(buffer, sender).await;
        }
        buffer.clear();
    }
}
