//! `magpie data`: checks and prepares what is trained on.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::cli::write;
use crate::data::check::{Demand, Report, check_boxes, check_classes};
use crate::data::coco::{self, Finding, Part, Written};
use crate::data::layouts::{Lists, cub, sop};
use crate::files;
use crate::progress::Progress;
use crate::recipe::{Recipe, Task};
use crate::terminal::counted;

/// Checks data sets and prepares public ones.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
    #[command(
        about = "Writes the list files of CUB-200-2011: its first 100 classes to train, the others to test",
        after_help = "Example:\n  magpie data cub CUB_200_2011\n  magpie train -c cub-mobilenet-v1 --out runs/cub"
    )]
    Cub(Layout),
    #[command(
        about = "Writes the list files of Stanford Online Products, split as its own lists say",
        after_help = "Example:\n  magpie data sop Stanford_Online_Products\n  magpie train -c sop-resnet50-vd \
            --out runs/sop"
    )]
    Sop(Layout),
    CocoForeground(CocoForeground),
    Voc(Voc),
}

/// Reads a whole data set and reports all that is wrong with it: broken pictures, missing files,
/// the same picture twice, classes too small for the sampler, gaps between labels, boxes that teach
/// nothing or something false.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  magpie data check photos\n  magpie data check -c \
    photos -o extractor.train=photos\n  magpie data check \
    annotations/train.json --images pictures\n\nEnds with 1 where something \
    would keep training from working or teach it something false.")]
struct Check {
    /// List files, folders with one sub-folder per class, COCO files.
    #[arg(required_unless_present = "config")]
    paths: Vec<PathBuf>,
    /// Folder of the pictures of COCO files; by default looked for beside the file, in `images` and in
    /// folders named like the file, here and one level up.
    #[arg(long, requires = "paths")]
    images: Option<PathBuf>,
    /// Recipe: checks the data that it names, by what its sampler takes.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Changes a value of the recipe; may be repeated.
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Pictures of a class that a batch takes.
    #[arg(long, default_value_t = 2, value_parser = crate::cli::ranges::count)]
    samples_per_class: usize,
    /// Prints one JSON object a data set.
    #[arg(long)]
    json: bool,
}

/// A public data set whose lists are written.
#[derive(Debug, Args)]
struct Layout {
    /// Folder as it was unpacked; gets `train_list.txt` and `test_list.txt`.
    folder: PathBuf,
    /// Replaces lists that say something else; otherwise one that is there already is an error.
    #[arg(long)]
    overwrite: bool,
}

/// Mixes COCO files into one with the single category `foreground`, for the detector.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie data coco-foreground --out mixed.json \
    --part annotations/instances_train2017.json,images=train2017,take=5000 \
    --part logos/instances.json")]
