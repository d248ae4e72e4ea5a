//! Corrections in a database, one queue of all services on a gallery. What becomes an entry leaves it in the transaction that
//! changes the gallery.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use anyhow::{Context, bail};
use models::gallery::{Gallery, Metadata};

use super::rates::OF_ALL;
use super::{
    Chosen, Correction, DECIDED, Decision, Found, MOST, Went, choose, full, has, missing, too_many,
};
use crate::postgres::{self, Changing, Decided, Kept, Waiting, wrong_texts};
use crate::service::change::{Change, EntryId};
use crate::service::problem::{AGAIN, Answered, Problem, UNCHANGED};

const UNCERTAIN: &str = "it may have been kept: send it again, nothing is kept twice";

/// The corrections of a gallery in a database, by a connection of their own.
pub(super) struct Database {
    kept: Mutex<Kept>,
    pub(super) dim: usize,
    /// How many waited when they were counted last.
    waiting: AtomicUsize,
}

/// A correction as a row has it; whoever writes into the table is nobody's visitor.
fn correction_of(row: &Waiting, dim: usize) -> anyhow::Result<Correction> {
    let mut correction: Correction = serde_json::from_str(&row.correction)
        .with_context(|| format!("correction {} in the database cannot be read", row.place))?;
    let Correction { id, photo, .. } = &correction;
    let same = Correction::new(photo.clone(), None, 0).id;
    let (length, one) = (photo.embeddings.0.len(), 4 * dim.max(1));
    if same != *id || id.to_string() != row.id {
        bail!("correction {} in the database is under another id than its own", row.place);
    }
    if length == 0 || !length.is_multiple_of(one) || length / one > PARTS {
        bail!("correction {} in the database has no embedding of this gallery's", row.place);
    }
    let change = Change::Add { photos: vec![photo.clone()] };
    let said = correction.said.as_ref().map_or("", |said| said.class.as_str());
    let what = change.wrong().or_else(|| wrong_texts(said, &Metadata::default()));
    if let Some(what) = what {
        bail!("correction {} in the database: {what}", row.place);
    }
    correction.stay = u64::try_from(row.place).unwrap_or_default();
    Ok(correction)
}

/// Parts of an image that become entries, at most.
const PARTS: usize = 8;

fn failed(error: &anyhow::Error) -> Problem {
    Problem::failed(error)
}

fn decision_of(row: &Decided) -> Answered<Decision> {
    let went = row.went.as_deref().map(serde_json::from_str::<Went>).transpose();
    let went = went.context("a decision in the database cannot be read");
    Ok(Decision { accepted: row.accepted, went: went.map_err(|error| failed(&error))? })
}

/// Those of some ids that wait, kept from other services until the transaction ends.
fn chosen(
    dim: usize,
    ids: &[EntryId],
    accepted: bool,
    changing: &mut Changing<'_>,
    is_there: impl Fn(&str, EntryId) -> bool,
) -> Answered<Chosen> {
    let lost = |error| Problem::of_database(error, UNCHANGED);
    changing.lock_corrections().map_err(lost)?;
    let listed: Vec<String> = ids.iter().map(EntryId::to_string).collect();
    let postgres::Chosen { waiting, decided } = changing.chosen(&listed).map_err(lost)?;
    let waiting: HashMap<&str, &Waiting> =
        waiting.iter().map(|row| (row.id.as_str(), row)).collect();
    let decided: HashMap<&str, &Decided> =
        decided.iter().map(|row| (row.id.as_str(), row)).collect();
    let find = |id: EntryId| -> Answered<Found> {
        let id = id.to_string();
        let waits = waiting.get(id.as_str()).map(|row| correction_of(row, dim)).transpose();
        let waits = waits.map_err(|error| failed(&error))?;
        let decision = decided.get(id.as_str()).map(|row| decision_of(row)).transpose()?;
        Ok((waits.map(|correction| (correction.stay, correction)), decision))
    };
    choose(ids, accepted, find, is_there)
}

/// Takes corrections out of what waits; the change that adds them to the gallery, and the key of the decision.
///
/// # Errors
///
/// As [`choose`], [`Kind::Database`](crate::service::problem::Kind::Database)
pub(super) fn accept(
    dim: usize,
    ids: &[EntryId],
    to: Option<&str>,
    gallery: &Gallery,
    changing: &mut Changing<'_>,
) -> Answered<(Change, (String, String))> {
    let all = chosen(dim, ids, true, changing, |class, id| has(gallery, class, id))?;
    let (went, change, key) = (all.went(to), all.change(to), all.key(ids, to));
    let decided: Answered<Vec<Decided>> = (all.waiting.iter().zip(&went))
        .map(|(correction, went)| {
            let went = serde_json::to_string(went).map_err(|error| failed(&error.into()))?;
            Ok(Decided { id: correction.id.to_string(), accepted: true, went: Some(went) })
        })
        .collect();
    let lost = |error| Problem::of_database(error, UNCHANGED);
    changing.decide(&decided?, DECIDED as i64).map_err(lost)?;
    Ok((change, key))
}

