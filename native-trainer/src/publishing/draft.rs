//! A site on its way into its place: put together where nobody looks, then exchanged for the one of before.
//!
//! Files that are not the site's own are in both folders (by a second name, nothing is read) when these are
//! exchanged, so that at every moment there is a whole site with all of them. Where that cannot be done, for the
//! place is the working directory or a mount, its parent takes no folder or the disk knows no second names, the files
//! are moved into the place one by one, what others name first.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use rayon::prelude::*;

use super::evidence::with_digests;
use super::foreign::{bring, link_alike, open_alike, retire};
use super::names::{HEADERS_FILE, OWN_FILES};
use super::owned::Owned;
use super::place::{Turn, hinders, in_turn};
use crate::cli::read;
use crate::files::{self, FileError, Lock};
use crate::terminal::LeftOver;

/// Folder of a draft inside its place.
const INSIDE: &str = ".magpie-new";
/// In the folder of the site of before: the list of its own files, which says that a new one has taken its place.
const REPLACED: &str = ".magpie-replaced";
/// End of the name of what somebody has changed in a file that is replaced.
const EDITED: &str = ".edited";
/// End of the name of what would be in the place of a file that is kept.
const NEW: &str = ".new";
/// What to do about a folder of others' files.
const EMPTY: &str = "choose an empty folder";
/// Most names in a message.
const NAMED: usize = 5;

/// See the [module](self). Taken away unless it is published.
pub(crate) struct Draft {
    /// Where the site will be, as it was given.
    out: PathBuf,
    /// The same behind links.
    place: PathBuf,
    /// Where its files lie until then.
    folder: PathBuf,
    /// Whether that is inside the place.
    is_inside: bool,
    /// Until it may hold the site of before.
    left_over: Option<LeftOver>,
    /// Own files of the site of before.
    before: Option<Owned>,
    _lock: Lock,
}

/// What of an owner's edits stays in its place.
#[derive(Default)]
struct Kept {
    /// Names of the files.
    edited: BTreeSet<String>,
    /// Those among them, and others with the new content, that are links.
    links: Vec<String>,
    /// What is told once the new site is in its place.
    told: Vec<String>,
}

/// Waits until no other command publishes there.
fn lock(out: &Path, place: &Path, is_there: bool) -> anyhow::Result<Lock> {
    let mut lock = match beside(place) {
        None => Lock::acquire(&place.join(OWN_FILES)),
        Some(_) => Lock::acquire(place),
    };
    if is_there && matches!(&lock, Err(FileError::Lock { source, .. }) if refuses(source)) {
        // Whoever publishes there finds the same.
        lock = Lock::acquire(&place.join(OWN_FILES));
    }
    lock.map_err(|error| match error {
        FileError::Lock { source, .. } if refuses(&source) => anyhow!(
            "{}: {source}; nothing was written: choose a folder that takes files",
            out.display()
        ),
        other => other.into(),
    })
}

