//! The gallery of several services, in a database: each holds it in memory and does there what others have changed before
//! it answers.
//!
//! Who changes it locks its row, does what came since, adds its own to the journal and lets go. Who is asked looks at the
//! row first: by one query all requests that wait are answered. Where the database does not answer, nobody does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use anyhow::{Context, anyhow, bail};
use models::gallery::{ContentId, Gallery};
use tokio::sync::oneshot;

use super::keeper::{
    FOLD, KEYS, Outcome, Sending, UNDO, Waiting, against, fresh_id, is_alone, is_same, kept,
    replay, those_that_wait, told, told_again,
};
use super::mirror::{Known, effective_places, gallery_of, size, written};
use super::{Asking, Doing, Message, More, Rules, Snapshot, Told};
use crate::postgres::{Changing, Kept, KeptAnswer, Now, Written};
use crate::service::change::{Change, Done, EntryId, wrong_gallery};
use crate::service::journal::{self, Record};
use crate::service::problem::{AGAIN, Answered, Kind, Problem, UNCHANGED};

/// Times that the gallery is looked at again, where it changes while it is looked at.
const LOOKS: usize = 10;

/// Opens the gallery of a name; where there is none, it begins as `first`.
///
/// # Errors
///
/// A database that cannot be reached or holds something else, a gallery of another model.
pub(super) fn open(
    address: &str,
    name: &str,
    first: &Gallery,
    rules: Rules,
    may_change: bool,
) -> anyhow::Result<(Keeper, Watcher)> {
    if let Some(what) = wrong_gallery(first) {
        bail!(
            "the site's gallery: {what}; mend it (`magpie gallery rename`, `describe`) and publish again"
        );
    }
    let mut kept = Kept::new(address, name)?;
    let file = first.to_bytes();
    let content = EntryId(ContentId::of(&file));
    kept.prepare(&fresh_id(content), &file, &content.to_string())?;
    drop(file);
    if may_change {
        kept.check_may_change()?;
    }
    let base = kept.load()?;
    let (mut gallery, records) =
        gallery_of(&base).with_context(|| format!("{name} in the database"))?;
    gallery.check_comparable(first).with_context(|| {
        format!("{name} in the database: its gallery is not of this site's extractor")
    })?;
    replay(&mut gallery, &records)
        .with_context(|| format!("{name} in the database: its journal cannot be done again"))?;
    let known = Known::new(rules, base, gallery);
    let watcher = Watcher { kept: Kept::new(address, name)?, known: known.clone() };
    let keeper = Keeper {
        kept,
        known,
        beside: (address.to_owned(), name.to_owned()),
        folding: Arc::default(),
        fold_from: fold_from(),
    };
    Ok((keeper, watcher))
}

/// From when on the journal is folded; tests do it sooner.
fn fold_from() -> (usize, u64) {
    let sooner = cfg!(debug_assertions).then(|| std::env::var("MAGPIE_FOLD").ok()).flatten();
    sooner.and_then(|count| count.parse().ok()).map_or(FOLD, |count| (count, FOLD.1))
}

const UNCERTAIN: &str = "the change may have been kept: ask for the gallery's version, or send it again with the same \
                         Idempotency-Key";

/// Who looks whether others have changed the gallery.
pub(super) struct Watcher {
    kept: Kept,
    pub(super) known: Known,
}

impl Watcher {
    /// Answers those who wait, all that came by then after one look.
    pub(super) fn run(mut self, asked: &Receiver<oneshot::Sender<Answered<()>>>) {
        while let Ok(first) = asked.recv() {
            let mut waiting = vec![first];
            waiting.extend(asked.try_iter());
            waiting.retain(|answer| !answer.is_closed());
            if waiting.is_empty() {
                continue;
            }
            let looked = catch_unwind(AssertUnwindSafe(|| self.look())).unwrap_or_else(|_panic| {
                Err(Problem::failed(&anyhow!("a look at the gallery broke off")))
            });
            for answer in waiting {
                let _ = answer.send(looked.clone());
            }
        }
    }

