//! What the loop knows of one connection: its phase, its buffers, and what was asked of it.
//!
//! ```text
//!             connect()                accept, adopt
//!                |                          |
//!                v        connected         v
//!           Connecting ----------------> Opening: PROXY header, TLS handshake, if any
//!                |                          |    \
//!                |                          |     `--- failed [on_open_failed] ---> Lingering
//!                |                          |
//!                |                      [on_open]
//!                |                          v        half-close allowed: on_eof, stays Open
//!      failed    |                        Open ---------------------------------------------+
//!   [on_open_    |                          |                                               |
//!     failed]    |                          |                                               |
//!                |    close(), Action::Close, FIN, stop()         abort(), reset, a limit   |
//!                |                          |                               |               |
//!                |                          v    reset, abort, no progress  |      FIN and  |
//!                |                      Closing ------------------------+   |   write side  |
//!                |           output is delivered, input is dropped      |   |    shut down  |
//!                |                          |                           |   |               |
//!                |                          | nothing pending           |   |               |
//!                |                          v                           v   v               |
//!                |                     [on_close]                    [on_close] <-----------+
//!                |                          |                           |
//!                |      the peer may still  |  the peer's FIN           |
//!                |      send: we send FIN   |  is here already          |
//!                |                          v                           |
//!                |                      Lingering                       |
//!                |           input is dropped, bounded in               |
//!                |             bytes and in time, until FIN             |
//!                v                          v                           v
//!              Free <-------------------- Free <--------------------- Free
//! ```
//!
//! Lingering exists because a socket that is closed with unread input, or that receives input
//! after it was closed, answers with a reset, and a reset may destroy our last bytes before the
//! peer has read them.

use crate::buf::inbound::Inbound;
use crate::buf::outbound::Outbound;
use crate::conn::extra::Extra;
use crate::conn::peer::Peer;
use crate::conn::rare::Rare;
use crate::conn::reason::Noted;
use crate::conn::timeouts::Timeouts;
use crate::error::CloseReason;
use crate::proxy_protocol::Sender;
use crate::time::wheel::TimerKey;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// The slot holds no connection.
    #[default]
    Free,
    /// A connect is under way; there is no state of the user's yet.
    Connecting,
    /// No connection, but one more attempt to make one that is Connecting.
    Attempt,
    /// Connected, and something has to come before the first byte; no state of the user's yet.
    Opening,
    /// on_open was called; bytes flow.
    Open,
    /// No more input for the handler; what is pending is delivered.
    Closing,
    /// on_close was called; FIN is sent; input is dropped until the peer's FIN.
    Lingering,
}

/// The listener of a connection that came from none.
pub(crate) const NO_LISTENER: u16 = u16::MAX;

/// Where a connection came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Direction {
    /// Accepted by a listener, or adopted.
    Incoming,
    /// Made by `connect`.
    Outgoing,
}