struct CocoForeground {
    /// A COCO file, with `,images=FOLDER` where its pictures are not found by themselves and `,take=N`
    /// to draw N of them; may be repeated.
    #[arg(long = "part", required = true, value_parser = parse_part)]
    parts: Vec<Part>,
    /// COCO file to write; pictures below its folder are named from there.
    #[arg(long)]
    out: PathBuf,
    /// The same seed draws the same pictures.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Turns Pascal VOC's boxes into a COCO file.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie data voc VOC2012 --out VOC2012/boxes.json")]
struct Voc {
    /// Folder with `Annotations` and `JPEGImages`.
    folder: PathBuf,
    /// COCO file to write; pictures below its folder are named from there.
    #[arg(long)]
    out: PathBuf,
}

fn parse_part(text: &str) -> Result<Part, String> {
    let mut words = text.split(',');
    let annotations = words.next().unwrap_or_default().into();
    let mut part = Part { annotations, images: None, take: None };
    for word in words {
        match word.split_once('=') {
            Some(("images", folder)) => part.images = Some(folder.into()),
            Some(("take", count)) => {
                let count = count.parse().map_err(|error| format!("take={count}: {error}"))?;
                part.take = Some(count);
            }
            _ => return Err(format!("{word:?} is neither images=FOLDER nor take=N")),
        }
    }
    Ok(part)
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or written; a check that found errors.
    pub fn run(&self) -> anyhow::Result<()> {
        match &self.command {
            Command::Check(check) => check.run(),
            Command::Cub(layout) => layout.write(&cub(&layout.folder)?),
            Command::Sop(layout) => layout.write(&sop(&layout.folder)?),
            Command::CocoForeground(mix) => {
                let parts: Vec<&Path> = mix.parts.iter().map(|part| &*part.annotations).collect();
                files::check_outputs(&[&mix.out], &parts)?;
                let progress = Progress::new("pictures", 0);
                let seen = |total| progress.advance_of(total);
                let mixed = coco::foreground(&mix.parts, &mix.out, mix.seed, &seen)?;
                drop(progress);
                write_boxes(&mix.out, &mixed)
            }
            Command::Voc(voc) => {
                let progress = Progress::new("pictures", 0);
                let seen = |total| progress.advance_of(total);
                let converted = coco::from_voc(&voc.folder, &voc.out, &seen)?;
                drop(progress);
                write_boxes(&voc.out, &converted)
            }
        }
    }
}

fn write_boxes(out: &Path, written: &Written) -> anyhow::Result<()> {
    tell_notes(&written.notes);
    write(out, &written.bytes)
}

/// Says what is left out of COCO files.
pub(super) fn tell_notes(notes: &[(PathBuf, Finding)]) {
    for (path, note) in notes {
        eprintln!("note: {}: {note}", path.display());
    }
}

impl Layout {
    fn write(&self, lists: &Lists) -> anyhow::Result<()> {
        let [train, test] = ["train_list.txt", "test_list.txt"].map(|name| self.folder.join(name));
        let both = [(&*train, &lists.train), (&*test, &lists.test)];
        if !self.overwrite {
            let is_other = |path: &Path, text: &str| {
                std::fs::read(path).map_or(true, |there| there != text.as_bytes())
            };
            let others = both.iter().filter(|(path, text)| is_other(path, text));
            files::check_free(others.map(|(path, _)| *path))?;
        }
        files::write_together(&both.map(|(path, text)| (path, text.as_bytes())))?;
        for (path, text) in both {
            let pictures = counted(text.lines().count(), "picture", "pictures");
            println!("{}: {pictures}", path.display());
        }
        Ok(())
    }
}

impl Check {
    fn run(&self) -> anyhow::Result<()> {
        let samples_per_class = self.samples_per_class;
        let demand = Demand { classes: 2, samples_per_class };
        let set = |path: &PathBuf| Set { path: path.clone(), images: self.images.clone(), demand };
        let mut sets: Vec<Set> = self.paths.iter().map(set).collect();
        if let Some(path) = &self.config {
            sets.extend(sets_of(&Recipe::read(path, &self.overrides)?));
        }
        if self.images.is_some() && !sets.iter().any(|set| is_coco(&set.path)) {
            bail!("--images goes with COCO files (*.json); none is named");
        }
        let mut errors = 0;
        for Set { path, images, demand } in sets {
            let progress = Progress::new("pictures", 0);
            let seen = |total| progress.advance_of(total);
            let report = if is_coco(&path) {
                check_boxes(&path, images.as_deref(), &seen)?
            } else {
                check_classes(&path, demand, &seen)?
            };
            drop(progress);
            errors += report.errors();
            self.print(&path, &report)?;
        }
        if errors > 0 {
            bail!("{} in the data; the lines above name them", counted(errors, "error", "errors"));
        }
        Ok(())
    }

    fn print(&self, path: &Path, report: &Report) -> anyhow::Result<()> {
        if self.json {
            let mut record = serde_json::to_value(report)?;
            let object = record.as_object_mut().context("a report is an object")?;
            object.insert("path".to_owned(), path.display().to_string().into());
            object.insert("errors".to_owned(), report.errors().into());
            println!("{record}");
            return Ok(());
        }
        for finding in &report.findings {
            let kind = if finding.is_error() { "error" } else { "note" };
            println!("{kind}: {finding}");
        }
        let what = match (report.classes, report.boxes) {
            (0, boxes) => counted(boxes, "box", "boxes"),
            (classes, _) => counted(classes, "class", "classes"),
        };
        println!(
            "{}: {}, {what}; {}, {}",
            path.display(),
            counted(report.pictures, "picture", "pictures"),
            counted(report.errors(), "error", "errors"),
            counted(report.findings.len() - report.errors(), "note", "notes")
        );
        Ok(())
    }
}

fn is_coco(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"))
}

/// Data that are checked.
struct Set {
    path: PathBuf,
    /// Folder of a COCO file's pictures.
    images: Option<PathBuf>,
    demand: Demand,
}

/// The data that a recipe names, with what it takes of them.
fn sets_of(recipe: &Recipe) -> Vec<Set> {
    let any = Demand { classes: 1, samples_per_class: 1 };
    let mut sets = Vec::new();
    let set = |path: &PathBuf, demand| Set { path: path.clone(), images: None, demand };
    match &recipe.task {
        Task::Extractor(task) => {
            let taken = task.sampler.samples_per_class();
            let (samples_per_class, classes) =
                (taken.unwrap_or(1), taken.map_or(1, |k| recipe.batch_size / k.max(1)));
            sets.push(set(&task.train, Demand { classes, samples_per_class }));
            let others = [&task.query, &task.gallery].into_iter().flatten();
            sets.extend(others.map(|path| set(path, any)));
        }
        Task::Detector(task) => {
            let pictures = [&task.cutouts, &task.eval_cutouts].into_iter().flatten();
            sets.extend(pictures.map(|path| set(path, any)));
            for (path, images) in
                [(&task.coco, &task.coco_images), (&task.eval_coco, &task.eval_coco_images)]
            {
                let named = path.iter().map(|path| (path.clone(), images.clone()));
                sets.extend(named.map(|(path, images)| Set { path, images, demand: any }));
            }
        }
    }
    sets.dedup_by(|a, b| a.path == b.path && a.images == b.images);
    sets
}
