//! `magpie publish`: page, engine and bundle as one folder for any static host.

mod of_site;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use authoring::bundled::{self, CUT_FROM, Models};
use authoring::site::{Sample, sample_names};
use clap::{Args, ValueEnum};
use models::bundle::{Bundle, MANIFEST_NAME};
use models::detector::DetectionThresholds;
use models::gallery::{AnswerRule, Budget, Gallery, ShardOptions, Sharded};
use models::image::RgbImage;
use models::model_file::ModelFile;
use models::recognizer::{RecognizerSettings, WholeImage};

pub(super) use self::of_site::OfSite;
use super::gallery::{Answer, check_extractor, other_rule, threshold_text};
use crate::cli::probe::ProbeError;
use crate::cli::{OpenModel, open_detector_file, open_extractor_file, read, read_wanted, size};
use crate::files::wanted::{GALLERY, IMAGE};
use crate::files::{self, FileError};
use crate::networks;
use crate::page::Page;
use crate::publishing::draft::Draft;
use crate::publishing::earlier::{self, Given};
use crate::publishing::names::{
    BUNDLE_FOLDER, HEADERS_FILE, PAGE, PEERS, PEERS_FRAME, PRECACHE, SAMPLES, SERVICE_WORKER,
    STUDIO_PAGE, list_files,
};
use crate::publishing::owned::Owned;
use crate::publishing::peers;
use crate::publishing::site::Site;
use crate::terminal::counted;

/// Title of a page that was given none.
pub(super) const TITLE: &str = "Magpie";

/// Writes a complete static site, then opens it again and recognizes a picture with it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  magpie publish --extractor lite0.safetensors --gallery \
    gallery.bin --title \"On my shelf\" --out site\n  magpie publish --extractor lite0.safetensors --detector \
    runs/boxes/model.safetensors --gallery gallery.bin --out site")]
pub struct Arguments {
    /// Model file of the extractor that built the gallery; `general` is the one that magpie brings along.
    #[arg(long, default_value = networks::GENERAL)]
    extractor: PathBuf,
    /// Model file of the detector, or `none`, with which every picture is one object; by default the one that magpie
    /// brings along beside its extractor, if there is one.
    #[arg(long)]
    detector: Option<PathBuf>,
    /// Gallery file.
    #[arg(long)]
    gallery: PathBuf,
    /// Built page and engine, by default those inside the program, or `dist`; of a published site its page alone is
    /// taken.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Folder to write. Of a site published before what magpie wrote is replaced; all else in it stays, and so does
    /// what has been edited: `_headers` as it is, other files under another name.
    #[arg(long)]
    out: PathBuf,
    /// Title of the page; by default Magpie.
    #[arg(long)]
    title: Option<String>,
    /// Sample pictures offered on the page; may be repeated.
    #[arg(long)]
    sample: Vec<PathBuf>,
    /// Least cosine for an answer; by default what `gallery calibrate` kept in the gallery, else 0.5.
    #[arg(long, allow_negative_numbers = true, value_parser = crate::cli::ranges::cosine)]
    min_similarity: Option<f32>,
    /// Least score of an object.
    #[arg(long, default_value_t = DetectionThresholds::default().score, value_parser = crate::cli::ranges::score)]
    min_score: f32,
    /// Overlap (IoU) from which two answers are one; 0.05 in PP-ShiTu.
    #[arg(long, default_value_t = RecognizerSettings::default().recognition_nms_iou, value_parser = crate::cli::ranges::score)]
    recognition_nms_iou: f32,
    /// When the whole picture is recognized as one object.
    #[arg(long, value_enum, default_value_t)]
    whole_image: Whole,
    #[command(flatten)]
    answer: Answer,
    /// Whether a visitor's page fetches parts of the gallery for each object instead of all of it
    /// once. Answers are nearly the same; docs/gallery.md says how nearly.
    #[arg(long, value_enum, default_value_t)]
    shards: Cut,
    /// Largest file of such a gallery, in megabytes of 1,048,576 bytes; some hosts take no more than 25.
    #[arg(long, default_value_t = SHARD_SIZE, value_parser = clap::value_parser!(u16).range(1..=1024))]
    shard_size: u16,
    /// Folder of npm's packages (`node_modules`): those of ONNX Runtime Web, LiteRT.js and TensorFlow.js
    /// in it are offered for comparison in the site's `bench/`, beside these networks in their formats.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// License and source of pictures or weights, a sentence; may be repeated.
    #[arg(long)]
    note: Vec<String>,
    /// Whether nothing is printed but warnings.
    #[arg(skip)]
    quiet: bool,
    /// Whether the command has no options for what the gallery keeps: its threshold and its rule.
    #[arg(skip)]
    is_of_site: bool,
    /// Samples that lie in no file of their own, by what they are called.
    #[arg(skip)]
    packed: BTreeMap<PathBuf, Vec<u8>>,
}

