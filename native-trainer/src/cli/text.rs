//! Files of text that commands read and write, and sizes of files for a reader.

use std::path::Path;

use crate::data::list_file::Samples;
use crate::files;

/// Reads a text file: a list, metadata, a recipe.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    Ok(files::read(path, files::TEXT_LIMIT)?)
}

/// The same of a file that a command was given; the error says what should be there.
pub(crate) fn read_wanted(path: &Path, wanted: &'static str) -> anyhow::Result<Vec<u8>> {
    Ok(files::read(path, files::TEXT_LIMIT).map_err(|error| error.wanted(wanted))?)
}

/// Reads a list or a folder of classes and says what of it is not taken.
pub(crate) fn samples(path: &Path) -> anyhow::Result<Samples> {
    let samples = Samples::read(path)?;
    tell_remarks(&samples.remarks());
    Ok(samples)
}

/// Says what of lists or folders is not taken, a line each.
pub(crate) fn tell_remarks(remarks: &[String]) {
    for line in remarks {
        eprintln!("{line}");
    }
}

/// Writes a file whole, its folder included, in the place of an older one.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    Ok(files::write(path, bytes)?)
}

/// A file size as a sentence shows it.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
