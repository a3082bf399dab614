//! Chapter 10 of the guide (docs/guide): a server that shows what its loops do, to be measured.

use std::error::Error;
use std::thread;
use std::time::Duration;

use tightloop::{Action, Conn, Driver, Handler, Input, LoopInfo, Server, Stats};

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        if input.as_slice().starts_with(b"sleep") {
            thread::sleep(Duration::from_millis(300)); // what a callback must never do
        }
        conn.write(input.take_all());
        Action::Continue
    }
}

fn made_on(info: LoopInfo) -> Echo {
    let LoopInfo { index, loop_count, driver, fallback, .. } = info;
    match fallback {
        Some(reason) => println!("loop {index} of {loop_count}: {driver}, as {reason}"),
        None => println!("loop {index} of {loop_count}: {driver}"),
    }
    Echo
}

/// What happened between two looks.
fn show(before: Stats, now: Stats) {
    let turns = now.turns - before.turns;
    let kilobytes = (now.bytes_in - before.bytes_in) / 1000;
    println!(
        "open {}, turns {turns}, in {kilobytes} kB, partial writes {}, pauses {}, stalls {}",
        now.open(),
        now.partial_writes - before.partial_writes,
        now.pauses - before.pauses,
        now.stalls - before.stalls,
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or("tcp://127.0.0.1:9000".to_owned());
    let loops = arguments.next().unwrap_or("1".to_owned()).parse()?;
    let driver: Driver = arguments.next().unwrap_or("auto".to_owned()).parse()?;

    let server = Server::new()
        .listen(url)
        .loops(loops)
        .driver(driver)
        .stall_threshold(Duration::from_millis(100))
        .start(made_on)?;
    println!("listening on {}", server.local_addrs()[0]);

    let handle = server.handle();
    let mut before = handle.stats();
    while !handle.is_stopping() {
        thread::sleep(Duration::from_secs(1));
        let now = handle.stats();
        show(before, now);
        before = now;
    }
    server.join()?;
    Ok(())
}
