//! `magpie site`: from photographs to a site, with a report for its owner.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use models::gallery::{Crop, Gallery, MAGIC, check_file};
use serde_json::json;

use super::gallery::{Choice, Learn, Unusable, Wanted, When};
use super::{publish, verify};
use crate::cli::{DeviceKind, Embedder, open_detector, open_detector_file};
use crate::files::{self, Lock};
use crate::networks;
use crate::progress::Progress;
use crate::publishing::draft::Draft;
use crate::publishing::names::BUNDLE_FOLDER;
use crate::terminal::{Note, counted};
use authoring::adaptation::{MapOutcome, Outcome as Learned};
use authoring::label::Labels;
use authoring::quality::Quality;
use authoring::{Added, Cropper, Event, Gathered, Memory, MemoryError, Networks, Photos, report};

/// End of the name of the folder beside the site.
const BESIDE: &str = ".report";
/// In it: the report, the gallery, and what is known of the photographs.
const REPORT: &str = "index.html";
const GALLERY: &str = "gallery.bin";
const MEMORY: &str = "embeddings.bin";
/// Time between two writings of what is known.
const KEPT_EVERY: Duration = Duration::from_secs(10);

/// Makes a site from photographs: embeds them, adapts and calibrates the gallery, publishes, verifies, and writes a
/// report for the owner beside the site.
///
/// Run again after photographs have come or gone, it embeds the new ones alone. Photographs that cannot be used are
/// named and left out. Beside the site OUT lies OUT.report, which is not for publishing: index.html, the report;
/// gallery.bin, the gallery for `magpie gallery`; embeddings.bin, what is known of the photographs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  magpie site photos --out site\n  magpie site photos --title \"On my shelf\" \
    --samples 4 --out site\n  magpie serve site"
)]
pub struct Arguments {
    /// Folder with one sub-folder per class, or a list file.
    photos: PathBuf,
    /// Folder to write the site into; as `magpie publish --out`.
    #[arg(long)]
    out: PathBuf,
    /// Title of the page.
    #[arg(long, default_value = "Magpie")]
    title: String,
    /// Model file of the extractor; `general` is the one that magpie brings along.
    #[arg(long, default_value = networks::GENERAL)]
    extractor: PathBuf,
    /// Model file of the detector, or `none`; by default the one that magpie brings along beside its extractor.
    #[arg(long)]
    detector: Option<PathBuf>,
    /// Which part of a photograph becomes an entry; by default what is measured better on the photographs themselves.
    #[arg(long, value_enum, default_value_t)]
    crop: Choice,
    #[command(flatten)]
    learn: Learn,
    /// Whether the report is written.
    #[arg(long, value_enum, default_value_t = When::Auto)]
    report: When,
    /// Built page and engine, as `magpie publish --page`.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Sample pictures offered on the page; may be repeated.
    #[arg(long)]
    sample: Vec<PathBuf>,
    /// Offers this many of the photographs as samples, of classes spread over all.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "sample")]
    samples: usize,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Paths beside the site.
struct Beside {
    folder: PathBuf,
    gallery: PathBuf,
    memory: PathBuf,
    report: PathBuf,
}

impl Beside {
    fn of(out: &Path) -> anyhow::Result<Self> {
        let place = files::whole(out);
        let name = place
            .file_name()
            .with_context(|| format!("{}: names no folder; choose another one", out.display()))?;
        let mut name = name.to_owned();
        name.push(BESIDE);
        // As it was given, where that has a name.
        let folder = match out.file_name() {
            Some(_) => out.with_file_name(name),
            None => place.with_file_name(name),
        };
        Ok(Self {
            gallery: folder.join(GALLERY),
            memory: folder.join(MEMORY),
            report: folder.join(REPORT),
            folder,
        })
    }

    /// Refuses a folder that another program, or `magpie publish`, has filled: what `site` writes would replace it.
    fn check_own(&self) -> anyhow::Result<()> {
        let files = [&self.memory, &self.gallery, &self.report];
        let is_free = !files.iter().any(|path| path.exists());
        let begins = |path: &Path, magic: &[u8]| {
            let mut first = vec![0; magic.len()];
            File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok()
                && first == magic
        };
        let is_own = begins(&self.memory, authoring::MARK) || begins(&self.gallery, &MAGIC);
        let is_site = self.folder.join(BUNDLE_FOLDER).exists();
        if !is_site && (is_free || is_own) {
            return Ok(());
        }
        bail!(
            "{}: is not a report that `magpie site` wrote, and it would be written there; move it away, or choose \
             another --out",
            self.folder.display()
        )
    }

