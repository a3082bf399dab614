//! What is measured: the workloads of the targets, and the series that show how cost grows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a system is asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Echo,
    Udp,
    Http,
    Broadcast,
    /// The protocol of Redis.
    Resp,
    /// TCP, passed on to a server that echoes, and back.
    Proxy,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Echo => "echo",
            Mode::Udp => "udp",
            Mode::Http => "http",
            Mode::Broadcast => "broadcast",
            Mode::Resp => "resp",
            Mode::Proxy => "proxy",
        })
    }
}

/// Who puts the load on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// This program's own, which compares every byte.
    #[default]
    Load,
    RedisBenchmark,
    Wrk,
}

/// The figure by which systems are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Nanoseconds of the server's CPU time an operation.
    CpuPerOperation,
    /// Bytes of resident memory a connection.
    BytesPerConnection,
    /// The 99th percentile of the latency, in microseconds.
    P99,
}

impl Figure {
    pub fn title(self) -> &'static str {
        match self {
            Figure::CpuPerOperation => "CPU, ns/op",
            Figure::BytesPerConnection => "B/connection",
            Figure::P99 => "p99, us",
        }
    }
}

/// A series in which one number grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Series {
    Connections,
    Size,
    Loops,
}

impl Series {
    pub const ALL: [Series; 3] = [Series::Connections, Series::Size, Series::Loops];

    pub fn name(self) -> &'static str {
        match self {
            Series::Connections => "growth-connections",
            Series::Size => "growth-size",
            Series::Loops => "growth-loops",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Series::Connections => "Echo of 64 B as connections grow",
            Series::Size => "Echo on 8 connections as messages grow",
            Series::Loops => "Echo of 64 B on 50 connections, by loops",
        }
    }

    pub fn axis(self) -> &'static str {
        match self {
            Series::Connections => "connections",
            Series::Size => "bytes a message",
            Series::Loops => "loops",
        }
    }
}

/// One thing to be measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    pub name: String,
    pub title: String,
    pub mode: Mode,
    pub figure: Figure,
    /// The `--work` of the load; its default for the address if there is none.
    pub work: Option<String>,
    /// The command of Redis: `get` or `set`.
    #[serde(default)]
    pub command: Option<String>,
    #[serde(default)]
    pub client: Client,
    pub connections: usize,
    pub size: usize,
    pub pipeline: usize,
    pub active: Option<usize>,
    /// The client's datagrams, and the replies to it, may be joined on their way through the system.
    #[serde(default)]
    pub joins: bool,
    /// The offered load, as a share of the slowest system's throughput in the workload
    /// `echo-64x50` of the same run.
    pub load_share: Option<f64>,
    pub threads: usize,
    /// The series that it is a point of, and where in it.
    pub growth: Option<(Series, usize)>,
}

/// What gives the offered load of the open loop.
pub const REFERENCE: &str = "echo-64x50";

impl Workload {
    pub(super) fn new(
        name: &str,
        title: &str,
        mode: Mode,
        connections: usize,
        size: usize,
    ) -> Workload {
        Workload {
            name: name.to_owned(),
            title: title.to_owned(),
            mode,
            figure: Figure::CpuPerOperation,
            work: None,
            command: None,
            client: Client::Load,
            connections,
            size,
            pipeline: 1,
            active: None,
            joins: false,
            load_share: None,
            threads: 1,
            growth: None,
        }
    }

    pub(super) fn pipelined(self, pipeline: usize) -> Workload {
        Workload { pipeline, ..self }
    }

    fn joined(self) -> Workload {
        Workload { joins: true, ..self }
    }

    fn working(self, work: &str) -> Workload {
        Workload { work: Some(work.to_owned()), ..self }
    }

    fn by(self, figure: Figure) -> Workload {
        Workload { figure, ..self }
    }

    fn point(self, series: Series, at: usize) -> Workload {
        let name = format!("{}-{at}", series.name());
        let title = format!("{}: {at} {}", series.title(), series.axis());
        Workload { name, title, growth: Some((series, at)), ..self }
    }

    /// Whether it belongs to the comparison with Redis, HAProxy and nginx alone.
    pub fn is_only_of_goal(&self) -> bool {
        matches!(self.mode, Mode::Resp | Mode::Proxy) || self.client != Client::Load
    }

