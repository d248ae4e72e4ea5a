//! Which part of a picture becomes an entry, as a command line says it.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, ValueEnum};
use models::detector::Detector;
use models::gallery::Crop;
use models::inference::Prepared;

use crate::cli::{DeviceKind, Embedder, open_detector};
use crate::networks;
use crate::terminal::audience;
use authoring::embedding_shard::Head;
use authoring::{Cropper, Networks, Photos};

/// What a command line says of it.
#[derive(Debug, Args)]
pub(in crate::command) struct Crops {
    /// Which part of a picture becomes an entry. What is added later follows what the gallery was made of.
    #[arg(long, value_enum, default_value_t)]
    crop: Choice,
    /// Model file of the detector that finds the main body, the one of the page, or `none`; by default the one that
    /// magpie brings along beside its extractor, if there is one.
    #[arg(long)]
    detector: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::command) enum Choice {
    /// What is measured better on the pictures themselves: with a detector the whole picture, its main body or both,
    /// else the whole picture or its middle.
    #[default]
    Auto,
    /// The whole picture.
    Never,
    /// The middle 70 % of each side: photographs of one thing, without a detector.
    Middle,
    /// The main body; the whole picture if there is none.
    Main,
    /// The whole picture and its main body, two entries.
    Both,
}

impl Choice {
    pub(in crate::command) fn crop(self) -> Option<Crop> {
        match self {
            Self::Auto => None,
            Self::Never => Some(Crop::Never),
            Self::Middle => Some(Crop::Middle),
            Self::Main => Some(Crop::Main),
            Self::Both => Some(Crop::Both),
        }
    }
}

/// What a command line came to: the detector, where one looks, and the part; `None` where that is to be measured.
pub(in crate::command) struct Chosen {
    pub(in crate::command) detector: Option<Prepared<Detector>>,
    pub(in crate::command) crop: Option<Crop>,
}

impl Crops {
    /// The given detector.
    pub(in crate::command) fn detector(&self) -> Option<&PathBuf> {
        self.detector.as_ref()
    }

    /// The part that shards are built with; nothing where it is to be measured.
    pub(super) fn in_shards(&self, head: &Head) -> anyhow::Result<Option<Crop>> {
        let Some(crop) = self.crop.crop() else { return Ok(head.crop) };
        if !head.has(crop) {
            bail!(
                "the shards do not hold what --crop {} needs: they were made with {}; leave --crop out, or embed again \
                 with it",
                crop.name(),
                head.words
            );
        }
        Ok(Some(crop))
    }

    /// What was given, as words.
    pub(in crate::command) fn words(&self) -> Vec<String> {
        let crop = self.crop.crop().map(|crop| format!("--crop {}", crop.name()));
        let detector = self.detector.as_ref().map(|path| format!("--detector {}", spelled(path)));
        crop.into_iter().chain(detector).collect()
    }

    /// What is chosen with the detector that [`Self::check`] has found. `had` is what a gallery with entries is made
    /// of; an empty one is measured.
    pub(in crate::command) fn choose(
        &self,
        had: Option<Crop>,
        detector: Option<&Path>,
        device: DeviceKind,
    ) -> anyhow::Result<Chosen> {
        let chosen = self.crop.crop();
        let crop = chosen.or(had);
        if let (Some(chosen), Some(had)) = (chosen, had)
            && chosen != had
        {
            eprintln!(
                "note: these pictures become entries with --crop {}, those in the gallery did with {}",
                chosen.name(),
                had.name()
            );
        }
        let detector = match (detector, crop) {
            (Some(path), crop) if crop.is_none_or(Crop::needs_detector) => {
                Some(open_detector(path, device)?)
            }
            (Some(path), Some(crop)) if self.detector.is_some() => {
                eprintln!(
                    "note: --detector {} is not used: the entries are made with --crop {}",
                    path.display(),
                    crop.name()
                );
                None
            }
            _ => None,
        };
        Ok(Chosen { detector, crop })
    }

    /// The detector's file, if there is one; fails where one is needed and none is given.
    pub(in crate::command) fn check(
        &self,
        had: Option<Crop>,
        extractor: &Path,
    ) -> anyhow::Result<Option<PathBuf>> {
        let detector = networks::detector(self.detector.as_deref(), extractor);
        let chosen = self.crop.crop();
        let crop = chosen.or(had);
        if crop.is_some_and(Crop::needs_detector) && detector.is_none() {
            let name = crop.unwrap_or_default().name();
            match chosen {
                Some(_) => bail!("--crop {name} looks for the main body: give --detector, too"),
                None => bail!(
                    "the gallery's entries are those of main bodies (crop {name}): give --detector, too, or \
                     --crop never for whole pictures"
                ),
            }
        }
        Ok(detector)
    }
}

/// A path as a shell takes it.
pub(in crate::command) fn spelled(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:,@%".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

impl Chosen {
    /// A part whose embeddings are there already.
    pub(super) fn known(crop: Crop) -> Self {
        Self { detector: None, crop: Some(crop) }
    }

    /// What makes the parts of pictures; where the part is to be measured, it is, and said.
    pub(super) fn cropper<'a>(
        &'a self,
        embedder: &'a Embedder,
        photos: &dyn Photos,
    ) -> anyhow::Result<Cropper<'a>> {
        let networks = Networks { extractor: embedder.network(), detector: self.detector.as_ref() };
        let mut cropper = Cropper::new(networks, self.crop.unwrap_or_default());
        if self.crop.is_none() {
            let text = cropper.measure(photos, &mut |done, of, _| {
                audience::progress("pictures to choose the crop", done, of);
                Ok(())
            })?;
            println!("{text}");
        }
        Ok(cropper)
    }
}
