//! What the command line of `load` says, as it stands there.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::units;

const EXAMPLES: &str = "\
Examples:
  Echo, 50 connections with one message of 64 bytes each under way, for 10 seconds:
    tightloop-bench load tcp://127.0.0.1:9000
  Web server, 16 requests under way on each of 100 connections, for a minute:
    tightloop-bench load http://localhost:8080 --path /plaintext -c 100 -p 16 -d 1m
  Latency at 20,000 requests a second, whatever the server does:
    tightloop-bench load http://localhost:8080 --rate 20000 --svg latency.svg
  Redis, values of 512 bytes:
    tightloop-bench load redis://localhost --command get -s 512
  Echo over TLS with a certificate of one's own authority:
    tightloop-bench load tls://localhost:9443 --ca ca.pem
  UDP echo, 16 datagrams under way on each of 8 sockets:
    tightloop-bench load udp://127.0.0.1:9000 -c 8 -p 16 --no-join
  10,000 connections, of which 100 have a request under way:
    tightloop-bench load tcp://127.0.0.1:9000 -c 10000 --active 100
  Connect, one message, close, again and again:
    tightloop-bench load tcp://127.0.0.1:9000 --work churn -c 8
  What an idle connection costs the server's memory:
    tightloop-bench load tcp://127.0.0.1:9000 --work idle -c 10000 --server-pid 1234

Exit code: 0 all is well, 1 something went wrong under load, 2 the command line makes no sense.

Latency is counted from the moment at which a request was to be sent. Without --rate that is when
the reply before it had come (closed loop); with it, the moment by the schedule, though the request
may have had to wait for a free connection (open loop, no coordinated omission). Requests are sent
at most some 100 us behind the schedule, which is counted as latency.";

/// What is done with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Messages that the server sends back
    Echo,
    /// HTTP/1.1 GET with keep-alive
    Http,
    /// The protocol of Redis
    Resp,
    /// Connect, one message, its echo, close
    Churn,
    /// Connections that are held open, and answer one echo at the end
    Idle,
    /// One connection publishes, all receive
    Broadcast,
}

/// What is asked of a Redis server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RespCommand {
    /// GET of a key that was SET before the warm-up; the value is checked
    Get,
    /// SET
    Set,
    /// PING
    Ping,
    /// INCR
    Incr,
}

/// What the command line says.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "See --help for examples.")]
pub struct Options {
    /// The server: tcp://HOST:PORT, unix:///PATH, udp://, tls://, http://, https:// or redis://
    ///
    /// The scheme also says what is done, unless --work does: http and https mean HTTP, redis and
    /// rediss the protocol of Redis, the others echo. The ports may be left out where they are
    /// well known: 80, 443 and 6379.
    pub url: String,

    /// What is done with the server
    #[arg(short, long, value_enum)]
    pub work: Option<Work>,

    /// Connections; for UDP, sockets
    #[arg(short, long, value_name = "N", default_value_t = 50)]
    pub connections: usize,

    /// Bytes in a message, such as 64, 16KiB or 1MiB; for redis the size of a value
    #[arg(short, long, value_name = "SIZE", default_value = "64", value_parser = units::size)]
    pub size: usize,

    /// Requests under way on a connection; for UDP, datagrams of a socket
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    pub pipeline: usize,

    /// Only N of the connections have requests under way at a time; each next one goes to another
    /// connection at random
    #[arg(long, value_name = "N")]
    pub active: Option<usize>,

    /// UDP: each datagram goes through the system by itself, as those of many small clients do; without
    /// it those that leave together are one message that the system cuts (UDP_SEGMENT), and replies may
    /// come joined (UDP_GRO), as QUIC has it
    #[arg(long)]
    pub no_join: bool,

    /// How long it is measured, such as 500ms, 10s or 2m
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub duration: Duration,

    /// How long the load runs before it is measured
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    pub warmup: Duration,

    /// Requests a second, on a schedule that does not wait for the server (open loop); without it
    /// each reply brings the next request (closed loop)
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,

    /// How long a connection, and a reply, may take [default: 5s; 1s for the replies of UDP]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub timeout: Option<Duration>,

    /// Event loops of the client, each a thread
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub loops: usize,

    /// What the client's loops wait with: poll, io-uring, or auto, which is io-uring where it can be had
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    pub driver: tightloop::Driver,

    /// HTTP: what is asked for
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,

    /// HTTP: a further header of each request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,

    /// HTTP: the body that each reply has to have; otherwise only its length is checked
    #[arg(long, value_name = "TEXT")]
    pub expect_body: Option<String>,

    /// Redis: what is asked
    #[arg(long, value_enum)]
    pub command: Option<RespCommand>,

    /// Redis: different keys [default: 10000]
    #[arg(long, value_name = "N")]
    pub keys: Option<u64>,

    /// TLS: the authorities that are trusted, a PEM file [default: those of the system]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,

    /// TLS: take any certificate
    #[arg(long)]
    pub insecure: bool,

    /// TLS: the name that the server is asked for and its certificate checked for [default: the
    /// host of the URL]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,

    /// A local address to connect from; may be repeated, and they are taken in turn: one address
    /// has about 28,000 ports [default: the system's; on 127.0.0.0/8 as many as are needed]
    #[arg(long, value_name = "IP")]
    pub source: Vec<IpAddr>,

    /// The server's process, on this machine: its CPU time, memory and context switches are told
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,

    /// Write the result as JSON; `-` is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write charts of latency by percentile and of throughput over time
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// No progress bar and no table
    #[arg(short, long)]
    pub quiet: bool,
}
