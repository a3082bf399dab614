//! The results for people.

use std::fmt::Write;

use super::report::{Numbers, Report};
use crate::units::{show_bytes, show_count, show_us};

/// The table.
pub fn render(report: &Report) -> String {
    let numbers = &report.numbers;
    let mut rows: Vec<(&str, String)> = vec![("work", work(numbers))];
    rows.push(("time", format!("{:.2} s", numbers.seconds)));
    rows.push(("operations", show_count(numbers.operations)));
    if let Some(throughput) = numbers.throughput {
        let bytes = numbers.bytes as f64 / numbers.seconds;
        let each = format!("{} a second, {}/s", show_count(throughput as u64), show_bytes(bytes));
        rows.push(("throughput", each));
    }
    if let Some(latency) = &numbers.latency_us {
        let values = [
            ("min", latency.min),
            ("mean", latency.mean),
            ("p50", latency.p50),
            ("p90", latency.p90),
            ("p99", latency.p99),
            ("p99.9", latency.p99_9),
            ("max", latency.max),
        ];
        for (index, (name, us)) in values.iter().enumerate() {
            rows.push((
                if index == 0 { "latency" } else { "" },
                format!("{name:<6}{:>10}", show_us(*us)),
            ));
        }
    }
    let per_operation = |cpu_ns: u64| match numbers.operations {
        operations if operations > 0 && numbers.throughput.is_some() => {
            format!(", {:.0} ns an operation", cpu_ns as f64 / operations as f64)
        }
        _ => String::new(),
    };
    let share = |cpu_ns: u64| cpu_ns as f64 / 1e7 / numbers.seconds.max(1e-9);
    let cpu = |cpu_ns: u64| format!("{:.0} % of a core{}", share(cpu_ns), per_operation(cpu_ns));
    rows.push(("client CPU", cpu(numbers.client_cpu_ns)));
    if let Some(server) = &numbers.server {
        rows.push(("server CPU", cpu(server.cpu_ns)));
        let kib = |kib: u64| show_bytes(kib as f64 * 1024.0);
        let growth = server.rss_kib_after.saturating_sub(server.rss_kib_before) as f64 * 1024.0;
        let each = match numbers.work {
            "idle" => format!(", {:.0} B a connection", growth / numbers.connections as f64),
            _ => String::new(),
        };
        let (before, after) = (kib(server.rss_kib_before), kib(server.rss_kib_after));
        rows.push(("server memory", format!("{before} before, {after} after{each}")));
        rows.push(("server switches", show_count(server.context_switches)));
    }
    rows.push(("errors", errors(numbers)));
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<16}{value}");
        text
    })
}

fn work(numbers: &Numbers) -> String {
    let mut text = format!(
        "{} {}, {} connections",
        numbers.work,
        numbers.url,
        show_count(numbers.connections as u64)
    );
    if let Some(active) = numbers.active {
        let _ = write!(text, " of which {} at a time", show_count(active as u64));
    }
    if let Some(size) = numbers.size {
        let _ = write!(text, ", {}", show_bytes(size as f64));
    }
    if numbers.pipeline > 1 {
        let _ = write!(text, ", {} under way on each", numbers.pipeline);
    }
    if let Some(rate) = numbers.rate {
        let _ = write!(text, ", {} a second", show_count(rate as u64));
    }
    text
}

fn errors(numbers: &Numbers) -> String {
    let errors = &numbers.errors;
    let kinds = [
        (errors.connect, "not connected"),
        (errors.closed, "closed"),
        (errors.wrong_bytes, "wrong bytes"),
        (errors.timeout, "no reply"),
        (errors.lost, "lost"),
    ];
    let told: Vec<String> = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{} {name}", show_count(*count)))
        .collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}
