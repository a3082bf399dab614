//! Tests of the outbound buffer and its writer, beside a plain `Vec<u8>` as the oracle.

use super::outbound::Outbound;
use super::pool::Pool;
use bytes::{BufMut, Bytes};
use proptest::prelude::*;
use std::io::{IoSlice, Write};

const KIB: usize = 1 << 10;

fn pool() -> Pool {
    Pool::new(1 << 20)
}

/// Everything in `outbound`, as a driver would see it with `limit` slices a call.
fn gather(outbound: &Outbound, limit: usize) -> Vec<u8> {
    let mut slices = vec![IoSlice::new(&[]); limit];
    let filled = outbound.slices(&mut slices);
    assert_eq!(filled, limit.min(outbound.chunks()));
    assert!(slices[..filled].iter().all(|slice| !slice.is_empty()));
    slices[..filled].iter().map(|slice| &**slice).collect::<Vec<_>>().concat()
}

#[test]
fn an_empty_outbound_is_one_word_and_holds_no_memory() {
    assert_eq!(size_of::<Outbound>(), size_of::<usize>());
    let mut pool = pool();
    let mut outbound = Outbound::default();
    outbound.append(b"", &mut pool);
    outbound.append_bytes(Bytes::new(), &mut pool);
    outbound.advance(0, &mut pool);
    assert!(outbound.is_empty());
    assert_eq!((outbound.len(), outbound.chunks(), outbound.first()), (0, 0, &[][..]));
    assert_eq!((pool.lent(), pool.retained()), (0, 0));
}

#[test]
fn small_writes_are_gathered_in_one_chunk() {
    let mut pool = pool();
    let mut outbound = Outbound::default();
    for _ in 0..1_000 {
        outbound.append(b"abcd", &mut pool);
    }
    assert_eq!((outbound.chunks(), outbound.len(), pool.lent()), (1, 4_000, 1));
    assert_eq!(outbound.first(), b"abcd".repeat(1_000));
}

#[test]
fn much_pending_output_is_in_few_chunks() {
    let mut pool = pool();
    let mut outbound = Outbound::default();
    for _ in 0..KIB {
        outbound.append(&[1; KIB], &mut pool);
    }
    assert_eq!(outbound.chunks(), 18, "4 KiB, 16 KiB, then 64 KiB each");
    outbound.clear(&mut pool);
    outbound.append(&[1; 100 * KIB], &mut pool);
    assert_eq!(outbound.chunks(), 2);
    outbound.clear(&mut pool);
    outbound.append(&[1; 10 * KIB], &mut pool);
    assert_eq!((outbound.chunks(), pool.lent()), (1, 1));
}

#[test]
fn shared_bytes_are_not_copied_unless_they_are_small() {
    let mut pool = pool();
    let mut outbound = Outbound::default();
    let large = Bytes::from(vec![7; 512]);
    outbound.append_bytes(large.clone(), &mut pool);
    assert_eq!(outbound.first().as_ptr(), large.as_ptr());
    assert_eq!(pool.lent(), 0);
    for _ in 0..8 {
        outbound.append_bytes(large.slice(..511), &mut pool);
    }
    assert_eq!((outbound.chunks(), pool.lent()), (2, 1));
    outbound.advance(512, &mut pool);
    assert!(large.is_unique(), "the outbound let go of what was sent");
    assert_eq!(outbound.len(), 8 * 511);
}

#[test]
fn a_small_write_after_shared_bytes_takes_a_small_chunk() {
    let mut pool = pool();
    let mut outbound = Outbound::default();
    outbound.append_bytes(Bytes::from(vec![0; 1 << 20]), &mut pool);
    outbound.append(b"trailer", &mut pool);
    outbound.clear(&mut pool);
    assert!((4 * KIB..8 * KIB).contains(&pool.retained()));
}

#[cfg(target_pointer_width = "64")]
#[test]
fn shared_bytes_too_long_for_a_32_bit_length_are_split() {
    let mut pool = pool();
    let mut outbound = Outbound::default();
    outbound.append_bytes(Bytes::from(vec![0; (1 << 30) + 1]), &mut pool);
    assert_eq!((outbound.chunks(), outbound.first().len()), (2, 1 << 30));
    outbound.advance(1 << 30, &mut pool);
    assert_eq!((outbound.chunks(), outbound.len()), (1, 1));
}

#[test]
fn appending_leaves_pending_memory_where_it_is() {
    let mut pool = pool();
    let mut outbound = Outbound::default();
    outbound.append(b"in the kernel", &mut pool);
    let address = outbound.first().as_ptr();
    for _ in 0..1_000 {
        outbound.append(&[1; 999], &mut pool);
        outbound.writer(&mut pool).put_u64(1);
    }
    assert_eq!(outbound.first().as_ptr(), address);
    assert!(outbound.first().starts_with(b"in the kernel"));
}

#[test]
fn sending_everything_recycles_the_queue_and_its_chunks() {
    let mut pool = pool();
    let mut outbound = Outbound::default();
    outbound.append(b"answer", &mut pool);
    let address = outbound.first().as_ptr();
    outbound.advance(6, &mut pool);
    assert!(outbound.is_empty());
    assert_eq!(pool.lent(), 0);
    let retained = pool.retained();
    assert!(retained > 4 * KIB, "a buffer and a queue");
    outbound.append(b"next", &mut pool);
    assert_eq!((outbound.first().as_ptr(), pool.retained()), (address, 0));
    outbound.clear(&mut pool);
    assert_eq!(pool.retained(), retained);
}

