//! [`LineChart`]: one curve a series over two axes.

use std::fmt::Write;

use super::scale::Scale;
use super::{CHARACTER_WIDTH, COLOURS, Svg, WIDTH};

const LEFT: f64 = 70.0;
const RIGHT: f64 = 24.0;
const PLOT_HEIGHT: f64 = 260.0;

/// Curves over two axes. Fields that are not needed come from `..LineChart::default()`.
#[derive(Debug, Clone, Default)]
pub struct LineChart {
    /// Above the chart.
    pub title: String,
    /// Below the horizontal axis, with the unit.
    pub x_label: String,
    /// Beside the vertical axis, with the unit.
    pub y_label: String,
    /// Whether the horizontal axis is logarithmic; points that are not positive are then left out.
    pub log_x: bool,
    /// Whether the vertical axis is logarithmic; points that are not positive are then left out.
    pub log_y: bool,
    /// Ticks of the horizontal axis, with their names; none: round numbers.
    pub x_ticks: Vec<(f64, String)>,
    /// The curves.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// In the order in which they are joined.
    pub points: Vec<(f64, f64)>,
}

impl LineChart {
    /// The chart as an SVG document.
    pub fn to_svg(&self) -> String {
        // The legend's height is known only when it is laid out.
        let mut probe = Svg { text: String::new() };
        let has_legend = self.series.len() > 1;
        let names = || self.series.iter().map(|series| series.name.as_str());
        let legend = if has_legend { probe.legend(16.0, 0.0, names()) } else { 0.0 };
        let top = 46.0 + legend;
        let bottom = top + PLOT_HEIGHT;
        let mut svg = Svg::new(WIDTH, bottom + 52.0, &self.title);
        if has_legend {
            svg.legend(16.0, 50.0, names());
        }
        let all = || self.series.iter().flat_map(|series| &series.points);
        let x = Scale::tight(all().map(|point| point.0), self.log_x, (LEFT, WIDTH - RIGHT));
        let y = Scale::new(all().map(|point| point.1), self.log_y, (bottom, top));
        self.axes(&mut svg, &x, &y, top, bottom);
        for (index, series) in self.series.iter().enumerate() {
            curve(&mut svg, index, series, &x, &y);
        }
        svg.finish()
    }

    fn axes(&self, svg: &mut Svg, x: &Scale, y: &Scale, top: f64, bottom: f64) {
        for (value, name) in y.ticks() {
            let Some(place) = y.place(value) else { continue };
            svg.line("grid", (LEFT, place), (WIDTH - RIGHT, place));
            svg.text("faint", (LEFT - 8.0, place + 4.0), "end", &name);
        }
        let ticks = if self.x_ticks.is_empty() { x.ticks() } else { self.x_ticks.clone() };
        let mut free_from = 0.0;
        for (value, name) in ticks {
            let Some(place) = x.place(value) else { continue };
            svg.line("axis", (place, bottom), (place, bottom + 4.0));
            let half = name.chars().count() as f64 * CHARACTER_WIDTH / 2.0;
            if place - half >= free_from {
                svg.text("faint", (place, bottom + 18.0), "middle", &name);
                free_from = place + half + 6.0;
            }
        }
        svg.line("axis", (LEFT, bottom), (WIDTH - RIGHT, bottom));
        svg.text("ink", ((LEFT + WIDTH - RIGHT) / 2.0, bottom + 40.0), "middle", &self.x_label);
        svg.upright_text("ink", (18.0, (top + bottom) / 2.0), &self.y_label);
    }
}

fn curve(svg: &mut Svg, index: usize, series: &Series, x: &Scale, y: &Scale) {
    let places: Vec<(f64, f64)> = series
        .points
        .iter()
        .filter_map(|point| Some((x.place(point.0)?, y.place(point.1)?)))
        .collect();
    let colour = index % COLOURS.len();
    if let [(x, y)] = places[..] {
        svg.rect(&format!("f{colour}"), (x - 3.0, y - 3.0), 6.0, 6.0);
        return;
    }
    let dash = if index < COLOURS.len() { "" } else { " stroke-dasharray=\"6 4\"" };
    let _ = write!(svg.text, "<polyline class=\"curve s{colour}\"{dash} points=\"");
    for (x, y) in places {
        let _ = write!(svg.text, "{x:.1},{y:.1} ");
    }
    svg.text.push_str("\"/>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_curve_for_each_series_and_a_point_for_each_value() {
        let points =
            |f: fn(f64) -> f64| (1..=10).map(|x| (f64::from(x), f(f64::from(x)))).collect();
        let chart = LineChart {
            title: "growth".into(),
            log_x: true,
            log_y: true,
            series: vec![
                Series { name: "a".into(), points: points(|x| x) },
                Series { name: "b".into(), points: points(|x| x * x - 1.0) },
            ],
            ..LineChart::default()
        };
        let svg = chart.to_svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        let counts: Vec<usize> = svg
            .lines()
            .filter(|line| line.starts_with("<polyline"))
            .map(|line| line.matches(',').count())
            .collect();
        assert_eq!(counts, [10, 9], "1 * 1 - 1 has no place on a logarithmic axis");
    }

    #[test]
    fn a_chart_without_points_is_a_frame() {
        let svg = LineChart { series: vec![Series::default()], ..LineChart::default() }.to_svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
