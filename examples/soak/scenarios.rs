//! What clients do to the servers, well-behaved or not, and what they must find.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::client::Visit;
use crate::handlers::sum;
use crate::ordering;
use crate::peer::{Outcome, Peer, Random, bytes_from, check_bytes, is_time_out};

pub struct Scenario {
    pub name: &'static str,
    /// How often it is chosen, beside the others.
    pub weight: u64,
    pub run: fn(&mut Visit<'_>) -> Outcome,
}

const fn scenario(name: &'static str, weight: u64, run: fn(&mut Visit<'_>) -> Outcome) -> Scenario {
    Scenario { name, weight, run }
}

pub const SCENARIOS: &[Scenario] = &[
    scenario("echo", 30, echo),
    scenario("tiny writes", 10, tiny_writes),
    scenario("slow reader", 4, slow_reader),
    scenario("stopped reader", 2, stopped_reader),
    scenario("reset in mid-write", 12, reset_in_mid_write),
    scenario("connect and leave", 8, connect_and_leave),
    scenario("mute", 1, mute),
    scenario("silent", 1, silent),
    scenario("crowd", 1, crowd),
    scenario("datagrams", 8, datagrams),
    scenario("proxy", 8, proxy),
    scenario("push", 6, push),
    scenario("push to nobody", 1, push_to_nobody),
    scenario("whole message", 6, whole_message),
    scenario("half message", 1, half_message),
    scenario("hoarded input", 1, hoarded_input),
    scenario("answers", 20, ordering::answers),
    scenario("flood", 4, ordering::flood),
    scenario("closed by a thread", 6, ordering::closed_by_a_thread),
    scenario("large answer", 5, ordering::large_answer),
    scenario("large answer to nobody", 1, ordering::large_answer_to_nobody),
    scenario("panic", 4, ordering::panic),
    scenario("abort", 4, ordering::abort),
    scenario("broken frame", 4, ordering::broken_frame),
];

/// Sends the stream with this seed in pieces, from a thread of its own.
fn send_in_pieces(mut to: Peer, seed: u64, length: usize, half_close: bool) -> std::io::Result<()> {
    let mut random = Random(seed);
    let mut place = 0;
    while place < length {
        let piece = random.size(128 << 10).min(length - place);
        to.write_all(&bytes_from(seed, place, piece))?;
        place += piece;
    }
    if half_close { to.shutdown_write() } else { Ok(()) }
}

/// Sends and reads at the same time; every byte must come back, `reading` makes the pace.
fn exchange(
    visit: &mut Visit<'_>,
    peer: &mut Peer,
    length: usize,
    half_close: bool,
    mut reading: impl FnMut(&mut Peer, u64) -> Outcome,
) -> Outcome {
    let seed = visit.random.next();
    let second = peer.second().map_err(|error| error.to_string())?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || send_in_pieces(second, seed, length, half_close));
        let read = reading(peer, seed);
        if read.is_err() {
            // Or the writer would wait for ever.
            let _ = peer.socket().shutdown(std::net::Shutdown::Both);
        }
        let written = writer.join().map_err(|_| "the writer panicked".to_owned())?;
        read.and(written.map_err(|error| format!("writing: {error}")))
    })?;
    visit.verified(length);
    Ok(())
}

fn echo(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("echo")?;
    let length = visit.random.size(1 << 20);
    let half_close = visit.random.one_in(2);
    exchange(visit, &mut peer, length, half_close, |peer, seed| {
        peer.expect(seed, 0, length)?;
        if half_close { peer.expect_end() } else { Ok(()) }
    })?;
    if visit.random.one_in(3) {
        peer.reset();
    }
    Ok(())
}

fn tiny_writes(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("echo")?;
    let (seed, in_step) = (visit.random.next(), visit.random.one_in(2));
    let mut sent = 0;
    let mut read = 0;
    for _ in 0..visit.random.size(300) {
        let piece = visit.random.size(5);
        peer.write_all(&bytes_from(seed, sent, piece)).map_err(|error| error.to_string())?;
        sent += piece;
        if in_step {
            peer.expect(seed, read, piece)?;
            read = sent;
        }
    }
    peer.expect(seed, read, sent - read)?;
    visit.verified(sent);
    Ok(())
}

fn slow_reader(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("echo")?;
    let length = (512 << 10) + visit.random.size(2 << 20);
    let mut random = Random(visit.random.next());
    exchange(visit, &mut peer, length, true, |peer, seed| {
        let mut place = 0;
        while place < length {
            std::thread::sleep(Duration::from_millis(random.below(40)));
            let part = random.size(256 << 10).min(length - place);
            peer.expect(seed, place, part)?;
            place += part;
        }
        peer.expect_end()
    })
}

