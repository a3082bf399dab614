//! What the examples share: their command line, and how a server program starts and ends.
//!
//! It prints one line `listening on ADDRESS` for each address, serves until SIGINT or SIGTERM,
//! lets the server end in order, and exits with 0. A second signal does not wait.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use tightloop::{Driver, Endpoint, Handler, LoopInfo, RunningServer, Server, ServerHandle};

/// The flags that all examples have.
#[derive(clap::Args)]
pub struct Args {
    /// Where to listen, such as tcp://127.0.0.1:9000, udp://:9000 or unix:///tmp/a.sock
    /// (repeatable; port 0 is any free one)
    #[arg(long, value_name = "URL")]
    pub listen: Vec<String>,

    /// Event loops, each a thread; 0 is one a core
    #[arg(long, value_name = "N", default_value_t = 1)]
    loops: usize,

    /// Give every loop a listening socket of its own: the kernel spreads the connections
    #[arg(long)]
    reuse_port: bool,

    /// How the loops speak to the kernel: auto, poll or io-uring
    #[arg(long, value_name = "DRIVER", default_value_t = Driver::Auto)]
    driver: Driver,
}

impl Args {
    /// Whether one of the listeners speaks TLS.
    #[allow(dead_code, reason = "only for examples with certificates")]
    pub fn listens_for_tls(&self) -> bool {
        let is_tls = |url: &String| url.parse().is_ok_and(|url: Endpoint| url.is_tls());
        self.listen.iter().any(is_tls)
    }
}

/// A server as the flags say; without `--listen` it listens on `default_urls`.
pub fn server(args: &Args, default_urls: &[&str]) -> Server {
    let mut server =
        Server::new().loops(args.loops).reuse_port(args.reuse_port).driver(args.driver);
    for url in &args.listen {
        server = server.listen(url);
    }
    if args.listen.is_empty() {
        for url in default_urls {
            server = server.listen(*url);
        }
    }
    server
}

/// Serves until a signal ends it.
#[allow(dead_code, reason = "not for examples with an end of their own")]
pub fn serve<H, F>(server: Server, factory: F) -> ExitCode
where
    H: Handler,
    F: Fn(LoopInfo) -> H + Send + Sync + 'static,
{
    exit_code(run(server, factory, ServerHandle::stop))
}

/// As [`serve`]; the first signal is answered by `stop`, which must not block: a second signal
/// would wait for it.
#[allow(dead_code, reason = "not for examples with an end of their own")]
pub fn run<H, F, S>(server: Server, factory: F, stop: S) -> Result<(), Box<dyn Error>>
where
    H: Handler,
    F: Fn(LoopInfo) -> H + Send + Sync + 'static,
    S: Fn(&ServerHandle) + Send + 'static,
{
    let server = server.start(factory)?;
    finish(server, stop)
}

/// As [`serve`]; `started` gets the running server before its addresses are told.
#[allow(dead_code, reason = "only for examples whose loops talk to each other")]
pub fn run_with<H, F>(
    server: Server,
    factory: F,
    started: impl FnOnce(&RunningServer<H>),
) -> Result<(), Box<dyn Error>>
where
    H: Handler,
    F: Fn(LoopInfo) -> H + Send + Sync + 'static,
{
    let server = server.start(factory)?;
    started(&server);
    finish(server, ServerHandle::stop)
}

fn finish<H: Handler>(
    server: RunningServer<H>,
    stop: impl Fn(&ServerHandle) + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    signals::stop_on_signal(server.handle(), stop)?;
    // Behind the signals: whoever has read the lines may send one.
    announce(server.local_addrs());
    server.join()?;
    Ok(())
}

/// Says on standard error what went wrong, if something did.
pub fn exit_code(ended: Result<(), Box<dyn Error>>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says where a server listens.
pub fn announce(addresses: &[tightloop::Address]) {
    let mut stdout = std::io::stdout().lock();
    for address in addresses {
        // Nobody has to read it: a closed standard output is no reason not to serve.
        let _ = writeln!(stdout, "listening on {address}");
    }
    let _ = stdout.flush();
}

#[cfg(unix)]
mod signals {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use tightloop::ServerHandle;

    /// Stops the server at the first SIGINT or SIGTERM, and ends the process at the second.
    pub fn stop_on_signal(
        server: ServerHandle,
        stop: impl Fn(&ServerHandle) + Send + 'static,
    ) -> std::io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let wait = move || {
            let mut signals = signals.forever();
            if signals.next().is_some() {
                stop(&server);
            }
            if let Some(signal) = signals.next() {
                std::process::exit(128 + signal);
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
        Ok(())
    }
}

#[cfg(not(unix))]
mod signals {
    use tightloop::ServerHandle;

    /// Leaves Ctrl-C as it is: it ends the process.
    pub fn stop_on_signal(_: ServerHandle, _: impl Fn(&ServerHandle)) -> std::io::Result<()> {
        Ok(())
    }
}
