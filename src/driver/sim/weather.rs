//! How bad a simulated network is. Chances are per mille, times in microseconds.

use super::random::Random;

/// What the network does to those who use it.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    /// A receive or send that does less than it could.
    pub(crate) short: u64,
    /// A send that is blocked though there is room.
    pub(crate) blocked: u64,
    /// A send that finds the connection broken for a reason of the system's.
    pub(crate) send_error: u64,
    /// An accept that fails for want of descriptors or memory.
    pub(crate) accept_error: u64,
    /// A stream that cannot be opened.
    pub(crate) open_error: u64,
    /// A connect that fails at once.
    pub(crate) connect_error: u64,
    /// A connect that is refused, and one that is never answered.
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    /// A turn whose events are not all told.
    pub(crate) early_end: u64,
    /// A peer's step that resets, or after which the peer is gone without a word.
    pub(crate) reset: u64,
    pub(crate) vanish: u64,
    /// The longest way of a segment.
    pub(crate) delay: u64,
    /// Most time that passes with one event, and by which a sleep is too long.
    pub(crate) drift: u64,
    /// What the kernels buffer for one direction of a connection, at most.
    pub(crate) window: usize,
    pub(crate) receive_buffer: usize,
    /// Datagrams lost, doubled, refused by the socket.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) refused_datagram: u64,
    /// Datagrams are at most this long; longer than the receive buffer is too long.
    pub(crate) datagram: usize,
    /// Bytes that one peer sends, at most.
    pub(crate) peer_bytes: usize,
    /// The longest pause between two steps of a peer.
    pub(crate) pace: u64,
    /// Peers that come by themselves.
    pub(crate) peers: usize,
    /// Datagrams that come.
    pub(crate) datagrams: usize,
    /// Peers whose input may be relayed, and moves that the system does not do.
    pub(crate) relayed: u64,
    pub(crate) unmovable: u64,
    /// Windows are wide, so that there is much to be moved.
    pub(crate) in_bulk: bool,
    /// What the network gets wrong on purpose.
    pub(crate) sabotage: Option<Sabotage>,
}

/// A bug that is planted to see that the checker finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A received byte does not reach the handler.
    DropReceivedByte,
    /// A sent byte reaches the peer twice.
    SendByteTwice,
    /// A sent byte gets lost on the way.
    LoseSentByte,
    /// Rings do nothing.
    LoseWake,
    /// Bytes are delivered though receiving is off.
    IgnorePause,
    /// The handler is told of each close twice.
    CloseTwice,
    /// A close is not told to the handler.
    ForgetClose,
    /// A socket that is blocked for a while does not say when it is no longer.
    ForgetWritable,
    /// Waiting returns at once, for nothing.
    Spin,
    /// The handler keeps one of the loop's buffers.
    KeepBuffer,
    /// What a target does not take of what is moved to it is lost.
    LosePipe,
    /// A datagram is told twice.
    RepeatDatagram,
    /// Of datagrams that are sent together only the first is.
    LoseDatagram,
}

impl Weather {
    /// The weather of a seed: from fair to foul, each fault by itself.
    pub(crate) fn by_chance(random: &mut Random) -> Self {
        let fault = |random: &mut Random, foul: u64| {
            let foul = random.pick(&[0, 0, foul / 8, foul]);
            random.below(foul + 1)
        };
        let relayed = random.pick(&[0, 0, 300, 900]);
        // Where there is not much, nothing is moved.
        let in_bulk = relayed > 0 && random.chance(700);
        let windows: &[usize] = match in_bulk {
            true => &[4 << 10, 64 << 10, 256 << 10],
            false => &[1, 700, 4 << 10, 64 << 10, 256 << 10],
        };
        let window = random.pick(windows);
        let amounts: &[usize] = match in_bulk {
            true => &[30_000, 60_000, 300_000],
            false => &[0, 100, 5_000, 60_000, 300_000],
        };
        let peer_bytes = random.pick(amounts);
        Weather {
            short: random.pick(if in_bulk { &[0, 0, 100, 500] } else { &[0, 100, 500, 900] }),
            blocked: fault(random, 300),
            send_error: fault(random, 8),
            accept_error: fault(random, 400),
            open_error: fault(random, 100),
            connect_error: fault(random, 200),
            refused: fault(random, 300),
            unanswered: fault(random, 700),
            early_end: fault(random, 300),
            reset: fault(random, 30),
            vanish: fault(random, 10),
            delay: random.pick(&[0, 50, 1_000, 20_000, 200_000]),
            drift: random.pick(&[0, 0, 3, 50]),
            window,
            receive_buffer: random.pick(&[1 << 10, 4 << 10, 64 << 10]),
            lost: fault(random, 300),
            doubled: fault(random, 300),
            refused_datagram: fault(random, 100),
            datagram: random.pick(&[16, 1_200, 3_000]),
            peer_bytes,
            pace: random.pick(&[1, 100, 2_000, 50_000]),
            peers: if in_bulk { random.between(4, 10) } else { random.between(0, 24) },
            datagrams: random.pick(&[0, 0, 10, 60]),
            relayed,
            in_bulk,
            unmovable: fault(random, 300),
            sabotage: None,
        }
    }
}
