//! The demo of emoji: networks that the project trains itself, and the small world of the browser tests.

use std::path::{Path, PathBuf};

use super::lists::Lists;
use super::{SAMPLES, finish_publishing, magpie};
use crate::setup;
use crate::steps::{execute, is_fresh, program, root, say, step};

/// Everything that this demo makes; not in the repository.
const FOLDER: &str = ".magpie/demo";
/// Weights in the repository, learned by the recipes of the same names.
pub(crate) const WEIGHTS: &str = "www/demo/weights";
/// Least cosine for an answer of the demo's model: below it wrong answers are the rule.
const MIN_SIMILARITY: &str = "0.5";
/// Least score of an object of the demo's detector: below it, stripes of the background are the rule.
const MIN_SCORE: &str = "0.5";

/// Seed of the sample pictures: scenes of emoji never trained on that show the page at its best;
/// docs/demo.md has the figures over scenes that nobody chose.
const SAMPLE_SEED: &str = "101";

/// The published demo of emoji.
pub(crate) fn site() -> PathBuf {
    root().join(FOLDER).join("site")
}

/// Makes the site, with networks trained here if they are asked for.
pub(super) fn make(trained: bool) -> anyhow::Result<()> {
    let folder = root().join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    let lists = Lists::in_folder(&folder);
    step("demo pictures", || {
        setup::npm("www/demo")?;
        let modules = root().join("www/demo/node_modules");
        let drawings = folder.join("drawings");
        if trained {
            draw(&modules.join("emoji-datasource-google/emoji.json"), &drawings)?;
        }
        let (classes, tests) = lists.write(&modules, &drawings)?;
        say(&format!("   {classes} emoji, {tests} of them kept out of training"));
        Ok(())
    })?;
    let weights = if trained { train(&folder)? } else { root().join(WEIGHTS) };
    let made = if trained { "trained-" } else { "" };
    // Ten bits a weight instead of sixteen name as many drawings, and find all but a tenth of a point
    // (docs/demo.md).
    let [extractor, detector] = ["extractor", "detector"].map(|name| {
        (
            weights.join(name).with_extension("safetensors"),
            folder.join(format!("{made}{name}-i10.safetensors")),
        )
    });
    for (floats, small) in [&extractor, &detector] {
        if !is_fresh(small, &[floats]) {
            step("weights in ten bits", || {
                let mut export = magpie();
                execute(
                    export.args(["export", "--precision", "i10", "--out"]).args([small, floats]),
                )
            })?;
        }
    }
    let (extractor, detector) = (extractor.1, detector.1);

    // A gallery belongs to its extractor. Bytes instead of 16-bit floats halve its download and move
    // the recall by less than two drawings of 548 (docs/demo.md).
    let gallery = folder.join(format!("{made}gallery-i8.bin"));
    if !is_fresh(&gallery, &[&extractor, &lists.gallery]) {
        step("gallery", || {
            execute(
                magpie()
                    .args(["gallery", "build", "--values", "i8", "--images"])
                    .arg(&lists.gallery)
                    .arg("--extractor")
                    .arg(&extractor)
                    .arg("--out")
                    .arg(&gallery),
            )
        })?;
    }
    let samples = folder.join(format!("samples-{SAMPLE_SEED}"));
    if !is_fresh(&samples.join(format!("{SAMPLES}.jpg")), &[&lists.samples]) {
        step("sample pictures", || {
            execute(
                magpie()
                    .args([
                        "scene",
                        "--overwrite",
                        "--count",
                        &SAMPLES.to_string(),
                        "--seed",
                        SAMPLE_SEED,
                        "--size",
                        "320",
                        "--max-things",
                        "4",
                        "--cutouts",
                    ])
                    .arg(&lists.samples)
                    .arg("--out")
                    .arg(&samples),
            )
        })?;
    }
    step("publish", || publish(&extractor, &detector, &gallery, &samples))
}

/// Turns the vector drawings that only training looks at into pixels.
fn draw(emoji: &Path, drawings: &Path) -> anyhow::Result<()> {
    const TOOL: &str = "www/demo/drawings";
    setup::npm(TOOL)?;
    let sources = ["rasterise.mjs", "package-lock.json"].map(|file| format!("{TOOL}/{file}"));
    if is_fresh(&drawings.join("done"), &sources) {
        return Ok(());
    }
    execute(program("node").arg(root().join(&sources[0])).arg(emoji).arg(drawings))
}

/// Trains both networks as the recipes say.
fn train(folder: &Path) -> anyhow::Result<PathBuf> {
    let weights = folder.join("trained");
    std::fs::create_dir_all(&weights)?;
    for name in ["detector", "extractor"] {
        step(&format!("training the {name}"), || {
            let run = folder.join("runs").join(name);
            let recipe = root().join(format!("native-trainer/recipes/emoji-{name}.toml"));
            let _ = std::fs::remove_dir_all(&run);
            execute(magpie().arg("train").arg("-c").arg(recipe).arg("--out").arg(&run))?;
            let file = weights.join(format!("{name}.safetensors"));
            std::fs::copy(run.join("model.safetensors"), file)?;
            Ok(())
        })?;
    }
    Ok(weights)
}

fn publish(
    extractor: &Path,
    detector: &Path,
    gallery: &Path,
    samples: &Path,
) -> anyhow::Result<()> {
    let mut command = magpie();
    command
        .args(["publish", "--title", "Magpie: which emoji is it?"])
        .args(["--min-similarity", MIN_SIMILARITY, "--min-score", MIN_SCORE])
        .args(["--note", "Pictures: Noto Emoji (Apache-2.0), Twemoji (CC BY 4.0)."])
        .arg("--extractor")
        .arg(extractor)
        .arg("--detector")
        .arg(detector);
    finish_publishing(command, gallery, samples, &site())
}
