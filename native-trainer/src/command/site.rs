//! `magpie site`: from photographs to a site, with a report for its owner.

mod before;
mod beside;
mod told;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use models::gallery::{Crop, Gallery, check_file};

use self::before::{before, keep_classes, keep_threshold};
use self::beside::Beside;
use super::gallery::{Choice, Learn, Unusable, Wanted};
use super::{publish, verify};
use crate::cli::{DeviceKind, Embedder, open_detector, open_detector_file};
use crate::files::{self, Lock};
use crate::networks;
use crate::page::Page;
use crate::progress::Progress;
use crate::publishing::draft::Draft;
use crate::publishing::earlier;
use crate::terminal::Note;
use authoring::adaptation::Outcome as Learned;
use authoring::quality::Quality;
use authoring::{Added, Cropper, Event, Gathered, Memory, Networks, Photos, report};

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
    after_help = "Examples:\n  magpie site photos --out site\n  magpie site photos.zip --title \"On my shelf\" \
    --samples 4 --out site\n  magpie serve site"
)]
pub struct Arguments {
    /// Folder with one sub-folder per class, a zip file of one, or a list file.
    photos: PathBuf,
    /// Folder to write the site into; as `magpie publish --out`.
    #[arg(long)]
    out: PathBuf,
    /// Title of the page; by default that of the site that stands there, else Magpie.
    #[arg(long)]
    title: Option<String>,
    /// Model file of the extractor; `general` is the one that magpie brings along.
    #[arg(long, default_value = networks::GENERAL)]
    extractor: PathBuf,
    /// Model file of the detector, or `none`; by default the one that magpie brings along beside its
    /// extractor, if there is one.
    #[arg(long)]
    detector: Option<PathBuf>,
    /// Which part of a photograph becomes an entry; by default what is measured better on the photographs themselves.
    #[arg(long, value_enum, default_value_t)]
    crop: Choice,
    #[command(flatten)]
    learn: Learn,
    /// Whether the report is written. One that somebody has edited is kept under another name.
    #[arg(long, value_enum, default_value_t)]
    report: Written,
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

/// Whether the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Written {
    /// In the place of the one of before.
    #[default]
    Auto,
    /// Not; the one of before is taken away.
    Never,
}

