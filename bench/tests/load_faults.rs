//! `load` against servers that go wrong, and command lines that do: every error is told in words,
//! counted by its kind, and seen in the exit code.

mod common;

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use common::servers::{Broadcast, Fault, Faulty, Http};
use common::{Echo, Outcome, at_best, finish, load, serve, start};

fn faulty(fault: Fault) -> (common::Running<Faulty>, String) {
    let server = serve("tcp://127.0.0.1:0", move || Faulty::new(fault));
    let url = format!("tcp://127.0.0.1:{}", server.port());
    (server, url)
}

fn faulty_udp(fault: Fault) -> (common::Running<Faulty>, String) {
    let server = serve("udp://127.0.0.1:0", move || Faulty::new(fault));
    let url = format!("udp://127.0.0.1:{}", server.port());
    (server, url)
}

#[track_caller]
fn assert_failed(outcome: &Outcome, code: i32, told: &str) {
    let text = format!("{}\n{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.code, Some(code), "{text}");
    assert!(outcome.stderr.contains(told), "{told:?} is not in: {}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

fn errors(outcome: &Outcome, kind: &str) -> u64 {
    outcome.json()["errors"][kind].as_u64().unwrap()
}

/// A port on which nobody listens.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_server_that_refuses_is_told() {
    let outcome = load(&format!("tcp://127.0.0.1:{} -c 3", closed_port()));
    assert_failed(&outcome, 1, "Connection refused");
    assert!(outcome.stderr.contains("0 of 3 connections could be opened"), "{}", outcome.stderr);
    let outcome = load(&format!("unix://{}/nobody.sock", env!("CARGO_TARGET_TMPDIR")));
    assert_failed(&outcome, 1, "No such file");
    let outcome = load("tcp://no-such-host.invalid:1");
    assert_failed(&outcome, 1, "cannot connect to tcp://no-such-host.invalid:1");
}

#[test]
fn a_udp_server_that_is_not_there_is_told() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let outcome = load(&format!("udp://127.0.0.1:{port} -c 2 --timeout 200ms"));
    assert_failed(&outcome, 1, "Connection refused");
    assert!(errors(&outcome, "closed") > 0);
    assert_eq!(outcome.json()["operations"], 0);
}

#[test]
fn a_server_that_closes_midway_is_told_and_connected_again() {
    let (_server, url) = faulty(Fault::ClosesBehind(1000));
    let outcome = load(&format!("{url} -c 2"));
    assert_failed(&outcome, 1, "the server closed it");
    assert!(errors(&outcome, "closed") >= 2);
    assert!(outcome.json()["operations"].as_u64() > Some(0));
}

#[test]
fn wrong_bytes_are_told_with_their_place() {
    let (_server, url) = faulty(Fault::Flips(1234));
    for arguments in ["-c 1", "-c 3 -s 500 -p 7", "-c 1 -s 1MiB"] {
        let outcome = load(&format!("{url} {arguments}"));
        assert_failed(&outcome, 1, "connection 0: at byte 1234: expected ");
        assert!(errors(&outcome, "wrong_bytes") > 0);
    }
}

#[test]
fn a_message_that_comes_twice_is_wrong() {
    let (_server, url) = faulty(Fault::Doubles);
    let outcome = load(&format!("{url} -c 1"));
    assert_eq!(outcome.code, Some(1));
    assert!(errors(&outcome, "wrong_bytes") > 0, "{}", outcome.stderr);
    let server = serve("tcp://127.0.0.1:0", || Broadcast { times: 2 });
    let outcome = load(&format!("tcp://127.0.0.1:{} --work broadcast -c 3", server.port()));
    assert_failed(&outcome, 1, "bytes that were not published");
}

#[test]
fn a_server_that_never_answers_is_told() {
    let (_server, url) = faulty(Fault::Silent);
    let outcome = load(&format!("{url} -c 2 --timeout 100ms"));
    assert_failed(&outcome, 1, "no reply for 100ms");
    assert!(outcome.stderr.contains("the server has answered nothing"), "{}", outcome.stderr);
    assert!(errors(&outcome, "timeout") > 0);
    let outcome = load(&format!("{url} -c 2 --work broadcast --timeout 100ms"));
    assert_failed(&outcome, 1, "0 of 2 connections have received the first message");
    let outcome = load(&format!("{url} -c 100 --work idle --timeout 100ms"));
    assert_failed(&outcome, 1, "no reply for 100ms");
}

#[test]
fn an_echo_is_no_broadcast() {
    at_best(|_| {
        let server = serve("tcp://127.0.0.1:0", || Echo);
        let arguments =
            format!("tcp://127.0.0.1:{} --work broadcast -c 5 --timeout 200ms", server.port());
        assert_failed(&load(&arguments), 1, "1 of 5 connections have received the first message");
    });
}

#[test]
fn lost_datagrams_are_counted_and_the_load_goes_on() {
    at_best(|_| {
        let (_server, url) = faulty_udp(Fault::LosesTenth);
        for arguments in ["-c 2 -p 4", "-c 2 -p 4 --rate 500"] {
            let outcome = load(&format!("{url} {arguments} --timeout 20ms --duration 500ms"));
            assert_failed(&outcome, 1, "is lost: no reply for 20ms");
            let (lost, operations) =
                (errors(&outcome, "lost"), outcome.json()["operations"].as_u64().unwrap());
            assert!(lost > 5 && operations > lost, "{lost} lost, {operations} done");
            assert_eq!(errors(&outcome, "wrong_bytes"), 0, "{}", outcome.stderr);
        }
    });
}

#[test]
fn datagrams_with_a_foreign_content_are_wrong() {
    let (_server, url) = faulty_udp(Fault::MixesUp);
    let outcome = load(&format!("{url} -c 2 --timeout 100ms"));
    assert_eq!(outcome.code, Some(1));
    assert!(errors(&outcome, "wrong_bytes") > 0, "{}", outcome.stderr);
}

#[test]
fn http_errors_are_told_with_their_status() {
    let make = || Http { status: "503 Service Unavailable", closes_after: usize::MAX };
    let server = serve("tcp://127.0.0.1:0", make);
    let outcome = common::load_with(
        &format!("http://127.0.0.1:{}/hello -c 1", server.port()),
        &["-H", "X-A: b"],
    );
    assert_failed(&outcome, 1, "status 503 Service Unavailable");
    let (_server, url) = faulty(Fault::ClosesBehind(1));
    let outcome = load(&format!("{} -c 1", url.replace("tcp", "http")));
    assert_failed(&outcome, 1, "the server closed it");
    let server = serve("tcp://127.0.0.1:0", || Echo);
    let outcome = load(&format!("http://127.0.0.1:{} -c 1", server.port()));
    assert_failed(&outcome, 1, "not HTTP");
    let outcome = load(&format!("redis://127.0.0.1:{} -c 1", server.port()));
    assert_failed(&outcome, 1, "before the load");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let url = "tcp://127.0.0.1:1";
    let cases = [
        ("nonsense", "a URL is needed"),
        ("ftp://127.0.0.1:1", "ftp"),
        ("tcp://:1", "the host is missing"),
        ("tcp://127.0.0.1:1 -c 0", "--connections 0"),
        ("tcp://127.0.0.1:1 -c 2000000", "descriptors"),
        ("tcp://127.0.0.1:1 -s 1GiB", "--size"),
        ("tcp://127.0.0.1:1 -s 1k", "no unit of size"),
        ("tcp://127.0.0.1:1 -d 10", "no unit"),
        ("tcp://127.0.0.1:1 --rate 0", "--rate"),
        ("tcp://127.0.0.1:1 --rate NaN", "--rate"),
        ("tcp://127.0.0.1:1 --active 51", "--active"),
        ("tcp://127.0.0.1:1 --path /x", "--path"),
        ("tcp://127.0.0.1:1 --insecure", "no TLS"),
        ("tcp://127.0.0.1:1 --server-pid 4194999", "no such process"),
        ("udp://127.0.0.1:1 --work http", "udp"),
        ("udp://127.0.0.1:1 -s 65508", "65507"),
        ("http://127.0.0.1:1 --header nonsense", "--header"),
        ("http://127.0.0.1:1 --work resp", "not what is spoken"),
        ("tls://127.0.0.1:1 --ca /no/such/file", "/no/such/file"),
    ];
    for (arguments, told) in cases {
        assert_failed(&load(arguments), 2, told);
    }
    assert_failed(&load(&format!("{url} --work nonsense")), 2, "nonsense");
}

#[test]
fn an_interruption_ends_the_load_with_its_results() {
    let server = serve("tcp://127.0.0.1:0", || Echo);
    // Nothing is written before the end, so traffic is waited for: at the second connection, which
    // is ours, the client has had time for the first ones.
    let child = start(&format!("tcp://127.0.0.1:{} --warmup 0s --duration 1h", server.port()));
    let began = Instant::now();
    while server.received_bytes() < 100_000 {
        assert!(began.elapsed() < Duration::from_secs(30), "no load begins");
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: a signal to a child that has not been waited for, so the id is still its own.
    assert_eq!(unsafe { libc::kill(id, libc::SIGINT) }, 0);
    let outcome = finish(child);
    assert!(outcome.stderr.contains("interrupted"), "{}", outcome.stderr);
    let json = outcome.success();
    assert!(json["seconds"].as_f64().unwrap() < 60.0);
}

#[test]
fn nobody_is_bothered_by_the_clients_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let child = start(&format!("tcp://127.0.0.1:{port} -c 1 --timeout 50ms --warmup 0s"));
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut bytes = Vec::new();
    // A timeout is no reason to be polite: the reset may come in place of an end.
    let _ = stream.read_to_end(&mut bytes);
    assert_eq!(bytes.len(), 64, "one message");
    assert_eq!(finish(child).code, Some(1));
}
