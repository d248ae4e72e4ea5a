//! The one thread that changes the gallery: changes go to the journal, then to the requests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, anyhow, bail};
use models::gallery::{ContentId, Gallery};
use serde_json::json;
use tokio::sync::oneshot;

use super::{Asking, Doing, Message, More, Rules, Snapshot, Told};
use crate::files::Lock;
use crate::service::change::{Change, Changed, Done, EntryId};
use crate::service::journal::{self, Begin, Found, Journal, Kept, Keys, Record, effective};
use crate::service::problem::{Answered, Kind, Problem};

/// Changes that are written by one write at most.
const TOGETHER: usize = 64;
/// Answers that are given again where their key comes again.
pub(super) const KEYS: usize = 1000;
/// Changes that can be undone however often the journal is folded into the gallery.
pub(super) const UNDO: usize = 32;
/// Changes, and bytes, from which the journal is folded into the gallery.
pub(super) const FOLD: (usize, u64) = (2048, 64 << 20);

/// A gallery with the first changes of the journal in it, which was written behind the requests.
pub(super) struct Folded {
    of: u64,
    changes: usize,
    content: anyhow::Result<EntryId>,
}

/// Who changes the gallery.
pub(super) struct Keeper {
    folder: PathBuf,
    rules: Rules,
    pub(super) journal: Journal,
    begin: Begin,
    /// Changes since the gallery's file that count.
    changes: Vec<Record>,
    keys: Keys,
    /// Whether a thread folds, and the fewest changes that there were since.
    folding: Option<usize>,
    fold_from: (usize, u64),
    _lock: Lock,
}

impl Keeper {
    /// Opens a folder; of one that holds nothing yet `first` is the gallery.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or written, a gallery of another model.
    pub(super) fn open(
        folder: PathBuf,
        first: Gallery,
        rules: Rules,
        lock: Lock,
    ) -> anyhow::Result<(Self, Arc<Snapshot>)> {
        let found = match journal::open(&folder)? {
            Some(found) => found,
            None => begin_anew(&folder, first.clone())?,
        };
        let Found { begin, mut gallery, records, journal } = found;
        gallery.check_comparable(&first).with_context(|| {
            format!(
                "{}: the gallery of this folder is not of this site's extractor",
                folder.display()
            )
        })?;
        let mut keys = Keys::default();
        let kept = begin.keys.iter().chain(records.iter().filter_map(|record| record.key.as_ref()));
        kept.cloned().for_each(|kept| keys.keep(kept, KEYS));
        let version = records.iter().map(|record| record.version).fold(begin.version, u64::max);
        let changes = effective(records);
        replay(&mut gallery, &changes)
            .with_context(|| format!("{}: its journal cannot be done again", folder.display()))?;
        let snapshot = rules.snapshot(gallery, version, &begin.id);
        let keeper = Self {
            folder,
            rules,
            journal,
            begin,
            changes,
            keys,
            folding: None,
            fold_from: FOLD,
            _lock: lock,
        };
        Ok((keeper, snapshot))
    }

