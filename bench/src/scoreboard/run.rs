//! Carries out a plan: workload after workload, the systems of each in turn, forwards in one round
//! and backwards in the next, so that what changes slowly on the machine hits all alike.

use std::collections::HashMap;
use std::time::Instant;

use super::calls;
use super::launch::Launcher;
use super::machine::Noise;
use super::measure::{Client, Dose, Measured};
use super::plan::{Entry, KEPT_WARMUP_SECONDS, Participant, Plan};
use super::process;
use super::progress::Progress;
use super::record::{Calls, FAILURES_MAX, Failure, Journal, Records, Round};
use super::server::RunningServer;
use super::statistics::median;
use super::systems::{System, original_of};
use super::workload::{REFERENCE, Workload};

/// Two ways to give all cores to both sides.
const SHARED_FROM: usize = 2;

/// Whether a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Complete,
    /// The time of the budget was over first.
    OutOfTime,
    Interrupted,
}

pub struct Runner<'a> {
    pub systems: &'a [System],
    pub client: &'a Client,
    pub launcher: &'a Launcher<'a>,
    pub server_cores: &'a [usize],
    pub deadline: Option<Instant>,
    /// How often a round that others disturb is measured again.
    pub repeats: usize,
}

/// Servers that live over the rounds of a workload, by system.
type Kept = HashMap<String, RunningServer>;

