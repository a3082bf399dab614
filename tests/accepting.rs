//! Accepting goes on whatever happens: descriptors run out, clients reset before they are
//! accepted, a thousand come at once.

mod closures;
mod common;

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use closures::{Script, TCP, test_path};
use tightloop::{Action, Context, RunningServer, WhenFull};

/// Descriptors that the server process may have.
const DESCRIPTORS: usize = 64;

/// Warnings and worse that the server process has logged.
static LOGGED: AtomicU64 = AtomicU64::new(0);

struct CountingLog;

impl log::Log for CountingLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            LOGGED.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

/// A server in a process with few descriptors, and a connection to ask it how it is.
struct Short {
    process: Child,
    address: SocketAddr,
    control: TcpStream,
}

impl Short {
    /// Starts the calling test once more, in a process where `serve` is what it does.
    fn start(path: &str) -> Self {
        let limited = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\"");
        let mut process = Command::new("sh")
            .args(["-c", &limited])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", path, "--nocapture", "--test-threads=1"])
            .env("TIGHTLOOP_SHORT", path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut ports = lines.filter_map(|line| line.unwrap().split_once("PORT=")?.1.parse().ok());
        let port: u16 = ports.next().expect("the server starts");
        // Whoever prints to a pipe that nobody reads fails.
        std::thread::spawn(move || ports.count());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let control = common::connect(address);
        Short { process, address, control }
    }

    /// Accept failures, logged warnings, connections opened, connections open.
    fn ask(&mut self) -> [u64; 4] {
        self.control.write_all(b"?").unwrap();
        let answer = common::read(&mut self.control, 32);
        [0, 1, 2, 3].map(|n| u64::from_le_bytes(answer[n * 8..][..8].try_into().unwrap()))
    }