impl Database {
    /// The corrections of a gallery whose tables are there.
    ///
    /// # Errors
    ///
    /// A database that cannot be reached.
    pub(super) fn open(address: &str, name: &str, dim: usize) -> anyhow::Result<Self> {
        let mut kept = Kept::new(address, name)?;
        let waiting = AtomicUsize::new(count(kept.corrections_waiting()?));
        Ok(Self { kept: Mutex::new(kept), dim, waiting })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one of all that may come, over all services.
    pub(super) fn admit(&self) -> Answered<()> {
        let left = self.kept().admit(OF_ALL.at_once, OF_ALL.a_minute);
        match left.map_err(|error| Problem::of_database(error, AGAIN))? {
            None => Ok(()),
            Some(minutes) => Err(too_many(Duration::from_secs_f64(60.0 * minutes))),
        }
    }

    pub(super) fn keep(
        &self,
        correction: &Correction,
        is_there: impl Fn(&str, EntryId) -> bool,
    ) -> Answered<bool> {
        let lost = |error| Problem::of_database(error, UNCHANGED);
        let text = serde_json::to_string(correction).map_err(|error| failed(&error.into()))?;
        let id = correction.id.to_string();
        let mut kept = self.kept();
        let mut changing = kept.begin().map_err(lost)?;
        changing.lock_corrections().map_err(lost)?;
        let known = changing.chosen(std::slice::from_ref(&id)).map_err(lost)?;
        if !known.waiting.is_empty() {
            return Ok(false);
        }
        for decided in &known.decided {
            if !decision_of(decided)?.is_gone(&is_there) {
                return Ok(false);
            }
        }
        let (waiting, bytes) = changing.waiting().map_err(lost)?;
        if count(waiting) >= MOST.0 || u64::try_from(bytes).unwrap_or(0) >= MOST.1 {
            return Err(full());
        }
        changing.come(&id, &text).map_err(lost)?;
        changing.commit().map_err(|error| Problem::of_database(error, UNCERTAIN))?;
        self.waiting.store(count(waiting) + 1, Ordering::Relaxed);
        Ok(true)
    }

    pub(super) fn known(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many wait; what was known last while somebody else asks the database. Who only counts waits for nobody: a
    /// database that hangs would hold a thread for each.
    pub(super) fn len(&self) -> usize {
        let mut kept = match self.kept.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(kept)) => kept.into_inner(),
            Err(TryLockError::WouldBlock) => return self.known(),
        };
        match kept.corrections_waiting() {
            Ok(waiting) => self.waiting.store(count(waiting), Ordering::Relaxed),
            Err(error) => eprintln!("the database: {error}"),
        }
        self.known()
    }

    pub(super) fn page(&self, offset: usize, limit: usize) -> Answered<(usize, Vec<Correction>)> {
        let found = self.kept().corrections(offset as i64, limit as i64);
        let (total, rows) = found.map_err(|error| Problem::of_database(error, AGAIN))?;
        self.waiting.store(count(total), Ordering::Relaxed);
        let page: anyhow::Result<Vec<Correction>> =
            rows.iter().map(|row| correction_of(row, self.dim)).collect();
        Ok((count(total), page.map_err(|error| failed(&error))?))
    }

    pub(super) fn thumbnail(&self, id: EntryId) -> Answered<Vec<u8>> {
        let found = self.kept().correction(&id.to_string());
        let row = found.map_err(|error| Problem::of_database(error, AGAIN))?;
        let row = row.ok_or_else(|| missing(id))?;
        let correction = correction_of(&row, self.dim).map_err(|error| failed(&error))?;
        Ok(correction.photo.thumbnail.0)
    }

    pub(super) fn reject(&self, ids: &[EntryId]) -> Answered<usize> {
        let lost = |error| Problem::of_database(error, UNCHANGED);
        let mut kept = self.kept();
        let mut changing = kept.begin().map_err(lost)?;
        let all = chosen(self.dim, ids, false, &mut changing, |_, _| true)?;
        let decided = |correction: &Correction| {
            let id = correction.id.to_string();
            Decided { id, accepted: false, went: None }
        };
        let decided: Vec<Decided> = all.waiting.iter().map(decided).collect();
        changing.decide(&decided, DECIDED as i64).map_err(lost)?;
        changing.commit().map_err(|error| Problem::of_database(error, UNCERTAIN))?;
        Ok(decided.len())
    }
}

fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::change::tests::photo;

    #[test]
    fn who_counts_waits_for_nobody_who_asks_the_database() {
        let kept = Kept::new("postgres://127.0.0.1:1/x", "shop").unwrap();
        let waiting = AtomicUsize::new(7);
        let database = Database { kept: Mutex::new(kept), dim: 4, waiting };
        let (told, heard) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            // Goes before the thread is waited for, so that a thread that waits fails the test and does not hang it.
            let _asking = database.kept();
            scope.spawn(|| told.send(database.len()));
            assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(7));
        });
    }

    #[test]
    fn a_row_that_no_visitor_sent_is_refused() {
        let row = |change: &dyn Fn(&mut Correction)| {
            let mut photo = photo("Mug", 2);
            photo.thumbnail.0.clear();
            let mut correction = Correction::new(photo, None, 7);
            change(&mut correction);
            let (id, correction) =
                (correction.id.to_string(), serde_json::to_string(&correction).unwrap());
            correction_of(&Waiting { place: 3, id, correction }, 4)
        };
        assert_eq!(row(&|_| ()).unwrap().stay, 3);
        let renewed = |change: &dyn Fn(&mut Correction)| {
            row(&|correction| {
                change(correction);
                *correction = Correction::new(correction.photo.clone(), None, 7);
            })
        };
        for (found, told) in [
            (row(&|correction| correction.photo.class.push('x')), "under another id"),
            (renewed(&|one| one.photo.embeddings.0.truncate(12)), "no embedding"),
            (renewed(&|one| one.photo.embeddings.0.clear()), "no embedding"),
            (renewed(&|one| one.photo.embeddings.0 = vec![0; 16 * 9]), "no embedding"),
            (renewed(&|one| one.photo.class = "a\u{1b}[2J".to_owned()), "steers"),
            (renewed(&|one| one.photo.thumbnail.0 = b"<svg>".to_vec()), "no picture"),
        ] {
            let error = found.unwrap_err().to_string();
            assert!(error.contains(told), "{told}: {error}");
        }
    }
}