#[test]
fn an_unused_writer_leaves_nothing_behind() {
    let mut pool = pool();
    let mut outbound = Outbound::default();
    let mut writer = outbound.writer(&mut pool);
    assert!(writer.chunk_mut().len() >= 4 * KIB);
    writer.put_slice(b"");
    writer.flush().unwrap();
    assert_eq!(writer.written(), 0);
    assert!(outbound.is_empty());
    assert_eq!((outbound.chunks(), pool.lent()), (0, 0));
}

#[test]
fn what_the_writer_wrote_counts_at_once() {
    let mut pool = pool();
    let mut outbound = Outbound::default();
    outbound.append(b"> ", &mut pool);
    let mut writer = outbound.writer(&mut pool);
    write!(writer, "{}-{}", 12, 34).unwrap();
    writer.put_u16(0x4142);
    let slices = [IoSlice::new(b"x"), IoSlice::new(b"yz")];
    assert_eq!(writer.write_vectored(&slices).unwrap(), 3);
    assert_eq!(writer.written(), 10);
    assert_eq!(writer.remaining_mut(), usize::MAX - 12);
    assert_eq!((outbound.len(), outbound.first()), (12, &b"> 12-34ABxyz"[..]));
}

#[test]
fn the_writer_starts_a_new_chunk_when_the_last_is_full() {
    let mut pool = pool();
    let mut outbound = Outbound::default();
    outbound.append(&[1; 4 * KIB], &mut pool);
    let mut writer = outbound.writer(&mut pool);
    assert_eq!(writer.chunk_mut().len(), 16 * KIB);
    writer.put_bytes(2, 100 * KIB);
    assert_eq!((outbound.chunks(), outbound.len()), (4, 104 * KIB));
    outbound.assert_invariants();
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    AppendBytes(usize),
    Write(usize),
    /// `BufMut::put_bytes`: through `chunk_mut` and `advance_mut`.
    Put(usize),
    ShowChunk,
    Advance(usize),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![4 => 0_usize..2_000, 1 => 0_usize..150_000];
    prop_oneof![
        6 => length.clone().prop_map(Step::Append),
        4 => length.clone().prop_map(Step::AppendBytes),
        4 => length.clone().prop_map(Step::Write),
        4 => length.clone().prop_map(Step::Put),
        2 => Just(Step::ShowChunk),
        12 => length.prop_map(Step::Advance),
        1 => Just(Step::Clear),
    ]
}

fn apply(step: Step, turn: usize, outbound: &mut Outbound, model: &mut Vec<u8>, pool: &mut Pool) {
    // Different in each turn, and of a period that no chunk size is a multiple of.
    let data = |length: usize| {
        let period: Vec<u8> = (0..251).map(|at| (at * 7 + turn) as u8).collect();
        let mut bytes = period.repeat(length / period.len() + 1);
        bytes.truncate(length);
        bytes
    };
    match step {
        Step::Append(length) => {
            outbound.append(&data(length), pool);
            model.extend(data(length));
        }
        Step::AppendBytes(length) => {
            outbound.append_bytes(Bytes::from(data(length)), pool);
            model.extend(data(length));
        }
        Step::Write(length) => {
            outbound.writer(pool).write_all(&data(length)).unwrap();
            model.extend(data(length));
        }
        Step::Put(length) => {
            let mut writer = outbound.writer(pool);
            writer.put_bytes(turn as u8, length);
            writer.put(&data(length)[..]);
            assert_eq!(writer.written(), 2 * length);
            model.extend(vec![turn as u8; length]);
            model.extend(data(length));
        }
        Step::ShowChunk => assert!(outbound.writer(pool).chunk_mut().len() > 0),
        Step::Advance(count) => {
            let count = count.min(model.len());
            outbound.advance(count, pool);
            model.drain(..count);
        }
        Step::Clear => {
            outbound.clear(pool);
            model.clear();
        }
    }
}

proptest! {
    #[test]
    fn outbound_behaves_like_a_vec_that_is_drained_from_the_front(
        steps in prop::collection::vec((step(), 1_usize..64), 1..60),
        retain_limit in 0_usize..300 * KIB,
    ) {
        let mut pool = Pool::new(retain_limit);
        let mut outbound = Outbound::default();
        let mut model = Vec::new();
        for (turn, (step, limit)) in steps.into_iter().enumerate() {
            apply(step, turn, &mut outbound, &mut model, &mut pool);
            outbound.assert_invariants();
            pool.assert_invariants();
            prop_assert_eq!(outbound.len(), model.len());
            prop_assert_eq!(outbound.is_empty(), model.is_empty());
            prop_assert!(model.starts_with(outbound.first()));
            prop_assert!(model.starts_with(&gather(&outbound, limit)));
            prop_assert!(gather(&outbound, outbound.chunks()) == model);
        }
        while !outbound.is_empty() {
            let sent = outbound.first().len();
            prop_assert!(outbound.first() == &model[..sent]);
            outbound.advance(sent, &mut pool);
            model.drain(..sent);
        }
        prop_assert!(model.is_empty());
        prop_assert_eq!(pool.lent(), 0);
        pool.assert_invariants();
    }
}
