//! The parts of the TLS bench, and the order in which they run.

mod bare;
mod client;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tightloop::Server;

use crate::support::proc::{self, pin_to_cpu};
use crate::support::statistics::{Samples, ratio_of};
use crate::support::tightloop_echo::start_tightloop;
use crate::support::{CLIENT_CPU, System};

const CONNECTIONS: usize = 8;
const WARM_UP: Duration = Duration::from_millis(300);

struct Options {
    rounds: usize,
    duration: Duration,
    bytes: usize,
}

impl Options {
    fn from_args() -> Options {
        let mut options = Options { rounds: 10, duration: Duration::from_secs(2), bytes: 16 << 10 };
        let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            let number = args.next().and_then(|text| text.parse().ok()).filter(|n| *n > 0);
            match (arg.as_str(), number) {
                ("--rounds", Some(n)) => options.rounds = n,
                ("--seconds", Some(n)) => options.duration = Duration::from_secs(n as u64),
                ("--bytes", Some(n)) => options.bytes = n,
                _ => {
                    eprintln!("usage: tls_cost [--rounds N] [--seconds S] [--bytes N]");
                    std::process::exit(2);
                }
            }
        }
        options
    }
}

/// Both sides' configurations: TLS 1.3, one suite, a certificate made for this run.
struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Configs {
    fn new() -> Configs {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let rcgen::CertifiedKey { cert, signing_key } = made.expect("a certificate");
        let certificate: CertificateDer<'static> = cert.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(ring::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("a server's configuration");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a root");
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Configs { server: Arc::new(server), client: Arc::new(client) }
    }
}

/// Runs what the command line asks for.
pub fn run() {
    let options = Options::from_args();
    if !pin_to_cpu(CLIENT_CPU) {
        println!("warning: no CPU {CLIENT_CPU} to pin the client to; the figures mean little");
    }
    let configs = Configs::new();
    println!("TLS 1.3 echo of {} B, {CONNECTIONS} connections", options.bytes);
    let mut order = vec![System::Bare, System::Tightloop, System::Control];
    let mut costs: Vec<(System, f64)> = Vec::new();
    for _ in 0..options.rounds {
        for &system in &order {
            costs.push((system, one_round(system, &configs, &options)));
        }
        order.reverse();
    }
    let of = |system| -> Vec<f64> {
        costs.iter().filter(|(s, _)| *s == system).map(|(_, cost)| *cost).collect()
    };
    for system in [System::Bare, System::Tightloop, System::Control] {
        println!("  {:<11}{}", system.name(), Samples::of(&of(system)));
    }
    for system in [System::Tightloop, System::Control] {
        println!("  {} / bare: {}", system.name(), ratio_of(&of(system), &of(System::Bare)));
    }
}

/// CPU nanoseconds of the server's thread for each message.
fn one_round(system: System, configs: &Configs, options: &Options) -> f64 {
    let server = match system {
        System::Bare | System::Control => bare::start(Arc::clone(&configs.server)),
        System::Tightloop | System::Uring => {
            let config = Arc::clone(&configs.server);
            start_tightloop(Server::new().listen("tls://0.0.0.0:0").tls(config))
        }
    };
    let mut load =
        client::Load::new(server.addr.port(), &configs.client, CONNECTIONS, options.bytes);
    load.run_until(Instant::now() + WARM_UP);
    let before = proc::thread_cpu_ns(server.tid);
    let messages = load.run_until(Instant::now() + options.duration);
    let cost = (proc::thread_cpu_ns(server.tid) - before) as f64 / messages as f64;
    drop(load);
    (server.stop)();
    cost
}
