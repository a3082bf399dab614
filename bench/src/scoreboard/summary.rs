//! From rounds to figures: medians, paired ratios, the control, the targets.

use serde::Serialize;

use super::plan::Entry;
use super::record::{Records, Round};
use super::run::offered_rate;
use super::statistics::{Ratio, median, ratio_of};
use super::systems::{Role, is_control, original_of};
use super::workload::{Figure, Mode, Workload};

/// A control further from 1 says that the machine was not quiet.
const CONTROL_MAX: f64 = 0.015;

/// One workload.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    pub workload: Workload,
    /// What all systems are divided by, beside tightloop: the floor, where there is one.
    pub baseline: Option<String>,
    pub control: Option<Control>,
    /// Operations a second that were offered, in an open loop.
    pub offered: Option<f64>,
    /// The cheapest first.
    pub rows: Vec<Row>,
    pub excluded: Vec<(String, String)>,
}

/// The second instance of the baseline against the first.
#[derive(Debug, Clone, Serialize)]
pub struct Control {
    pub ratio: Ratio,
    pub is_good: bool,
}

/// One system in one workload. Medians over rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub system: String,
    pub role: Role,
    pub figure: f64,
    pub least: f64,
    pub most: f64,
    pub to_baseline: Option<Ratio>,
    /// By the name of each of tightloop's drivers.
    pub to_tightloop: Vec<(String, Ratio)>,
    pub cpu_ns: Option<f64>,
    pub calls: Option<f64>,
    pub calls_reason: Option<String>,
    pub throughput: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p99_9_us: Option<f64>,
    pub rss_mib: Option<f64>,
    pub switches: Option<f64>,
    /// Shares of one core, in the measured time.
    pub server_busy: Option<f64>,
    pub client_busy: Option<f64>,
    pub rounds: usize,
    /// Of these, disturbed by others all the same.
    pub disturbed: usize,
}

/// Every workload of which something was measured, in the order of the plan.
pub fn tables(records: &Records) -> Vec<Table> {
    let entries = records.header.plan.entries.iter();
    let tables = entries.map(|entry| table(records, entry));
    tables.filter(|table| !table.rows.is_empty() || !table.excluded.is_empty()).collect()
}

fn table(records: &Records, entry: &Entry) -> Table {
    let workload = &entry.workload;
    let names: Vec<&str> = entry.systems.iter().map(|system| system.name.as_str()).collect();
    let control_name = names.iter().copied().find(|name| is_control(name));
    let baseline = control_name.map(original_of);
    let tightloops: Vec<&str> =
        names.iter().copied().filter(|name| role_of(records, name) == Role::Tightloop).collect();
    let ratio = |name: &str, to: &str| ratio_between(records, workload, name, to);
    let row = |name: &str| {
        let mut row = row(records, workload, name)?;
        row.to_baseline = baseline.filter(|base| *base != name).and_then(|base| ratio(name, base));
        let others = tightloops.iter().filter(|own| **own != name && !is_control(own));
        let ratios = others.filter_map(|own| Some(((*own).to_owned(), ratio(name, own)?)));
        row.to_tightloop = ratios.collect();
        Some(row)
    };
    let mut rows: Vec<Row> = names.iter().filter_map(|name| row(name)).collect();
    rows.sort_by(|a, b| a.figure.total_cmp(&b.figure));
    let control = baseline.zip(control_name).and_then(|(base, control)| {
        let ratio = ratio(control, base)?;
        let is_good = ratio.holds_one() && (ratio.median - 1.0).abs() <= CONTROL_MAX;
        Some(Control { ratio, is_good })
    });
    let excluded = names.iter().filter_map(|name| {
        Some(((*name).to_owned(), records.exclusion(&workload.name, name)?.to_owned()))
    });
    Table {
        baseline: baseline.map(str::to_owned),
        control,
        offered: offered_rate(records, workload).ok().flatten(),
        excluded: excluded.collect(),
        rows,
        workload: workload.clone(),
    }
}

fn role_of(records: &Records, name: &str) -> Role {
    records.status_of(original_of(name)).map_or(Role::Peer, |status| status.role)
}

/// The figure by which a workload compares.
fn figure_of(workload: &Workload, round: &Round) -> Option<f64> {
    let server = round.load.server.as_ref();
    match workload.figure {
        Figure::CpuPerOperation => cpu_ns(round),
        Figure::P99 => Some(round.load.latency_us.as_ref()?.p99),
        Figure::BytesPerConnection => {
            let (before, after) = (round.rss_kib_at_start?, server?.rss_kib_after?);
            Some(after.saturating_sub(before) as f64 * 1024.0 / round.load.connections as f64)
        }
    }
    .filter(|figure| figure.is_finite())
}

