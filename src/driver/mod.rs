//! The door to the kernel: operations go in, events come out. A driver knows tokens, never
//! connections, and never calls user code.
//!
//! # The contract
//! Every driver passes the same integration tests. It is shaped by completions; the readiness
//! driver emulates them and owns all edge-trigger bookkeeping.
//!
//! - `wait` is the only call that may block. `next_event` yields what happened, one event at a
//!   time, and does its receiving at that moment, so that the bytes are still in cache when the
//!   handler sees them.
//! - Received bytes stay in the driver's memory: `bytes` lends them until `recycle`. A reactor
//!   recycles one buffer before it asks for the next event.
//! - A stream whose receiving is off yields neither bytes nor its end; a reset is still told.
//! - `send` takes what the socket takes. When `blocked` is answered, one `Writable` event follows
//!   as soon as a further `send` makes sense, and until then `send` must not be called again.
//! - A driver may keep what `send` has taken until the next `wait`, so that many sends leave
//!   together. If the socket then refuses a part, the driver sends that later, ahead of all else;
//!   `commit` asks for it. If it fails, `SendFailed` or the next `send` or `commit` tells.
//! - After a `send` that failed, what had been received is still told, and then the end of the
//!   stream or its failure.
//! - A stream that always has input gives way to the others after each buffer, and a datagram
//!   socket after each batch: the datagrams of one come one after the other, as far as they have
//!   been received together.
//! - Datagrams to be sent are gathered by the reactor and given to `send_datagrams` together: when
//!   the events of datagrams end, and again within a long row of them. What the driver has
//!   answered for is the driver's; the rest stays with the reactor, and the driver keeps nothing
//!   of it. So nothing is lost, doubled, or later than the turn that wrote it.
//! - `close` ends everything for a token: no event carries it afterwards, and its index may be
//!   used again with another generation.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::addr::Address;
use crate::buf::outbound::Outbound;
use crate::sys::route::Route;
use crate::sys::socket::Stream;
use crate::sys::sockopt::SocketOptions;
pub(crate) use crate::sys::udp::Outgoing;

mod datagrams;
pub(crate) mod ready;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod sim;
#[cfg(all(
    target_os = "linux",
    feature = "io-uring",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "loongarch64",
        target_arch = "powerpc64"
    )
))]
pub(crate) mod uring;

/// Names one stream: an index, which is used again, and a generation, which is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A turn looks at each waiting socket once, so that one that became ready meanwhile waits for no
/// more than the others' one event each. Where few wait, it goes round up to this many events, so
/// that asking the kernel for news costs the busy ones next to nothing.
pub(crate) const LEAST_PLACES_PER_TURN: usize = 32;

/// So many bytes, received or sent, take the place of a further round's event: where much is
/// moved, asking the kernel costs nothing beside it, and whoever has become ready should not wait.
pub(crate) const BYTES_PER_PLACE: usize = 2048;

/// Indices of streams stay below this: drivers keep two bits to tell kinds of sockets apart.
pub(crate) const MAX_STREAMS: u32 = 1 << 30;

/// Datagrams of a connected socket that are sent together, at most.
pub(crate) const MOST_PIECES: usize = 32;

/// Rings a sleeping loop from another thread.
pub(crate) type Waker = Arc<dyn Fn() + Send + Sync>;

/// Received bytes in the driver's memory, to be read by `bytes` and given back by `recycle`.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) length: usize,
}

/// What a `send` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Bytes that the socket took; none if it is blocked.
    pub(crate) bytes: usize,
    /// The socket takes no more now; `Event::Writable` follows.
    pub(crate) blocked: bool,
}

/// What came of moving bytes from one stream to another.
#[derive(Debug)]
pub(crate) enum Moved {
    /// So many have left the one and are sent, for the other's part: as by `send`, which may be
    /// `blocked` now.
    Bytes { bytes: usize, blocked: bool },
    /// There is nothing now; there will be another event.
    Nothing,
    /// They are to be received and sent, the usual way, and so is the end of the stream.
    Unable,
    /// As `Event::Failed`.
    Failed(io::Error),
    /// So many have left the one, and the other takes no more.
    Refused { bytes: usize, error: io::Error },
}

/// How a stream is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseMode {
    /// In order: what the socket took is still sent, then FIN.
    Orderly,
    /// At once: unsent bytes are dropped and the peer gets a reset.
    Abort,
}

