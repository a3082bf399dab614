//! What the integration tests share: the macro that runs a test over every driver, and clients
//! that wait on events with a deadline.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tightloop::{Action, Client, Conn, Handler, Input, RunningServer, Server};

/// No test waits longer than this for anything: far more than a loaded machine needs. An emulator
/// needs more, and has the seconds told when the tests are built.
pub const DEADLINE: Duration = Duration::from_secs(match option_env!("TIGHTLOOP_TEST_DEADLINE") {
    None => 20,
    Some(told) => match u64::from_str_radix(told, 10) {
        Ok(seconds) => seconds,
        Err(_) => panic!("TIGHTLOOP_TEST_DEADLINE is a number of seconds"),
    },
});

/// Whether the kernel spreads connections over sockets on one port: where it does not, `reuse_port`
/// is refused.
pub const SPREADS: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly"
));

/// Runs each test once over every driver. The test gets the driver's name and makes its servers
/// by `common::server(driver)`.
///
/// ```ignore
/// every_driver! {
///     fn what_comes_in_goes_out(driver) {
///         let server = common::start(common::server(driver).listen("tcp://127.0.0.1:0"), |_| Echo);
///     }
/// }
/// ```
#[macro_export]
macro_rules! every_driver {
    ($($(#[$attribute:meta])* fn $name:ident($driver:ident) $body:block)*) => {
        mod ready {
            #[allow(unused_imports)]
            use super::*;
            $($(#[$attribute])* #[test] fn $name() {
                let $driver = $crate::common::Driver::Ready;
                $body
            })*
        }

        #[cfg(all(target_os = "linux", feature = "io-uring"))]
        mod uring {
            #[allow(unused_imports)]
            use super::*;
            $($(#[$attribute])* #[test] fn $name() {
                let $driver = $crate::common::Driver::Uring;
                if $crate::common::can_be_had($driver) {
                    $body
                }
            })*
        }
    };
}

/// The drivers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Readiness, over mio.
    Ready,
    /// io_uring.
    Uring,
}

/// Whether this system has the driver; what it lacks is printed.
pub fn can_be_had(driver: Driver) -> bool {
    match client(driver).start(|_| Echo) {
        Ok(client) => {
            client.stop();
            client.join().expect("the client ends in order");
            true
        }
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    }
}

/// A server over the given driver.
pub fn server(driver: Driver) -> Server {
    match driver {
        Driver::Ready => Server::new().driver(tightloop::Driver::Poll),
        Driver::Uring => Server::new().driver(tightloop::Driver::IoUring),
    }
}

/// A client over the given driver.
pub fn client(driver: Driver) -> Client {
    match driver {
        Driver::Ready => Client::new().driver(tightloop::Driver::Poll),
        Driver::Uring => Client::new().driver(tightloop::Driver::IoUring),
    }
}

/// Sends back what comes.
pub struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        conn.write(input.take_all());
        Action::Continue
    }
}

/// Starts a server that must start.
pub fn start<H, F>(server: Server, factory: F) -> RunningServer<H>
where
    H: Handler,
    F: Fn(tightloop::LoopInfo) -> H + Send + Sync + 'static,
{
    server.start(factory).expect("the server starts")
}

/// Stops a server and waits for its end, which must be in order, without a panic in between.
pub fn stop<H: Handler>(server: RunningServer<H>) {
    stop_after_panics(server, 0);
}

/// As `stop`, for a server whose callbacks have panicked that often.
pub fn stop_after_panics<H: Handler>(server: RunningServer<H>, panics: u64) {
    let handle = server.handle();
    server.stop();
    server.join().expect("the server ends in order");
    assert_eq!(handle.stats().panics, panics, "callbacks that panicked");
}

/// The address of the server's `n`th listener.
pub fn address<H: Handler>(server: &RunningServer<H>, n: usize) -> SocketAddr {
    server.local_addrs()[n].socket_addr().expect("an IP listener")
}

