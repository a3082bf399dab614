//! What is measured how often and for how long, so that it fits into the time there is.

use serde::{Deserialize, Serialize};

use super::workload::Workload;

/// A whole run, in the order in which it is carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub entries: Vec<Entry>,
    pub level: Level,
    /// Whether system calls are counted, in rounds of their own.
    pub calls: bool,
    /// Whether systems that need a long time to warm up live through all rounds of a workload.
    pub keep_processes: bool,
    /// The time budget, if there is one.
    pub budget_seconds: Option<f64>,
}

/// A workload, and who takes part in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub workload: Workload,
    pub systems: Vec<Participant>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Participant {
    pub name: String,
    pub warmup_seconds: f64,
}

/// How thoroughly: every number is smaller on the next lower level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Level {
    pub rounds: usize,
    pub seconds: f64,
    /// At most this much of the warm-up that a system asks for.
    pub warmup_max: f64,
    /// The same for systems that ask for much.
    pub long_warmup_max: f64,
    /// For the points of the series.
    pub growth_rounds: usize,
    pub growth_seconds: f64,
}

/// As long as the method asks for: ten rounds of five seconds.
pub const LEVELS: [Level; 8] = [
    level(10, 5.0, 2.0, 30.0, 3, 3.0),
    level(8, 5.0, 2.0, 30.0, 3, 2.0),
    level(7, 3.0, 1.0, 20.0, 3, 1.0),
    level(5, 2.0, 1.0, 10.0, 2, 1.0),
    level(5, 1.0, 0.5, 6.0, 1, 1.0),
    level(4, 1.0, 0.3, 5.0, 1, 0.7),
    level(3, 1.0, 0.3, 4.0, 1, 0.5),
    level(3, 0.5, 0.2, 3.0, 1, 0.5),
];
/// Fewer rounds than on this level are worth less than more workloads.
pub const LOWEST_OF_FULL_RUNS: usize = 4;

const fn level(
    rounds: usize,
    seconds: f64,
    warmup_max: f64,
    long_warmup_max: f64,
    growth_rounds: usize,
    growth_seconds: f64,
) -> Level {
    Level { rounds, seconds, warmup_max, long_warmup_max, growth_rounds, growth_seconds }
}

/// Starting, connecting and ending: guesses that are on the safe side on a quiet machine. The run
/// corrects what it says of the time left by what it has seen.
const START_SECONDS: f64 = 0.35;
const LONG_START_SECONDS: f64 = 1.0;
const CONNECT_SECONDS: f64 = 60e-6;
/// The two rounds in which system calls are counted, see calls.rs.
const CALLS_SECONDS: f64 = 1.2;
/// The warm-up of a process that has served this workload before.
pub const KEPT_WARMUP_SECONDS: f64 = 0.3;
/// Above this a warm-up counts as long: a JIT compiler, whose cost falls for half a minute.
const LONG_WARMUP_SECONDS: f64 = 5.0;

/// What the command line wants of a plan.
#[derive(Debug, Clone)]
pub struct Wish {
    /// In the order in which they are given up when the time is short: the last first.
    pub entries: Vec<Entry>,
    pub rounds: Option<usize>,
    pub seconds: Option<f64>,
    pub calls: bool,
    pub keep_processes: bool,
    pub budget_seconds: Option<f64>,
    /// The place in `LEVELS` below which workloads are left out instead.
    pub lowest_level: usize,
}

impl Plan {
    /// The most thorough plan that fits; and how many workloads had to be left out. At least one
    /// stays, whatever the budget: the run ends when the time is over.
    pub fn fit(wish: &Wish) -> (Plan, usize) {
        let count = wish.entries.len();
        for kept in (1..=count).rev() {
            // A level is cheaper than the one above it, so the lowest one decides.
            let levels = &LEVELS[..=wish.lowest_level.min(LEVELS.len() - 1)];
            for level in levels {
                let plan = Plan::at(wish, *level, kept);
                let fits = wish.budget_seconds.is_none_or(|budget| plan.seconds() <= budget);
                if fits {
                    return (plan, count - kept);
                }
            }
        }
        let lowest = LEVELS[LEVELS.len() - 1];
        (Plan::at(wish, lowest, count.min(1)), count.saturating_sub(1))
    }

