//! What a command is asked to put into a gallery: pictures with their classes, and metadata.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use models::gallery::{ContentId, Metadata};
use models::model_file::sha256_hex;
use models::recognizer::class_thumbnail;

use super::shards::Shards;
use super::{CLASSES, Noun, PICTURES, many};
use crate::cli::{read_wanted, tell_remarks};
use crate::data::archive::Archive;
use crate::data::left_out::{Reason, listed};
use crate::data::list_file::{DataError, Samples, look_alike_texts};
use crate::data::store::{PictureError, decode_picture, read_file};
use crate::files;
use authoring::embedding_shard::{Beside, Head};
use authoring::label::{Labels, check_metadata, look_alikes, nearest, on_one_line, quoted};
use authoring::{Memory, Photos};

/// Characters of a remark of a shard that are shown.
const LONGEST_REMARK: usize = 1000;
/// Pictures that cannot be used for one reason that are named; more are counted.
const NAMED: usize = 5;
const FOLDERS: Noun = ("folder", "folders");
/// Pictures of a list whose digest is taken at once.
const DIGESTED: usize = 4096;

/// Where pictures lie.
enum Source {
    Files,
    /// In a zip file.
    Archive(Archive),
    /// Nowhere: their embeddings do.
    Shards(Shards),
}

/// Pictures that are asked for.
pub(in crate::command) struct Wanted {
    /// Class and file, in order.
    pub(in crate::command) pictures: Vec<(String, PathBuf)>,
    source: Source,
    /// Whether each of them was named by itself.
    pub(super) is_named: bool,
    /// What a folder holds beside them.
    pub(in crate::command) beside: Beside,
    /// What was said of it.
    pub(in crate::command) remarks: Vec<String>,
}

impl Wanted {
    /// The pictures of a folder, a list or a zip file; says what a folder holds beside them. Where `strict`, a picture or a
    /// class among that is an error.
    pub(in crate::command) fn listed(path: &Path, strict: bool) -> anyhow::Result<Self> {
        let (samples, source) = if Archive::is_one(path) {
            let (samples, archive) = Archive::open(path)?;
            (samples, Source::Archive(archive))
        } else {
            (read_listed(path)?, Source::Files)
        };
        let remarks = samples.remarks();
        tell_remarks(&remarks);
        let Samples { samples, labels, left_out, .. } = samples;
        let losses = || left_out.iter().map(|left_out| &left_out.reason).filter(|r| r.is_loss());
        let of_folders = losses().filter(|reason| reason.is_of_folders()).count();
        let empty = |reason: &&Reason| matches!(reason, Reason::NoPictures | Reason::FoldersOnly);
        let classes = losses().filter(empty).count();
        let (folders, pictures) = (of_folders - classes, losses().count() - of_folders);
        let beside = Beside { pictures, classes, folders };
        check_strict(path, &beside, strict)?;
        Ok(Self {
            pictures: samples.into_iter().map(|s| (labels[s.label].clone(), s.path)).collect(),
            source,
            is_named: false,
            beside,
            remarks,
        })
    }

    /// The pictures whose embeddings are in shards; says and allows what [`Self::listed`] does of their list.
    pub(super) fn in_shards(given: &[PathBuf], strict: bool) -> anyhow::Result<Self> {
        let (shards, pictures) = Shards::open(given)?;
        let (mut beside, mut remarks) = (Beside::default(), Vec::new());
        if let Some(head) = shards.head() {
            let shown = head.remarks.iter().map(|remark| on_one_line(remark, LONGEST_REMARK));
            (beside, remarks) = (head.beside, shown.collect());
        }
        tell_remarks(&remarks);
        let first = shards.paths().next().unwrap_or(Path::new("")).to_owned();
        check_strict(&first, &beside, strict)?;
        Ok(Self { pictures, source: Source::Shards(shards), is_named: false, beside, remarks })
    }

    /// What the shards are of that the pictures come in.
    pub(super) fn head(&self) -> Option<&Head> {
        match &self.source {
            Source::Shards(shards) => shards.head(),
            Source::Files | Source::Archive(_) => None,
        }
    }

    /// The files that are read for the pictures.
    pub(super) fn files(&self) -> Vec<&Path> {
        match &self.source {
            Source::Shards(shards) => shards.paths().collect(),
            Source::Files | Source::Archive(_) => {
                self.pictures.iter().map(|(_, path)| path.as_path()).collect()
            }
        }
    }