    /// Does what is asked for until the end.
    pub(super) fn run(
        mut self,
        messages: &Receiver<Message>,
        door: &SyncSender<Message>,
        seen: &RwLock<Arc<Snapshot>>,
        bytes: &AtomicU64,
    ) {
        let mut held = None;
        let mut current = Arc::clone(&seen.read().unwrap_or_else(PoisonError::into_inner));
        while let Some(message) = held.take().or_else(|| messages.recv().ok()) {
            match message {
                Message::End => return,
                Message::Folded(folded) => self.adopt(folded, current.version),
                Message::Ask(asking, answer) if is_alone(&asking) => {
                    let told = self.alone(asking, &mut current);
                    *seen.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&current);
                    let _ = answer.send(told);
                }
                Message::Ask(asking, answer) => {
                    let batch = those_that_wait((asking, answer), messages, &mut held);
                    let answers = self.together(batch, &mut current);
                    *seen.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&current);
                    for (answer, told) in answers {
                        let _ = answer.send(told);
                    }
                }
            }
            self.fold(door);
            bytes.store(self.journal.bytes(), Ordering::Relaxed);
        }
    }

    /// The answer that a key had, or why the change cannot be made.
    fn before(&self, asking: &Asking, version: u64, fresh: &[Record]) -> Option<Answered<Told>> {
        if let Some((key, request)) = &asking.key {
            let fresh = fresh.iter().rev().filter_map(|record| record.key.as_ref());
            let kept = fresh.chain(self.keys.get(key)).find(|kept| kept.key == *key);
            if let Some(kept) = kept {
                return Some(told_again(&self.begin.id, kept, request));
            }
        }
        against(asking.matching.as_deref(), &self.begin.id, version)
    }

    /// Makes changes on one copy, in their order, and writes them at once.
    fn together(&mut self, batch: Vec<Waiting>, current: &mut Arc<Snapshot>) -> Vec<Outcome> {
        let (mut gallery, mut version) = (current.gallery.clone(), current.version);
        let mut records: Vec<Record> = Vec::new();
        // Each with whether it rests on a change that is not written yet.
        let mut outcomes: Vec<(Sending, Answered<Told>, bool)> = Vec::new();
        for (asking, answer) in batch {
            if let Some(told) = self.before(&asking, version, &records) {
                outcomes.push((answer, told, !records.is_empty()));
                continue;
            }
            let Doing::Change(change) = asking.doing else { continue };
            match change.apply(&mut gallery) {
                Ok(done) => {
                    version += u64::from(done.changed);
                    let told = told(&gallery, &self.begin.id, version, done, asking.more);
                    let key = kept(&told, version, asking.key);
                    let change = if done.changed { change } else { Change::Nothing };
                    // What changes nothing leaves a line only where its answer is to be given again.
                    if done.changed || key.is_some() {
                        records.push(Record { version, change, key });
                    }
                    outcomes.push((answer, Ok(told), !records.is_empty()));
                }
                Err(problem) => {
                    // It may be half done.
                    gallery = current.gallery.clone();
                    let again = replay(&mut gallery, &records);
                    let problem = again.map_or_else(|error| Problem::failed(&error), |()| problem);
                    outcomes.push((answer, Err(problem), !records.is_empty()));
                }
            }
        }
        let kept = if records.is_empty() { Ok(()) } else { self.journal.append(&records) };
        if let Err(error) = kept {
            let problem = storage(&error);
            return (outcomes.into_iter())
                .map(|(answer, told, depends)| {
                    (answer, if depends { Err(problem.clone()) } else { told })
                })
                .collect();
        }
        if !records.is_empty() {
            for kept in records.iter().filter_map(|record| record.key.clone()) {
                self.keys.keep(kept, KEYS);
            }
            self.changes.extend(effective(records));
        }
        if version > current.version {
            *current = self.rules.snapshot(gallery, version, &self.begin.id);
        }
        outcomes.into_iter().map(|(answer, told, _)| (answer, told)).collect()
    }

    /// A change that takes the place of the whole gallery.
    fn alone(&mut self, asking: Asking, current: &mut Arc<Snapshot>) -> Answered<Told> {
        if let Some(told) = self.before(&asking, current.version, &[]) {
            return told;
        }
        let key = asking.key;
        let (gallery, more) = match asking.doing {
            Doing::Change(Change::Undo) => return self.undo(key, current),
            Doing::Change(_) | Doing::Within(_) => {
                return Err(Problem::new(Kind::Failed, "a change came alone"));
            }
            // Later changes are made although this one broke off.
            Doing::Remake(remake) => catch_unwind(AssertUnwindSafe(|| remake(&current.gallery)))
                .unwrap_or_else(|_panic| {
                    Err(Problem::failed(&anyhow!("a change of the gallery broke off")))
                })?,
        };
        if is_same(&gallery, &current.gallery) {
            let version = current.version;
            let told = told(&gallery, &self.begin.id, version, Done::default(), more);
            if let Some(key) = kept(&told, version, key) {
                let record = Record { version, change: Change::Nothing, key: Some(key.clone()) };
                self.journal.append(&[record]).map_err(|error| storage(&error))?;
                self.keys.keep(key, KEYS);
            }
            return Ok(told);
        }
        let version = current.version + 1;
        let told = told(&gallery, &self.begin.id, version, Done::CHANGED, more);
        let kept = kept(&told, version, key);
        let previous = Some(self.journal.generation);
        self.begin_generation(&gallery, (version, previous), Vec::new(), kept)
            .map_err(|error| storage(&error))?;
        *current = self.rules.snapshot(gallery, version, &self.begin.id);
        Ok(told)
    }

    /// Writes a gallery with its own journal, in which changes of it stand already.
    fn begin_generation(
        &mut self,
        gallery: &Gallery,
        (version, previous): (u64, Option<u64>),
        changes: Vec<Record>,
        key: Option<Kept>,
    ) -> anyhow::Result<()> {
        let mut keys = Keys::default();
        self.keys.all().into_iter().chain(key).for_each(|kept| keys.keep(kept, KEYS));
        // A thread that folds writes the next generation.
        let next = self.journal.generation + 2;
        let content = journal::write_gallery(&self.folder, next, gallery)?;
        let id = self.begin.id.clone();
        let begin = Begin { gallery: content, id, version, previous, keys: keys.all() };
        self.journal = Journal::create(&self.folder, next, &begin, &changes)?;
        (self.begin, self.keys, self.changes) = (begin, keys, changes);
        self.folding = self.folding.map(|_| 0);
        Ok(())
    }

    fn undo(
        &mut self,
        key: Option<(String, String)>,
        current: &mut Arc<Snapshot>,
    ) -> Answered<Told> {
        let failed = |error: anyhow::Error| Problem::failed(&error);
        let version = current.version + 1;
        if let Some((_, before)) = self.changes.split_last() {
            let (mut gallery, _) =
                journal::read_gallery(&self.folder, self.journal.generation).map_err(failed)?;
            replay(&mut gallery, before).map_err(failed)?;
            let told = told(&gallery, &self.begin.id, version, Done::CHANGED, More::default());
            let key = kept(&told, version, key);
            let record = Record { version, change: Change::Undo, key: key.clone() };
            self.journal.append(&[record]).map_err(|error| storage(&error))?;
            self.changes.pop();
            self.folding = self.folding.map(|least| least.min(self.changes.len()));
            key.into_iter().for_each(|kept| self.keys.keep(kept, KEYS));
            *current = self.rules.snapshot(gallery, version, &self.begin.id);
            return Ok(told);
        }
        let Some(previous) = self.begin.previous else {
            let detail = "there is no change that can be undone";
            return Err(Problem::new(Kind::Conflict, detail));
        };
        let path = self.folder.join(format!("journal-{previous}.wal"));
        let (_, records, _) = journal::read_journal(&path).map_err(failed)?;
        let (before, _) = journal::read_gallery(&self.folder, previous).map_err(failed)?;
        // They can be undone as before. Their answers are kept with all others.
        let unkeyed = |record| Record { key: None, ..record };
        let changes: Vec<Record> = effective(records).into_iter().map(unkeyed).collect();
        let mut gallery = before.clone();
        replay(&mut gallery, &changes).map_err(failed)?;
        let told = told(&gallery, &self.begin.id, version, Done::CHANGED, More::default());
        let key = kept(&told, version, key);
        self.begin_generation(&before, (version, None), changes, key)
            .map_err(|error| storage(&error))?;
        *current = self.rules.snapshot(gallery, version, &self.begin.id);
        Ok(told)
    }

    /// Begins to fold the journal into the gallery, behind the requests.
    fn fold(&mut self, door: &SyncSender<Message>) {
        // Also where all that came was undone: a journal that is begun anew is shorter.
        let due = self.changes.len() > self.fold_from.0 || self.journal.grown() > self.fold_from.1;
        if !due || self.folding.is_some() {
            return;
        }
        let changes = self.changes.len().saturating_sub(UNDO);
        let (folder, of) = (self.folder.clone(), self.journal.generation);
        let (folding, door) = (self.changes[..changes].to_vec(), door.clone());
        let fold = move || {
            let content = (|| {
                let (mut gallery, _) = journal::read_gallery(&folder, of)?;
                replay(&mut gallery, &folding)?;
                journal::write_gallery(&folder, of + 1, &gallery)
            })();
            // A service that has ended needs it no more.
            let _ = door.send(Message::Folded(Folded { of, changes, content }));
        };
        if std::thread::Builder::new().name("fold".to_owned()).spawn(fold).is_ok() {
            self.folding = Some(self.changes.len());
        }
    }

    /// Goes on from the gallery that was written behind.
    fn adopt(&mut self, folded: Folded, version: u64) {
        let least = self.folding.take().unwrap_or(0);
        let fits = folded.of == self.journal.generation && least >= folded.changes;
        let content = match folded.content {
            Ok(content) if fits => content,
            Ok(_) => return,
            Err(error) => {
                eprintln!("the journal stays: {}", crate::terminal::sentence(&error));
                return;
            }
        };
        let rest = self.changes.split_off(folded.changes);
        let keys = self.keys.all();
        let begin =
            Begin { gallery: content, id: self.begin.id.clone(), version, previous: None, keys };
        match Journal::create(&self.folder, folded.of + 1, &begin, &rest) {
            Ok(journal) => (self.journal, self.begin, self.changes) = (journal, begin, rest),
            Err(error) => {
                eprintln!("the journal stays: {}", crate::terminal::sentence(&error));
                self.changes.extend(rest);
            }
        }
    }
}

