//! The options, checked: whatever makes no sense is refused before anything is connected.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tightloop::Connect;

use super::options::{Options, RespCommand, Work};
use super::target::Target;
use super::{limits, sample, security};

/// Largest message: its pattern is held in memory once.
const MAX_SIZE: usize = 64 << 20;
/// Largest payload of a UDP datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;
/// Most bytes that may be under way on a connection.
const MAX_WINDOW: usize = 256 << 20;
const MAX_PIPELINE: usize = 1 << 16;
const MAX_RATE: f64 = 1e8;
const TIMEOUT: Duration = Duration::from_secs(5);
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(1);
const KEYS: u64 = 10_000;
/// Keys are written with eight digits.
const MAX_KEYS: u64 = 100_000_000;

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    pub target: Target,
    pub work: Work,
    /// Echo, Http or Resp.
    pub spoken: Work,
    pub connections: usize,
    pub size: usize,
    pub pipeline: usize,
    pub active: Option<usize>,
    /// Datagrams may be joined on their way through the system.
    pub join: bool,
    pub duration: Duration,
    pub warmup: Duration,
    pub rate: Option<f64>,
    /// For a reply.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub loops: usize,
    pub driver: tightloop::Driver,
    pub headers: Vec<String>,
    pub expect_body: Option<String>,
    pub command: RespCommand,
    pub keys: u64,
    pub sources: Vec<IpAddr>,
    pub server_pid: Option<u32>,
    pub json: Option<PathBuf>,
    pub svg: Option<PathBuf>,
    pub quiet: bool,
    /// To be cloned for each connection.
    pub connect: Connect,
}

impl Plan {
    /// Checks the options.
    pub fn new(options: Options) -> Result<Plan, String> {
        let mut target = Target::parse(&options.url)?;
        let work = options.work.unwrap_or(target.work);
        let spoken = match work {
            Work::Http | Work::Resp => work,
            _ => target.work,
        };
        check_numbers(&options)?;
        check_work(&options, &target, work)?;
        check_protocol(&options, &target, work, spoken)?;
        if let Some(path) = &options.path {
            if !path.starts_with('/')
                || path.contains(|c: char| c.is_whitespace() || c.is_control())
            {
                return Err(format!("--path {path:?}: begins with / and has no space"));
            }
            target.path.clone_from(path);
        }
        limits::check_descriptors(options.connections, options.loops)?;
        if let Some(pid) = options.server_pid {
            sample::sample(&pid.to_string()).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => format!("--server-pid {pid}: no such process"),
                _ => format!("--server-pid {pid}: {error}"),
            })?;
        }
        let is_datagram = target.endpoint.is_datagram();
        let timeout =
            options.timeout.unwrap_or(if is_datagram { DATAGRAM_TIMEOUT } else { TIMEOUT });
        let connect_timeout = options.timeout.unwrap_or(TIMEOUT);
        let mut connect = Connect::to(&target.endpoint).timeout(connect_timeout);
        if let Some(connector) = security::connector(&options, &target)? {
            connect = connect.tls(connector);
        }
        Ok(Plan {
            target,
            work,
            spoken,
            connections: options.connections,
            size: options.size,
            pipeline: if work == Work::Churn { 1 } else { options.pipeline },
            active: options.active,
            join: !options.no_join,
            duration: options.duration,
            warmup: if work == Work::Idle { Duration::ZERO } else { options.warmup },
            rate: options.rate,
            timeout,
            connect_timeout,
            loops: options.loops,
            driver: options.driver,
            headers: options.headers,
            expect_body: options.expect_body,
            command: options.command.unwrap_or(match work {
                Work::Resp => RespCommand::Get,
                // One command in a life needs no values.
                _ => RespCommand::Ping,
            }),
            keys: options.keys.unwrap_or(KEYS),
            sources: options.source,
            server_pid: options.server_pid,
            json: options.json,
            svg: options.svg,
            quiet: options.quiet,
            connect,
        })
    }

    /// The connections of one loop: the first ones have one more where they cannot be shared out
    /// evenly.
    pub fn share(&self, total: usize, loop_index: usize) -> usize {
        total / self.loops + usize::from(loop_index < total % self.loops)
    }
}

