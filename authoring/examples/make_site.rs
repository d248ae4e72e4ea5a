//! A site from a folder with one sub-folder per class, as a program that embeds the crate makes it:
//! `make_site EXTRACTOR PHOTOS PAGE OUT TITLE`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use authoring::adaptation::Options;
use authoring::workshop::{Photo, Project, Workshop};

/// All files below a folder, by name.
fn files(
    folder: &Path,
    prefix: &str,
    found: &mut BTreeMap<String, Vec<u8>>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            files(&entry.path(), &format!("{name}/"), found)?;
        } else {
            found.insert(name, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [extractor, photos, page, out, title] = &arguments[..] else {
        anyhow::bail!("make_site EXTRACTOR PHOTOS PAGE OUT TITLE");
    };
    let mut workshop = Workshop::open(std::fs::read(extractor)?, None)?;
    let (mut pictures, mut built) = (BTreeMap::new(), BTreeMap::new());
    files(Path::new(photos), "", &mut pictures).with_context(|| photos.clone())?;
    files(Path::new(page), "", &mut built).with_context(|| page.clone())?;
    let mut listed = Vec::new();
    for (name, bytes) in &pictures {
        let record = workshop.look(Path::new(name), bytes, None)?;
        let id = workshop.know(&record.to_bytes(workshop.key()))?;
        let label = name.split('/').next().unwrap_or_default().to_owned();
        listed.push(Photo { id, name: name.into(), label });
    }
    let project = Project {
        title: title.clone(),
        photos: listed,
        crop: None,
        learn: Options::default(),
        metadata: Vec::new(),
        samples: Vec::new(),
    };
    let made = workshop.make(&project, built, true, &mut |_, _, _| Ok(()))?;
    for (name, bytes) in &made.site.files {
        let path = Path::new(out).join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
        std::fs::write(path, bytes)?;
    }
    std::fs::write(format!("{out}.gallery.bin"), &made.gallery)?;
    std::fs::write(format!("{out}.report.html"), &made.report)?;
    Ok(())
}
