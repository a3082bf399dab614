//! What is printed: the plan before the run, and the figures in short after it.

use std::fmt::Write;

use super::plan::{Plan, Wish, show};
use super::prepare::Status;
use super::summary::Table;
use super::targets::{Comparison, Verdict};
use crate::units::show_count;

pub fn plan(plan: &Plan, wish: &Wish, left_out: usize) -> String {
    let level = &plan.level;
    let mut text = format!(
        "plan: {} workloads, {} rounds of {} s, about {}\n",
        plan.entries.len(),
        level.rounds,
        level.seconds,
        show(plan.seconds())
    );
    for entry in &plan.entries {
        let _ = writeln!(
            text,
            "  {:<26}{} systems, {} rounds of {} s",
            entry.workload.name,
            entry.systems.len(),
            plan.rounds(&entry.workload),
            plan.measured_seconds(&entry.workload)
        );
    }
    if left_out > 0 {
        let names = wish.entries[plan.entries.len()..].iter().map(|e| e.workload.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "  left out, for the time: {names}");
    }
    if let Some(budget) = plan.budget_seconds
        && plan.seconds() > budget
    {
        let budget = show(budget);
        let _ = writeln!(text, "  more than the {budget} there are: it ends in the middle");
    }
    text
}

pub fn version(status: &Status) -> &str {
    status.version.as_deref().unwrap_or("no version told")
}

/// The medians and the ratios to the baseline, then the targets.
pub fn summary(tables: &[Table], verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for table in tables {
        let _ = writeln!(text, "{}", table.workload.title);
        if table.workload.growth.is_none() && !table.is_trustworthy() {
            let control = table.control.as_ref().map(|control| control.ratio);
            let told = control.map_or("there is no control".to_owned(), |ratio| {
                format!(
                    "the control is {:.3} ({:.3} to {:.3})",
                    ratio.median, ratio.low, ratio.high
                )
            });
            let _ = writeln!(text, "  this set says less: {told}");
        }
        for row in &table.rows {
            let ratio = row.to_baseline.map_or(String::new(), |ratio| {
                format!("{:>8.3} ({:.3} to {:.3})", ratio.median, ratio.low, ratio.high)
            });
            let calls = row.calls.map_or(String::new(), |calls| format!("  {calls:.2} calls/op"));
            let unit = table.unit();
            let figure = show_count(row.figure.max(0.0).round() as u64);
            let _ = writeln!(text, "  {:<22}{figure:>12} {unit}{ratio}{calls}", row.system);
        }
        for (system, reason) in &table.excluded {
            let _ = writeln!(text, "  {system:<22}failed: {reason}");
        }
    }
    let measured = verdicts.iter().filter(|verdict| verdict.driver.is_some());
    for (index, verdict) in measured.enumerate() {
        if index == 0 {
            text.push_str("targets\n");
        }
        let sides = [
            ("floor", &verdict.floor),
            ("size", &verdict.absolute),
            ("gnet", &verdict.gnet),
            ("rival", &verdict.rival),
            ("best peer", &verdict.best),
        ];
        let told = sides.iter().filter_map(|(name, side)| side_of(name, side.as_ref()?));
        let told = told.collect::<Vec<_>>().join(", ");
        if !told.is_empty() {
            let _ = writeln!(text, "  {}: {told}", verdict.title);
        }
    }
    text
}

fn side_of(name: &str, side: &Comparison) -> Option<String> {
    let (measured, met) = (side.measured?, side.is_met()?);
    let verdict = if met { "met" } else { "missed" };
    let digits = if side.target > 10.0 { 0 } else { 3 };
    Some(format!("{name} {measured:.digits$} of {} {verdict}", side.target))
}
