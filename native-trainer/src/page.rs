//! The built page that the program brings along: used wherever a command is given none.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, bail};
use tempfile::TempDir;
use zip::ZipArchive;

use crate::files;

/// Where the project builds its page.
const BUILT: &str = "dist";
/// Files and bytes that a page is unpacked from at most; it has about sixty and 8 MB.
const MAX_FILES: usize = 4096;
const MAX_BYTES: u64 = 256 << 20;

static PAGE: OnceLock<&[u8]> = OnceLock::new();

/// Takes the page that a binary has inside, a zip file of the folder `dist`; the first one stays.
pub fn bring(page: &'static [u8]) {
    let _ = PAGE.set(page);
}

/// A folder with a built page; one that was unpacked goes with it.
pub(crate) struct Page {
    folder: PathBuf,
    _unpacked: Option<TempDir>,
}

impl Page {
    /// The page that a command is given; else the one that the program brings along; else `dist`.
    ///
    /// # Errors
    ///
    /// Where the program's own cannot be unpacked into the folder for temporary files.
    pub(crate) fn open(given: Option<&Path>) -> anyhow::Result<Self> {
        match (given, PAGE.get()) {
            (Some(folder), _) => Ok(Self { folder: folder.to_owned(), _unpacked: None }),
            (None, None) => Ok(Self { folder: BUILT.into(), _unpacked: None }),
            (None, Some(packed)) => {
                let place = tempfile::tempdir().context("the folder for temporary files")?;
                unpack(packed, place.path()).context("the page inside this program")?;
                Ok(Self { folder: place.path().to_owned(), _unpacked: Some(place) })
            }
        }
    }

    /// Where it lies.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Writes the files of a zip file into a folder.
fn unpack(packed: &[u8], folder: &Path) -> anyhow::Result<()> {
    let mut archive = ZipArchive::new(Cursor::new(packed))?;
    if archive.len() > MAX_FILES {
        bail!("holds {} files; {MAX_FILES} are allowed", archive.len());
    }
    let mut left = MAX_BYTES;
    for number in 0..archive.len() {
        let file = archive.by_index(number)?;
        let name = file.enclosed_name().context("a file leads outside")?;
        if file.is_dir() {
            continue;
        }
        let mut bytes = Vec::new();
        file.take(left + 1).read_to_end(&mut bytes)?;
        left = left.checked_sub(bytes.len() as u64).context("is too large")?;
        let path = folder.join(&name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        files::write(&path, &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn a_packed_page_lies_there_as_it_was_and_none_leads_outside() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("page");
        std::fs::create_dir(&place).unwrap();
        unpack(&packed(&[("index.html", b"<p>"), ("text/en.json", b"{}")]), &place).unwrap();
        assert_eq!(std::fs::read(place.join("index.html")).unwrap(), b"<p>");
        assert_eq!(std::fs::read(place.join("text/en.json")).unwrap(), b"{}");
        let error = unpack(&packed(&[("../outside", b"no")]), &place).unwrap_err();
        assert!(error.to_string().contains("leads outside"), "{error}");
        assert!(!dir.path().join("outside").exists());
        assert!(unpack(b"no zip file", &place).is_err());
    }

    #[test]
    fn a_page_that_is_given_is_taken_as_it_is() {
        let page = Page::open(Some(Path::new("somewhere"))).unwrap();
        assert_eq!(page.folder(), Path::new("somewhere"));
    }
}
