//! Networks of timm as ONNX files: which of them Magpie takes over.

use serde_json::Value;

use super::record::{Table, python_version};
use super::{figures, text};
use crate::setup;
use crate::steps::{execute, program, step, target};

/// Exports a small network of each of timm's families, imports it, and compares the answers; `PyTorch` is installed into
/// `.magpie/bench`.
pub(crate) fn import(names: &[&str]) -> anyhow::Result<()> {
    let python = setup::python_with("bench/venv", &["torch", "timm", "onnx"])?;
    step("the program", || {
        execute(program("cargo").args(["build", "--locked", "--workspace", "--bin", "magpie"]))
    })?;
    let mut script = program(&python);
    script.arg("tests/bench/import_onnx.py").arg(target().join("debug/magpie")).args(names);
    let lines = step("PyTorch and Magpie", || figures(&mut script))?;
    if !names.is_empty() {
        return Ok(());
    }
    let columns = ["network", "result", "steps", "deviation", "why"];
    let mut table = Table::new(&columns);
    for line in lines {
        let cell = |key: &str| line.get(key).cloned().unwrap_or(Value::Null);
        let deviation =
            line["deviation"].as_f64().map_or(Value::Null, |off| format!("{off:.0e}").into());
        let network = text(&line, "network")?;
        table.row(vec![network.into(), cell("result"), cell("steps"), deviation, cell("reason")]);
    }
    let versions = ["torch", "timm"].map(|name| (name, python_version(&python, name)));
    table.write("import", "cargo xtask bench import", &versions)
}
