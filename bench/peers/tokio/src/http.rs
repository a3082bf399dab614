//! HTTP/1.1 by httparse, as tokio's own example `tinyhttp` does it, but without its copies: all the
//! answers of one receive go out in one write.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use httparse::{EMPTY_HEADER, Request, Status};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::{BUFFER, send_now, send_rest};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
const REFUSAL: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const HEADERS: usize = 32;
/// A longer head is refused.
const HEAD_BYTES: usize = 8 * 1024;

thread_local! {
    static ANSWERS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

enum After {
    Receive,
    End,
}

pub async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut rest = Vec::new();
    loop {
        let after = poll_fn(|context| turn(&mut stream, context, &mut head, &mut rest)).await?;
        send_rest(&mut stream, &mut rest).await?;
        if let After::End = after {
            return Ok(());
        }
    }
}

/// Receives once, answers every head that is whole, keeps the one that is not.
fn turn(
    stream: &mut TcpStream,
    context: &mut Context<'_>,
    head: &mut Vec<u8>,
    rest: &mut Vec<u8>,
) -> Poll<io::Result<After>> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut space = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut space))?;
        let bytes = space.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(After::End));
        }
        ANSWERS.with_borrow_mut(|answers| {
            answers.clear();
            let kept = if head.is_empty() {
                answer(bytes, answers).map(|done| head.extend_from_slice(&bytes[done..]))
            } else {
                head.extend_from_slice(bytes);
                answer(head, answers).map(|done| drop(head.drain(..done)))
            };
            let after = match kept {
                Some(()) => After::Receive,
                None => After::End,
            };
            send_now(stream, context, answers, rest)?;
            Poll::Ready(Ok(after))
        })
    })
}

/// Answers all whole heads and gives their length, or refuses and gives none.
fn answer(bytes: &[u8], answers: &mut Vec<u8>) -> Option<usize> {
    let mut done = 0;
    while done < bytes.len() {
        let mut headers = [EMPTY_HEADER; HEADERS];
        let mut request = Request::new(&mut headers);
        match request.parse(&bytes[done..]) {
            Ok(Status::Complete(length)) if request.method == Some("GET") => {
                answers.extend_from_slice(ANSWER);
                done += length;
            }
            Ok(Status::Partial) if bytes.len() - done <= HEAD_BYTES => break,
            _ => {
                answers.extend_from_slice(REFUSAL);
                return None;
            }
        }
    }
    Some(done)
}