impl Runner<'_> {
    pub fn run(&self, journal: &mut Journal, progress: &mut Progress) -> Result<Outcome, String> {
        let plan = journal.records.header.plan.clone();
        for entry in &plan.entries {
            let rate = match offered_rate(&journal.records, &entry.workload) {
                Ok(rate) => rate,
                Err(reason) => {
                    progress.say(&format!("{}: left out, {reason}", entry.workload.name));
                    continue;
                }
            };
            let mut kept = Kept::new();
            for round in 0..plan.rounds(&entry.workload) {
                let turn = Turn { plan: &plan, entry, round, rate };
                if let Some(outcome) = self.round(&turn, &mut kept, journal, progress)? {
                    return Ok(outcome);
                }
            }
            drop(kept);
            if plan.counts_calls(&entry.workload) {
                let turn = Turn { plan: &plan, entry, round: 0, rate };
                if let Some(outcome) = self.count_calls(&turn, journal, progress)? {
                    return Ok(outcome);
                }
            }
        }
        Ok(Outcome::Complete)
    }

    /// The outcome is that of the whole run, if this was the end of it.
    fn round(
        &self,
        turn: &Turn<'_>,
        kept: &mut Kept,
        journal: &mut Journal,
        progress: &mut Progress,
    ) -> Result<Option<Outcome>, String> {
        let mut order: Vec<&Participant> = turn.entry.systems.iter().collect();
        if turn.round % 2 == 1 {
            order.reverse();
        }
        for participant in order {
            let (workload, name) = (&turn.entry.workload.name, &participant.name);
            let planned = turn.plan.round_seconds(turn.entry, participant, turn.round);
            let is_done = journal.records.has_round(workload, name, turn.round)
                || journal.records.exclusion(workload, name).is_some();
            if !is_done {
                if let Some(outcome) = self.must_end(planned) {
                    return Ok(Some(outcome));
                }
                progress.begin(workload, turn.round, turn.plan.rounds(&turn.entry.workload), name);
                self.attempts(turn, participant, kept, journal, progress)?;
                if process::interrupted() {
                    return Ok(Some(Outcome::Interrupted));
                }
            }
            progress.done(planned, !is_done);
        }
        Ok(None)
    }

    /// Whether to end before something that takes so long.
    fn must_end(&self, seconds: f64) -> Option<Outcome> {
        if process::interrupted() {
            return Some(Outcome::Interrupted);
        }
        let left = self.deadline?.saturating_duration_since(Instant::now()).as_secs_f64();
        (left < seconds).then_some(Outcome::OutOfTime)
    }

    fn attempts(
        &self,
        turn: &Turn<'_>,
        participant: &Participant,
        kept: &mut Kept,
        journal: &mut Journal,
        progress: &mut Progress,
    ) -> Result<(), String> {
        let (workload, system) = (&turn.entry.workload.name, &participant.name);
        let attempts_max = (self.repeats + 1).max(FAILURES_MAX);
        let mut failures = 0;
        for attempt in 1..=attempts_max {
            let measured = self.measure(turn, participant, kept);
            if process::interrupted() {
                return Ok(());
            }
            match measured {
                Ok(measured) => {
                    let Measured { load, noise, rss_kib_at_start } = measured;
                    let (workload, system) = (workload.clone(), system.clone());
                    let round = turn.round;
                    let round =
                        Round { workload, system, round, attempt, noise, rss_kib_at_start, load };
                    journal.add_round(round)?;
                    let again = attempt <= self.repeats
                        && self.has_time_to_repeat(turn, participant, progress);
                    if noise.is_too_much() {
                        progress.say_quietly(&disturbed(turn, participant, noise, again));
                    }
                    if !noise.is_too_much() || !again {
                        return Ok(());
                    }
                }
                Err(reason) => {
                    kept.remove(system);
                    progress.say(&format!("{workload}, {system}: {reason}"));
                    let (workload, system) = (workload.clone(), system.clone());
                    journal.add_failure(Failure { workload, system, round: turn.round, reason })?;
                    failures += 1;
                    if failures == FAILURES_MAX {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Rounds are repeated only in time that the rest of the plan does not need.
    fn has_time_to_repeat(
        &self,
        turn: &Turn<'_>,
        participant: &Participant,
        progress: &Progress,
    ) -> bool {
        let Some(deadline) = self.deadline else { return true };
        let left = deadline.saturating_duration_since(Instant::now()).as_secs_f64();
        let again = turn.plan.round_seconds(turn.entry, participant, turn.round);
        progress.seconds_left() + again < left
    }

    fn measure(
        &self,
        turn: &Turn<'_>,
        participant: &Participant,
        kept: &mut Kept,
    ) -> Result<Measured, String> {
        let (workload, plan) = (&turn.entry.workload, turn.plan);
        let (server_cores, client_cores) = self.cores(workload);
        let mut warmup_seconds = plan.warmup_seconds(participant, workload);
        let mut server = match kept.remove(&participant.name) {
            Some(server) => {
                warmup_seconds = KEPT_WARMUP_SECONDS;
                server
            }
            None => self.start(participant, workload, &server_cores)?,
        };
        let dose = Dose {
            workload,
            seconds: plan.measured_seconds(workload),
            warmup_seconds,
            rate: turn.rate,
        };
        let measured = self.client.measure(&mut server, &dose, &client_cores)?;
        server.check_alive()?;
        if plan.keeps(participant, workload) {
            kept.insert(participant.name.clone(), server);
        }
        Ok(measured)
    }

    fn start(
        &self,
        participant: &Participant,
        workload: &Workload,
        cores: &[usize],
    ) -> Result<RunningServer, String> {
        let original = original_of(&participant.name);
        let system = self.systems.iter().find(|system| system.name == original);
        let system = system.ok_or_else(|| format!("there is no system {original}"))?;
        self.launcher.start(system, workload.mode, workload.threads, cores)
    }

    /// The server's and the client's: one each; where a server has several threads, both have all.
    fn cores(&self, workload: &Workload) -> (Vec<usize>, Vec<usize>) {
        if workload.threads < SHARED_FROM {
            return (self.server_cores.to_vec(), self.client.cores.clone());
        }
        let all = [self.server_cores, &self.client.cores].concat();
        (all.clone(), all)
    }

    fn count_calls(
        &self,
        turn: &Turn<'_>,
        journal: &mut Journal,
        progress: &mut Progress,
    ) -> Result<Option<Outcome>, String> {
        let workload = &turn.entry.workload;
        for participant in &turn.entry.systems {
            let planned = turn.plan.calls_seconds(turn.entry, participant);
            let name = &participant.name;
            let is_done = journal.records.calls_of(&workload.name, name).is_some()
                || journal.records.exclusion(&workload.name, name).is_some();
            if !is_done {
                if let Some(outcome) = self.must_end(planned) {
                    return Ok(Some(outcome));
                }
                progress.begin_calls(&workload.name, name);
                let (server_cores, client_cores) = self.cores(workload);
                let dose = Dose { workload, seconds: 0.0, warmup_seconds: 0.0, rate: turn.rate };
                let counted = self
                    .start(participant, workload, &server_cores)
                    .and_then(|server| calls::count(self.client, &server, &dose, &client_cores));
                if process::interrupted() {
                    return Ok(Some(Outcome::Interrupted));
                }
                journal.add_calls(Calls {
                    workload: workload.name.clone(),
                    system: name.clone(),
                    per_operation: counted.as_ref().ok().copied(),
                    reason: counted.err(),
                })?;
            }
            progress.done(planned, !is_done);
        }
        Ok(None)
    }
}

struct Turn<'a> {
    plan: &'a Plan,
    entry: &'a Entry,
    round: usize,
    rate: Option<f64>,
}

fn disturbed(turn: &Turn<'_>, participant: &Participant, noise: Noise, again: bool) -> String {
    format!(
        "{}, round {}, {}: disturbed (steal {:.1} %, others {:.1} %){}",
        turn.entry.workload.name,
        turn.round + 1,
        participant.name,
        100.0 * noise.steal,
        100.0 * noise.foreign,
        if again { ", once more" } else { "" }
    )
}

/// For an open loop, the share of what the slowest system did in the reference workload.
pub fn offered_rate(records: &Records, workload: &Workload) -> Result<Option<f64>, &'static str> {
    let Some(share) = workload.load_share else { return Ok(None) };
    let reference = records.header.plan.entries.iter().find(|e| e.workload.name == REFERENCE);
    let reference = reference.ok_or("the reference workload is not in the plan")?;
    let throughput = |participant: &Participant| {
        let rounds = records.rounds_of(REFERENCE, &participant.name);
        median(&rounds.iter().filter_map(|round| round.load.throughput).collect::<Vec<_>>())
    };
    let slowest = reference.systems.iter().filter_map(throughput).min_by(f64::total_cmp);
    let slowest = slowest.ok_or("the reference workload was not measured")?;
    Ok(Some((share * slowest).max(1.0)))
}
