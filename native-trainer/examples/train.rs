//! Trains an extractor on a few drawn images: `run` gets the log, the checkpoints and `model.safetensors`.
//!
//! `cargo run --package magpie-train --example train`

#![expect(clippy::print_stdout, reason = "an example prints what it made")]

use std::path::Path;

use models::{Device, RgbImage};
use native_trainer::{Recipe, train_recipe};

/// What is different from the recipe, which magpie brings along.
const CHANGES: [&str; 13] = [
    "epochs=2",
    "schedule.learning_rate=0.01",
    "schedule.warmup_epochs=0",
    "epoch_samples=24",
    "batch_size=6",
    "preprocess.width=32",
    "preprocess.height=32",
    "extractor.train=photos",
    "extractor.query=photos",
    "extractor.gallery=photos",
    "extractor.hold_out=0.25",
    "extractor.sampler.samples_per_class=2",
    "extractor.model.backbone.width=8",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (class, color) in
        [("red", [190, 40, 40]), ("green", [40, 160, 60]), ("blue", [50, 80, 190])]
    {
        let folder = Path::new("photos").join(class);
        std::fs::create_dir_all(&folder)?;
        for number in 0..4 {
            let shade = color.map(|value: u8| value + 8 * number);
            let image = RgbImage::from_rgb(40, 40, shade.repeat(40 * 40))?;
            std::fs::write(folder.join(format!("{number}.png")), image.encode_png()?)?;
        }
    }
    let recipe = Recipe::read(Path::new("emoji-extractor"), &CHANGES.map(str::to_owned))?;
    let model = train_recipe(&recipe, Path::new("run"), &Device::flex())?;
    println!("{}", model.display());
    Ok(())
}