impl Draft {
    /// Begins a site for a place that is empty, not there yet, or holds a published one. Waits until no other command
    /// publishes there, and takes away what killed ones have left.
    ///
    /// # Errors
    ///
    /// A place that holds something else, or that cannot be written to.
    pub(crate) fn begin(out: &Path) -> anyhow::Result<Self> {
        let is_there = files::is_folder(out)?;
        let mut place = files::whole(out);
        let lock = lock(out, &place, is_there)?;
        // Its folder is there by now.
        place = files::whole(&place);
        let next = beside(&place);
        if let Some(next) = &next {
            tidy(next, &place)?;
        }
        files::remove_folder(&place.join(INSIDE))?;
        files::remove_file(&place.join(REPLACED))?;
        for name in [REPLACED, OWN_FILES] {
            files::remove_left_over(&place.join(name));
        }
        let before = Owned::of(&place)?.map(|before| with_digests(before, &place));
        if before.is_none() && place.exists() {
            // A folder that a host takes its files from may have this before the first publishing.
            files::refuse_others(out, &place, EMPTY, |name| name == "CNAME")?;
        }
        let mut draft = Self {
            out: out.to_owned(),
            folder: place.join(INSIDE),
            place,
            is_inside: true,
            left_over: None,
            before,
            _lock: lock,
        };
        if let Some(next) = next.filter(|_| !stays(&draft.place)) {
            match LeftOver::make(&next, || files::create_folder(&next)) {
                Err(error) if !draft.place.exists() || !refuses(&error) => {
                    return Err(draft.failed(error).into());
                }
                Err(_) => (),
                Ok(((), left_over)) => {
                    (draft.folder, draft.is_inside) = (next, false);
                    draft.left_over = Some(left_over);
                }
            }
        }
        if draft.is_inside {
            let made = LeftOver::make(&draft.folder, || files::create_folder(&draft.folder));
            draft.left_over = Some(made.map_err(|error| draft.failed(error))?.1);
        }
        Ok(draft)
    }

    /// Where the files lie.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the site will be, behind links.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Own files of the site of before.
    pub(crate) fn before(&self) -> Option<&Owned> {
        self.before.as_ref()
    }

    fn failed(&self, source: std::io::Error) -> FileError {
        FileError::Write { path: self.out.clone(), source }
    }

    /// Names a file as people will find it.
    fn named(&self, name: &str, error: FileError) -> FileError {
        match error {
            FileError::Write { source, .. } => {
                FileError::Write { path: self.out.join(name), source }
            }
            other => other,
        }
    }

