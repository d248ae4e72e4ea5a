//! `magpie embed`: embeddings of one shard of a list, from which a gallery is built.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use authoring::embedding_shard::{
    Head, Kept, MOST_SHARDS, PIECE, Photograph, Pieces, Placed, ShardError, Writing, changed,
    look_at,
};
use authoring::{Networks, Photos};
use clap::Args;
use models::gallery::ContentId;

use super::gallery::{BEGUN, Crops, Wanted, digest_of_model, spelled};
use crate::cli::{DeviceKind, Embedder, size};
use crate::files::{self, FileError, Lock, Operation, reach};
use crate::networks;
use crate::terminal::{audience, counted};

/// Pictures between two lines about how far a command has come.
const SAID: usize = 128;
/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// Embeds one shard of a list of pictures, on any machine; `magpie gallery build --shards` makes the gallery of all.
///
/// Shard I of N is the same pictures on every machine that has the same list. A command that was stopped goes on where it
/// was; one whose file is whole reads the pictures again and embeds nothing, unless a picture is another one now under its
/// name: then it goes on from there. Pictures that cannot be used are named, and the shard keeps why.
#[derive(Debug, Args)]
#[command(
    after_help = "Example (two machines, then one of them):\n  magpie embed --images photos --shard 1/2 --out \
    shards/1.embeddings\n  magpie embed --images photos --shard 2/2 --out shards/2.embeddings\n  magpie gallery build \
    --shards shards --out gallery.bin"
)]
pub struct Arguments {
    /// Folder with one sub-folder per class, a zip file of one, or a list file.
    #[arg(long)]
    images: PathBuf,
    /// Which shard of how many, counted from 1.
    #[arg(long, value_name = "I/N", value_parser = Part::read)]
    shard: Part,
    /// File to write.
    #[arg(long)]
    out: PathBuf,
    /// Model file of the extractor; `general` is the one that magpie brings along.
    #[arg(long, default_value = networks::GENERAL)]
    extractor: PathBuf,
    #[command(flatten)]
    crops: Crops,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
}

/// One of several shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    shard: u32,
    shards: u32,
}

impl Part {
    fn read(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("a shard is written as 3/8, from 1/8 to 8/8, of {MOST_SHARDS} at most");
        let (shard, shards) = text.split_once('/').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u32>().ok();
        let (Some(shard), Some(shards)) = (number(shard), number(shards)) else {
            return Err(wrong());
        };
        let is_one = (1..=shards).contains(&shard) && shards <= MOST_SHARDS;
        if is_one { Ok(Self { shard, shards }) } else { Err(wrong()) }
    }
}