    fn look(&mut self) -> Answered<()> {
        for _ in 0..LOOKS {
            let (known, _) = self.known.state();
            let news = self.kept.news(known.generation, known.place);
            let news = news.map_err(|error| Problem::of_database(error, AGAIN))?;
            let failed = |error: anyhow::Error| Problem::failed(&error);
            if !self.known.follow(&known, &news).map_err(failed)? {
                let base = self.kept.load().map_err(|error| Problem::of_database(error, AGAIN))?;
                self.known.adopt(&known, &base).map_err(failed)?;
            }
            let (after, _) = self.known.state();
            // What is known holds for the moment of the question, or for a later one.
            if after.id == news.now.id && after.place >= news.now.place {
                return Ok(());
            }
        }
        Err(Problem::new(Kind::Busy, "the gallery changes all the time; send it again"))
    }
}

/// Who changes the gallery, for one of the services.
pub(super) struct Keeper {
    kept: Kept,
    known: Known,
    /// Where a thread that folds connects to.
    beside: (String, String),
    folding: Arc<AtomicBool>,
    fold_from: (usize, u64),
}

/// A change that holds the gallery's row, and the gallery as it is then.
struct Held<'a> {
    changing: Changing<'a>,
    now: Now,
    snapshot: Arc<Snapshot>,
    journal: (usize, u64),
}

impl Keeper {
    /// Does what is asked for until the end.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let mut held = None;
        while let Some(message) = held.take().or_else(|| messages.recv().ok()) {
            match message {
                Message::End => return,
                // No file is written behind the requests here.
                Message::Folded(_) => (),
                Message::Ask(asking, answer) if is_alone(&asking) => {
                    let _ = answer.send(unbroken(|| self.alone(asking)));
                }
                Message::Ask(asking, answer) => {
                    let batch = those_that_wait((asking, answer), messages, &mut held);
                    for (answer, told) in self.together(batch) {
                        let _ = answer.send(told);
                    }
                }
            }
            self.fold();
        }
    }

    /// Takes the row, and does what others have changed.
    fn hold(&mut self) -> Answered<Held<'_>> {
        let Self { kept, known, .. } = self;
        let lost = |error| Problem::of_database(error, UNCHANGED);
        let failed = |error: anyhow::Error| Problem::failed(&error);
        let mut changing = kept.begin().map_err(lost)?;
        let now = changing.lock().map_err(lost)?;
        for _ in 0..LOOKS {
            let (before, _) = known.state();
            let news = changing.news(before.generation, before.place).map_err(lost)?;
            if !known.follow(&before, &news).map_err(failed)? {
                let base = changing.load(now.clone()).map_err(lost)?;
                known.adopt(&before, &base).map_err(failed)?;
            }
            // Nobody else can have gone on.
            if let Some((snapshot, journal)) = known.at(&now) {
                return Ok(Held { changing, now, snapshot, journal });
            }
        }
        Err(Problem::failed(&anyhow!("the gallery in the database goes back and forth")))
    }

    /// Makes changes on one copy, in their order, and keeps them at once.
    fn together(&mut self, batch: Vec<Waiting>) -> Vec<Outcome> {
        let all = |batch: Vec<Sending>, problem: &Problem| -> Vec<Outcome> {
            batch.into_iter().map(|answer| (answer, Err(problem.clone()))).collect()
        };
        let (askings, answers): (Vec<Asking>, Vec<Sending>) = batch.into_iter().unzip();
        let known = self.known.clone();
        let told = unbroken(|| self.hold().and_then(|held| made(&known, held, askings)));
        match told {
            Ok(told) => answers.into_iter().zip(told).collect(),
            Err(problem) => all(answers, &problem),
        }
    }

    /// A change that takes the place of the whole gallery.
    fn alone(&mut self, asking: Asking) -> Answered<Told> {
        let known = self.known.clone();
        let mut held = self.hold()?;
        let version = held.snapshot.version;
        let Asking { doing, matching, key, more } = asking;
        // What is done within the transaction has its key and its conditions looked at with the change that comes of it.
        let is_within = matches!(doing, Doing::Within(_));
        if !is_within && let Some(told) = before(&mut held, (&key, &matching), &[], version)? {
            return told;
        }
        match doing {
            Doing::Change(Change::Undo) => undone(&known, held, key),
            Doing::Change(_) => Err(Problem::new(Kind::Failed, "a change came alone")),
            Doing::Within(within) => {
                let (change, key) = within(&held.snapshot.gallery, &mut held.changing)?;
                let asking =
                    Asking { doing: Doing::Change(change), key: Some(key), matching, more };
                let told = made(&known, held, vec![asking])?;
                told.into_iter()
                    .next()
                    .unwrap_or_else(|| Err(Problem::new(Kind::Failed, "a change gave no answer")))
            }
            // Later changes are made although this one broke off.
            Doing::Remake(remake) => {
                let gallery = &held.snapshot.gallery;
                let made = catch_unwind(AssertUnwindSafe(|| remake(gallery)));
                let (gallery, more) = made.unwrap_or_else(|_panic| {
                    Err(Problem::failed(&anyhow!("a change of the gallery broke off")))
                })?;
                replaced(&known, held, gallery, more, key)
            }
        }
    }

    /// Folds the journal into a file behind the requests, if it is long.
    fn fold(&self) {
        let journal = self.known.journal();
        let due = journal.0 > self.fold_from.0 || journal.1 > self.fold_from.1;
        if !due || self.folding.swap(true, Ordering::AcqRel) {
            return;
        }
        let ((address, name), folding) = (self.beside.clone(), Arc::clone(&self.folding));
        let fold = move || {
            if let Err(error) = folded(&address, &name) {
                eprintln!("the journal stays: {}", crate::terminal::sentence(&error));
            }
            folding.store(false, Ordering::Release);
        };
        if std::thread::Builder::new().name("fold".to_owned()).spawn(fold).is_err() {
            self.folding.store(false, Ordering::Release);
        }
    }
}

