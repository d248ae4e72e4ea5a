//! When an answer is believed: measured on the gallery's own entries, or on pictures that it was not built from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use models::gallery::{
    AnswerRule, Asked, ContentId, Fitted, Gallery, Question, Source, Test, Trial, fit,
};
use serde_json::{Value, json};

use super::answer::{NEIGHBORS, Rule, TestKind, counted, rule_name, source_text, test_text, told};
use super::wanted::read_samples;
use super::{CLASSES, PICTURES, check_extractor, many, noun, open, open_to_change};
use crate::cli::{DeviceKind, Embedder, write};
use crate::data::list_file::Samples;
use crate::files;
use crate::metric::reliability::Reliability;
use crate::metric::retrieval::Embedded;
use crate::networks;
use crate::terminal::audience;
use authoring::calibration::{Calibration, Doubt, Share, calibrate, scored};
use authoring::label::Labels;

/// Share of unknown things that may be named, below so many pictures of `--query` and from there on.
const FALSE_ACCEPT: [f64; 2] = [0.05, 0.01];
const MANY: usize = 100;

/// Finds when an answer is "unknown" and how sure the others are, from the gallery's own entries or from pictures
/// whose classes are known.
///
/// Every picture is asked twice: with its class in the gallery, which should answer rightly, and as if its class were
/// not there, which should not be answered at all. Without --query the gallery's entries are asked, each without its
/// picture, and the answer rule is chosen, too. With --query a picture that is in the gallery itself is asked without
/// itself. Shares are printed with the interval that holds them with 95 % confidence.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  magpie gallery calibrate gallery.bin --write\n  magpie gallery calibrate gallery.bin \
    --query held_out --extractor lite0.safetensors --false-accept 0.01 --curve curve.svg --write"
)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command")]
pub(super) struct Calibrate {
    /// Gallery file.
    gallery: PathBuf,
    /// Folder with one sub-folder per class, or a list file, of pictures that are not in the gallery; by default the
    /// gallery's own entries are asked.
    #[arg(long)]
    query: Option<PathBuf>,
    /// Model file of the extractor that built the gallery; embeds the pictures of --query. `general` is the one that
    /// magpie brings along.
    #[arg(long, default_value = networks::GENERAL)]
    extractor: PathBuf,
    /// Largest share of unknown things that may be given a name, above 0 and below 1; by default 0.05, and 0.01
    /// with 100 pictures of --query or more. Needs at least 1 / VALUE pictures of unknown things.
    #[arg(long, value_parser = crate::cli::ranges::share)]
    false_accept: Option<f64>,
    /// Which class is the answer; by default nearest, unless the gallery's own entries say that another rule names
    /// more of them rightly. With --query by default the rule that the gallery keeps, else nearest.
    #[arg(long, value_enum)]
    rule: Option<Rule>,
    /// Entries that vote.
    #[arg(long, alias = "neighbours", default_value_t = NEIGHBORS, value_parser = crate::cli::ranges::count)]
    neighbors: usize,
    /// What known things are told from unknown ones by.
    #[arg(long, value_enum, default_value_t)]
    test: TestKind,
    /// SVG file to draw the shares over the threshold into.
    #[arg(long)]
    curve: Option<PathBuf>,
    /// SVG file to draw into how probabilities came true.
    #[arg(long)]
    reliability: Option<PathBuf>,
    /// Keeps what was measured in the gallery: `publish` takes it from there. Refused where the threshold is badly
    /// measured or leaves fewer than half of the right answers.
    #[arg(long)]
    write: bool,
    /// With --write: keeps such a threshold, too.
    #[arg(long)]
    even_if_poor: bool,
    /// With --write: keeps a higher threshold for each class that unknown things are mistaken for more often. These
    /// are similarities, so that the similarity alone is the test.
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

/// What pictures were asked by a rule, and what is to be said of them.
struct Measured {
    rule: AnswerRule,
    trials: Vec<Trial>,
    fitted: Fitted,
    /// Of classes that the gallery does not have.
    foreign: usize,
    /// In the gallery themselves.
    inside: usize,
    /// In the gallery, as the only ones of their class.
    alone: usize,
}

/// Pictures that are asked, embedded.
struct Query {
    samples: Samples,
    embedded: Embedded,
    left_out: usize,
}

/// What a calibration came to.
struct Outcome {
    measured: Measured,
    /// By the test that was chosen.
    calibration: Calibration,
    /// Right answers by similarity alone, where another test was chosen.
    by_similarity: Option<Share>,
    reliability: Option<Reliability>,
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
        self.check_words()?;
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
        let query = self.query(&gallery)?;
        let mut outcome = self.measure(&gallery, query.as_ref())?;
        for (path, plot) in [
            (&self.curve, Some(outcome.calibration.plot())),
            (&self.reliability, outcome.reliability.as_ref().map(Reliability::plot)),
        ] {
            match (path, plot) {
                (Some(path), Some(plot)) => write(path, plot.to_svg().as_bytes())?,
                (Some(path), None) => eprintln!(
                    "note: {} is not drawn: there are too few known things",
                    path.display()
                ),
                (None, _) => (),
            }
        }
        let is_nonsense = outcome.doubts.contains(&Doubt::NoStrangers);
        outcome.kept =
            self.write && !is_nonsense && (outcome.doubts.is_empty() || self.even_if_poor);
        if let Some(change) = change.filter(|_| outcome.kept) {
            let Measured { rule, fitted, trials, .. } = &outcome.measured;
            let least = fitted.min_similarity;
            gallery.keep_learned(*rule, least, fitted.calibration.clone())?;
            if self.per_class {
                let trials = scored(trials, 0.0);
                outcome.own =
                    outcome.calibration.stricter_classes(&trials, self.share(query.as_ref()));
                for (class, threshold) in &outcome.own {
                    let metadata = gallery.classes()[*class].metadata.clone();
                    gallery.describe_class(*class, metadata, Some(*threshold))?;
                }
            }
            change.save(&gallery)?;
        }
        self.say(&gallery, &outcome);
        if self.write && !outcome.kept {
            let all_the_same =
                if is_nonsense { "" } else { "; --even-if-poor keeps it all the same" };
            bail!("{}: the threshold is not kept{all_the_same}", named());
        }
        Ok(())
    }

