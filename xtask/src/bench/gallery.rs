//! Searches beside faiss natively, and beside hnswlib-wasm, edgevec and voy in Chromium.

use anyhow::bail;
use serde_json::Value;

use super::record::{Table, npm_version, number, python_version, ratio, version};
use super::{figures, measurement, npm_peers, text, wasm_example};
use crate::setup;
use crate::steps::{execute, program, root, step};

const DIM: &str = "512";
const K: &str = "10";

/// Searches among a number of vectors.
pub(crate) fn gallery(options: &[&str]) -> anyhow::Result<()> {
    let count = match options {
        [] => "10000",
        [count] => count,
        other => bail!("unknown options {other:?}; there is the number of vectors"),
    };
    let line = format!("cargo xtask bench gallery {count}");
    let bench = root().join(".magpie/bench");
    let python = setup::python_with("bench/faiss", &["faiss-cpu", "numpy"])?;
    let ours = measurement("gallery_speed")?;
    let folder = bench.join(format!("vectors-{count}"));
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let script = "tests/bench/gallery_search.py";
    if !folder.join("queries.f32").exists() {
        step("vectors", || {
            execute(program(&python).args([script, "make"]).arg(&folder).args([count, DIM]))
        })?;
    }
    let arguments = [&file("vectors.f32"), &file("queries.f32"), DIM, K];
    let magpie = step("Magpie", || figures(program(&ours).args(arguments)))?;
    let cut = measurement("shard_cost")?;
    let shards = step("in shards", || figures(program(&cut).args(arguments)))?;
    let faiss = step("faiss", || {
        figures(program(&python).args([script, "faiss"]).arg(&folder).args([DIM, K]))
    })?;
    let versions = [("faiss", python_version(&python, "faiss-cpu"))];
    native(&magpie, &faiss)?.write(&format!("gallery.{count}"), &line, &versions)?;
    in_shards(&shards).write(&format!("shards-search.{count}"), &line, &[])?;

    setup::build_tools()?;
    setup::browser()?;
    let (module, peers) = (bench.join("gallery-wasm"), bench.join("npm"));
    step("Magpie in WebAssembly", || wasm_example("gallery_search", "cpu", &module))?;
    npm_peers(&peers, "voy-search", &["hnswlib-wasm@0.8.2", "edgevec@0.9.0", "voy-search@0.6.3"])?;
    let page = step("in Chromium", || {
        let script = "tests/bench/gallery_search.mjs";
        figures(program("node").arg(script).arg(&folder).args([DIM, K]).arg(&module).arg(&peers))
    })?;
    let versions = [
        ("Chromium", version("chromium")),
        ("hnswlib-wasm", npm_version(&peers, "hnswlib-wasm")),
        ("edgevec", npm_version(&peers, "edgevec")),
        ("voy", npm_version(&peers, "voy-search")),
    ];
    in_page(&page)?.write(&format!("gallery-page.{count}"), &line, &versions)
}

/// How a document calls an index and how much of it a search looks at.
fn shown(figure: &Value) -> anyhow::Result<String> {
    let looked_at = &figure["ef_search"];
    Ok(match (text(figure, "index")?, figure["values"].as_str()) {
        ("flat sq8", _) | ("flat", Some("I8")) => "flat, 8 bits (`i8`, SQ8)".to_owned(),
        ("flat", _) => "flat, exact".to_owned(),
        ("ivf", _) => format!("ivf 1024, {looked_at} lists"),
        ("binary", _) => format!("binary, best {looked_at}"),
        (graph, _) => format!("{}, ef_search {looked_at}", graph.replace("hnsw", "hnsw ")),
    })
}

/// A row an index that both have or only Magpie has; what was built once is said once.
fn native(magpie: &[Value], faiss: &[Value]) -> anyhow::Result<Table> {
    let columns = [
        "index",
        "recall@10",
        "faiss' recall",
        "Magpie, ms per query",
        "faiss, ms per query",
        "ratio",
        "batch, queries/s",
        "faiss' batch",
        "build, s",
        "faiss' build, s",
    ];
    let mut table =
        Table::new(&columns).digits("recall@10", 3).digits("faiss' recall", 3).ratio("ratio");
    let mut theirs = Vec::new();
    for figure in faiss {
        theirs.push((shown(figure)?, figure));
    }
    let mut built = String::new();
    for figure in magpie {
        let name = shown(figure)?;
        let peer = theirs.iter().find(|(other, _)| *other == name).map(|(_, figure)| *figure);
        let ours = |key: &str| figure[key].as_f64();
        let other = |key: &str| peer.and_then(|figure| figure[key].as_f64());
        let index = format!("{}{}", figure["index"], figure["values"]);
        let build = |seconds: [Option<f64>; 2]| {
            let sum = seconds[0].zip(seconds[1]).map(|(add, build)| add + build);
            number(sum.filter(|_| index != built))
        };
        table.row(vec![
            name.into(),
            exactly(ours("recall")),
            exactly(other("recall")),
            number(ours("latency_ms")),
            number(other("latency_ms")),
            ratio(ours("latency_ms"), other("latency_ms")),
            number(ours("batch_per_second").map(f64::round)),
            number(other("batch_per_second").map(f64::round)),
            build(["add_seconds", "build_seconds"].map(ours)),
            build(["add_seconds", "build_seconds"].map(other)),
        ]);
        built = index;
    }
    Ok(table)
}

