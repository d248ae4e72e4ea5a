//! Names of the files of a published site, and those that lie in a folder.

use std::path::Path;

use anyhow::Context;
pub(crate) use authoring::names::*;

/// Names of all files below a folder, relative to it.
///
/// # Errors
///
/// A folder that cannot be listed, a name that is no text.
pub(crate) fn list_files(
    folder: &Path,
    prefix: &str,
    names: &mut Vec<String>,
) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok();
        let name = name.with_context(|| {
            format!("{}: its name is no text; rename it", entry.path().display())
        })?;
        let name = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            list_files(&entry.path(), &format!("{name}/"), names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}
