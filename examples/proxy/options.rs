//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tightloop::proxy_protocol::ProxyProtocol as ProxyHeaders;
use tightloop::{Endpoint, IpNetwork};

use crate::common;
use crate::duration;

/// A load balancer for TCP and Unix sockets, with TLS on the clients' side if asked for
#[derive(Parser)]
pub struct Flags {
    #[command(flatten)]
    pub common: common::Args,

    /// Where connections go, such as tcp://10.0.0.1:80, tcp://backend:80 or unix:///run/app.sock
    /// (repeatable)
    #[arg(long, value_name = "URL", required = true, value_parser = parse_upstream)]
    pub upstream: Vec<Endpoint>,

    /// Which upstream a connection goes to
    #[arg(long, value_enum, default_value_t = Balance::RoundRobin)]
    pub balance: Balance,

    /// How long an upstream may take to answer before the next one is tried, its name lookup
    /// included
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    pub connect_timeout: Duration,

    /// How long an upstream that refuses, or does not answer, is left out
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub down_for: Duration,

    /// Ends a connection on whose both sides nothing has moved for this long
    #[arg(long, value_name = "TIME", default_value = "600s", value_parser = duration::parse)]
    pub idle_timeout: Duration,

    /// How long connections may go on after the first SIGTERM or SIGINT
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub drain_timeout: Duration,

    /// Bytes that wait for one side, above which the other is not read from
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10)]
    pub buffer: usize,

    /// Tells upstreams who the client is, by this version of the PROXY protocol
    #[arg(long, value_enum, value_name = "VERSION")]
    pub proxy_protocol: Option<ProxyProtocol>,

    /// Clients are proxies themselves, and begin with a header of the PROXY protocol
    #[arg(long)]
    pub accept_proxy: bool,

    /// With --accept-proxy: the only network whose headers are believed, such as 10.0.0.0/8;
    /// others may not connect (repeatable; default: everybody is believed)
    #[arg(long, value_name = "NETWORK", requires = "accept_proxy")]
    pub trust: Vec<IpNetwork>,

    /// The certificate chain of listeners with tls://, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// A line on standard error for each connection that has ended, and for each failed upstream
    #[arg(long)]
    pub verbose: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Balance {
    /// Each in turn
    RoundRobin,
    /// The one with the fewest connections
    LeastConnections,
    /// By the client's IP address: while nothing fails, one client has one upstream
    SourceHash,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ProxyProtocol {
    /// One line of text
    V1,
    /// Binary
    V2,
}

impl Flags {
    /// Whom listeners believe to be proxies, if anybody.
    pub fn accepted_proxies(&self) -> Option<ProxyHeaders> {
        let policy = ProxyHeaders::required();
        let networks = self.trust.iter().copied();
        let policy = if self.trust.is_empty() { policy } else { policy.trusting(networks) };
        self.accept_proxy.then_some(policy)
    }

    /// What the types cannot say.
    ///
    /// # Errors
    /// The flag, and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let datagrams = |url: &&String| url.parse().is_ok_and(|url: Endpoint| url.is_datagram());
        if let Some(url) = self.common.listen.iter().find(datagrams) {
            return Err(format!("--listen {url}: datagrams are not forwarded"));
        }
        if self.tls_cert.is_some() && !self.common.listens_for_tls() {
            return Err("--tls-cert: it takes a listener with tls://".to_owned());
        }
        Ok(())
    }
}

fn parse_upstream(text: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint = text.parse().map_err(|error| format!("{error}"))?;
    if endpoint.is_datagram() {
        return Err("datagrams are not forwarded".to_owned());
    }
    if endpoint.is_tls() {
        return Err("upstreams are spoken to in plaintext".to_owned());
    }
    if endpoint.is_wildcard() {
        return Err("there is no host to connect to".to_owned());
    }
    Ok(endpoint)
}
