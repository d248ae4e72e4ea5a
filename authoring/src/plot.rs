//! Curves as an SVG image: axes, grid, legend, one marked place.

use std::fmt::Write as _;

/// Colors of curves that can be told apart on white and on black.
pub const COLORS: [&str; 6] = ["#2f6fdb", "#d4683c", "#2a9d4a", "#9b4dca", "#b58900", "#0a9396"];

/// Room left of the curves, for the labels of their heights, in units of the image.
const LEFT: f64 = 64.0;
/// Room right of the curves.
const RIGHT: f64 = 20.0;
/// Room above the curves, for the label of the mark.
const TOP: f64 = 24.0;
/// Room below the curves, for the labels of the other axis.
const BOTTOM: f64 = 26.0;
/// Height of a line of the legend.
const LINE: f64 = 20.0;
/// Width of a letter, about.
const LETTER: f64 = 7.0;
/// Text stands this much below the middle of its line.
const BASELINE: f64 = 4.0;

/// A scale and the places on it that are named.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A scale from `low` to `high` with `ticks` names, evenly spread. A single value stands in the middle of its
    /// scale and is named once.
    pub fn new([low, high]: [f64; 2], ticks: usize, name: impl Fn(f64) -> String) -> Self {
        if high > low {
            let step = (high - low) / (ticks.max(2) - 1) as f64;
            let named = |i: usize| (low + step * i as f64, name(low + step * i as f64));
            return Self { low, high, ticks: (0..ticks.max(2)).map(named).collect() };
        }
        let around = if low == 0.0 { 1.0 } else { low.abs() / 2.0 };
        Self { low: low - around, high: low + around, ticks: vec![(low, name(low))] }
    }

    /// A scale over all of the values; from 0 to 1 without any.
    pub fn over(
        values: impl Iterator<Item = f64>,
        ticks: usize,
        name: impl Fn(f64) -> String,
    ) -> Self {
        let ends = values.fold(None, |ends: Option<[f64; 2]>, value| {
            Some(ends.map_or([value; 2], |[low, high]| [low.min(value), high.max(value)]))
        });
        Self::new(ends.unwrap_or([0.0, 1.0]), ticks, name)
    }

    /// Where a value stands, `0..=1`.
    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// A curve; one of a single point is a dot.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// CSS color.
    pub color: &'static str,
    /// By ascending `x`.
    pub points: Vec<(f64, f64)>,
}

/// Curves that share their axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What is read aloud in the place of the image.
    pub title: String,
    /// Width of the image and height of the part with curves, in units of the image.
    pub size: [f64; 2],
    /// CSS color behind everything; `None`: that of the page, whose text color is taken, too.
    pub background: Option<&'static str>,
    /// The scale from left to right.
    pub x: Axis,
    /// The scale from bottom to top.
    pub y: Axis,
    /// Drawn in this order.
    pub curves: Vec<Curve>,
    /// A place on the scale from left to right, and its name.
    pub mark: Option<(f64, String)>,
}

