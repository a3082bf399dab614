//! The latencies of an open loop are honest: what a server does not answer in time is counted from
//! when it was to be asked, and the schedule is kept.

mod common;

use std::time::Duration;

use common::servers::{Fault, Faulty};
use common::{at_best, load, serve};

#[test]
fn a_stall_is_seen_by_all_requests_that_were_due_in_it() {
    at_best(|_| {
        let (after, length) = (Duration::from_millis(500), Duration::from_millis(200));
        let server =
            serve("tcp://127.0.0.1:0", move || Faulty::new(Fault::Stalls { after, length }));
        let url = format!("tcp://127.0.0.1:{}", server.port());
        // One connection: a closed loop would see one slow reply.
        let json = load(&format!("{url} -c 1 --rate 1000 --warmup 0s --duration 1500ms")).success();
        let latency = |name: &str| json["latency_us"][name].as_f64().unwrap();
        // 200 of 1,500 requests were due in the stall: those of the last percent waited for most of it.
        assert!(latency("p99") > 150_000.0, "{}", json["latency_us"]);
        assert!(latency("max") > 190_000.0, "{}", json["latency_us"]);
        let at_90 = latency("p90");
        assert!(at_90 > 20_000.0, "13 % waited: {at_90}");
        let throughput = json["throughput"].as_f64().unwrap();
        assert!(
            (throughput / 1000.0 - 1.0).abs() < 0.05,
            "what was held up is made up for: {throughput}"
        );
    });
}

#[test]
fn a_server_that_cannot_keep_up_is_told_and_its_backlog_counts() {
    at_best(|_| {
        // One stall that lasts beyond the end.
        let (after, length) = (Duration::from_millis(200), Duration::from_millis(700));
        let server =
            serve("tcp://127.0.0.1:0", move || Faulty::new(Fault::Stalls { after, length }));
        let url = format!("tcp://127.0.0.1:{}", server.port());
        let outcome = load(&format!("{url} -c 2 --rate 1000 --warmup 0s --duration 500ms"));
        let json = outcome.success();
        assert!(outcome.stderr.contains("did not keep up"), "{}", outcome.stderr);
        let p90 = json["latency_us"]["p90"].as_f64().unwrap();
        assert!(p90 > 300_000.0, "the requests that nobody could send: {p90}");
    });
}
