//! What lies beside a site: its report, its gallery, and what is known of the pictures.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use models::gallery::MAGIC;
use models::model_file::sha256_hex;

use crate::files;
use crate::publishing::names::BUNDLE_FOLDER;
use authoring::{Memory, MemoryError};

/// End of the name of the folder beside the site.
const BESIDE: &str = ".report";
/// In it: the report, the gallery, and what is known of the photographs.
const REPORT: &str = "index.html";
const GALLERY: &str = "gallery.bin";
const MEMORY: &str = "embeddings.bin";
/// Behind a report: the SHA-256 of all before, by which one is known that somebody has edited since.
const MARK: &str = "<!-- as magpie wrote it: ";
const MARK_END: &str = " -->\n";
/// Names tried for a report that somebody has edited.
const TRIES: usize = 100;

/// Paths beside the site.
pub(super) struct Beside {
    pub(super) folder: PathBuf,
    pub(super) gallery: PathBuf,
    pub(super) memory: PathBuf,
    pub(super) report: PathBuf,
}

impl Beside {
    pub(super) fn of(out: &Path) -> anyhow::Result<Self> {
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
    pub(super) fn check_own(&self) -> anyhow::Result<()> {
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
    pub(super) fn recall(&self, key: &str, dim: usize) -> anyhow::Result<Memory> {
        if !self.memory.exists() {
            return Ok(Memory::default());
        }
        let bytes = files::read(&self.memory, u64::MAX)?;
        Ok(Memory::from_bytes(&bytes, key, dim).unwrap_or_else(|error| {
            let why = match error {
                MemoryError::Other => {
                    "the extractor, the detector or the program is another one than before"
                }
                _ => "what was known of the pictures is damaged",
            };
            eprintln!("note: {}: {why}: all pictures are embedded anew", self.memory.display());
            Memory::default()
        }))
    }

    /// Writes what is known of photographs.
    pub(super) fn keep(&self, key: &str, memory: &Memory) -> anyhow::Result<()> {
        Ok(files::write(&self.memory, &memory.to_bytes(key))?)
    }

    /// Writes the report; without one, takes that of before away. One that somebody has edited since is kept under
    /// another name, and it is said.
    pub(super) fn put_report(&self, page: Option<&str>) -> anyhow::Result<()> {
        let page = page.map(marked);
        let there = std::fs::read(&self.report).ok();
        let shown = self.report.display();
        let edited = there.as_ref().filter(|there| !is_as_written(there));
        let mut replaced = None;
        match (&page, edited) {
            (Some(page), Some(edited)) if *edited != page.as_bytes() => {
                let beside = self.free_name(edited)?;
                files::write(&self.folder.join(&beside), edited)?;
                replaced = Some(beside);
            }
            (None, Some(_)) => {
                eprintln!("note: {shown}: has been edited and stays; it is of an earlier time");
            }
            (None, None) if there.is_some() => files::remove_file(&self.report)?,
            _ => (),
        }
        if let Some(page) = page {
            files::write(&self.report, page.as_bytes())?;
        }
        if let Some(beside) = replaced {
            eprintln!(
                "note: {shown}: had been edited and was replaced; the edited one is kept as {beside}"
            );
        }
        Ok(())
    }

    /// A name beside the report that nothing has, or the same bytes.
    fn free_name(&self, bytes: &[u8]) -> anyhow::Result<String> {
        let names = (1..=TRIES).map(|number| match number {
            1 => format!("{REPORT}.edited"),
            number => format!("{REPORT}.edited-{number}"),
        });
        let is_free = |name: &String| {
            let path = self.folder.join(name);
            path.symlink_metadata().is_err()
                || std::fs::read(&path).is_ok_and(|there| there == bytes)
        };
        names.into_iter().find(is_free).with_context(|| {
            format!("{}: holds {TRIES} edited reports; take some away", self.folder.display())
        })
    }
}

/// A report with the mark of what it is.
fn marked(page: &str) -> String {
    format!("{page}{MARK}{}{MARK_END}", sha256_hex(page.as_bytes()))
}

/// Whether nobody has edited a report since it was written.
fn is_as_written(report: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(report) else { return false };
    let marked = text.strip_suffix(MARK_END).and_then(|text| text.rsplit_once(MARK));
    marked.is_some_and(|(page, digest)| sha256_hex(page.as_bytes()) == digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_report_is_known_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::of(&dir.path().join("site")).unwrap();
        let read = |name: &str| std::fs::read_to_string(beside.folder.join(name)).ok();
        beside.put_report(Some("<p>one</p>\n")).unwrap();
        assert!(is_as_written(read(REPORT).unwrap().as_bytes()));
        beside.put_report(Some("<p>two</p>\n")).unwrap();
        assert_eq!(std::fs::read_dir(&beside.folder).unwrap().count(), 1);
        for edited in ["my notes", "<p>two</p>\n", "more notes"] {
            std::fs::write(&beside.report, edited).unwrap();
            beside.put_report(Some("<p>three</p>\n")).unwrap();
            assert!(read(REPORT).unwrap().starts_with("<p>three"));
        }
        assert_eq!(read("index.html.edited").unwrap(), "my notes");
        assert_eq!(read("index.html.edited-2").unwrap(), "<p>two</p>\n");
        assert_eq!(read("index.html.edited-3").unwrap(), "more notes");
        beside.put_report(None).unwrap();
        assert_eq!(read(REPORT), None);
        std::fs::write(&beside.report, "mine").unwrap();
        beside.put_report(None).unwrap();
        assert_eq!(read(REPORT).unwrap(), "mine");
    }
}