    fn at(wish: &Wish, level: Level, kept: usize) -> Plan {
        let level = Level {
            rounds: wish.rounds.unwrap_or(level.rounds),
            seconds: wish.seconds.unwrap_or(level.seconds),
            growth_rounds: wish.rounds.unwrap_or(level.growth_rounds),
            growth_seconds: wish.seconds.unwrap_or(level.growth_seconds),
            ..level
        };
        Plan {
            entries: wish.entries[..kept].to_vec(),
            level,
            calls: wish.calls,
            keep_processes: wish.keep_processes,
            budget_seconds: wish.budget_seconds,
        }
    }

    /// How long it takes, repeated rounds apart.
    pub fn seconds(&self) -> f64 {
        self.entries.iter().map(|entry| self.entry_seconds(entry)).sum()
    }

    fn entry_seconds(&self, entry: &Entry) -> f64 {
        let rounds = self.rounds(&entry.workload);
        let of_rounds = |system: &Participant| -> f64 {
            (0..rounds).map(|round| self.round_seconds(entry, system, round)).sum()
        };
        let of_calls = |system: &Participant| match self.counts_calls(&entry.workload) {
            true => self.calls_seconds(entry, system),
            false => 0.0,
        };
        entry.systems.iter().map(|system| of_rounds(system) + of_calls(system)).sum()
    }

    pub fn rounds(&self, workload: &Workload) -> usize {
        if workload.growth.is_some() { self.level.growth_rounds } else { self.level.rounds }
    }

    /// Of one round.
    pub fn measured_seconds(&self, workload: &Workload) -> f64 {
        if workload.growth.is_some() { self.level.growth_seconds } else { self.level.seconds }
    }

    pub fn counts_calls(&self, workload: &Workload) -> bool {
        // Idle connections make no operations, and an open loop's calls say how often it slept.
        self.calls && workload.growth.is_none() && !workload.is_idle()
    }

    /// Whether a system's process lives on after a round.
    pub fn keeps(&self, system: &Participant, workload: &Workload) -> bool {
        self.keep_processes && system.warmup_seconds > LONG_WARMUP_SECONDS && !workload.is_idle()
    }

    /// The warm-up of a process that has not served this workload yet.
    pub fn warmup_seconds(&self, system: &Participant, workload: &Workload) -> f64 {
        let is_long = system.warmup_seconds > LONG_WARMUP_SECONDS;
        // A point of a series is one of many, and none of them is compared by percents.
        let long_max = match workload.growth {
            Some(_) => self.level.long_warmup_max / 3.0,
            None => self.level.long_warmup_max,
        };
        system.warmup_seconds.min(if is_long { long_max } else { self.level.warmup_max })
    }

    pub fn round_seconds(&self, entry: &Entry, system: &Participant, round: usize) -> f64 {
        let workload = &entry.workload;
        let measured = self.measured_seconds(workload);
        let connect = workload.connections as f64 * CONNECT_SECONDS;
        if round > 0 && self.keeps(system, workload) {
            return KEPT_WARMUP_SECONDS + connect + measured;
        }
        self.start_seconds(system) + self.warmup_seconds(system, workload) + connect + measured
    }

    fn start_seconds(&self, system: &Participant) -> f64 {
        let is_long = system.warmup_seconds > LONG_WARMUP_SECONDS;
        START_SECONDS + if is_long { LONG_START_SECONDS } else { 0.0 }
    }

    pub fn calls_seconds(&self, entry: &Entry, system: &Participant) -> f64 {
        let connect = 2.0 * entry.workload.connections as f64 * CONNECT_SECONDS;
        CALLS_SECONDS + self.start_seconds(system) + connect
    }
}

