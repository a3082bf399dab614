//! The results as charts: latency by percentile, throughput over time.

use super::report::Numbers;
use crate::chart::{LineChart, Series, stacked};

/// Percentiles that are named on the axis.
const NAMED: [f64; 7] = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];

/// Both charts, one below the other.
pub fn draw(numbers: &Numbers) -> String {
    stacked(&[latency(numbers).to_svg(), throughput(numbers).to_svg()])
}

/// The last percentiles have as much room as the first: the axis is that of "one in so many".
fn one_in(percentile: f64) -> f64 {
    1.0 / (1.0 - percentile / 100.0)
}

fn latency(numbers: &Numbers) -> LineChart {
    let points: Vec<(f64, f64)> = numbers
        .percentiles
        .iter()
        .filter(|point| point.percentile < 100.0)
        .map(|point| (one_in(point.percentile), point.us))
        .collect();
    let last = points.last().map_or(1.0, |point| point.0);
    let named = NAMED.iter().map(|percentile| (one_in(*percentile), format!("{percentile} %")));
    LineChart {
        title: format!("Latency by percentile: {} {}", numbers.work, numbers.url),
        x_label: "percentile".into(),
        y_label: "microseconds".into(),
        log_x: true,
        log_y: true,
        x_ticks: named.filter(|tick| tick.0 <= last).collect(),
        series: vec![Series { name: "latency".into(), points }],
    }
}

fn throughput(numbers: &Numbers) -> LineChart {
    let mut before = 0.0;
    let points = numbers.series.iter().map(|point| {
        let length = point.seconds - before;
        before = point.seconds;
        (point.seconds, if length > 0.0 { point.operations as f64 / length } else { 0.0 })
    });
    let points = points.collect();
    LineChart {
        title: "Throughput over time".into(),
        x_label: "seconds".into(),
        y_label: "operations a second".into(),
        series: vec![Series { name: "throughput".into(), points }],
        ..LineChart::default()
    }
}
