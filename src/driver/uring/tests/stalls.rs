//! Buffers that run out.
#![cfg(test)]

use std::collections::VecDeque;
use std::time::Instant;

use super::*;

/// Receives until nothing comes any more, one event a turn; gives what came, in order.
fn one_a_turn(driver: &mut Uring, expected: usize) -> VecDeque<u32> {
    let mut order = VecDeque::new();
    while order.len() < expected {
        driver.wait(Some(LONG)).unwrap();
        order.extend(received(driver));
    }
    order
}

#[test]
fn only_as_many_streams_try_again_as_there_are_buffers() {
    const STREAMS: u32 = 64;
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let mut peers = open(&mut driver, STREAMS);
    for peer in &mut peers {
        peer.write_all(b"message").unwrap();
    }
    let before = driver.ring.refused_receives;
    let mut order = one_a_turn(&mut driver, STREAMS as usize);
    // Not all of the others each time that a buffer came back.
    order.make_contiguous().sort_unstable();
    assert!(order.iter().copied().eq(0..STREAMS), "{order:?}");
    let refused = driver.ring.refused_receives - before;
    assert!(refused <= 2 * STREAMS as usize, "{refused} receives found no buffer");
}

#[test]
fn a_buffer_that_a_completion_names_is_not_free() {
    let Some(mut driver) = driver(4, (64, 256)) else { return };
    let mut peers = open(&mut driver, 4);
    let free = |driver: &Uring| driver.buffers.free(driver.ring.fetched_buffers());
    assert_eq!(free(&driver), 4);
    for peer in &mut peers {
        peer.write_all(b"message").unwrap();
    }
    while driver.ring.fetched_buffers() < 4 {
        driver.wait(Some(LONG)).unwrap();
    }
    for left in (0..4).rev() {
        assert_eq!(free(&driver), 3 - left);
        received(&mut driver).expect("a message");
    }
    assert_eq!(free(&driver), 4);
}

#[test]
fn whoever_waited_longest_for_a_buffer_is_the_first_to_try_again() {
    let mut stalls = Stalls::default();
    // Two that had something come behind three that went without.
    for (index, fed) in [(0, true), (1, false), (2, false), (3, true), (4, false)] {
        stalls.add(index, fed);
    }
    assert_eq!(stalls.take(), Some(1));
    // It goes without again, and so do others.
    for (index, fed) in [(1, false), (5, true), (6, false)] {
        stalls.add(index, fed);
    }
    let order: Vec<_> = std::iter::from_fn(|| stalls.take()).collect();
    assert_eq!(order, [2, 4, 1, 6, 0, 3, 5]);
}

#[test]
fn nobody_is_left_without_a_receive_while_the_loop_sleeps() {
    const STREAMS: u32 = 30;
    let Some(mut driver) = driver(2, (8, 16)) else { return };
    let mut peers = open(&mut driver, STREAMS);
    for round in 0..5 {
        for peer in &mut peers {
            peer.write_all(b"message").unwrap();
        }
        let mut count = 0;
        let start = Instant::now();
        while count < STREAMS {
            driver.wait(Some(LONG)).unwrap();
            while received(&mut driver).is_some() {
                count += 1;
            }
        }
        assert!(start.elapsed() < LONG, "round {round}: somebody was forgotten for a while");
    }
    // It sleeps again, and does not go round for nothing.
    let mut turns = 0;
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        driver.wait(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(received(&mut driver), None);
        turns += 1;
    }
    assert!(turns <= 2 * STREAMS, "{turns} turns in 0.3 s");
}

/// A stream that found no buffer has its other operations all the same.
#[test]
fn whoever_waits_for_a_buffer_is_still_told_of_room() {
    let Some(mut driver) = driver(1, (64, 256)) else { return };
    let mut peers = open(&mut driver, 2);
    for peer in &mut peers {
        peer.write_all(b"message").unwrap();
    }
    driver.wait(Some(LONG)).unwrap();
    let stalled = (0..2).find_map(|_| {
        let told = received(&mut driver);
        (0..2)
            .find(|index| driver.streams.get(*index).is_some_and(|e| e.flags.has(Flag::Stalled)))
            .or(told)
    });
    let index = stalled.expect("one of two finds no buffer");
    let entry = driver.streams.get_mut(index).expect("it is open");
    entry.flags.set(Flag::Stalled, true);
    entry.flags.set(Flag::Blocked, true);
    driver.changed(index);
    driver.settle_streams();
    assert!(driver.streams.get(index).is_some_and(|entry| entry.flags.has(Flag::WatchesRoom)));
}