/// One connection. The fields named `want_*` are what callbacks asked for and the reactor has
/// yet to do.
///
/// What every message touches comes first and together, and is laid out in this order: the kernel's
/// work between two messages leaves little in the processor's caches, and each line costs to fetch.
/// The whole is two lines, and what a message touches the first of them.
#[repr(C, align(64))]
pub(crate) struct ConnCore {
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    /// What most connections never have.
    pub(crate) extra: Option<Box<Extra>>,
    /// Bytes that the socket took since the connection opened.
    pub(crate) sent: u64,
    /// Milliseconds of the loop's clock, wrapping, when input was last received, or reading began.
    pub(crate) last_received: u32,
    /// The same for when the socket last took output, or was found full.
    pub(crate) last_sent: u32,
    /// The table's: of its tokens only those of this generation find the slot.
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    /// What the driver was told last.
    pub(crate) receiving: bool,
    /// The handler asked for no input.
    pub(crate) paused: bool,
    /// Reading rests because the output is above the high watermark.
    pub(crate) auto_paused: bool,
    /// Reading rests because all connections together hold more than the memory budget.
    pub(crate) held_back: bool,
    /// A TLS session stands between the socket and the handler.
    pub(crate) secured: bool,
    /// The session has bytes for the socket beyond what the handler wrote.
    pub(crate) wire_pending: bool,
    /// The output has passed the high watermark and not yet fallen to the low one.
    pub(crate) above_high: bool,
    /// The driver will tell when the socket takes more.
    pub(crate) send_blocked: bool,
    /// The peer's FIN was received.
    pub(crate) eof: bool,
    /// Our FIN was sent.
    pub(crate) write_shut: bool,
    pub(crate) want_close: bool,
    /// A TLS session is to begin in mid-stream.
    pub(crate) want_tls: bool,
    /// The connection is to end now, without delivering what is pending.
    pub(crate) want_end: bool,
    pub(crate) want_shutdown_write: bool,
    /// Leftover input is to be offered once more.
    pub(crate) want_offer: bool,
    /// on_drain is due.
    pub(crate) want_drain: bool,
    /// The handler is to be told of the peer's FIN, once it has been offered all input.
    pub(crate) want_eof: bool,
    /// Something was received; a PROXY header and a TLS handshake do not count.
    pub(crate) heard: bool,
    /// A connected datagram socket: reads and writes are datagrams.
    pub(crate) datagrams: bool,
    /// The session's handshake is under way: what is received is the session's alone, and is read whatever
    /// else is paused.
    pub(crate) handshaking: bool,
    /// A PROXY header has to come next, or may.
    pub(crate) awaits_header: Option<Sender>,
    /// Reading is to rest while the output is above the high watermark.
    pub(crate) auto_pause: bool,
    /// On the loop's list of connections to attend.
    pub(crate) dirty: bool,
    /// What else is true of it.
    pub(crate) rare: Rare,
    /// What on_close will be told.
    pub(crate) reason: Noted,
    /// Which `listen` it came from, counted from 0; `NO_LISTENER` if from none.
    pub(crate) listener: u16,
    pub(crate) timeouts: Timeouts,
    /// When the watch is due, on the same clock. Valid while there is a watch; in Free it is the
    /// table's.
    pub(crate) watch_due: u32,
    pub(crate) peer: Peer,
    /// The user's timer.
    pub(crate) timer: Option<TimerKey>,
    /// The watch: the time that is left while Connecting and Opening, silence while Open (see
    /// `timeouts.rs`), progress while Closing, patience while Lingering.
    pub(crate) watch: Option<TimerKey>,
    /// Valid in Closing, and in Open while `send_blocked`: bytes that the peer had taken at the
    /// last look. In Lingering: bytes dropped so far.
    pub(crate) mark: u64,
}

const _: () = assert!(size_of::<ConnCore>() == 128);

impl ConnCore {
    pub(crate) fn new(peer: impl Into<Peer>, phase: Phase) -> Self {
        ConnCore {
            phase,
            generation: 0,
            rare: Rare::NONE,
            datagrams: false,
            listener: NO_LISTENER,
            receiving: true,
            awaits_header: None,
            heard: false,
            secured: false,
            wire_pending: false,
            handshaking: false,
            paused: false,
            auto_pause: false,
            auto_paused: false,
            held_back: false,
            above_high: false,
            send_blocked: false,
            eof: false,
            write_shut: false,
            dirty: false,
            want_close: false,
            want_tls: false,
            want_shutdown_write: false,
            want_offer: false,
            want_drain: false,
            want_eof: false,
            want_end: false,
            reason: Noted::Nothing,
            peer: peer.into(),
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            sent: 0,
            extra: None,
            timer: None,
            watch: None,
            timeouts: Timeouts::default(),
            last_received: 0,
            last_sent: 0,
            watch_due: 0,
            mark: 0,
        }
    }