/// A recall to four digits after the point.
fn exactly(recall: Option<f64>) -> Value {
    recall.map(|recall| (recall * 1e4).round() / 1e4).into()
}

/// What is fetched and found within each budget.
fn in_shards(figures: &[Value]) -> Table {
    let columns = [
        "embeddings",
        "requests allowed",
        "kB allowed",
        "recall@10",
        "kB fetched",
        "requests made",
    ];
    let mut table = Table::new(&columns).digits("recall@10", 3).digits("requests made", 1);
    let entries = figures.iter().find_map(|figure| figure["entries"].as_u64());
    let name = format!("clustered, {} × {DIM}", entries.unwrap_or_default());
    for figure in figures.iter().filter(|figure| figure["recall"].is_number()) {
        let value = |key: &str| figure[key].as_f64();
        table.row(vec![
            name.clone().into(),
            figure["requests_allowed"].clone(),
            number(value("bytes_allowed").map(|bytes| (bytes / 1e3).round())),
            exactly(value("recall")),
            number(value("bytes").map(|bytes| (bytes / 1e3).round())),
            number(value("requests")),
        ]);
    }
    table
}

/// Recall and time of each library in the page, or why there is none.
fn in_page(figures: &[Value]) -> anyhow::Result<Table> {
    let columns = ["index", "recall@10", "ms per query", "build, s"];
    let mut table = Table::new(&columns).digits("recall@10", 3);
    for figure in figures {
        let name = text(figure, "index")?.to_owned();
        let value = |key: &str| figure[key].as_f64();
        let name = figure["failed"].as_str().map_or(name.clone(), |why| format!("{name}: {why}"));
        table.row(vec![
            name.into(),
            exactly(value("recall")),
            number(value("latency_ms")),
            number(value("build_seconds")),
        ]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figure(index: &str, values: &str, ef_search: u64, ms: f64) -> Value {
        json!({
            "index": index, "values": values, "ef_search": ef_search, "recall": 0.99956, "latency_ms": ms,
            "batch_per_second": 100.4, "add_seconds": 1.0, "build_seconds": 0.5,
        })
    }

    #[test]
    fn an_index_stands_beside_the_same_of_faiss() {
        let ours = [
            figure("flat", "F32", 0, 1.0),
            figure("flat", "I8", 0, 0.5),
            figure("hnsw32", "F32", 64, 0.25),
            figure("hnsw32", "F32", 128, 0.5),
        ];
        let theirs = [figure("flat sq8", "F32", 0, 1.0), figure("hnsw32", "F32", 64, 0.5)];
        let table = format!("{:?}", native(&ours, &theirs).unwrap());
        let rows = json!([
            ["flat, exact", 0.9996, null, 1.0, null, null, 100, null, 1.5, null],
            ["flat, 8 bits (`i8`, SQ8)", 0.9996, 0.9996, 0.5, 1.0, 0.5, 100, 100, 1.5, 1.5],
            ["hnsw 32, ef_search 64", 0.9996, 0.9996, 0.25, 0.5, 0.5, 100, 100, 1.5, 1.5],
            ["hnsw 32, ef_search 128", 0.9996, null, 0.5, null, null, 100, null, null, null],
        ]);
        let rows = format!("rows: {:?} }}", rows.as_array().unwrap());
        assert!(table.ends_with(&rows), "{table}\n{rows}");
    }

    #[test]
    fn a_library_that_fails_says_why() {
        let figures = [json!({ "index": "voy", "failed": "Error: unreachable" })];
        let table = format!("{:?}", in_page(&figures).unwrap());
        assert!(table.contains("voy: Error: unreachable"), "{table}");
    }
}
