//! What the clients stand on: a stream of any kind with deadlines, random numbers that a seed
//! repeats, and bytes whose place can be told.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::SockRef;

/// Longer than anything takes: descriptors are used up for seconds, and a machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What went wrong, if anything.
pub type Outcome = Result<(), String>;

/// Numbers that follow from a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A size between 1 and `most`, each magnitude as likely as the others.
    pub fn size(&mut self, most: usize) -> usize {
        let bits = self.below(u64::from(most.ilog2()) + 1);
        ((1 << bits) + self.below(1 << bits) as usize).min(most)
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// The byte at a place of the stream with this seed.
pub fn byte_at(seed: u64, place: usize) -> u8 {
    (place.wrapping_mul(31) ^ (place >> 8) ^ (place >> 16)) as u8 ^ seed as u8
}

/// So many bytes of the stream with this seed, from a place on.
pub fn bytes_from(seed: u64, place: usize, length: usize) -> Vec<u8> {
    (place..place + length).map(|place| byte_at(seed, place)).collect()
}

/// An address of either kind.
#[derive(Clone)]
pub enum To {
    Ip(SocketAddr),
    Unix(String),
}

/// A client's connection.
pub enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Peer {
    pub fn connect(to: &To) -> io::Result<Peer> {
        Ok(match to {
            To::Ip(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                stream.set_write_timeout(Some(DEADLINE))?;
                Peer::Tcp(stream)
            }
            To::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                stream.set_write_timeout(Some(DEADLINE))?;
                Peer::Unix(stream)
            }
        })
    }

    /// The socket, for its options.
    pub fn socket(&self) -> SockRef<'_> {
        match self {
            Peer::Tcp(stream) => SockRef::from(stream),
            Peer::Unix(stream) => SockRef::from(stream),
        }
    }

    pub fn shutdown_write(&self) -> io::Result<()> {
        self.socket().shutdown(Shutdown::Write)
    }

    /// Closes by a reset (TCP; a Unix socket just closes).
    pub fn reset(self) {
        // A Unix socket has no reset.
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }

    /// A second handle, for a thread that writes.
    pub fn second(&self) -> io::Result<Peer> {
        Ok(match self {
            Peer::Tcp(stream) => Peer::Tcp(stream.try_clone()?),
            Peer::Unix(stream) => Peer::Unix(stream.try_clone()?),
        })
    }

    /// Reads `length` bytes of the stream with this seed and checks each.
    pub fn expect(&mut self, seed: u64, from: usize, length: usize) -> Outcome {
        let mut buffer = vec![0; length.min(64 << 10)];
        let mut place = from;
        while place < from + length {
            let part = buffer.len().min(from + length - place);
            match self.read(&mut buffer[..part]) {
                Ok(0) => return Err(format!("ended at byte {place} of {}", from + length)),
                Ok(count) => {
                    check_bytes(&buffer[..count], seed, place)?;
                    place += count;
                }
                Err(error) => return Err(format!("at byte {place}: {error}")),
            }
        }
        Ok(())
    }

    /// What is read next must be the end, in order.
    pub fn expect_end(&mut self) -> Outcome {
        match self.read(&mut [0; 1]) {
            Ok(0) => Ok(()),
            Ok(_) => Err("bytes behind the last one".to_owned()),
            Err(error) => Err(format!("instead of the end: {error}")),
        }
    }

    /// Waits until the connection is over, in order or not; bytes are dropped.
    pub fn wait_for_any_end(&mut self) -> Outcome {
        let mut buffer = [0; 4096];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if is_time_out(&error) => return Err("was not ended".to_owned()),
                Err(_) => return Ok(()),
            }
        }
    }
}

/// The bytes are those of the stream with this seed from `place` on.
pub fn check_bytes(bytes: &[u8], seed: u64, place: usize) -> Outcome {
    let wrong = (place..).zip(bytes).find(|&(place, &byte)| byte != byte_at(seed, place));
    match wrong {
        None => Ok(()),
        Some((place, byte)) => Err(format!("byte {place} came as {byte}")),
    }
}

pub fn is_time_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Peer::Tcp(stream) => stream.read(buffer),
            Peer::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Peer::Tcp(stream) => stream.write(bytes),
            Peer::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