    /// Writes a file of the site, in the place of the draft's of that name.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`], [`FileError::Remove`]
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let path = self.folder.join(name);
        if path.exists() {
            files::remove_file(&path)?;
        }
        let source = |source| FileError::Write { path: path.clone(), source };
        let written = files::create(&path, |writer| writer.write_all(bytes).map_err(source));
        written.map_err(|error| self.named(name, error))
    }

    /// Checks that nothing of others has the name of one of the site's files.
    ///
    /// # Errors
    ///
    /// Names what has.
    pub(crate) fn check(&mut self, names: &[String]) -> anyhow::Result<()> {
        if let Some(before) = &mut self.before {
            before.complete(names.iter().cloned());
        }
        let mut hindering: Vec<String> = (names.iter())
            .filter_map(|name| hinders(&self.place, self.before.as_ref(), name))
            .collect();
        hindering.dedup();
        if hindering.is_empty() {
            return Ok(());
        }
        let more = hindering.len().saturating_sub(NAMED);
        hindering.truncate(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        bail!(
            "{}: holds {}{more}, which magpie did not write there and the new site has as well; move that away or \
             choose another folder",
            self.out.display(),
            hindering.join(", ")
        )
    }

    /// Puts a site that consists of these files into its place.
    ///
    /// # Errors
    ///
    /// Names that are no site's, files of others in their places, a disk that refuses.
    pub(crate) fn publish(mut self, mut names: Vec<String>) -> anyhow::Result<()> {
        self.check(&names)?;
        let Kept { edited, links, told } = self.keep_edited(&mut names)?;
        let new = Owned::new(names)?.digested(&self.folder, edited)?;
        self.write(OWN_FILES, &new.to_bytes()?)?;
        // Side by side: a disk takes many at once in the time of one.
        let names: Vec<&str> = new.names().collect();
        names.par_iter().try_for_each(|name| {
            let synchronized = files::synchronize(&self.folder.join(name));
            synchronized.map_err(|error| self.named(name, error))
        })?;
        for name in links {
            let link = self.folder.join(&name);
            files::remove_file(&link)?;
            link_alike(&self.place.join(&name), &link).map_err(|error| self.failed(error))?;
        }
        if self.is_inside || !self.exchange(&new)? {
            self.move_in(&new)?;
        }
        told.iter().for_each(|text| eprintln!("note: {text}"));
        Ok(())
    }

    /// Keeps what somebody has changed in the site's files since they were published: the file for hosts as it is,
    /// with the new one, which joins `names`, beside it, and of others a copy beside the new one.
    fn keep_edited(&self, names: &mut Vec<String>) -> anyhow::Result<Kept> {
        let mut kept = Kept::default();
        let Some(before) = &self.before else { return Ok(kept) };
        for name in before.edited(&self.place) {
            let path = self.place.join(name);
            let bytes = read(&path)?;
            let is_new = names.iter().any(|new| new == name);
            if is_new && name == HEADERS_FILE && path.is_symlink() {
                kept.links.push(name.to_owned());
            }
            if is_new && read(&self.folder.join(name))? == bytes {
                continue;
            }
            if is_new && name == HEADERS_FILE {
                let is_free = |beside: &String| {
                    let there = self.place.join(beside).symlink_metadata();
                    there.is_err() || before.names().any(|own| own == beside)
                };
                let beside = named_beside(name, NEW).find(is_free).unwrap_or_default();
                self.write(&beside, &read(&self.folder.join(name))?)?;
                self.write(name, &bytes)?;
                kept.edited.insert(name.to_owned());
                kept.told.push(format!(
                    "{}: has been edited and is kept; what magpie would write there is beside it, as {beside}",
                    self.out.join(name).display()
                ));
                names.push(beside);
                continue;
            }
            let beside = self.name_beside(name, &bytes);
            files::write(&self.place.join(&beside), &bytes)?;
            let what = if is_new { "was replaced" } else { "is no part of the new site" };
            kept.told.push(format!(
                "{}: had been edited and {what}; the edited one is kept as {beside}",
                self.out.join(name).display()
            ));
        }
        Ok(kept)
    }

    /// A name beside a file of the place that nothing has, or the same bytes: a publishing that was killed has kept
    /// them already.
    fn name_beside(&self, name: &str, bytes: &[u8]) -> String {
        // What a link leads to is not the site's.
        let is_free = |name: &String| {
            let path = self.place.join(name);
            path.symlink_metadata().map_or(true, |there| {
                there.is_file() && read(&path).is_ok_and(|there| there == bytes)
            })
        };
        named_beside(name, EDITED).find(is_free).unwrap_or_default()
    }

    /// Exchanges the folders; whether that could be done.
    fn exchange(&mut self, new: &Owned) -> anyhow::Result<bool> {
        let out = self.out.clone();
        let failed = |source| FileError::Write { path: out.clone(), source };
        let mark = self.place.join(REPLACED);
        let is_there = self.place.exists();
        let nothing = Owned::new([])?;
        let before = self.before.as_ref().unwrap_or(&nothing);
        if is_there {
            // Where that cannot be done the files go in one by one, and all others stay where they are.
            if bring(&self.place, &self.folder, before, &is_ours).is_err() {
                return Ok(false);
            }
            open_alike(&self.folder, &self.place).map_err(failed)?;
        }
        for folder in new.folders() {
            files::synchronize_folder(&self.folder.join(folder)).map_err(failed)?;
        }
        if is_there {
            files::write(&mark, &before.to_bytes()?)?;
        }
        // From here on an early end must not take the folder away: it may hold the site of before.
        let left_over = self.left_over.take();
        let put = if is_there { files::exchange } else { files::rename };
        if let Err(error) = put(&self.folder, &self.place) {
            self.left_over = left_over;
            files::remove_file(&mark)?;
            return if is_unable(&error) { Ok(false) } else { Err(failed(error).into()) };
        }
        let above = files::synchronize_folder(files::folder_of(&self.place));
        // From here on the site is there; the next publishing takes away what stays.
        let tidied = above.map_err(failed).and_then(|()| tidy(&self.folder, &self.place));
        if let Err(error) = tidied {
            eprintln!(
                "warning: the site is published, but something is left of the one before: {error}"
            );
        }
        Ok(true)
    }

    /// Moves the files into the place one by one.
    fn move_in(&self, new: &Owned) -> anyhow::Result<()> {
        let half = || format!("{}: is half replaced; publish again", self.out.display());
        let before = self.before.clone().map_or_else(|| Owned::new([]), Ok)?;
        files::create_folder(&self.place).map_err(|error| self.failed(error))?;
        // Whatever the next publishing finds of either site is its own.
        files::write(&self.place.join(OWN_FILES), &before.with(new).to_bytes()?)?;
        for turn in in_turn(&before, new) {
            match turn {
                Turn::Remove(name) => {
                    files::remove_file(&self.place.join(name)).with_context(half)?;
                }
                Turn::Place(name) => {
                    let target = self.place.join(&name);
                    let moved = files::create_folder(files::folder_of(&target))
                        .and_then(|()| files::rename(&self.folder.join(&name), &target));
                    let named = || self.out.join(&name).display().to_string();
                    moved.with_context(named).with_context(half)?;
                }
            }
        }
        for folder in before.folders() {
            let path = self.place.join(folder);
            // Only an empty one goes.
            if !folder.is_empty() && !new.has_in(folder) && path.is_dir() {
                files::reach(files::Operation::Remove)?;
                let _ = std::fs::remove_dir(path);
            }
        }
        for folder in new.folders() {
            files::synchronize_folder(&self.place.join(folder)).with_context(half)?;
        }
        files::write(&self.place.join(OWN_FILES), &new.to_bytes()?).with_context(half)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.left_over.is_some() {
            // Of no use to anybody; what went wrong is told already.
            let _ = files::remove_folder(&self.folder);
        }
    }
}

