//! Which cosine is similar enough: measured on pictures that were not used to build the gallery.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use models::gallery::{ContentId, Gallery, Question};
use serde_json::{Value, json};

use super::answer::{NEIGHBORS, Rule, rule_name};
use super::wanted::read_samples;
use super::{CLASSES, PICTURES, check_extractor, many, open, open_to_change};
use crate::cli::{DeviceKind, Embedder, write};
use crate::data::label::Labels;
use crate::data::list_file::Samples;
use crate::files;
use crate::metric::calibration::{Calibration, Doubt, Share, Trial, calibrate};
use crate::metric::retrieval::Embedded;

/// Finds the threshold below which an answer is "unknown", from pictures whose classes are known.
///
/// Every picture is asked twice: with its class in the gallery, which should answer rightly, and as
/// if its class were not there, which should not be answered at all. A picture that is in the gallery itself
/// is asked without itself. Shares are printed with the interval that holds them with 95 % confidence.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  magpie gallery calibrate gallery.bin --query held_out --extractor \
    lite0.safetensors --false-accept 0.01 --curve curve.svg --write"
)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command")]
pub(super) struct Calibrate {
    /// Gallery file.
    gallery: PathBuf,
    /// Folder with one sub-folder per class, or a list file, of pictures that are not in the gallery.
    #[arg(long)]
    query: PathBuf,
    /// Model file of the extractor that built the gallery.
    #[arg(long)]
    extractor: PathBuf,
    /// Largest share of pictures of unknown things that may be given a name, above 0 and below 1. Needs at
    /// least 1 / VALUE pictures of unknown things.
    #[arg(long, default_value_t = 0.01, value_parser = crate::cli::ranges::share)]
    false_accept: f64,
    /// Which class is the answer.
    #[arg(long, value_enum, default_value_t)]
    rule: Rule,
    /// Entries that vote.
    #[arg(long, alias = "neighbours", default_value_t = NEIGHBORS, value_parser = crate::cli::ranges::count)]
    neighbors: usize,
    /// SVG file to draw the curve into.
    #[arg(long)]
    curve: Option<PathBuf>,
    /// Keeps the threshold and the rule in the gallery: `publish` takes both from there. Refused where the
    /// threshold is badly measured or leaves fewer than half of the right answers.
    #[arg(long)]
    write: bool,
    /// With --write: keeps such a threshold, too.
    #[arg(long)]
    even_if_poor: bool,
    /// With --write: keeps a higher threshold for each class that unknown things are mistaken for more often.
    #[arg(long)]
    per_class: bool,
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

/// What the pictures were asked, and what is to be said of them.
#[derive(Default)]
struct Asked {
    trials: Vec<Trial>,
    /// Of classes that the gallery does not have.
    foreign: usize,
    /// In the gallery themselves.
    inside: usize,
    /// In the gallery, as the only ones of their class.
    alone: usize,
}

/// What a calibration came to.
struct Outcome {
    calibration: Calibration,
    asked: Asked,
    left_out: usize,
    /// Thresholds of classes.
    own: Vec<(usize, f32)>,
    doubts: Vec<Doubt>,
    /// Right answers by the other rules, where this one leaves few.
    others: Vec<(Rule, Share)>,
    kept: bool,
}

impl Calibrate {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        if self.per_class && !self.write {
            bail!("--per-class: thresholds of classes are kept in the gallery; add --write");
        }
        if let Some(curve) = &self.curve {
            let inputs = [&self.gallery, &self.query, &self.extractor].map(PathBuf::as_path);
            files::check_outputs(&[curve], &inputs)?;
        }
        let (mut gallery, change) = if self.write {
            let (gallery, change) = open_to_change(&self.gallery)?;
            (gallery, Some(change))
        } else {
            (open(&self.gallery)?, None)
        };
        let named = || self.gallery.display().to_string();
        if gallery.is_empty() {
            bail!("{}: the gallery is empty; add pictures to it first", named());
        }
        let embedder = Embedder::open(&self.extractor, self.device)?.query(&gallery);
        check_extractor(&gallery, &self.gallery, &self.extractor, &embedder.id)?;
        let samples = read_samples(&self.query)?;
        let (embedded, left_out) = embedder.embed_measured(&samples, self.skip_bad)?;
        let asked = self.ask(&gallery, &samples, &embedded, self.rule)?;
        let calibration = calibrate(&asked.trials, self.false_accept).with_context(|| {
            format!("{}: no picture that the gallery answers to", self.query.display())
        })?;
        let doubts = calibration.doubts(self.false_accept);
        let mut others = Vec::new();
        if doubts.iter().any(|doubt| matches!(doubt, Doubt::FewRight { .. })) {
            for rule in Rule::value_variants().iter().copied().filter(|rule| *rule != self.rule) {
                let asked = self.ask(&gallery, &samples, &embedded, rule)?;
                let other = calibrate(&asked.trials, self.false_accept);
                others.extend(other.map(|other| (rule, other.right)));
            }
        }
        if let Some(path) = &self.curve {
            write(path, calibration.plot().to_svg().as_bytes())?;
        }
        let is_nonsense = doubts.contains(&Doubt::NoStrangers);
        let kept = self.write && !is_nonsense && (doubts.is_empty() || self.even_if_poor);
        let mut own = Vec::new();
        if let Some(change) = change.filter(|_| kept) {
            gallery.set_min_similarity(Some(calibration.threshold))?;
            gallery.set_measured_rule(self.rule.answer(self.neighbors));
            if self.per_class {
                own = calibration.stricter_classes(&asked.trials, self.false_accept);
                for (class, threshold) in &own {
                    let metadata = gallery.classes()[*class].metadata.clone();
                    gallery.describe_class(*class, metadata, Some(*threshold))?;
                }
            }
            change.save(&gallery)?;
        }
        let outcome = Outcome { calibration, asked, left_out, own, doubts, others, kept };
        self.say(&gallery, &outcome);
        if self.write && !kept {
            let all_the_same =
                if is_nonsense { "" } else { "; --even-if-poor keeps it all the same" };
            bail!("{}: the threshold is not kept{all_the_same}", named());
        }
        Ok(())
    }