    /// Fails for options that contradict each other, and for outputs over inputs.
    fn check_words(&self) -> anyhow::Result<()> {
        if self.per_class && !self.write {
            bail!("--per-class: thresholds of classes are kept in the gallery; add --write");
        }
        if self.per_class && matches!(self.test, TestKind::Lead | TestKind::Both) {
            bail!("--per-class: thresholds of classes are similarities; leave out --test");
        }
        let inputs = [Some(&self.gallery), self.query.as_ref(), Some(&self.extractor)];
        let inputs: Vec<&Path> = inputs.into_iter().flatten().map(PathBuf::as_path).collect();
        let outputs = [&self.curve, &self.reliability].into_iter().flatten();
        let outputs: Vec<&Path> = outputs.map(PathBuf::as_path).collect();
        Ok(files::check_outputs(&outputs, &inputs)?)
    }

    /// Share of unknown things that may be named.
    fn share(&self, query: Option<&Query>) -> f64 {
        let are_many = query.is_some_and(|query| query.embedded.labels.len() >= MANY);
        self.false_accept.unwrap_or(FALSE_ACCEPT[usize::from(are_many)])
    }

    /// The test that is asked for.
    fn test(&self) -> Option<Test> {
        if self.per_class { Some(Test::Similarity) } else { self.test.wanted() }
    }

    /// The pictures that are asked; `None` where these are the gallery's own.
    fn query(&self, gallery: &Gallery) -> anyhow::Result<Option<Query>> {
        let (Some(query), extractor) = (&self.query, &self.extractor) else { return Ok(None) };
        let embedder = Embedder::open(extractor, self.device)?.query(gallery);
        check_extractor(gallery, &self.gallery, extractor, &embedder.id)?;
        let samples = read_samples(query)?;
        let (embedded, left_out) = embedder.embed_measured(&samples, self.skip_bad)?;
        Ok(Some(Query { samples, embedded, left_out }))
    }

