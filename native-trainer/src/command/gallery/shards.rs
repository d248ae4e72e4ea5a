//! Shards of embeddings that make a gallery together: whole, of one list, each once.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use authoring::Memory;
use authoring::embedding_shard::{Head, Kept, Photograph, Pieces, Placed, ShardError};
use models::gallery::ContentId;
use thiserror::Error;

use crate::data::store::PictureError;
use crate::files::{self, wanted};

/// Faults that are named; more are counted.
const NAMED: usize = 20;
/// Bytes that are read at once while a file is checked.
const BUFFER: usize = 1 << 20;

/// Why shards make no gallery: all that is wrong with them, and what to run again.
#[derive(Debug, Error)]
#[error("{}", self.text())]
pub(super) struct UnfitShards {
    faults: Vec<String>,
    /// What makes those again that are damaged or missing.
    again: Option<String>,
}

impl UnfitShards {
    fn text(&self) -> String {
        let more = match self.faults.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; {more} more"),
        };
        let named: Vec<&str> = self.faults.iter().take(NAMED).map(String::as_str).collect();
        let again = self.again.as_ref().map_or(String::new(), |again| format!("; {again}"));
        named.join("; ") + &more + &again
    }
}

/// What is known of a photograph without its shard.
enum Row {
    Embedded { id: ContentId, at: u64, length: u32 },
    LeftOut { reason: String, is_named: bool },
}

/// One shard that is whole.
struct Shard {
    path: PathBuf,
    file: Mutex<File>,
    head: Head,
    rows: Vec<Row>,
}

/// All shards of a list, in its order.
pub(super) struct Shards {
    shards: Vec<Shard>,
    /// Of the photographs that were remembered last.
    thumbnails: Mutex<HashMap<usize, Vec<u8>>>,
}

/// The shards of a list, and its photographs: class and file, in order.
pub(super) type Opened = (Shards, Vec<(String, PathBuf)>);

impl Shards {
    /// Opens files in any order, or those of folders.
    ///
    /// # Errors
    ///
    /// [`UnfitShards`], a folder that cannot be read.
    pub(super) fn open(given: &[PathBuf]) -> anyhow::Result<Opened> {
        let mut faults = Vec::new();
        let mut found: BTreeMap<u32, (Shard, Vec<(String, PathBuf)>)> = BTreeMap::new();
        let mut first: Option<(Head, PathBuf)> = None;
        let Found { whole, begun } = found_in(given)?;
        for path in whole {
            let (shard, pictures) = match Shard::open(&path) {
                Ok(opened) => opened,
                Err(error) => {
                    faults.push(format!("{}: {error}", path.display()));
                    continue;
                }
            };
            let (head, of) = first.get_or_insert_with(|| (shard.head.clone(), path.clone()));
            if let Some(what) = head.difference(&shard.head) {
                let (path, of) = (path.display(), of.display());
                faults.push(format!("{path}: is of {what} than {of}; give shards of one list"));
                continue;
            }
            let number = shard.head.shard;
            if let Some((other, _)) = found.get(&number) {
                faults.push(format!(
                    "{} and {} are both shard {number}/{}; leave one out",
                    other.path.display(),
                    path.display(),
                    head.shards
                ));
                continue;
            }
            found.insert(number, (shard, pictures));
        }
        let begun: Vec<(u32, PathBuf)> = begun.into_iter().filter_map(begun_of).collect();
        let Some((head, _)) = first else {
            faults.extend(begun.iter().map(|(number, path)| only_begun(*number, None, path)));
            let again = if begun.is_empty() || faults.len() > begun.len() {
                "make them by `magpie embed --shard`"
            } else {
                "give the commands again that have begun them"
            };
            return Err(UnfitShards { faults, again: Some(again.to_owned()) }.into());
        };
        let missing: Vec<String> = (1..=head.shards)
            .filter(|number| !found.contains_key(number))
            .map(|number| format!("{number}/{}", head.shards))
            .collect();
        let mut again = None;
        if let Some(one) = missing.first() {
            let (verb, them) = if missing.len() == 1 { ("is", "it") } else { ("are", "each") };
            let listed = crate::data::left_out::listed(missing.iter().cloned());
            faults.push(format!("embedding shard {listed} {verb} missing"));
            let begun = begun.iter().filter(|(number, _)| !found.contains_key(number));
            faults.extend(begun.map(|(number, path)| only_begun(*number, Some(head.shards), path)));
            again = Some(format!(
                "make {them} by `magpie embed {} --shard {one} --out FILE`",
                head.words
            ));
        }
        if !faults.is_empty() {
            return Err(UnfitShards { faults, again }.into());
        }
        if let Some(fault) = two_contents(found.values()) {
            return Err(UnfitShards { faults: vec![fault], again: None }.into());
        }
        let (shards, pictures): (Vec<_>, Vec<_>) = found.into_values().unzip();
        let thumbnails = Mutex::default();
        Ok((Self { shards, thumbnails }, pictures.into_iter().flatten().collect()))
    }

    /// What the first of them is of: but for its number that of all.
    pub(super) fn head(&self) -> Option<&Head> {
        self.shards.first().map(|shard| &shard.head)
    }

    /// Their files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// The shard and the row of a photograph.
    fn row(&self, place: usize) -> Option<(&Shard, &Row)> {
        let shard = self.shards.partition_point(|shard| shard.head.places().end <= place);
        let shard = self.shards.get(shard)?;
        Some((shard, shard.rows.get(place - shard.head.places().start)?))
    }

