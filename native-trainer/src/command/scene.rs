//! `magpie scene`: composes sample pictures from cut-outs.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use crate::cli::samples;
use crate::data::backdrop::BackdropList;
use crate::data::list_file::Samples;
use crate::data::scenes::{Scene, SceneOptions, compose, compose_on, generated, portrait};
use crate::data::store::PictureStore;
use crate::files;
use crate::random::seeded;
use crate::terminal::counted;

/// Sides of a thing in --each, as a share of the picture's: it fills the picture as the crop of a found object does.
const PORTRAIT: [f32; 2] = [0.6, 0.85];
/// Pictures that are written at most.
const MOST: usize = 1_000_000;

/// Pastes cut-outs onto generated backgrounds, as the detector's training does, or onto photographs, and writes the
/// pictures with a JSON file that says what is where.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  magpie scene --cutouts cutouts --out scenes --count 10\n  \
    magpie scene --cutouts products.txt --cut --each 3 --out views   # views/list.txt for `gallery build`\n\n\
    A line of --backgrounds: the path of a photograph; behind a tab, the part of it that is taken, as left, top, right \
    and bottom in shares of its sides: `wall.jpg<tab>0 0 0.5 1`.")]
pub struct Arguments {
    /// List file or folder of cut-outs with transparency.
    #[arg(long)]
    cutouts: PathBuf,
    /// Cuts things out of pictures without transparency if their background is plain.
    #[arg(long)]
    cut: bool,
    /// Text file of photographs to paste onto.
    #[arg(long)]
    backgrounds: Option<PathBuf>,
    /// Folder to write 1.jpg, 1.json, 2.jpg, …
    #[arg(long)]
    out: PathBuf,
    /// Replaces files of these names; otherwise one that is there already is an error.
    #[arg(long)]
    overwrite: bool,
    /// Number of pictures.
    #[arg(long, default_value_t = 4, value_parser = crate::cli::ranges::count)]
    count: usize,
    /// Number of pictures of each cut-out alone; list.txt says what they show.
    #[arg(
        long,
        conflicts_with_all = ["count", "max_things", "min_things"],
        value_parser = crate::cli::ranges::count
    )]
    each: Option<usize>,
    /// Width and height in pixels.
    #[arg(long, default_value_t = 480, value_parser = clap::value_parser!(u32).range(1..=8192))]
    size: u32,
    /// Most things of one picture.
    #[arg(long, default_value_t = 5, value_parser = crate::cli::ranges::count)]
    max_things: usize,
    /// Least things of one picture, all of them different; by default there may be none, or one twice.
    #[arg(long)]
    min_things: Option<usize>,
    /// Smallest and largest side of a thing, as a share of the picture's.
    #[arg(long, num_args = 2, value_names = ["SMALLEST", "LARGEST"], default_values_t = [0.22, 0.45])]
    thing_size: Vec<f32>,
    /// Largest rotation to either side, in degrees.
    #[arg(long, default_value_t = 12.0, value_parser = crate::cli::ranges::rotation)]
    rotation: f32,
    /// The same seed gives the same pictures.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Pictures that cannot be read, sizes of things that are none, a disk that refuses.
    pub fn run(&self) -> anyhow::Result<()> {
        let size = match self.thing_size[..] {
            [low, high] if 0.0 < low && low <= high && high <= 2.0 => [low, high],
            _ => bail!("--thing-size {:?}: two shares, the smaller one first", self.thing_size),
        };
        if let Some(least) = self.min_things.filter(|least| *least > self.max_things) {
            bail!(
                "--min-things {least}: is more than --max-things {}; give a smaller number, or raise that one",
                self.max_things
            );
        }
        let samples = samples(&self.cutouts)?;
        if let Some(least) = self.min_things.filter(|least| *least > samples.samples.len()) {
            bail!(
                "--min-things {least}: {} holds {}, and all things of a picture are different; give a smaller number",
                self.cutouts.display(),
                counted(samples.samples.len(), "cut-out", "cut-outs")
            );
        }
        let list = self.backgrounds.as_deref().map(BackdropList::read).transpose()?;
        let count = match self.each {
            Some(each) => each.saturating_mul(samples.samples.len()),
            None => self.count,
        };
        if count > MOST {
            bail!("{count} pictures are too many; {MOST} can be written at once");
        }
        let count = count as u64;
        let pair =
            |index: u64| ["jpg", "json"].map(|kind| self.out.join(format!("{index}.{kind}")));
        let mut outputs: Vec<PathBuf> = (1..=count).flat_map(pair).collect();
        outputs.extend(self.each.map(|_| self.out.join("list.txt")));
        let outputs: Vec<&Path> = outputs.iter().map(PathBuf::as_path).collect();
        let mut inputs: Vec<&Path> = vec![&self.cutouts];
        inputs.extend(samples.samples.iter().map(|sample| &*sample.path));
        inputs.extend(self.backgrounds.as_deref());
        inputs.extend(list.iter().flat_map(BackdropList::paths));
        files::check_outputs(&outputs, &inputs)?;
        if !self.overwrite {
            files::check_free(outputs.iter().copied())?;
        }

        let backdrops = list.as_ref().map(BackdropList::open).transpose()?;
        let paths = samples.samples.iter().map(|s| s.path.clone()).collect();
        let store = PictureStore::new(paths, self.size);
        let store = if self.cut { store.cutting_out() } else { store };
        let options = SceneOptions {
            max_things: self.max_things,
            size: if self.each.is_some() { PORTRAIT } else { size },
            rotation: self.rotation,
            color: 0.1,
        };
        let mut views = String::new();
        for index in 1..=count {
            let random = &mut seeded(&[self.seed, index]);
            let mut background = || match &backdrops {
                Some(backdrops) => backdrops.draw(self.size, self.size, random),
                None => generated(self.size, self.size, random),
            };
            let scene = match (self.each, self.min_things) {
                (Some(each), _) => {
                    let thing = (index - 1) as usize / each;
                    portrait(background(), &store, thing, &options, random)?
                }
                (None, None) if backdrops.is_none() => {
                    compose(&store, &options, self.size, self.size, random)?
                }
                (None, least) => {
                    compose_on(background(), &store, &options, least.unwrap_or(0), random)?
                }
            };
            for thing in scene.things.iter().filter(|_| self.each.is_some()) {
                let label = &samples.labels[samples.samples[*thing].label];
                writeln!(views, "{index}.jpg\t{label}")?;
            }
            let [picture, objects] = pair(index);
            files::write_together(&[
                (&picture, &scene.image.encode_jpeg(92)?),
                (&objects, &objects_of(&scene, &samples)?),
            ])?;
        }
        if self.each.is_some() {
            files::write(&self.out.join("list.txt"), views.as_bytes())?;
        }
        Ok(())
    }
}

/// What is where, as JSON.
fn objects_of(scene: &Scene, samples: &Samples) -> anyhow::Result<Vec<u8>> {
    let objects: Vec<_> = scene
        .boxes
        .iter()
        .zip(&scene.things)
        .map(|(b, thing)| {
            let label = &samples.labels[samples.samples[*thing].label];
            serde_json::json!({"label": label, "bbox": [b.x1, b.y1, b.x2, b.y2]})
        })
        .collect();
    Ok(serde_json::to_vec_pretty(&objects)?)
}
