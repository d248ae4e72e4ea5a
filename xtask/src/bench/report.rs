//! Tables of measurements: each a JSON file below `docs/benchmarks`, shown by the documents.
//!
//! A document has a line `<!-- table NAME -->` and a line `<!-- end of table -->`. Between them stand
//! the tables of the files `NAME.json` and `NAME.….json`, one a machine, the newest first. A file
//! belongs to the longest name that fits.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::steps::{root, say};

/// Folder of the files, below the repository.
pub(super) const FOLDER: &str = "docs/benchmarks";

const BEGIN: &str = "<!-- table ";
const END: &str = "<!-- end of table -->";

/// A file's name without its ending, and what it holds.
type File = (String, Value);

/// Writes the tables into the documents.
pub(crate) fn run() -> anyhow::Result<()> {
    for (path, old, new) in documents()? {
        if old != new {
            std::fs::write(&path, new).with_context(|| path.display().to_string())?;
            say(&format!("{} is written anew", path.display()));
        }
    }
    Ok(())
}

/// Path, text and text with its tables written anew of every document that shows one.
fn documents() -> anyhow::Result<Vec<(PathBuf, String, String)>> {
    let mut files: Vec<File> = Vec::new();
    for path in paths(&root().join(FOLDER), "json")? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        let value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        files.push((name, value));
    }
    let mut texts = Vec::new();
    for path in paths(&root().join("docs"), "md")? {
        let text = std::fs::read_to_string(&path)?;
        texts.push((path, text));
    }
    let names: Vec<&str> =
        texts.iter().flat_map(|(_, text)| text.lines().filter_map(name)).collect();
    for (file, _) in &files {
        let shown = names.iter().any(|name| belongs(file, name));
        ensure!(shown, "{FOLDER}/{file}.json is shown by no document: add `{BEGIN}… -->` for it");
    }
    texts
        .iter()
        .filter(|(_, text)| text.lines().any(|line| name(line).is_some()))
        .map(|(path, text)| {
            let new = filled(text, &names, &files).with_context(|| path.display().to_string())?;
            Ok((path.clone(), text.clone(), new))
        })
        .collect()
}

/// Files of a folder with an ending, in the order of their names.
fn paths(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = folder.read_dir().with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == ending));
    paths.sort();
    Ok(paths)
}

/// The name in a line that begins a table.
fn name(line: &str) -> Option<&str> {
    line.strip_prefix(BEGIN)?.strip_suffix(" -->")
}

/// Whether a file's name is this one or begins with it.
fn belongs(file: &str, name: &str) -> bool {
    file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A document with the tables of its names.
fn filled(document: &str, names: &[&str], files: &[File]) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        writeln!(text, "{line}")?;
        let Some(wanted) = name(line) else { continue };
        let closer = |other: &&str| other.len() > wanted.len() && belongs(other, wanted);
        let closer: Vec<&str> = names.iter().copied().filter(closer).collect();
        let mut own: Vec<&File> = files
            .iter()
            .filter(|(file, _)| belongs(file, wanted) && !closer.iter().any(|n| belongs(file, n)))
            .collect();
        own.sort_by_key(|(file, value)| {
            (std::cmp::Reverse(value["date"].as_str().unwrap_or_default().to_owned()), file.clone())
        });
        for (file, value) in own {
            write!(text, "\n{}", table(value).with_context(|| format!("{FOLDER}/{file}.json"))?)?;
        }
        if !lines.any(|line| line == END) {
            bail!("`{line}` has no `{END}` after it");
        }
        writeln!(text, "\n{END}")?;
    }
    Ok(text)
}