    /// SHA-256 of the list: labels and paths, as far as these lie where the list does, so that it is the same on every
    /// machine.
    pub(in crate::command) fn digest(&self, images: &Path) -> String {
        let is_whole = images.is_dir() || matches!(self.source, Source::Archive(_));
        let root = if is_whole { images } else { files::folder_of(images) };
        let mut digest = String::new();
        for pictures in self.pictures.chunks(DIGESTED) {
            let mut bytes = digest.into_bytes();
            for (label, path) in pictures {
                let path = path.strip_prefix(root).unwrap_or(path).as_os_str();
                for part in [label.as_bytes(), path.as_encoded_bytes()] {
                    bytes.extend((part.len() as u64).to_le_bytes());
                    bytes.extend(part);
                }
            }
            digest = sha256_hex(&bytes);
        }
        digest
    }

    /// Files of one class, each named by itself.
    pub(super) fn named(class: &str, files: &[PathBuf]) -> anyhow::Result<Self> {
        let class = checked(class)?;
        let pictures = files.iter().map(|file| (class.clone(), file.clone())).collect();
        let (source, beside) = (Source::Files, Beside::default());
        Ok(Self { pictures, source, is_named: true, beside, remarks: Vec::new() })
    }

    /// Classes, each once, in the order of their first picture.
    fn labels(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let labels = self.pictures.iter().map(|(label, _)| label.as_str());
        labels.filter(|label| seen.insert(*label)).collect()
    }

    /// Says which of the classes look like another one of these or of the gallery's.
    pub(in crate::command) fn say_look_alikes<'a>(
        &'a self,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        let wanted = self.labels();
        let known: Vec<&str> = known.into_iter().collect();
        // What was said of a folder by itself is not said again.
        let said = if self.is_named { Vec::new() } else { look_alikes(wanted.iter().copied()) };
        let is_wanted: HashSet<&str> = wanted.iter().copied().collect();
        let mut groups = look_alikes(known.into_iter().chain(wanted));
        groups.retain(|group| {
            !said.contains(group) && group.iter().any(|label| is_wanted.contains(label.as_str()))
        });
        for line in look_alike_texts(&groups) {
            eprintln!("{line}");
        }
    }

    /// What was left out, as the end of a sentence; empty where that is nothing.
    pub(in crate::command) fn left_out_text(&self, unusable: &Unusable) -> String {
        let pictures = match self.beside.pictures + unusable.count() {
            0 => String::new(),
            some => format!("; {} left out", many(some, PICTURES)),
        };
        let classes = match self.beside.classes + unusable.classes {
            0 => String::new(),
            some => format!("; {} without pictures", many(some, CLASSES)),
        };
        let folders = match self.beside.folders {
            0 => String::new(),
            some => format!("; {} left out", many(some, FOLDERS)),
        };
        pictures + &classes + &folders
    }
}

impl Photos for Wanted {
    fn count(&self) -> usize {
        self.pictures.len()
    }

    fn label(&self, place: usize) -> &str {
        &self.pictures[place].0
    }

    fn path(&self, place: usize) -> &Path {
        &self.pictures[place].1
    }

    fn bytes(&self, place: usize) -> Result<Vec<u8>, PictureError> {
        let path = &self.pictures[place].1;
        match &self.source {
            Source::Archive(archive) => archive.bytes(path),
            Source::Files | Source::Shards(_) => read_file(path),
        }
    }

    fn read(&self, place: usize) -> Result<(ContentId, Option<Vec<u8>>), PictureError> {
        if let Source::Shards(shards) = &self.source {
            return Ok((shards.content(place, self.path(place))?, None));
        }
        let bytes = self.bytes(place)?;
        Ok((ContentId::of(&bytes), Some(bytes)))
    }

    fn remembered(&self, places: &[usize]) -> anyhow::Result<Option<Memory>> {
        match &self.source {
            Source::Shards(shards) => shards.remembered(places).map(Some),
            Source::Files | Source::Archive(_) => Ok(None),
        }
    }

    fn class_thumbnail(&self, place: usize) -> Option<Vec<u8>> {
        if let Source::Shards(shards) = &self.source {
            return shards.thumbnail(place);
        }
        let picture = decode_picture(self.path(place), &self.bytes(place).ok()?).ok()?;
        class_thumbnail(&picture).ok()
    }
}

/// Fails where a list has something beside its pictures and that is not allowed.
fn check_strict(path: &Path, beside: &Beside, strict: bool) -> anyhow::Result<()> {
    let Beside { pictures, classes, folders } = beside;
    let all = pictures + classes + folders;
    if strict && all > 0 {
        bail!(
            "{}: {all} left out, which --strict does not allow; mend them, or leave --strict out",
            path.display()
        );
    }
    Ok(())
}

/// The pictures of a folder of classes or a list. Where a folder is that of one class, says what to give.
pub(super) fn read_samples(path: &Path) -> anyhow::Result<Samples> {
    let samples = read_listed(path)?;
    tell_remarks(&samples.remarks());
    Ok(samples)
}

