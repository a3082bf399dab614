//! What this project wants to reach, and whether it does: the best tightloop driver against the
//! bare floor, against gnet v2, and against the best of the peers; and its examples against Redis,
//! HAProxy and nginx.

use serde::Serialize;

use super::goal::own_program;
use super::statistics::Ratio;
use super::summary::{Row, Table};
use super::systems::Role;

/// At most these ratios.
#[derive(Debug, Clone, Copy)]
struct Target {
    workload: &'static str,
    floor: Option<f64>,
    /// The figure itself, in place of a ratio.
    absolute: Option<f64>,
    gnet: Option<f64>,
    best: Option<f64>,
    /// Whoever's name begins so, the best of them; then only that example of this project counts
    /// which stands against it.
    rival: Option<(&'static str, f64)>,
}

const TARGETS: [Target; 26] = [
    target("echo-64x50", Some(1.00), 0.75, 0.97),
    target("echo-512x1000", Some(0.98), 0.65, 0.95),
    target("echo-64x10000-active1", Some(1.00), 0.75, 0.95),
    target("echo-64Kx8", Some(1.00), 0.85, 1.00),
    target("pipelined-16x64x50", Some(0.97), 0.70, 0.98),
    target("churn", Some(1.05), 0.72, 1.00),
    target("udp-64", Some(1.00), 0.50, 0.80),
    target("udp-64-trains", Some(1.00), 0.50, 0.80),
    target("broadcast-128x10000", Some(1.00), 0.70, 0.95),
    Target { absolute: Some(256.0), ..target("idle-10000", None, 0.30, 1.00) },
    target("latency-70", None, 0.70, 1.00),
    rival("resp-get", "redis", 0.65, None),
    rival("resp-set", "redis", 0.65, None),
    rival("resp-get-16", "redis", 0.35, None),
    rival("resp-set-16", "redis", 0.40, None),
    rival("resp-get-verified", "redis", 0.65, None),
    rival("resp-set-verified", "redis", 0.65, None),
    rival("resp-get-16-verified", "redis", 0.35, None),
    rival("resp-set-16-verified", "redis", 0.40, None),
    rival("proxy-256x100", "haproxy", 0.80, None),
    rival("proxy-64Kx8", "haproxy", 0.60, None),
    rival("proxy-pipelined-16x64", "haproxy", 0.85, None),
    rival("http-64", "nginx", 0.80, Some(0.95)),
    rival("http-64-wrk", "nginx", 0.80, Some(0.95)),
    rival("http-pipelined-16x64", "nginx", 0.15, Some(0.90)),
    rival("http-pipelined-16x64-wrk", "nginx", 0.15, Some(0.90)),
];

const fn target(workload: &'static str, floor: Option<f64>, gnet: f64, best: f64) -> Target {
    Target { workload, floor, absolute: None, gnet: Some(gnet), best: Some(best), rival: None }
}

const fn rival(
    workload: &'static str,
    name: &'static str,
    limit: f64,
    best: Option<f64>,
) -> Target {
    let rival = Some((name, limit));
    Target { workload, floor: None, absolute: None, gnet: None, best, rival }
}

/// A line of the table of targets.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub workload: String,
    pub title: String,
    /// The driver that is compared: tightloop's best in this workload.
    pub driver: Option<String>,
    /// Whether the control was as it should be.
    pub is_trustworthy: bool,
    pub floor: Option<Comparison>,
    pub absolute: Option<Comparison>,
    pub gnet: Option<Comparison>,
    pub best: Option<Comparison>,
    /// Against Redis, HAProxy or nginx.
    pub rival: Option<Comparison>,
}

/// A target and what was measured; nothing where the other side was not.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub target: f64,
    pub measured: Option<f64>,
    pub interval: Option<(f64, f64)>,
    /// With whom.
    pub other: Option<String>,
}

impl Comparison {
    /// `None` where nothing was measured.
    pub fn is_met(&self) -> Option<bool> {
        self.measured.map(|measured| measured <= self.target)
    }
}

pub fn verdicts(tables: &[Table]) -> Vec<Verdict> {
    TARGETS.iter().map(|target| verdict(tables, target)).collect()
}

fn verdict(tables: &[Table], target: &Target) -> Verdict {
    let table = tables.iter().find(|table| table.workload.name == target.workload);
    let own = table.and_then(|table| match target.rival {
        Some(_) => table.best_of(Role::Tightloop, own_program(table.workload.mode)),
        None => table.best(Role::Tightloop),
    });
    let against = |limit: Option<f64>, other: Option<&Row>| {
        let ratio = own.zip(other).and_then(|(own, other)| own_ratio(own, other));
        limit.map(|target| Comparison {
            target,
            measured: ratio.map(|ratio| ratio.median),
            interval: ratio.map(|ratio| (ratio.low, ratio.high)),
            other: other.map(|row| row.system.clone()),
        })
    };
    let known = super::workload::all_workloads();
    let named = known.iter().find(|workload| workload.name == target.workload);
    let gnet = table.and_then(|table| {
        let is_gnet = |row: &&Row| row.system == "gnet" || row.system.starts_with("gnet-");
        table.rows.iter().find(is_gnet)
    });
    Verdict {
        workload: target.workload.to_owned(),
        title: named.map_or(target.workload, |workload| &workload.title).to_owned(),
        driver: own.map(|row| row.system.clone()),
        is_trustworthy: table.is_some_and(Table::is_trustworthy),
        floor: against(target.floor, table.and_then(Table::floor)),
        absolute: target.absolute.map(|target| Comparison {
            target,
            measured: own.map(|row| row.figure),
            interval: own.map(|row| (row.least, row.most)),
            other: None,
        }),
        gnet: against(target.gnet, gnet),
        best: against(target.best, table.and_then(|table| table.best(Role::Peer))),
        rival: target.rival.and_then(|(name, limit)| {
            let other = table.and_then(|table| table.best_of(Role::Peer, name));
            against(Some(limit), other)
        }),
    }
}

/// Rows have the ratios of others to tightloop; this is the other way round.
fn own_ratio(own: &Row, other: &Row) -> Option<Ratio> {
    let (_, ratio) = other.to_tightloop.iter().find(|(name, _)| *name == own.system)?;
    (ratio.low > 0.0).then(|| Ratio {
        median: 1.0 / ratio.median,
        low: 1.0 / ratio.high,
        high: 1.0 / ratio.low,
        rounds: ratio.rounds,
    })
}