fn cpu_ns(round: &Round) -> Option<f64> {
    Some(round.load.server.as_ref()?.cpu_ns as f64 / round.load.operations as f64)
}

fn ratio_between(records: &Records, workload: &Workload, name: &str, to: &str) -> Option<Ratio> {
    let figures = |name: &str| -> Vec<(usize, f64)> {
        let rounds = records.rounds_of(&workload.name, name).into_iter();
        rounds.filter_map(|round| Some((round.round, figure_of(workload, round)?))).collect()
    };
    let bases = figures(to);
    let base_of = |round: usize| bases.iter().find(|base| base.0 == round).map(|base| base.1);
    let values = figures(name).into_iter();
    let pairs: Vec<_> =
        values.filter_map(|(round, value)| Some((value, base_of(round)?))).collect();
    ratio_of(&pairs)
}

fn row(records: &Records, workload: &Workload, name: &str) -> Option<Row> {
    let rounds = records.rounds_of(&workload.name, name);
    let over = |value: &dyn Fn(&Round) -> Option<f64>| {
        median(&rounds.iter().filter_map(|round| value(round)).collect::<Vec<_>>())
    };
    let figures: Vec<f64> = rounds.iter().filter_map(|round| figure_of(workload, round)).collect();
    let figure = median(&figures)?;
    let calls = records.calls_of(&workload.name, name);
    let is_working = !workload.is_idle();
    let latency = |value: fn(&super::record::Latency) -> Option<f64>| {
        over(&|round| round.load.latency_us.as_ref().and_then(value)).filter(|_| is_working)
    };
    let busy = |ns: u64, round: &Round| ns as f64 / (round.load.seconds * 1e9);
    Some(Row {
        system: name.to_owned(),
        role: role_of(records, name),
        figure,
        least: figures.iter().copied().fold(f64::INFINITY, f64::min),
        most: figures.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        to_baseline: None,
        to_tightloop: Vec::new(),
        cpu_ns: over(&cpu_ns).filter(|_| is_working),
        calls: calls.and_then(|calls| calls.per_operation),
        calls_reason: calls.and_then(|calls| calls.reason.clone()),
        throughput: over(&|round| round.load.throughput).filter(|_| is_working),
        p50_us: latency(|latency| Some(latency.p50)),
        p99_us: latency(|latency| Some(latency.p99)),
        p99_9_us: latency(|latency| latency.p99_9),
        rss_mib: over(&|round| Some(round.load.server.as_ref()?.rss_kib_after? as f64 / 1024.0)),
        switches: over(&|round| {
            let switches = round.load.server.as_ref()?.context_switches?;
            Some(switches as f64 / round.load.operations as f64)
        })
        .filter(|_| is_working),
        server_busy: over(&|round| Some(busy(round.load.server.as_ref()?.cpu_ns, round))),
        client_busy: over(&|round| Some(busy(round.load.client_cpu_ns?, round))),
        rounds: figures.len(),
        disturbed: rounds.iter().filter(|round| round.noise.is_too_much()).count(),
    })
}

impl Table {
    pub fn row(&self, system: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.system == system)
    }

    /// The cheapest of a role; controls are no competitors.
    pub fn best(&self, role: Role) -> Option<&Row> {
        self.rows.iter().find(|row| row.role == role && !is_control(&row.system))
    }

    /// The cheapest whose name begins so, among those of a role.
    pub fn best_of(&self, role: Role, prefix: &str) -> Option<&Row> {
        let is_meant = |row: &&Row| {
            row.role == role && row.system.starts_with(prefix) && !is_control(&row.system)
        };
        self.rows.iter().find(is_meant)
    }

    /// The baseline, where it is a floor.
    pub fn floor(&self) -> Option<&Row> {
        self.row(self.baseline.as_deref()?).filter(|row| row.role == Role::Floor)
    }

    pub fn is_trustworthy(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.is_good)
    }

    pub fn unit(&self) -> &'static str {
        match (self.workload.figure, self.workload.mode) {
            (Figure::CpuPerOperation, Mode::Broadcast) => "CPU, ns a delivery",
            (figure, _) => figure.title(),
        }
    }
}
