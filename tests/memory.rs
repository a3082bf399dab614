//! What a connection costs in memory: nothing allocated per message, and little while it idles.
//!
//! A counting allocator measures it exactly: the loop's own allocations, and live bytes.
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::Echo;

struct Counting;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);
static LOOP_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// One measurement at a time: the counters are the process's.
static ALONE: Mutex<()> = Mutex::new(());

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn note(change: i64) {
    LIVE_BYTES.fetch_add(change, Ordering::Relaxed);
    if change > 0 && COUNTED.try_with(Cell::get).unwrap_or(false) {
        LOOP_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        // SAFETY: see above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CLIENTS_VARIABLE: &str = "TIGHTLOOP_TEST_IDLE_CLIENTS";

/// Half of the descriptors belong to the clients, and one process may not have that many.
fn idle_clients(address: SocketAddr, count: usize) -> Child {
    Command::new(std::env::current_exe().expect("the test's own path"))
        .args(["--exact", "hold_idle_clients", "--nocapture"])
        .env(CLIENTS_VARIABLE, format!("{address} {count}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the clients' process starts")
}

/// The clients' side of the measurement: connects, and holds until its input ends. Without the
/// variable there is nothing to hold.
#[test]
fn hold_idle_clients() {
    let Ok(task) = std::env::var(CLIENTS_VARIABLE) else { return };
    let (address, count) = task.split_once(' ').expect("address and count");
    let address: SocketAddr = address.parse().expect("an address");
    let clients: Vec<TcpStream> =
        (0..count.parse().expect("a count")).map(|_| common::connect(address)).collect();
    let end = std::io::stdin().read(&mut [0; 1]).expect("the parent's end");
    assert_eq!((end, clients.len().to_string().as_str()), (0, count));
}

every_driver! {
    fn echoes_allocate_nothing_once_the_loop_is_warm(driver) {
        let _alone = ALONE.lock();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| {
            COUNTED.set(true);
            Echo
        });
        let mut client = common::connect(common::address(&server, 0));
        let mut answer = [0; 64];
        let mut echo = |times: usize| {
            for _ in 0..times {
                client.write_all(&[7; 64]).expect("the message leaves");
                client.read_exact(&mut answer).expect("the echo comes");
            }
        };
        echo(1_000);
        let before = LOOP_ALLOCATIONS.load(Ordering::Relaxed);
        echo(10_000);
        assert_eq!(LOOP_ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
        assert!(before > 0, "the counter does not count");
        common::stop(server);
    }

    fn an_idle_connection_costs_at_most_192_bytes(driver) {
        const CONNECTIONS: usize = 10_000;
        let _alone = ALONE.lock();
        let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| Echo);
        let handle = server.handle();
        // A first connection, that has been in use, pays for what the loop allocates once.
        let mut first = common::connect(common::address(&server, 0));
        common::exchange(&mut first, b"warm");
        let before = LIVE_BYTES.load(Ordering::Relaxed);
        let mut clients = idle_clients(common::address(&server, 0), CONNECTIONS);
        common::eventually("10,000 connections are open", || {
            handle.connections() == CONNECTIONS + 1
        });
        let each = (LIVE_BYTES.load(Ordering::Relaxed) - before) / CONNECTIONS as i64;
        println!("an idle connection costs {each} bytes");
        drop(clients.stdin.take());
        assert!(clients.wait().expect("the clients end").success());
        common::eventually("all clients are gone", || handle.connections() == 1);
        assert_eq!(common::exchange(&mut first, b"still there"), b"still there");
        common::stop(server);
        assert!((1..=192).contains(&each), "an idle connection costs {each} bytes");
    }

    fn peers_that_send_and_never_read_hold_no_more_than_their_marks(driver) {
        const PEERS: usize = 200;
        const BOUND: usize = PEERS * ((1 << 20) + (64 << 10)) + (32 << 20);
        let _alone = ALONE.lock();
        common::at_best(|| {
            // Small buffers in the kernel: it is not the kernel's memory that is measured.
            let server = common::server(driver).socket_send_buffer(64 << 10);
            let server = server.socket_receive_buffer(64 << 10).listen("tcp://127.0.0.1:0");
            let server = common::start(server, |_| Echo);
            let address = common::address(&server, 0);
            let mut witness = common::connect(address);
            let before = LIVE_BYTES.load(Ordering::Relaxed);
            let mut peers: Vec<TcpStream> = (0..PEERS).map(|_| common::connect(address)).collect();
            let message = common::pattern(64 << 10);
            let mut slowest = Duration::ZERO;
            let handle = server.handle();
            common::eventually("all of them are paused", || {
                for peer in &mut peers {
                    peer.set_nonblocking(true).expect("non-blocking");
                    // It takes what it takes; the rest is not missed.
                    let _ = peer.write(&message);
                }
                let start = Instant::now();
                assert_eq!(common::exchange(&mut witness, b"and I?"), b"and I?");
                slowest = slowest.max(start.elapsed());
                let held = LIVE_BYTES.load(Ordering::Relaxed) - before;
                assert!(held < BOUND as i64, "{held} bytes are held");
                handle.stats().pauses >= PEERS as u64
            });
            assert!(slowest < Duration::from_secs(1), "the witness waited {slowest:?}");
            assert_eq!(handle.connections(), PEERS + 1, "nobody is closed for it");
            let held = LIVE_BYTES.load(Ordering::Relaxed) - before;
            println!("{PEERS} peers hold {held} bytes; the witness waited {slowest:?} at most");
            drop(peers);
            common::eventually("they are gone", || handle.connections() == 1);
            assert!(LIVE_BYTES.load(Ordering::Relaxed) - before < 16 << 20, "what they held is kept");
            common::stop(server);
        });
    }

    fn buffers_of_a_burst_go_back_when_it_is_over(driver) {
        let _alone = ALONE.lock();
        let server = common::start(
            common::server(driver).listen("tcp://127.0.0.1:0").pool_retain(64 * 1024),
            |_| Echo,
        );
        let mut client = common::connect(common::address(&server, 0));
        common::exchange(&mut client, b"warm");
        let before = LIVE_BYTES.load(Ordering::Relaxed);
        let message = common::pattern(8 << 20);
        let writer = common::write_in_background(&client, message, false);
        assert_eq!(common::read(&mut client, 8 << 20).len(), 8 << 20);
        writer.join().unwrap().unwrap();
        common::exchange(&mut client, b"over");
        let left = LIVE_BYTES.load(Ordering::Relaxed) - before;
        assert!(left < 512 * 1024, "{left} bytes stay after the burst");
        common::stop(server);
    }
}