    /// Whether it belongs to that comparison, and perhaps to another one too.
    pub fn is_of_goal(&self) -> bool {
        self.is_only_of_goal() || self.mode == Mode::Http
    }

    pub fn is_idle(&self) -> bool {
        self.figure == Figure::BytesPerConnection
    }

    /// The load's options, without address, times and rate.
    pub fn load_options(&self) -> Vec<String> {
        let mut options: Vec<String> = Vec::new();
        let mut add = |name: &str, value: String| options.extend([name.to_owned(), value]);
        if let Some(work) = &self.work {
            add("--work", work.clone());
        }
        add("--connections", self.connections.to_string());
        if self.mode != Mode::Http {
            add("--size", self.size.to_string());
        }
        add("--pipeline", self.pipeline.to_string());
        if let Some(command) = &self.command {
            add("--command", command.clone());
        }
        if let Some(active) = self.active {
            add("--active", active.to_string());
        }
        if self.mode == Mode::Udp && !self.joins {
            options.push("--no-join".to_owned());
        }
        options
    }

    pub fn scheme(&self) -> &'static str {
        match self.mode {
            Mode::Udp => "udp",
            Mode::Http => "http",
            Mode::Resp => "redis",
            Mode::Echo | Mode::Broadcast | Mode::Proxy => "tcp",
        }
    }
}

/// The workloads of the tables, the most telling first: a plan that has to leave some out leaves
/// out the last.
pub fn main_workloads() -> Vec<Workload> {
    use Mode::{Broadcast, Echo, Http, Udp};
    let new = Workload::new;
    vec![
        new(REFERENCE, "Echo 64 B, 50 connections", Echo, 50, 64),
        new("pipelined-16x64x50", "Pipelined 16 x 64 B, 50 connections", Echo, 50, 64)
            .pipelined(16),
        new("echo-512x1000", "Echo 512 B, 1,000 connections", Echo, 1_000, 512),
        new("churn", "Connect, one message of 64 B, close", Echo, 50, 64).working("churn"),
        new("udp-64", "UDP echo 64 B, 8 sockets with 16 in flight, one a packet", Udp, 8, 64)
            .pipelined(16),
        new("udp-64-trains", "UDP echo 64 B, 8 sockets with 16 in flight, joined", Udp, 8, 64)
            .pipelined(16)
            .joined(),
        new("echo-64Kx8", "Echo 64 KiB, 8 connections", Echo, 8, 65_536),
        Workload {
            active: Some(100),
            ..new(
                "echo-64x10000-active1",
                "Echo 64 B, 10,000 connections, 1 % active",
                Echo,
                10_000,
                64,
            )
        },
        new("broadcast-128x10000", "Broadcast 128 B to 10,000 connections", Broadcast, 10_000, 128)
            .working("broadcast"),
        Workload {
            load_share: Some(0.7),
            ..new("latency-70", "Echo 64 B, 50 connections, open loop at 70 % load", Echo, 50, 64)
        }
        .by(Figure::P99),
        new("idle-10000", "Idle memory at 10,000 connections", Echo, 10_000, 64)
            .working("idle")
            .by(Figure::BytesPerConnection),
        new("http-64", "HTTP/1.1 keep-alive, 64 connections", Http, 64, 0),
        new("http-pipelined-16x64", "HTTP/1.1 pipelined 16, 64 connections", Http, 64, 0)
            .pipelined(16),
        new("ping-pong", "Ping-pong 64 B, 1 connection", Echo, 1, 64),
    ]
}

/// The points of the series, as the charts show them.
pub fn growth_workloads() -> Vec<Workload> {
    let echo = |connections, size| Workload::new("", "", Mode::Echo, connections, size);
    let connections = [1, 10, 100, 1_000, 5_000, 10_000, 15_000];
    let sizes = [16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576];
    let by_connections =
        connections.into_iter().map(|count| echo(count, 64).point(Series::Connections, count));
    let by_size = sizes.into_iter().map(|size| echo(8, size).point(Series::Size, size));
    let by_loops = [1, 2]
        .into_iter()
        .map(|threads| Workload { threads, ..echo(50, 64) }.point(Series::Loops, threads));
    by_connections.chain(by_size).chain(by_loops).collect()
}

/// Everything that `--work` can name.
pub fn all_workloads() -> Vec<Workload> {
    let goal = super::goal::workloads();
    main_workloads().into_iter().chain(growth_workloads()).chain(goal).collect()
}