    /// The content of a photograph that has embeddings.
    pub(super) fn content(&self, place: usize, path: &Path) -> Result<ContentId, PictureError> {
        match self.row(place) {
            Some((_, Row::Embedded { id, .. })) => Ok(*id),
            Some((_, Row::LeftOut { reason, is_named })) => {
                Err(Photograph::error(path, reason, *is_named))
            }
            None => Err(Photograph::error(path, "is in no shard", false)),
        }
    }

    /// The embeddings of photographs; their thumbnails are at hand from then on.
    pub(super) fn remembered(&self, places: &[usize]) -> anyhow::Result<Memory> {
        let mut memory = Memory::default();
        let mut thumbnails = HashMap::new();
        for place in places {
            let Some((shard, Row::Embedded { id, at, length })) = self.row(*place) else {
                continue;
            };
            let name = || shard.path.display().to_string();
            let read = shard.read(*at, *length).with_context(name)?;
            let Kept::Embedded(embedded) = read.kept else { continue };
            ensure!(embedded.id == *id, "{}: was changed meanwhile; build again", name());
            thumbnails.insert(*place, embedded.thumbnail.clone());
            embedded.put_into(&mut memory);
        }
        *self.thumbnails() = thumbnails;
        Ok(memory)
    }

    /// The thumbnail of a photograph that was remembered last.
    pub(super) fn thumbnail(&self, place: usize) -> Option<Vec<u8>> {
        self.thumbnails().get(&place).filter(|thumbnail| !thumbnail.is_empty()).cloned()
    }

    fn thumbnails(&self) -> MutexGuard<'_, HashMap<usize, Vec<u8>>> {
        self.thumbnails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Reads a file to its end and checks it.
    fn open(path: &Path) -> Result<(Self, Vec<(String, PathBuf)>), ShardError> {
        if let Err(error) = files::length(path, u64::MAX) {
            return Err(ShardError::Read(std::io::Error::other(error.wanted(wanted::SHARD))));
        }
        if let Some(kind) = files::kind_of(path).filter(|kind| !wanted::SHARD.starts_with(kind)) {
            return Err(ShardError::Known(kind));
        }
        let file = File::open(path)?;
        let mut pieces = Pieces::open(BufReader::with_capacity(BUFFER, &file))?;
        let (mut rows, mut pictures) = (Vec::new(), Vec::new());
        while let Some(placed) = pieces.next_piece()? {
            for Placed { at, length, photograph } in placed {
                pictures.push((photograph.label, PathBuf::from(photograph.path)));
                rows.push(match photograph.kept {
                    Kept::Embedded(embedded) => Row::Embedded { id: embedded.id, at, length },
                    Kept::LeftOut { reason, is_named } => Row::LeftOut { reason, is_named },
                });
            }
        }
        let head = pieces.head().clone();
        drop(pieces);
        Ok((Self { path: path.to_owned(), file: Mutex::new(file), head, rows }, pictures))
    }

    fn read(&self, at: u64, length: u32) -> Result<Photograph, ShardError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = vec![0; length as usize];
        file.read_exact(&mut bytes)?;
        Photograph::from_bytes(&bytes, &self.head)
    }
}

/// A picture that is in a list several times and was another one when a shard was made than at the other time.
fn two_contents<'a>(
    shards: impl Iterator<Item = &'a (Shard, Vec<(String, PathBuf)>)>,
) -> Option<String> {
    let mut known: HashMap<&Path, (ContentId, &Path)> = HashMap::new();
    for (shard, pictures) in shards {
        for ((_, path), row) in pictures.iter().zip(&shard.rows) {
            let Row::Embedded { id, .. } = row else { continue };
            let (first, of) = *known.entry(path).or_insert((*id, &shard.path));
            if first != *id {
                return Some(format!(
                    "{} was another picture for {} than for {}; give the command of both again, which embeds anew what has \
                     changed",
                    path.display(),
                    of.display(),
                    shard.path.display()
                ));
            }
        }
    }
    None
}

/// Files that are given or lie in folders that are given.
#[derive(Default)]
struct Found {
    /// Those that have to be shards.
    whole: Vec<PathBuf>,
    /// What commands that were stopped, or still run, have left.
    begun: Vec<PathBuf>,
}

/// Files that are given, and those of folders by name; hidden ones of folders are left out.
fn found_in(given: &[PathBuf]) -> anyhow::Result<Found> {
    let is_begun = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(super::BEGUN))
    };
    let mut all = Found::default();
    for path in given {
        let mut inside = Vec::new();
        if path.is_dir() {
            let name = || path.display().to_string();
            for entry in std::fs::read_dir(path).with_context(name)? {
                let entry = entry.with_context(name)?;
                if !entry.file_name().to_string_lossy().starts_with('.') {
                    inside.push(entry.path());
                }
            }
            ensure!(
                !inside.is_empty(),
                "{}: holds no embedding shard; `magpie embed --shard` makes them",
                name()
            );
            inside.sort();
        } else {
            inside.push(path.clone());
        }
        let (begun, whole): (Vec<_>, Vec<_>) = inside.into_iter().partition(|path| is_begun(path));
        all.whole.extend(whole);
        all.begun.extend(begun);
    }
    Ok(all)
}

/// Which shard was begun in a file; none where it holds no head yet.
fn begun_of(path: PathBuf) -> Option<(u32, PathBuf)> {
    let pieces = Pieces::open(BufReader::new(File::open(&path).ok()?)).ok()?;
    Some((pieces.head().shard, path))
}

/// What is said of a shard that is not whole yet.
fn only_begun(number: u32, of: Option<u32>, path: &Path) -> String {
    let of = of.map_or_else(String::new, |of| format!("/{of}"));
    format!(
        "embedding shard {number}{of} is only begun ({}): its command still runs, or goes on if it is given again",
        path.display()
    )
}
