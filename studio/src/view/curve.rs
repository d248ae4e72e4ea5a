//! What thresholds do, as a curve and as a table.

use page::dom::{append, document, element, set_attributes};
use page::language::say;
use web_sys::{Element, HtmlElement};

use crate::app::Point;

/// Sides of the curve in its own units.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 120.0;
/// Rows of the table.
const ROWS: usize = 8;
/// Where the shapes of curves are defined.
const SVG: &str = "http://www.w3.org/2000/svg";

/// The curve of these thresholds; `None` where there is none.
pub(super) fn curve(points: &[Point]) -> Option<HtmlElement> {
    let (first, last) = (points.first()?, points.last()?);
    let span = f64::from(last.threshold - first.threshold);
    if points.len() < 2 || span <= 0.0 {
        return None;
    }
    let place = element("div", "findings", "");
    let drawing =
        shape("svg", &[("viewBox", &format!("0 0 {WIDTH} {HEIGHT}")), ("class", "curve")]);
    let words = [("role", "img"), ("aria-label", &say("curve.says"))];
    for (name, value) in words {
        // Only a name that is none could make this fail.
        let _ = drawing.set_attribute(name, value);
    }
    let at = |point: &Point, share: f64| {
        let x = f64::from(point.threshold - first.threshold) / span * WIDTH;
        format!("{x:.1},{:.1}", HEIGHT * (1.0 - share))
    };
    for (class, is_right) in [("right", true), ("named", false)] {
        let share = |point: &Point| if is_right { point.right } else { point.false_accept };
        let line: Vec<String> = points.iter().map(|point| at(point, share(point))).collect();
        let line = shape("polyline", &[("class", class), ("points", &line.join(" "))]);
        let _ = drawing.append_child(&line);
    }
    append(&place, &[&element("h3", "", &say("curve.title"))]);
    // A drawing is no element of HTML.
    let _ = place.append_child(&drawing);
    let key = element("p", "hint", "");
    for (class, words) in
        [("legend right", say("curve.right")), ("legend named", say("curve.named"))]
    {
        append(&key, &[&element("span", class, &words)]);
    }
    append(&place, &[&key, &table(points)]);
    Some(place)
}

fn shape(name: &str, attributes: &[(&str, &str)]) -> Element {
    let shape = document().create_element_ns(Some(SVG), name).expect("the name is a constant");
    for (name, value) in attributes {
        let _ = shape.set_attribute(name, value);
    }
    shape
}

fn table(points: &[Point]) -> HtmlElement {
    let (details, table) = (element("details", "", ""), element("table", "rows", ""));
    append(&details, &[&element("summary", "", &say("curve.table")), &table]);
    let row = |cells: &[String], kind: &str| {
        let row = element("tr", "", "");
        for cell in cells {
            append(&row, &[&element(kind, "", cell)]);
        }
        row
    };
    let head = [say("curve.threshold"), say("curve.right"), say("curve.named")];
    let head = row(&head, "th");
    for place in 0..head.children().length() {
        if let Some(cell) = head.children().item(place) {
            let _ = cell.set_attribute("scope", "col");
        }
    }
    append(&table, &[&head]);
    let step = points.len().div_ceil(ROWS).max(1);
    for point in points.iter().step_by(step) {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let cells =
            [format!("{:.3}", point.threshold), percent(point.right), percent(point.false_accept)];
        append(&table, &[&row(&cells, "td")]);
    }
    set_attributes(&details, &[("class", "rows-of")]);
    details
}