/// What happened, on a driver whose unopened streams are `S`.
#[derive(Debug)]
pub(crate) enum Event<S = Stream> {
    /// A listener has a new connection, non-blocking and not yet opened.
    Accepted { listener: u32, stream: S, peer: Address },
    /// Accepting failed for want of descriptors or memory: the listener rests until
    /// `resume_accepting`.
    AcceptFailed { listener: u32, error: io::Error },
    /// The stream given to `connect` is connected and open, or could not be.
    Connected { token: Token, result: io::Result<()> },
    /// Bytes arrived: at least one, but for an empty datagram.
    Received { token: Token, buffer: Buffer },
    /// The peer closed its sending side; nothing more will be received.
    Ended { token: Token },
    /// The connection is broken.
    Failed { token: Token, error: io::Error },
    /// There may be bytes to be moved to another stream: `move_bytes` does it, or `set_moving` says
    /// that they are to be received.
    Movable { token: Token },
    /// A `send` that was answered has failed since; see the contract.
    #[allow(dead_code, reason = "only where io_uring is built")]
    SendFailed { token: Token, error: io::Error },
    /// A `send` that was blocked may go on.
    Writable { token: Token },
    /// A datagram arrived, whole.
    Datagram { socket: u32, buffer: Buffer, peer: SocketAddr, local: SocketAddr },
    /// A datagram arrived that did not fit the receive buffer; it is lost.
    DatagramTruncated { socket: u32 },
    /// A datagram of a connected socket arrived that did not fit the receive buffer; it is lost.
    PieceTruncated,
    /// A `send_datagrams` that would have blocked may be tried again.
    DatagramWritable { socket: u32 },
    /// Another thread rang.
    Woken,
}

/// What callbacks may ask about sockets without the driver's type being known to them. These are
/// cold calls; they go through a `dyn`.
pub(crate) trait Sockets {
    /// The stream's socket, to set options on; `None` where there is none (a simulated network).
    fn socket(&self, token: Token) -> Option<SockRef<'_>>;

    /// The present moment of this driver's clock.
    fn now(&self) -> Instant;

    /// The stream's own address.
    fn local_address(&self, token: Token) -> io::Result<Address>;

    /// Bytes that `send` has taken and the socket has not.
    fn unsent(&self, token: Token) -> usize {
        let _ = token;
        0
    }
}

/// A driver; see the module's contract.
pub(crate) trait Driver: Sockets {
    /// A stream that is not opened yet; dropping it closes it. One that was accepted by another
    /// driver, or brought by the user, comes as a [`Stream`].
    type Stream: From<Stream>;

    /// A listening socket, before `listen`.
    type Listener;

    /// A datagram socket, before `open_datagram`.
    type DatagramSocket;

    /// The socket of a stream that is not opened yet; `None` where there is none.
    fn unopened_socket(stream: &Self::Stream) -> Option<SockRef<'_>>;

    /// Rings this driver's `wait` from any thread.
    fn waker(&self) -> Waker;

    /// Sleeps until something happened or the time is over (`None`: for ever).
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// The next event of this turn.
    fn next_event(&mut self) -> Option<Event<Self::Stream>>;

    /// The bytes of a received buffer.
    fn bytes(&self, buffer: &Buffer) -> &[u8];

    /// Gives a received buffer back.
    fn recycle(&mut self, buffer: Buffer);

    /// Accepts on `listener` and reports under this number.
    fn listen(&mut self, number: u32, listener: Self::Listener) -> io::Result<()>;

    /// No more connections from this listener until `resume_accepting`; they wait in its backlog.
    fn rest_listener(&mut self, number: u32);

    /// Ends the rest of a listener, which an `AcceptFailed` begins too.
    fn resume_accepting(&mut self, number: u32);

    /// Closes a listener. Its socket may live on, in this process or another one: nothing is told
    /// of it then. Where `lives_on` says so, whoever was accepted while it rested is told too: the
    /// backlog, in which he would have gone down with the others, is still there.
    fn close_listener(&mut self, number: u32, lives_on: bool);

    /// Whether a closed listener may still tell of connections that were accepted before.
    fn is_closing(&self, number: u32) -> bool {
        let _ = number;
        false
    }

    /// Takes over a connected stream and receives from it.
    fn open(&mut self, token: Token, stream: Self::Stream) -> io::Result<()>;

    /// Makes a stream that starts to connect, by this route, to be given to `connect`.
    fn start_connect(
        &mut self,
        address: &Address,
        route: &Route,
        options: &SocketOptions,
    ) -> io::Result<Self::Stream>;

