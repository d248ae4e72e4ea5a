//! `magpie eval`: recall and mAP of an extractor, COCO's figures of a detector.

mod sets;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use models::detector::{Detection, Detector};
use models::inference::Prepared;

use super::data::tell_notes;
use crate::cli::Failures;
use crate::cli::{DeviceKind, Embedder, measured, open_detector, samples};
use crate::data::coco::{self, BoxedPictures};
use crate::data::list_file::Samples;
use crate::data::store::read_picture;
use crate::metric::detection::{Object, detection_metrics};
use crate::metric::retrieval::{remarks, retrieval_metrics};
use crate::networks;
use crate::progress::Progress;
use crate::terminal::counted;
use crate::train::boxes::find_boxes;

/// Measures how often an extractor finds the right class, or how well a detector finds boxes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  magpie eval --extractor lite0.safetensors \
    --query test_list.txt --gallery gallery_list.txt\n  magpie eval --detector \
    runs/boxes/model.safetensors --coco instances_val.json\n  magpie eval --extractor \
    lite0.safetensors --sets quality\n\nA folder in --sets is a set: class folders or list files, each \
    image searched among\nthe others; query.txt or query/ with gallery.txt, gallery-NAME.txt or such folders; \
    COCO\nfiles.")]
pub struct Arguments {
    /// Model file of the extractor; by default the one that magpie brings along where --query or --sets is given
    /// without --detector.
    #[arg(long, requires = "listed")]
    extractor: Option<PathBuf>,
    /// Model file of the detector; by default the one that magpie brings along, if there is one, where --coco is given.
    #[arg(long, requires = "boxed")]
    detector: Option<PathBuf>,
    /// COCO file for the detector; its categories are taken as one.
    #[arg(long, group = "boxed", conflicts_with = "extractor")]
    coco: Option<PathBuf>,
    /// Folder of the COCO file's pictures; by default looked for beside the file, in `images` and in folders
    /// named like the file, here and one level up.
    #[arg(long, requires = "coco")]
    images: Option<PathBuf>,
    /// List file or folder of queries for the extractor.
    #[arg(long, group = "listed")]
    query: Option<PathBuf>,
    /// List file or folder that is searched; by default the queries, each without itself.
    #[arg(long)]
    gallery: Option<PathBuf>,
    /// Folder of sets, on every one of which the networks are measured, with standard errors.
    #[arg(long, value_name = "DIR", groups = ["listed", "boxed"], conflicts_with_all = ["query", "gallery", "coco", "images"])]
    sets: Option<PathBuf>,
    /// Takes at most this many queries of a set, evenly from its list, and images of a COCO file; of a set without
    /// a gallery, that many images.
    #[arg(long, value_name = "N", requires = "sets", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Leaves pictures that cannot be used out of the figures, after naming them; otherwise the first one is
    /// an error.
    #[arg(long)]
    skip_bad: bool,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, pictures that cannot be used.
    pub fn run(&self) -> anyhow::Result<()> {
        if let Some(sets) = &self.sets {
            return self.sets(sets);
        }
        let general = Path::new(networks::GENERAL);
        match (&self.query, &self.coco) {
            (Some(query), _) => self.extractor(self.extractor.as_deref().unwrap_or(general), query),
            (_, Some(coco)) => {
                self.detector(&networks::detector_alone(self.detector.as_deref())?, coco)
            }
            _ => anyhow::bail!("give --query, --coco or --sets"),
        }
    }

    /// The networks that sets are measured with.
    fn of_sets(&self) -> (Option<PathBuf>, Option<PathBuf>) {
        let (extractor, detector) = (self.extractor.clone(), self.detector.clone());
        if extractor.is_some() || detector.is_some() {
            return (extractor, detector);
        }
        let general = PathBuf::from(networks::GENERAL);
        let detector = networks::detector(None, &general);
        (Some(general), detector)
    }

    fn detector(&self, detector: &Path, coco: &Path) -> anyhow::Result<()> {
        let detector = open_detector(detector, self.device)?;
        let boxes = self.find(&detector, coco, self.images.as_deref())?;
        let metrics = detection_metrics(&boxes.found, &boxes.objects);
        let (pictures, bad) = (boxes.found.len(), boxes.left_out);
        let [small, medium, large] = metrics.by_size;
        let [one, ten, hundred] = metrics.recall;
        let figures = [
            ("mAP", metrics.mean_average_precision),
            ("AP50", metrics.ap50),
            ("AP75", metrics.ap75),
            ("AP small", small),
            ("AP medium", medium),
            ("AP large", large),
            ("AR 1", one),
            ("AR 10", ten),
            ("AR 100", hundred),
        ];
        if self.json {
            let mut record = serde_json::Map::new();
            for (name, value) in figures {
                record.insert(name.replace(' ', "_"), value.into());
            }
            record.insert("pictures".to_owned(), pictures.into());
            record.insert("left_out".to_owned(), bad.into());
            println!("{}", serde_json::Value::Object(record));
            return Ok(());
        }
        for (name, value) in figures {
            match value {
                Some(value) => println!("{name:<10} {value:.5}"),
                None => println!("{name:<10} –"),
            }
        }
        let pictures = counted(pictures, "picture", "pictures");
        println!("{pictures}{}", left_out(bad));
        Ok(())
    }