/// What a change gives; one that breaks off is a problem of its own, and later changes are made. The transaction ends
/// with it.
fn unbroken<T>(change: impl FnOnce() -> Answered<T>) -> Answered<T> {
    catch_unwind(AssertUnwindSafe(change)).unwrap_or_else(|_panic| {
        Err(Problem::failed(&anyhow!("a change of the gallery broke off")))
    })
}

/// The answer that a key had, or why a change cannot be made; some keys came in this very write.
fn before(
    held: &mut Held<'_>,
    (key, matching): (&Option<(String, String)>, &Option<Vec<String>>),
    fresh: &[journal::Kept],
    version: u64,
) -> Answered<Option<Answered<Told>>> {
    let id = held.now.id.clone();
    if let Some((key, request)) = key {
        if let Some(kept) = fresh.iter().rev().find(|kept| kept.key == *key) {
            return Ok(Some(told_again(&id, kept, request)));
        }
        let found =
            held.changing.answer(key).map_err(|error| Problem::of_database(error, UNCHANGED))?;
        if let Some(KeptAnswer { key, request: own, version, answer }) = found {
            let answer = serde_json::from_str(&answer)
                .map_err(|error| Problem::failed(&anyhow!("the answer of a key: {error}")))?;
            let kept = journal::Kept { key, request: own, version, answer };
            return Ok(Some(told_again(&id, &kept, request)));
        }
    }
    Ok(against(matching.as_deref(), &id, version))
}

/// Answers as the database keeps them.
fn answers_of(fresh: &[journal::Kept]) -> Vec<KeptAnswer> {
    let answer = |kept: &journal::Kept| KeptAnswer {
        key: kept.key.clone(),
        request: kept.request.clone(),
        version: kept.version,
        answer: kept.answer.to_string(),
    };
    fresh.iter().map(answer).collect()
}