    /// A datagram socket that is connected, to be given to `connect` as a stream is: what it
    /// receives is one datagram an event, and a `send` sends `limit` bytes as one. In a network
    /// without such sockets nobody is reached.
    fn connect_datagram(
        &mut self,
        address: SocketAddr,
        route: &Route,
        options: &SocketOptions,
    ) -> io::Result<Self::Stream> {
        let _ = (address, route, options);
        Err(io::ErrorKind::NetworkUnreachable.into())
    }

    /// Takes over a stream whose connect is under way; `Connected` follows.
    fn connect(&mut self, token: Token, stream: Self::Stream) -> io::Result<()>;

    /// Gives the connected stream of `from` the name `to`, which has none. `from` is gone then,
    /// also where that fails.
    fn rename(&mut self, from: Token, to: Token) -> io::Result<()>;

    /// Whether something of this stream may wait that no event has told yet, its end or an error too:
    /// a turn takes so many events and no more. A cold call, it asks the system.
    fn may_have_more(&self, token: Token) -> bool;

    /// Turns receiving on or off.
    fn set_receiving(&mut self, token: Token, on: bool);

    /// Gives the socket what it takes of `output`, at most `limit` bytes or one chunk more. The
    /// caller advances `output` by the answer.
    fn send(&mut self, token: Token, output: &Outbound, limit: usize) -> io::Result<Sent>;

    /// Whether the next event is another datagram of a row that was received together.
    fn is_in_a_row(&self) -> bool {
        false
    }

    /// Sends the first of the datagrams that lie in `output`, one behind the other with these
    /// lengths, to a connected socket's peer, as many as it can. Answers how many; none if the first
    /// one lies in too many chunks, which is for `send`.
    ///
    /// # Errors
    /// Is about the first one, and nothing was sent: `WouldBlock` if the socket is blocked, and
    /// `Writable` follows as for `send`.
    fn send_pieces(
        &mut self,
        token: Token,
        output: &Outbound,
        lengths: &[usize],
    ) -> io::Result<usize> {
        let _ = (token, output, lengths);
        Ok(0)
    }

    /// Whether all that `send` has taken is with the socket by now. Where it is not, that counts as a
    /// send that is blocked.
    ///
    /// # Errors
    /// That of an earlier send.
    fn commit(&mut self, token: Token) -> io::Result<bool> {
        let _ = token;
        Ok(true)
    }

    /// As `send`, of a stretch of a received buffer that was not recycled yet; it may be another
    /// stream's. The caller keeps what was not taken. A driver that does not want to send from
    /// there takes nothing and is not `blocked`.
    fn send_received(
        &mut self,
        token: Token,
        buffer: &Buffer,
        stretch: Range<usize>,
    ) -> io::Result<Sent>;

    /// Whether the stream's input is to be told as `Movable` and not received; only for a stream
    /// that is open and receives bytes. A driver that moves nothing does nothing.
    fn set_moving(&mut self, token: Token, on: bool) {
        let _ = (token, on);
    }

    /// Moves bytes that have arrived on one stream to another one without receiving them, `limit` at
    /// most, in answer to `Movable`; the other's `send` is not blocked. What has left the one and the
    /// other's socket did not take is sent as what `send` has taken.
    fn move_bytes(&mut self, from: Token, to: Token, limit: usize) -> Moved {
        let _ = (from, to, limit);
        Moved::Unable
    }

    /// Sends FIN after what the socket has taken; what `commit` has not confirmed may be lost.
    fn shutdown_write(&mut self, token: Token) -> io::Result<()>;

    /// Ends the stream.
    fn close(&mut self, token: Token, mode: CloseMode);

    /// Receives datagrams on `socket` and reports under this number.
    fn open_datagram(&mut self, number: u32, socket: Self::DatagramSocket) -> io::Result<()>;

    /// Receives no more datagrams on this socket: those that wait are for whoever has it too. What
    /// has been received is still told, and sending goes on.
    fn leave_datagrams(&mut self, number: u32) {
        let _ = number;
    }

    /// Sends from the front of `datagrams`, at least one, as many as it can; the payloads lie in
    /// `bytes`. It may bring them into another order first, but not those to the same peer.
    /// Answers how many have been sent, and is called again for those behind them. One of these
    /// that turns out later to be refused is lost as on the way.
    ///
    /// # Errors
    /// Is about the first one, and nothing was sent: `WouldBlock` if the socket takes no more
    /// until `DatagramWritable`, anything else if it cannot be sent, which says nothing about
    /// the next one.
    fn send_datagrams(
        &mut self,
        number: u32,
        bytes: &[u8],
        datagrams: &mut [Outgoing],
    ) -> io::Result<usize>;
}
