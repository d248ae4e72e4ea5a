//! The studio: from a folder of photographs to a site, in Chromium.

use std::path::PathBuf;

use anyhow::{Context, bail};

use super::figures;
use super::record::{Table, number, version};
use crate::demo;
use crate::page;
use crate::setup;
use crate::steps::{execute, program, root, step};

/// Photographs of a camera's size unless another number is given.
const PHOTOGRAPHS: &str = "200";
/// What composes them, and holds the site: not in the repository.
const FOLDER: &str = ".magpie/bench/studio";

/// Composes photographs of `--pictures`, and makes a site of them and one of 2,000 pictures as they are.
pub(crate) fn studio(options: &[&str]) -> anyhow::Result<()> {
    let (count, pictures) = match options {
        ["--pictures", pictures] => (PHOTOGRAPHS, pictures),
        [count, "--pictures", pictures] => (*count, pictures),
        other => bail!("unknown options {other:?}; there is [N] --pictures DIR"),
    };
    let photographs: usize =
        count.parse().ok().filter(|n| *n > 0).with_context(|| format!("{count}: how many?"))?;
    let pictures = PathBuf::from(pictures).canonicalize().context("--pictures")?;
    setup::browser()?;
    page::build()?;
    demo::build_trainer()?;
    let (folder, dist) = (root().join(FOLDER), root().join("dist"));
    std::fs::create_dir_all(&folder)?;
    let site = folder.join("site");
    step("the studio as a site", || {
        execute(demo::magpie().arg("studio").arg("--out").arg(&site).arg("--page").arg(dist))
    })?;
    let columns = [
        "photographs",
        "MB each",
        "until they are in, s",
        "until the site is saved, s",
        "longest task, ms",
        "tasks above 50 ms",
        "memory, MB",
        "figures after a change, s",
        "figures learned anew, s",
    ];
    let mut table = Table::new(&columns).digits("MB each", 2);
    for count in [photographs, 0] {
        let lines = step("in Chromium", || {
            let mut command = program("node");
            command.arg("tests/bench/studio.mjs").arg(&site).arg(&pictures).arg(&folder);
            figures(command.arg(count.to_string()))
        })?;
        for line in &lines {
            let of = |key: &str| number(line[key].as_f64());
            let keys = [
                "files",
                "megabytes",
                "in_s",
                "all_s",
                "longest_ms",
                "long_tasks",
                "page_mb",
                "change_s",
                "learned_s",
            ];
            table.row(keys.map(of).to_vec());
        }
    }
    let command = match count {
        PHOTOGRAPHS => "cargo xtask bench studio --pictures DIR".to_owned(),
        count => format!("cargo xtask bench studio {count} --pictures DIR"),
    };
    table.write("studio", &command, &[("Chromium", version("chromium"))])
}
