//! Everything at once on the io_uring driver and the real kernel: connections that stream, rest,
//! reset, end and are aborted in random order, over so few buffers that they run out. Each byte that
//! comes back is checked. `TIGHTLOOP_STRESS_SECONDS` makes it longer, and is how a release is tried.
#![cfg(all(target_os = "linux", feature = "io-uring"))]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tightloop::{Action, Conn, Handler, Input, SockRef};

const THREADS: u64 = 4;

/// Lives of connections that at least have to be lived through: fewer say that it hangs.
const FEWEST_LIVES: u64 = 50;

/// Good enough to choose with, and the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Echoes; pauses and resumes itself now and then, and some connections end by its will.
struct Moody {
    random: Random,
}

impl Handler for Moody {
    type State = bool;

    fn on_open(&mut self, conn: &mut Conn<'_>) -> bool {
        // Some are ended by the server, one way or the other.
        let is_doomed = self.random.below(8) == 0;
        if is_doomed {
            conn.set_timer(Some(Duration::from_millis(self.random.below(20))));
        }
        is_doomed
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut bool, input: &mut Input<'_>) -> Action {
        conn.write(input.take_all());
        if self.random.below(16) == 0 {
            conn.pause_reading();
            conn.set_timer(Some(Duration::from_millis(self.random.below(3))));
        }
        Action::Continue
    }

    fn on_timer(&mut self, conn: &mut Conn<'_>, is_doomed: &mut bool) -> Action {
        conn.resume_reading();
        match (*is_doomed, self.random.below(3)) {
            (true, 0) => conn.abort(),
            (true, 1) => return Action::Close,
            (true, _) => conn.set_timer(Some(Duration::from_millis(5))),
            (false, _) => {}
        }
        Action::Continue
    }
}

/// What may end a connection here: the server has closed or aborted it.
fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected)
}

/// One connection from beginning to end. What comes back must be what was sent, as far as it comes.
fn live(to: SocketAddr, random: &mut Random) {
    let Ok(mut stream) = TcpStream::connect(to) else { return };
    stream.set_read_timeout(Some(common::DEADLINE)).unwrap();
    stream.set_write_timeout(Some(common::DEADLINE)).unwrap();
    let seed = random.below(u64::MAX);
    let sizes = [1, 64, 1000, 4096, 4097, 65_536, 300_000];
    let mut at = 0_u64;
    for _ in 0..random.below(12) {
        let size = sizes[random.below(sizes.len() as u64) as usize];
        let message: Vec<u8> = (at..at + size).map(|n| byte(seed, n)).collect();
        let mut copy = stream.try_clone().unwrap();
        let writer = std::thread::spawn(move || copy.write_all(&message));
        // Some leave without their answer, in whatever way.
        if random.below(10) == 0 {
            match random.below(3) {
                0 => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
                1 => drop(stream.shutdown(Shutdown::Both)),
                _ => drop(stream.shutdown(Shutdown::Read)),
            }
            drop(stream);
            drop(writer.join().unwrap());
            return;
        }
        let is_over = !read_back(&mut stream, seed, at, size);
        drop(writer.join().unwrap());
        if is_over {
            return;
        }
        at += size;
    }
    // In order: everything has come, and the end comes back.
    if stream.shutdown(Shutdown::Write).is_ok() {
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{} bytes from nowhere", rest.len()),
            Err(error) => assert!(is_end(error.kind()), "{error}"),
        }
    }
}

fn byte(seed: u64, at: u64) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8) ^ (at >> 16) ^ seed) as u8
}

/// Whether all came back.
fn read_back(stream: &mut TcpStream, seed: u64, mut at: u64, size: u64) -> bool {
    let end = at + size;
    let mut buffer = vec![0; 65_536];
    while at < end {
        let most = buffer.len().min((end - at) as usize);
        match stream.read(&mut buffer[..most]) {
            Ok(0) => return false,
            Ok(count) => {
                for (place, got) in buffer[..count].iter().enumerate() {
                    assert_eq!(*got, byte(seed, at + place as u64), "the byte at {}", at);
                }
                at += count as u64;
            }
            Err(error) => {
                assert!(is_end(error.kind()), "{error}");
                return false;
            }
        }
    }
    true
}

#[test]
fn whatever_clients_do_each_byte_is_right_and_nothing_hangs() {
    stress(256, 4096);
}

#[test]
fn queues_that_overflow_lose_nothing() {
    stress(2, 4);
}

fn stress(submissions: u32, completions: u32) {
    if !common::can_be_had(common::Driver::Uring) {
        return;
    }
    let seconds = std::env::var("TIGHTLOOP_STRESS_SECONDS").ok();
    let seconds = seconds.map_or(3, |text| text.parse().expect("a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    // Sixteen buffers of 4 KiB: two that stream have them all.
    let server = common::server(common::Driver::Uring).io_uring_buffers(64 << 10);
    let server = server.io_uring_entries(submissions, completions);
    let server = server.receive_buffer(16 << 10).high_watermark(32 << 10).low_watermark(8 << 10);
    let seeds = AtomicU64::new(0x9E37_79B9_7F4A_7C15);
    let server = common::start(server.listen("tcp://127.0.0.1:0"), move |_| Moody {
        random: Random(seeds.fetch_add(2, Ordering::Relaxed)),
    });
    let to = common::address(&server, 0);
    let lives = Arc::new(AtomicU64::new(0));
    let clients = (0..THREADS).map(|number| {
        let lives = Arc::clone(&lives);
        std::thread::spawn(move || {
            let mut random = Random(0xD1B5_4A32_D192_ED03 + 2 * number);
            while Instant::now() < end {
                live(to, &mut random);
                lives.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    let lives = lives.load(Ordering::Relaxed);
    assert!(lives >= FEWEST_LIVES, "{lives} lives");
    common::eventually("all connections are gone", || server.handle().connections() == 0);
    common::stop(server);
}
