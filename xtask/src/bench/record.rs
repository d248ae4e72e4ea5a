//! What was measured, where, when and by which command: a JSON file that documents show.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::report::{self, FOLDER};
use crate::steps::{output, program, root, say};

/// A table that one command measures.
#[derive(Debug, Default)]
pub(super) struct Table {
    columns: Vec<Value>,
    rows: Vec<Value>,
}

impl Table {
    /// Columns with these names.
    pub(super) fn new(columns: &[&str]) -> Self {
        let columns = columns.iter().map(|name| json!({ "name": name })).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Prints a column's numbers with this many digits after the point.
    pub(super) fn digits(mut self, column: &str, digits: u32) -> Self {
        self.set(column, "digits", digits.into());
        self
    }

    /// A column of ratios, of which those below one are bold.
    pub(super) fn ratio(mut self, column: &str) -> Self {
        self.set(column, "digits", 2.into());
        self.set(column, "ratio", true.into());
        self
    }

    fn set(&mut self, name: &str, key: &str, value: Value) {
        for column in self.columns.iter_mut().filter(|column| column["name"] == name) {
            column[key] = value.clone();
        }
    }

    /// A row: a cell a column.
    pub(super) fn row(&mut self, cells: Vec<Value>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell a column: {cells:?}");
        self.rows.push(cells.into());
    }

    /// Writes the table as `NAME.MACHINE.json`, which takes the place of the same machine's last one, and
    /// the documents that show it. A table without rows is left out.
    pub(super) fn write(
        self,
        name: &str,
        command: &str,
        versions: &[(&str, Option<String>)],
    ) -> anyhow::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let machine = machine();
        let mut all = serde_json::Map::new();
        all.insert("Magpie".to_owned(), commit().into());
        for (name, version) in versions {
            all.insert((*name).to_owned(), version.clone().into());
        }
        let path = root().join(FOLDER).join(format!("{name}.{}.json", short(&machine)));
        let date = output(program("date").args(["-u", "+%F"]));
        // A column and a row a line, so that a difference between two versions can be read.
        let lines = |values: &[Value]| {
            let lines: Vec<String> = values.iter().map(|value| format!("    {value}")).collect();
            format!("[\n{}\n  ]", lines.join(",\n"))
        };
        let text = format!(
            "{{\n  \"machine\": {},\n  \"versions\": {},\n  \"date\": {},\n  \"command\": {},\n  \
             \"columns\": {},\n  \"rows\": {}\n}}\n",
            json!(machine),
            Value::Object(all),
            json!(date),
            json!(command),
            lines(&self.columns),
            lines(&self.rows),
        );
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        say(&format!("   {}", path.display()));
        report::run()
    }
}

/// A measured number to three digits, as JSON; nothing where it is missing.
pub(super) fn number(value: Option<f64>) -> Value {
    let Some(value) = value.filter(|value| value.is_finite()) else { return Value::Null };
    if value == 0.0 {
        return 0.into();
    }
    let digits = (2 - value.abs().log10().floor() as i32).max(0);
    let scale = 10_f64.powi(digits);
    let rounded = (value * scale).round() / scale;
    if digits == 0 { (rounded as i64).into() } else { rounded.into() }
}

/// One number over another.
pub(super) fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Value {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if theirs > 0.0 && (ours / theirs).is_finite() => {
            ((ours / theirs * 100.0).round() / 100.0).into()
        }
        _ => Value::Null,
    }
}

/// Processor, cores, instructions and memory, as the system tells them.
fn machine() -> String {
    let cpu = output(program("lscpu").env("LC_ALL", "C")).unwrap_or_default();
    let mut parts = processor(&cpu);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    parts.extend(kib.map(|kib: u64| format!("{} GiB", (kib + (1 << 19)) >> 20)));
    parts.join(", ")
}

/// Processor, cores and the widest vectors, of what `lscpu` says.
fn processor(cpu: &str) -> Vec<String> {
    let field = |name: &str| {
        // "Model" begins the line of the name, too.
        let value =
            |line: &str| Some(line.trim().strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
        cpu.lines().find_map(value)
    };
    let mut parts = vec![field("Model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())];
    if let (Some(family), Some(model)) = (field("CPU family"), field("Model")) {
        parts[0] = format!("{} (family {family}, model {model})", parts[0]);
    }
    parts.extend(field("CPU(s)").map(|cores| format!("{cores} cores")));
    let flags = field("Flags").unwrap_or_default();
    let widest = [("avx512f", "AVX-512"), ("avx2", "AVX2")];
    let has = |wanted: &str| flags.split(' ').any(|flag| flag == wanted);
    parts.extend(widest.iter().find(|(flag, _)| has(flag)).map(|(_, name)| (*name).to_owned()));
    parts
}

/// A machine's name as part of a file's.
fn short(machine: &str) -> String {
    let mut text = String::new();
    let processor = machine.find(" cores").map_or(machine, |at| &machine[..at]);
    for c in processor.rsplit_once(", ").map_or(processor, |(name, _)| name).chars() {
        match c {
            c if c.is_ascii_alphanumeric() => text.push(c.to_ascii_lowercase()),
            _ if !text.ends_with('-') => text.push('-'),
            _ => {}
        }
    }
    text.trim_matches('-').to_owned()
}

/// The commit that is measured.
fn commit() -> Option<String> {
    output(program("git").args(["rev-parse", "--short", "HEAD"]))
}

/// The version of a program: the last word of what it says that begins with a digit.
pub(super) fn version(name: &str) -> Option<String> {
    let text = output(program(name).arg("--version"))?;
    let words: Vec<&str> = text.lines().next()?.split(' ').collect();
    let digit = |word: &&&str| word.starts_with(|c: char| c.is_ascii_digit());
    words.iter().find(digit).map(|word| (*word).to_owned())
}

/// The version of a package that npm installed below a folder.
pub(super) fn npm_version(folder: &Path, package: &str) -> Option<String> {
    let path = folder.join("node_modules").join(package).join("package.json");
    let value: Value = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    value["version"].as_str().map(str::to_owned)
}

/// The version of a package that Python finds.
pub(super) fn python_version(python: &str, package: &str) -> Option<String> {
    const TELL: &str = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))";
    output(program(python).args(["-c", TELL, package]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let texts = [1234.56, 12.3456, 0.012_345, 0.0, 99.96].map(|n| number(Some(n)).to_string());
        assert_eq!(texts, ["1235", "12.3", "0.0123", "0", "100.0"]);
        assert_eq!(number(None), Value::Null);
    }

    #[test]
    fn processors_of_one_name_are_told_apart() {
        let told = "Architecture: x86_64\nCPU(s): 2\nModel name:  AMD EPYC\nCPU family:  25\nModel:  1\nFlags: fpu avx avx2";
        assert_eq!(processor(told), ["AMD EPYC (family 25, model 1)", "2 cores", "AVX2"]);
        let wide = told.replace("avx2", "avx2 avx512f");
        assert_eq!(processor(&wide)[2], "AVX-512");
        assert_eq!(processor("").len(), 1);
    }

    #[test]
    fn a_machine_names_its_files() {
        assert_eq!(short("AMD EPYC (family 25, model 17), 2 cores"), "amd-epyc-family-25-model-17");
        assert_eq!(short("Intel(R) Xeon(R) @ 2.1GHz, 2 cores"), "intel-r-xeon-r-2-1ghz");
    }
}
