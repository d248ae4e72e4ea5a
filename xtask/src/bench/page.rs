//! From opening the demo's page to its first answer.

use anyhow::bail;

use super::record::{Table, npm_version, number, ratio, version};
use super::{figures, text};
use crate::demo;
use crate::setup;
use crate::steps::{execute, program, root, step};

/// Nothing cached, beside the same bundle on ONNX Runtime Web, over a line of a number of megabits a
/// second.
pub(crate) fn page(options: &[&str]) -> anyhow::Result<()> {
    const RUNS: &str = "9";
    let megabits = match options {
        [] => "20",
        [megabits] => megabits,
        other => bail!("unknown options {other:?}; there is the number of megabits a second"),
    };
    demo::run(&demo::Options::emoji())?;
    setup::browser()?;
    let onnx = root().join(".magpie/bench/demo-onnx");
    std::fs::create_dir_all(&onnx)?;
    step("the demo's networks as ONNX", || {
        for name in ["detector", "extractor"] {
            let weights = root().join(demo::WEIGHTS).join(format!("{name}.safetensors"));
            let out = onnx.join(format!("{name}.onnx"));
            execute(demo::magpie().arg("export").arg(weights).arg("--out").arg(out))?;
        }
        Ok(())
    })?;
    let lines = step("in Chromium", || {
        let mut command = program("node");
        command.arg("tests/bench/page_open.mjs").arg(demo::emoji_site()).arg(&onnx);
        figures(command.args([setup::BROWSER, RUNS, megabits]))
    })?;
    let of = |name: &str, key: &str| {
        lines.iter().find(|line| line["page"] == name).and_then(|line| line[key].as_f64())
    };
    let (ours, theirs) = (of("magpie", "median_ms"), of("onnxruntime-web", "median_ms"));
    let mut table = Table::new(&["page", "median, ms", "MB until then", "ratio"]).ratio("ratio");
    for line in &lines {
        let name = text(line, "page")?;
        let share = if name == "magpie" { ratio(ours, theirs) } else { None::<f64>.into() };
        let megabytes = of(name, "bytes").map(|bytes| bytes / 1e6);
        let median = of(name, "median_ms").map(f64::round);
        table.row(vec![
            super::engine::shown(name).into(),
            number(median),
            number(megabytes),
            share,
        ]);
    }
    let npm = npm_version(&root().join(setup::BROWSER), "onnxruntime-web");
    let versions = [("Chromium", version("chromium")), ("ONNX Runtime Web", npm)];
    let (name, command) = match megabits {
        "20" => ("page".to_owned(), "cargo xtask bench page".to_owned()),
        _ => (format!("page.{megabits}"), format!("cargo xtask bench page {megabits}")),
    };
    table.write(&name, &command, &versions)
}