/// What became of the file that was there.
enum Before {
    Whole,
    /// Whole, and of these pictures as they were then: the first of them by its place, and how many.
    Changed(usize, usize),
    None,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or written, a file that is another shard, a network that failed.
    pub fn run(&self) -> anyhow::Result<()> {
        let wanted = Wanted::listed(&self.images, false)?;
        let begun = begun(&self.out)?;
        let mut inputs: Vec<&Path> = vec![&self.images, &self.extractor];
        inputs.extend(self.crops.detector().map(PathBuf::as_path));
        inputs.extend(wanted.pictures.iter().map(|(_, path)| path.as_path()));
        files::check_outputs(&[&self.out, &begun], &inputs)?;
        let detector = self.crops.check(None, &self.extractor)?;
        let _lock = Lock::acquire(&self.out)?;
        let embedder = Embedder::open(&self.extractor, self.device)?;
        let chosen = self.crops.choose(None, detector.as_deref(), self.device)?;
        let looks = detector.as_deref().filter(|_| chosen.detector.is_some());
        let head = Head {
            list: wanted.digest(&self.images),
            photographs: wanted.count(),
            shard: self.shard.shard,
            shards: self.shard.shards,
            extractor: embedder.digest.clone(),
            detector: looks.map(digest_of_model).transpose()?,
            crop: chosen.crop,
            preprocess: embedder.network().preprocess().clone(),
            dim: embedder.embedding_dim(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            beside: wanted.beside,
            remarks: wanted.remarks.clone(),
            words: self.words(),
        };
        match self.before(&head, &wanted)? {
            Before::Whole => {
                println!(
                    "{}: shard {}/{} is complete already",
                    self.out.display(),
                    head.shard,
                    head.shards
                );
                return Ok(());
            }
            Before::Changed(first, count) => {
                println!(
                    "{}: {} changed since, {} the first: the shard is made anew from there",
                    self.out.display(),
                    counted(count, "picture has", "pictures have"),
                    wanted.path(first).display()
                );
                self.begin_with(&begun)?;
            }
            Before::None => (),
        }
        let networks =
            Networks { extractor: embedder.network(), detector: chosen.detector.as_ref() };
        let mut part = Begun::open(&begun, head, &wanted)?;
        part.fill(networks, &wanted)?;
        let Begun { head, left_out, .. } = &part;
        let (all, left_out) = (head.places().len(), *left_out);
        let text = format!("shard {}/{}", head.shard, head.shards);
        let bytes = part.end(&self.out)?;
        let losses = match left_out {
            0 => String::new(),
            some => format!("; {} left out", counted(some, "picture", "pictures")),
        };
        println!(
            "{}: {text}, {}, {}{losses}",
            self.out.display(),
            counted(all - left_out, "picture", "pictures"),
            size(bytes)
        );
        Ok(())
    }

    /// Begins with what is whole, unless something was begun already. It stays until the new one is whole.
    fn begin_with(&self, begun: &Path) -> anyhow::Result<()> {
        if begun.exists() {
            return Ok(());
        }
        let failed = |source| FileError::Write { path: begun.to_owned(), source };
        reach(Operation::Create).map_err(failed)?;
        // Cut off, it is a shard that was begun as well.
        std::fs::copy(&self.out, begun).map_err(failed)?;
        Ok(())
    }

    /// What is at the place of the file.
    fn before(&self, head: &Head, wanted: &Wanted) -> anyhow::Result<Before> {
        let out = self.out.display();
        if !self.out.exists() {
            return Ok(Before::None);
        }
        match whole(&self.out, head) {
            Ok((old, _)) if old.shard != head.shard || old.difference(head).is_some() => {
                let what = match old.difference(head) {
                    Some(what) => format!("a shard of {what}"),
                    None => format!("shard {}/{}", old.shard, old.shards),
                };
                bail!("{out}: is {what}; take it away, or choose another name")
            }
            Ok((_, kept)) => {
                let changed = changed(wanted, &kept)?;
                Ok(match changed.first() {
                    Some(first) => Before::Changed(*first, changed.len()),
                    None => Before::Whole,
                })
            }
            Err(error @ (ShardError::Cut | ShardError::Damaged | ShardError::Version)) => {
                eprintln!("note: {out}: {error}: it is made anew");
                Ok(Before::None)
            }
            Err(ShardError::Other) => {
                let what = files::kind_of(&self.out).map_or_else(
                    || "is there already and is".to_owned(),
                    |kind| format!("is {kind} and"),
                );
                bail!("{out}: {what} no embedding shard; choose another name")
            }
            Err(error) => bail!("{out}: {error}"),
        }
    }

    /// What to give again to make another shard of the list.
    fn words(&self) -> String {
        let mut words = vec![
            format!("--images {}", spelled(&self.images)),
            format!("--extractor {}", spelled(&self.extractor)),
        ];
        words.extend(self.crops.words());
        words.join(" ")
    }
}

/// Where a shard lies until it is whole.
fn begun(out: &Path) -> anyhow::Result<PathBuf> {
    let out = files::behind_links(out);
    let name = out.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| FileError::Nameless { path: out.clone() })?;
    if name.ends_with(BEGUN) {
        bail!(
            "{}: a shard that was begun is called so; choose a name without {BEGUN}",
            out.display()
        );
    }
    Ok(out.with_file_name(name + BEGUN))
}

/// Pictures that a shard keeps, by their places.
type Contents = Vec<(usize, Option<ContentId>)>;

/// What a file is of that is a whole shard, and its pictures where it is this one.
fn whole(path: &Path, own: &Head) -> Result<(Head, Contents), ShardError> {
    let mut pieces = Pieces::open(BufReader::with_capacity(BUFFER, File::open(path)?))?;
    let head = pieces.head().clone();
    let mut kept = Vec::new();
    while let Some(placed) = pieces.next_piece()? {
        kept.extend(placed.iter().map(|placed| placed.photograph.content()));
    }
    // Another shard has other places.
    let is_own = head.shard == own.shard && head.difference(own).is_none();
    let kept = head.places().zip(kept).filter(|_| is_own).collect();
    Ok((head, kept))
}

/// A shard on its way into its file.
struct Begun {
    path: PathBuf,
    file: File,
    writing: Writing,
    head: Head,
    /// Pictures that are done.
    done: usize,
    /// Those of them that cannot be used.
    left_out: usize,
    /// Classes that have a thumbnail.
    shown: BTreeSet<String>,
}

impl Begun {
    /// Goes on with what a stopped command has left, as far as it is whole and of the same shard.
    fn open(path: &Path, head: Head, wanted: &Wanted) -> anyhow::Result<Self> {
        let failed = |source| FileError::Write { path: path.to_owned(), source };
        reach(Operation::Create).map_err(failed)?;
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(failed)?;
        let mut begun = Self {
            path: path.to_owned(),
            file,
            writing: Writing::default(),
            head,
            done: 0,
            left_out: 0,
            shown: BTreeSet::new(),
        };
        let end = begun.read(wanted)?;
        begun.file.set_len(end).map_err(failed)?;
        begun.file.seek(SeekFrom::Start(end)).map_err(failed)?;
        if end == 0 {
            let bytes = begun.writing.begin(&begun.head)?;
            begun.write(&bytes)?;
        } else {
            println!(
                "goes on behind {} of {}",
                begun.done,
                counted(begun.head.places().len(), "picture", "pictures")
            );
        }
        Ok(begun)
    }

