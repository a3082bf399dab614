//! The command `load`: puts load on a server and tells what it did.
//!
//! ```text
//!   options --> plan --> control -----------------------------> report --> table, JSON, SVG
//!                          | phases, by jobs on the loops           ^
//!                          v                                        |
//!            event loops: requests | datagrams | broadcast -- meter-+
//!                          |
//!                          +-- protocol: echo | http | resp, which writes requests and checks replies
//! ```
//!
//! The main thread says when a phase begins (opening, preparing, warm-up, the measured window,
//! draining), looks at the server and draws the progress. Everything else happens on the event
//! loops of a tightloop client.

use std::process::ExitCode;
use std::sync::Arc;

mod broadcast;
mod clock;
mod control;
mod datagrams;
mod dialer;
mod drawing;
mod faults;
mod flow;
mod limits;
mod meter;
mod options;
mod pacer;
mod payload;
mod plan;
mod progress;
mod protocol;
mod report;
mod requests;
mod sample;
mod schedule;
mod security;
mod shared;
mod table;
mod target;

pub use options::Options;
pub use sample::{Sample, sample};

use crate::output::show;
use plan::Plan;
use report::Report;

/// What was asked for makes no sense, or cannot be had on this machine.
const EXIT_USAGE: u8 = 2;

/// Runs the command.
pub fn run(options: Options) -> ExitCode {
    let plan = match Plan::new(options).map(Arc::new) {
        Ok(plan) => plan,
        Err(reason) => return usage(&reason),
    };
    let report = match control::run(&plan) {
        Ok(report) => report,
        Err(control::Failure::Usage(reason)) => return usage(&reason),
        Err(control::Failure::Load(reason)) => {
            eprintln!("error: {reason}");
            return ExitCode::FAILURE;
        }
    };
    match publish(&plan, &report) {
        Ok(()) if report.is_success() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn usage(reason: &str) -> ExitCode {
    eprintln!("error: {reason}\n\nFor more information, try '--help'.");
    ExitCode::from(EXIT_USAGE)
}

/// Shows the report and writes the files that were asked for.
fn publish(plan: &Plan, report: &Report) -> Result<(), String> {
    let is_json_shown = plan.json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    for line in &report.notes {
        eprintln!("{line}");
    }
    if !plan.quiet && !is_json_shown {
        show(&table::render(report))?;
    }
    if let Some(path) = &plan.json {
        let mut text = serde_json::to_string_pretty(&report.numbers)
            .map_err(|error| format!("the numbers as JSON: {error}"))?;
        text.push('\n');
        if is_json_shown {
            show(&text)?;
        } else {
            write(path, &text)?;
        }
    }
    if let Some(path) = &plan.svg {
        write(path, &drawing::draw(&report.numbers))?;
    }
    Ok(())
}

fn write(path: &std::path::Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
