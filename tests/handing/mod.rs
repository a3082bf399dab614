//! What the tests of handing over share: clients that never cease, and servers of every kind.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tightloop::{RunningServer, Server};

use crate::closures::{Directory, Script, TCP};
use crate::common;

/// Each of them connects, asks, is answered and leaves, over and over. Whoever is refused, reset or
/// not answered fails the test.
pub struct Clients {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Clients {
    pub fn start(tcp: SocketAddr, unix: &Path, udp: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let threads = (0..6).map(|n| {
            let (stop, served, unix) = (stop.clone(), served.clone(), unix.to_owned());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Whoever is forgotten fails, and does not wait for ever.
                    match n % 3 {
                        0 => {
                            let stream = TcpStream::connect(tcp)?;
                            stream.set_read_timeout(Some(common::DEADLINE))?;
                            ask(stream)?;
                        }
                        1 => {
                            let stream = UnixStream::connect(&unix)?;
                            stream.set_read_timeout(Some(common::DEADLINE))?;
                            ask(stream)?;
                        }
                        _ => ask_by_datagram(udp)?,
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let threads = threads.collect();
        Clients { stop, served, threads }
    }

    /// Waits for so many more.
    pub fn are_served(&self, more: usize) {
        let until = self.served.load(Ordering::Relaxed) + more;
        common::eventually("clients are served", || {
            self.served.load(Ordering::Relaxed) >= until
                || self.threads.iter().any(|thread| thread.is_finished())
        });
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap().expect("every client is served");
        }
    }
}

/// One question, and the answer to it.
pub fn ask(mut stream: impl Read + Write) -> io::Result<()> {
    stream.write_all(b"question")?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)
}

fn ask_by_datagram(to: SocketAddr) -> io::Result<()> {
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.set_read_timeout(Some(common::DEADLINE))?;
    client.send_to(b"question", to)?;
    client.recv(&mut [0; 8]).map(drop)
}

/// A server on TCP, Unix and UDP.
pub fn on_all(server: Server, directory: &Directory) -> (Server, PathBuf) {
    let (path, url) = directory.socket("socket");
    (server.listen(TCP).listen(url).listen("udp://127.0.0.1:0"), path)
}

/// The ways in which a server may have its listeners.
pub fn ways(driver: common::Driver) -> [Server; 3] {
    let [one, shared, own] = [(); 3].map(|()| common::server(driver));
    [one, shared.loops(2), own.loops(2).reuse_port(true)]
}

/// As the old server ends when the new one serves.
pub fn release_and_stop<H: tightloop::Handler>(server: RunningServer<H>) {
    let handle = server.handle();
    assert!(!handle.is_drained());
    handle.release_listeners();
    common::eventually("the old server has nobody left", || handle.is_drained());
    common::stop(server);
}

/// Whether a UDP echo answers.
pub fn answers(to: SocketAddr) -> bool {
    ask_by_datagram(to).is_ok()
}

/// Echo of streams and datagrams.
pub fn echo() -> Script {
    Script::new()
}