/// Where a draft lies that is exchanged for its place; `None` for a place without a name.
fn beside(place: &Path) -> Option<PathBuf> {
    let name = place.file_name()?.to_string_lossy().into_owned();
    Some(place.with_file_name(format!(".{name}.magpie-new")))
}

/// Takes a draft's folder away. Where it holds the site of before, what is in it of others and came while it was
/// exchanged goes into the new one.
fn tidy(folder: &Path, place: &Path) -> Result<(), FileError> {
    let list = files::read(&folder.join(REPLACED), files::TEXT_LIMIT);
    let own = list.ok().and_then(|bytes| Owned::from_bytes(&bytes).ok());
    if let Some(own) = own.filter(|_| place.exists()) {
        retire(folder, place, &own, &is_ours)?;
    }
    files::remove_folder(folder)
}

/// Whether a name at the top of a site is that of something that only publishing needs.
fn is_ours(name: &str) -> bool {
    [INSIDE, REPLACED].contains(&name) || name == format!(".{OWN_FILES}.lock")
}

/// Whether another folder must not take the name: for a mount it cannot, and a shell would go on standing in the
/// folder of before.
fn stays(place: &Path) -> bool {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    here.is_ok_and(|here| here.starts_with(place))
        || files::is_mount_point(place)
        || files::has_mount_below(place)
}

/// Whether the system takes nothing new beside the place.
fn refuses(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

/// Whether folders cannot be exchanged there.
fn is_unable(error: &std::io::Error) -> bool {
    use ErrorKind::{CrossesDevices, InvalidInput, PermissionDenied, ResourceBusy, Unsupported};
    let kinds = [CrossesDevices, InvalidInput, PermissionDenied, ResourceBusy, Unsupported];
    kinds.contains(&error.kind())
}

/// Names beside a file, the plainest first.
fn named_beside(name: &str, ending: &str) -> impl Iterator<Item = String> {
    let plain = format!("{name}{ending}");
    let numbered = (2..).map({
        let plain = plain.clone();
        move |number| format!("{plain}-{number}")
    });
    std::iter::once(plain).chain(numbered)
}