    /// What a detector finds in the pictures of a COCO file.
    fn find(
        &self,
        detector: &Prepared<Detector>,
        coco: &Path,
        images: Option<&Path>,
    ) -> anyhow::Result<Boxes> {
        let progress = Progress::new("pictures", 0);
        let seen = |total| progress.advance_of(total);
        let BoxedPictures { pictures: mut boxed, notes } = coco::read(coco, images, &seen)?;
        drop(progress);
        let notes: Vec<_> = notes.into_iter().map(|note| (coco.to_owned(), note)).collect();
        tell_notes(&notes);
        if let Some(limit) = self.limit {
            boxed = sets::evenly(boxed, limit as usize);
        }
        let progress = Progress::new("pictures", boxed.len());
        let mut failures = Failures::default();
        let mut stopped = Ok(());
        let pictures = boxed.iter().map_while(|picture| {
            progress.advance(1);
            let read = read_picture(&picture.path);
            let usable = match read {
                Ok(image) => Some(Ok((Cow::Owned(image), &picture.boxes[..]))),
                Err(error) => {
                    stopped = measured(error, self.skip_bad, &mut failures);
                    None
                }
            };
            stopped.is_ok().then_some(usable)
        });
        let meaning = (detector.reading(), detector.preprocess());
        let (found, objects) = find_boxes(detector, meaning, pictures.flatten())?;
        stopped?;
        drop(progress);
        Ok(Boxes { found, objects, left_out: failures.count() })
    }

    fn extractor(&self, extractor: &Path, query: &Path) -> anyhow::Result<()> {
        let embedder = Embedder::open(extractor, self.device)?;
        let listed = samples(query)?;
        let embed = |listed: &Samples| embedder.embed_measured(listed, self.skip_bad);
        let (gallery, queries, bad) = if let Some(path) = &self.gallery {
            let searched = samples(path)?;
            let (queries, bad) = embed(&listed.relabel(&searched.labels))?;
            let (gallery, more) = embed(&searched)?;
            (Some(gallery), queries, bad + more)
        } else {
            let (queries, bad) = embed(&listed)?;
            (None, queries, bad)
        };
        let metrics = retrieval_metrics(&queries, gallery.as_ref().unwrap_or(&queries), &[1, 5]);
        let said = remarks(&queries, gallery.as_ref(), &metrics);
        if metrics.queries == 0 {
            let why = [vec!["no picture to measure with".to_owned()], said].concat().join("; ");
            bail!("{}: {why}", query.display());
        }
        if self.json {
            let mut record = serde_json::Map::new();
            for (k, rate) in &metrics.recall_at_k {
                record.insert(format!("recall{k}"), (*rate).into());
            }
            record.insert("mAP".to_owned(), metrics.mean_average_precision.into());
            record.insert("queries".to_owned(), metrics.queries.into());
            record.insert("left_out".to_owned(), bad.into());
            record.insert("remarks".to_owned(), said.into());
            println!("{}", serde_json::Value::Object(record));
            return Ok(());
        }
        let rates: Vec<String> =
            metrics.recall_at_k.iter().map(|(k, rate)| format!("recall{k}: {rate:.5}")).collect();
        println!("[Eval][Avg]{}, mAP: {:.5}", rates.join(", "), metrics.mean_average_precision);
        let queries = counted(metrics.queries, "query", "queries");
        println!("{queries} with a match in the gallery{}", left_out(bad));
        for remark in said {
            eprintln!("{remark}");
        }
        Ok(())
    }
}

/// What there is in the pictures of a COCO file and what is found there, one list a picture each.
struct Boxes {
    found: Vec<Vec<Detection>>,
    objects: Vec<Vec<Object>>,
    left_out: usize,
}

/// How many pictures the figures do not count, for the end of a line.
fn left_out(bad: usize) -> String {
    match bad {
        0 => String::new(),
        bad => format!("; {} left out", counted(bad, "picture", "pictures")),
    }
}
