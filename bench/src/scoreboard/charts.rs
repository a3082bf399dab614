//! The charts of a report: a bar chart for each workload, lines for the series.

use super::summary::Table;
use super::systems::is_control;
use super::workload::Series;
use crate::chart::{Bar, BarChart, BarGroup, LineChart, Series as Curve};

/// A file's name and its text.
pub type Chart = (String, String);

pub fn charts(tables: &[Table]) -> Vec<Chart> {
    let workloads = tables.iter().filter(|table| table.workload.growth.is_none());
    let mut charts: Vec<Chart> =
        workloads.filter(|table| !table.rows.is_empty()).map(workload_chart).collect();
    for series in Series::ALL {
        let points: Vec<_> = points_of(tables, series);
        if !points.is_empty() {
            charts.push(growth_chart(series, &points));
        }
    }
    charts
}

/// The tables of a series with the places of their points, in the order of these.
pub fn points_of(tables: &[Table], series: Series) -> Vec<(usize, &Table)> {
    let mut points: Vec<(usize, &Table)> = Vec::new();
    for table in tables {
        if let Some((of, at)) = table.workload.growth
            && of == series
        {
            points.push((at, table));
        }
    }
    points.sort_by_key(|point| point.0);
    points
}

fn workload_chart(table: &Table) -> Chart {
    let bars = table.rows.iter().map(|row| Bar {
        name: row.system.clone(),
        value: row.figure,
        range: (row.rounds > 1).then_some((row.least, row.most)),
    });
    let chart = BarChart {
        title: table.workload.title.clone(),
        x_label: format!("{}; the line is the range over rounds", table.unit()),
        groups: vec![BarGroup { name: String::new(), bars: bars.collect() }],
    };
    (format!("{}.svg", table.workload.name), chart.to_svg())
}

fn growth_chart(series: Series, points: &[(usize, &Table)]) -> Chart {
    if series == Series::Loops {
        return loops_chart(series, points);
    }
    let curves = systems_of(points).into_iter().map(|name| Curve {
        points: points
            .iter()
            .filter_map(|(at, table)| Some((*at as f64, table.row(name)?.figure / 1_000.0)))
            .collect(),
        name: name.to_owned(),
    });
    let chart = LineChart {
        title: series.title().to_owned(),
        x_label: series.axis().to_owned(),
        y_label: "server CPU, us an operation".to_owned(),
        log_x: true,
        log_y: true,
        x_ticks: points.iter().map(|(at, _)| (*at as f64, tick(*at))).collect(),
        series: curves.collect(),
    };
    (format!("{}.svg", series.name()), chart.to_svg())
}

/// Two values are no curve.
fn loops_chart(series: Series, points: &[(usize, &Table)]) -> Chart {
    let groups = points.iter().map(|(at, table)| BarGroup {
        name: if *at == 1 { "1 loop".to_owned() } else { format!("{at} loops") },
        bars: table
            .rows
            .iter()
            .filter(|row| !is_control(&row.system))
            .filter_map(|row| Some((row, row.throughput?)))
            .map(|(row, throughput)| Bar {
                name: row.system.clone(),
                value: throughput,
                range: None,
            })
            .collect(),
    });
    let chart = BarChart {
        title: series.title().to_owned(),
        x_label: "operations a second".to_owned(),
        groups: groups.collect(),
    };
    (format!("{}.svg", series.name()), chart.to_svg())
}

/// In the order in which they first appear; controls are not drawn.
pub fn systems_of<'a>(points: &[(usize, &'a Table)]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for row in points.iter().flat_map(|(_, table)| &table.rows) {
        if !is_control(&row.system) && !names.contains(&row.system.as_str()) {
            names.push(&row.system);
        }
    }
    names.sort_unstable();
    names
}

fn tick(at: usize) -> String {
    match at {
        at if at >= 1 << 20 && at.is_multiple_of(1 << 20) => format!("{} Mi", at >> 20),
        at if at >= 1 << 10 && at.is_multiple_of(1 << 10) => format!("{} Ki", at >> 10),
        at if at >= 1_000 => format!("{}k", at / 1_000),
        at => at.to_string(),
    }
}
