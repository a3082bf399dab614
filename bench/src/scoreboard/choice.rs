//! What of everything that could be measured is wanted.

use super::foreign;
use super::plan::{Entry, Participant};
use super::prepare::Status;
use super::systems::{Role, System, baseline_of};
use super::workload::{Client, Mode, REFERENCE, Workload, all_workloads, main_workloads};

/// The systems of these names that have one of the modes; without names, all.
pub fn systems(all: Vec<System>, names: &[String], modes: &[Mode]) -> Result<Vec<System>, String> {
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
    let has_a_mode = |system: &System| system.modes.iter().any(|mode| modes.contains(mode));
    Ok(all.into_iter().filter(|system| is_wanted(system) && has_a_mode(system)).collect())
}

/// The workloads of these names and groups, in the order in which they are carried out.
pub fn workloads(names: &[String], is_quick: bool) -> Result<Vec<Workload>, String> {
    if names.is_empty() {
        let is_asked_for = |workload: &Workload| !workload.is_only_of_goal();
        let all = || all_workloads().into_iter().filter(is_asked_for).collect();
        return Ok(if is_quick { main_workloads() } else { all() });
    }
    let is_named = |workload: &Workload, name: &str| match name {
        "main" => workload.growth.is_none() && !workload.is_only_of_goal(),
        "goal" => workload.is_of_goal(),
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

/// The foreign clients that these workloads need.
pub fn clients_of(workloads: &[Workload]) -> Vec<System> {
    let clients = [Client::RedisBenchmark, Client::Wrk].into_iter();
    let needed =
        clients.filter(|client| workloads.iter().any(|workload| workload.client == *client));
    needed.filter_map(foreign::system_of).collect()
}

pub fn modes_of(workloads: &[Workload]) -> Vec<Mode> {
    let mut modes: Vec<Mode> = workloads.iter().map(|workload| workload.mode).collect();
    modes.sort_unstable();
    modes.dedup();
    modes
}

/// Who takes part in what: those that passed the check, and the control. A workload in which
/// nobody does is none, nor is one whose client is not there.
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
    let has_client = |workload: &&Workload| {
        foreign::system_of(workload.client).is_none_or(|client| {
            let is_there = |status: &Status| status.name == client.name && status.missing.is_none();
            statuses.iter().any(is_there)
        })
    };
    let entries = workloads.iter().filter(has_client).map(entry);
    entries.filter(|entry| !entry.systems.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::launch::Launch;
    use super::super::systems::{is_control, original_of};
    use super::*;

    fn system(name: &str, role: Role, modes: &[Mode], threads: bool) -> System {
        System {
            name: name.to_owned(),
            role,
            language: "C".to_owned(),
            program: vec!["a".to_owned()],
            home: PathBuf::new(),
            build: Vec::new(),
            modes: modes.to_vec(),
            needs: Vec::new(),
            install: String::new(),
            warmup_seconds: 2.0,
            threads,
            note: String::new(),
            launch: Launch::default(),
        }
    }

    fn passed(system: &System) -> Status {
        Status {
            name: system.name.clone(),
            role: system.role,
            language: system.language.clone(),
            note: String::new(),
            warmup_seconds: 2.0,
            version: None,
            missing: None,
            passed: system.modes.clone(),
            failed: Vec::new(),
        }
    }

    fn names(entry: &Entry) -> Vec<&str> {
        entry.systems.iter().map(|system| system.name.as_str()).collect()
    }

    fn some() -> Vec<System> {
        vec![
            system("tightloop-poll", Role::Tightloop, &[Mode::Echo, Mode::Udp, Mode::Http], true),
            system("floor", Role::Floor, &[Mode::Echo, Mode::Udp], true),
            system("floor-edge", Role::Floor, &[Mode::Echo], true),
            system("tokio", Role::Peer, &[Mode::Echo, Mode::Http], false),
        ]
    }

    #[test]
    fn an_open_loop_brings_what_its_rate_is_taken_from() {
        let chosen = workloads(&["latency-70".to_owned()], false).unwrap();
        let names: Vec<_> = chosen.iter().map(|workload| workload.name.as_str()).collect();
        assert_eq!(names, [REFERENCE, "latency-70"]);
        assert!(workloads(&["nothing".to_owned()], false).is_err());
    }

    #[test]
    fn groups_are_all_of_their_kind() {
        let count = |name: &str| workloads(&[name.to_owned()], false).unwrap().len();
        assert_eq!(count("main") + count("growth") + 13, all_workloads().len());
        assert_eq!(count("goal"), 15, "the 13, and HTTP by the own client");
        assert_eq!((count("growth-connections"), count("growth-size")), (7, 9));
        assert_eq!(workloads(&[], true).unwrap().len(), count("main"));
    }

    #[test]
    fn the_control_is_the_floor_of_the_mode_or_else_tightloop() {
        let systems = some();
        let statuses: Vec<Status> = systems.iter().map(passed).collect();
        let chosen = ["echo-64x50", "udp-64", "http-64", "broadcast-128x10000"].map(str::to_owned);
        let entries = entries(&workloads(&chosen, false).unwrap(), &systems, &statuses);
        assert_eq!(entries.len(), 3, "nobody broadcasts");
        let echo = ["tightloop-poll", "floor", "floor-edge", "tokio", "floor again"];
        assert_eq!(names(&entries[0]), echo);
        assert_eq!(names(&entries[1]), ["tightloop-poll", "floor", "floor again"]);
        assert_eq!(names(&entries[2]), ["tightloop-poll", "tokio", "tightloop-poll again"]);
        let control = names(&entries[0])[4];
        assert!(is_control(control) && original_of(control) == "floor");
    }

    #[test]
    fn who_failed_the_check_or_has_one_thread_only_takes_no_part() {
        let systems = some();
        let mut statuses: Vec<Status> = systems.iter().map(passed).collect();
        statuses[1].passed.clear();
        let chosen = ["echo-64x50", "growth-loops"].map(str::to_owned);
        let entries = entries(&workloads(&chosen, false).unwrap(), &systems, &statuses);
        assert_eq!(names(&entries[0])[..2], ["tightloop-poll", "floor-edge"]);
        assert_eq!(names(&entries[0])[3], "floor-edge again");
        assert_eq!(names(&entries[1]), ["tightloop-poll", "floor-edge", "tokio"]);
        assert_eq!(names(&entries[2]), ["tightloop-poll", "floor-edge"]);
    }

    #[test]
    fn tightloop_is_all_of_its_drivers() {
        let modes = [Mode::Echo];
        let chosen = systems(some(), &["tightloop".to_owned()], &modes).unwrap();
        assert_eq!(chosen[0].name, "tightloop-poll");
        assert!(systems(some(), &["nobody".to_owned()], &modes).is_err());
        assert_eq!(systems(some(), &[], &[Mode::Udp]).unwrap().len(), 2);
    }
}
