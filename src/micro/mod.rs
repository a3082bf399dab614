//! The parts that every message or connection passes through, each to be done so many times:
//! the work of `benches/micro.rs`, and not for users.
//!
//! No case asks the system for anything, waits, or depends on chance, so that the number of its
//! instructions says what it costs whatever else the machine is doing.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::addr::Address;
use crate::buf::inbound::Inbound;
use crate::buf::outbound::Outbound;
use crate::buf::pool::Pool;
use crate::conn::state::{ConnCore, Phase};
use crate::conn::table::Table;
use crate::sync::mailbox::Mailbox;
use crate::time::wheel::Wheel;

mod scripted;
mod turn;

const MESSAGE: [u8; 64] = [b'm'; 64];

/// What a pool may retain here: the default of the options.
const RETAIN: usize = 4 << 20;

/// A piece of work.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "the benchmark has cases of its own")]
pub struct Case {
    /// What is done once.
    pub name: &'static str,
    /// Does it so many times.
    pub work: fn(usize),
}

/// All of them.
pub const CASES: &[Case] = &[
    Case { name: "loop turn: a message echoed, 50 connections", work: turn::echo_50 },
    Case { name: "loop turn: a message echoed, 1 connection", work: turn::echo_1 },
    Case { name: "loop turn: a message relayed, 50 connections", work: turn::relay },
    Case { name: "loop turn: a connection with one message", work: turn::churn },
    Case { name: "loop turn: a delivery of a broadcast, 128 B to 1000", work: turn::broadcast },
    Case { name: "inbound: 64 B left over and taken", work: inbound },
    Case { name: "outbound: 64 B written and sent", work: outbound },
    Case { name: "outbound: 64 KiB written and sent by quarters", work: outbound_large },
    Case { name: "outbound: 4 KiB shared and sent", work: outbound_shared },
    Case { name: "pool: a buffer taken and given back", work: pool },
    Case { name: "table: a connection found among 10000", work: table_find },
    Case { name: "table: a connection put in and removed", work: table_insert },
    Case { name: "wheel: a timer set and cancelled among 10000", work: wheel_cancel },
    Case { name: "wheel: a timer set and expired", work: wheel_expire },
    Case { name: "mailbox: an item pushed and taken, 8 at once", work: mailbox },
];

fn inbound(times: usize) {
    let mut pool = Pool::new(RETAIN);
    let mut inbound = Inbound::default();
    for _ in 0..times {
        inbound.append(black_box(&MESSAGE), &mut pool);
        black_box(inbound.as_slice());
        inbound.consume(MESSAGE.len(), &mut pool);
    }
}

fn outbound(times: usize) {
    let mut pool = Pool::new(RETAIN);
    let mut outbound = Outbound::default();
    for _ in 0..times {
        outbound.append(black_box(&MESSAGE), &mut pool);
        black_box(outbound.first());
        outbound.advance(MESSAGE.len(), &mut pool);
    }
}

fn outbound_large(times: usize) {
    const BYTES: usize = 64 << 10;
    let mut pool = Pool::new(RETAIN);
    let mut outbound = Outbound::default();
    let written = vec![b'm'; BYTES];
    for _ in 0..times {
        outbound.append(black_box(&written), &mut pool);
        for _ in 0..4 {
            black_box(outbound.first());
            outbound.advance(BYTES / 4, &mut pool);
        }
    }
}

fn outbound_shared(times: usize) {
    let mut pool = Pool::new(RETAIN);
    let mut outbound = Outbound::default();
    let shared = Bytes::from(vec![b'm'; 4 << 10]);
    for _ in 0..times {
        outbound.append_bytes(black_box(&shared).clone(), &mut pool);
        black_box(outbound.first());
        outbound.advance(shared.len(), &mut pool);
    }
}

fn pool(times: usize) {
    let mut pool = Pool::new(RETAIN);
    for _ in 0..times {
        let buffer = pool.take(black_box(100));
        pool.give(black_box(buffer));
    }
}

fn connection() -> ConnCore {
    ConnCore::new(Address::Unix(None), Phase::Open)
}

fn table_find(times: usize) {
    let mut table = Table::new();
    let tokens: Vec<_> = (0..10_000).filter_map(|_| table.insert(connection())).collect();
    // A step without a common divisor comes by all of them, and not in their order.
    let mut place = 0;
    for _ in 0..times {
        place = (place + 7_919) % tokens.len();
        black_box(table.get_mut(black_box(tokens[place])));
    }
}

fn table_insert(times: usize) {
    let mut table = Table::new();
    for _ in 0..times {
        if let Some(token) = table.insert(connection()) {
            black_box(table.remove(token));
        }
    }
}

fn wheel_cancel(times: usize) {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    // Whole seconds: how often a sum of fractions carries would depend on the moment.
    let after = |number: usize| start + Duration::from_secs(1 + number as u64 * 7 % 3_600);
    for number in 0..10_000 {
        wheel.insert(after(number), number);
    }
    for number in 0..times {
        let key = wheel.insert(after(number), number);
        black_box(wheel.cancel(black_box(key)));
    }
}

fn wheel_expire(times: usize) {
    let mut now = Instant::now();
    let mut wheel = Wheel::new(now);
    for number in 0..times {
        wheel.insert(now + Duration::from_millis(100), number);
        now += Duration::from_millis(1);
        while let Some(due) = wheel.expire(now) {
            black_box(due);
        }
    }
}

fn mailbox(times: usize) {
    let mailbox = Mailbox::new(64);
    let mut batch = Vec::new();
    for _ in 0..times / 8 {
        for item in 0..8_usize {
            // It has room for eight times as many.
            let _ = black_box(mailbox.push(black_box(item)));
        }
        mailbox.swap_into(&mut batch);
        black_box(&batch);
        batch.clear();
    }
}