/// When a gallery is published in shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Cut {
    /// Where its file has more than 16 MB.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Not at all.
    Never,
}

/// Largest file of a gallery in shards, in megabytes of 1,048,576 bytes.
const SHARD_SIZE: u16 = 16;

/// When the whole picture is recognized as one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Whole {
    /// Beside the found objects, as PP-ShiTu does.
    Always,
    /// Where nothing was found.
    #[default]
    Fallback,
    /// Not at all.
    Never,
}

impl From<Whole> for WholeImage {
    fn from(whole: Whole) -> Self {
        match whole {
            Whole::Always => Self::Always,
            Whole::Fallback => Self::Fallback,
            Whole::Never => Self::Never,
        }
    }
}

impl Arguments {
    fn title(&self) -> &str {
        self.title.as_deref().unwrap_or(TITLE)
    }

    /// Prints a line of the answer.
    fn say(&self, line: std::fmt::Arguments<'_>) {
        if !self.quiet {
            println!("{line}");
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or written, parts that do not belong together.
    pub fn run(&self) -> anyhow::Result<()> {
        let built = Page::open(self.page.as_deref())?;
        let mut page = page_files(built.folder())?;
        if !self.is_of_site {
            check_samples(&self.sample)?;
        }
        if self.peers.is_none() {
            page.retain(|name| name != PEERS_FRAME);
        }
        let mut site = Draft::begin(&self.out)?;
        check_place(&site, &self.out, built.folder())?;
        site.check(&self.known_names(&page))?;
        let parts = self.open_parts()?;
        let (settings, notes) = (self.settings(&parts.gallery), self.notes(&parts));
        self.say_answer(&parts.gallery, &settings);
        let given = Given {
            title: self.title.is_some(),
            threshold: self.is_of_site || self.min_similarity.is_some(),
            rule: self.is_of_site || self.answer.is_given(),
        };
        let samples = self.sample.len();
        for line in earlier::not_kept(&site, self.title(), &notes, samples, &settings, given) {
            self.say(format_args!("not kept of the site that stands there: {line}"));
        }
        let mut files =
            self.assemble((built.folder(), &page), self.bundle(&parts, settings, notes)?)?;
        if let Some(packages) = &self.peers {
            let compared: Vec<&ModelFile> = parts.models().map(|model| &model.file).collect();
            let runtimes = peers::add(&mut files, packages, &compared)?;
            self.say(format_args!("for comparison in bench/: {}", runtimes.join(", ")));
        }
        files.keep_offline(self.title())?;
        let whole: BTreeSet<String> = files.files.keys().cloned().collect();
        write(&site, &files, |_| true)?;
        let opened = Site::Folder(site.folder().to_owned());
        let opened = opened.open_again(&mut |line| self.say(format_args!("{line}")));
        opened.map_err(|error| self.of_given_file(error))?;
        let sizes = files.prepare_for_hosts(true, &mut |_, _| Ok(()))?;
        write(&site, &files, |name| !whole.contains(name))?;
        site.publish(files.files.into_keys().collect())?;
        self.say(format_args!(
            "{}: {} in all, {} where the host sends packed files; checked",
            self.out.display(),
            size(sizes.plain),
            size(sizes.packed)
        ));
        Ok(())
    }
}

/// What a site is made of, beside the page.
struct Parts {
    extractor: OpenModel,
    detector: Option<OpenModel>,
    gallery: Gallery,
    /// Whether the gallery is published in shards.
    cut: bool,
}

impl Parts {
    fn models(&self) -> impl Iterator<Item = &OpenModel> {
        [Some(&self.extractor), self.detector.as_ref()].into_iter().flatten()
    }
}

impl Arguments {
    /// Reads networks and gallery, which belong together.
    fn open_parts(&self) -> anyhow::Result<Parts> {
        let extractor = open_extractor_file(&self.extractor)?;
        let detector = networks::detector(self.detector.as_deref(), &self.extractor);
        let detector = detector.as_deref().map(open_detector_file).transpose()?;
        let file = read_wanted(&self.gallery, GALLERY)?;
        let gallery =
            Gallery::from_bytes(&file).with_context(|| self.gallery.display().to_string())?;
        check_extractor(&gallery, &self.gallery, &self.extractor, &extractor.id)?;
        gallery.check_answers().with_context(|| self.gallery.display().to_string())?;
        let cut = match self.shards {
            Cut::Auto => file.len() > CUT_FROM,
            Cut::Always => true,
            Cut::Never => false,
        };
        Ok(Parts { extractor, detector, gallery, cut })
    }

    /// How the page recognizes.
    fn settings(&self, gallery: &Gallery) -> RecognizerSettings {
        let usual = bundled::settings(gallery);
        RecognizerSettings {
            min_similarity: self.min_similarity.unwrap_or(usual.min_similarity),
            recognition_nms_iou: self.recognition_nms_iou,
            whole_image: self.whole_image.into(),
            answer: self.answer.of(gallery),
            detection: DetectionThresholds { score: self.min_score, ..Default::default() },
            ..usual
        }
    }

    /// Licenses and sources: those given, and those that the models carry.
    fn notes(&self, parts: &Parts) -> Vec<String> {
        let of_models = parts.models().map(|model| model.file.description.notes.as_str());
        bundled::notes(self.note.clone(), of_models)
    }

    fn bundle(
        &self,
        parts: &Parts,
        settings: RecognizerSettings,
        notes: Vec<String>,
    ) -> anyhow::Result<Bundle> {
        let Parts { extractor, detector, gallery, cut } = parts;
        let sharded = if *cut { Some(self.cut(gallery, settings.answer)?) } else { None };
        let models = Models {
            extractor: &extractor.bytes,
            detector: detector.as_ref().map(|detector| detector.bytes.as_slice()),
        };
        Ok(bundled::bundle(self.title(), models, (gallery, sharded.as_ref()), settings, notes)?)
    }

    /// Page, bundle and samples as a site.
    fn assemble(
        &self,
        (built, page): (&Path, &[String]),
        bundle: Bundle,
    ) -> anyhow::Result<authoring::Site> {
        let read_page = |name: &String| anyhow::Ok((name.clone(), read(&built.join(name))?));
        let page = page.iter().map(read_page).collect::<Result<_, _>>()?;
        let sample = |path: &PathBuf| {
            let bytes = match self.packed.get(path) {
                Some(bytes) => bytes.clone(),
                None => read_wanted(path, IMAGE)?,
            };
            anyhow::Ok(Sample { ending: ending(path).to_owned(), bytes })
        };
        let samples = self.sample.iter().map(sample).collect::<Result<_, _>>()?;
        Ok(authoring::Site::new(page, self.title(), bundle, samples)?)
    }

    /// Names the file that was given for one of the bundle: the detector that answers nothing.
    fn of_given_file(&self, error: anyhow::Error) -> anyhow::Error {
        match (error.downcast::<ProbeError>(), &self.detector) {
            (Ok(error), Some(path)) => anyhow!(error).context(path.display().to_string()),
            (Ok(error), None) => error.into(),
            (Err(other), _) => other,
        }
    }

    /// Says what an answer will be.
    fn say_answer(&self, gallery: &Gallery, settings: &RecognizerSettings) {
        let (least, rule) = (settings.min_similarity, settings.answer);
        self.say(format_args!("{}", threshold_text(gallery, self.min_similarity, least, rule)));
        if let Some(told) = other_rule(gallery, rule) {
            eprintln!("{told}");
        }
        if gallery.is_empty() {
            eprintln!(
                "warning: {}: the gallery is empty: the site knows nothing until a visitor teaches it; \
                 `magpie gallery add` fills the gallery",
                self.gallery.display()
            );
        }
    }

    /// Names of the sample pictures inside the site.
    fn sample_names(&self) -> Vec<String> {
        sample_names(self.sample.iter().map(|path| ending(path)))
    }

    /// Names of the site's files as far as they are known before the work begins: all but those named after their
    /// content.
    fn known_names(&self, page: &[String]) -> Vec<String> {
        let mut names = page.to_vec();
        names.extend(self.sample_names());
        names.push(format!("{BUNDLE_FOLDER}/{MANIFEST_NAME}"));
        names.extend([SAMPLES, HEADERS_FILE].map(str::to_owned));
        if page.iter().any(|name| name == SERVICE_WORKER) {
            names.push(PRECACHE.to_owned());
        }
        if self.peers.is_some() {
            names.push(PEERS.to_owned());
        }
        names
    }

    /// Cuts the gallery into shards and says what a visitor downloads.
    fn cut(&self, gallery: &Gallery, rule: AnswerRule) -> anyhow::Result<Sharded> {
        let options =
            ShardOptions { shard_bytes: u64::from(self.shard_size) << 20, ..Default::default() };
        let sharded = bundled::cut(gallery, rule, &options)?;
        let all: usize = sharded.shards.iter().map(Vec::len).sum();
        self.say(format_args!(
            "the gallery comes as a directory of {}, which a page downloads at first, and {} of {} in \
             all, of which it downloads at most {} for an object that it has not met",
            size(sharded.directory.len() as u64),
            counted(sharded.shards.len(), "shard", "shards"),
            size(all as u64),
            size(Budget::default().bytes)));
        Ok(sharded)
    }
}

/// Refuses a place that what is published comes from.
pub(super) fn check_place(site: &Draft, out: &Path, built: &Path) -> anyhow::Result<()> {
    let (out, page) = (out.display(), files::whole(built));
    if site.place() == page {
        bail!(
            "{out}: --page and --out name one folder; give the folder that the page was built into by --page, \
             or another --out"
        );
    }
    if site.place().starts_with(&page) {
        bail!("{out}: lies in the built page; choose another folder");
    }
    let within = page.strip_prefix(site.place()).ok().and_then(Path::to_str);
    let is_own = |folder: &str| site.before().is_some_and(|own| own.has_in(folder));
    if within.is_some_and(is_own) {
        bail!("{out}: the built page is a part of this site; give the one that was built");
    }
    Ok(())
}

/// Fails for a sample that is no picture.
pub(super) fn check_samples(samples: &[PathBuf]) -> anyhow::Result<()> {
    for path in samples {
        RgbImage::decode(&read_wanted(path, IMAGE)?)
            .with_context(|| format!("--sample {}", path.display()))?;
    }
    Ok(())
}

/// The ending of a picture's name.
fn ending(path: &Path) -> &str {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or("jpg")
}

/// Writes some files of a site into the draft.
pub(super) fn write(
    draft: &Draft,
    site: &authoring::Site,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<(), FileError> {
    let wanted = site.files.iter().filter(|(name, _)| is_wanted(name));
    wanted.into_iter().try_for_each(|(name, bytes)| draft.write(name, bytes))
}

/// Fails where no page was built.
pub(super) fn check_page(page: &Page) -> anyhow::Result<()> {
    page_files(page.folder()).map(drop)
}

/// Names of the built page's files.
pub(super) fn page_files(page: &Path) -> anyhow::Result<Vec<String>> {
    if !page.join(PAGE).is_file() {
        bail!(
            "{0}: no built page there; `cargo xtask demo --no-serve` builds it in the project, and \
             `--page PROJECT/dist` says where it is; a program that `cargo xtask dist` makes has one inside",
            page.display()
        );
    }
    if let Some(own) = Owned::of(page)? {
        if own.contains(STUDIO_PAGE) {
            bail!(
                "{}: is a studio of its own, whose page leads to it; give the built page, or a published site",
                page.display()
            );
        }
        return Ok(own.of_page());
    }
    let mut names = Vec::new();
    list_files(page, "", &mut names)?;
    // What the build left for itself.
    names.retain(|name| !name.split('/').any(|part| part.starts_with('.')));
    names.sort();
    Ok(names)
}