/// Stops reading until the server has had enough. What comes before the end is right.
fn stopped_reader(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("echo")?;
    let seed = visit.random.next();
    let timeout = Some(Duration::from_millis(300));
    peer.socket().set_write_timeout(timeout).map_err(|error| error.to_string())?;
    let stream = bytes_from(seed, 0, 16 << 20);
    let mut sent = 0;
    let refusal = loop {
        match peer.write(&stream[sent..]) {
            Ok(0) => break None,
            Ok(count) => sent += count,
            Err(error) => break Some(error),
        }
    };
    std::thread::sleep(Duration::from_secs(6));
    let mut buffer = vec![0; 64 << 10];
    let mut place = 0;
    loop {
        match peer.read(&mut buffer) {
            // The kernel's buffers had room for all of it, or the reset was told to the writer
            // already; and a Unix socket has none.
            Ok(0) if place == sent || matches!(peer, Peer::Unix(_)) => return Ok(()),
            Ok(0) if refusal.as_ref().is_some_and(|error| !is_time_out(error)) => return Ok(()),
            Ok(0) => return Err(format!("{place} bytes of {sent} came as if they were all")),
            Ok(count) => {
                check_bytes(&buffer[..count], seed, place)?;
                place += count;
            }
            Err(error) if is_time_out(&error) => return Err("was not ended".to_owned()),
            Err(_) => return Ok(()),
        }
    }
}

fn reset_in_mid_write(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("echo")?;
    let seed = visit.random.next();
    let length = visit.random.size(256 << 10);
    let timeout = Some(Duration::from_millis(100));
    peer.socket().set_write_timeout(timeout).map_err(|error| error.to_string())?;
    // As far as it goes.
    let _ = peer.write_all(&bytes_from(seed, 0, length));
    if visit.random.one_in(2) {
        let part = length.min(visit.random.size(16 << 10)).min(4096);
        peer.expect(seed, 0, part)?;
        visit.verified(part);
    }
    peer.reset();
    Ok(())
}

fn connect_and_leave(visit: &mut Visit<'_>) -> Outcome {
    for _ in 0..visit.random.size(10) {
        let server =
            ["echo", "orders", "push", "proxy", "collector"][visit.random.below(5) as usize];
        let peer = visit.connect(server)?;
        match visit.random.below(3) {
            0 => peer.reset(),
            // A peer that has gone already is what some servers answer with.
            1 => drop(peer.shutdown_write()),
            _ => drop(peer),
        }
    }
    Ok(())
}

fn mute(visit: &mut Visit<'_>) -> Outcome {
    let server = ["echo", "orders"][visit.random.below(2) as usize];
    visit.connect(server)?.wait_for_any_end()
}

fn silent(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("echo")?;
    peer.write_all(&bytes_from(1, 0, 10)).map_err(|error| error.to_string())?;
    peer.expect(1, 0, 10)?;
    peer.wait_for_any_end()
}

/// More connections than there are descriptors; whoever was served before still is.
fn crowd(visit: &mut Visit<'_>) -> Outcome {
    let Ok(_alone) = visit.crowd.try_lock() else { return Ok(()) };
    let mut before = visit.connect("echo")?;
    let mut ask = |place: usize| {
        before.write_all(&bytes_from(3, place, 100)).map_err(|error| error.to_string())?;
        before.expect(3, place, 100)
    };
    ask(0)?;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(visit.connect("echo")?);
    }
    for turn in 1..20 {
        ask(turn * 100)?;
        visit.dawdle(100);
    }
    let wait = visit.random.one_in(2);
    for mut peer in crowd {
        if wait && peer.write_all(b"x").is_ok() {
            peer.wait_for_any_byte()?;
        } else if visit.random.one_in(2) {
            peer.reset();
        }
    }
    visit.verified(2_000);
    Ok(())
}

impl Peer {
    /// Served at last, or sent away as it said nothing for so long.
    fn wait_for_any_byte(&mut self) -> Outcome {
        match self.read(&mut [0; 1]) {
            Err(error) if is_time_out(&error) => Err("was never served".to_owned()),
            _ => Ok(()),
        }
    }
}