/// A change with those that wait behind it and can be made with it; the next other message is held.
pub(super) fn those_that_wait(
    first: Waiting,
    messages: &Receiver<Message>,
    held: &mut Option<Message>,
) -> Vec<Waiting> {
    let mut batch = vec![first];
    while batch.len() < TOGETHER {
        match messages.try_recv() {
            Ok(Message::Ask(asking, answer)) if !is_alone(&asking) => batch.push((asking, answer)),
            Ok(other) => {
                *held = Some(other);
                break;
            }
            Err(_) => break,
        }
    }
    batch
}

pub(super) type Sending = oneshot::Sender<Answered<Told>>;
pub(super) type Waiting = (Asking, Sending);
pub(super) type Outcome = (Sending, Answered<Told>);

pub(super) fn is_alone(asking: &Asking) -> bool {
    matches!(asking.doing, Doing::Remake(_) | Doing::Within(_) | Doing::Change(Change::Undo))
}

fn storage(error: &anyhow::Error) -> Problem {
    let why = crate::terminal::sentence(error);
    eprintln!("{why}");
    Problem::new(Kind::Storage, "the change could not be kept on the disk; nothing has changed")
}

pub(super) fn told(gallery: &Gallery, id: &str, version: u64, done: Done, more: More) -> Told {
    let Done { added, known, removed, moved, joined, changed } = done;
    let (classes, entries) = (gallery.classes().len(), gallery.len());
    let (left_out, lines) = (Some(more.left_out).filter(|out| !out.is_empty()), more.lines);
    let answer = json!(Changed {
        version,
        classes,
        entries,
        added,
        known,
        removed,
        moved,
        joined,
        left_out,
        lines
    });
    Told { tag: format!("\"{id}-{version}\""), answer, replayed: false, changed }
}

