//! Charts as SVG text, for a file or for a page: [`LineChart`] and [`BarChart`].
//!
//! No library, no script, no font of its own. Colours are classes with a rule for dark pages, so that
//! the same file is legible on both. Every text is escaped: names of series come from outside.

use std::fmt::Write;

mod bar;
mod line;
mod scale;

pub use bar::{Bar, BarChart, BarGroup};
pub use line::{LineChart, Series};

/// Colours that are told apart also by those who do not see red and green as most do: for light
/// pages, then for dark ones. A chart with more series begins again, and dashes its lines.
const COLOURS: [(&str, &str); 8] = [
    ("#0b6bcb", "#5aa9f5"),
    ("#c2410c", "#fb8a4b"),
    ("#0f766e", "#3ecfbf"),
    ("#9d174d", "#f27bb0"),
    ("#7c5e00", "#e3b92f"),
    ("#5b21b6", "#b197fc"),
    ("#3f6212", "#a3d255"),
    ("#57534e", "#b5afa8"),
];

const WIDTH: f64 = 760.0;
const FONT: &str = "system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif";
/// The width of a character of the labels, on average: text is not measured, only estimated.
const CHARACTER_WIDTH: f64 = 6.6;

/// An SVG document under construction: elements are appended, `finish` closes it.
struct Svg {
    text: String,
}

impl Svg {
    fn new(width: f64, height: f64, title: &str) -> Self {
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" font-family=\"{FONT}\" \
             font-size=\"12\">\n<title>{}</title>\n<style>\n{}</style>\n\
             <rect class=\"page\" width=\"{width:.0}\" height=\"{height:.0}\"/>\n",
            escape(title),
            style(),
        );
        let _ = writeln!(
            text,
            "<text class=\"ink\" x=\"16\" y=\"26\" font-size=\"15\" font-weight=\"600\">{}</text>",
            escape(title)
        );
        Svg { text }
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = writeln!(
            self.text,
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    fn rect(&mut self, class: &str, at: (f64, f64), width: f64, height: f64) {
        let _ = writeln!(
            self.text,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
            at.0, at.1
        );
    }

    /// `anchor` is `start`, `middle` or `end`.
    fn text(&mut self, class: &str, at: (f64, f64), anchor: &str, text: &str) {
        let _ = writeln!(
            self.text,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            at.0,
            at.1,
            escape(text)
        );
    }

    /// Text from bottom to top, for the vertical axis.
    fn upright_text(&mut self, class: &str, at: (f64, f64), text: &str) {
        let _ = writeln!(
            self.text,
            "<text class=\"{class}\" transform=\"translate({:.1} {:.1}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            at.0,
            at.1,
            escape(text)
        );
    }

    /// The names of the series in rows from (left, top); answers the height of the rows.
    fn legend<'a>(&mut self, left: f64, top: f64, names: impl Iterator<Item = &'a str>) -> f64 {
        let (mut x, mut y) = (left, top);
        for (index, name) in names.enumerate() {
            let width = 28.0 + name.chars().count() as f64 * CHARACTER_WIDTH;
            if x > left && x + width > WIDTH - 16.0 {
                (x, y) = (left, y + LEGEND_ROW);
            }
            self.rect(&format!("f{}", index % COLOURS.len()), (x, y - 9.0), 10.0, 10.0);
            self.text("ink", (x + 15.0, y), "start", name);
            x += width;
        }
        y - top + LEGEND_ROW
    }

    fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

const LEGEND_ROW: f64 = 18.0;

fn style() -> String {
    let mut style = String::from(
        ".page{fill:#ffffff}.ink{fill:#1f2328}.faint{fill:#59636e}\
         .grid{stroke:#d8dee4;stroke-width:1}.axis{stroke:#59636e;stroke-width:1}\
         .whisker{stroke:#1f2328;stroke-width:1.2}.curve{fill:none;stroke-width:2;stroke-linejoin:round}\n",
    );
    for (index, (light, _)) in COLOURS.iter().enumerate() {
        let _ = writeln!(style, ".s{index}{{stroke:{light}}}.f{index}{{fill:{light}}}");
    }
    style.push_str(
        "@media (prefers-color-scheme:dark){\
         .page{fill:#0d1117}.ink{fill:#e6edf3}.faint{fill:#9198a1}\
         .grid{stroke:#30363d}.axis{stroke:#9198a1}.whisker{stroke:#e6edf3}\n",
    );
    for (index, (_, dark)) in COLOURS.iter().enumerate() {
        let _ = writeln!(style, ".s{index}{{stroke:{dark}}}.f{index}{{fill:{dark}}}");
    }
    style.push_str("}\n");
    style
}

/// Text as XML takes it; characters that XML has no way to say are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            character if character.is_control() => {}
            '\u{fffe}' | '\u{ffff}' => {}
            character => escaped.push(character),
        }
    }
    escaped
}

/// Puts finished charts one below the other in one document.
pub fn stacked(charts: &[String]) -> String {
    let heights: Vec<f64> = charts.iter().map(|chart| height_of(chart)).collect();
    let height: f64 = heights.iter().sum();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
         width=\"{WIDTH:.0}\" height=\"{height:.0}\">\n"
    );
    let mut top = 0.0;
    for (chart, height) in charts.iter().zip(&heights) {
        let _ = writeln!(text, "<g transform=\"translate(0 {top:.0})\">\n{chart}</g>");
        top += height;
    }
    text.push_str("</svg>\n");
    text
}

/// The height that a chart of this module says of itself.
fn height_of(chart: &str) -> f64 {
    let value = chart.split_once(" height=\"").and_then(|(_, rest)| rest.split_once('"'));
    value.and_then(|(height, _)| height.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_end_an_element() {
        assert_eq!(escape("a<b>&\"c'\u{1}d\n"), "a&lt;b&gt;&amp;&quot;c&#39;d ");
        let chart = LineChart {
            title: "</title><script>".into(),
            series: vec![
                Series { name: "<&>".into(), points: vec![(0.0, 1.0), (1.0, 2.0)] },
                Series { name: "other".into(), points: vec![(0.0, 1.0)] },
            ],
            ..LineChart::default()
        };
        let svg = chart.to_svg();
        assert!(!svg.contains("<script>"), "{svg}");
        assert!(svg.contains("&lt;&amp;&gt;"), "{svg}");
    }

    #[test]
    fn stacked_charts_take_their_heights_together() {
        let line = LineChart::default().to_svg();
        let height = height_of(&line);
        assert!(height > 0.0);
        let both = stacked(&[line.clone(), line]);
        assert_eq!(height_of(&both), 2.0 * height);
        assert_eq!(both.matches("<svg").count(), 3);
        assert_eq!(both.matches("</svg>").count(), 3);
    }
}