    /// What the pictures say.
    fn measure(&self, gallery: &Gallery, query: Option<&Query>) -> anyhow::Result<Outcome> {
        let share = self.share(query);
        let kept = || gallery.measured_rule().unwrap_or_default();
        let measured = match (query, self.rule) {
            (None, rule) => self.ask_itself(gallery, rule)?,
            (Some(query), rule) => {
                let rule = rule.map_or_else(kept, |rule| rule.answer(self.neighbors));
                self.ask(gallery, query, rule)?
            }
        };
        let asked = self.query.as_ref().unwrap_or(&self.gallery);
        let measured = measured.with_context(|| {
            format!("{}: no picture that the gallery answers to", asked.display())
        })?;
        let weight = measured.fitted.calibration.lead_weight();
        let by = |weight| calibrate(&scored(&measured.trials, weight), share);
        let calibration = by(weight).context("trials have scores")?;
        let alone = if weight > 0.0 { by(0.0) } else { None };
        let doubts = calibration.doubts(share);
        let mut others = Vec::new();
        if doubts.iter().any(|doubt| matches!(doubt, Doubt::FewRight { .. })) {
            for rule in Rule::value_variants().iter().copied() {
                let answer = rule.answer(self.neighbors);
                if answer == measured.rule {
                    continue;
                }
                let other = match query {
                    Some(query) => self.ask(gallery, query, answer)?,
                    None => self.ask_itself(gallery, Some(rule))?,
                };
                let right = other.map(|other| {
                    let right = other.fitted.right;
                    Share { count: right.iter().filter(|right| **right).count(), of: right.len() }
                });
                others.extend(right.map(|right| (rule, right)));
            }
        }
        Ok(Outcome {
            reliability: Reliability::of(&measured.fitted.held),
            by_similarity: alone.map(|alone| alone.right),
            left_out: query.map_or(0, |query| query.left_out),
            measured,
            calibration,
            own: Vec::new(),
            doubts,
            others,
            kept: false,
        })
    }

    /// Asks the gallery's own entries, by a rule or by all of them.
    fn ask_itself(
        &self,
        gallery: &Gallery,
        rule: Option<Rule>,
    ) -> anyhow::Result<Option<Measured>> {
        let all = [Rule::Nearest, Rule::ClassMean, Rule::Vote];
        let rules = all.into_iter().filter(|kind| rule.is_none_or(|rule| rule == *kind));
        let rules: Vec<AnswerRule> = rules.map(|rule| rule.answer(self.neighbors)).collect();
        let (share, test) = (self.share(None), self.test());
        let learned = if audience::present().is_some() {
            // Whoever calls this from a program may stop it.
            let gallery = gallery.clone();
            audience::beside(move || gallery.calibrate_itself(&rules, share, test))?
        } else {
            gallery.calibrate_itself(&rules, share, test)?
        };
        Ok(learned.map(|learned| {
            let alone = learned.trials.iter().filter(|trial| trial.known.is_none()).count();
            Measured {
                rule: learned.rule,
                inside: learned.trials.len(),
                trials: learned.trials,
                fitted: learned.fitted,
                foreign: 0,
                alone,
            }
        }))
    }

    /// Asks every picture by a rule.
    fn ask(
        &self,
        gallery: &Gallery,
        query: &Query,
        rule: AnswerRule,
    ) -> anyhow::Result<Option<Measured>> {
        let Query { samples, embedded, .. } = query;
        let question = Question { rule, ..Question::best(2) };
        let contents: HashSet<ContentId> =
            gallery.entries().map(|entry| gallery.content_id(entry)).collect();
        let counts = gallery.counts();
        let classes: Labels = gallery.classes().iter().map(|class| class.label.as_str()).collect();
        let (mut trials, mut foreign, mut inside, mut alone) = (Vec::new(), 0, 0, 0);
        let pictures = embedded.labels.iter().zip(&embedded.contents);
        for (done, ((label, content), embedding)) in
            pictures.zip(embedded.values.chunks_exact(gallery.dim())).enumerate()
        {
            audience::progress("searches", done, embedded.labels.len());
            let class = classes.find(&samples.labels[*label]);
            let class = class.filter(|class| counts[*class] > 0);
            foreign += usize::from(class.is_none());
            if !contents.contains(content) {
                trials.push(trial(gallery, class, embedding, &question)?);
                continue;
            }
            inside += 1;
            let others = without(gallery, *content)?;
            let left = class.filter(|class| others.counts()[*class] > 0);
            alone += usize::from(class.is_some() && left.is_none());
            trials.push(trial(&others, left, embedding, &question)?);
        }
        let fitted = fit(&trials, Source::Pictures, self.share(Some(query)), self.test());
        Ok(fitted.map(|fitted| Measured { rule, trials, fitted, foreign, inside, alone }))
    }

