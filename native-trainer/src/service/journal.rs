//! Changes that were answered, on the disk: a gallery's file and the journal of what was done to it since.
//!
//! A state folder holds generations, `gallery-N.bin` with `journal-N.wal`. A journal begins with the digest of its gallery
//! and is written to before a change is answered. A new generation counts from the moment that its journal has its name.
//! A frame of it has the changes of one write.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use models::gallery::{ContentId, Gallery, check_file};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::change::{Change, EntryId};
use super::log::{Log, frame, framed, is_damaged};
use crate::files;

/// How a journal begins.
const MAGIC: &[u8; 8] = b"MAGPWAL1";
/// Most bytes of a journal that are read.
const LIMIT: u64 = 8 << 30;

/// Greatest version of a gallery: nobody makes so many changes, and a forged one could not be counted on from.
const MOST: u64 = 1 << 48;

/// A version as somebody has written it down, in a journal or in a database.
///
/// # Errors
///
/// One that nobody reaches.
pub(crate) fn possible(version: u64) -> anyhow::Result<u64> {
    if version > MOST {
        bail!("version {version} of the gallery is none that changes lead to; put a copy back");
    }
    Ok(version)
}

/// How a journal begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// The gallery's file, by its content.
    pub(crate) gallery: EntryId,
    /// Tells versions of this gallery from those of others.
    pub(crate) id: String,
    /// Version of the gallery at least.
    pub(crate) version: u64,
    /// The generation that an undo leads back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<u64>,
    /// Answers that are given again, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys: Vec<Kept>,
}

/// A change that was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of the gallery behind it.
    pub(crate) version: u64,
    pub(crate) change: Change,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Kept>,
}

/// An answer that is given again where its key comes again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) key: String,
    /// Digest of the request.
    pub(crate) request: String,
    pub(crate) version: u64,
    pub(crate) answer: Value,
}

/// A journal that is written to.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    pub(crate) generation: u64,
    log: Log,
    /// Bytes that it began with, as far as that is known.
    begun: u64,
}

/// What a folder holds.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) begin: Begin,
    pub(crate) gallery: Gallery,
    pub(crate) records: Vec<Record>,
    pub(crate) journal: Journal,
}

fn gallery_path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("gallery-{generation}.bin"))
}

fn journal_path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("journal-{generation}.wal"))
}

/// Of which generation a name is the gallery, and of which the journal.
fn generation_of(name: &str) -> [Option<u64>; 2] {
    let number =
        |begin: &str, end: &str| name.strip_prefix(begin)?.strip_suffix(end)?.parse::<u64>().ok();
    [number("gallery-", ".bin"), number("journal-", ".wal")]
}

/// Whether a service goes on from the file of a gallery: a journal of its changes lies beside it.
pub(crate) fn is_kept(gallery: &Path) -> bool {
    let name = gallery.file_name().and_then(|name| name.to_str());
    let generation = name.and_then(|name| generation_of(name)[0]);
    let folder = files::folder_of(gallery);
    generation.is_some_and(|generation| journal_path(folder, generation).exists())
}

/// The file of a state folder that holds what visitors have sent.
pub(crate) const CORRECTIONS: &str = "corrections.wal";

/// Whether a file of this name may lie in a state folder: one of its own, or what a disk has at its top.
pub(crate) fn is_own(name: &str) -> bool {
    generation_of(name).iter().any(Option::is_some) || [CORRECTIONS, "lost+found"].contains(&name)
}

/// Generations of a folder that have a gallery, and that have a journal.
fn generations(folder: &Path) -> anyhow::Result<[BTreeSet<u64>; 2]> {
    let mut found = [BTreeSet::new(), BTreeSet::new()];
    let failed = || folder.display().to_string();
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        found.iter_mut().zip(generation_of(name)).for_each(|(all, number)| all.extend(number));
    }
    Ok(found)
}

/// The gallery of a generation, and its content.
///
/// # Errors
///
/// A file that cannot be read.
pub(crate) fn read_gallery(folder: &Path, generation: u64) -> anyhow::Result<(Gallery, EntryId)> {
    let path = gallery_path(folder, generation);
    let bytes = files::read(&path, u64::MAX)?;
    let gallery = Gallery::from_bytes(&bytes).with_context(|| path.display().to_string())?;
    Ok((gallery, EntryId(ContentId::of(&bytes))))
}

/// Writes the gallery of a generation; its content.
///
/// # Errors
///
/// A disk that takes no more, a gallery that could not be read again.
pub(crate) fn write_gallery(
    folder: &Path,
    generation: u64,
    gallery: &Gallery,
) -> anyhow::Result<EntryId> {
    let path = gallery_path(folder, generation);
    let mut content = EntryId(ContentId::default());
    files::replace_verified(
        &path,
        |writer| -> anyhow::Result<()> { Ok(gallery.write_to(writer)?) },
        |file| {
            check_file(file).with_context(|| path.display().to_string())?;
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            content = EntryId(ContentId::of(&bytes));
            Ok(())
        },
    )?;
    Ok(content)
}

