//! Which cosine is similar enough: measured on pictures that were not used to build the gallery.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use models::gallery::{Gallery, Question};
use serde_json::json;

use super::super::{DeviceKind, Embedder, write};
use super::{Rule, open, open_to_change};
use crate::data::list_file::Samples;
use crate::files;
use crate::metric::calibration::{Calibration, Trial, calibrate};

/// Finds the threshold below which an answer is "unknown", from pictures whose classes are known.
///
/// Every picture is asked twice: with its class in the gallery, which should answer rightly, and as
/// if its class were not there, which should not be answered at all.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie gallery calibrate gallery.bin --query held_out --extractor \
    weights/extractor.safetensors --false-accept 0.01 --curve curve.svg --write"
)]
pub(super) struct Calibrate {
    /// Gallery file.
    gallery: PathBuf,
    /// Folder with one sub-folder a class, or a list file, of pictures that are not in the gallery.
    #[arg(long)]
    query: PathBuf,
    /// Model file of the extractor that built the gallery.
    #[arg(long)]
    extractor: PathBuf,
    /// Largest share of pictures of unknown things that may be given a name.
    #[arg(long, default_value_t = 0.01)]
    false_accept: f64,
    /// Which class is the answer.
    #[arg(long, value_enum, default_value_t)]
    rule: Rule,
    /// Entries that vote.
    #[arg(long, default_value_t = 5)]
    neighbours: usize,
    /// SVG file to draw the curve into.
    #[arg(long)]
    curve: Option<PathBuf>,
    /// Keeps the threshold in the gallery: `publish` takes it from there.
    #[arg(long)]
    write: bool,
    /// Keeps a higher threshold for each class that unknown things are mistaken for more often.
    #[arg(long, requires = "write")]
    per_class: bool,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Calibrate {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        if !(0.0..1.0).contains(&self.false_accept) {
            bail!("--false-accept {}: a share from 0 to below 1", self.false_accept);
        }
        if let Some(curve) = &self.curve {
            let inputs = [&self.gallery, &self.query, &self.extractor].map(PathBuf::as_path);
            files::check_outputs(&[curve], &inputs)?;
        }
        let (mut gallery, change) = if self.write {
            open_to_change(&self.gallery).map(|(gallery, change)| (gallery, Some(change)))?
        } else {
            (open(&self.gallery)?, None)
        };
        let embedder = Embedder::open(&self.extractor, self.device)?;
        gallery.check_model(&embedder.id).with_context(|| self.gallery.display().to_string())?;
        let samples = Samples::read(&self.query)?;
        let embedded = embedder.embed(&samples)?;
        let dim = gallery.dim();
        let mut trials = Vec::new();
        let mut strangers = 0;
        for (label, embedding) in embedded.labels.iter().zip(embedded.values.chunks_exact(dim)) {
            let class = gallery.class_by_label(&samples.labels[*label]);
            strangers += usize::from(class.is_none());
            trials.push(self.trial(&gallery, class, embedding)?);
        }
        let calibration = calibrate(&trials, self.false_accept)
            .with_context(|| format!("{}: no picture to measure with", self.query.display()))?;
        if let Some(path) = &self.curve {
            write(path, calibration.svg().as_bytes())?;
        }
        let mut own = Vec::new();
        if let Some(change) = change {
            gallery.set_min_similarity(Some(calibration.threshold))?;
            if self.per_class {
                own = calibration.stricter_classes(&trials, self.false_accept);
                for (class, threshold) in &own {
                    let metadata = gallery.classes()[*class].metadata.clone();
                    gallery.describe_class(*class, metadata, Some(*threshold))?;
                }
            }
            change.save(&gallery)?;
        }
        self.say(&gallery, &calibration, strangers, &own);
        Ok(())
    }

    /// What the gallery answers with the class and without it.
    fn trial(
        &self,
        gallery: &Gallery,
        class: Option<usize>,
        embedding: &[f32],
    ) -> anyhow::Result<Trial> {
        let rule = self.rule.answer(self.neighbours);
        let found = gallery.ask(embedding, &Question { rule, ..Question::best(2) })?;
        let known = class.and_then(|class| {
            let best = found.first()?;
            Some((best.similarity, best.class == class))
        });
        let stranger = found.iter().find(|m| Some(m.class) != class);
        Ok(Trial { known, stranger: stranger.map(|m| (m.similarity, m.class)) })
    }

    #[expect(clippy::print_stdout, reason = "the command's answer")]
    fn say(
        &self,
        gallery: &Gallery,
        calibration: &Calibration,
        strangers: usize,
        own: &[(usize, f32)],
    ) {
        let Calibration { threshold, false_accept, answered, right, .. } = *calibration;
        let label = |class: usize| gallery.classes()[class].label.as_str();
        if self.json {
            let own: Vec<_> = own
                .iter()
                .map(|(class, t)| json!({"label": label(*class), "min_similarity": t}))
                .collect();
            println!(
                "{}",
                json!({
                    "min_similarity": threshold, "false_accept": false_accept,
                    "answered": answered, "right": right, "pictures": calibration.pictures,
                    "of_unknown_classes": strangers, "classes": own, "curve": calibration.curve,
                })
            );
            return;
        }
        println!(
            "pictures        {} ({strangers} of classes not in the gallery)",
            calibration.pictures
        );
        println!("min similarity  {threshold:.4}");
        println!("unknown named   {:.2} %", 100.0 * false_accept);
        println!("known answered  {:.2} %", 100.0 * answered);
        println!("known right     {:.2} %", 100.0 * right);
        for (class, threshold) in own {
            println!("  {threshold:.4}  {}", label(*class));
        }
        if self.write {
            println!("{}: kept", self.gallery.display());
        } else {
            println!("add --write to keep it in the gallery");
        }
    }
}