    /// What is known of photographs from before, if it is of the same networks.
    fn recall(&self, key: &str) -> anyhow::Result<Memory> {
        if !self.memory.exists() {
            return Ok(Memory::default());
        }
        let bytes = files::read(&self.memory, u64::MAX)?;
        Ok(Memory::from_bytes(&bytes, key).unwrap_or_else(|error| {
            let why = match error {
                MemoryError::Other => {
                    "the extractor, the detector or the program is another one than before"
                }
                _ => "what was known of the pictures is damaged",
            };
            eprintln!("note: {why}: all pictures are embedded anew");
            Memory::default()
        }))
    }

    /// Writes what is known of photographs.
    fn keep(&self, key: &str, memory: &Memory) -> anyhow::Result<()> {
        Ok(files::write(&self.memory, &memory.to_bytes(key))?)
    }
}

/// What became of the photographs.
struct Outcome {
    gallery: Gallery,
    learned: Learned,
    added: Added,
    memory: Memory,
    /// Photographs of the last time that are gone.
    removed: usize,
    /// Photographs that a network looked at.
    embedded: usize,
    unusable: Unusable,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or written, no photograph that can be used, a site that does not answer.
    pub fn run(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        let wanted = Wanted::listed(&self.photos, false)?;
        let beside = Beside::of(&self.out)?;
        self.check_places(&beside)?;
        beside.check_own()?;
        publish::check_page(self.page.as_deref())?;
        // Before hours of embedding: whether the site can lie there at all.
        drop(Draft::begin(&self.out)?);
        let mut inputs: Vec<&Path> = vec![&self.photos, &self.extractor];
        inputs.extend(wanted.pictures.iter().map(|(_, path)| path.as_path()));
        files::check_outputs(&[&beside.gallery, &beside.memory, &beside.report], &inputs)?;
        let _lock = Lock::acquire(&beside.gallery)?;
        let embedder = Embedder::open(&self.extractor, self.device)?;
        let detector = networks::detector(self.detector.as_deref(), &self.extractor);
        let outcome = self.make(&wanted, &beside, &embedder, detector.as_deref())?;
        let bytes = outcome.gallery.to_bytes();
        files::replace_verified(
            &beside.gallery,
            |writer| Ok(std::io::Write::write_all(writer, &bytes)?),
            |file| check_file(file).with_context(|| beside.gallery.display().to_string()),
        )?;
        let samples = self.samples(&wanted, &outcome.added);
        let publishing = publish::Arguments::of_site(publish::OfSite {
            extractor: self.extractor.clone(),
            detector,
            gallery: beside.gallery.clone(),
            page: self.page.clone(),
            out: self.out.clone(),
            title: self.title.clone(),
            sample: samples,
            quiet: self.json,
        });
        publishing.run()?;
        let site = self.out.to_str().with_context(|| {
            format!("{}: is no UTF-8; choose another folder", self.out.display())
        })?;
        // What publishing has said is not said again.
        verify::check(site, &mut |_| ())?;
        let Outcome { gallery, learned, added, memory, .. } = &outcome;
        let quality = Quality::of(gallery, learned, &wanted, &added.contents, memory)?;
        if self.report == When::Auto {
            let page = report::page(&self.title, &quality, &wanted);
            files::write(&beside.report, page.as_bytes())?;
        }
        self.say(&outcome, &quality, &wanted, &beside, start.elapsed());
        Ok(())
    }

    /// Refuses places of which one lies in another.
    fn check_places(&self, beside: &Beside) -> anyhow::Result<()> {
        for (place, what) in [(&self.out, "the site"), (&beside.folder, "its report")] {
            if files::within(place, &self.photos).is_some() {
                bail!(
                    "{}: {what} would lie among the photographs; choose a folder outside of {}",
                    place.display(),
                    self.photos.display()
                );
            }
        }
        if files::within(&self.photos, &self.out).is_some() {
            bail!(
                "{}: the photographs lie in the site's folder and would be published; choose another --out",
                self.photos.display()
            );
        }
        Ok(())
    }