    /// Reads what is there, as far as its pictures are what they were; the bytes of it that stay.
    fn read(&mut self, wanted: &Wanted) -> anyhow::Result<u64> {
        let name = self.path.display().to_string();
        let mut pieces = match Pieces::open(BufReader::with_capacity(BUFFER, &self.file)) {
            Ok(pieces) => pieces,
            Err(ShardError::Read(error)) => bail!("{name}: {error}"),
            Err(ShardError::Other) => {
                bail!("{name}: is in the way and no shard that was begun; take it away")
            }
            Err(_) => return Ok(0),
        };
        let (begun, head) = (pieces.head(), &self.head);
        if begun.shard != head.shard || begun.difference(head).is_some() {
            let what = match begun.difference(head) {
                Some(what) => format!("a shard of {what}"),
                None => format!("shard {}/{}", begun.shard, begun.shards),
            };
            bail!("{name}: was begun for {what}; take it away, or choose another name");
        }
        // As it was written: the bytes go on from it.
        self.head = pieces.head().clone();
        let is_as_it_was = |done: usize, placed: &[Placed]| {
            let places = self.head.places().skip(done);
            let kept: Vec<_> =
                places.zip(placed.iter().map(|placed| placed.photograph.content())).collect();
            anyhow::Ok(changed(wanted, &kept)?.is_empty())
        };
        loop {
            (self.done, self.writing) = (pieces.count(), pieces.go_on());
            let end = pieces.whole();
            match pieces.next_piece() {
                Ok(Some(placed)) => {
                    if !is_as_it_was(self.done, &placed)? {
                        return Ok(end);
                    }
                    for photograph in placed.into_iter().map(|placed| placed.photograph) {
                        match photograph.kept {
                            Kept::Embedded(_) => drop(self.shown.insert(photograph.label)),
                            Kept::LeftOut { .. } => self.left_out += 1,
                        }
                    }
                }
                Err(ShardError::Read(error)) => bail!("{name}: {error}"),
                Ok(None) | Err(_) => return Ok(end),
            }
        }
    }

    /// Embeds what is missing.
    fn fill(&mut self, networks: Networks<'_>, wanted: &Wanted) -> anyhow::Result<()> {
        let places: Vec<usize> = self.head.places().skip(self.done).collect();
        let all = self.head.places().len();
        for chunk in places.chunks(PIECE) {
            let looked = look_at(networks, self.head.crop, wanted, chunk, &mut self.shown)?;
            for (place, photograph) in chunk.iter().zip(&looked) {
                if let Kept::LeftOut { reason, is_named } = &photograph.kept {
                    let path = wanted.path(*place);
                    let error = Photograph::error(path, reason, *is_named);
                    eprintln!("left out: {error}");
                    self.left_out += 1;
                }
            }
            let bytes = self.writing.photographs(&looked)?;
            self.write(&bytes)?;
            self.done += chunk.len();
            audience::progress("pictures", self.done, all);
            if self.done == all || self.done.is_multiple_of(SAID) {
                println!("{}/{all} pictures", self.done);
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = reach(Operation::Write).and_then(|()| self.file.write_all(bytes));
        written.map_err(|source| {
            let error = FileError::Append { path: self.path.clone(), source };
            anyhow::Error::from(error)
        })
    }

    /// Ends the file and gives it its name; its bytes.
    fn end(mut self, out: &Path) -> anyhow::Result<u64> {
        let bytes = self.writing.photographs(&[])?;
        self.write(&bytes)?;
        let failed = |source| FileError::Write { path: out.to_owned(), source };
        reach(Operation::Synchronize).and_then(|()| self.file.sync_all()).map_err(failed)?;
        let length = self.file.metadata().map_err(failed)?.len();
        let place = files::behind_links(out);
        files::rename(&self.path, &place).map_err(failed)?;
        files::synchronize_folder(files::folder_of(&place))
            .with_context(|| out.display().to_string())?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_one_of_several() {
        assert_eq!(Part::read("3/8"), Ok(Part { shard: 3, shards: 8 }));
        assert_eq!(Part::read("1/1"), Ok(Part { shard: 1, shards: 1 }));
        for wrong in ["", "3", "0/8", "9/8", "3/", "/8", "-1/8", "3/8/9", "1/100001", "a/b"] {
            let error = Part::read(wrong).unwrap_err();
            assert_eq!(
                error, "a shard is written as 3/8, from 1/8 to 8/8, of 100000 at most",
                "{wrong}"
            );
        }
    }

    #[test]
    fn words_are_those_that_a_shell_takes() {
        assert_eq!(spelled(Path::new("photos/list-1.txt")), "photos/list-1.txt");
        assert_eq!(spelled(Path::new("my photos")), "'my photos'");
        assert_eq!(spelled(Path::new("it's")), r"'it'\''s'");
    }
}