    /// Processor time that the server has used.
    fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    fn stop(mut self) {
        self.control.write_all(b"!").unwrap();
        assert!(common::read_to_end(&mut self.control).is_empty());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Short {
    /// A test that fails leaves no process behind.
    fn drop(&mut self) {
        // Without effect on one that has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the process with few descriptors does.
fn serve(driver: common::Driver, loops: usize) {
    log::set_logger(&CountingLog).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let server = common::start(common::server(driver).loops(loops).listen(TCP), |_| {
        Script::new().traffic(|conn, input| {
            match input.take_all() {
                b"?" => {
                    let stats = conn.server().stats();
                    let open = stats.opened - stats.closed;
                    let logged = LOGGED.load(Ordering::SeqCst);
                    for number in [stats.accept_failures, logged, stats.opened, open] {
                        conn.write(&number.to_le_bytes());
                    }
                }
                b"!" => return Action::Shutdown,
                other => {
                    conn.write(other);
                }
            }
            Action::Continue
        })
    });
    println!("\nPORT={}", common::address(&server, 0).port());
    server.join().unwrap();
}

/// Whether the server answers this client, now or within the deadline.
fn is_served(client: &mut TcpStream) -> bool {
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0; 1]).is_ok()
}

/// More clients than the server has descriptors for; those that it has go on, those that wait are
/// served as soon as others go.
fn run_short(path: &str) {
    let mut server = Short::start(path);
    let mut clients: Vec<_> = (0..50).map(|_| common::connect(server.address)).collect();
    for _ in 0..100 {
        // sleep-ok: clients that come one by one, each an event of its own for the listener.
        std::thread::sleep(Duration::from_millis(2));
        clients.push(common::connect(server.address));
    }
    common::eventually("the descriptors are used up", || server.ask()[0] > 0);
    let [_, logged, opened, open] = server.ask();
    assert_eq!(logged, 1, "a shortage is logged once");
    assert_eq!(opened, open);
    let served = usize::try_from(open).unwrap() - 1;
    assert!((DESCRIPTORS / 2..DESCRIPTORS).contains(&served), "{served} are served");
    for client in &mut clients[..served] {
        assert!(is_served(client));
    }

    let (before, start, used) = (server.ask()[0], Instant::now(), server.cpu_time());
    // sleep-ok: measures what the server does in a second in which nothing happens to it.
    std::thread::sleep(Duration::from_secs(1));
    let used = server.cpu_time() - used;
    let tries = server.ask()[0] - before;
    let seconds = start.elapsed().as_secs() + 1;
    assert!(tries <= 15 * seconds, "tried to accept {tries} times in {seconds} s");
    let most = Duration::from_millis(100 * seconds);
    assert!(used < most, "used {used:?} in {seconds} s in which it could do nothing");
    common::eventually("it tries to accept again", || server.ask()[0] > before);
    assert_eq!(server.ask()[1], 1, "a shortage is logged once");

    let mut waiting = clients.split_off(served);
    for group in [20, served - 20] {
        drop(clients.drain(..group));
        for client in waiting.drain(..group) {
            clients.push(client);
        }
        let fresh = clients.len() - group;
        assert!(clients[fresh..].iter_mut().all(is_served), "those who waited are not served");
    }
    drop(clients);
    assert!(waiting.iter_mut().all(is_served), "the last are not served");
    drop(waiting);
    common::eventually("all have gone", || server.ask()[3] == 1);
    assert_eq!(server.ask()[2], 151);
    server.stop();
}

/// Blocks the first loop until what is answered is dropped.
fn blocked(server: &RunningServer<Script>) -> std::sync::mpsc::Sender<()> {
    let (blocked, events) = common::events();
    let (free, wait) = std::sync::mpsc::channel::<()>();
    let block = move |_: &mut Script, _: &mut Context<'_, Script>| {
        blocked.send(()).unwrap();
        let _ = wait.recv();
    };
    server.loops()[0].execute(block).unwrap();
    events.next();
    free
}

every_driver! {
    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn out_of_descriptors_a_single_loop_serves_whom_it_has_and_accepts_again(driver) {
        let name = "out_of_descriptors_a_single_loop_serves_whom_it_has_and_accepts_again";
        match std::env::var_os("TIGHTLOOP_SHORT") {
            Some(_) => serve(driver, 1),
            None => run_short(&test_path(driver, name)),
        }
    }

    #[cfg_attr(not(target_os = "linux"), ignore = "looks into /proc")]
    fn out_of_descriptors_an_acceptor_serves_whom_it_has_and_accepts_again(driver) {
        let name = "out_of_descriptors_an_acceptor_serves_whom_it_has_and_accepts_again";
        match std::env::var_os("TIGHTLOOP_SHORT") {
            Some(_) => serve(driver, 2),
            None => run_short(&test_path(driver, name)),
        }
    }

    fn clients_that_reset_before_they_are_accepted_do_no_harm(driver) {
        for loops in [1, 2] {
            let server = common::server(driver).loops(loops).listen(TCP);
            let server = common::start(server, |_| Script::new());
            let to = common::address(&server, 0);
            for _ in 0..5 {
                let free = blocked(&server);
                // With a single loop nobody accepts until it is free again.
                for n in 0..100 {
                    let stream = common::connect(to);
                    let socket = socket2::SockRef::from(&stream);
                    if n % 3 < 2 {
                        socket.set_linger(Some(Duration::ZERO)).unwrap();
                    }
                    if n % 3 == 1 {
                        (&stream).write_all(b"unread").unwrap();
                    }
                }
                drop(free);
                let mut client = common::connect(to);
                assert_eq!(common::exchange(&mut client, b"still here"), b"still here");
            }
            let handle = server.handle();
            common::eventually("all are gone", || handle.connections() == 0);
            let stats = handle.stats();
            assert!(stats.opened == stats.closed && stats.accept_failures == 0, "{stats:?}");
            common::stop(server);
        }
    }

    fn a_storm_of_connections_leaves_room_for_those_that_are_open(driver) {
        let server = common::start(common::server(driver).listen(TCP), |_| Script::new());
        let to = common::address(&server, 0);
        let mut client = common::connect(to);
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let storm: Vec<_> = (0..3)
            .map(|_| {
                let over = std::sync::Arc::clone(&over);
                std::thread::spawn(move || {
                    while !over.load(Ordering::SeqCst) {
                        let stream = common::connect(to);
                        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                })
            })
            .collect();
        // Windows does not hand out, nor count, a connection that has been reset.
        let storms = || cfg!(windows) || server.handle().stats().accepted > 50;
        let mut exchanged = 0;
        common::eventually("exchanges in the midst of a storm", || {
            assert_eq!(common::exchange(&mut client, b"here"), b"here");
            exchanged += usize::from(storms());
            exchanged > 50
        });
        over.store(true, Ordering::SeqCst);
        for thread in storm {
            thread.join().unwrap();
        }
        drop(client);
        common::stop(server);
    }

    fn many_clients_at_once_are_all_served(driver) {
        for (loops, reuse_port) in [(1, false), (3, false), (3, true)] {
            let server = common::server(driver).loops(loops).reuse_port(reuse_port && common::SPREADS).listen(TCP);
            let server = common::start(server, |_| Script::new());
            let to = common::address(&server, 0);
            let mut clients: Vec<_> = (0..1_000).map(|_| common::connect(to)).collect();
            for (n, client) in clients.iter_mut().enumerate() {
                client.write_all(&(n as u32).to_le_bytes()).unwrap();
            }
            for (n, client) in clients.iter_mut().enumerate() {
                assert_eq!(common::read(client, 4), (n as u32).to_le_bytes());
            }
            let stats = server.handle().stats();
            assert_eq!((stats.accepted, stats.opened), (1_000, 1_000));
            assert_eq!(server.handle().connections(), 1_000);
            drop(clients);
            common::eventually("all are closed", || server.handle().connections() == 0);
            common::stop(server);
        }
    }

    #[cfg_attr(windows, ignore = "Windows accepts no connection that has been reset")]
    fn the_address_of_a_peer_that_has_reset_meanwhile_is_known(driver) {
        let (told, events) = common::events();
        let server = common::start(common::server(driver).listen(TCP), move |_| {
            let (open, close) = (told.clone(), told.clone());
            Script::new()
                .open(move |conn| open.send(conn.peer_addr().socket_addr().unwrap()).unwrap())
                .close(move |conn, _| close.send(conn.peer_addr().socket_addr().unwrap()).unwrap())
        });
        let to = common::address(&server, 0);
        let free = blocked(&server);
        // More than are accepted in one turn.
        let mut own: Vec<_> = (0..40)
            .map(|_| {
                let stream = common::connect(to);
                let own = stream.local_addr().unwrap();
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                own
            })
            .collect();
        drop(free);
        let handle = server.handle();
        common::eventually("all have come and gone", || {
            let stats = handle.stats();
            stats.opened == 40 && stats.closed == 40
        });
        let mut peers = events.drain();
        own.extend(own.clone());
        own.sort();
        peers.sort();
        assert_eq!(peers, own, "each is told of once when it opens and once when it closes");
        common::stop(server);
    }

    fn who_was_accepted_when_the_listener_closes_is_served_or_closed(driver) {
        for loops in [1, 2] {
            let server = common::server(driver).loops(loops).listen(TCP);
            let server = common::start(server, |_| Script::new());
            let to = common::address(&server, 0);
            let free = blocked(&server);
            server.handle().stop_accepting();
            let clients: Vec<_> = (0..40).filter_map(|_| TcpStream::connect(to).ok()).collect();
            drop(free);
            let mut served = 0;
            for mut client in clients {
                client.set_read_timeout(Some(common::DEADLINE)).unwrap();
                // A client that was refused may be told so already here.
                let answered = client.write_all(b"x").and_then(|()| client.read(&mut [0; 1]));
                match answered {
                    Ok(1) => served += 1,
                    Ok(_) => {}
                    Err(error) => {
                        let waits = matches!(error.kind(), WouldBlock | TimedOut);
                        assert!(!waits, "a client is neither served nor closed: {error}");
                    }
                }
            }
            let stats = server.handle().stats();
            assert_eq!(stats.opened, served, "whoever was let in was served");
            common::eventually("the port is free", || std::net::TcpListener::bind(to).is_ok());
            common::stop(server);
        }
    }

    fn who_waits_for_a_place_when_the_listener_closes_is_closed(driver) {
        // More than a listener has accepts at a time.
        let server = common::server(driver).max_connections(1, WhenFull::Wait).listen(TCP);
        let server = common::start(server, |_| Script::new());
        let to = common::address(&server, 0);
        let mut first = common::connect(to);
        assert!(is_served(&mut first));
        let waiting: Vec<_> = (0..40).map(|_| common::connect(to)).collect();
        common::eventually("somebody waits", || server.handle().stats().full_waits > 0);
        server.handle().stop_accepting();
        for mut client in waiting {
            assert!(common::is_closed(&mut client));
        }
        assert!(is_served(&mut first), "who is in goes on");
        common::stop(server);
    }
}
