//! The command `scoreboard`: tightloop and its peers, measured on this machine by one method.
//!
//! ```text
//!  options -> systems -> prepare (build, version, check) -> plan -> run -> summary -> report
//!                                                             |      |        ^
//!                                                             +--> record ----+   raw.jsonl
//! ```
//!
//! `run` starts a server (`server`, `process`), has `measure` put load on it, and writes down what
//! came of it (`record`). Everything behind that file is computed from it alone, so that a report
//! can be made again, and a run that was interrupted goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

mod calls;
mod charts;
mod check;
mod choice;
mod machine;
mod markdown;
mod measure;
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

use machine::{Commit, Machine};
use measure::Client;
use plan::{LEVELS, LOWEST_OF_FULL_RUNS, Plan, Wish};
use prepare::{BuildPolicy, Preparation, Status};
use progress::Progress;
use record::{Journal, Records, Setting};
use run::{Outcome, Runner};
use systems::System;

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(after_help = "Report, raw figures and charts are written to DIR: scoreboard.md, \
    scoreboard.json, raw.jsonl, *.svg. An interrupted run goes on with the same command.")]
pub struct Options {
    /// Only this work (repeatable): a name of --list, or main, growth, growth-connections,
    /// growth-size, growth-loops
    #[arg(long, value_name = "NAME")]
    work: Vec<String>,

    /// Only this system (repeatable): a name of --list, or tightloop for all its drivers
    #[arg(long, value_name = "NAME")]
    system: Vec<String>,

    /// End within five minutes, with fewer workloads, rounds and seconds
    #[arg(long, conflicts_with = "minutes")]
    quick: bool,

    /// Plan so much that it fits into this time
    #[arg(long, value_name = "N", value_parser = positive)]
    minutes: Option<f64>,

    /// Rounds of each system in each work [default: 10, or what fits]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// How long each round is measured [default: 5, or what fits]
    #[arg(long, value_name = "S", value_parser = positive)]
    seconds: Option<f64>,

    /// Let systems that warm up for more than 5 s live through all rounds of a work (with --quick
    /// always)
    #[arg(long)]
    keep_processes: bool,

    /// Do not count system calls
    #[arg(long)]
    no_calls: bool,

    /// Build all systems, also those that are built already
    #[arg(long)]
    build: bool,

    /// Forget the run of which there are figures in DIR
    #[arg(long)]
    restart: bool,

    /// Measure nothing: make the report anew from the figures in DIR
    #[arg(long)]
    report_only: bool,

    /// Show what could be measured, and measure nothing
    #[arg(long)]
    list: bool,

    /// Show no progress
    #[arg(long)]
    quiet: bool,

    /// Where to write [default: docs/performance; with --quick target/scoreboard]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Where peers.json is [default: bench/peers, here or above]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,

    /// The server's core [default: the first that may be used]
    #[arg(long, value_name = "N")]
    server_core: Option<usize>,

    /// The client's core [default: the next one]
    #[arg(long, value_name = "N")]
    client_core: Option<usize>,

    /// What to run in place of this program for `load`: for tests
    #[arg(long, value_name = "PROGRAM", hide = true)]
    load_program: Option<PathBuf>,
}

/// A quick run promises five minutes; what is left of them is for the report.
const QUICK: Duration = Duration::from_secs(285);
/// What builds may take of a quick run.
const QUICK_BUILDS: Duration = Duration::from_secs(60);
/// The report of a run with a budget.
const REPORT_SECONDS: f64 = 5.0;
/// Of a preparation: starting and checking a system in all its modes.
const CHECK_SECONDS: f64 = 2.0;
/// Of others, before anything runs: the machine is not quiet.
const LOAD_AVERAGE_MAX: f64 = 0.5;
const INTERRUPTED: u8 = 130;