    /// Asks every picture by a rule.
    fn ask(
        &self,
        gallery: &Gallery,
        samples: &Samples,
        embedded: &Embedded,
        rule: Rule,
    ) -> anyhow::Result<Asked> {
        let question = Question { rule: rule.answer(self.neighbors), ..Question::best(2) };
        let contents: HashSet<ContentId> =
            gallery.entries().map(|entry| gallery.content_id(entry)).collect();
        let counts = gallery.counts();
        let classes: Labels = gallery.classes().iter().map(|class| class.label.as_str()).collect();
        let mut asked = Asked::default();
        let pictures = embedded.labels.iter().zip(&embedded.contents);
        for ((label, content), embedding) in
            pictures.zip(embedded.values.chunks_exact(gallery.dim()))
        {
            let class = classes.find(&samples.labels[*label]);
            let class = class.filter(|class| counts[*class] > 0);
            asked.foreign += usize::from(class.is_none());
            if !contents.contains(content) {
                asked.trials.push(trial(gallery, class, embedding, &question)?);
                continue;
            }
            asked.inside += 1;
            let others = without(gallery, *content)?;
            let left = class.filter(|class| others.counts()[*class] > 0);
            asked.alone += usize::from(class.is_some() && left.is_none());
            asked.trials.push(trial(&others, left, embedding, &question)?);
        }
        Ok(asked)
    }

    /// What `--json` prints.
    fn json(&self, gallery: &Gallery, outcome: &Outcome) -> Value {
        let Outcome { calibration, asked, left_out, own, doubts, others, kept } = outcome;
        let Calibration { threshold, named, answered, right, right_without, pictures, .. } =
            *calibration;
        let Asked { foreign, inside, alone, .. } = asked;
        let label = |class: usize| gallery.classes()[class].label.as_str();
        let own: Vec<_> = own
            .iter()
            .map(|(class, t)| json!({"label": label(*class), "min_similarity": t}))
            .collect();
        let others: serde_json::Map<String, Value> =
            others.iter().map(|(rule, right)| (rule.kind().to_owned(), counted(*right))).collect();
        let doubts: Vec<String> = doubts.iter().map(Doubt::to_string).collect();
        json!({
            "min_similarity": threshold, "rule": self.rule.answer(self.neighbors),
            "false_accept": named.value(),
            "answered": answered.value(), "right": right.value(),
            "right_without": right_without.value(),
            "counts": {
                "false_accept": counted(named), "answered": counted(answered),
                "right": counted(right), "right_without": counted(right_without),
            },
            "pictures": pictures, "of_unknown_classes": foreign, "in_gallery": inside,
            "alone": alone, "left_out": left_out, "classes": own, "doubts": doubts,
            "right_by_other_rules": others, "kept": kept, "curve": calibration.curve,
        })
    }

