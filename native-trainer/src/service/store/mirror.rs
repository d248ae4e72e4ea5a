//! The gallery of a database as one service knows it: what came since is done there, in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::{Context, bail};
use models::gallery::{ContentId, Gallery};

use super::keeper::replay;
use super::{Rules, Snapshot};
use crate::postgres::{Base, News, Now, Written};
use crate::service::change::{Change, EntryId, wrong_gallery};
use crate::service::journal::{Record, effective, possible};

/// The gallery as it is known here.
struct Mirror {
    now: Now,
    snapshot: Arc<Snapshot>,
    /// Changes, and their bytes, since the file.
    journal: (usize, u64),
}

/// What both threads of a service know.
#[derive(Clone)]
pub(super) struct Known {
    rules: Arc<Rules>,
    mirror: Arc<Mutex<Mirror>>,
    seen: Arc<RwLock<Arc<Snapshot>>>,
    bytes: Arc<AtomicU64>,
}

/// A change of a journal.
pub(super) fn record_of(written: &Written) -> anyhow::Result<Record> {
    let change: Change = serde_json::from_str(&written.change)
        .with_context(|| format!("change {} of the journal cannot be read", written.place))?;
    if let Some(what) = change.wrong() {
        bail!("change {} of the journal: {what}", written.place);
    }
    Ok(Record { version: possible(written.version)?, change, key: None })
}

/// Fails for a version or a place that nobody reaches.
fn check(now: &Now) -> anyhow::Result<()> {
    possible(now.version)?;
    possible(u64::try_from(now.place).unwrap_or(u64::MAX))?;
    Ok(())
}

pub(super) fn written(place: i64, record: &Record) -> anyhow::Result<Written> {
    let change = serde_json::to_string(&record.change)?;
    Ok(Written { place, version: record.version, change })
}

/// The places of changes that count: those that were not undone.
pub(super) fn effective_places(changes: &[Written]) -> anyhow::Result<Vec<(i64, Record)>> {
    let mut counting: Vec<(i64, Record)> = Vec::new();
    for written in changes {
        let record = record_of(written)?;
        match record.change {
            Change::Undo => drop(counting.pop()),
            Change::Nothing => (),
            _ => counting.push((written.place, record)),
        }
    }
    Ok(counting)
}

/// A gallery from its file, and what it is behind its changes.
pub(super) fn gallery_of(base: &Base) -> anyhow::Result<(Gallery, Vec<Record>)> {
    let content = EntryId(ContentId::of(&base.file)).to_string();
    if content != base.content {
        bail!("the database's file of the gallery is damaged: put a copy of the database back");
    }
    check(&base.now)?;
    let gallery = Gallery::from_bytes(&base.file)?;
    if let Some(what) = wrong_gallery(&gallery) {
        bail!("the database's file of the gallery: {what}");
    }
    let records: anyhow::Result<Vec<Record>> = base.changes.iter().map(record_of).collect();
    Ok((gallery, effective(records?)))
}

pub(super) fn size(changes: &[Written]) -> (usize, u64) {
    (changes.len(), changes.iter().map(|written| written.change.len() as u64).sum())
}

impl Known {
    /// A gallery as it was read.
    pub(super) fn new(rules: Rules, base: Base, gallery: Gallery) -> Self {
        let snapshot = rules.snapshot(gallery, base.now.version, &base.now.id);
        let journal = size(&base.changes);
        Self {
            rules: Arc::new(rules),
            seen: Arc::new(RwLock::new(Arc::clone(&snapshot))),
            bytes: Arc::new(AtomicU64::new(journal.1)),
            mirror: Arc::new(Mutex::new(Mirror { now: base.now, snapshot, journal })),
        }
    }

    /// Changes, and their bytes, since the file.
    pub(super) fn journal(&self) -> (usize, u64) {
        self.mirror().journal
    }

    /// The gallery and its journal, if that is what is known.
    pub(super) fn at(&self, now: &Now) -> Option<(Arc<Snapshot>, (usize, u64))> {
        let mirror = self.mirror();
        (mirror.now == *now).then(|| (Arc::clone(&mirror.snapshot), mirror.journal))
    }

    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the database, and the gallery at that.
    pub(super) fn state(&self) -> (Now, Arc<Snapshot>) {
        let mirror = self.mirror();
        (mirror.now.clone(), Arc::clone(&mirror.snapshot))
    }

    /// Has requests see a state, unless they see a later one.
    pub(super) fn show(&self, now: Now, gallery: Option<Gallery>, journal: (usize, u64)) {
        let mut mirror = self.mirror();
        if now.place < mirror.now.place && now.id == mirror.now.id {
            return;
        }
        self.put(&mut mirror, now, gallery, journal);
    }

    fn put(&self, mirror: &mut Mirror, now: Now, gallery: Option<Gallery>, journal: (usize, u64)) {
        let is_same = now.version == mirror.snapshot.version && now.id == mirror.now.id;
        match gallery {
            Some(gallery) => mirror.snapshot = self.rules.snapshot(gallery, now.version, &now.id),
            None if is_same => (),
            None => {
                let gallery = mirror.snapshot.gallery.clone();
                mirror.snapshot = self.rules.snapshot(gallery, now.version, &now.id);
            }
        }
        (mirror.now, mirror.journal) = (now, journal);
        self.bytes.store(mirror.journal.1, Ordering::Relaxed);
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&mirror.snapshot);
    }

    /// Does what came since a state that was known. `false` where a file has to be read for it.
    pub(super) fn follow(&self, known: &Now, news: &News) -> anyhow::Result<bool> {
        let mut mirror = self.mirror();
        if mirror.now != *known {
            // The other thread was here; whoever asked looks again.
            return Ok(true);
        }
        if news.now == *known {
            return Ok(true);
        }
        if news.now.id != known.id
            || news.now.generation != known.generation
            || news.now.place < known.place
        {
            return Ok(false);
        }
        check(&news.now)?;
        let records: anyhow::Result<Vec<Record>> = news.changes.iter().map(record_of).collect();
        let records = records?;
        if records.iter().any(|record| record.change == Change::Undo) {
            return Ok(false);
        }
        let (mut journal, more) = (mirror.journal, size(&news.changes));
        journal = (journal.0 + more.0, journal.1 + more.1);
        let gallery = if records.is_empty() {
            None
        } else {
            let mut gallery = mirror.snapshot.gallery.clone();
            replay(&mut gallery, &records)?;
            Some(gallery)
        };
        self.put(&mut mirror, news.now.clone(), gallery, journal);
        Ok(true)
    }

    /// Takes a generation as it was read, in the place of whatever was known before that.
    pub(super) fn adopt(&self, known: &Now, base: &Base) -> anyhow::Result<()> {
        let (mut gallery, records) = gallery_of(base)?;
        replay(&mut gallery, &records)?;
        gallery.check_comparable(&self.state().1.gallery)?;
        let mut mirror = self.mirror();
        if mirror.now == *known {
            self.put(&mut mirror, base.now.clone(), Some(gallery), size(&base.changes));
        }
        Ok(())
    }

    /// What requests see, and the bytes of the journal.
    pub(super) fn parts(&self) -> (Arc<RwLock<Arc<Snapshot>>>, Arc<AtomicU64>) {
        (Arc::clone(&self.seen), Arc::clone(&self.bytes))
    }
}
