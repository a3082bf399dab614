//! The command `scoreboard`: tightloop and its peers, measured on this machine by one method.
//!
//! ```text
//!  options -> systems -> prepare (build, version, check) -> plan -> run -> summary -> report
//!                                                             |      |        ^
//!                                                             +--> record ----+   raw.jsonl
//! ```
//!
//! `run` starts a server (`launch`, `server`, `process`), has `measure` put load on it, by a client
//! of others too (`foreign`), and writes down what came of it (`record`). Everything behind that file is computed from it alone, so that a report
//! can be made again, and a run that was interrupted goes on.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

mod calls;
mod charts;
mod check;
mod choice;
mod foreign;
mod goal;
mod launch;
mod machine;
mod markdown;
mod measure;
mod options;
mod places;
mod plan;
mod prepare;
mod process;
mod progress;
mod record;
mod run;
mod server;
mod statistics;
mod summary;
mod systems;
mod targets;
mod terminal;
mod workload;

use crate::output::show;
use launch::Launcher;
use machine::{Commit, Machine};
use measure::Client;
use places::{
    choose_cores, command_line, known_systems, load_program, logs_directory, out_directory,
    warn_of_noise,
};
use plan::{LEVELS, LOWEST_OF_FULL_RUNS, Plan, Wish};
use prepare::{BuildPolicy, Preparation, Status};
use progress::Progress;
use record::{Journal, Records, Setting};
use run::{Outcome, Runner};
use systems::{Role, System};
use workload::Mode;

pub use options::Options;

/// A quick run promises five minutes; what is left of them is for the report.
const QUICK: Duration = Duration::from_secs(285);
/// What builds may take of a quick run.
const QUICK_BUILDS: Duration = Duration::from_secs(60);
/// What builds and checks together may take of it.
const QUICK_PREPARATION: Duration = Duration::from_secs(100);
/// The report of a run with a budget.
const REPORT_SECONDS: f64 = 5.0;
/// Of a preparation: starting and checking a system in all its modes.
const CHECK_SECONDS: f64 = 2.0;
const INTERRUPTED: u8 = 130;

