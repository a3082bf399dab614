//! The peer tokio: a task for each connection on a current_thread runtime, as a person would write
//! it who wants it fast: one buffer for all connections of a thread, for a task that waits needs none.

mod broadcast;
mod http;
#[path = "../../common/peer.rs"]
mod peer;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::{self, Runtime};
use tokio::task::{LocalSet, spawn_local};

use crate::peer::{Arguments, Program, READ_BYTES, fatal};

const PROGRAM: Program = Program {
    name: "tokio",
    version: env!("PEER_VERSION"),
    modes: &["echo", "udp", "http", "broadcast"],
    takes_threads: true,
};
/// After a failed accept (no descriptors): mini-redis waits too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

fn main() {
    let arguments = peer::arguments(&PROGRAM);
    match arguments.mode.as_str() {
        "udp" => peer::on_threads(&arguments, |a| peer::datagram_socket(a, true), serve_datagrams),
        "http" => serve_streams(&arguments, |stream| drop(tokio::spawn(http::serve(stream)))),
        "broadcast" => serve_broadcast(&arguments),
        _ => serve_streams(&arguments, |stream| drop(tokio::spawn(echo(stream)))),
    }
}

fn runtime() -> Runtime {
    let built = runtime::Builder::new_current_thread().enable_all().build();
    built.unwrap_or_else(|error| fatal("runtime", error))
}

fn serve_streams(arguments: &Arguments, spawn: impl Fn(TcpStream) + Clone + Send + 'static) {
    let open = |a: &Arguments| peer::listener(a, true);
    peer::on_threads(arguments, open, move |listener| runtime().block_on(accept(listener, &spawn)));
}

/// The receivers are a list of one thread: their tasks are local, which costs a little more.
fn serve_broadcast(arguments: &Arguments) {
    let open = |a: &Arguments| peer::listener(a, true);
    peer::on_threads(arguments, open, |listener| {
        let spawn = |stream| drop(spawn_local(broadcast::serve(stream)));
        LocalSet::new().block_on(&runtime(), accept(listener, &spawn));
    });
}

async fn accept(listener: std::net::TcpListener, spawn: &impl Fn(TcpStream)) {
    let listener = TcpListener::from_std(listener).unwrap_or_else(|e| fatal("listener", e));
    loop {
        match listener.accept().await {
            // What a client does wrong ends its task and nothing else.
            Ok((stream, _)) => spawn(stream),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut rest = Vec::new();
    while poll_fn(|context| pump(&mut stream, context, &mut rest)).await? {
        send_rest(&mut stream, &mut rest).await?;
    }
    Ok(())
}

/// Receives once and sends it back; gives false at the end of the input.
fn pump(
    stream: &mut TcpStream,
    context: &mut Context<'_>,
    rest: &mut Vec<u8>,
) -> Poll<io::Result<bool>> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut space = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut space))?;
        send_now(stream, context, space.filled(), rest)?;
        Poll::Ready(Ok(!space.filled().is_empty()))
    })
}

/// What the socket does not take is put into `rest`.
fn send_now(
    stream: &mut TcpStream,
    context: &mut Context<'_>,
    bytes: &[u8],
    rest: &mut Vec<u8>,
) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let sent = match Pin::new(stream).poll_write(context, bytes) {
        Poll::Ready(sent) => sent?,
        Poll::Pending => 0,
    };
    rest.extend_from_slice(&bytes[sent..]);
    Ok(())
}

/// Until it is sent, the connection is not read.
async fn send_rest(stream: &mut TcpStream, rest: &mut Vec<u8>) -> io::Result<()> {
    if !rest.is_empty() {
        stream.write_all(rest).await?;
        *rest = Vec::new();
    }
    Ok(())
}

fn serve_datagrams(socket: std::net::UdpSocket) {
    runtime().block_on(async {
        let socket = UdpSocket::from_std(socket).unwrap_or_else(|error| fatal("socket", error));
        let mut buffer = vec![0; READ_BYTES];
        loop {
            // A datagram that cannot be received or sent is lost, as datagrams may be.
            if let Ok((length, sender)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&buffer[..length], sender).await;
            }
        }
    });
}