/// How a table was measured, and the table.
fn table(value: &Value) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut told = Vec::new();
    told.extend(value["machine"].as_str().map(str::to_owned));
    let versions = value["versions"].as_object().context("no versions")?;
    told.extend(versions.iter().map(|(name, version)| match version.as_str() {
        Some(version) => format!("{name} {version}"),
        None => name.clone(),
    }));
    told.extend(value["date"].as_str().map(str::to_owned));
    told.extend(value["command"].as_str().map(|command| format!("`{command}`")));
    for line in wrapped(&told.join(" · ")) {
        writeln!(text, "{line}")?;
    }

    let columns = value["columns"].as_array().context("no columns")?;
    let heads: Vec<&str> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
    ensure!(heads.len() == columns.len(), "a column without a name");
    writeln!(text, "\n| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()))?;
    for row in value["rows"].as_array().context("no rows")? {
        let row = row.as_array().context("a row is a list")?;
        ensure!(row.len() == columns.len(), "a row of {} cells: {row:?}", row.len());
        let cells: Vec<String> =
            row.iter().zip(columns).map(|(value, column)| cell(value, column)).collect();
        writeln!(text, "| {} |", cells.join(" | "))?;
    }
    Ok(text)
}

/// A number with its column's digits, bold where a ratio is below one; a text as it is.
fn cell(value: &Value, column: &Value) -> String {
    let Some(number) = value.as_f64() else {
        return value.as_str().unwrap_or_default().to_owned();
    };
    let text = match column["digits"].as_u64() {
        Some(digits) => format!("{number:.0$}", digits as usize),
        None => number.to_string(),
    };
    let text = grouped(&text);
    if column["ratio"] == Value::Bool(true) && number < 1.0 { format!("**{text}**") } else { text }
}

/// A number's digits before the point in groups of three.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.find('.').map_or((number, ""), |at| number.split_at(at));
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// A text in lines of at most 110 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= 110 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(machine: &str, date: Option<&str>) -> Value {
        json!({
            "machine": machine, "versions": { "Peer": "1.2", "Other": null }, "date": date,
            "command": "cargo xtask bench",
            "columns": [
                { "name": "network" }, { "name": "ms" }, { "name": "ratio", "digits": 2, "ratio": true }
            ],
            "rows": [["one", 1234.5, 0.5], ["two", null, 1.25]],
        })
    }

    #[test]
    fn the_documents_show_the_files() {
        for (path, old, new) in documents().unwrap() {
            let path = path.display();
            assert!(old == new, "{path} differs from {FOLDER}: cargo xtask bench report");
        }
    }

    #[test]
    fn a_table_says_how_it_was_measured() {
        assert_eq!(
            table(&file("A box", Some("2026-11-22"))).unwrap(),
            "A box · Other · Peer 1.2 · 2026-11-22 · `cargo xtask bench`\n\n\
             | network | ms | ratio |\n|---|---|---|\n| one | 1,234.5 | **0.50** |\n| two |  | 1.25 |\n"
        );
    }

    #[test]
    fn what_nobody_recorded_is_not_said() {
        let text = table(&file("A box", None)).unwrap();
        assert!(text.starts_with("A box · Other · Peer 1.2 · `cargo xtask bench`\n"), "{text}");
    }

    #[test]
    fn machines_stand_below_their_name_the_newest_first() {
        let document = "Before\n<!-- table a -->\nold\n<!-- end of table -->\nBehind\n";
        let files = [
            ("a.first".to_owned(), file("First", Some("2026-11-21"))),
            ("a.more.second".to_owned(), file("Second", Some("2026-11-22"))),
            ("a.third".to_owned(), file("Third", Some("2026-11-23"))),
        ];
        let text = filled(document, &["a", "a.more"], &files).unwrap();
        let [third, first] = ["Third", "First"].map(|word| text.find(word).unwrap());
        assert!(third < first && !text.contains("Second") && !text.contains("old"), "{text}");
        assert!(text.starts_with("Before\n<!-- table a -->\n\nThird"), "{text}");
        assert!(text.ends_with(" |\n\n<!-- end of table -->\nBehind\n"), "{text}");
    }

    #[test]
    fn a_table_without_an_end_is_named() {
        let error = filled("<!-- table a -->\n", &["a"], &[]).unwrap_err();
        assert_eq!(error.to_string(), "`<!-- table a -->` has no `<!-- end of table -->` after it");
    }
}