impl Plot {
    /// The image as a document of its own that can also stand inside a page.
    pub fn to_svg(&self) -> String {
        let [width, height] = self.size;
        let (legend, lines) = self.legend();
        let all = height + LINE * lines as f64;
        let title = escape(&self.title);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {all}\" role=\"img\" \
             aria-label=\"{title}\" font-family=\"sans-serif\" font-size=\"12\">\n"
        );
        let ink = match self.background {
            Some(color) => {
                put(
                    &mut svg,
                    format_args!("<rect width=\"{width}\" height=\"{all}\" fill=\"{color}\"/>\n"),
                );
                "#000"
            }
            None => "currentColor",
        };
        put(&mut svg, format_args!("<g fill=\"{ink}\">\n"));
        self.axes(&mut svg);
        for curve in &self.curves {
            self.curve(&mut svg, curve);
        }
        if let Some((place, name)) = &self.mark {
            let (x, bottom) = (self.across(*place), height - BOTTOM);
            put(
                &mut svg,
                format_args!(
                    "<path stroke=\"{ink}\" stroke-dasharray=\"4 3\" d=\"M{x:.1} {TOP}V{bottom:.1}\"/>\
                     <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                    TOP - 8.0,
                    escape(name)
                ),
            );
        }
        svg.push_str(&legend);
        svg.push_str("</g>\n</svg>\n");
        svg
    }

    fn across(&self, x: f64) -> f64 {
        LEFT + self.x.share(x) * (self.size[0] - LEFT - RIGHT)
    }

    fn down(&self, y: f64) -> f64 {
        TOP + (1.0 - self.y.share(y)) * (self.size[1] - TOP - BOTTOM)
    }

    /// The grid and the names of its lines.
    fn axes(&self, svg: &mut String) {
        let [width, height] = self.size;
        for (value, name) in &self.y.ticks {
            let y = self.down(*value);
            put(
                svg,
                format_args!(
                    "<path stroke=\"#8886\" d=\"M{LEFT} {y:.1}H{:.1}\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                    width - RIGHT,
                    LEFT - 6.0,
                    y + BASELINE,
                    escape(name)
                ),
            );
        }
        let last = self.x.ticks.len().saturating_sub(1);
        for (place, (value, name)) in self.x.ticks.iter().enumerate() {
            // The outer names stay within the image.
            let anchor = match place {
                0 if last > 0 => "start",
                place if place == last && last > 0 => "end",
                _ => "middle",
            };
            put(
                svg,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>\n",
                    self.across(*value),
                    height - BOTTOM + 18.0,
                    escape(name)
                ),
            );
        }
    }

    fn curve(&self, svg: &mut String, curve: &Curve) {
        let color = curve.color;
        if let [(x, y)] = curve.points[..] {
            let (x, y) = (self.across(x), self.down(y));
            put(
                svg,
                format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\"/>\n"),
            );
            return;
        }
        let mut line = String::new();
        for (x, y) in &curve.points {
            put(&mut line, format_args!("{:.1},{:.1} ", self.across(*x), self.down(*y)));
        }
        put(
            svg,
            format_args!(
                "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" points=\"{}\"/>\n",
                line.trim_end()
            ),
        );
    }

    /// The names of the curves below them, and how many lines they take.
    fn legend(&self) -> (String, usize) {
        let [width, height] = self.size;
        let (mut svg, mut line, mut left) = (String::new(), 0, LEFT);
        for curve in &self.curves {
            let wide = 18.0 + LETTER * curve.name.chars().count() as f64;
            if left > LEFT && left + wide > width {
                (line, left) = (line + 1, LEFT);
            }
            let top = height + LINE * line as f64;
            put(
                &mut svg,
                format_args!(
                    "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"12\" height=\"12\" fill=\"{}\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                    curve.color,
                    left + 18.0,
                    top + 6.0 + BASELINE,
                    escape(&curve.name)
                ),
            );
            left += wide + 18.0;
        }
        (svg, if self.curves.is_empty() { 0 } else { line + 1 })
    }
}

/// Appends; a string takes everything.
pub fn put(text: &mut String, more: std::fmt::Arguments) {
    let _always = text.write_fmt(more);
}

/// A text that stands for itself in HTML, XML and their attributes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plot(points: Vec<(f64, f64)>, name: &str) -> Plot {
        let tick = |value: f64| format!("<{value}>");
        Plot {
            title: "a & b".to_owned(),
            size: [400.0, 200.0],
            background: Some("#fff"),
            x: Axis::over(points.iter().map(|point| point.0), 3, tick),
            y: Axis::over(points.iter().map(|point| point.1), 3, tick),
            mark: points.first().map(|point| (point.0, "here".to_owned())),
            curves: vec![Curve { name: name.to_owned(), color: COLORS[0], points }],
        }
    }

    proptest! {
        #[test]
        fn any_curve_is_an_image_within_its_bounds(
            points in prop::collection::vec((-1e9_f64..1e9, -1e9_f64..1e9), 0..20),
            name in "[ -9<>&]{0,80}",
        ) {
            let svg = plot(points.clone(), &name).to_svg();
            let image = roxmltree::Document::parse(&svg).unwrap();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            let line = image.descendants().find_map(|node| node.attribute("points"));
            for point in line.unwrap_or_default().split_whitespace() {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                prop_assert!((LEFT..=400.0).contains(&x) && (TOP..=200.0).contains(&y), "{point}");
            }
        }
    }

    #[test]
    fn a_single_value_is_a_dot_in_the_middle_named_once() {
        for value in [0.0, 0.5, -3.0, 1e6] {
            let plot = plot(vec![(value, value)], "one");
            let svg = plot.to_svg();
            let middle = LEFT + (400.0 - LEFT - RIGHT) / 2.0;
            assert!(svg.contains(&format!("<circle cx=\"{middle:.1}\"")), "{svg}");
            assert_eq!((plot.x.ticks.len(), plot.y.ticks.len()), (1, 1));
            assert!(!svg.contains("polyline"), "{svg}");
        }
    }

    #[test]
    fn a_long_legend_takes_more_lines() {
        let mut plot = plot(vec![(0.0, 0.0), (1.0, 1.0)], "a name of thirty letters or so");
        let curve = plot.curves[0].clone();
        plot.curves.extend([curve.clone(), curve]);
        assert_eq!(plot.legend().1, 3);
        assert!(plot.to_svg().contains("viewBox=\"0 0 400 260\""));
    }

    #[test]
    fn text_stands_for_itself() {
        assert_eq!(escape("<b>\"&'"), "&lt;b&gt;&quot;&amp;&#39;");
    }
}