    /// Photographs become a gallery that has learned from them.
    fn make(
        &self,
        wanted: &Wanted,
        beside: &Beside,
        embedder: &Embedder,
        detector: Option<&Path>,
    ) -> anyhow::Result<Outcome> {
        let before = before(&beside.gallery);
        let crop = self.crop.crop();
        let looks = crop.is_none_or(Crop::needs_detector);
        let network = match detector.filter(|_| looks) {
            Some(path) => Some(open_detector(path, self.device)?),
            None => None,
        };
        if crop.is_some_and(Crop::needs_detector) && network.is_none() {
            bail!(
                "--crop {} looks for the main body: give --detector, too",
                crop.unwrap_or_default().name()
            );
        }
        let key = key(embedder, detector)?;
        let known = beside.recall(&key)?;
        let ids_before: Vec<_> = known.ids().collect();
        let networks = Networks { extractor: embedder.network(), detector: network.as_ref() };
        let mut cropper = Cropper::new(networks, crop.unwrap_or_default()).remembering(known);
        if crop.is_none() {
            let progress = Progress::new("pictures to choose the crop", wanted.count());
            let text = cropper.measure(wanted, &mut |done, of| {
                progress.to(done, of);
                Ok(())
            })?;
            drop(progress);
            self.tell(&text);
            beside.keep(&key, &cropper.memory)?;
        }
        let standing = Note::new(format!(
            "; what is embedded is kept in {}: the same command goes on from there",
            beside.memory.display()
        ));
        if let Some(before) = before.as_ref().filter(|before| before.crop() != cropper.crop()) {
            self.tell(&format!(
                "the part of a picture that becomes an entry is another one (crop {}, before {}): what is not known \
                 of it is embedded",
                cropper.crop().name(),
                before.crop().name()
            ));
        }
        let mut unusable = Unusable::default();
        wanted.say_look_alikes([]);
        let progress = Progress::new("pictures", wanted.count());
        let mut kept = Instant::now();
        let gathered = authoring::gather(
            cropper,
            (&embedder.id, embedder.embedding_dim()),
            wanted,
            &mut |event| {
                match event {
                    Event::LeftOut { error } => progress.around(|| unusable.add(error, false)),
                    Event::Shared { path, label, other } => {
                        progress.around(|| unusable.share(path, label, other));
                    }
                    Event::Done { photos, of, memory } => {
                        progress.to(photos, of);
                        if kept.elapsed() > KEPT_EVERY {
                            beside.keep(&key, memory)?;
                            kept = Instant::now();
                        }
                    }
                }
                Ok(())
            },
        )?;
        drop(progress);
        let Gathered { mut gallery, classes, added, memory, looked } = gathered;
        unusable.end(wanted, &classes);
        beside.keep(&key, &memory)?;
        drop(standing);
        if gallery.is_empty() {
            bail!("{}: none of the pictures can be used; see above", self.photos.display());
        }
        if let Some(before) = &before {
            keep_metadata(&mut gallery, before, &classes)?;
        }
        let mut options = self.learn.options();
        if !self.learn.is_wanted(gallery.len()) {
            (options.adapt, options.calibrate) = (false, false);
        }
        let learned = authoring::learn(&mut gallery, &options)?;
        let removed = ids_before.iter().filter(|id| !memory.contains(**id)).count();
        Ok(Outcome { gallery, learned, added, memory, removed, embedded: looked, unusable })
    }