/// A duration as people read it.
pub fn show(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{:.0} s", s.max(0.0)),
        s if s < 5_400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::{all_workloads, growth_workloads, main_workloads};
    use super::*;

    fn wish(workloads: Vec<Workload>, systems: usize, minutes: Option<f64>) -> Wish {
        let participants = |_: &Workload| {
            let of = |n: usize| Participant {
                name: format!("s{n}"),
                warmup_seconds: if n == 3 { 30.0 } else { 2.0 },
            };
            (0..systems).map(of).collect()
        };
        let entry = |workload: Workload| Entry { systems: participants(&workload), workload };
        Wish {
            entries: workloads.into_iter().map(entry).collect(),
            rounds: None,
            seconds: None,
            calls: true,
            keep_processes: true,
            budget_seconds: minutes.map(|minutes| minutes * 60.0),
            lowest_level: LOWEST_OF_FULL_RUNS,
        }
    }

    #[test]
    fn a_plan_fits_its_budget_with_any_number_of_systems() {
        for systems in [1, 2, 5, 13, 20] {
            for minutes in [4.5, 30.0, 120.0, 600.0] {
                let mut wish = wish(all_workloads(), systems, Some(minutes));
                if minutes < 5.0 {
                    wish.lowest_level = LEVELS.len() - 1;
                }
                let (plan, left_out) = Plan::fit(&wish);
                assert!(plan.seconds() <= minutes * 60.0, "{systems} systems, {minutes} min");
                assert_eq!(plan.entries.len() + left_out, all_workloads().len());
                assert!(plan.level.rounds >= 3);
            }
        }
    }

    #[test]
    fn more_time_is_used_for_more() {
        let seconds = [10.0, 60.0, 240.0]
            .map(|minutes| Plan::fit(&wish(all_workloads(), 10, Some(minutes))).0.seconds() / 60.0);
        assert!(seconds[0] > 7.0 && seconds[1] > 35.0 && seconds[2] > 100.0, "{seconds:?}");
    }

    #[test]
    fn without_a_budget_nothing_is_left_out_and_nothing_shortened() {
        let (plan, left_out) = Plan::fit(&wish(all_workloads(), 14, None));
        assert_eq!((left_out, plan.level), (0, LEVELS[0]));
    }

    #[test]
    fn what_is_left_out_is_the_last() {
        let (plan, left_out) = Plan::fit(&wish(all_workloads(), 10, Some(20.0)));
        assert!(left_out >= growth_workloads().len(), "{left_out}");
        assert_eq!(plan.entries[0].workload, main_workloads()[0]);
    }

    #[test]
    fn wishes_for_rounds_and_seconds_hold_on_every_level() {
        let mut wish = wish(all_workloads(), 4, Some(10.0));
        wish.rounds = Some(2);
        wish.seconds = Some(0.25);
        let (plan, _) = Plan::fit(&wish);
        assert_eq!((plan.level.rounds, plan.level.seconds), (2, 0.25));
        assert!(plan.seconds() <= 600.0);
    }

    #[test]
    fn a_budget_for_nothing_still_plans_the_first_workload() {
        let (plan, left_out) = Plan::fit(&wish(main_workloads(), 13, Some(0.01)));
        assert_eq!((plan.entries.len(), left_out), (1, main_workloads().len() - 1));
    }

    #[test]
    fn levels_get_cheaper() {
        let cost = |level: &Level| Plan::at(&wish(all_workloads(), 8, None), *level, 5).seconds();
        assert!(LEVELS.windows(2).all(|pair| cost(&pair[0]) > cost(&pair[1])));
    }

    #[test]
    fn a_kept_process_is_warmed_once_a_workload() {
        let (plan, _) = Plan::fit(&wish(main_workloads(), 4, None));
        let entry = &plan.entries[0];
        let virtual_machine = &entry.systems[3];
        assert!(plan.keeps(virtual_machine, &entry.workload));
        assert!(!plan.keeps(&entry.systems[0], &entry.workload));
        let first = plan.round_seconds(entry, virtual_machine, 0);
        assert!(first - plan.round_seconds(entry, virtual_machine, 1) > 29.0);
    }
}