    /// What `--json` prints.
    fn told_json(gallery: &Gallery, outcome: &Outcome) -> Value {
        let Outcome { measured, calibration, left_out, own, doubts, others, kept, .. } = outcome;
        let Calibration { threshold, named, answered, right, right_without, pictures, .. } =
            *calibration;
        let Measured { rule, fitted, foreign, inside, alone, .. } = measured;
        let label = |class: usize| gallery.classes()[class].label.as_str();
        let own: Vec<_> = own
            .iter()
            .map(|(class, t)| json!({"label": label(*class), "min_similarity": t}))
            .collect();
        let others: serde_json::Map<String, Value> =
            others.iter().map(|(rule, right)| (rule.kind().to_owned(), counted(*right))).collect();
        let doubts: Vec<String> = doubts.iter().map(Doubt::to_string).collect();
        json!({
            "source": fitted.calibration.source().0,
            "min_similarity": fitted.min_similarity, "rule": rule,
            "test": fitted.calibration.test().name(), "threshold": threshold,
            "calibration": fitted.calibration,
            "reliability": outcome.reliability,
            "false_accept": named.value(),
            "answered": answered.value(), "right": right.value(),
            "right_without": right_without.value(),
            "right_by_similarity": outcome.by_similarity.and_then(Share::value),
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
            println!("{}", Self::told_json(gallery, outcome));
            return;
        }
        let Outcome { measured, calibration, left_out, own, doubts, others, .. } = outcome;
        let Calibration { threshold, named, answered, right, right_without, pictures, .. } =
            *calibration;
        let label = |class: usize| gallery.classes()[class].label.as_str();
        let Measured { rule, trials, fitted, inside, alone, .. } = measured;
        let again = trials.iter().filter(|t| t.known.is_some() && t.stranger.is_some()).count();
        println!("measured        {}", source_text(fitted.calibration.source()));
        println!("rule            {}", rule_name(*rule));
        // Those of --query are pictures, the gallery's own may be two of a picture.
        let noun = if self.query.is_some() { PICTURES } else { noun(gallery.crop()) };
        println!("{:<16}{pictures}", noun.1);
        println!("known things    {} of the gallery's classes", many(right.of, noun));
        let strange = many(named.of - again, noun);
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
        println!("test            {}", test_text(&fitted.calibration));
        println!("threshold       {threshold:.4}");
        println!("known right     {}", told(right));
        if let Some(alone) = outcome.by_similarity {
            println!("  by similarity {}", told(alone));
        }
        println!("known answered  {}", told(answered));
        println!("unknown named   {}", told(named));
        match &outcome.reliability {
            Some(Reliability { error, bins }) => {
                let bins = many(bins.len(), ("tenth", "tenths"));
                let error = 100.0 * error;
                println!(
                    "probabilities   off by {error:.1} % on average, over {bins} of the scale"
                );
            }
            None => println!("probabilities   none: there are too few known things"),
        }
        for (class, threshold) in own {
            println!("  {threshold:.4}  {}", label(*class));
        }
        let scores = scored(trials, fitted.calibration.lead_weight());
        for doubt in doubts {
            println!("doubtful: {doubt}");
            println!("  advice: {}", doubt.advice(&scores, fitted.calibration.source().0));
        }
        for (rule, right) in others {
            println!("  known right with --rule {}: {}", rule.option(), told(*right));
        }
        self.say_kept(gallery, outcome);
    }

    /// Whether the threshold is kept, and what keeps it.
    fn say_kept(&self, gallery: &Gallery, Outcome { measured, own, doubts, kept, .. }: &Outcome) {
        let refused = doubts.iter().any(|doubt| *doubt != Doubt::NoStrangers);
        if *kept {
            let rule = rule_name(measured.rule);
            let from = source_text(measured.fitted.calibration.source());
            println!("{}: kept, with rule {rule}, {from}", self.gallery.display());
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
    let answer = gallery.answer(embedding, question)?;
    let asked = |answer: &models::gallery::Answer| {
        let best = answer.best()?;
        let second = best.similarity - answer.lead;
        Some(Asked { class: best.class, similarity: best.similarity, second })
    };
    let Some(class) = class else {
        return Ok(Trial { known: None, stranger: asked(&answer) });
    };
    let own = &gallery.classes()[class].label;
    let others = |class: &models::gallery::Class| class.label != *own;
    let without = Question { classes: Some(&others), ..*question };
    Ok(Trial {
        known: asked(&answer).map(|asked| (asked, asked.class == class)),
        stranger: asked(&gallery.answer(embedding, &without)?),
    })
}

/// A gallery without a picture. Its classes keep their numbers.
fn without(gallery: &Gallery, content: ContentId) -> anyhow::Result<Gallery> {
    let mut others = gallery.clone();
    others.remove_images(&[content])?;
    Ok(others)
}
