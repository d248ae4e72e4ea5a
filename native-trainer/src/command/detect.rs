//! `magpie detect`: where things are in pictures, with a detector alone.

use std::path::PathBuf;

use clap::Args;
use models::detector::DetectionThresholds;
use models::recognizer::detect;
use serde_json::json;

use super::failures::Failures;
use super::{DeviceKind, open_detector, write};
use crate::data::store::read_picture;

/// Finds the objects of pictures, without naming them.
///
/// A picture that cannot be used is named, the others are done, and the command ends with 1.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie detect --detector weights/detector.safetensors --crops \
    found shelf.jpg"
)]
pub struct Arguments {
    /// Model file of the detector.
    #[arg(long)]
    detector: PathBuf,
    /// Pictures.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    /// Least score of an object.
    #[arg(long, default_value_t = 0.3, value_parser = super::ranges::score)]
    score: f32,
    /// Most objects of a picture.
    #[arg(long, default_value_t = 100, value_parser = super::ranges::count)]
    max: usize,
    /// Folder for the objects cut out, as NAME-1.jpg, NAME-2.jpg, …
    #[arg(long)]
    crops: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Prints one JSON object a picture.
    #[arg(long)]
    json: bool,
}

/// JPEG quality of the objects cut out.
const CROP_QUALITY: u8 = 92;

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// A model or a picture that cannot be used, a disk that refuses.
    pub fn run(&self) -> anyhow::Result<()> {
        let detector = open_detector(&self.detector, self.device)?;
        let thresholds = DetectionThresholds {
            score: self.score,
            max_detections: self.max,
            ..DetectionThresholds::default()
        };
        let mut failures = Failures::new(self.json);
        for path in &self.pictures {
            let Some(picture) = failures.take(path, read_picture(path)) else { continue };
            let found = pollster::block_on(detect(&detector, &picture, &thresholds))?;
            if let Some(folder) = &self.crops {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                for (index, object) in found.iter().enumerate() {
                    let crop = picture.crop(&object.bbox).encode_jpeg(CROP_QUALITY)?;
                    write(&folder.join(format!("{name}-{}.jpg", index + 1)), &crop)?;
                }
            }
            if self.json {
                let objects: Vec<_> = found
                    .iter()
                    .map(|object| {
                        let b = &object.bbox;
                        json!({"bbox": [b.x1, b.y1, b.x2, b.y2], "score": object.score})
                    })
                    .collect();
                let picture = path.display().to_string();
                println!("{}", json!({"picture": picture, "objects": objects}));
                continue;
            }
            println!("{}: {} object(s)", path.display(), found.len());
            for object in &found {
                let b = &object.bbox;
                println!(
                    "  [{:.0}, {:.0}, {:.0}, {:.0}]  {:.2}",
                    b.x1, b.y1, b.x2, b.y2, object.score
                );
            }
        }
        failures.end()
    }
}