/// Makes changes on a copy of the gallery and keeps them.
fn made(known: &Known, mut held: Held<'_>, askings: Vec<Asking>) -> Answered<Vec<Answered<Told>>> {
    let (mut gallery, mut version) = (held.snapshot.gallery.clone(), held.snapshot.version);
    let (mut records, mut fresh): (Vec<Record>, Vec<journal::Kept>) = (Vec::new(), Vec::new());
    let mut outcomes = Vec::new();
    let id = held.now.id.clone();
    for asking in askings {
        if let Some(told) = before(&mut held, (&asking.key, &asking.matching), &fresh, version)? {
            outcomes.push(told);
            continue;
        }
        let Doing::Change(change) = asking.doing else { continue };
        match change.apply(&mut gallery) {
            Ok(done) => {
                version += u64::from(done.changed);
                let told = told(&gallery, &id, version, done, asking.more);
                fresh.extend(kept(&told, version, asking.key));
                if done.changed {
                    records.push(Record { version, change, key: None });
                }
                outcomes.push(Ok(told));
            }
            Err(problem) => {
                // It may be half done.
                gallery = held.snapshot.gallery.clone();
                let again = replay(&mut gallery, &records);
                outcomes
                    .push(Err(again.map_or_else(|error| Problem::failed(&error), |()| problem)));
            }
        }
    }
    if records.is_empty() && fresh.is_empty() {
        return Ok(outcomes);
    }
    let failed = |error: anyhow::Error| Problem::failed(&error);
    let first = held.now.place + 1;
    let changes: anyhow::Result<Vec<Written>> =
        (first..).zip(&records).map(|(place, record)| written(place, record)).collect();
    let changes = changes.map_err(failed)?;
    let place = held.now.place + changes.len() as i64;
    let now = Now { place, version, ..held.now.clone() };
    let lost = |error| Problem::of_database(error, UNCHANGED);
    held.changing.append(&now, &changes).map_err(lost)?;
    held.changing.keep(&answers_of(&fresh), KEYS as i64).map_err(lost)?;
    held.changing.commit().map_err(|error| Problem::of_database(error, UNCERTAIN))?;
    let more = size(&changes);
    let journal = (held.journal.0 + more.0, held.journal.1 + more.1);
    known.show(now, (!records.is_empty()).then_some(gallery), journal);
    Ok(outcomes)
}

/// Puts another gallery in the place of this one.
fn replaced(
    known: &Known,
    mut held: Held<'_>,
    gallery: Gallery,
    more: More,
    key: Option<(String, String)>,
) -> Answered<Told> {
    let lost = |error| Problem::of_database(error, UNCHANGED);
    if let Some(what) = wrong_gallery(&gallery) {
        return Err(Problem::new(Kind::Gallery, what));
    }
    let id = held.now.id.clone();
    if is_same(&gallery, &held.snapshot.gallery) {
        let version = held.snapshot.version;
        let told = told(&gallery, &id, version, Done::default(), more);
        if let Some(kept) = kept(&told, version, key) {
            held.changing.keep(&answers_of(&[kept]), KEYS as i64).map_err(lost)?;
            held.changing.commit().map_err(|error| Problem::of_database(error, UNCERTAIN))?;
        }
        return Ok(told);
    }
    let mut file = Vec::new();
    gallery.write_to(&mut file).map_err(|error| Problem::failed(&error.into()))?;
    let content = EntryId(ContentId::of(&file)).to_string();
    let generation = held.changing.write(&file, &content).map_err(lost)?;
    let now = Now {
        id,
        generation,
        previous: Some(held.now.generation),
        place: held.now.place + 1,
        version: held.snapshot.version + 1,
    };
    let told = told(&gallery, &now.id, now.version, Done::CHANGED, more);
    held.changing.begin_generation(&now, &[]).map_err(lost)?;
    let answers: Vec<journal::Kept> = kept(&told, now.version, key).into_iter().collect();
    held.changing.keep(&answers_of(&answers), KEYS as i64).map_err(lost)?;
    held.changing.commit().map_err(|error| Problem::of_database(error, UNCERTAIN))?;
    known.show(now, Some(gallery), (0, 0));
    Ok(told)
}