fn datagrams(visit: &mut Visit<'_>) -> Outcome {
    let to = visit.town.datagrams[visit.random.below(2) as usize];
    let any = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(Duration::from_secs(2))).map_err(|error| error.to_string())?;
    let mut buffer = vec![0; 65_536];
    for _ in 0..visit.random.size(20) {
        let seed = visit.random.next();
        let length = visit.random.size(32 << 10) - 1;
        let sent = bytes_from(seed, 0, length);
        let mut tries = 0..5;
        loop {
            if tries.next().is_none() {
                return Err("a datagram was lost five times".to_owned());
            }
            socket.send_to(&sent, to).map_err(|error| format!("sending: {error}"))?;
            match socket.recv_from(&mut buffer) {
                Ok((count, from)) if from == to && buffer[..count] == sent => break,
                Ok(_) => return Err("another datagram came back".to_owned()),
                Err(_) => visit.findings.datagrams_lost.fetch_add(1, Relaxed),
            };
        }
        visit.verified(length);
    }
    Ok(())
}

fn proxy(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("proxy")?;
    peer.write_all(&bytes_from(2, 0, 10)).map_err(|error| error.to_string())?;
    if peer.expect(2, 0, 10).is_err() {
        // There was no descriptor for the connection behind it.
        visit.findings.turned_away.fetch_add(1, Relaxed);
        return Ok(());
    }
    let length = visit.random.size(512 << 10);
    exchange(visit, &mut peer, length, true, |peer, seed| {
        peer.expect(seed, 0, length)?;
        peer.expect_end()
    })
}

/// Reads lines: those of this connection, and those for all, each without a gap.
fn push(visit: &mut Visit<'_>) -> Outcome {
    use std::io::{BufRead, BufReader};
    let mut peer = visit.connect("push")?;
    // No more than a client gets down that has little of the CPU and a small window: above
    // `max_pending_output` it would be ended, and rightly.
    let size = visit.random.size(1_000);
    peer.write_all(format!("{size}\n").as_bytes()).map_err(|error| error.to_string())?;
    let mut lines = BufReader::with_capacity(64 << 10, peer);
    let (mut own, mut all, mut line) = (0, None, String::new());
    for _ in 0..visit.random.size(100) {
        line.clear();
        let count = lines.read_line(&mut line).map_err(|error| format!("reading: {error}"))?;
        let number = line.get(1..).unwrap_or_default().trim_end().parse::<u64>();
        let expected = match line.as_bytes().first() {
            Some(b't') => {
                own += 1;
                own - 1
            }
            Some(b'b') => {
                let expected = all.unwrap_or_else(|| number.clone().unwrap_or(0));
                all = Some(expected + 1);
                expected
            }
            _ => return Err(format!("a line begins with {:?}", line.chars().next())),
        };
        if number != Ok(expected) || !line.ends_with('\n') {
            return Err(format!("line {expected} came as {number:?}"));
        }
        visit.verified(count);
    }
    Ok(())
}

fn push_to_nobody(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("push")?;
    peer.write_all(b"60000\n").map_err(|error| error.to_string())?;
    std::thread::sleep(Duration::from_secs(5));
    peer.wait_for_any_end()
}

/// A message for the collector: its length, and its bytes.
fn message(seed: u64, length: usize) -> Vec<u8> {
    [&(length as u32).to_be_bytes()[..], &bytes_from(seed, 0, length)].concat()
}

fn whole_message(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("collector")?;
    let (seed, length) = (visit.random.next(), visit.random.size(512 << 10));
    let message = message(seed, length);
    let mut answer = [0; 8];
    let sent = message.chunks(50_000).all(|part| {
        std::thread::sleep(Duration::from_millis(1));
        peer.write_all(part).is_ok()
    });
    if !sent || peer.read_exact(&mut answer).is_err() {
        // It was full, or short of memory for longer than it waits.
        visit.findings.turned_away.fetch_add(1, Relaxed);
        return Ok(());
    }
    if u64::from_be_bytes(answer) != sum(&message[4..]) {
        return Err("the sum is another one".to_owned());
    }
    visit.verified(length);
    Ok(())
}

fn half_message(visit: &mut Visit<'_>) -> Outcome {
    let mut peers = Vec::new();
    for _ in 0..8 {
        let mut peer = visit.connect("collector")?;
        let message = message(1, 1 << 20);
        let timeout = Some(Duration::from_millis(50));
        peer.socket().set_write_timeout(timeout).map_err(|error| error.to_string())?;
        // As far as it goes.
        let _ = peer.write_all(&message[..900_000]);
        peers.push(peer);
    }
    peers.iter_mut().try_for_each(Peer::wait_for_any_end)
}

fn hoarded_input(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("collector")?;
    // Until it is ended, which closes the socket with input unread.
    let zeros = vec![0; 64 << 10];
    while peer.write_all(&zeros).is_ok() {}
    peer.wait_for_any_end()
}
