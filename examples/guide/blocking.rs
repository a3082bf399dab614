//! Chapter 4 of the guide (docs/guide): files are read by worker threads, and another thread speaks
//! to all connections.

use std::io;
use std::path::PathBuf;

use tightloop::codec::LineCodec;
use tightloop::{Action, Conn, FrameConn, FrameHandler, Framed, Server};

/// Counts the lines of the files of one directory.
struct Files {
    codec: LineCodec,
    directory: PathBuf,
}

impl FrameHandler for Files {
    type Codec = LineCodec;
    type State = ();

    fn codec(&mut self, _: &mut Conn<'_>) -> LineCodec {
        self.codec.clone()
    }

    fn on_open(&mut self, _: &mut FrameConn<'_, Self>) {}

    fn on_frame(&mut self, conn: &mut FrameConn<'_, Self>, _: &mut (), line: &[u8]) -> Action {
        let name = String::from_utf8_lossy(line).into_owned();
        if name.contains('/') || name.starts_with('.') {
            conn.write(b"only plain names\n");
            return Action::Continue;
        }
        let path = self.directory.join(&name);
        let progress = conn.handle();
        let spawned = conn.spawn(
            // On a worker thread: may block, owns what it needs, and cannot see the connection.
            move || {
                let _ = progress.write(format!("{name}: reading\n")); // nobody may be there any more
                count_lines(path).map(|lines| format!("{name}: {lines} lines\n"))
            },
            // Back on the loop, with the connection in hand, if it still lives.
            |conn, _state, result| {
                match result {
                    Ok(Ok(answer)) => conn.write(answer.as_bytes()),
                    Ok(Err(error)) => conn.write(format!("error: {error}\n").as_bytes()),
                    Err(panic) => conn.write(format!("error: {panic}\n").as_bytes()),
                };
                conn.resume_reading();
            },
        );
        match spawned {
            Ok(()) => conn.pause_reading(), // one at a time, so that answers keep their order
            Err(_) => drop(conn.write(b"busy, try again\n")),
        }
        Action::Continue
    }
}

fn count_lines(path: PathBuf) -> io::Result<usize> {
    let content = std::fs::read(path)?;
    Ok(content.iter().filter(|&&byte| byte == b'\n').count())
}

fn main() -> tightloop::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or("tcp://127.0.0.1:9000".to_owned());
    let directory = PathBuf::from(arguments.next().unwrap_or(".".to_owned()));
    let codec = LineCodec::new(255)?;

    let server =
        Server::new().listen(url).worker_threads(4).worker_queue(100).start(move |_loop| {
            Framed::new(Files { codec: codec.clone(), directory: directory.clone() })
        })?;
    println!("listening on {}", server.local_addrs()[0]);

    // This thread is no event loop: it may block, here for what is typed.
    let handle = server.handle();
    for line in io::stdin().lines().map_while(Result::ok) {
        if let Err(error) = handle.broadcast(format!("operator: {line}\n")) {
            println!("not everybody was told: {error}");
        }
    }
    server.stop();
    server.join()
}