/// Takes the last change back.
fn undone(known: &Known, mut held: Held<'_>, key: Option<(String, String)>) -> Answered<Told> {
    let lost = |error| Problem::of_database(error, UNCHANGED);
    let failed = |error: anyhow::Error| Problem::failed(&error);
    let (place, version) = (held.now.place + 1, held.snapshot.version + 1);
    let base = held.changing.load(held.now.clone()).map_err(lost)?;
    let (mut gallery, mut records) = gallery_of(&base).map_err(failed)?;
    let (now, journal);
    if records.pop().is_some() {
        now = Now { place, version, ..held.now.clone() };
        let undo = Record { version, change: Change::Undo, key: None };
        let change = written(place, &undo).map_err(failed)?;
        let (count, bytes) = size(&base.changes);
        journal = (count + 1, bytes + change.change.len() as u64);
        held.changing.append(&now, &[change]).map_err(lost)?;
    } else {
        let Some(generation) = held.now.previous else {
            let detail = "there is no change that can be undone";
            return Err(Problem::new(Kind::Conflict, detail));
        };
        now = Now { generation, previous: None, place, version, ..held.now.clone() };
        // They can be undone as before.
        let base = held.changing.load(now.clone()).map_err(lost)?;
        (gallery, records) = gallery_of(&base).map_err(failed)?;
        journal = size(&base.changes);
        held.changing.begin_generation(&now, &[]).map_err(lost)?;
    }
    replay(&mut gallery, &records).map_err(failed)?;
    let told = told(&gallery, &now.id, version, Done::CHANGED, More::default());
    let answers: Vec<journal::Kept> = kept(&told, version, key).into_iter().collect();
    held.changing.keep(&answers_of(&answers), KEYS as i64).map_err(lost)?;
    held.changing.commit().map_err(|error| Problem::of_database(error, UNCERTAIN))?;
    known.show(now, Some(gallery), journal);
    Ok(told)
}

/// Folds the journal into a file; changes are held up only while the new one takes its place.
fn folded(address: &str, name: &str) -> anyhow::Result<()> {
    let mut kept = Kept::new(address, name)?;
    let base = kept.load()?;
    let counting = effective_places(&base.changes)?;
    let folding = counting.len().saturating_sub(UNDO);
    let (mut gallery, _) = gallery_of(&base)?;
    for (_, record) in &counting[..folding] {
        record.change.apply(&mut gallery).map_err(|problem| anyhow!(problem.detail))?;
    }
    let mut file = Vec::new();
    gallery.write_to(&mut file)?;
    drop(gallery);
    let content = EntryId(ContentId::of(&file)).to_string();
    let mut changing = kept.begin()?;
    if !changing.may_fold()? {
        return Ok(());
    }
    let generation = changing.write(&file, &content)?;
    let now = changing.lock()?;
    let news = changing.news(base.now.generation, base.now.place)?;
    if now.generation != base.now.generation {
        return Ok(());
    }
    let all = [base.changes, news.changes].concat();
    let counting_now = effective_places(&all)?;
    let places = |changes: &[(i64, Record)]| -> Vec<i64> {
        changes.iter().take(folding).map(|(place, _)| *place).collect()
    };
    if places(&counting_now) != places(&counting) {
        // What was folded was undone meanwhile.
        return Ok(());
    }
    let rest: Vec<i64> = counting_now.iter().skip(folding).map(|(place, _)| *place).collect();
    let rest: Vec<Written> =
        all.into_iter().filter(|written| rest.binary_search(&written.place).is_ok()).collect();
    let now = Now { generation, previous: None, place: now.place + 1, ..now };
    changing.begin_generation(&now, &rest)?;
    Ok(changing.commit()?)
}
