//! The report as Markdown.

use std::fmt::Write;

use super::charts::{points_of, systems_of};
use super::machine::{FOREIGN_MAX, STEAL_MAX};
use super::plan::show;
use super::prepare::Status;
use super::record::{FILE_NAME, Header, Records};
use super::statistics::Ratio;
use super::summary::{Row, Table};
use super::systems::{Role, is_control};
use super::targets::Verdict;
use super::workload::{Figure, Series};
use crate::units::show_count;

mod targets;

/// Above this a closed loop's throughput is the client's.
const CLIENT_BUSY_MAX: f64 = 0.95;

pub fn report(records: &Records, tables: &[Table], verdicts: &[Verdict]) -> String {
    let mut text = String::from("# Scoreboard\n\n");
    introduction(&mut text, &records.header);
    targets::write(&mut text, verdicts);
    wins_and_losses(&mut text, tables);
    for table in tables.iter().filter(|table| table.workload.growth.is_none()) {
        workload(&mut text, table);
    }
    for series in Series::ALL {
        growth(&mut text, tables, series);
    }
    systems(&mut text, records);
    text
}

fn introduction(text: &mut String, header: &Header) {
    if header.machine.debug_build {
        text.push_str("**A debug build: these figures mean nothing.**\n\n");
    }
    text.push_str("| | |\n|---|---|\n");
    for (name, value) in facts(header) {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    if let Some(name) = &header.backend {
        let _ = writeln!(text, "| behind proxies | {name}, on the client's core |");
    }
    let _ = write!(
        text,
        "\nThe server is charged for its CPU time (`/proc/PID/task/*/schedstat`) an operation, on one core \
         with one thread; the client has the other core and compares every byte. Rounds are interleaved \
         (A B C, C B A, ...), ratios are paired by round, intervals are 95 % of a bootstrap. The control is \
         the baseline measured a second time under another name: where its interval does not hold 1.0, or its \
         median is more than 1.5 % away, the set says less, and the table says so. A round is disturbed where \
         others took more than {:.0} % of the machine or the hypervisor more than {:.0} %. \
         Operations a second compare servers only where the server's core is full and the client's is not. \
         Each system has TCP_NODELAY, and a backlog of at least 1,024. Every number of every round is in \
         [{FILE_NAME}]({FILE_NAME}).\n\n",
        100.0 * FOREIGN_MAX,
        100.0 * STEAL_MAX
    );
}

/// Where the figures come from.
fn facts(header: &Header) -> Vec<(&'static str, String)> {
    let machine = &header.machine;
    let level = &header.plan.level;
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let dirty =
        if header.commit.dirty.is_some() { " with changes that are not committed" } else { "" };
    let memory = machine.memory_kib as f64 / 1_048_576.0;
    let virtual_machine = if machine.hypervisor { ", a virtual machine" } else { "" };
    let cores = |cores: &[usize]| cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    vec![
        ("date", header.date.clone()),
        ("command", format!("`{}`", header.command.replace('|', "\\|"))),
        ("commit", format!("{:.12}{dirty}", header.commit.id)),
        (
            "machine",
            format!("{}, {} cores, {memory:.1} GiB{virtual_machine}", machine.cpu, machine.cores),
        ),
        (
            "kernel",
            format!(
                "Linux {}, governor {}, spectre_v2: {}",
                machine.kernel,
                or_none(&machine.governor),
                or_none(&machine.mitigations)
            ),
        ),
        (
            "network",
            format!(
                "loopback, congestion control {}, somaxconn {}",
                or_none(&machine.congestion_control),
                or_none(&machine.somaxconn)
            ),
        ),
        ("compiler", machine.rustc.clone()),
        (
            "cores",
            format!(
                "server on {}, client on {}",
                cores(&header.server_cores),
                cores(&header.client_cores)
            ),
        ),
        (
            "rounds",
            format!(
                "{} of {} s; points of the series {} of {} s",
                level.rounds, level.seconds, level.growth_rounds, level.growth_seconds
            ),
        ),
        (
            "warm-up",
            format!(
                "at most {} s a process; {} s for those that ask for much",
                level.warmup_max, level.long_warmup_max
            ),
        ),
    ]
}

/// Against each other system: where the interval is on one side of 1.0.
fn wins_and_losses(text: &mut String, tables: &[Table]) {
    text.push_str("## Wins and losses\n\nOf tightloop's best driver in each work. Undecided: the interval holds 1.0.\n\n");
    text.push_str(
        "| work | wins against | loses against | undecided | control |\n|---|---|---|---|---|\n",
    );
    for table in tables.iter().filter(|table| table.workload.growth.is_none()) {
        let Some(own) = table.best(Role::Tightloop) else { continue };
        let mut columns: [Vec<String>; 3] = Default::default();
        for row in table.rows.iter().filter(|row| !is_control(&row.system)) {
            let ratio = row.to_tightloop.iter().find(|(name, _)| *name == own.system);
            let Some((_, ratio)) = ratio else { continue };
            let column = match ratio {
                ratio if ratio.is_above_one() => 0,
                ratio if ratio.is_below_one() => 1,
                _ => 2,
            };
            columns[column].push(format!("{} {:.2}", row.system, 1.0 / ratio.median));
        }
        let [wins, losses, undecided] = columns.map(|names| names.join(", "));
        let (title, control) = (&table.workload.title, control(table));
        let _ = writeln!(text, "| {title} | {wins} | {losses} | {undecided} | {control} |");
    }
    text.push('\n');
}

fn control(table: &Table) -> String {
    match &table.control {
        Some(control) if control.is_good => format!("{:.3}", control.ratio.median),
        Some(control) => format!("{:.3}, says less", control.ratio.median),
        None => "none".to_owned(),
    }
}

fn workload(text: &mut String, table: &Table) {
    let workload = &table.workload;
    let _ = write!(text, "## {}\n\n`{}`", workload.title, workload.name);
    if let Some(offered) = table.offered {
        let offered = show_count(offered as u64);
        let _ = write!(text, ", {offered} operations a second offered");
    }
    let _ = writeln!(text, ". ![chart]({}.svg)\n", workload.name);
    if let Some(control) = &table.control
        && !control.is_good
    {
        let _ = writeln!(
            text,
            "**This set says less**: the control is {}, which is not 1.0.\n",
            interval(&control.ratio)
        );
    }
    let mut drivers: Vec<&str> = table
        .rows
        .iter()
        .filter(|row| row.role == Role::Tightloop && !is_control(&row.system))
        .map(|row| row.system.as_str())
        .collect();
    drivers.sort_unstable();
    head(text, table, &drivers);
    for row in &table.rows {
        line(text, table, row, &drivers);
    }
    for (system, reason) in &table.excluded {
        let _ = writeln!(text, "\n{system} failed: {reason}");
    }
    remarks(text, table);
    text.push('\n');
}

fn head(text: &mut String, table: &Table, drivers: &[&str]) {
    let mut names = vec!["system".to_owned(), table.unit().to_owned(), "least to most".to_owned()];
    names.extend(table.baseline.iter().map(|baseline| format!("/ {baseline}")));
    names.extend(drivers.iter().map(|driver| format!("/ {driver}")));
    if table.workload.figure == Figure::P99 {
        names.push("CPU, ns/op".to_owned());
    }
    if !table.workload.is_idle() {
        let rest = ["calls/op", "op/s", "p50, us", "p99, us", "p99.9, us", "switches/op"];
        names.extend(rest.map(str::to_owned));
        names.push("server, client busy".to_owned());
    }
    names.extend(["RSS, MiB", "rounds"].map(str::to_owned));
    let _ = writeln!(text, "| {} |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(names.len() - 1));
}

fn line(text: &mut String, table: &Table, row: &Row, drivers: &[&str]) {
    let number = |value: Option<f64>, digits: usize| {
        value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let count = |value: f64| {
        if value >= 1_000.0 { show_count(value.round() as u64) } else { format!("{value:.1}") }
    };
    let percent = |share: Option<f64>| {
        share.map_or("-".to_owned(), |share| format!("{:.0} %", 100.0 * share))
    };
    let spread = format!("{} to {}", count(row.least), count(row.most));
    let mut cells = vec![row.system.clone(), count(row.figure), spread];
    if table.baseline.is_some() {
        cells.push(row.to_baseline.as_ref().map_or("1".to_owned(), interval));
    }
    for driver in drivers {
        let ratio = row.to_tightloop.iter().find(|(name, _)| name == driver);
        cells.push(ratio.map_or("1".to_owned(), |(_, ratio)| interval(ratio)));
    }
    if table.workload.figure == Figure::P99 {
        cells.push(row.cpu_ns.map_or("-".to_owned(), count));
    }
    if !table.workload.is_idle() {
        cells.push(number(row.calls, 3));
        cells.push(row.throughput.map_or("-".to_owned(), count));
        cells.extend([row.p50_us, row.p99_us, row.p99_9_us].map(|value| number(value, 0)));
        cells.push(number(row.switches, 4));
        cells.push(format!("{}, {}", percent(row.server_busy), percent(row.client_busy)));
    }
    cells.push(number(row.rss_mib, 1));
    cells.push(match row.disturbed {
        0 => row.rounds.to_string(),
        disturbed => format!("{} ({disturbed} disturbed)", row.rounds),
    });
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn interval(ratio: &Ratio) -> String {
    format!("{:.3} ({:.3} to {:.3})", ratio.median, ratio.low, ratio.high)
}

fn remarks(text: &mut String, table: &Table) {
    let is_closed = table.workload.load_share.is_none() && !table.workload.is_idle();
    let is_full = |row: &&Row| row.client_busy.is_some_and(|busy| busy >= CLIENT_BUSY_MAX);
    let full: Vec<&str> =
        table.rows.iter().filter(is_full).map(|row| row.system.as_str()).collect();
    if is_closed && !full.is_empty() {
        let _ = writeln!(
            text,
            "\nThe client's core was full with {}: there op/s is the client's, CPU time an operation still \
             the server's.",
            full.join(", ")
        );
    }
    let reason = table.rows.iter().find_map(|row| row.calls_reason.as_deref());
    if let Some(reason) = reason {
        let _ = writeln!(text, "\nSystem calls that are not told: {reason}.");
    }
}

fn growth(text: &mut String, tables: &[Table], series: Series) {
    let points = points_of(tables, series);
    if points.is_empty() {
        return;
    }
    let _ = writeln!(text, "## {}\n\n![chart]({}.svg)\n", series.title(), series.name());
    let is_loops = series == Series::Loops;
    let unit = if is_loops { "server CPU, ns/op (op/s)" } else { "server CPU, ns/op" };
    let places =
        points.iter().map(|(at, _)| format!("{} {}", show_count(*at as u64), series.axis()));
    let _ = writeln!(text, "| {unit} | {} |", places.collect::<Vec<_>>().join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(points.len()));
    for system in systems_of(&points) {
        let cell = |table: &Table| match table.row(system) {
            Some(row) if is_loops => {
                let throughput = row.throughput.map_or(0, |value| value as u64);
                format!("{} ({})", show_count(row.figure as u64), show_count(throughput))
            }
            Some(row) => show_count(row.figure as u64),
            None => "-".to_owned(),
        };
        let cells: Vec<String> = points.iter().map(|(_, table)| cell(table)).collect();
        let _ = writeln!(text, "| {system} | {} |", cells.join(" | "));
    }
    if is_loops {
        text.push_str("\nWith two loops, server and client share both cores.\n");
    }
    text.push('\n');
}

fn systems(text: &mut String, records: &Records) {
    text.push_str("## Systems\n\n| system | language | version | note |\n|---|---|---|---|\n");
    let statuses = &records.header.systems;
    for status in statuses.iter().filter(|status| status.missing.is_none()) {
        let Status { name, language, version, note, .. } = status;
        let version = version.as_deref().unwrap_or("not told");
        let _ =
            writeln!(text, "| {name} | {language} | {version} | {} |", note.replace('|', "\\|"));
    }
    let failed: Vec<_> = statuses
        .iter()
        .flat_map(|status| status.failed.iter().map(move |(mode, why)| (&status.name, mode, why)))
        .collect();
    if !failed.is_empty() {
        text.push_str("\n## Failed the check, and not measured\n\n");
        for (name, mode, why) in failed {
            let _ = writeln!(text, "- {name}, {mode}: {why}");
        }
    }
    let missing = statuses.iter().filter_map(|status| Some((status, status.missing.as_ref()?)));
    for (index, (status, why)) in missing.enumerate() {
        if index == 0 {
            text.push_str("\n## Missing on this machine\n\n");
        }
        let _ = writeln!(text, "- {}: {why}", status.name);
    }
    let seconds = show(records.header.plan.seconds());
    let _ = writeln!(text, "\nThe plan took about {seconds}, repeated rounds apart.");
}
