//! [`BarChart`]: groups of horizontal bars, with error bars.

use super::scale::{Scale, number};
use super::{CHARACTER_WIDTH, COLOURS, Svg, WIDTH};

const BAR: f64 = 16.0;
const BAR_GAP: f64 = 3.0;
const GROUP_GAP: f64 = 16.0;
/// Names longer than this would leave no room for the bars.
const NAME_MAX: f64 = 240.0;
/// Room behind the longest bar for its value.
const VALUE_ROOM: f64 = 64.0;

/// Groups of horizontal bars: bars of the same name have the same colour in all groups.
#[derive(Debug, Clone, Default)]
pub struct BarChart {
    /// Above the chart.
    pub title: String,
    /// Below the axis of the values, with the unit.
    pub x_label: String,
    /// From top to bottom.
    pub groups: Vec<BarGroup>,
}

/// Bars that are compared with each other.
#[derive(Debug, Clone, Default)]
pub struct BarGroup {
    /// Above its bars; may be empty.
    pub name: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone, Default)]
pub struct Bar {
    /// Beside the bar.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The ends of its error bar, if it has one: absolute, not distances.
    pub range: Option<(f64, f64)>,
}

impl BarChart {
    /// The chart as an SVG document.
    pub fn to_svg(&self) -> String {
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let longest = bars().map(|bar| bar.name.chars().count()).max().unwrap_or(0);
        let left = 24.0 + (longest as f64 * CHARACTER_WIDTH).min(NAME_MAX);
        let right = WIDTH - VALUE_ROOM;
        let values = bars().flat_map(|bar| [Some(bar.value), bar.range.map(|range| range.1)]);
        let x = Scale::new(values.flatten(), false, (left, right));
        let top = 44.0;
        let bottom = top + self.groups.iter().map(height_of).sum::<f64>();
        let mut svg = Svg::new(WIDTH, bottom + 52.0, &self.title);
        for (value, name) in x.ticks() {
            let Some(place) = x.place(value) else { continue };
            svg.text("faint", (place, bottom + 18.0), "middle", &name);
        }
        let colours = self.names();
        let mut y = top;
        for group in &self.groups {
            draw(&mut svg, group, &x, y, &colours);
            y += height_of(group);
        }
        svg.text("ink", ((left + right) / 2.0, bottom + 40.0), "middle", &self.x_label);
        svg.finish()
    }

    /// The names of bars in order of appearance: the index is the colour.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for bar in self.groups.iter().flat_map(|group| &group.bars) {
            if !names.contains(&bar.name.as_str()) {
                names.push(&bar.name);
            }
        }
        names
    }
}

fn height_of(group: &BarGroup) -> f64 {
    let name = if group.name.is_empty() { 0.0 } else { BAR + BAR_GAP };
    name + group.bars.len() as f64 * (BAR + BAR_GAP) + GROUP_GAP
}

fn draw(svg: &mut Svg, group: &BarGroup, x: &Scale, top: f64, colours: &[&str]) {
    let mut y = top;
    if !group.name.is_empty() {
        svg.text("ink", (16.0, y + BAR - 3.0), "start", &group.name);
        y += BAR + BAR_GAP;
    }
    let Some(zero) = x.place(0.0) else { return };
    // Only beside the bars: a group's name has the whole width.
    let end = y + group.bars.len() as f64 * (BAR + BAR_GAP);
    for place in x.ticks().iter().filter_map(|(value, _)| x.place(*value)) {
        svg.line(if place == zero { "axis" } else { "grid" }, (place, y - 2.0), (place, end));
    }
    for bar in &group.bars {
        let middle = y + BAR / 2.0;
        svg.text("faint", (zero - 8.0, middle + 4.0), "end", &shortened(&bar.name));
        // A value that is no number has a name and no bar.
        if let Some(end) = x.place(bar.value) {
            let colour = colours.iter().position(|name| *name == bar.name).unwrap_or(0);
            let class = format!("f{}", colour % COLOURS.len());
            svg.rect(&class, (zero.min(end), y), (end - zero).abs(), BAR);
            let whisker = bar.range.and_then(|(low, high)| Some((x.place(low)?, x.place(high)?)));
            if let Some((low, high)) = whisker {
                svg.line("whisker", (low, middle), (high, middle));
                svg.line("whisker", (low, middle - 4.0), (low, middle + 4.0));
                svg.line("whisker", (high, middle - 4.0), (high, middle + 4.0));
            }
            let behind = whisker.map_or(end, |(_, high)| high.max(end));
            svg.text("ink", (behind + 6.0, middle + 4.0), "start", &number(bar.value));
        }
        y += BAR + BAR_GAP;
    }
}

fn shortened(name: &str) -> String {
    let most = (NAME_MAX / CHARACTER_WIDTH) as usize;
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(name: &str, value: f64) -> Bar {
        Bar { name: name.into(), value, range: Some((value * 0.9, value * 1.1)) }
    }

    #[test]
    fn bars_of_one_name_have_one_colour() {
        let group = |name: &str| BarGroup {
            name: name.into(),
            bars: vec![bar("tightloop", 2.0), bar("other", 3.0)],
        };
        let chart = BarChart { groups: vec![group("echo"), group("churn")], ..BarChart::default() };
        let svg = chart.to_svg();
        assert_eq!(svg.matches("class=\"f0\"").count(), 2);
        assert_eq!(svg.matches("class=\"f1\"").count(), 2);
        assert_eq!(svg.matches("class=\"whisker\"").count(), 4 * 3);
    }

    #[test]
    fn a_bar_without_a_number_keeps_its_place() {
        let bars = vec![bar("missing", f64::NAN), bar("there", 1.0)];
        let groups = vec![BarGroup { name: String::new(), bars }];
        let svg = BarChart { groups, ..BarChart::default() }.to_svg();
        assert!(svg.contains("missing") && !svg.contains("NaN"), "{svg}");
    }
}