/// The answer of a key that comes again with a request.
pub(super) fn told_again(id: &str, kept: &Kept, request: &str) -> Answered<Told> {
    if kept.request == request {
        let (tag, answer) = (format!("\"{id}-{}\"", kept.version), kept.answer.clone());
        return Ok(Told { tag, answer, replayed: true, changed: false });
    }
    let detail = "this Idempotency-Key came with another request before; take a new key";
    Err(Problem::new(Kind::Key, detail))
}

/// Why a change that depends on another version is not made.
pub(super) fn against(
    matching: Option<&[String]>,
    id: &str,
    version: u64,
) -> Option<Answered<Told>> {
    let (tag, wanted) = (format!("\"{id}-{version}\""), matching?);
    if wanted.iter().any(|wanted| wanted == "*" || *wanted == tag) {
        return None;
    }
    let detail =
        format!("the gallery has changed: it is {tag} now; read it again, and decide anew");
    Some(Err(Problem::new(Kind::Changed, detail)))
}

/// Tells versions of a gallery from those of others that began with the same file.
pub(super) fn fresh_id(content: EntryId) -> String {
    let seed = (content, std::process::id(), std::time::SystemTime::now());
    EntryId(ContentId::of(format!("{seed:?}").as_bytes())).to_string()[..16].to_owned()
}

