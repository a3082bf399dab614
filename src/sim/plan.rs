//! What a seed stands for besides the weather: the server's options, and what its handler and
//! other threads are like.

use std::time::Duration;

use crate::driver::sim::Random;
use crate::options::{Options, TurnLimits, WhenFull};

/// What the handler and the other threads do. Chances are per mille.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// A callback that does something of its own accord.
    pub(crate) acts: u64,
    /// Such an act that ends a connection, or the server.
    pub(crate) ends: u64,
    /// A callback that panics.
    pub(crate) panics: u64,
    /// A connection whose input is never consumed.
    pub(crate) never: u64,
    /// The longest single write, and what one connection writes of its own accord.
    pub(crate) write: usize,
    pub(crate) budget: usize,
    /// Outgoing connections, at most.
    pub(crate) connects: usize,
    pub(crate) broadcasts: bool,
    pub(crate) handles: bool,
    pub(crate) ticks: bool,
    pub(crate) listeners: usize,
    pub(crate) datagram_sockets: usize,
    /// Microseconds until the server is stopped, and the patience then.
    pub(crate) lifetime: u64,
    pub(crate) stop_within: Duration,
    /// Far below what may be asked for, so that it is used up.
    pub(crate) memory_budget: Option<usize>,
    /// The longest pause between two doings of other threads, in microseconds.
    pub(crate) threads: u64,
}

impl Plan {
    pub(crate) fn by_chance(random: &mut Random) -> Self {
        let lifetime = random.pick(&[1_000, 100_000, 2_000_000, 30_000_000]);
        let patience = random.pick(&[0, 1, 100, 3_000, 20_000]);
        let life = lifetime + patience * 1_000;
        Plan {
            acts: random.pick(&[0, 20, 200, 700]),
            ends: random.pick(&[0, 5, 100]),
            panics: random.pick(&[0, 0, 0, 20]),
            never: random.pick(&[0, 0, 50, 600]),
            write: random.pick(&[10, 600, 5_000, 70_000, 1_500_000]),
            budget: random.pick(&[0, 3_000, 100_000, 3_000_000]),
            connects: random.pick(&[0, 0, 3, 20]),
            broadcasts: random.chance(300),
            handles: random.chance(600),
            ticks: random.chance(500),
            listeners: random.between(1, 2),
            datagram_sockets: random.between(0, 1),
            lifetime,
            stop_within: Duration::from_millis(patience),
            memory_budget: random.pick(&[None, None, Some(0), Some(20_000), Some(300_000)]),
            // A few hundred visits at most.
            threads: random.pick(&[500, 20_000, 500_000]).max(life / 300),
        }
    }
}

/// Options that make limits matter: small ones, and the defaults.
pub(crate) fn options_by_chance(random: &mut Random, receive_buffer: usize) -> Options {
    let high = random.pick(&[0, 1_000, 20_000, 1 << 20]);
    let milliseconds = |random: &mut Random, choices: &[u64]| random.pick(choices);
    let silence = |random: &mut Random| {
        let timeout = random.pick(&[0, 0, 0, 20, 700, 5_000]);
        (timeout > 0).then(|| Duration::from_millis(timeout))
    };
    Options {
        receive_buffer,
        pool_retain: random.pick(&[0, 64 << 10, 4 << 20]),
        high_watermark: high,
        low_watermark: Some(random.below(high as u64 + 1) as usize),
        auto_pause: random.chance(700),
        max_pending_output: high + random.pick(&[0, 1_000, 100_000, 64 << 20]),
        max_unconsumed_input: random.pick(&[1, 1_000, 30_000, 64 << 20]),
        mailbox_capacity: random.pick(&[1, 4, 1_000]),
        half_close: random.chance(400),
        idle_timeout: silence(random),
        read_idle_timeout: silence(random),
        write_idle_timeout: silence(random),
        first_byte_timeout: silence(random),
        write_stall_timeout: silence(random),
        stall_threshold: random.chance(500).then_some(Duration::from_millis(1)),
        close_timeout: Duration::from_millis(milliseconds(random, &[10, 500, 30_000])),
        connect_timeout: Duration::from_millis(milliseconds(random, &[20, 400, 10_000])),
        linger_timeout: Duration::from_millis(milliseconds(random, &[1, 300, 2_000])),
        linger_bytes: random.pick(&[0, 3_000, 1 << 20]),
        stop_timeout: Duration::from_millis(milliseconds(random, &[0, 200, 5_000])),
        max_connections: random.pick(&[usize::MAX, usize::MAX, 1, 4, 12]),
        when_full: random.pick(&[WhenFull::Refuse, WhenFull::Wait]),
        max_connections_per_ip: random.pick(&[usize::MAX, usize::MAX, 1, 2]),
        accept_rate: random.pick(&[None, None, Some(1), Some(20), Some(2_000)]),
        turn: turn_by_chance(random),
        ..Options::default()
    }
}

/// Fewer of the ends that keep much from being relayed between the same two.
pub(crate) fn calm(random: &mut Random, options: &mut Options, plan: &mut Plan) {
    plan.acts = random.pick(&[0, 20, 20, 200]);
    plan.ends = random.pick(&[0, 0, 5]);
    plan.never = 0;
    plan.lifetime = random.pick(&[2_000_000, 30_000_000]);
    plan.threads = plan.threads.max(plan.lifetime / 300);
    (options.max_connections, options.max_connections_per_ip) = (usize::MAX, usize::MAX);
    options.accept_rate = None;
    (options.idle_timeout, options.read_idle_timeout) = (None, None);
    (options.write_idle_timeout, options.first_byte_timeout) = (None, None);
    options.max_pending_output = options.max_pending_output.max(1 << 20);
}

fn turn_by_chance(random: &mut Random) -> TurnLimits {
    let events = random.pick(&[1, 5, 1024, 1024]);
    TurnLimits {
        events,
        commands: random.pick(&[1, 5, 1024]),
        timers: random.pick(&[1, 5, 1024]),
        attended: events,
        write_bytes: random.pick(&[4096, 1 << 20]),
        ..Options::default().turn
    }
}