fn positive(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    let number = number.filter(|number| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "must be a number above 0".to_owned())
}

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
    println!("work:");
    for workload in workload::all_workloads() {
        println!("  {:<26}{}", workload.name, workload.title);
    }
    println!("systems:");
    for system in systems {
        let modes: Vec<String> = system.modes.iter().map(ToString::to_string).collect();
        let state = if system.is_built() { "" } else { ", not built" };
        println!("  {:<26}{} ({}{state})", system.name, system.language, modes.join(", "));
    }
    if let Some(problem) = problem {
        println!("no peers: {problem}");
    }
    Ok(())
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
    let systems = choice::systems(systems, &options.system)?;
    let workloads = choice::workloads(&options.work, options.quick)?;
    let modes = choice::modes_of(&workloads);
    let preparation = Preparation {
        policy: BuildPolicy {
            always: options.build,
            deadline: options.quick.then(|| started + QUICK_BUILDS),
        },
        logs: &logs,
        server_cores: &[server_core],
        modes: &modes,
    };
    let statuses = prepare(options, &preparation, &systems)?;
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
        plan,
    };
    // A quick run is not worth going on with: it would be quicker done again.
    let mut journal = Journal::open(&out, setting, options.restart || options.quick)?;
    let mut progress = Progress::new(journal.records.header.plan.seconds(), options.quiet);
    let client =
        Client { program: load_program(options)?, cores: vec![client_core], logs: logs.clone() };
    let time_limit = options.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let time_limit = if options.quick { Some(QUICK) } else { time_limit };
    let runner = Runner {
        systems: &systems,
        client: &client,
        server_cores: &[server_core],
        logs,
        deadline: time_limit.map(|limit| started + limit),
    };
    let outcome = runner.run(&mut journal, &mut progress)?;
    progress.end();
    end(options, outcome, &journal.records, &out)
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

fn prepare(
    options: &Options,
    preparation: &Preparation<'_>,
    systems: &[System],
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
            tell(&format!("{}: checked, {}", status.name, terminal::version(&status)));
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

fn choose_cores(options: &Options) -> Result<(usize, usize), String> {
    let cores = machine::cores();
    if cores.len() < 2 {
        return Err(format!(
            "the server needs one core and the client another, and this process may use {}",
            cores.len()
        ));
    }
    let server = options.server_core.unwrap_or_else(|| {
        let is_free = |core: &&usize| Some(**core) != options.client_core;
        cores.iter().find(is_free).copied().unwrap_or(cores[0])
    });
    let client = options
        .client_core
        .unwrap_or_else(|| cores.iter().find(|core| **core != server).copied().unwrap_or(cores[1]));
    for core in [server, client] {
        if !cores.contains(&core) {
            return Err(format!("there is no core {core} to be used, only {cores:?}"));
        }
    }
    if server == client {
        return Err("the server and the client need a core each".to_owned());
    }
    Ok((server, client))
}

fn warn_of_noise() {
    if cfg!(debug_assertions) {
        eprintln!("warning: a debug build; its figures mean nothing (build with --release)");
    }
    if let Some(load) = machine::load_average()
        && load > LOAD_AVERAGE_MAX
    {
        eprintln!(
            "warning: others use this machine (load average {load:.1}); rounds that they disturb \
             are marked and repeated"
        );
    }
}

/// All systems; without a list of peers only tightloop, and why.
fn known_systems(options: &Options) -> Result<(Vec<System>, Option<String>), String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let own = own.with_file_name("tightloop-system");
    let peers = options.peers.clone().or_else(|| find_above(Path::new("bench/peers/peers.json")));
    match peers {
        Some(peers) => {
            let peers = peers.canonicalize().unwrap_or(peers);
            Ok((systems::all_systems(&peers, &own)?, None))
        }
        None => {
            let problem = "no bench/peers/peers.json here or above; give --peers".to_owned();
            Ok((systems::tightloop_systems(&own), Some(problem)))
        }
    }
}

/// The directory of a file that is here or in a directory above.
fn find_above(file: &Path) -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let found = here.ancestors().map(|up| up.join(file)).find(|path| path.is_file())?;
    found.parent().map(Path::to_owned)
}

fn out_directory(options: &Options) -> PathBuf {
    let default = if options.quick { "target/scoreboard" } else { "docs/performance" };
    options.out.clone().unwrap_or_else(|| PathBuf::from(default))
}

/// Beside the program, among other build products: logs are of no use to anybody else.
fn logs_directory() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let logs = own.with_file_name("scoreboard-logs").join(std::process::id().to_string());
    fs::create_dir_all(&logs)
        .map_err(|error| format!("{} cannot be made: {error}", logs.display()))?;
    Ok(logs)
}

fn load_program(options: &Options) -> Result<PathBuf, String> {
    match &options.load_program {
        Some(program) => Ok(program.clone()),
        None => std::env::current_exe().map_err(|error| error.to_string()),
    }
}

/// The command as it can be given again: the program by its name alone.
fn command_line() -> String {
    let arguments = std::env::args().skip(1);
    std::iter::once("tightloop-bench".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
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
    print!("{}", terminal::summary(&tables, &verdicts));
    println!("written to {}", out.display());
    Ok(())
}
