//! The tables of targets.

use std::fmt::Write;

use crate::scoreboard::targets::{Comparison, Verdict};

/// Each kind of targets only where some of its works were measured: a run of one kind is not
/// about the other. With nothing measured at all, the first says so.
pub fn write(text: &mut String, verdicts: &[Verdict]) {
    let (of_goal, of_floor): (Vec<&Verdict>, Vec<&Verdict>) =
        verdicts.iter().partition(|verdict| verdict.rival.is_some());
    let is_measured = |verdicts: &[&Verdict]| verdicts.iter().any(|it| it.driver.is_some());
    if is_measured(&of_floor) || !is_measured(&of_goal) {
        targets_of_floor(text, &of_floor);
    }
    if is_measured(&of_goal) {
        targets_of_goal(text, &of_goal);
    }
}

fn targets_of_floor(text: &mut String, verdicts: &[&Verdict]) {
    text.push_str(
        "## Targets\n\nThe best tightloop driver against the others; less is better.\n\n",
    );
    text.push_str(
        "| work | driver | against the floor | against gnet v2 | against the best peer |\n",
    );
    text.push_str("|---|---|---|---|---|\n");
    for verdict in verdicts {
        let driver = driver_of(verdict);
        let floor = match &verdict.absolute {
            Some(absolute) => cell_of_absolute(absolute),
            None => cell(verdict.floor.as_ref()),
        };
        let (gnet, best) = (cell(verdict.gnet.as_ref()), cell(verdict.best.as_ref()));
        let _ = writeln!(text, "| {} | {driver} | {floor} | {gnet} | {best} |", verdict.title);
    }
    text.push('\n');
}

fn targets_of_goal(text: &mut String, verdicts: &[&Verdict]) {
    text.push_str(
        "## Targets against Redis, HAProxy and nginx\n\nThis project's examples by their best driver, \
         against the better of the other's settings; less is better.\n\n",
    );
    text.push_str("| work | driver | against it | against the best peer |\n|---|---|---|---|\n");
    for verdict in verdicts {
        let (rival, best) = (cell(verdict.rival.as_ref()), cell(verdict.best.as_ref()));
        let driver = driver_of(verdict);
        let _ = writeln!(text, "| {} | {driver} | {rival} | {best} |", verdict.title);
    }
    text.push('\n');
}

fn driver_of(verdict: &Verdict) -> String {
    match (&verdict.driver, verdict.is_trustworthy) {
        (Some(driver), true) => driver.clone(),
        (Some(driver), false) => format!("{driver} (the set says less)"),
        (None, _) => "not measured".to_owned(),
    }
}

fn cell(comparison: Option<&Comparison>) -> String {
    let Some(comparison) = comparison else { return String::new() };
    let target = comparison.target;
    let (Some(measured), Some((low, high))) = (comparison.measured, comparison.interval) else {
        return format!("target {target:.2}: not measured");
    };
    let other = comparison.other.as_deref().unwrap_or("");
    let verdict = verdict(comparison);
    format!("{measured:.3} ({low:.3} to {high:.3}) of {other}; target {target:.2}: {verdict}")
}

fn cell_of_absolute(comparison: &Comparison) -> String {
    let target = comparison.target;
    match comparison.measured {
        Some(measured) => format!("{measured:.0} B; target {target:.0} B: {}", verdict(comparison)),
        None => format!("target {target:.0} B: not measured"),
    }
}

fn verdict(comparison: &Comparison) -> &'static str {
    match comparison.is_met() {
        Some(true) => "**met**",
        Some(false) => "missed",
        None => "not measured",
    }
}