    /// Asks for an end that does not wait for pending output.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        if !self.want_end {
            self.want_end = true;
            self.note_reason(reason);
        }
    }

    /// A callback has panicked. Nobody knows what it has left undone, so whatever was under way
    /// ends here.
    pub(crate) fn panicked(&mut self, message: String) {
        if !matches!(self.phase, Phase::Free | Phase::Lingering) {
            self.want_end = true;
            self.note_reason(CloseReason::HandlerPanicked(message));
        }
    }

    /// Asks for an end that delivers pending output first.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        if !self.is_ending() {
            self.want_close = true;
            self.note_first_reason(reason);
        }
    }

    pub(crate) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The socket took some output.
    #[inline]
    pub(crate) fn note_sent(&mut self, bytes: usize, now_ms: u32) {
        self.sent += bytes as u64;
        self.last_sent = now_ms;
    }

    /// Whether the handler may still be given input. What comes behind the wish for TLS is the
    /// session's.
    #[inline]
    pub(crate) fn takes_input(&self) -> bool {
        let rests = self.paused | self.auto_paused | self.want_tls;
        let rests = rests | self.rare.has(Rare::RELAY_RESTS);
        self.phase == Phase::Open && !rests && !self.is_ending()
    }

    /// Whether its reading is to rest for its own output. What is relayed adds nothing to that.
    pub(crate) fn pauses_itself(&self, high_watermark: usize) -> bool {
        self.auto_pause && self.outbound.len() > high_watermark && !self.rare.has(Rare::RELAYS)
    }

    /// Whether others may still speak to it: it is open, or on the way to it, and not ending.
    #[inline]
    pub(crate) fn takes_commands(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Opening | Phase::Connecting) && !self.is_ending()
    }

    /// Whether what is written now can still be sent.
    #[inline]
    pub(crate) fn takes_output(&self) -> bool {
        self.takes_commands()
            && !self.want_shutdown_write
            && !self.write_shut
            && !self.rare.has(Rare::OUTPUT_LOST)
    }

    /// Whether a close of any kind was asked for and is yet to be done.
    #[inline]
    pub(crate) fn is_ending(&self) -> bool {
        self.want_close || self.want_end
    }

    /// Whether there is nothing to do for it but to wait for the peer: the state of nearly every
    /// connection after nearly every callback, told by one look.
    #[inline(always)] // Once a message.
    pub(crate) fn is_at_rest(&self) -> bool {
        // In the order of the fields: side by side they are looked at together.
        let busy = self.paused
            | self.auto_paused
            | self.held_back
            | self.secured
            | self.wire_pending
            | self.above_high
            | self.send_blocked
            | self.eof
            | self.write_shut
            | self.want_close
            | self.want_tls
            | self.want_end
            | self.want_shutdown_write
            | self.want_offer
            | self.want_drain
            | self.want_eof;
        self.phase == Phase::Open
            && self.receiving
            && !busy
            && self.outbound.is_empty()
            && self.extra.as_ref().is_none_or(|extra| extra.is_unobserved())
    }

    /// Whether the driver should receive.
    pub(crate) fn wants_receiving(&self) -> bool {
        match self.phase {
            Phase::Open if self.handshaking => !self.eof && !self.rare.has(Rare::PARKED),
            // Leftover input is offered before more is fetched, or the end is noticed.
            Phase::Open => {
                let room = !self.want_offer && !self.held_back;
                room && self.takes_input() && !self.eof
            }
            // Closing, input is dropped, so that the peer can get on to reading ours; or it is
            // the handshake that the last output waits for.
            Phase::Opening | Phase::Closing | Phase::Lingering => {
                !self.eof && !self.rare.has(Rare::PARKED)
            }
            Phase::Free | Phase::Connecting | Phase::Attempt => false,
        }
    }
}

impl Default for ConnCore {
    fn default() -> Self {
        ConnCore::new(Peer::Unnamed, Phase::Free)
    }
}
