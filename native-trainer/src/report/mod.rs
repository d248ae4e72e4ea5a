//! A run as a page for people: curves of what was logged, and what the network confuses.
//!
//! One HTML file that needs nothing beside it; charts are SVG, pictures are inside.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use burn::tensor::Device;
use models::model_file::{Architecture, ModelFile};
use models::preprocess::thumbnail;
use rayon::prelude::*;
use serde_json::Value;

use crate::data::list_file::Samples;
use crate::data::store::read_picture;
use crate::embedding::embed_samples;
use crate::files;
use crate::metric::retrieval::{Embedded, remarks, retrieval_metrics};
use crate::recipe::{Pictures, RUN_RECIPE, Recipe};
use crate::terminal::counted;

/// Name of the page in a run's folder.
const PAGE: &str = "report.html";
/// Neighbours shown of a query.
const NEIGHBOURS: usize = 5;
/// Pairs of classes shown that are taken for each other.
const CONFUSIONS: usize = 20;
/// Points of a curve; more are averaged.
const POINTS: usize = 400;
/// Longer side of a picture in the page, in pixels.
const PICTURE_SIDE: u32 = 96;
/// JPEG quality of a picture in the page.
const PICTURE_QUALITY: u8 = 75;

/// Writes `report.html` into a run's folder and returns its path; up to `pictures` queries are shown,
/// wrong answers first.
///
/// # Errors
///
/// A folder without a run, pictures that cannot be used, a disk that refuses.
pub fn write(run: &Path, pictures: usize, device: &Device) -> anyhow::Result<PathBuf> {
    let recipe = Recipe::read(&run.join(RUN_RECIPE), &[])?;
    let text = read_text(&run.join("metrics.jsonl"))?;
    let path = run.join(PAGE);
    files::check_outputs(&[&path], &[])?;
    let name = run.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let mut page = String::from(HEAD);
    put(&mut page, format_args!("<title>{0}</title></head><body><h1>{0}</h1>", escape(&name)));
    for chart in charts(&text) {
        page.push_str(&chart.to_svg());
    }
    page.push_str(&words(&text));
    page.push_str(&retrieval(run, &recipe, pictures, device)?);
    put(&mut page, format_args!("<h2>Recipe</h2><pre>{}</pre>", escape(&recipe_text(run)?)));
    page.push_str("</body></html>\n");
    files::write(&path, page.as_bytes())?;
    Ok(path)
}

