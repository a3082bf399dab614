//! The process with the servers: it starts them, tells their addresses and numbers on a control
//! connection that is open from the beginning, and ends when told.

use std::io::Write;
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tightloop::{
    Action, CloseReason, Conn, Driver, Endpoint, Framed, Handler, Input, RunningServer, Server,
    ServerHandle, WhenFull,
};

use crate::handlers::{Collector, Echo, Proxy, Push, Tally};
use crate::orders::{self, Orders, PANIC};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A server by its name, with what its handlers count.
#[derive(Clone)]
struct Watched {
    name: &'static str,
    handle: ServerHandle,
    tally: Arc<Tally>,
}

/// Answers "stats" with all numbers and "stop" by ending the process.
struct Control {
    servers: Vec<Watched>,
    stop: Sender<()>,
}

impl Handler for Control {
    type State = ();

    fn on_open(&mut self, _: &mut Conn<'_>) {}

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        match input.take_all() {
            b"stats\n" => {
                for server in &self.servers {
                    conn.write(numbers(server).as_bytes());
                }
                conn.write(b"end\n");
                Action::Continue
            }
            _ => Action::Close,
        }
    }

    fn on_close(&mut self, _: &mut Conn<'_>, (): (), _: CloseReason) {
        // Told to, or the clients are gone. Whoever waits for it is the main thread; it lives.
        let _ = self.stop.send(());
    }
}

/// A server's numbers as lines, and its handlers' beside them.
fn numbers(server: &Watched) -> String {
    let Watched { name, handle, tally } = server;
    let mut text = handle.stats().to_prometheus(name);
    for (what, number) in [
        ("opened", &tally.opened),
        ("closed", &tally.closed),
        ("lost", &tally.lost),
        ("writes", &tally.writes),
        ("done", &tally.done),
    ] {
        text += &format!("{name}_tally_{what} {}\n", number.load(Relaxed));
    }
    text
}

/// A server of this name, and its end: to be called when all are stopped.
struct Started {
    watched: Watched,
    join: Box<dyn FnOnce() -> tightloop::Result<()>>,
}

fn start<H, F>(
    name: &'static str,
    tally: &Arc<Tally>,
    urls: &[String],
    server: Server,
    factory: F,
) -> Outcome<Started>
where
    H: Handler,
    F: Fn() -> H + Send + Sync + 'static,
{
    let server = urls.iter().fold(server, |server, url| server.listen(url));
    let server: RunningServer<H> = server
        .first_byte_timeout(Duration::from_secs(4))
        .idle_timeout(Duration::from_secs(8))
        .write_stall_timeout(Duration::from_secs(4))
        .close_timeout(Duration::from_secs(4))
        .start(move |_| factory())?;
    for (url, address) in urls.iter().zip(server.local_addrs()) {
        println!("{name} {} {address}", url.split(':').next().unwrap_or_default());
    }
    let watched = Watched { name, handle: server.handle(), tally: Arc::clone(tally) };
    Ok(Started { watched, join: Box::new(|| server.join()) })
}

fn start_all(directory: &str, driver: Driver) -> Outcome<Vec<Started>> {
    let new = || Server::new().driver(driver);
    let tally = || Arc::new(Tally::default());
    let (echoes, ordered, pushed) = (tally(), tally(), tally());
    let (forwarded, collected) = (tally(), tally());
    let small = |server: Server| server.high_watermark(256 << 10).low_watermark(64 << 10);
    let tcp = ["tcp://127.0.0.1:0".to_owned(), "tcp://[::1]:0".to_owned()];
    let udp = ["udp://127.0.0.1:0".to_owned(), "udp://[::1]:0".to_owned()];
    let any = |name: &str| [&tcp[..], &[format!("unix://{directory}/{name}")]].concat();

    let (server, handler) = (small(new()).loops(2).half_close(true), Arc::clone(&echoes));
    let urls = [&any("echo")[..], &udp].concat();
    let echo = start("echo", &echoes, &urls, server, move || Echo(Arc::clone(&handler)))?;

    // A listener for each loop, and more loops than cores.
    let server = small(new()).loops(3).reuse_port(true).worker_threads(8).worker_queue(64);
    let threads = [orders::start_thread(&ordered), orders::start_thread(&ordered)];
    let (handler, codec, threads) = (Arc::clone(&ordered), orders::codec(), Mutex::new(threads));
    let orders = start("orders", &ordered, &tcp, server, move || {
        let threads = threads.lock().map_or_else(|_| Vec::new(), |threads| threads.to_vec());
        Framed::new(Orders {
            tally: Arc::clone(&handler),
            threads,
            codec: codec.clone(),
            opened: 0,
        })
    })?;

    let server = new().loops(1).max_pending_output(1 << 20);
    let handler = Arc::clone(&pushed);
    let push = start("push", &pushed, &any("push"), server, move || Push(Arc::clone(&handler)))?;

    let to: Endpoint = echo.watched.handle.local_addrs()[0].to_string().parse()?;
    let server = new().high_watermark(64 << 10).low_watermark(16 << 10).loops(2).half_close(true);
    let handler = Arc::clone(&forwarded);
    let proxy = start("proxy", &forwarded, &tcp, server, move || Proxy {
        tally: Arc::clone(&handler),
        to: to.clone(),
    })?;

    let server = small(new())
        .loops(2)
        .max_connections(20, WhenFull::Refuse)
        .max_unconsumed_input(2 << 20)
        .memory_budget(4 << 20)
        .read_idle_timeout(Duration::from_secs(4));
    let (urls, handler) = (any("collector"), Arc::clone(&collected));
    let collector =
        start("collector", &collected, &urls, server, move || Collector(Arc::clone(&handler)))?;
    Ok(vec![echo, orders, push, proxy, collector])
}

/// Broadcasts numbered lines until the server has stopped.
fn broadcast(to: &ServerHandle) {
    for number in 0_u64.. {
        // The same bytes are shared by all connections.
        if to.broadcast(format!("b{number:0>600}\n")).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Says nothing of the panics that were asked for; any other ends the process.
fn on_panic(default: &(dyn Fn(&PanicHookInfo<'_>) + Send + Sync), info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    if !message.is_some_and(|message| message.starts_with(PANIC)) {
        default(info);
        std::process::abort();
    }
}

fn serve(driver: Driver) -> Outcome<()> {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| on_panic(&default, info)));
    // A directory of its own, on a path that every system has room for in an address.
    let directory = format!("/tmp/tightloop-soak-{}", std::process::id());
    std::fs::create_dir_all(&directory)?;
    let started = start_all(&directory, driver)?;
    let servers: Vec<Watched> = started.iter().map(|started| started.watched.clone()).collect();
    let push = servers[2].handle.clone();
    std::thread::spawn(move || broadcast(&push));

    let (stop, stopped) = channel();
    let listed = Mutex::new((servers, stop));
    let control = Server::new().driver(driver).listen("tcp://127.0.0.1:0").start(move |_| {
        let (servers, stop) = &*listed.lock().expect("nobody panics with it");
        Control { servers: servers.clone(), stop: stop.clone() }
    })?;
    println!("control tcp {}", control.local_addrs()[0]);
    std::io::stdout().flush()?;

    stopped.recv()?;
    started.iter().for_each(|started| started.watched.handle.stop());
    for started in started {
        (started.join)()?;
    }
    control.stop();
    control.join()?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

pub fn main(driver: Driver) -> ExitCode {
    match serve(driver) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
