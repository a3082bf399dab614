//! tightloop: event loops own the sockets, the buffers and the timers, and call your handler.
//!
//! ```text
//!      your threads                          a loop's thread, one a core
//!   +----------------+        +-----------------------------------------------------+
//!   | ConnHandle     |  mail- |   kernel --> driver --> connection --> on_traffic   |
//!   | LoopHandle     |--box-->|                             |              |        |
//!   | ServerHandle   |  bell  |   kernel <-- driver <-- outbound <----- write       |
//!   +----------------+        |                                                     |
//!          ^                  |   timing wheel --> on_timer, on_tick                |
//!          |                  +-----------------------------------------------------+
//!   +----------------+                               |  Conn::spawn
//!   | worker pool    |<------------------------------+
//!   +----------------+   blocking jobs, answered on the loop
//! ```
//!
//! A [`Handler`] value lives on each loop and is called with `&mut self`: it needs no lock and
//! need not be `Send`. What is kept per connection is its [`State`](Handler::State). Input is
//! lent, contiguous, straight from the receive buffer; what a callback writes leaves when it
//! returns, in one system call (on io_uring with the turn's only one). What is not consumed is offered
//! again.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use tightloop::{Action, Conn, Handler, Input, Server};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type State = ();
//!
//!     fn on_open(&mut self, _conn: &mut Conn<'_>) {}
//!
//!     fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
//!         conn.write(input.take_all());
//!         Action::Continue
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::new().listen("tcp://127.0.0.1:0").start(|_loop| Echo)?;
//!
//! let mut client = TcpStream::connect(server.local_addrs()[0].socket_addr().unwrap())?;
//! client.write_all(b"hello")?;
//! let mut answer = [0; 5];
//! client.read_exact(&mut answer)?;
//! assert_eq!(&answer, b"hello");
//!
//! server.stop();
//! server.join()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Log
//!
//! The library prints nothing. It speaks through the [`log`] facade, to whatever logger the program
//! sets, and without one to nobody. All targets begin with `tightloop`; what follows is the place in the
//! source, and no promise.
//!
//! | level | what is told |
//! |---|---|
//! | error | a bug: a callback that panicked (by its name), a loop that did; or a system that lets a loop be woken no more |
//! | warn | the system, or a function of the program, refuses something and the server goes on: no descriptors left to accept with (once, until it succeeds again), a socket option or hook that fails for a connection, a callback above [`stall_threshold`](Server::stall_threshold), jobs or files that outlive the server |
//! | info | once at the start, why the loops do without io_uring where that was preferred |
//! | debug | what is lost or tried again: datagrams that were too long or refused, operations that the kernel had no room for |
//! | trace | nothing |
//!
//! What a peer does to its connection is no line at all but a [`CloseReason`]; nothing is told message by
//! message but lost datagrams, at debug. What is counted is in [`Stats`]. Errors of the start and of the end are
//! answered, not logged. The threads are called `tl-loop-0`, `tl-loop-1`, … and `tl-acceptor`.
//!
//! Where to read on: [`Handler`] for the callbacks, [`codec`] for protocols in frames, [`Conn`] for what they can do, [`Server`] for
//! the options, [`ConnHandle`] and [`ServerHandle`] for other threads.

#![warn(missing_debug_implementations, clippy::missing_errors_doc)]
// A type that users take apart can grow, or says why it never will.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod addr;
mod balance;
mod buf;
mod client;
pub mod codec;
mod conn;
mod control;
mod driver;
mod engine;
mod error;
mod handler;
#[cfg(unix)]
mod inherited;
mod listen_socket;
mod metrics;
#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub mod micro;
mod options;
mod per_conn;
pub mod proxy_protocol;
mod reactor;
mod server;
#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub mod sim;
#[cfg(unix)]
mod successor;
mod sync;
mod sys;
#[cfg(unix)]
pub mod systemd;
mod time;
pub mod tls;
mod workers;

pub use addr::{
    Address, AddressError, AddressFault, Endpoint, IpNetwork, MAX_UNIX_PATH, Transport,
};
pub use balance::{Balance, Balancer};
pub use buf::writer::Writer;
pub use bytes::Bytes;
pub use client::{Client, ClientHandle, RunningClient};
pub use codec::{Codec, FrameConn, FrameHandler, Framed};
pub use conn::Conn;
pub use conn::adopt::{Adopt, AdoptError};
pub use conn::context::Context;
pub use conn::datagram::{Datagram, DatagramHandle};
pub use conn::dial::Connect;
pub use conn::handle::{ConnHandle, LoopHandle};
pub use conn::id::ConnId;
pub use conn::input::{Input, InputReader};
pub use conn::state::Direction;
pub use control::ServerHandle;
pub use error::{CloseReason, DecodeError, EncodeError, Error, HandleError, Result, TlsError};
pub use handler::{Action, Handler, LoopInfo};
#[cfg(unix)]
pub use inherited::Inherited;
pub use listen_socket::ListenSocket;
pub use metrics::Stats;
pub use options::driver::{Driver, DriverFallback, UnknownDriver};
pub use options::{PanicPolicy, WhenFull};
pub use per_conn::{PerConn, Session, per_conn};
pub use server::{RunningServer, Server};
pub use socket2::{SockRef, Socket};
#[cfg(unix)]
pub use successor::Successor;
pub use sys::interface::Interface;
pub use sys::multicast::{Group, Multicast};
pub use sys::sockopt::Keepalive;
pub use workers::{JobPanic, SpawnError, WorkerOptions, WorkerPool, WorkerStats};

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So do those for whoever comes from gnet.
#[cfg(doctest)]
#[doc = include_str!("../docs/from-gnet.md")]
struct FromGnet;
