//! What the library says of itself: nothing on its own, and through a logger what is worth a line.

mod closures;
mod common;
mod packets;

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use closures::{Script, TCP, be_busy, test_path};
use log::{Level, LevelFilter, Log, Metadata, Record};
use packets::UDP;
use tightloop::proxy_protocol::ProxyProtocol;
use tightloop::{Action, Connect, RunningServer, SockRef};

/// Runs the test in a process of its own and answers what that has printed; `None` in there.
fn printed_alone(driver: common::Driver, test: &str) -> Option<Output> {
    let path = test_path(driver, test);
    if std::env::var_os("TIGHTLOOP_ALONE").is_some_and(|alone| *alone == *path) {
        return None;
    }
    let output = Command::new(std::env::current_exe().expect("the test's own program"))
        .args(["--exact", &path, "--nocapture", "--test-threads=1"])
        .env("TIGHTLOOP_ALONE", &path)
        .output()
        .expect("the test starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
    Some(output)
}

/// Connections that the socket hook has seen.
static SOCKETS: AtomicUsize = AtomicUsize::new(0);
/// Of these, the ones that it refuses.
const REFUSED: usize = 3;
const MESSAGES: usize = 500;

/// Echoes; panics, is slow, and answers too much where it is asked to.
fn script() -> Script {
    let traffic = |conn: &mut tightloop::Conn<'_>, input: &mut tightloop::Input<'_>| {
        match input.as_slice() {
            b"panic" => panic!("asked to"),
            b"be slow" => be_busy(Duration::from_millis(60)),
            _ => {}
        }
        conn.write(input.take_all());
        Action::Continue
    };
    Script::new().traffic(traffic).datagram(|datagram| {
        datagram.reply(&[0; 70_000]);
        datagram.reply(datagram.payload());
        Action::Continue
    })
}

/// A server under load, with every fault that peers, handlers and the system can easily have.
fn load_with_faults(driver: common::Driver) {
    // What Rust itself prints of a panic is not the library's.
    std::panic::set_hook(Box::new(|_| {}));
    let server = common::server(driver)
        .loops(2)
        .receive_buffer(2048)
        .stall_threshold(Duration::from_millis(50))
        .on_connection_socket(|_| match SOCKETS.fetch_add(1, Ordering::Relaxed) {
            REFUSED => Err(std::io::Error::other("refused by the test")),
            _ => Ok(()),
        })
        .listen(TCP)
        .listen(UDP)
        .listen_proxied(TCP, ProxyProtocol::required().trusting(["127.0.0.0/8".parse().unwrap()]));
    let server = common::start(server, |_| script());
    faults_of_peers(&server);
    faults_of_handlers(&server);
    let mut clients: Vec<_> = (0..8).map(|_| client(&server)).collect();
    for n in 0..MESSAGES {
        assert_eq!(common::exchange(&mut clients[n % 8], b"hello"), b"hello");
    }
    let handle = server.handle();
    server.stop();
    server.join().unwrap();
    let stats = handle.stats();
    assert_eq!(stats.panics, 1);
    assert!(stats.datagrams_truncated >= 1 && stats.datagrams_dropped >= 1, "{stats:?}");
    assert!(stats.open_failures >= 2, "{stats:?}");
}

fn client(server: &RunningServer<Script>) -> TcpStream {
    common::connect(common::address(server, 0))
}

fn faults_of_peers(server: &RunningServer<Script>) {
    for n in 1..=REFUSED {
        // A reset, in the middle of an answer perhaps. Windows hands out none that comes before.
        let mut client = client(server);
        client.write_all(b"hello").unwrap();
        common::eventually("it is seen", || SOCKETS.load(Ordering::Relaxed) == n);
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    }
    assert!(common::is_closed(&mut client(server)), "the socket hook refuses it");
    let mut no_proxy = common::connect(common::address(server, 2));
    no_proxy.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(common::is_closed(&mut no_proxy));
    let datagrams = packets::client("127.0.0.1:0");
    for size in [4096, 8] {
        datagrams.send_to(&common::pattern(size), common::address(server, 1)).unwrap();
    }
    // The long one was cut, and the long answer to the short one refused.
    assert_eq!(packets::receive(&datagrams).0, common::pattern(8));
    drop(UdpSocket::bind("127.0.0.1:0").unwrap());
    let gone = common::closed_port();
    let to = Connect::to(&format!("tcp://{gone}").parse().unwrap());
    server.handle().connect(to).unwrap();
    let stats = || server.handle().stats();
    common::eventually("it could not be made", || stats().open_failures >= 2);
}

fn faults_of_handlers(server: &RunningServer<Script>) {
    let mut panics = client(server);
    panics.write_all(b"panic").unwrap();
    assert!(common::is_closed(&mut panics));
    let mut slow = client(server);
    slow.write_all(b"be slow").unwrap();
    assert_eq!(common::read(&mut slow, 7), b"be slow");
    common::eventually("it is counted", || server.handle().stats().stalls >= 1);
}

/// Keeps what it is told.
struct Collector;

static RECORDS: Mutex<Vec<(Level, String, String)>> = Mutex::new(Vec::new());

impl Log for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let record = (record.level(), record.target().to_owned(), record.args().to_string());
        RECORDS.lock().unwrap().push(record);
    }

    fn flush(&self) {}
}

every_driver! {
    fn without_a_logger_nothing_is_printed(driver) {
        match printed_alone(driver, "without_a_logger_nothing_is_printed") {
            None => load_with_faults(driver),
            Some(output) => {
                assert_eq!(String::from_utf8_lossy(&output.stderr), "");
                // And nothing but the words of the test harness on the other one.
                let text = String::from_utf8_lossy(&output.stdout);
                let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
                assert_eq!(lines.len(), 3, "{text}");
            }
        }
    }

    fn a_logger_is_told_what_the_levels_promise_and_nothing_a_message(driver) {
        let name = "a_logger_is_told_what_the_levels_promise_and_nothing_a_message";
        if printed_alone(driver, name).is_some() {
            return;
        }
        log::set_logger(&Collector).unwrap();
        log::set_max_level(LevelFilter::Trace);
        load_with_faults(driver);
        let records = RECORDS.lock().unwrap();
        // mio has a target of its own.
        let own = || records.iter().filter(|(_, target, _)| target.starts_with("tightloop"));
        let of = |level| own().filter(move |record| record.0 == level).map(|record| &*record.2);
        let errors: Vec<_> = of(Level::Error).collect();
        assert_eq!(errors, ["on_traffic panicked: asked to"]);
        let warnings: Vec<_> = of(Level::Warn).collect();
        // A loaded machine may hold up further callbacks.
        let (slow, others): (Vec<_>, Vec<_>) =
            warnings.into_iter().partition(|text| text.contains(" took "));
        assert!(slow.iter().any(|text| text.contains("on_traffic took")), "{slow:?}");
        assert!(others.len() == 1 && others[0].contains("refused by the test"), "{others:?}");
        assert_eq!(of(Level::Info).count(), 0);
        assert!(of(Level::Debug).any(|text| text.contains("datagram")));
        assert_eq!(of(Level::Trace).count(), 0);
        assert!(own().count() < MESSAGES / 10, "{records:?}");
        assert!(own().all(|(_, target, _)| target == "tightloop" || target.starts_with("tightloop::")));
    }
}
