//! The flood bench: a quiet connection's latency beside one that floods.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::options::flood_options;
use super::proc::{current_tid, go_first, pin_to_cpu, stand_back};
use super::statistics::{percentile, ratio_of};
use super::{CLIENT_CPU, System, WARM_UP};

const MESSAGE: [u8; 64] = *b"a quiet connection asks now and then and wants its answer soon..";
/// Between two questions: the server sleeps where nobody floods, as it does in life.
const PAUSE: Duration = Duration::from_micros(200);
/// What the flooding client gives to the kernel at once.
const FLOOD_WRITE: usize = 64 * 1024;
/// The bound of the project: a flood may double the 99th percentile, not more.
const RATIO_MAX: f64 = 2.0;

/// One peer that writes and reads as fast as it can, on two threads.
struct Flood {
    stream: TcpStream,
    threads: Vec<thread::JoinHandle<u64>>,
}

impl Flood {
    fn start(server: SocketAddr) -> Flood {
        let stream = connect(server);
        let (mut out, mut back) = (clone(&stream), clone(&stream));
        let write = move || {
            stand_back();
            let block = vec![b'x'; FLOOD_WRITE];
            while out.write_all(&block).is_ok() {}
            0
        };
        let read = move || {
            stand_back();
            let mut block = vec![0; FLOOD_WRITE];
            let mut bytes = 0;
            while let Ok(count @ 1..) = back.read(&mut block) {
                bytes += count as u64;
            }
            bytes
        };
        Flood { stream, threads: vec![thread::spawn(write), thread::spawn(read)] }
    }

    /// Ends it; the bytes that came back.
    fn stop(self) -> u64 {
        self.stream.shutdown(Shutdown::Both).expect("the flood has a connection");
        self.threads.into_iter().map(|thread| thread.join().expect("no flood panics")).sum()
    }
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).expect("it listens");
    stream.set_nodelay(true).expect("no delay");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a second handle")
}

/// Nanoseconds from each question to its answer, over this time.
fn ask(quiet: &mut TcpStream, duration: Duration) -> Vec<f64> {
    let end = Instant::now() + duration;
    let mut latencies = Vec::new();
    while Instant::now() < end {
        thread::sleep(PAUSE);
        let begun = Instant::now();
        quiet.write_all(&MESSAGE).expect("the question leaves");
        let mut answer = [0; MESSAGE.len()];
        quiet.read_exact(&mut answer).expect("the answer comes");
        latencies.push(begun.elapsed().as_nanos() as f64);
        assert_eq!(answer, MESSAGE);
    }
    latencies
}

/// The latencies of one kind of round.
#[derive(Default)]
struct Rounds {
    all: Vec<f64>,
    /// The 99th percentile of each.
    tails: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, latencies: Vec<f64>) {
        self.tails.push(percentile(&latencies, 0.99));
        self.all.extend(latencies);
    }

    fn report(&self, name: &str) {
        let at = |share| percentile(&self.all, share) / 1_000.0;
        println!(
            "  {name:<8}p50 {:>7.1} us  p99 {:>7.1} us  p99.9 {:>7.1} us  most {:>8.1} us  ({})",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            self.all.len()
        );
    }
}

fn measure(system: System, rounds: usize, duration: Duration) {
    let server = system.start();
    if !go_first(server.tid) {
        println!("warning: no right to go before other processes; the figures mean little");
    }
    let mut connection = connect(server.addr);
    ask(&mut connection, WARM_UP);
    let (mut quiet, mut flooded) = (Rounds::default(), Rounds::default());
    let mut bytes = 0;
    for round in 0..2 * rounds {
        // Quiet, flooded, flooded, quiet: what drifts is in both.
        if round % 4 == 0 || round % 4 == 3 {
            quiet.add(ask(&mut connection, duration));
        } else {
            let flood = Flood::start(server.addr);
            ask(&mut connection, WARM_UP);
            flooded.add(ask(&mut connection, duration));
            bytes += flood.stop();
            ask(&mut connection, WARM_UP);
        }
    }
    drop(connection);
    (server.stop)();
    println!("{}", system.name());
    quiet.report("quiet");
    flooded.report("flooded");
    let per_second = bytes as f64 / (rounds as f64 * (duration + WARM_UP).as_secs_f64());
    println!("  the flood: {:.0} MiB/s each way", per_second / f64::from(1 << 20));
    let ratio = ratio_of(&flooded.tails, &quiet.tails);
    println!("  p99 flooded / quiet: {ratio}");
    if system == System::Tightloop && ratio.median > RATIO_MAX {
        println!("    above {RATIO_MAX}: a flood harms others more than it may");
    }
}

/// Runs what the command line asks for.
pub fn run() {
    let (rounds, duration) = flood_options();
    if !pin_to_cpu(CLIENT_CPU) {
        println!("warning: no CPU {CLIENT_CPU} to pin the clients to; the figures mean little");
    }
    // Inherited by all threads, as the CPU is: those that flood stand back, and the loop goes to
    // its own CPU.
    go_first(current_tid());
    // Where sessions are scheduled against each other, the session has to go first too.
    let session = "/proc/self/autogroup";
    let is_first = std::fs::write(session, "-19").is_ok();
    println!("64 bytes beside a flood, {rounds} rounds x {duration:?} of each kind");
    for system in [System::Bare, System::Tightloop] {
        measure(system, rounds, duration);
    }
    if is_first && std::fs::write(session, "0").is_err() {
        println!("warning: the session still goes before others");
    }
}
