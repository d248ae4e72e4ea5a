//! How well networks do on every set of images of a folder.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use super::figures;
use super::record::Table;
use crate::demo;
use crate::steps::{execute, program, step};

/// What is measured, as words of the command line say it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    sets: &'a str,
    extractor: Option<&'a str>,
    detector: Option<&'a str>,
    limit: Option<&'a str>,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a str]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value =
                || words.next().copied().with_context(|| format!("{word}: give a value"));
            match *word {
                "--extractor" => options.extractor = Some(value()?),
                "--detector" => options.detector = Some(value()?),
                "--limit" => options.limit = Some(value()?),
                folder if options.sets.is_empty() && !folder.starts_with('-') => {
                    options.sets = folder;
                }
                other => bail!("unknown option {other:?}"),
            }
        }
        if options.sets.is_empty() || (options.extractor.is_none() && options.detector.is_none()) {
            bail!("give the folder of the sets, and --extractor FILE or --detector FILE or both");
        }
        Ok(options)
    }

    /// The command as somebody else gives it: without the folders of this machine.
    fn line(&self) -> String {
        let name = |path: &str| {
            let name = Path::new(path).file_name();
            name.map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
        };
        let mut words = vec!["cargo xtask bench quality".to_owned(), name(self.sets)];
        for (word, path) in [("--extractor", self.extractor), ("--detector", self.detector)] {
            words.extend(path.map(|path| format!("{word} {}", name(path))));
        }
        words.extend(self.limit.map(|limit| format!("--limit {limit}")));
        words.join(" ")
    }
}

/// Measures networks on the sets of a folder and writes a table a network, under the name of its file.
pub(crate) fn quality(options: &[&str]) -> anyhow::Result<()> {
    let options = Options::parse(options)?;
    step("the command line program", || {
        execute(program("cargo").args(["build", "--package", "magpie-train", "--locked"]))
    })?;
    for (kind, path) in [("extractor", options.extractor), ("detector", options.detector)] {
        let Some(path) = path else { continue };
        let lines = step(&format!("the {kind} on every set"), || {
            let mut command = demo::magpie();
            command.args(["eval", "--sets", options.sets, "--json"]).arg(format!("--{kind}"));
            command.arg(path).args(options.limit.iter().flat_map(|limit| ["--limit", limit]));
            figures(&mut command)
        })?;
        let table = if kind == "extractor" { recall(&lines) } else { boxes(&lines) };
        let stem = Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
        table?.write(&format!("quality-{kind}.{stem}"), &options.line(), &[])?;
    }
    Ok(())
}

/// A share in percent, to a tenth.
fn percent(line: &Value, key: &str) -> anyhow::Result<Value> {
    let value = line[key].as_f64().with_context(|| format!("no {key}: {line}"))?;
    Ok(((value * 1000.0).round() / 10.0).into())
}

/// The counts and the figures of every line, each figure with its error.
fn table(
    lines: &[Value],
    counts: &[(&str, &str)],
    figures: &[(&str, &str)],
) -> anyhow::Result<Table> {
    let error = |name: &str| format!("± {name}");
    let errors: Vec<String> = figures.iter().map(|(name, _)| error(name)).collect();
    let mut columns = vec!["set"];
    columns.extend(counts.iter().map(|(name, _)| *name));
    for ((name, _), error) in figures.iter().zip(&errors) {
        columns.extend([name, error.as_str()]);
    }
    let mut table = Table::new(&columns);
    for column in &columns[1 + counts.len()..] {
        table = table.digits(column, 1);
    }
    for line in lines {
        let mut row = vec![line["set"].clone()];
        row.extend(counts.iter().map(|(_, key)| line[*key].clone()));
        for (_, key) in figures {
            row.extend([percent(line, key)?, percent(line, &format!("{key}_error"))?]);
        }
        table.row(row);
    }
    Ok(table)
}

fn recall(lines: &[Value]) -> anyhow::Result<Table> {
    table(
        lines,
        &[("classes", "classes"), ("searched", "searched"), ("queries", "queries")],
        &[
            ("recall@1", "recall_at_1"),
            ("recall@5", "recall_at_5"),
            ("class mean, @1", "class_mean_recall_at_1"),
            ("class mean, @5", "class_mean_recall_at_5"),
        ],
    )
}

fn boxes(lines: &[Value]) -> anyhow::Result<Table> {
    table(
        lines,
        &[("images", "pictures"), ("objects", "objects")],
        &[("AP50", "AP50"), ("largest object hit", "largest_hit")],
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_say_what_is_measured() {
        let options = Options::parse(&[
            "/data/sets",
            "--extractor",
            "/x/lite0.safetensors",
            "--limit",
            "500",
        ]);
        let line = "cargo xtask bench quality sets --extractor lite0.safetensors --limit 500";
        assert_eq!(options.unwrap().line(), line);
        for words in [&["sets"][..], &["--extractor", "x"], &["sets", "--extractor"], &["a", "b"]] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_set_is_a_row_with_its_errors() {
        let line = json!({
            "set": "a", "searched": 2640, "queries": 2485, "classes": 81, "left_out": 0,
            "recall_at_1": 0.5590, "recall_at_1_error": 0.00996, "recall_at_5": 0.787,
            "recall_at_5_error": 0.0082, "class_mean_recall_at_1": 0.6, "class_mean_recall_at_1_error": 0.01,
            "class_mean_recall_at_5": 0.8, "class_mean_recall_at_5_error": 0.008,
        });
        let shown = format!("{:?}", recall(std::slice::from_ref(&line)).unwrap());
        let row = json!(["a", 81, 2640, 2485, 55.9, 1.0, 78.7, 0.8, 60.0, 1.0, 80.0, 0.8]);
        assert!(shown.contains(&format!("{row:?}")), "{shown}");
        assert!(boxes(&[line]).unwrap_err().to_string().starts_with("no AP50"));
    }
}
