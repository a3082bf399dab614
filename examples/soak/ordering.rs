//! The scenarios with frames.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::client::Visit;
use crate::orders::MAX_FRAME;
use crate::peer::{Outcome, Peer, bytes_from};

/// A frame as it goes over the wire.
fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[..], body].concat()
}

/// An order with its number and so many bytes.
fn order(kind: u8, number: u32, length: usize) -> Vec<u8> {
    let data = bytes_from(u64::from(number), 0, length);
    [&[kind][..], &number.to_be_bytes(), &data].concat()
}

fn read_frame(peer: &mut Peer) -> Result<Vec<u8>, String> {
    let mut length = [0; 4];
    peer.read_exact(&mut length).map_err(|error| format!("reading a length: {error}"))?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(format!("a frame of {length} bytes"));
    }
    let mut body = vec![0; length];
    peer.read_exact(&mut body).map_err(|error| format!("reading a frame: {error}"))?;
    Ok(body)
}

fn send(peer: &mut Peer, body: &[u8]) -> Outcome {
    peer.write_all(&frame(body)).map_err(|error| format!("writing an order: {error}"))
}

/// Sends orders at once; each must be answered once, in any order but those of one kind in theirs.
fn exchange(
    visit: &mut Visit<'_>,
    peer: &mut Peer,
    orders: &[Vec<u8>],
    is_in_order: bool,
) -> Outcome {
    let mut second = peer.second().map_err(|error| error.to_string())?;
    let bytes: Vec<u8> = orders.iter().flat_map(|order| frame(order)).collect();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || second.write_all(&bytes));
        let read = read_answers(peer, orders, is_in_order);
        if read.is_err() {
            // Or the writer would wait for ever.
            let _ = peer.socket().shutdown(std::net::Shutdown::Both);
        }
        let written = writer.join().map_err(|_| "the writer panicked".to_owned())?;
        read.and(written.map_err(|error| format!("writing: {error}")))
    })?;
    visit.verified(orders.iter().map(Vec::len).sum());
    Ok(())
}

fn read_answers(peer: &mut Peer, orders: &[Vec<u8>], is_in_order: bool) -> Outcome {
    let mut waiting: HashMap<&[u8], &[u8]> =
        orders.iter().map(|order| (&order[1..5], &order[..])).collect();
    for expected in orders {
        let answer = read_frame(peer)?;
        let number = answer.get(1..5).ok_or("an answer without a number")?;
        let order = waiting.remove(number).ok_or("an answer that nobody waits for")?;
        let is_busy = order[0] == b'W' && answer[0] == b'B';
        if !is_busy && answer != order {
            return Err("an answer that differs".to_owned());
        }
        if is_in_order && answer != *expected {
            return Err("answers overtook each other".to_owned());
        }
    }
    Ok(())
}

/// Echoes, jobs of the pool, writes of threads, wakes and timers, all mixed.
pub fn answers(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("orders")?;
    let largest = visit.random.size(MAX_FRAME - 16);
    let orders: Vec<_> = (0..visit.random.size(40) as u32)
        .map(|number| {
            let kind = b"EWTKD"[visit.random.below(5) as usize];
            order(kind, number, visit.random.size(largest.min(16 << 10)))
        })
        .collect();
    exchange(visit, &mut peer, &orders, false)?;
    if visit.random.one_in(3) {
        peer.reset();
    }
    Ok(())
}

pub fn flood(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("orders")?;
    // By a thread too, whose writes keep their order: it is one thread by the number's top byte.
    let kind = b"ET"[visit.random.below(2) as usize];
    let length = visit.random.size(256);
    let orders: Vec<_> = (0..3_000).map(|number| order(kind, number, length)).collect();
    exchange(visit, &mut peer, &orders, true)
}

pub fn closed_by_a_thread(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("orders")?;
    let last = order(b'C', 1, visit.random.size(100_000));
    send(&mut peer, &last)?;
    if read_frame(&mut peer)? != last {
        return Err("another answer".to_owned());
    }
    peer.expect_end()
}

fn ask_for_large(visit: &mut Visit<'_>) -> Result<(Peer, usize), String> {
    let mut peer = visit.connect("orders")?;
    let length = (3 << 20) + visit.random.size(5 << 20);
    send(&mut peer, &[b"Q", &(length as u32).to_be_bytes()[..]].concat())?;
    Ok((peer, length))
}

/// An answer of some mebibytes and a close behind it; also where we closed our side before.
pub fn large_answer(visit: &mut Visit<'_>) -> Outcome {
    let (mut peer, length) = ask_for_large(visit)?;
    if visit.random.one_in(2) {
        peer.shutdown_write().map_err(|error| error.to_string())?;
    }
    visit.dawdle(200);
    peer.expect(0, 0, length)?;
    peer.expect_end()?;
    visit.verified(length);
    Ok(())
}

pub fn large_answer_to_nobody(visit: &mut Visit<'_>) -> Outcome {
    let (mut peer, _) = ask_for_large(visit)?;
    std::thread::sleep(Duration::from_secs(6));
    peer.wait_for_any_end()
}

pub fn panic(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("orders")?;
    let (kind, length) = (b"PX"[visit.random.below(2) as usize], visit.random.size(1_000));
    send(&mut peer, &order(b'E', 7, length))?;
    read_frame(&mut peer)?;
    send(&mut peer, &[kind])?;
    visit.findings.panics.fetch_add(1, Relaxed);
    // What comes behind it may find the connection gone.
    let _ = send(&mut peer, &order(b'E', 8, length));
    peer.wait_for_any_end()
}

pub fn abort(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("orders")?;
    send(&mut peer, b"A")?;
    match peer.read(&mut [0; 1]) {
        Ok(0) => Err("an abort came as an end".to_owned()),
        Ok(_) => Err("bytes behind an abort".to_owned()),
        Err(error) if crate::peer::is_time_out(&error) => Err("was not ended".to_owned()),
        Err(_) => Ok(()),
    }
}

/// A frame that is too long, or one that never ends.
pub fn broken_frame(visit: &mut Visit<'_>) -> Outcome {
    let mut peer = visit.connect("orders")?;
    send(&mut peer, &order(b'E', 7, 100))?;
    if read_frame(&mut peer)? != order(b'E', 7, 100) {
        return Err("another answer".to_owned());
    }
    let broken: &[u8] = if visit.random.one_in(2) { b"\xFF\xFF\xFF\xFF" } else { b"\0\0\0\x20abc" };
    peer.write_all(broken).map_err(|error| error.to_string())?;
    peer.shutdown_write().map_err(|error| error.to_string())?;
    visit.findings.broken_frames.fetch_add(1, Relaxed);
    peer.wait_for_any_end()
}