fn check_numbers(options: &Options) -> Result<(), String> {
    let positive = [
        ("--connections", options.connections),
        ("--pipeline", options.pipeline),
        ("--loops", options.loops),
        ("--active", options.active.unwrap_or(1)),
    ];
    for (name, value) in positive {
        if value == 0 {
            return Err(format!("{name} 0: at least 1"));
        }
    }
    if options.loops > options.connections {
        return Err(format!("--loops {}: more than connections", options.loops));
    }
    if options.active.is_some_and(|active| active > options.connections) {
        return Err("--active: more than connections".to_owned());
    }
    if options.active.is_some_and(|active| active < options.loops) {
        return Err("--active: less than loops".to_owned());
    }
    if options.pipeline > MAX_PIPELINE {
        return Err(format!("--pipeline {}: at most {MAX_PIPELINE}", options.pipeline));
    }
    if options.size == 0 || options.size > MAX_SIZE {
        return Err(format!("--size {}: 1 byte to 64MiB", options.size));
    }
    if options.size.saturating_mul(options.pipeline) > MAX_WINDOW {
        return Err("--size times --pipeline: at most 256MiB under way on a connection".to_owned());
    }
    let is_rate = |rate: f64| rate > 0.0 && rate <= MAX_RATE;
    if options.rate.is_some_and(|rate| !is_rate(rate)) {
        return Err("--rate: more than 0 and at most 100,000,000 a second".to_owned());
    }
    if options.duration.is_zero() {
        return Err("--duration: more than nothing".to_owned());
    }
    if options.timeout.is_some_and(|timeout| timeout < Duration::from_millis(1)) {
        return Err("--timeout: at least 1ms".to_owned());
    }
    if options.keys.is_some_and(|keys| keys == 0 || keys > MAX_KEYS) {
        return Err("--keys: 1 to 100,000,000".to_owned());
    }
    Ok(())
}

fn check_work(options: &Options, target: &Target, work: Work) -> Result<(), String> {
    let refused = |what: &str| Err(format!("{what} with --work {}", name_of(work)));
    let is_datagram = target.endpoint.is_datagram();
    if is_datagram && work != Work::Echo {
        return refused("udp has no connections to be used");
    }
    if is_datagram && options.size > MAX_DATAGRAM {
        return Err(format!(
            "--size {}: a datagram has at most {MAX_DATAGRAM} bytes",
            options.size
        ));
    }
    if is_datagram && options.size < 2 && options.pipeline > 64 {
        return Err("--size 1: datagrams of one byte cannot be told apart beyond -p 64".to_owned());
    }
    if options.no_join && !is_datagram {
        return Err("--no-join: for udp, which has datagrams".to_owned());
    }
    if is_datagram && options.active.is_some() {
        return Err("--active: a connection less or more is nothing to udp; use -c".to_owned());
    }
    let works_with_active = matches!(work, Work::Echo | Work::Http | Work::Resp);
    if options.active.is_some() && (!works_with_active || options.rate.is_some()) {
        return Err("--active: for echo, http and resp, in a closed loop".to_owned());
    }
    if options.rate.is_some() && matches!(work, Work::Idle | Work::Broadcast | Work::Churn) {
        return refused("there is no --rate");
    }
    if options.pipeline > 1 && matches!(work, Work::Idle | Work::Broadcast | Work::Churn) {
        return refused("there is no --pipeline");
    }
    if work == Work::Broadcast && options.connections < 2 {
        return Err("--work broadcast: at least 2 connections".to_owned());
    }
    Ok(())
}

/// What is spoken fits the URL and the work, and the options fit what is spoken.
fn check_protocol(
    options: &Options,
    target: &Target,
    work: Work,
    spoken: Work,
) -> Result<(), String> {
    let refused = |what: &str| Err(format!("{what} with --work {}", name_of(work)));
    let is_other = spoken != target.work || matches!(work, Work::Echo | Work::Broadcast);
    if target.work != Work::Echo && is_other {
        return refused(&format!("{} is not what is spoken", target.url));
    }
    let http =
        options.path.is_some() || !options.headers.is_empty() || options.expect_body.is_some();
    if http && spoken != Work::Http {
        return refused("--path, --header and --expect-body make no sense");
    }
    if (options.command.is_some() || options.keys.is_some()) && work != Work::Resp {
        return refused("--command and --keys make no sense");
    }
    for header in &options.headers {
        let is_header = header.split_once(':').is_some_and(|(name, _)| !name.trim().is_empty());
        if !is_header || header.contains(|c: char| c.is_control()) {
            return Err(format!("--header {header:?}: has the form `Name: value`"));
        }
    }
    Ok(())
}

/// As on the command line.
pub fn name_of(work: Work) -> &'static str {
    match work {
        Work::Echo => "echo",
        Work::Http => "http",
        Work::Resp => "resp",
        Work::Churn => "churn",
        Work::Idle => "idle",
        Work::Broadcast => "broadcast",
    }
}
