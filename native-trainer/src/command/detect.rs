//! `magpie detect`: where things are in pictures, with a detector alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use models::detector::DetectionThresholds;
use models::recognizer::detect;
use serde_json::json;

use crate::cli::Failures;
use crate::cli::{DeviceKind, open_detector, write};
use crate::data::store::read_picture;
use crate::files::{self, FileError};
use crate::networks;
use crate::terminal::counted;

/// Finds the objects of pictures, without naming them.
///
/// A picture that cannot be used is named, the others are done, and the command ends with 1.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie detect --detector runs/boxes/model.safetensors --crops \
    found shelf.jpg"
)]
pub struct Arguments {
    /// Model file of the detector; by default the one that magpie brings along, if there is one. A file that is
    /// called `none` is given as `./none`.
    #[arg(long)]
    detector: Option<PathBuf>,
    /// Pictures.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    /// Least score of an object.
    #[arg(long, default_value_t = 0.3, value_parser = crate::cli::ranges::score)]
    score: f32,
    /// Most objects of a picture.
    #[arg(long, default_value_t = 100, value_parser = crate::cli::ranges::count)]
    max: usize,
    /// Folder for the objects cut out, as NAME-1.jpg, NAME-2.jpg, …; of a further picture of that name as
    /// NAME~2-1.jpg, NAME~2-2.jpg, …
    #[arg(long)]
    crops: Option<PathBuf>,
    /// Replaces cut-outs of these names; otherwise one that is there already is an error.
    #[arg(long, requires = "crops")]
    overwrite: bool,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Prints one JSON object per picture.
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
        let names = crop_names(&self.pictures);
        if let Some(folder) = &self.crops {
            self.check_crops(folder, &names)?;
        }
        let detector = networks::detector_alone(self.detector.as_deref())?;
        let detector = open_detector(&detector, self.device)?;
        let thresholds = DetectionThresholds {
            score: self.score,
            max_detections: self.max,
            ..DetectionThresholds::default()
        };
        let mut failures = Failures::new(self.json);
        for (path, name) in self.pictures.iter().zip(&names) {
            let Some(picture) = failures.take(path, read_picture(path)) else { continue };
            let found = pollster::block_on(detect(&detector, &picture, &thresholds))?;
            if let Some(folder) = &self.crops {
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
            println!("{}: {}", path.display(), counted(found.len(), "object", "objects"));
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

impl Arguments {
    /// Whether crops can be written, and over none of the pictures.
    fn check_crops(&self, folder: &Path, names: &[String]) -> Result<(), FileError> {
        if let Some(name) = names.first() {
            files::check_outputs(&[&folder.join(format!("{name}-1.jpg"))], &[])?;
        }
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let is_crop = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let parts = name.and_then(|name| name.strip_suffix(".jpg")?.rsplit_once('-'));
            parts
                .is_some_and(|(name, number)| names.contains(name) && number.parse::<u64>().is_ok())
        };
        let mut crops = self.pictures.iter().filter(|path| is_crop(path));
        if let Some(path) = crops.find(|path| files::is_same(files::folder_of(path), folder)) {
            return Err(FileError::IsInput { path: path.clone() });
        }
        if self.overwrite {
            return Ok(());
        }
        let there = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut taken: Vec<PathBuf> =
            there.map(|entry| entry.path()).filter(|path| is_crop(path)).collect();
        taken.sort();
        files::check_free(taken.iter().map(PathBuf::as_path))
    }
}

/// How the names of each picture's crops begin: as the picture's, told apart where several have one.
fn crop_names(pictures: &[PathBuf]) -> Vec<String> {
    let stem = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // Some disks take small and capital letters for the same.
    let given: BTreeSet<String> = pictures.iter().map(|path| stem(path).to_lowercase()).collect();
    let mut taken = BTreeSet::new();
    let name = |path| {
        let stem = stem(path);
        if taken.insert(stem.to_lowercase()) {
            return stem;
        }
        let others = (2_u64..).map(|number| format!("{stem}~{number}"));
        let is_free = |name: &String| {
            let name = name.to_lowercase();
            !given.contains(&name) && taken.insert(name)
        };
        others.into_iter().find(is_free).unwrap_or(stem)
    };
    pictures.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_of_one_name_are_told_apart() {
        let pictures =
            ["a/shelf.jpg", "b/shelf.jpg", "Shelf.png", "shelf~2.jpg", "x.jpg", "a/shelf.jpg"];
        let names = crop_names(&pictures.map(PathBuf::from));
        assert_eq!(names, ["shelf", "shelf~3", "Shelf~4", "shelf~2", "x", "shelf~5"]);
    }
}