/// The same, of which nothing is said yet.
fn read_listed(path: &Path) -> anyhow::Result<Samples> {
    Samples::read(path).map_err(anyhow::Error::from).map_err(|error| {
        let of_one = match error.downcast_ref::<DataError>() {
            Some(DataError::NothingTaken { left_out, .. }) => {
                left_out.contains(&Reason::Loose.to_string())
            }
            _ => false,
        };
        if !of_one {
            return error;
        }
        let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let above = whole.parent().unwrap_or(&whole).display();
        anyhow!(
            "{}: holds pictures itself, as the folder of one class does; give the folder that holds the \
             classes' folders: {above}",
            path.display()
        )
    })
}

/// A label that is given on the command line.
pub(super) fn checked(text: &str) -> anyhow::Result<String> {
    Ok(authoring::label::checked(text)?)
}

/// Pictures that cannot be used, counted by reason.
#[derive(Debug, Default)]
pub(in crate::command) struct Unusable {
    by_reason: BTreeMap<String, usize>,
    /// Pictures that are in two classes.
    shared: usize,
    /// Classes that have no other picture.
    classes: usize,
}

impl Unusable {
    /// Says it, except where enough of the kind were named.
    pub(in crate::command) fn add(&mut self, error: &PictureError, is_named: bool) {
        let reason = error.source.to_string();
        // Some reasons name the file.
        let reason = reason.strip_prefix(&format!("{}: ", error.path)).unwrap_or(&reason);
        let count = self.by_reason.entry(reason.to_owned()).or_default();
        *count += 1;
        if is_named || *count <= NAMED {
            eprintln!("left out: {error}");
        }
    }

    /// Says that a picture is in another class, too, except where enough were named.
    pub(in crate::command) fn share(&mut self, path: &Path, class: &str, other: &str) {
        self.shared += 1;
        if self.shared <= NAMED {
            eprintln!(
                "note: {}: the same picture is in {} and in {}; keep one of them where a thing has one name",
                path.display(),
                quoted(other),
                quoted(class)
            );
        }
    }

    /// Says how many were not named, and which of the wanted classes have no picture at all.
    pub(in crate::command) fn end(&mut self, wanted: &Wanted, classes: &Labels) {
        for (reason, count) in self.by_reason.iter().filter(|(_, count)| **count > NAMED) {
            if !wanted.is_named {
                eprintln!("{} more left out: {reason}", count - NAMED);
            }
        }
        if self.shared > NAMED {
            let more = ("more picture is", "more pictures are");
            eprintln!("note: {} in two classes", many(self.shared - NAMED, more));
        }
        let mut lost = wanted.labels();
        lost.retain(|label| classes.find(label).is_none());
        self.classes = lost.len();
        let names = listed(lost.iter().map(|label| quoted(label)));
        match lost.len() {
            0 => (),
            1 => eprintln!("left out: class {names}: none of its pictures can be used"),
            count => {
                eprintln!("{count} classes left out: {names}: none of their pictures can be used");
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.by_reason.values().sum()
    }
}

/// Facts of classes that are in the gallery or on their way into it, by label.
pub(super) fn read_metadata(
    path: Option<&Path>,
    classes: &Labels,
    wanted: &Wanted,
) -> anyhow::Result<BTreeMap<String, Metadata>> {
    let Some(path) = path else { return Ok(BTreeMap::new()) };
    let text = files::text(read_wanted(path, files::wanted::METADATA)?)
        .with_context(|| path.display().to_string())?;
    let read: BTreeMap<String, Metadata> = serde_json::from_str(&text).with_context(|| {
        format!(
            "{}: metadata are written as {{\"CLASS\": {{\"NAME\": \"TEXT\"}}}}; mend the file",
            path.display()
        )
    })?;
    let wanted = wanted.labels();
    let is_wanted: HashSet<&str> = wanted.iter().copied().collect();
    let mut metadata = BTreeMap::new();
    for (name, facts) in read {
        let name = checked(&name).with_context(|| path.display().to_string())?;
        if classes.find(&name).is_none() && !is_wanted.contains(name.as_str()) {
            let near = nearest(&name, classes.texts().chain(wanted.iter().copied()));
            let help = match near {
                Some(near) => format!("did you mean {}?", quoted(near)),
                None => "`magpie gallery list` shows those of a gallery".to_owned(),
            };
            bail!("{}: there is no class {}; {help}", path.display(), quoted(&name));
        }
        for (fact, text) in &facts {
            check_metadata(fact, text)
                .with_context(|| format!("{}: class {}", path.display(), quoted(&name)))?;
        }
        if metadata.insert(name.clone(), facts).is_some() {
            bail!("{}: class {} is there twice; give it once", path.display(), quoted(&name));
        }
    }
    Ok(metadata)
}
