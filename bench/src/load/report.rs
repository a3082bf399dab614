//! The results: numbers as they are written to JSON, and what is to be said about them.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::faults::Counts;
use super::meter::{Totals, histogram};
use super::options::{DriverChoice, Work};
use super::plan::{Plan, name_of};
use super::sample::Sample;

/// The schedule is kept if the throughput is within this share of the rate.
const RATE_MISSED: f64 = 0.02;

/// What was measured, as it comes from the loops and the system.
pub struct Measured {
    pub totals: Vec<Totals>,
    pub server: Option<(Sample, Sample)>,
    pub client_cpu_ns: u64,
    pub series: Vec<Point>,
    pub seconds: f64,
    pub faults: Counts,
    pub told: Vec<String>,
    pub is_interrupted: bool,
}

/// Operations that were done since the point before.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Since the window began.
    pub seconds: f64,
    pub operations: u64,
}

/// The numbers of a load. The fields are the fields of the JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Numbers {
    pub work: &'static str,
    pub url: String,
    pub connections: usize,
    pub active: Option<usize>,
    pub size: Option<usize>,
    pub pipeline: usize,
    pub rate: Option<f64>,
    pub driver: &'static str,
    pub seconds: f64,
    pub operations: u64,
    /// Of replies.
    pub bytes: u64,
    pub errors: Counts,
    /// Operations a second.
    pub throughput: Option<f64>,
    pub latency_us: Option<Latency>,
    pub client_cpu_ns: u64,
    pub server: Option<Server>,
    pub series: Vec<Point>,
    pub percentiles: Vec<Percentile>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// The server's process in the window.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    pub cpu_ns: u64,
    pub cpu_ns_per_operation: Option<f64>,
    /// At the beginning of the window; where idle connections are held, before the first of them.
    pub rss_kib_before: u64,
    pub rss_kib_after: u64,
    pub context_switches: u64,
}

/// A point of the curve of latency by percentile.
#[derive(Debug, Clone, Serialize)]
pub struct Percentile {
    pub percentile: f64,
    pub us: f64,
}

/// Numbers, and what is to be said about them.
pub struct Report {
    pub numbers: Numbers,
    /// Errors and warnings.
    pub notes: Vec<String>,
}

impl Report {
    pub fn new(plan: &Plan, measured: Measured) -> Self {
        let mut latency = histogram();
        let (mut operations, mut bytes) = (0, 0);
        for totals in &measured.totals {
            // Histograms of the same bounds can always be added.
            let _ = latency.add(&totals.latency);
            operations += totals.window.operations;
            bytes += totals.window.bytes;
        }
        let is_idle = plan.work == Work::Idle;
        // Each loop has noted the ends of its window itself.
        let lengths = measured.totals.iter().map(|totals| totals.window.length_ns as f64 / 1e9);
        let seconds = lengths.sum::<f64>() / measured.totals.len().max(1) as f64;
        let seconds = if seconds > 0.0 { seconds } else { measured.seconds };
        let server = measured.server.map(|(begin, end)| server(begin, end, operations, is_idle));
        let numbers = Numbers {
            work: name_of(plan.work),
            url: plan.target.url.clone(),
            connections: plan.connections,
            active: plan.active,
            size: (plan.work != Work::Http).then_some(plan.size),
            pipeline: plan.pipeline,
            rate: plan.rate,
            driver: driver_name(plan.driver),
            seconds,
            operations,
            bytes,
            errors: measured.faults,
            throughput: (!is_idle && seconds > 0.0).then(|| operations as f64 / seconds),
            latency_us: latency_of(&latency),
            client_cpu_ns: measured.client_cpu_ns,
            server,
            series: measured.series,
            percentiles: percentiles_of(&latency),
        };
        let notes = notes(&numbers, measured.told, measured.is_interrupted);
        Report { numbers, notes }
    }

    /// Whether something was done, and nothing went wrong.
    pub fn is_success(&self) -> bool {
        self.numbers.operations > 0 && self.numbers.errors.total() == 0
    }
}

fn notes(numbers: &Numbers, told: Vec<String>, is_interrupted: bool) -> Vec<String> {
    let mut notes: Vec<String> = told.iter().map(|told| format!("error: {told}")).collect();
    if numbers.operations == 0 {
        notes.push("error: the server has answered nothing".to_owned());
    }
    if is_interrupted {
        notes.push("warning: interrupted: the results are those of the time until then".to_owned());
    }
    if let (Some(rate), Some(throughput)) = (numbers.rate, numbers.throughput)
        && throughput < rate * (1.0 - RATE_MISSED)
    {
        notes.push(format!(
            "warning: the server did not keep up: {throughput:.0} of {rate:.0} requests a second"
        ));
    }
    notes
}

fn driver_name(driver: DriverChoice) -> &'static str {
    match driver {
        DriverChoice::Auto | DriverChoice::Poll => "poll",
        DriverChoice::IoUring => "io-uring",
    }
}

fn server(begin: Sample, end: Sample, operations: u64, is_idle: bool) -> Server {
    let cpu_ns = end.cpu_ns.saturating_sub(begin.cpu_ns);
    let is_divisible = operations > 0 && !is_idle;
    Server {
        cpu_ns,
        cpu_ns_per_operation: is_divisible.then(|| cpu_ns as f64 / operations as f64),
        rss_kib_before: begin.rss_kib,
        rss_kib_after: end.rss_kib,
        context_switches: end.context_switches.saturating_sub(begin.context_switches),
    }
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

fn latency_of(latency: &Histogram<u64>) -> Option<Latency> {
    if latency.is_empty() {
        return None;
    }
    let at = |quantile| us(latency.value_at_quantile(quantile));
    Some(Latency {
        min: us(latency.min()),
        mean: latency.mean() / 1e3,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p99_9: at(0.999),
        max: us(latency.max()),
    })
}

/// Points that lie closer together towards the end, five for each half of what is left.
fn percentiles_of(latency: &Histogram<u64>) -> Vec<Percentile> {
    if latency.is_empty() {
        return Vec::new();
    }
    let points = latency.iter_quantiles(5);
    let mut percentiles: Vec<Percentile> = points
        .map(|point| Percentile {
            percentile: point.quantile_iterated_to() * 100.0,
            us: us(point.value_iterated_to()),
        })
        .collect();
    percentiles.dedup_by(|later, earlier| later.percentile == earlier.percentile);
    percentiles
}