    /// Prints a line, unless the answer is JSON.
    fn tell(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    /// The pictures that the page offers.
    fn samples(&self, wanted: &Wanted, added: &Added) -> Vec<PathBuf> {
        if self.samples == 0 {
            return self.sample.clone();
        }
        let mut last = None;
        let usable = (0..wanted.count()).filter(|place| added.contents[*place].is_some());
        let firsts: Vec<usize> = usable
            .filter(|place| last.replace(wanted.label(*place)) != Some(wanted.label(*place)))
            .collect();
        let count = self.samples.min(firsts.len());
        let spread = (0..count).map(|number| firsts[number * firsts.len() / count]);
        spread.map(|place| wanted.path(place).to_owned()).collect()
    }

    fn say(
        &self,
        outcome: &Outcome,
        quality: &Quality,
        wanted: &Wanted,
        beside: &Beside,
        took: Duration,
    ) {
        let Outcome { gallery, learned, added, removed, embedded, unusable, .. } = outcome;
        let has_report = self.report == When::Auto;
        let left_out = added.contents.iter().filter(|content| content.is_none()).count();
        let adapted = matches!(learned.map, MapOutcome::Kept(_));
        if self.json {
            let [first, fifth] = [0, 1].map(|of| quality.recall(of));
            let open = quality.open.map(|open| {
                json!({"right": open.right.value(), "wrong": open.wrong.value(),
                       "unknown_named": open.named.value()})
            });
            let advice: Vec<&str> = quality.advice.iter().map(|(_, text)| text.as_str()).collect();
            println!(
                "{}",
                json!({
                    "site": self.out, "gallery": beside.gallery,
                    "report": has_report.then_some(&beside.report),
                    "classes": gallery.classes().len(), "pictures": quality.photos,
                    "embedded": embedded, "removed": removed, "left_out": left_out,
                    "crop": gallery.crop(), "adapted": adapted,
                    "rule": gallery.measured_rule(), "min_similarity": gallery.min_similarity(),
                    "recall_at_1": first.map(|[rate, _]| rate / 100.0),
                    "recall_at_1_error": first.map(|[_, error]| error / 100.0),
                    "recall_at_5": fifth.map(|[rate, _]| rate / 100.0),
                    "recall_at_5_error": fifth.map(|[_, error]| error / 100.0),
                    "open": open, "mistaken": quality.mistaken.len(),
                    "suspects": quality.suspects.len(), "doubles": quality.doubles.len(),
                    "advice": advice, "seconds": took.as_secs_f64(),
                })
            );
            return;
        }
        let known = added.contents.len() - left_out - embedded;
        let gone = if *removed > 0 { format!(", {removed} gone") } else { String::new() };
        println!(
            "{}, {}: {embedded} embedded, {known} known from before{gone}{}",
            counted(gallery.classes().len(), "class", "classes"),
            counted(quality.photos, "picture", "pictures"),
            wanted.left_out_text(unusable)
        );
        match (quality.recall(0), quality.recall(1)) {
            (Some([first, error]), Some([fifth, other])) => println!(
                "named rightly, each picture asked without itself: {first:.1} ± {error:.1} % at the first answer, \
                 {fifth:.1} ± {other:.1} % among five{}",
                if adapted { "; adapted" } else { "" }
            ),
            _ => println!("no class has two different pictures: how good it is cannot be measured"),
        }
        for doubt in &quality.doubts {
            println!("no threshold is kept: {doubt}");
        }
        if let Some(open) = quality.open {
            let percent = |share: Option<f64>| share.map_or(0.0, |share| 100.0 * share);
            println!(
                "at the threshold: {:.1} % of known things named rightly, {:.1} % wrongly; {:.1} % of unknown things named",
                percent(open.right.value()),
                percent(open.wrong.value()),
                percent(open.named.value())
            );
        }
        for (_, text) in quality.advice.iter().take(3) {
            println!("  {text}");
        }
        if has_report {
            println!("report  {}", beside.report.display());
        }
        println!("site    {} ({:.1} s)", self.out.display(), took.as_secs_f64());
        println!("show it by: magpie serve {}", self.out.display());
    }
}

/// What made embeddings, as a line.
fn key(embedder: &Embedder, detector: Option<&Path>) -> anyhow::Result<String> {
    let detector = detector.map(open_detector_file).transpose()?;
    Ok(authoring::workshop::key(
        &embedder.id,
        detector.as_ref().map(|detector| detector.id.as_str()),
    ))
}

/// The gallery of the last time, if there is one that can be read.
fn before(path: &Path) -> Option<Gallery> {
    let bytes = files::read(path, u64::MAX).ok()?;
    Gallery::from_bytes(&bytes).ok()
}

/// Classes keep the metadata that they had; what other commands did to them and does not stay is named.
fn keep_metadata(gallery: &mut Gallery, before: &Gallery, classes: &Labels) -> anyhow::Result<()> {
    for class in before.classes() {
        let mut lost = Vec::new();
        match classes.find(&class.label) {
            Some(now) if !class.metadata.is_empty() => {
                gallery.describe_class(now, class.metadata.clone(), None)?;
            }
            None if !class.metadata.is_empty() => lost.push("its metadata: no folder has its name"),
            _ => {}
        }
        if class.min_similarity.is_some() {
            lost.push("its own threshold: the similarities are others; give it again by `magpie gallery describe`");
        }
        for what in lost {
            eprintln!("note: {}: not kept: {what}", class.label);
        }
    }
    Ok(())
}