/// Opens what a folder holds; `None` of one that holds nothing yet.
///
/// # Errors
///
/// Files that cannot be read or are damaged.
pub(crate) fn open(folder: &Path) -> anyhow::Result<Option<Found>> {
    let [galleries, journals] = generations(folder)?;
    let Some(generation) = galleries.intersection(&journals).last().copied() else {
        if journals.is_empty() && galleries.iter().all(|generation| *generation == 0) {
            return Ok(None);
        }
        bail!(
            "{}: a journal or its gallery has gone, so that nobody can say what was answered; put it back, or give a new \
             folder",
            folder.display()
        );
    };
    let path = journal_path(folder, generation);
    let (begin, records, bytes) = read_journal(&path)?;
    let (gallery, content) = read_gallery(folder, generation)?;
    if content != begin.gallery {
        bail!(
            "{}: is not the gallery that {} goes on from; put the right one back",
            gallery_path(folder, generation).display(),
            path.display()
        );
    }
    // What a kill has left of a write goes.
    let log = Log::open(&path, bytes)?;
    let journal = Journal { folder: folder.to_owned(), generation, log, begun: 0 };
    journal.clean(begin.previous);
    Ok(Some(Found { begin, gallery, records, journal }))
}

/// What a journal holds that is whole, and how many bytes that is.
pub(crate) fn read_journal(path: &Path) -> anyhow::Result<(Begin, Vec<Record>, u64)> {
    let bytes = files::read(path, LIMIT)?;
    let damaged =
        || format!("{}: is damaged; put a copy back, or give a new folder", path.display());
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        bail!("{}: is no journal that this program reads", path.display());
    };
    let (text, behind) = frame(rest).with_context(damaged)?;
    let begin: Begin = read_text(text).with_context(damaged)?;
    possible(begin.version).with_context(damaged)?;
    rest = behind;
    let mut records = Vec::new();
    while let Some((text, behind)) = frame(rest) {
        for record in read_text::<Vec<Record>>(text).with_context(damaged)? {
            possible(record.version).with_context(damaged)?;
            records.push(record);
        }
        rest = behind;
    }
    if is_damaged(rest) {
        bail!("{}", damaged());
    }
    Ok((begin, records, (bytes.len() - rest.len()) as u64))
}

fn read_text<T: DeserializeOwned>(text: &[u8]) -> anyhow::Result<T> {
    Ok(serde_json::from_slice(text)?)
}

impl Journal {
    /// Begins the journal of a generation whose gallery is written, with changes that were answered already. From now on
    /// this generation counts.
    ///
    /// # Errors
    ///
    /// A disk that takes no more.
    pub(crate) fn create(
        folder: &Path,
        generation: u64,
        begin: &Begin,
        records: &[Record],
    ) -> anyhow::Result<Self> {
        let path = journal_path(folder, generation);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(framed(begin)?);
        if !records.is_empty() {
            bytes.extend(framed(&records)?);
        }
        files::write(&path, &bytes)?;
        let begun = bytes.len() as u64;
        let log = Log::open(&path, begun)?;
        let journal = Self { folder: folder.to_owned(), generation, log, begun };
        journal.clean(begin.previous);
        Ok(journal)
    }

    /// Adds changes; they are kept through a power cut when this returns.
    ///
    /// # Errors
    ///
    /// A disk that takes no more: none of the changes is kept.
    pub(crate) fn append(&mut self, records: &[Record]) -> anyhow::Result<()> {
        self.log.append(&records)
    }

    /// Bytes that are whole.
    pub(crate) fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Bytes that came since it was begun.
    pub(crate) fn grown(&self) -> u64 {
        self.bytes() - self.begun
    }

    /// Takes away what no generation that counts needs.
    fn clean(&self, previous: Option<u64>) {
        let Ok([galleries, journals]) = generations(&self.folder) else { return };
        let kept =
            |generation: &u64| *generation == self.generation || Some(*generation) == previous;
        for generation in galleries.iter().filter(|generation| !kept(generation)) {
            // The next start tries again.
            let _ = files::remove_file(&gallery_path(&self.folder, *generation));
        }
        for generation in journals.iter().filter(|generation| !kept(generation)) {
            let _ = files::remove_file(&journal_path(&self.folder, *generation));
        }
    }
}

/// Changes that count: those that were not undone.
pub(crate) fn effective(records: impl IntoIterator<Item = Record>) -> Vec<Record> {
    let mut changes: Vec<Record> = Vec::new();
    for record in records {
        match record.change {
            Change::Undo => drop(changes.pop()),
            Change::Nothing => (),
            _ => changes.push(record),
        }
    }
    changes
}

/// Answers by their keys, the newest `most`.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    by_key: BTreeMap<String, (u64, Kept)>,
    order: BTreeMap<u64, String>,
    next: u64,
}

impl Keys {
    /// Keeps an answer; of more than `most` the oldest go.
    pub(crate) fn keep(&mut self, kept: Kept, most: usize) {
        self.order.insert(self.next, kept.key.clone());
        if let Some((before, _)) = self.by_key.insert(kept.key.clone(), (self.next, kept)) {
            self.order.remove(&before);
        }
        self.next += 1;
        while self.order.len() > most {
            if let Some((_, key)) = self.order.pop_first() {
                self.by_key.remove(&key);
            }
        }
    }

    /// The answer of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Kept> {
        self.by_key.get(key).map(|(_, kept)| kept)
    }

    /// All, oldest first.
    pub(crate) fn all(&self) -> Vec<Kept> {
        self.order.values().filter_map(|key| self.get(key).cloned()).collect()
    }
}