/// Whether two galleries are written as the same file.
pub(super) fn is_same(a: &Gallery, b: &Gallery) -> bool {
    let bytes = |gallery: &Gallery| {
        let mut bytes = Vec::new();
        gallery.write_to(&mut bytes).ok().map(|()| bytes)
    };
    bytes(a).is_some_and(|a| bytes(b).is_some_and(|b| a == b))
}

/// An answer as it is kept under the key that it came with.
pub(super) fn kept(told: &Told, version: u64, key: Option<(String, String)>) -> Option<Kept> {
    key.map(|(key, request)| Kept { key, request, version, answer: told.answer.clone() })
}

pub(super) fn replay(gallery: &mut Gallery, changes: &[Record]) -> anyhow::Result<()> {
    for record in changes {
        record.change.apply(gallery).map_err(|problem| anyhow!(problem.detail))?;
    }
    Ok(())
}

/// The first generation of a folder.
fn begin_anew(folder: &Path, gallery: Gallery) -> anyhow::Result<Found> {
    let there = folder.join("gallery-0.bin");
    if there.exists() {
        // A kill may have left the gallery without its journal; whatever else lies there is somebody's.
        let (_, content) = journal::read_gallery(folder, 0)?;
        if content != EntryId(ContentId::of(&gallery.to_bytes())) {
            bail!(
                "{}: is not the site's gallery, and its journal has gone; put the journal back, or give a new folder",
                there.display()
            );
        }
    }
    let content = journal::write_gallery(folder, 0, &gallery)?;
    let id = fresh_id(content);
    let begin = Begin { gallery: content, id, version: 0, previous: None, keys: Vec::new() };
    let journal = Journal::create(folder, 0, &begin, &[])?;
    Ok(Found { begin, gallery, records: Vec::new(), journal })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use models::recognizer::RecognizerSettings;

    use super::*;
    use crate::service::change::tests::photo;

    #[test]
    fn a_gallery_whose_journal_has_gone_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let own = |dim| begin_anew(folder.path(), Gallery::new(dim, "m"));
        own(4).unwrap();
        std::fs::remove_file(folder.path().join("journal-0.wal")).unwrap();
        let there = std::fs::read(folder.path().join("gallery-0.bin")).unwrap();
        let error = own(5).expect_err("another gallery").to_string();
        assert!(error.contains("gallery-0.bin: is not the site's gallery"), "{error}");
        assert_eq!(std::fs::read(folder.path().join("gallery-0.bin")).unwrap(), there);
        // What a kill between the two leaves.
        own(4).unwrap();
    }

    fn opened(folder: &Path) -> (Keeper, Arc<Snapshot>) {
        let first = Gallery::new(4, "m");
        let rules = Rules::new(&RecognizerSettings::default(), &first);
        let lock = Lock::acquire(&folder.join("state")).unwrap();
        Keeper::open(folder.to_owned(), first, rules, lock).unwrap()
    }

    fn asked(keeper: &mut Keeper, now: &mut Arc<Snapshot>, asking: Asking) -> Answered<Told> {
        if is_alone(&asking) {
            return keeper.alone(asking, now);
        }
        let (answer, _) = oneshot::channel();
        keeper.together(vec![(asking, answer)], now).remove(0).1
    }

    fn asking(change: Change) -> Asking {
        Asking { doing: Doing::Change(change), matching: None, key: None, more: More::default() }
    }

    fn add(number: u8) -> Asking {
        asking(Change::Add { photos: vec![photo("Mug", number)] })
    }

    fn undo() -> Asking {
        asking(Change::Undo)
    }

    /// What is there is what a start finds.
    fn again(keeper: Keeper, now: &Snapshot) -> (Keeper, Arc<Snapshot>) {
        let folder = keeper.folder.clone();
        drop(keeper);
        let (keeper, found) = opened(&folder);
        assert_eq!((found.version, &found.tag), (now.version, &now.tag));
        assert_eq!(found.gallery.to_bytes(), now.gallery.to_bytes());
        (keeper, found)
    }

    #[test]
    fn what_was_answered_is_there_after_a_start_and_can_be_undone() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, mut now) = opened(folder.path());
        for number in 0..4 {
            asked(&mut keeper, &mut now, add(number)).unwrap();
        }
        assert_eq!((now.version, now.gallery.len()), (4, 4));
        let (mut keeper, mut now) = again(keeper, &now);
        asked(&mut keeper, &mut now, undo()).unwrap();
        assert_eq!((now.version, now.gallery.len()), (5, 3));
        asked(&mut keeper, &mut now, add(7)).unwrap();
        asked(&mut keeper, &mut now, undo()).unwrap();
        asked(&mut keeper, &mut now, undo()).unwrap();
        let (mut keeper, mut now) = again(keeper, &now);
        assert_eq!((now.version, now.gallery.len()), (8, 2));
        for _ in 0..2 {
            asked(&mut keeper, &mut now, undo()).unwrap();
        }
        assert_eq!(asked(&mut keeper, &mut now, undo()).unwrap_err().kind, Kind::Conflict);
        assert!(now.gallery.is_empty());
    }

    #[test]
    fn another_gallery_takes_the_place_and_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, mut now) = opened(folder.path());
        asked(&mut keeper, &mut now, add(1)).unwrap();
        let before = now.gallery.to_bytes();
        let remake = |gallery: &Gallery| {
            let mut other = gallery.clone();
            other.rename_class(0, "Cup").map_err(crate::service::change::refused)?;
            let lines = Some(vec!["renamed".to_owned()]);
            Ok((other, More { lines, ..More::default() }))
        };
        let doing = Doing::Remake(Box::new(remake));
        let key = Some(("k".to_owned(), "r".to_owned()));
        let asking = Asking { doing, matching: None, key, more: More::default() };
        let told = asked(&mut keeper, &mut now, asking).unwrap();
        assert_eq!(told.answer["lines"][0], "renamed");
        asked(&mut keeper, &mut now, add(2)).unwrap();
        let (mut keeper, mut now) = again(keeper, &now);
        assert_eq!(now.gallery.classes()[0].label, "Cup");
        asked(&mut keeper, &mut now, undo()).unwrap();
        asked(&mut keeper, &mut now, undo()).unwrap();
        assert_eq!((now.gallery.to_bytes(), now.version), (before, 5));
        let (mut keeper, mut now) = again(keeper, &now);
        // What came before the other gallery can be undone, too.
        asked(&mut keeper, &mut now, undo()).unwrap();
        assert!(now.gallery.is_empty());
        assert_eq!(asked(&mut keeper, &mut now, undo()).unwrap_err().kind, Kind::Conflict);
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 3, "a gallery, a journal and a lock");
    }

    #[test]
    fn a_condition_that_fails_and_a_key_that_comes_again_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, mut now) = opened(folder.path());
        let first = now.tag.clone();
        let with = |number, matching: Option<&str>, key: Option<(&str, &str)>| Asking {
            matching: matching.map(|tag| vec![tag.to_owned()]),
            key: key.map(|(key, request)| (key.to_owned(), request.to_owned())),
            ..add(number)
        };
        let once = with(1, Some(&first), Some(("a", "1")));
        let told = asked(&mut keeper, &mut now, once).unwrap();
        let late = asked(&mut keeper, &mut now, with(2, Some(&first), None)).unwrap_err();
        assert_eq!(late.kind, Kind::Changed);
        let (mut keeper, mut now) = again(keeper, &now);
        let twice = asked(&mut keeper, &mut now, with(1, Some(&first), Some(("a", "1")))).unwrap();
        assert!(twice.replayed && (twice.tag, twice.answer) == (told.tag, told.answer));
        let other = asked(&mut keeper, &mut now, with(3, None, Some(("a", "2")))).unwrap_err();
        assert_eq!((other.kind, now.version), (Kind::Key, 1));
        // Also of two that wait together, the second depends on the first.
        let batch = [with(4, None, Some(("b", "1"))), with(4, None, Some(("b", "1")))];
        let batch = batch.into_iter().map(|asking| (asking, oneshot::channel().0)).collect();
        let told = keeper.together(batch, &mut now);
        assert!(told[1].1.as_ref().is_ok_and(|told| told.replayed) && now.version == 2);
    }

    #[test]
    fn what_changes_nothing_leaves_version_undo_and_journal_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, mut now) = opened(folder.path());
        asked(&mut keeper, &mut now, add(1)).unwrap();
        let (tag, bytes, generation) =
            (now.tag.clone(), keeper.journal.bytes(), keeper.journal.generation);
        let same = || Asking {
            doing: Doing::Remake(Box::new(|gallery: &Gallery| {
                Ok((
                    gallery.clone(),
                    More { lines: Some(vec!["as before".to_owned()]), ..More::default() },
                ))
            })),
            ..add(1)
        };
        let broken = Asking {
            doing: Doing::Remake(Box::new(|_: &Gallery| panic!("a fault of the program"))),
            ..add(1)
        };
        assert_eq!(asked(&mut keeper, &mut now, broken).unwrap_err().kind, Kind::Failed);
        for asking in [add(1), same()] {
            let told = asked(&mut keeper, &mut now, asking).unwrap();
            assert_eq!((&told.tag, told.changed, told.replayed), (&tag, false, false));
            assert_eq!((keeper.journal.bytes(), keeper.journal.generation), (bytes, generation));
        }
        // Under a key its answer is kept, and nothing else.
        let with = |asking: Asking, key: &str| Asking {
            key: Some((key.to_owned(), "r".to_owned())),
            ..asking
        };
        for (asking, key) in [(add(1), "a"), (same(), "b")] {
            let told = asked(&mut keeper, &mut now, with(asking, key)).unwrap();
            assert_eq!((&told.tag, told.changed), (&tag, false));
        }
        let (mut keeper, mut now) = again(keeper, &now);
        asked(&mut keeper, &mut now, add(2)).unwrap();
        let told = asked(&mut keeper, &mut now, with(add(1), "a")).unwrap();
        assert!(told.replayed && told.tag == tag && told.answer["known"] == 1);
        // Between two that wait together it changes nothing either.
        let batch = [add(2), with(add(3), "c"), with(add(3), "d"), add(4)];
        let batch = batch.into_iter().map(|asking| (asking, oneshot::channel().0)).collect();
        let told = keeper.together(batch, &mut now);
        let versions =
            told.iter().map(|(_, told)| told.as_ref().unwrap().answer["version"].clone());
        assert_eq!(versions.collect::<Vec<_>>(), [2, 3, 3, 4]);
        let (mut keeper, mut now) = again(keeper, &now);
        for _ in 0..4 {
            asked(&mut keeper, &mut now, undo()).unwrap();
        }
        assert!(now.gallery.is_empty());
        assert_eq!(asked(&mut keeper, &mut now, undo()).unwrap_err().kind, Kind::Conflict);
    }

    #[test]
    fn one_that_fails_among_those_that_wait_together_leaves_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, mut now) = opened(folder.path());
        let wrong = asking(Change::RemoveClass { class: "Cup".to_owned() });
        let blank = asking(Change::Add { photos: vec![photo("Mug", 1), photo(" ", 2)] });
        let batch = [add(0), wrong, blank, add(3)];
        let batch = batch.into_iter().map(|asking| (asking, oneshot::channel().0)).collect();
        let told = keeper.together(batch, &mut now);
        let is_well: Vec<bool> = told.iter().map(|(_, told)| told.is_ok()).collect();
        assert_eq!(is_well, [true, false, false, true]);
        assert_eq!((now.gallery.len(), now.version), (2, 2));
        again(keeper, &now);
    }

    #[test]
    fn the_journal_is_folded_into_the_gallery_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, mut now) = opened(folder.path());
        keeper.fold_from = (40, u64::MAX);
        let (door, messages) = sync_channel(1);
        for number in 0..45 {
            asked(&mut keeper, &mut now, add(number)).unwrap();
            keeper.fold(&door);
        }
        // It began at the 41st; what came meanwhile is in the new journal.
        let Ok(Message::Folded(folded)) = messages.recv() else { panic!("folded") };
        assert_eq!(folded.changes, 41 - UNDO);
        keeper.adopt(folded, now.version);
        assert_eq!((keeper.journal.generation, keeper.changes.len()), (1, 36));
        asked(&mut keeper, &mut now, add(99)).unwrap();
        let (mut keeper, mut now) = again(keeper, &now);
        assert_eq!(now.gallery.len(), 46);
        for _ in 0..37 {
            asked(&mut keeper, &mut now, undo()).unwrap();
        }
        assert_eq!(asked(&mut keeper, &mut now, undo()).unwrap_err().kind, Kind::Conflict);
        assert_eq!(now.gallery.len(), 9);
    }

    #[test]
    fn a_journal_of_what_was_undone_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, mut now) = opened(folder.path());
        asked(&mut keeper, &mut now, add(1)).unwrap();
        let (door, messages) = sync_channel(1);
        keeper.fold_from = (usize::MAX, 4000);
        let mut most = 0;
        for number in 0..60 {
            asked(&mut keeper, &mut now, add(2 + number)).unwrap();
            asked(&mut keeper, &mut now, undo()).unwrap();
            most = most.max(keeper.journal.bytes());
            keeper.fold(&door);
            if keeper.folding.is_some()
                && let Ok(Message::Folded(folded)) = messages.recv()
            {
                keeper.adopt(folded, now.version);
            }
        }
        assert!(keeper.journal.generation > 0 && most < 8000, "{most}");
        let (mut keeper, mut now) = again(keeper, &now);
        assert_eq!(now.gallery.len(), 1);
        asked(&mut keeper, &mut now, undo()).unwrap();
        assert!(now.gallery.is_empty());
    }

    #[test]
    fn what_was_undone_meanwhile_is_not_folded() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, mut now) = opened(folder.path());
        keeper.fold_from = (33, u64::MAX);
        let (door, messages) = sync_channel(1);
        for number in 0..34 {
            asked(&mut keeper, &mut now, add(number)).unwrap();
        }
        keeper.fold(&door);
        let Ok(Message::Folded(folded)) = messages.recv() else { panic!("folded") };
        for _ in 0..33 {
            asked(&mut keeper, &mut now, undo()).unwrap();
        }
        asked(&mut keeper, &mut now, add(50)).unwrap();
        asked(&mut keeper, &mut now, add(51)).unwrap();
        keeper.adopt(folded, now.version);
        assert_eq!(keeper.journal.generation, 0);
        let (_, found) = again(keeper, &now);
        assert_eq!(found.gallery.len(), 3);
    }

    #[test]
    fn a_journal_that_is_cut_anywhere_holds_what_was_whole_by_then() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, mut now) = opened(folder.path());
        let mut ends = vec![(keeper.journal.bytes(), 0)];
        for number in 0..3 {
            asked(&mut keeper, &mut now, add(number)).unwrap();
            ends.push((keeper.journal.bytes(), now.gallery.len()));
        }
        drop(keeper);
        let path = folder.path().join("journal-0.wal");
        let whole = std::fs::read(&path).unwrap();
        for cut in ends[0].0..=whole.len() as u64 {
            std::fs::write(&path, &whole[..cut as usize]).unwrap();
            let wanted = ends.iter().rev().find(|(end, _)| *end <= cut).unwrap().1;
            assert_eq!(opened(folder.path()).1.gallery.len(), wanted, "{cut}");
        }
        // A bit that is lost in the middle is no cut: nothing is thrown away.
        let mut damaged = whole.clone();
        damaged[ends[1].0 as usize + 40] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let error = journal::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
}
