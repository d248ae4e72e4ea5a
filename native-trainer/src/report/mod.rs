//! A run as a page: curves of what was logged, and what the network confuses.
//!
//! One HTML file that needs nothing beside it; charts are SVG, images are inside.

mod charts;
mod examples;
mod sureness;

use std::path::{Path, PathBuf};

use authoring::html;
use burn::tensor::Device;
use serde_json::Value;

use crate::files;
use crate::recipe::{RUN_RECIPE, Recipe};
use authoring::plot::{escape, put};

/// Name of the page in a run's folder.
const PAGE: &str = "report.html";

/// Writes `report.html` into a run's folder and returns its path; up to `shown` queries are shown,
/// wrong answers first.
///
/// # Errors
///
/// A folder without a run, images that cannot be used, a disk that refuses.
pub fn write(run: &Path, shown: usize, device: &Device) -> anyhow::Result<PathBuf> {
    let recipe = Recipe::read(&run.join(RUN_RECIPE), &[])?;
    let text = read_text(&run.join("metrics.jsonl"))?;
    let path = run.join(PAGE);
    files::check_outputs(&[&path], &[])?;
    let name = run.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let mut page = html::begin(&name);
    for chart in charts::charts(&text) {
        put(&mut page, format_args!("<h2>{}</h2>{}", chart.title, chart.plot().to_svg()));
    }
    page.push_str(&exported(&text));
    page.push_str(&examples::section(run, &recipe, shown, device)?);
    let recipe = read_text(&run.join(RUN_RECIPE))?;
    put(&mut page, format_args!("<h2>Recipe</h2><pre>{}</pre>", escape(&recipe)));
    page.push_str("</body></html>\n");
    files::write(&path, page.as_bytes())?;
    Ok(path)
}

/// A text of the run's own, whatever its bytes are.
fn read_text(path: &Path) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&files::read(path, files::TEXT_LIMIT)?).into_owned())
}

/// What the run says of the network that it exported: which epoch's it is, and whether it is worth keeping.
fn exported(metrics: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_whose_network_it_shows() {
        let text = r#"{"kind":"epoch","epoch":1,"loss":3.0}
{"kind":"epoch","epoch":2,"loss":3.0}
{"kind":"export","epoch":2,"checkpoint":"last_model"}
{"kind":"verdict","epoch":2,"text":"keep <this>"}
"#;
        let page = exported(text);
        assert!(page.contains("after epoch 2 (last_model).</p>"), "{page}");
        assert!(page.contains("keep &lt;this&gt;"), "{page}");
        let page = exported(&format!("{text}{}", r#"{"kind":"epoch","epoch":3,"loss":1.0}"#));
        assert!(page.contains("has gone on to epoch 3") && page.contains("older"), "{page}");
        assert!(exported("").contains("no network yet"));
    }
}