/// A client whose every call fails after the deadline instead of hanging.
pub fn connect(to: SocketAddr) -> TcpStream {
    // Without a timeout of its own: on loopback the kernel answers at once, and the standard
    // library's takes a reset that follows for a failure to connect.
    let stream = TcpStream::connect(to).expect("the server accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("a read timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("a write timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Reads exactly `n` bytes.
pub fn read(stream: &mut impl Read, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).expect("the bytes arrive");
    bytes
}

/// Reads until the peer closes in order. A reset, or the deadline, fails the test.
pub fn read_to_end(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the stream ends in order");
    bytes
}

/// Whether the next read finds the end of the stream or a broken connection, without data.
pub fn is_closed(stream: &mut impl Read) -> bool {
    match uninterrupted(|| stream.read(&mut [0; 1])) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => {
            error.kind() != io::ErrorKind::WouldBlock && error.kind() != io::ErrorKind::TimedOut
        }
    }
}

/// Sends and reads the same number of bytes back, in step, so that no buffer overflows.
pub fn exchange(stream: &mut TcpStream, message: &[u8]) -> Vec<u8> {
    stream.write_all(message).expect("the message leaves");
    read(stream, message.len())
}

/// Writes everything from a thread of its own, then shuts down the sending side if asked to.
pub fn write_in_background(
    stream: &TcpStream,
    bytes: Vec<u8>,
    shutdown: bool,
) -> std::thread::JoinHandle<io::Result<()>> {
    let mut stream = stream.try_clone().expect("a second handle");
    std::thread::spawn(move || {
        stream.write_all(&bytes)?;
        if shutdown { stream.shutdown(Shutdown::Write) } else { Ok(()) }
    })
}

/// Bytes whose every position can be told from its neighbours'.
pub fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// A channel on which a handler tells what happened to it.
pub fn events<T>() -> (Sender<T>, Events<T>) {
    let (sender, receiver) = channel();
    (sender, Events(receiver))
}

/// The test's end of [`events`].
pub struct Events<T>(Receiver<T>);

impl<T> Events<T> {
    /// The next event; none within the deadline fails the test.
    pub fn next(&self) -> T {
        self.0.recv_timeout(DEADLINE).expect("the event happens")
    }

    /// The events that have arrived already.
    pub fn drain(&self) -> Vec<T> {
        self.0.try_iter().collect()
    }
}

/// Waits until `condition` holds; fails the test at the deadline.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        // sleep-ok: the pause of a poll with a deadline; the outcome does not depend on it.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How often a test is tried that a machine can spoil by standing still meanwhile, as a virtual one
/// does while others have its processors.
const ATTEMPTS: u32 = 5;

/// Runs a test in which something has to be done in less than `patience`, or nothing would be
/// tested: each further attempt has twice as much. It fails if all do.
pub fn patiently(patience: Duration, test: impl Fn(Duration)) {
    let mut left = ATTEMPTS;
    attempts(|| {
        left -= 1;
        test(patience * 2u32.pow(ATTEMPTS - 1 - left));
    });
}

/// Runs a test of how soon something is done, which only a machine shows that does not stand still
/// meanwhile. It fails if all attempts do.
pub fn at_best(test: impl Fn()) {
    attempts(test);
}

fn attempts(mut test: impl FnMut()) {
    for attempt in 1..ATTEMPTS {
        if catch_unwind(AssertUnwindSafe(&mut test)).is_ok() {
            return;
        }
        println!("attempt {attempt} of {ATTEMPTS} has failed");
    }
    test();
}

/// A port on which nobody listens. It is taken, so that no other test gets it meanwhile, for as long
/// as this process lives.
pub fn closed_port() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}

/// A bare datagram socket on loopback that waits no longer than `DEADLINE`.
pub fn datagram_peer() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    socket
}

/// Calls again what a process that was stopped for a while has interrupted.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The next datagram, whole.
pub fn receive_datagram(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let length = uninterrupted(|| socket.recv(&mut bytes)).expect("a datagram comes");
    bytes.truncate(length);
    bytes
}