/// A text of the run's own, whatever its bytes are.
fn read_text(path: &Path) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&files::read(path, files::TEXT_LIMIT)?).into_owned())
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><style>\
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}\
body{max-width:60rem;margin:2rem auto;padding:0 1rem}\
svg{width:100%;height:auto;margin:.5rem 0 1.5rem}svg text{fill:currentColor;font-size:12px}\
table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left}\
.row{display:flex;flex-wrap:wrap;gap:.6rem;padding:.6rem 0;border-top:1px solid #8886}\
figure{margin:0;width:6.5rem;font-size:12px;overflow-wrap:anywhere}\
figure img{max-width:6rem;max-height:6rem;border-radius:6px;outline:3px solid transparent}\
.right img{outline-color:#2a9d4a}.wrong img{outline-color:#d43c3c}\
pre{overflow:auto;background:#8882;padding:1rem;border-radius:8px}</style>";

/// Appends; a string takes everything.
fn put(page: &mut String, text: std::fmt::Arguments) {
    let _always = page.write_fmt(text);
}

fn escape(text: &str) -> String {
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

fn recipe_text(run: &Path) -> anyhow::Result<String> {
    read_text(&run.join(RUN_RECIPE))
}

/// What the run says of the network that it exported: which epoch's it is, and whether it is worth keeping.
fn words(metrics: &str) -> String {
    let records: Vec<Value> =
        metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let last = |kind: &str| records.iter().rev().find(|record| record["kind"] == kind);
    let trained = records.iter().filter(|record| record["kind"] == "epoch");
    let newest = trained.filter_map(|record| record["epoch"].as_u64()).next_back();
    let mut page = String::new();
    let Some(exported) = last("export") else {
        page.push_str("<p>The run has exported no network yet.</p>");
        return page;
    };
    let epoch = exported["epoch"].as_u64().unwrap_or_default();
    let name = exported["checkpoint"].as_str().unwrap_or_default();
    let ended = records.iter().rposition(|record| record["kind"] == "export").unwrap_or_default();
    let goes_on = records[ended..].iter().any(|record| record["kind"] == "epoch");
    put(&mut page, format_args!("<p>The network is that after epoch {epoch} ({}).", escape(name)));
    if let (true, Some(newest)) = (goes_on, newest) {
        put(
            &mut page,
            format_args!(
                " Training has gone on to epoch {newest} since; model.safetensors and what it finds below \
                 are older than the curves."
            ),
        );
    }
    page.push_str("</p>");
    if let Some(text) = last("verdict").and_then(|verdict| verdict["text"].as_str()) {
        put(&mut page, format_args!("<p><strong>{}</strong></p>", escape(text)));
    }
    page
}

// ---------------------------------------------------------------- curves

type Points = Vec<(f64, f64)>;

/// Curves over epochs that share a scale.
#[derive(Debug, Clone, PartialEq)]
struct Chart {
    title: &'static str,
    curves: BTreeMap<String, Points>,
}

/// The charts of a run's scalars; lines that are cut off are left out.
fn charts(metrics: &str) -> Vec<Chart> {
    let records: Vec<Value> =
        metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |kind: &'static str| records.iter().filter(move |record| record["kind"] == kind);
    let number = |record: &Value, name: &str| record[name].as_f64();
    let last_step = of("train").filter_map(|r| number(r, "iter")).fold(0.0, f64::max);
    let mut loss: BTreeMap<String, Points> = BTreeMap::new();
    let mut rate: BTreeMap<String, Points> = BTreeMap::new();
    let mut found: BTreeMap<String, Points> = BTreeMap::new();
    // A step that was repeated after a stop counts as it went the last time.
    let mut steps: BTreeMap<[u64; 2], &Value> = BTreeMap::new();
    for record in of("train") {
        if let (Some(epoch), Some(step)) = (record["epoch"].as_u64(), record["iter"].as_u64()) {
            steps.insert([epoch, step], record);
        }
    }
    for ([epoch, step], record) in steps {
        let x = epoch as f64 - 1.0 + step as f64 / (last_step + 1.0);
        for (name, value) in record.as_object().into_iter().flatten() {
            let curves = match name.as_str() {
                "kind" | "epoch" | "iter" | "ips" => continue,
                "lr" => &mut rate,
                _ => &mut loss,
            };
            let point = value.as_f64().map(|y| (x, y));
            curves.entry(name.clone()).or_default().extend(point);
        }
    }
    let mut evaluations: BTreeMap<u64, &Value> = BTreeMap::new();
    for record in of("eval") {
        evaluations.extend(record["epoch"].as_u64().map(|epoch| (epoch, record)));
    }
    for (epoch, record) in evaluations {
        for (name, value) in record.as_object().into_iter().flatten() {
            if !["kind", "epoch"].contains(&name.as_str()) {
                let point = value.as_f64().map(|y| (epoch as f64, y));
                found.entry(name.clone()).or_default().extend(point);
            }
        }
    }
    let charts = [("Evaluation", found), ("Loss", loss), ("Learning rate", rate)];
    charts
        .into_iter()
        .filter(|(_, curves)| !curves.is_empty())
        .map(|(title, curves)| Chart { title, curves })
        .collect()
}

/// At most [`POINTS`] points, each the mean of its neighbours.
fn thinned(points: &[(f64, f64)]) -> Points {
    let group = points.len().div_ceil(POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let count = points.len() as f64;
        let sum = points.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(group).map(mean).collect()
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 30.0;
const COLOURS: [&str; 6] = ["#2f6fdb", "#d4683c", "#2a9d4a", "#9b4dca", "#b58900", "#0a9396"];

impl Chart {
    fn to_svg(&self) -> String {
        let all = || self.curves.values().flatten();
        let range = |of: fn(&(f64, f64)) -> f64| {
            let low = all().map(of).fold(f64::INFINITY, f64::min);
            let high = all().map(of).fold(f64::NEG_INFINITY, f64::max);
            (low, high.max(low + f64::EPSILON))
        };
        let ((x0, x1), (y0, y1)) = (range(|p| p.0), range(|p| p.1));
        let place = |(x, y): (f64, f64)| {
            (
                LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - 10.0),
                10.0 + (y1 - y) / (y1 - y0) * (HEIGHT - BOTTOM - 10.0),
            )
        };
        let title = self.title;
        let mut svg = format!("<h2>{title}</h2><p>");
        for (index, name) in self.curves.keys().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            put(
                &mut svg,
                format_args!("<span style=\"color:{colour}\">■</span> {} &nbsp;", escape(name)),
            );
        }
        put(
            &mut svg,
            format_args!(
                "</p><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{title} by epoch\">"
            ),
        );
        for share in [0.0, 0.5, 1.0] {
            let value = y0 + (y1 - y0) * share;
            let (_, y) = place((x0, value));
            put(
                &mut svg,
                format_args!(
                    "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" \
                     stroke=\"#8886\"/><text x=\"0\" y=\"{:.1}\">{}</text>",
                    y + 4.0,
                    figure(value)
                ),
            );
        }
        for (value, anchor) in [(x0, "start"), (x1, "end")] {
            let (x, _) = place((value, y0));
            put(
                &mut svg,
                format_args!(
                    "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">epoch {}</text>",
                    HEIGHT - 12.0,
                    figure(value)
                ),
            );
        }
        for (index, points) in self.curves.values().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let line: Vec<String> = thinned(points)
                .into_iter()
                .map(place)
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            put(
                &mut svg,
                format_args!(
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" \
                     stroke-width=\"2\"/>",
                    line.join(" ")
                ),
            );
        }
        svg.push_str("</svg>");
        svg
    }
}

/// A number as short as it may be.
fn figure(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.001 { format!("{value:.1e}") } else { trimmed(value) }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

// ---------------------------------------------------------------- neighbours

/// What the exported network answers on the recipe's queries; nothing for a detector or a recipe
/// without queries.
fn retrieval(
    run: &Path,
    recipe: &Recipe,
    pictures: usize,
    device: &Device,
) -> anyhow::Result<String> {
    let path = run.join("model.safetensors");
    let Some(task) = &recipe.extractor else { return Ok(String::new()) };
    if !path.is_file() {
        return Ok(String::new());
    }
    let Pictures { query: Some(query), gallery: given, notes, .. } = task.pictures(recipe.seed)?
    else {
        return Ok(String::new());
    };
    let bytes = files::read(&path, files::MODEL_LIMIT)?;
    let file = ModelFile::from_vec(bytes).with_context(|| path.display().to_string())?;
    if !matches!(file.description.architecture, Architecture::Extractor(_)) {
        return Ok(String::new());
    }
    let extractor = file.prepare_extractor(device)?;
    let embed = |samples| embed_samples(&extractor, samples);
    let queries = embed(&query)?;
    let searched = match &given {
        Some(gallery) => embed(gallery)?,
        None => queries.clone(),
    };
    let metrics = retrieval_metrics(&queries, &searched, &[1, 5]);
    let said = remarks(&queries, given.as_ref().map(|_| &searched), &metrics);
    let gallery = given.unwrap_or_else(|| query.clone());
    let answers = nearest(&queries, &searched);

    let mut page = format!(
        "<h2>What it finds</h2><p>{} among {} of {}: recall@1 {:.1} %, \
         mAP {:.1} %.</p>",
        counted(metrics.queries, "query", "queries"),
        counted(gallery.samples.len(), "picture", "pictures"),
        counted(gallery.labels.len(), "class", "classes"),
        100.0 * metrics.recall_at_k.first().map_or(0.0, |(_, rate)| *rate),
        100.0 * metrics.mean_average_precision
    );
    for note in notes {
        put(&mut page, format_args!("<p>{}</p>", escape(&note)));
    }
    for remark in said {
        put(&mut page, format_args!("<p>{}.</p>", escape(&remark)));
    }
    let is_right = |index: usize| {
        answers[index]
            .first()
            .is_some_and(|(place, _)| gallery.samples[*place].label == query.samples[index].label)
    };
    page.push_str(&confusions(&query, &gallery, &answers));
    let mut order: Vec<usize> = (0..answers.len()).collect();
    order.sort_by_key(|index| is_right(*index));
    let wrong = order.iter().take_while(|index| !is_right(**index)).count();
    // Both kinds are worth seeing: three wrong ones to a right one, spread over the list.
    let shown_wrong = wrong.min(pictures - pictures / 4);
    let shown_right = (order.len() - wrong).min(pictures - shown_wrong);
    page.push_str("<h3>Queries and their nearest pictures</h3>");
    let (wrong, right) = order.split_at(wrong);
    for index in spread(wrong, shown_wrong).chain(spread(right, shown_right)) {
        let sample = &query.samples[index];
        page.push_str("<div class=\"row\">");
        page.push_str(&picture(&sample.path, &query.labels[sample.label], "query")?);
        for (place, similarity) in &answers[index] {
            let neighbour = &gallery.samples[*place];
            let kind = if neighbour.label == sample.label { "right" } else { "wrong" };
            let caption = format!("{} {similarity:.2}", gallery.labels[neighbour.label]);
            page.push_str(&picture(&neighbour.path, &caption, kind)?);
        }
        page.push_str("</div>");
    }
    Ok(page)
}

/// `count` of the items, evenly spread.
fn spread(items: &[usize], count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| items[i * items.len() / count])
}

/// The best matches of every query: place in the gallery and cosine; a query does not find itself.
fn nearest(queries: &Embedded, gallery: &Embedded) -> Vec<Vec<(usize, f32)>> {
    let dim = (gallery.values.len() / gallery.labels.len().max(1)).max(1);
    queries
        .values
        .par_chunks_exact(dim)
        .enumerate()
        .map(|(index, query)| {
            let mut best: Vec<(usize, f32)> = Vec::with_capacity(NEIGHBOURS + 1);
            for (place, row) in gallery.values.chunks_exact(dim).enumerate() {
                let itself = gallery.is_itself(place, queries, index);
                let cosine: f32 = query.iter().zip(row).map(|(a, b)| a * b).sum();
                if itself || best.last().is_some_and(|l| best.len() == NEIGHBOURS && l.1 >= cosine)
                {
                    continue;
                }
                let at = best.partition_point(|(_, other)| *other >= cosine);
                best.insert(at, (place, cosine));
                best.truncate(NEIGHBOURS);
            }
            best
        })
        .collect()
}

/// The classes that are most often taken for others.
fn confusions(query: &Samples, gallery: &Samples, answers: &[Vec<(usize, f32)>]) -> String {
    let mut counts: BTreeMap<[usize; 2], usize> = BTreeMap::new();
    for (sample, answers) in query.samples.iter().zip(answers) {
        if let Some((place, _)) = answers.first() {
            let said = gallery.samples[*place].label;
            if said != sample.label {
                *counts.entry([sample.label, said]).or_default() += 1;
            }
        }
    }
    if counts.is_empty() {
        return String::new();
    }
    let mut pairs: Vec<_> = counts.into_iter().collect();
    pairs.sort_by_key(|(pair, count)| (std::cmp::Reverse(*count), *pair));
    let mut page =
        "<h3>Taken for another</h3><table><tr><th>is</th><th>was called</th><th>times</th></tr>"
            .to_owned();
    for ([is, said], count) in pairs.into_iter().take(CONFUSIONS) {
        let (is, said) = (escape(&query.labels[is]), escape(&gallery.labels[said]));
        put(&mut page, format_args!("<tr><td>{is}</td><td>{said}</td><td>{count}</td></tr>"));
    }
    page.push_str("</table>");
    page
}

/// A picture with its caption; `kind` is `query`, `right` or `wrong`.
fn picture(path: &Path, caption: &str, kind: &str) -> anyhow::Result<String> {
    let bytes = thumbnail(&read_picture(path)?, PICTURE_SIDE, PICTURE_QUALITY)?;
    let data = base64::engine::general_purpose::STANDARD.encode(bytes);
    let caption = escape(caption);
    Ok(format!(
        "<figure class=\"{kind}\"><img src=\"data:image/jpeg;base64,{data}\" alt=\"{caption}\" \
         loading=\"lazy\"><figcaption>{}{caption}</figcaption></figure>",
        match kind {
            "right" => "✓ ",
            "wrong" => "✗ ",
            _ => "",
        }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_keep_the_last_telling_of_a_step_and_leave_cut_lines_out() {
        let text = r#"{"kind":"train","epoch":1,"iter":0,"loss":3.0,"CELoss":2.0,"lr":0.1,"ips":9}
{"kind":"train","epoch":1,"iter":1,"loss":9.0,"CELoss":2.0,"lr":0.1,"ips":9}
{"kind":"train","epoch":1,"iter":1,"loss":2.0,"CELoss":1.0,"lr":0.05,"ips":9}
{"kind":"eval","epoch":1,"recall1":0.5}
{"kind":"eval","epoch":2,"rec"#;
        let charts = charts(text);
        let titles: Vec<_> = charts.iter().map(|chart| chart.title).collect();
        assert_eq!(titles, ["Evaluation", "Loss", "Learning rate"]);
        assert_eq!(charts[1].curves["loss"], [(0.0, 3.0), (0.5, 2.0)]);
        assert_eq!(charts[0].curves["recall1"], [(1.0, 0.5)]);
        for chart in charts {
            let svg = chart.to_svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn the_page_says_whose_network_it_shows() {
        let text = r#"{"kind":"epoch","epoch":1,"loss":3.0}
{"kind":"epoch","epoch":2,"loss":3.0}
{"kind":"export","epoch":2,"checkpoint":"last_model"}
{"kind":"verdict","epoch":2,"text":"keep <this>"}
"#;
        let page = words(text);
        assert!(page.contains("after epoch 2 (last_model).</p>"), "{page}");
        assert!(page.contains("keep &lt;this&gt;"), "{page}");
        let page = words(&format!("{text}{}", r#"{"kind":"epoch","epoch":3,"loss":1.0}"#));
        assert!(page.contains("has gone on to epoch 3") && page.contains("older"), "{page}");
        assert!(words("").contains("no network yet"));
    }

    #[test]
    fn long_curves_are_averaged() {
        let points: Points = (0..5000).map(|i| (f64::from(i), 7.0)).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS && thin.iter().all(|point| point.1 == 7.0));
    }

    #[test]
    fn a_query_never_finds_itself() {
        let embedded = Embedded {
            values: vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8],
            labels: vec![0, 1, 1],
            ids: ["a", "b", "c"].map(str::to_owned).to_vec(),
            ..Embedded::default()
        };
        let answers = nearest(&embedded, &embedded);
        let places: Vec<Vec<usize>> =
            answers.iter().map(|row| row.iter().map(|(place, _)| *place).collect()).collect();
        assert_eq!(places, [vec![2, 1], vec![2, 0], vec![1, 0]]);
    }

    #[test]
    fn labels_are_shown_as_text() {
        assert_eq!(escape("<b>\"&'"), "&lt;b&gt;&quot;&amp;&#39;");
    }
}
