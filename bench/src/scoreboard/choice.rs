//! What of everything that could be measured is wanted.

use super::plan::{Entry, Participant};
use super::prepare::Status;
use super::systems::{Role, System, baseline_of};
use super::workload::{Mode, REFERENCE, Workload, all_workloads, main_workloads};

/// The systems of these names; without names, all.
pub fn systems(all: Vec<System>, names: &[String]) -> Result<Vec<System>, String> {
    let is_named = |system: &System, name: &str| {
        system.name == name || (name == "tightloop" && system.role == Role::Tightloop)
    };
    for name in names {
        if !all.iter().any(|system| is_named(system, name)) {
            return Err(format!("there is no system {name}; see --list"));
        }
    }
    let is_wanted =
        |system: &System| names.is_empty() || names.iter().any(|name| is_named(system, name));
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// The workloads of these names and groups, in the order in which they are carried out.
pub fn workloads(names: &[String], is_quick: bool) -> Result<Vec<Workload>, String> {
    if names.is_empty() {
        return Ok(if is_quick { main_workloads() } else { all_workloads() });
    }
    let is_named = |workload: &Workload, name: &str| match name {
        "main" => workload.growth.is_none(),
        "growth" => workload.growth.is_some(),
        name => {
            workload.name == name
                || workload.growth.is_some_and(|(series, _)| series.name() == name)
        }
    };
    for name in names {
        if !all_workloads().iter().any(|workload| is_named(workload, name)) {
            return Err(format!("there is no work {name}; see --list"));
        }
    }
    let is_wanted = |workload: &Workload| names.iter().any(|name| is_named(workload, name));
    let needs_reference =
        all_workloads().iter().any(|workload| is_wanted(workload) && workload.load_share.is_some());
    let is_included = |workload: &Workload| {
        is_wanted(workload) || (needs_reference && workload.name == REFERENCE)
    };
    Ok(all_workloads().into_iter().filter(is_included).collect())
}

pub fn modes_of(workloads: &[Workload]) -> Vec<Mode> {
    let mut modes: Vec<Mode> = workloads.iter().map(|workload| workload.mode).collect();
    modes.sort_unstable();
    modes.dedup();
    modes
}

/// Who takes part in what: those that passed the check, and the control. A workload in which
/// nobody does is none.
pub fn entries(workloads: &[Workload], systems: &[System], statuses: &[Status]) -> Vec<Entry> {
    let entry = |workload: &Workload| {
        let passed = |system: &&System| {
            let status = statuses.iter().find(|status| status.name == system.name);
            status.is_some_and(|status| status.passed.contains(&workload.mode))
                && system.serves(workload.mode, workload.threads)
        };
        let taking_part: Vec<System> = systems.iter().filter(passed).cloned().collect();
        let participant = |system: &System| Participant {
            name: system.name.clone(),
            warmup_seconds: system.warmup_seconds,
        };
        let mut participants: Vec<Participant> = taking_part.iter().map(participant).collect();
        // A point of a series is read as part of a curve, which shows by itself how rough it is.
        if workload.growth.is_none()
            && let Some(baseline) = baseline_of(&taking_part, workload.mode)
        {
            participants.push(participant(&baseline.again()));
        }
        Entry { workload: workload.clone(), systems: participants }
    };
    let entries = workloads.iter().map(entry);
    entries.filter(|entry| !entry.systems.is_empty()).collect()
}