/// Runs the command.
pub fn run(options: Options) -> ExitCode {
    let result = match (options.list, options.report_only) {
        (true, _) => list(&options).map(|()| ExitCode::SUCCESS),
        (_, true) => report_only(&options).map(|()| ExitCode::SUCCESS),
        _ => measure_all(&options),
    };
    match result {
        Ok(code) => code,
        Err(_) if process::interrupted() => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list(options: &Options) -> Result<(), String> {
    let (systems, problem) = known_systems(options)?;
    let mut text = String::from("work:\n");
    for workload in workload::all_workloads() {
        text += &format!("  {:<26}{}\n", workload.name, workload.title);
    }
    text += "systems:\n";
    for system in systems {
        let modes: Vec<String> = system.modes.iter().map(ToString::to_string).collect();
        let state = if system.is_built() { "" } else { ", not built" };
        let (name, language, modes) = (&system.name, &system.language, modes.join(", "));
        text += &format!("  {name:<26}{language} ({modes}{state})\n");
    }
    if let Some(problem) = problem {
        text += &format!("no peers: {problem}\n");
    }
    show(&text)
}

fn report_only(options: &Options) -> Result<(), String> {
    let out = out_directory(options);
    let records = Records::read(&out.join(record::FILE_NAME))?;
    write_report(&records, &out)
}

fn measure_all(options: &Options) -> Result<ExitCode, String> {
    let started = Instant::now();
    let (server_core, client_core) = choose_cores(options)?;
    warn_of_noise();
    process::end_children_on_signals()
        .map_err(|error| format!("signals cannot be handled: {error}"))?;
    let out = out_directory(options);
    let logs = logs_directory()?;
    fs::create_dir_all(&out)
        .map_err(|error| format!("{} cannot be made: {error}", out.display()))?;
    let (systems, problem) = known_systems(options)?;
    if let Some(problem) = problem {
        eprintln!("warning: only tightloop is measured: {problem}");
    }
    let workloads = choice::workloads(&options.work, options.quick)?;
    let modes = choice::modes_of(&workloads);
    let backend = backend_of(&systems)?;
    let systems = choice::systems(systems, &options.system, &modes)?;
    let launcher = Launcher { logs: &logs, backend: &backend, backend_cores: &[client_core] };
    let preparation = Preparation {
        policy: BuildPolicy {
            always: options.build,
            deadline: options.quick.then(|| started + QUICK_BUILDS),
        },
        deadline: options.quick.then(|| started + QUICK_PREPARATION),
        logs: &logs,
        launcher: &launcher,
        server_cores: &[server_core],
        modes: &modes,
    };
    let clients = choice::clients_of(&workloads);
    let statuses = prepare(options, &preparation, systems.iter().chain(&clients))?;
    let wish = Wish {
        entries: choice::entries(&workloads, &systems, &statuses),
        rounds: options.rounds.map(|rounds| rounds as usize),
        seconds: options.seconds,
        calls: !options.no_calls,
        keep_processes: options.keep_processes || options.quick,
        budget_seconds: budget_seconds(options, started, systems.len()),
        lowest_level: if options.quick { LEVELS.len() - 1 } else { LOWEST_OF_FULL_RUNS },
    };
    if wish.entries.is_empty() {
        return Err("no system could be measured in any of this work".to_owned());
    }
    let (plan, left_out) = Plan::fit(&wish);
    if !options.quiet {
        eprint!("{}", terminal::plan(&plan, &wish, left_out));
    }
    let setting = Setting {
        command: command_line(),
        commit: Commit::read(),
        machine: Machine::read(),
        server_cores: vec![server_core],
        client_cores: vec![client_core],
        systems: statuses,
        backend: modes.contains(&Mode::Proxy).then(|| backend.name.clone()),
        plan,
    };
    carry_out(options, &systems, setting, &launcher, &out, started)
}

/// What stands behind proxies: the first floor, or tightloop where that is not built.
fn backend_of(systems: &[System]) -> Result<System, String> {
    let echoes = |system: &&System| system.modes.contains(&Mode::Echo) && system.is_built();
    let floor = systems.iter().filter(echoes).find(|system| system.role == Role::Floor);
    let own = || systems.iter().find(|system| system.role == Role::Tightloop);
    floor.or_else(own).cloned().ok_or_else(|| "there is no system at all".to_owned())
}

/// Measures what the plan of `setting` says, on the server's and the client's cores.
fn carry_out(
    options: &Options,
    systems: &[System],
    setting: Setting,
    launcher: &Launcher<'_>,
    out: &Path,
    started: Instant,
) -> Result<ExitCode, String> {
    // A quick run is not worth going on with: it would be quicker done again.
    let (server_cores, client_cores) = (setting.server_cores.clone(), setting.client_cores.clone());
    let mut journal = Journal::open(out, setting, options.restart || options.quick)?;
    let mut progress = Progress::new(journal.records.header.plan.seconds(), options.quiet);
    let time_limit = options.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let time_limit = if options.quick { Some(QUICK) } else { time_limit };
    let deadline = time_limit.map(|limit| started + limit);
    let client = Client {
        program: load_program(options)?,
        cores: client_cores,
        logs: launcher.logs.to_owned(),
        deadline,
    };
    let runner = Runner {
        systems,
        client: &client,
        launcher,
        server_cores: &server_cores,
        deadline,
        repeats: options.repeats as usize,
    };
    let outcome = runner.run(&mut journal, &mut progress)?;
    progress.end();
    end(options, outcome, &journal.records, out)
}

fn end(
    options: &Options,
    outcome: Outcome,
    records: &Records,
    out: &Path,
) -> Result<ExitCode, String> {
    match outcome {
        Outcome::Interrupted => {
            eprintln!("interrupted; the same command goes on from here");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        Outcome::OutOfTime if options.quick => eprintln!("the time was over before the plan"),
        Outcome::OutOfTime => {
            eprintln!("the time was over before the plan; the same command goes on from here");
        }
        Outcome::Complete => {}
    }
    write_report(records, out)?;
    Ok(ExitCode::SUCCESS)
}

fn prepare<'a>(
    options: &Options,
    preparation: &Preparation<'_>,
    systems: impl Iterator<Item = &'a System>,
) -> Result<Vec<Status>, String> {
    let tell = |line: &str| {
        if !options.quiet {
            eprintln!("{line}");
        }
    };
    let mut statuses = Vec::new();
    for system in systems {
        let status = preparation.prepare(system, &tell)?;
        if let Some(why) = &status.missing {
            eprintln!("{}: missing: {why}", status.name);
        }
        for (mode, why) in &status.failed {
            eprintln!("{}: failed the check of {mode}: {why}", status.name);
        }
        if status.missing.is_none() && status.failed.is_empty() {
            let checked = if system.role == Role::Client { "is there" } else { "checked" };
            tell(&format!("{}: {checked}, {}", status.name, terminal::version(&status)));
        }
        statuses.push(status);
    }
    Ok(statuses)
}

/// A quick run has what is left of its time. For others it must not depend on how long anything
/// took: the same command has to come to the same plan.
fn budget_seconds(options: &Options, started: Instant, systems: usize) -> Option<f64> {
    if options.quick {
        let left = (started + QUICK).saturating_duration_since(Instant::now());
        return Some(left.as_secs_f64());
    }
    let minutes = options.minutes?;
    Some((minutes * 60.0 - CHECK_SECONDS * systems as f64 - REPORT_SECONDS).max(0.0))
}

fn write_report(records: &Records, out: &Path) -> Result<(), String> {
    let tables = summary::tables(records);
    let verdicts = targets::verdicts(&tables);
    let write = |name: &str, text: &str| {
        let path = out.join(name);
        fs::write(&path, text)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))
    };
    write("scoreboard.md", &markdown::report(records, &tables, &verdicts))?;
    let whole = serde_json::json!({
        "header": records.header,
        "tables": tables,
        "targets": verdicts,
        "rounds": records.rounds,
        "calls": records.calls,
        "failures": records.failures,
    });
    let whole = serde_json::to_string_pretty(&whole).map_err(|error| error.to_string())?;
    write("scoreboard.json", &(whole + "\n"))?;
    for (name, svg) in charts::charts(&tables) {
        write(&name, &svg)?;
    }
    let summary = terminal::summary(&tables, &verdicts);
    show(&format!("{summary}written to {}\n", out.display()))
}