/// What became of the photographs.
struct Outcome {
    gallery: Gallery,
    learned: Learned,
    added: Added,
    memory: Memory,
    /// Photographs of the last time that are gone.
    removed: usize,
    /// Different photographs that a network looked at, and those that it had looked at before.
    embedded: usize,
    known: usize,
    /// Whether the threshold is that of before.
    stays: bool,
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
        let site = self.out.to_str().with_context(|| {
            format!("{}: is no UTF-8; choose another folder", self.out.display())
        })?;
        publish::check_samples(&self.sample)?;
        let wanted = Wanted::listed(&self.photos, false)?;
        let beside = Beside::of(&self.out)?;
        self.check_places(&beside)?;
        beside.check_own()?;
        let page = Page::open(self.page.as_deref())?;
        publish::check_page(&page)?;
        // Before hours of embedding: whether the site can lie there at all.
        let draft = Draft::begin(&self.out)?;
        let title = self.title.clone().or_else(|| earlier::title(&draft));
        drop(draft);
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
        let places = self.sample_places(&wanted, &outcome.added);
        let mut sample = self.sample.clone();
        sample.extend(places.iter().map(|place| wanted.path(*place).to_owned()));
        let packed = (places.into_iter())
            .filter(|place| !wanted.path(*place).is_file())
            .map(|place| Ok((wanted.path(place).to_owned(), wanted.bytes(place)?)))
            .collect::<anyhow::Result<_>>()?;
        let publishing = publish::Arguments::of_site(publish::OfSite {
            extractor: self.extractor.clone(),
            detector,
            gallery: beside.gallery.clone(),
            page: Some(page.folder().to_owned()),
            out: self.out.clone(),
            title: title.clone(),
            sample,
            packed,
            quiet: self.json,
        });
        publishing.run()?;
        // What publishing has said is not said again.
        verify::check(site, &mut |_| ())?;
        let Outcome { gallery, learned, added, memory, .. } = &outcome;
        let has_report = self.report == Written::Auto;
        self.tell(if has_report { "writing the report" } else { "measuring how good it is" });
        let quality = Quality::of(gallery, learned, &wanted, &added.contents, memory)?;
        let title = title.as_deref().unwrap_or(publish::TITLE);
        let page = has_report.then(|| report::page(title, &quality, &wanted));
        beside.put_report(page.as_deref())?;
        self.say(&outcome, &quality, &wanted, &beside, start.elapsed());
        Ok(())
    }

    /// Refuses places of which one lies in another.
    fn check_places(&self, beside: &Beside) -> anyhow::Result<()> {
        for (place, what) in [(&self.out, "the site"), (&beside.folder, "its report")] {
            if files::within(place, &self.photos).is_some() {
                bail!(
                    "{}: {what} would lie among the pictures; choose a folder outside of {}",
                    place.display(),
                    self.photos.display()
                );
            }
        }
        if files::within(&self.photos, &self.out).is_some() {
            bail!(
                "{}: the pictures lie in the site's folder and would be published; choose another --out",
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
        let known = beside.recall(&key, embedder.embedding_dim())?;
        let ids_before: Vec<_> = known.ids().collect();
        let networks = Networks { extractor: embedder.network(), detector: network.as_ref() };
        let mut cropper = Cropper::new(networks, crop.unwrap_or_default()).remembering(known);
        let standing = Note::new(format!(
            "; what is embedded is kept in {}: the same command goes on from there",
            beside.memory.display()
        ));
        let mut kept = Instant::now();
        let mut keep = |memory: &Memory| {
            if kept.elapsed() > KEPT_EVERY {
                beside.keep(&key, memory)?;
                kept = Instant::now();
            }
            anyhow::Ok(())
        };
        if crop.is_none() {
            let progress = Progress::new("pictures to choose the crop", wanted.count());
            let text = cropper.measure(wanted, &mut |done, of, memory| {
                progress.to(done, of);
                keep(memory)
            })?;
            drop(progress);
            self.tell(&text);
            beside.keep(&key, &cropper.memory)?;
        }
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
                        keep(memory)?;
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
        let (learned, stays) = self.learn_from(&mut gallery, before.as_ref())?;
        if let Some(before) = &before {
            keep_classes(&mut gallery, before, &classes)?;
        }
        let removed = ids_before.iter().filter(|id| !memory.contains(**id)).count();
        let different: BTreeSet<_> = added.contents.iter().flatten().collect();
        let (embedded, known) = (looked, different.len() - looked);
        Ok(Outcome { gallery, learned, added, memory, removed, embedded, known, stays, unusable })
    }

    /// Lets the gallery learn from its entries; whether the threshold is that of before.
    fn learn_from(
        &self,
        gallery: &mut Gallery,
        before: Option<&Gallery>,
    ) -> anyhow::Result<(Learned, bool)> {
        let mut options = self.learn.options();
        if !self.learn.is_wanted(gallery.len(), &mut |text| self.tell(text)) {
            (options.adapt, options.calibrate) = (false, false);
        }
        let mut stays = false;
        if let Some(before) = before.filter(|before| self.learn.keeps(before)) {
            stays = keep_threshold(gallery, before)?;
            options.adapt &= !stays;
        }
        Ok((authoring::learn(gallery, &options)?, stays))
    }

    /// Prints a line, unless the answer is JSON.
    fn tell(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    /// Places of the pictures that the page offers, beside those of `--sample`.
    fn sample_places(&self, wanted: &Wanted, added: &Added) -> Vec<usize> {
        if self.samples == 0 {
            return Vec::new();
        }
        let mut last = None;
        let usable = (0..wanted.count()).filter(|place| added.contents[*place].is_some());
        let firsts: Vec<usize> = usable
            .filter(|place| last.replace(wanted.label(*place)) != Some(wanted.label(*place)))
            .collect();
        let count = self.samples.min(firsts.len());
        (0..count).map(|number| firsts[number * firsts.len() / count]).collect()
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
