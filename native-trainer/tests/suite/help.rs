//! `--help` of every command, as snapshots.

use std::process::{Command, Stdio};

use crate::snapshots;

/// What `magpie … --help` prints, in lines of 100 characters.
fn help(words: &[String]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.args(words).arg("--help").env("COLUMNS", "100").stdin(Stdio::null());
    let output = command.output().expect("magpie runs");
    assert!(output.status.success(), "{words:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!(
        "$ magpie {}\n{}\n\n",
        [words, &["--help".to_owned()]].concat().join(" "),
        lines.join("\n")
    )
}

/// The commands that a help names.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let named = listed.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        name.split_whitespace().next().map(str::to_owned)
    });
    named.filter(|name| name != "help").collect()
}

/// The help of a command and of those below it.
fn with_all_below(words: &[String]) -> String {
    let own = help(words);
    let below = commands(&own).into_iter().map(|name| with_all_below(&[words, &[name]].concat()));
    let below: String = below.collect();
    own + &below
}

#[test]
fn every_command_says_what_it_does_and_takes() {
    let root = help(&[]);
    snapshots::check("help", &root);
    let commands = commands(&root);
    assert!(commands.len() > 10, "{commands:?}");
    for name in commands {
        snapshots::check(&format!("help_{name}"), &with_all_below(&[name]));
    }
}

#[test]
fn helps_have_the_words_of_the_glossary_and_files_that_the_documents_make() {
    let helps = with_all_below(&[]);
    for word in ["weights/extractor", "weights/detector", "for people", "so many", "whole number"] {
        assert!(!helps.contains(word), "a help says {word:?}");
    }
    let readme = include_str!("../../../README.md");
    let made = ["lite0.safetensors", "gallery.bin"];
    assert!(made.iter().all(|file| helps.contains(file) && readme.contains(file)));
    let training = include_str!("../../../docs/training.md");
    assert!(
        helps.contains("runs/boxes/model.safetensors") && training.contains("--out runs/boxes")
    );
}
