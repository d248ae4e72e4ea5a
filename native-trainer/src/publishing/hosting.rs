//! Packed copies of a site's files in a folder.

use std::path::Path;

use anyhow::{Context, bail};
pub(crate) use authoring::hosting::*;
use rayon::prelude::*;

use super::names::is_packed;
use crate::cli::read;

/// Whether the packed copies of a site hold what the files hold; their number.
///
/// # Errors
///
/// The first that does not, or that has no file beside it.
pub(crate) fn check(site: &Path, names: &[String]) -> anyhow::Result<usize> {
    let copies: Vec<&String> = names.iter().filter(|name| is_packed(name)).collect();
    copies.par_iter().try_for_each(|name| {
        let (file, kind) = name.split_at(name.len() - 3);
        let whole = read(&site.join(file)).with_context(|| {
            format!("{name}: a packed copy of a file that is not there; publish the site again")
        })?;
        let packed = read(&site.join(name))?;
        // No more than the file itself, whatever the copy claims.
        let limit = whole.len() as u64 + 1;
        if unpacked(&packed, kind, limit).is_none_or(|unpacked| unpacked != whole) {
            bail!("{name}: not the same as {file}; publish the site again");
        }
        Ok(())
    })?;
    Ok(copies.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publishing::draft::Draft;
    use crate::publishing::names::PACKED;

    #[test]
    fn packed_copies_hold_the_files_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let text = "the same again and again ".repeat(100);
        let noise: Vec<u8> = (0..4000_u32)
            .map(|i| (i.wrapping_mul(i).wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let draft = Draft::begin(&folder.path().join("site")).unwrap();
        draft.write("page.html", text.as_bytes()).unwrap();
        draft.write("a/noise.jpg", &noise).unwrap();
        for (ending, copy) in authoring::hosting::pack("page.html", text.as_bytes()).unwrap() {
            draft.write(&format!("page.html{ending}"), &copy).unwrap();
        }
        assert!(authoring::hosting::pack("a/noise.jpg", &noise).unwrap().is_empty());
        let site = draft.folder();
        let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
        let mut all = Vec::new();
        crate::publishing::names::list_files(site, "", &mut all).unwrap();
        assert_eq!(check(site, &all).unwrap(), 2, "{all:?}");
        let refused = || check(site, &all).unwrap_err().to_string();
        let other = |ending: &str| {
            format!("page.html{ending}: not the same as page.html; publish the site again")
        };
        for ending in PACKED {
            let path = site.join(format!("page.html{ending}"));
            let good = read(&path).unwrap();
            write(&path, &good[..good.len() / 2]);
            assert_eq!(refused(), other(ending), "cut");
            write(&path, &compress(b"something else", ending).unwrap());
            assert_eq!(refused(), other(ending), "of another file");
            write(&path, &good);
        }
        assert_eq!(crate::publishing::names::unpacked_name("a/x.json.gz"), "a/x.json");
        // A copy that would unpack to a thousand times the file stops where the file ends.
        let bomb = compress(&vec![b't'; 1 << 24], ".br").unwrap();
        write(&site.join("page.html.br"), &bomb);
        assert_eq!(refused(), other(".br"));
    }
}
