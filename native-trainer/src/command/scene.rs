//! `magpie scene`: composes sample pictures from cut-outs.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::samples;
use crate::data::scenes::{SceneOptions, compose};
use crate::data::store::PictureStore;
use crate::files;
use crate::random::seeded;

/// Pastes cut-outs onto generated backgrounds, as the detector's training does, and writes the
/// pictures with a JSON file that says what is where.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie scene --cutouts cutouts --out scenes --count 10")]
pub struct Arguments {
    /// List file or folder of cut-outs with transparency.
    #[arg(long)]
    cutouts: PathBuf,
    /// Folder to write 1.jpg, 1.json, 2.jpg, …
    #[arg(long)]
    out: PathBuf,
    /// Number of pictures.
    #[arg(long, default_value_t = 4)]
    count: u64,
    /// Width and height in pixels.
    #[arg(long, default_value_t = 480, value_parser = clap::value_parser!(u32).range(1..=8192))]
    size: u32,
    /// Most things of one picture.
    #[arg(long, default_value_t = 5)]
    max_things: usize,
    /// The same seed gives the same pictures.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Pictures that cannot be read, a disk that refuses.
    pub fn run(&self) -> anyhow::Result<()> {
        let samples = samples(&self.cutouts)?;
        let pair =
            |index: u64| ["jpg", "json"].map(|kind| self.out.join(format!("{index}.{kind}")));
        let outputs: Vec<PathBuf> = (1..=self.count).flat_map(pair).collect();
        let outputs: Vec<&Path> = outputs.iter().map(PathBuf::as_path).collect();
        let mut inputs: Vec<&Path> = vec![&self.cutouts];
        inputs.extend(samples.samples.iter().map(|sample| &*sample.path));
        files::check_outputs(&outputs, &inputs)?;
        let store =
            PictureStore::new(samples.samples.iter().map(|s| s.path.clone()).collect(), self.size);
        let options = SceneOptions {
            max_things: self.max_things,
            size: [0.22, 0.45],
            rotation: 12.0,
            color: 0.1,
        };
        for index in 1..=self.count {
            let mut random = seeded(&[self.seed, index]);
            let scene = compose(&store, &options, self.size, self.size, &mut random)?;
            let objects: Vec<_> = scene
                .boxes
                .iter()
                .zip(&scene.things)
                .map(|(b, thing)| {
                    let label = &samples.labels[samples.samples[*thing].label];
                    serde_json::json!({"label": label, "bbox": [b.x1, b.y1, b.x2, b.y2]})
                })
                .collect();
            let [picture, objects_path] = pair(index);
            let objects = serde_json::to_vec_pretty(&objects)?;
            files::write_together(&[
                (&picture, &scene.image.encode_jpeg(92)?),
                (&objects_path, &objects),
            ])?;
        }
        Ok(())
    }
}