    fn say(&self, gallery: &Gallery, outcome: &Outcome) {
        if self.json {
            println!("{}", self.json(gallery, outcome));
            return;
        }
        let Outcome { calibration, asked, left_out, own, doubts, others, .. } = outcome;
        let Calibration { threshold, named, answered, right, right_without, pictures, .. } =
            *calibration;
        let label = |class: usize| gallery.classes()[class].label.as_str();
        let Asked { inside, alone, .. } = asked;
        let again = asked.trials.iter().filter(|t| t.known.is_some() && t.stranger.is_some());
        let again = again.count();
        println!("pictures        {pictures}");
        println!("known things    {} of the gallery's classes", many(right.of, PICTURES));
        let strange = many(named.of - again, PICTURES);
        println!(
            "unknown things  {}: {strange} of things that the gallery does not have, and {again} of known \
             things once more, each as if its class were not there",
            named.of
        );
        if *left_out > 0 {
            println!("left out        {left_out}");
        }
        if *inside > 0 {
            println!("in the gallery  {inside}, each asked without itself");
        }
        if *alone > 0 {
            println!(
                "alone           {alone}: the gallery has no other picture of their class, so they are not known"
            );
        }
        println!("no threshold    {}", told(right_without));
        println!("threshold       {threshold:.4}");
        println!("known right     {}", told(right));
        println!("known answered  {}", told(answered));
        println!("unknown named   {}", told(named));
        for (class, threshold) in own {
            println!("  {threshold:.4}  {}", label(*class));
        }
        for doubt in doubts {
            println!("doubtful: {doubt}");
            println!("  advice: {}", doubt.advice(&asked.trials));
        }
        for (rule, right) in others {
            println!("  known right with --rule {}: {}", rule.option(), told(*right));
        }
        self.say_kept(gallery, outcome);
    }

    /// Whether the threshold is kept, and what keeps it.
    fn say_kept(&self, gallery: &Gallery, Outcome { own, doubts, kept, .. }: &Outcome) {
        let refused = doubts.iter().any(|doubt| *doubt != Doubt::NoStrangers);
        if *kept {
            let rule = rule_name(self.rule.answer(self.neighbors));
            println!("{}: kept, with rule {rule}", self.gallery.display());
            let before = gallery.classes().iter().filter(|class| class.min_similarity.is_some());
            let before = before.count() - own.len();
            if before > 0 {
                let classes = many(before, CLASSES);
                println!(
                    "{classes} with a threshold from before: `magpie gallery describe` changes it"
                );
            }
        } else if !self.write && refused {
            println!("--write would refuse this threshold: it is doubtful");
        } else if !self.write {
            println!("add --write to keep it in the gallery");
        }
    }
}

/// What a gallery answers with the class and without it.
fn trial(
    gallery: &Gallery,
    class: Option<usize>,
    embedding: &[f32],
    question: &Question<'_>,
) -> anyhow::Result<Trial> {
    let found = gallery.search_with(embedding, question)?;
    let known = class.and_then(|class| {
        let best = found.first()?;
        Some((best.similarity, best.class == class))
    });
    let stranger = found.iter().find(|m| Some(m.class) != class);
    Ok(Trial { known, stranger: stranger.map(|m| (m.similarity, m.class)) })
}

/// A gallery without a picture. Its classes keep their numbers.
fn without(gallery: &Gallery, content: ContentId) -> anyhow::Result<Gallery> {
    let mut others = gallery.clone();
    loop {
        // The others may move when one is taken out.
        let entry = others.entries().find(|entry| others.content_id(*entry) == content);
        let Some(entry) = entry else { return Ok(others) };
        others.remove(entry)?;
    }
}

/// A share with its counts and interval, for machines.
fn counted(share: Share) -> Value {
    json!({"count": share.count, "of": share.of, "interval": share.interval()})
}

/// The same as a sentence shows it.
fn told(share: Share) -> String {
    let Share { count, of } = share;
    let Some(value) = share.value() else { return "not measured: there are none".to_owned() };
    let [low, high] = share.interval().map(|bound| 100.0 * bound);
    format!("{:.2} % ({count} of {of}; {low:.1} to {high:.1} %)", 100.0 * value)
}
